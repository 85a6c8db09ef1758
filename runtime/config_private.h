/* config_private - what the parts of config share.
 *
 * config.c       sources, in rising order of precedence; the loaded object
 * config_file.c  one YAML document to keys
 * config_text.c  one text to a typed value and back; suggestions; redaction
 */
#ifndef CM_RUNTIME_CONFIG_PRIVATE_H
#define CM_RUNTIME_CONFIG_PRIVATE_H
#include "runtime/config.h"
#include "runtime/str.h"

struct cm_config {
    cm_config_table_t table;
    void *values;         /* table.target_size bytes */
    const char **origins; /* one a key, in the arena */
    cm_arena_t *arena;
};

/* One loading under way. */
typedef struct {
    cm_config_t *config;
    cm_buffer_t *faults; /* may be NULL */
    cm_error_t *err;     /* may be NULL */
    size_t fault_count;
} cm_config_loader_t;

/* All defaults. Destroy with cm_config_destroy(). */
cm_config_t *cm_config_new(const cm_config_table_t *table);

/* Note a fault: "where: message". `where` is a file with line, a variable or "flag". */
void cm_config_fault(cm_config_loader_t *self, const char *where, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The part of a key's path before the dot. */
cm_str_t cm_config_section(const cm_config_key_t *key);

/* The key of a path, or NULL. */
const cm_config_key_t *cm_config_find(const cm_config_table_t *table, cm_str_t path);

/* Set key from text. A value that does not fit is a fault. origin: see cm_config_origin(). */
void cm_config_set(cm_config_loader_t *self, const cm_config_key_t *key, cm_str_t text,
                   const char *where, const char *origin);

/* config_file.c: apply a YAML document. name: the path, for messages. */
void cm_config_apply_yaml(cm_config_loader_t *self, const char *name, const char *bytes,
                          size_t len);

/* config_text.c: write the value of text into its member of values; texts go to the arena.
 * False when text does not fit key: then cm_config_expectation() tells what would. */
bool cm_config_parse(const cm_config_key_t *key, cm_str_t text, void *values, cm_arena_t *arena);
void cm_config_expectation(const cm_config_key_t *key, cm_buffer_t *out);
/* Append text without passwords inside URIs and connection strings. */
void cm_config_redact(cm_str_t text, cm_buffer_t *out);

/* Which of the offered words was meant? Offer each, then ask: the nearest within two edits.
 * Initialise with .word alone. */
typedef struct {
    cm_str_t word, best; /* best: borrowed from who offered it; absent when nothing is near */
    size_t distance;
} cm_config_guess_t;
void cm_config_guess_offer(cm_config_guess_t *self, cm_str_t candidate);
/* Note the fault that word is no such thing ("key", "section"), with the guess when there is one.
 */
void cm_config_unknown(cm_config_loader_t *self, const char *where, const char *kind,
                       const cm_config_guess_t *guess);
#endif
