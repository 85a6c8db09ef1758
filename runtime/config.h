/* config - a table of keys, filled from defaults, one YAML file, the environment and flags.
 *
 * Flag over environment over file over default. The table is the single truth: `config show`, the
 * man page and the check for unknown keys come from it. Keys are "section.name"; the environment
 * variable is CM_ + the path in capitals joined by _ ; with _FILE appended its value is read from
 * that file. Errors name key, line (or variable), what was found and what would be right. Built on
 * libyaml's document tree, which knows each node's line. Rule: DESIGN section 10.
 */
#ifndef CM_RUNTIME_CONFIG_H
#define CM_RUNTIME_CONFIG_H
#include "runtime/buffer.h"
#include "runtime/status.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef enum {
    CM_CONFIG_TEXT,    /* const char *  */
    CM_CONFIG_INT,     /* int64_t, min..max */
    CM_CONFIG_BOOL,    /* bool: true/false/yes/no/on/off */
    CM_CONFIG_CHOICE,  /* int: index into choices "a|b|c" */
    CM_CONFIG_INT_LIST /* cm_config_list_t: YAML sequence, or "5,15,45" */
} cm_config_type_t;

enum { CM_CONFIG_LIST_MAX = 16 };
typedef struct {
    size_t count;
    int64_t value[CM_CONFIG_LIST_MAX];
} cm_config_list_t;

typedef struct {
    const char *path; /* "writer.shards" */
    cm_config_type_t type;
    size_t offset;        /* of the member in the target struct */
    const char *fallback; /* default as text; NULL = empty text / none */
    int64_t min, max;     /* INT: the value; INT_LIST: each value; TEXT: length; 0, 0: no bounds */
    const char *choices;  /* CHOICE: "auto|json|text" */
    bool secret;          /* never printed; also read from ..._FILE */
    const char *help;     /* one sentence with the unit */
} cm_config_key_t;

typedef struct {
    const cm_config_key_t *keys;
    size_t count;
    size_t target_size; /* of the struct the offsets go into */
} cm_config_table_t;

typedef struct cm_config cm_config_t; /* owns the filled struct and every text in it */

typedef struct { /* a variable that other programs read for the same thing; weaker than our own */
    const char *path, *variable;
} cm_config_alias_t;

typedef struct {
    const char *file;            /* path; NULL = no file; a named file must exist */
    const char *const *environ_; /* NULL-terminated "K=V"; given by main */
    const char *const *flags;    /* "path=value" from --set and flags; may be NULL */
    size_t flag_count;
    const cm_config_alias_t *aliases; /* empty in the environment counts as not set */
    size_t alias_count;
} cm_config_sources_t;

/* Fill a new configuration. CM_MISCONFIGURED: every fault found, one a line, is in *ret_faults
 * (appended), the first in err. An environment variable CM_... that is no key is a fault as well
 * (CM_CRASH, CM_CONFIG and CM_TEST_* excepted). */
cm_status_t cm_config_load(cm_config_t **ret_config, const cm_config_table_t *table,
                           const cm_config_sources_t *sources, cm_buffer_t *ret_faults,
                           cm_error_t *err);
void cm_config_destroy(cm_config_t **self_p);
const void *cm_config_values(const cm_config_t *self); /* the struct; immutable; lives as self */
/* "default", "file:12", "CM_POSTGRES_URI", "flag" for a key of the table. */
const char *cm_config_origin(const cm_config_t *self, const char *path);
/* The value as text, secrets and passwords inside URIs as "***". Appended to out. */
void cm_config_value_text(const cm_config_t *self, const cm_config_key_t *key, cm_buffer_t *out);
#endif
