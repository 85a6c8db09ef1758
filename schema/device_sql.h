/* device_sql - the statements of the device store, and their arguments from changes.
 *
 * All of them take the changes of one tenant as an array, one element per device, in order of the
 * key: of the composite type device_change (schema/admin/0001_base.sql), removals as one of each
 * column.
 */
#ifndef CM_SCHEMA_DEVICE_SQL_H
#define CM_SCHEMA_DEVICE_SQL_H
#include "proto/erasure_hash.h"
#include "schema/device_store.h"
#include "schema/pg_array.h"

/* By what a tenant's changes are bound: the row type of this connection's database
 * (cm_device_sql_row_type: its OID and that of its array, $1 the admin schema) and the tenant's
 * key, for the hashes of contacts. */
typedef struct {
    cm_pg_row_type_t type;
    const cm_erasure_key_t *key;
} cm_device_binding_t;
extern const char cm_device_sql_row_type[];

/* Session settings that the statements rely on. */
extern const char cm_device_sql_session[];

/* Before a removal: no writer may be in the tenant. Two commands; why these, see device_sql.c. */
extern const char cm_device_sql_lock_devices[], cm_device_sql_lock_tombstones[];

/* What every write locks, without waiting for it; leaves a transaction open. */
extern const char cm_device_sql_try_lock[];

/* Removals: cm_device_sql_bind_removals(). Answers the keys of the tombstones that moved. */
extern const char cm_device_sql_remove[];

/* Deletions of contacts, under the same locks: $1 their hashes in hex, $2 their ids, $3 when they
 * were deleted; each contact once. Writes their tombstones, removes their devices, and deletes the
 * verdicts held for these up to the removal and for the tokens that went. Answers three kinds of
 * rows, all binary. With a key in columns 2 and 3, each device: index of its contact from 1, false,
 * key, token that went or NULL. Else each contact whose tombstone did not move: index, whether it
 * stood at this very time. And a 0 for each verdict deleted. */
extern const char cm_device_sql_delete_contacts[];

/* The write of every day: cm_device_sql_bind_registers(). Writes the rows where each register given
 * is newer than the row's and than the tombstone, and no contact is set that was deleted at that
 * time or later; all others it leaves alone, whole. Answers the keys of the rows written, in the
 * order of the arguments. The other answers only how many, in its command tag: at few rows each the
 * keys are a twentieth of the work. */
extern const char cm_device_sql_upsert[], cm_device_sql_upsert_counted[];

/* The order rule in full, for what the one above left alone: equal times, some registers newer and
 * some not, verdicts newer than a token, deleted contacts of no account. Leaves alone what is a
 * removal because of its contact. Arguments and answer likewise. */
extern const char cm_device_sql_upsert_exact[];

/* What is to become of changes that were not written: cm_device_sql_bind_settle(). Answers per
 * change, in any order: its index from 1, must be written still, is there already, when it is a
 * removal because of its contact the time of that removal, epoch ms, else NULL, and whether the row
 * is as transaction xid left it. All binary. */
extern const char cm_device_sql_settle[];

/* Fill arrays for items; return how many of them they took (0: nothing to send). xid: "" for
 * none. */
size_t cm_device_sql_bind_removals(cm_pg_arrays_t *arrays, cm_store_item_t *const *items,
                                   size_t count);
size_t cm_device_sql_bind_registers(cm_pg_arrays_t *arrays, const cm_device_binding_t *binding,
                                    cm_store_item_t *const *items, size_t count);
size_t cm_device_sql_bind_settle(cm_pg_arrays_t *arrays, const cm_device_binding_t *binding,
                                 cm_store_item_t *const *items, size_t count, const char *xid);

bool cm_device_sql_is_removal(const cm_device_change_t *change);
bool cm_device_sql_has_register(const cm_device_change_t *change);
#endif
