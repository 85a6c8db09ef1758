/* erasure_late - what is kept of devices that a late event removed, after their contact's deletion.
 *
 * The deletion itself could not know that they were the contact's, and a writer does not look for
 * dead letters. Verdicts held for a removed device, up to its removal, and dead letters of it
 * (20,000 of them at a time, by their hashes) go. Under the locks of a sweep; part of it.
 * *ret_letters: some dead letters went, whose table is to be rewritten, too; the caller notes it.
 */
#ifndef CM_SCHEMA_ERASURE_LATE_H
#define CM_SCHEMA_ERASURE_LATE_H
#include "runtime/pg.h"

#include <stdbool.h>

cm_status_t cm_erasure_late(cm_pg_t *pg, const char *admin_schema, const char *tenant,
                            const char *erasure_key, bool *ret_letters, cm_error_t *err);
#endif
