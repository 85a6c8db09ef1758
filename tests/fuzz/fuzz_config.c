/* fuzz_config - no YAML harms the loader; faults are one a line; what was taken reads back. */
#include "runtime/cleanup.h"
#include "runtime/config_private.h"

#include <stdlib.h>
#include <string.h>

typedef struct {
    const char *uri, *name;
    int64_t shards;
    bool drain;
    int format;
    cm_config_list_t delays;
} values_t;

static const cm_config_key_t keys[] = {
    {"a.uri", CM_CONFIG_TEXT, offsetof(values_t, uri), NULL, 0, 0, NULL, false, "."},
    {"a.name", CM_CONFIG_TEXT, offsetof(values_t, name), "n", 1, 8, NULL, true, "."},
    {"b.shards", CM_CONFIG_INT, offsetof(values_t, shards), "4", 1, 64, NULL, false, "."},
    {"b.drain", CM_CONFIG_BOOL, offsetof(values_t, drain), "yes", 0, 0, NULL, false, "."},
    {"b.format", CM_CONFIG_CHOICE, offsetof(values_t, format), "x", 0, 0, "x|yy", false, "."},
    {"b.delays", CM_CONFIG_INT_LIST, offsetof(values_t, delays), "5", 1, 9, NULL, false, "."},
};
static const cm_config_table_t table = {keys, CM_LENGTH(keys), sizeof(values_t)};

static void check_faults(const cm_config_loader_t *loader)
{
    size_t lines = 0;
    for (size_t i = 0; i < loader->faults->len; i++)
        lines += loader->faults->data[i] == '\n';
    if (lines != loader->fault_count)
        abort();
}

/* The text of each value, where it hides nothing, parses to the same text again. */
static void check_values(cm_config_t *config)
{
    for (size_t i = 0; i < CM_LENGTH(keys); i++) {
        CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0}, again = {0};
        cm_config_value_text(config, &keys[i], &text);
        if (keys[i].type == CM_CONFIG_TEXT)
            continue;
        cm_str_t value = {cm_buffer_text(&text), text.len};
        if (!cm_config_parse(&keys[i], value, config->values, config->arena))
            abort();
        cm_config_value_text(config, &keys[i], &again);
        if (strcmp(cm_buffer_text(&again), cm_buffer_text(&text)) != 0)
            abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t faults = {0};
    CM_CLEANUP(cm_config_destroy) cm_config_t *config = cm_config_new(&table);
    cm_error_t err;
    cm_config_loader_t loader = {config, &faults, &err, 0};
    cm_config_apply_yaml(&loader, "fuzz", (const char *)data, size);
    check_faults(&loader);
    check_values(config);
    return 0;
}
