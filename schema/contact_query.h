/* contact_query - deleted contacts by a query of the operator's, read through a cursor.
 *
 * The query is text of the configuration, with $1 for the customer (text, NULL = every customer)
 * and $2 for the time (timestamptz) from which on contacts are wanted; it must use $1, and give the
 * columns customer_id, contact_id and deleted_at:
 *
 *     SELECT customer_id, contact_id, deleted_at FROM crm.deleted_contacts
 *     WHERE customer_id = $1::bigint AND deleted_at >= $2
 *
 * It runs in a read-only transaction of its own, whose snapshot lasts until close. Rows come in the
 * order of (deleted_at, customer_id, contact_id), so that reading can go on behind one of them in
 * another transaction; those that lack a value come too, before or among the others.
 */
#ifndef CM_SCHEMA_CONTACT_QUERY_H
#define CM_SCHEMA_CONTACT_QUERY_H
#include "runtime/pg.h"
#include "runtime/str.h"

typedef struct {
    cm_str_t customer_id, contact_id; /* as text; absent = NULL */
    cm_str_t deleted_us;              /* epoch microseconds as text; absent = NULL or infinite */
} cm_contact_row_t;                   /* borrowed for the call */

typedef struct { /* of a row with all three values */
    const char *customer_id, *contact_id, *deleted_us;
} cm_contact_key_t;

/* Begin. customer_id NULL: of every customer. after NULL: from the first row. The classes of pg;
 * 42P18 is told as CM_MISCONFIGURED: $1 is not used. */
cm_status_t cm_contact_query_open(cm_pg_t *pg, const char *query, const char *customer_id,
                                  int64_t since_ms, const cm_contact_key_t *after, cm_error_t *err);
/* At most max further rows; *ret_count 0: there are no more. */
cm_status_t cm_contact_query_fetch(cm_pg_t *pg, size_t max,
                                   void (*on_row)(void *ctx, const cm_contact_row_t *row),
                                   void *ctx, size_t *ret_count, cm_error_t *err);
void cm_contact_query_close(cm_pg_t *pg); /* the transaction, if one is open */
#endif
