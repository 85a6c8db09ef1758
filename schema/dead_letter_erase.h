/* dead_letter_erase - the dead letters of erased contacts and devices, inside the erasure's own
 * transaction.
 *
 * By the hashes that were kept with each letter, through their indexes; those whose bodies could
 * not be read to the end are searched, byte by byte, for the contact's digits, the device's client
 * id and the tokens that went, a page at a time. Up to the time of the erasure: what came later
 * belongs to a new relation. Rule: reliability section 4.4.
 */
#ifndef CM_SCHEMA_DEAD_LETTER_ERASE_H
#define CM_SCHEMA_DEAD_LETTER_ERASE_H
#include "proto/erasure_hash.h"
#include "runtime/pg.h"

#include <stdbool.h>

typedef struct {
    int64_t contact_id, deleted_ms;
} cm_erased_contact_t;

typedef struct {
    cm_str_t application_code, client_id, push_token; /* push_token absent: none went */
    int64_t removed_ms;
} cm_erased_device_t;

typedef struct {
    const char *tenant;
    const cm_erasure_key_t *key; /* of the tenant */
    const cm_erased_contact_t *contacts;
    size_t contact_count;
    const cm_erased_device_t *devices;
    size_t device_count;
    bool has_unread; /* letters that could not be read to their end */
} cm_erasure_t;

/* Which of the tenants in $1 (text[]) have letters at all: index from 1, whether some are unread. A
 * letter is kept under the tenant's tombstones (dead_letter_fence), so under their lock it holds.
 */
extern const char cm_dead_letter_tenants_sql[];

/* Erase those of all tenants of erasures: one statement, and the search where some are unread. */
cm_status_t cm_dead_letter_erase(cm_pg_t *pg, const char *admin_schema,
                                 const cm_erasure_t *erasures, size_t count, int64_t *ret_erased,
                                 cm_error_t *err);
/* Those of these ids: text array of bigint. */
cm_status_t cm_dead_letter_erase_ids(cm_pg_t *pg, const char *admin_schema, const char *ids,
                                     int64_t *ret_erased, cm_error_t *err);
#endif
