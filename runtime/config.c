#include "runtime/config.h"

#include "runtime/cleanup.h"
#include "runtime/config_private.h"

#include <assert.h>
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    FILE_MAX_BYTES = 1 << 20,
    VALUE_FILE_MAX_BYTES = 64 << 10,
    FAULT_MAX = 512,
    NAME_MAX_BYTES = 128, /* of an environment variable of ours */
};

/* ---- faults --------------------------------------------------------------------------------- */

void cm_config_fault(cm_config_loader_t *self, const char *where, const char *format, ...)
{
    char message[FAULT_MAX], line[2 * FAULT_MAX];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);
    snprintf(line, sizeof line, "%s: %s", where, message);
    for (char *c = line; *c; c++) /* one fault, one line, whatever the file holds */
        if (iscntrl((unsigned char)*c))
            *c = '?';
    if (self->faults)
        cm_buffer_printf(self->faults, "%s\n", line);
    if (self->fault_count++ == 0)
        cm_error_set(self->err, CM_MISCONFIGURED, "config", "%s", line);
}

void cm_config_unknown(cm_config_loader_t *self, const char *where, const char *kind,
                       const cm_config_guess_t *guess)
{
    int shown = guess->word.len < 64 ? (int)guess->word.len : 64;
    if (guess->best.ptr)
        cm_config_fault(self, where, "there is no %s %.*s; did you mean %.*s?", kind, shown,
                        guess->word.ptr, CM_STR_ARG(guess->best));
    else
        cm_config_fault(self, where, "there is no %s %.*s", kind, shown, guess->word.ptr);
}

void cm_config_set(cm_config_loader_t *self, const cm_config_key_t *key, cm_str_t text,
                   const char *where, const char *origin)
{
    cm_config_t *config = self->config;
    if (cm_config_parse(key, text, config->values, config->arena)) {
        config->origins[key - config->table.keys] =
            cm_arena_copy(config->arena, cm_str(origin)).ptr;
        return;
    }
    if (text.len && memchr(text.ptr, '\0', text.len)) {
        cm_config_fault(self, where, "%s holds a NUL byte", key->path);
        return;
    }
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t shown = {0}, expected = {0};
    if (key->secret)
        cm_buffer_printf(&shown, "***");
    else
        cm_config_redact(text, &shown);
    cm_config_expectation(key, &expected);
    cm_config_fault(self, where, "%s is \"%.64s\"; it must be %s", key->path,
                    cm_buffer_text(&shown), cm_buffer_text(&expected));
}

/* ---- keys ----------------------------------------------------------------------------------- */

cm_str_t cm_config_section(const cm_config_key_t *key)
{
    return (cm_str_t){key->path, strcspn(key->path, ".")};
}

const cm_config_key_t *cm_config_find(const cm_config_table_t *table, cm_str_t path)
{
    for (size_t i = 0; i < table->count; i++)
        if (cm_str_is(path, table->keys[i].path))
            return &table->keys[i];
    return NULL;
}

/* "writer.max-rows" is CM_WRITER_MAX_ROWS. */
static const char *variable_name(const cm_config_key_t *key, char name[NAME_MAX_BYTES])
{
    int len = snprintf(name, NAME_MAX_BYTES, "CM_%s", key->path);
    assert(len < NAME_MAX_BYTES);
    for (char *c = name; *c; c++)
        *c = *c == '.' || *c == '-' ? '_' : (char)toupper((unsigned char)*c);
    return name;
}

static const cm_config_key_t *find_variable(const cm_config_table_t *table, cm_str_t variable)
{
    char name[NAME_MAX_BYTES];
    for (size_t i = 0; i < table->count; i++)
        if (cm_str_is(variable, variable_name(&table->keys[i], name)))
            return &table->keys[i];
    return NULL;
}

/* ---- sources -------------------------------------------------------------------------------- */

static void apply_defaults(cm_config_t *config)
{
    for (size_t i = 0; i < config->table.count; i++) {
        const cm_config_key_t *key = &config->table.keys[i];
        config->origins[i] = "default";
        if (key->fallback) {
            bool fits = cm_config_parse(key, cm_str(key->fallback), config->values, config->arena);
            assert(fits);
            (void)fits;
        } else if (key->type == CM_CONFIG_TEXT) {
            *(const char **)((char *)config->values + key->offset) = "";
        }
    }
}

/* Read a whole file; false with a fault naming `where` when it cannot be read or is too long. */
static bool read_file(cm_config_loader_t *loader, const char *where, const char *path, size_t max,
                      cm_buffer_t *out)
{
    FILE *file = fopen(path, "re");
    if (!file) {
        cm_config_fault(loader, where, "cannot open %s: %s", path, strerror(errno));
        return false;
    }
    cm_buffer_reserve(out, max + 1);
    out->len = fread(out->data, 1, max + 1, file);
    int failed = ferror(file) ? errno : 0;
    fclose(file);
    if (failed)
        cm_config_fault(loader, where, "cannot read %s: %s", path, strerror(failed));
    else if (out->len > max)
        cm_config_fault(loader, where, "%s is longer than %zu KiB", path, max >> 10);
    return !failed && out->len <= max;
}

static void apply_file(cm_config_loader_t *loader, const char *path)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    if (read_file(loader, "configuration", path, FILE_MAX_BYTES, &text))
        cm_config_apply_yaml(loader, path, text.data, text.len);
}

static bool is_set(const char *const *environ_, cm_str_t variable)
{
    for (; *environ_; environ_++)
        if (strncmp(*environ_, variable.ptr, variable.len) == 0 && (*environ_)[variable.len] == '=')
            return true;
    return false;
}

static void apply_value_file(cm_config_loader_t *loader, const cm_config_key_t *key,
                             const char *variable, const char *path)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    if (!read_file(loader, variable, path, VALUE_FILE_MAX_BYTES, &text))
        return;
    cm_str_t value = {text.data, text.len};
    if (value.len > 0 && value.ptr[value.len - 1] == '\n') /* editors add one */
        value.len--;
    cm_config_set(loader, key, value, variable, variable);
}

static void unknown_variable(cm_config_loader_t *loader, cm_str_t variable)
{
    const cm_config_table_t *table = &loader->config->table;
    cm_config_guess_t guess = {.word = variable};
    char name[NAME_MAX_BYTES];
    for (size_t i = 0; i < table->count; i++) {
        variable_name(&table->keys[i], name);
        cm_arena_t *arena = loader->config->arena; /* the guess borrows what it is offered */
        cm_config_guess_offer(&guess, cm_arena_copy(arena, cm_str(name)));
        cm_config_guess_offer(&guess, cm_arena_printf(arena, "%s_FILE", name));
    }
    cm_config_unknown(loader, "environment", "variable", &guess);
}

static bool is_reserved(cm_str_t variable)
{
    return cm_str_is(variable, "CM_CRASH") || cm_str_is(variable, "CM_CONFIG") ||
           strncmp(variable.ptr, "CM_TEST_", strlen("CM_TEST_")) == 0;
}

static void apply_variable(cm_config_loader_t *loader, const char *const *environ_,
                           const char *entry)
{
    const cm_config_table_t *table = &loader->config->table;
    const char *value = strchr(entry, '=');
    cm_str_t variable = {entry, value ? (size_t)(value - entry) : 0};
    if (strncmp(entry, "CM_", 3) != 0 || !value || is_reserved(variable))
        return;
    const char *name = cm_arena_copy(loader->config->arena, variable).ptr;
    const cm_config_key_t *key = find_variable(table, variable);
    if (key) {
        cm_config_set(loader, key, cm_str(value + 1), name, name);
        return;
    }
    size_t suffix = strlen("_FILE");
    cm_str_t base = {entry, variable.len > suffix ? variable.len - suffix : 0};
    if (strcmp(name + base.len, "_FILE") == 0)
        key = find_variable(table, base);
    if (!key)
        unknown_variable(loader, variable);
    else if (is_set(environ_, base))
        cm_config_fault(loader, name, "%.*s is set as well; set one of the two", CM_STR_ARG(base));
    else
        apply_value_file(loader, key, name, value + 1);
}

static void apply_alias(cm_config_loader_t *loader, const cm_config_alias_t *alias,
                        const char *const *environ_)
{
    const cm_config_key_t *key = cm_config_find(&loader->config->table, cm_str(alias->path));
    size_t len = strlen(alias->variable);
    assert(key);
    for (; environ_ && *environ_; environ_++)
        if (strncmp(*environ_, alias->variable, len) == 0 && (*environ_)[len] == '=' &&
            (*environ_)[len + 1])
            cm_config_set(loader, key, cm_str(*environ_ + len + 1), alias->variable,
                          alias->variable);
}

static void apply_flag(cm_config_loader_t *loader, const char *flag)
{
    const cm_config_table_t *table = &loader->config->table;
    const char *value = strchr(flag, '=');
    cm_config_guess_t guess = {.word = {flag, value ? (size_t)(value - flag) : strlen(flag)}};
    const cm_config_key_t *key = cm_config_find(table, guess.word);
    if (!key) {
        for (size_t i = 0; i < table->count; i++)
            cm_config_guess_offer(&guess, cm_str(table->keys[i].path));
        cm_config_unknown(loader, "flag", "key", &guess);
    } else if (!value)
        cm_config_fault(loader, "flag", "%s has no value; write %s=VALUE", key->path, key->path);
    else
        cm_config_set(loader, key, cm_str(value + 1), "flag", "flag");
}

/* ---- the object ----------------------------------------------------------------------------- */

cm_config_t *cm_config_new(const cm_config_table_t *table)
{
    cm_config_t *self = calloc(1, sizeof *self);
    if (!self || !(self->values = calloc(1, table->target_size + 1)))
        abort();
    self->table = *table;
    self->arena = cm_arena_new(4096);
    self->origins = cm_arena_alloc(self->arena, table->count * sizeof *self->origins);
    apply_defaults(self);
    return self;
}

cm_status_t cm_config_load(cm_config_t **ret_config, const cm_config_table_t *table,
                           const cm_config_sources_t *sources, cm_buffer_t *ret_faults,
                           cm_error_t *err)
{
    cm_config_t *config = cm_config_new(table);
    cm_config_loader_t loader = {config, ret_faults, err, 0};
    if (sources->file)
        apply_file(&loader, sources->file);
    for (size_t i = 0; i < sources->alias_count; i++)
        apply_alias(&loader, &sources->aliases[i], sources->environ_);
    for (const char *const *entry = sources->environ_; entry && *entry; entry++)
        apply_variable(&loader, sources->environ_, *entry);
    for (size_t i = 0; i < sources->flag_count; i++)
        apply_flag(&loader, sources->flags[i]);
    if (loader.fault_count > 0) {
        cm_config_destroy(&config);
        return CM_MISCONFIGURED;
    }
    *ret_config = config;
    return CM_OK;
}

void cm_config_destroy(cm_config_t **self_p)
{
    cm_config_t *self = *self_p;
    if (!self)
        return;
    cm_arena_destroy(&self->arena);
    free(self->values);
    free(self);
    *self_p = NULL;
}

const void *cm_config_values(const cm_config_t *self)
{
    return self->values;
}

const char *cm_config_origin(const cm_config_t *self, const char *path)
{
    const cm_config_key_t *key = cm_config_find(&self->table, cm_str(path));
    assert(key);
    return self->origins[key - self->table.keys];
}
