/* dead_letter_store - the table of dead letters in the admin schema: keep, find, mark, remove.
 *
 * Body and attributes are kept byte for byte. One dead letter per (origin topic, origin message id,
 * replay count, body): the same one delivered twice is kept once. The body counts because the
 * origin is what the message says of itself; were it wrong, unlike messages must not be lost as
 * one. Listing never shows the body or attribute values that are not ours; `show` does. What was
 * erased is not kept again. Rule: events.md sections 2 and 6, reliability sections 3.6 and 4.4.
 */
#ifndef CM_SCHEMA_DEAD_LETTER_STORE_H
#define CM_SCHEMA_DEAD_LETTER_STORE_H
#include "proto/delivery.h"
#include "runtime/pg.h"

enum { CM_DEAD_LETTER_REPLAYS_MAX = 3 };

typedef enum {
    CM_LETTER_KEPT,
    CM_LETTER_KEPT_BEFORE,
    CM_LETTER_DROPPED, /* of a deleted tenant, contact or device, and no newer: kept nowhere */
    CM_LETTER_BUSY     /* its tenant is being changed, nobody knows yet: ask again */
} cm_letter_result_t;

typedef struct {
    const char *admin_schema, *erasure_key;
} cm_dead_letter_place_t;

/* Keep deliveries of an errors topic; one transaction. ret_results[i] may be NULL. tenant is taken
 * from the attribute customerId, else peeked from the body, else "". With each the hashes of the
 * ids that its body tells (proto/letter_ids.h). Its time is the body's, else that of its first
 * failure, else of its publishing. So that a deletion running beside it misses none, the tenants'
 * rows in the registry are locked FOR SHARE and the tombstones are read under their locks. */
cm_status_t cm_dead_letter_keep(cm_pg_t *pg, const cm_dead_letter_place_t *place,
                                const char *errors_topic, const cm_delivery_t *deliveries,
                                size_t count, cm_letter_result_t *ret_results, cm_error_t *err);

typedef struct { /* a member that is empty, NULL or 0 does not filter */
    const char *tenant, *error_class, *error_code;
    int64_t since_ms, until_ms; /* epoch of the last failure, since <= t < until */
    int64_t id;                 /* exactly this one */
    int64_t after_id;           /* for paging, in order of id */
    size_t limit;               /* of a list; 0 = none; count takes all that match */
} cm_dead_letter_filter_t;

typedef struct {
    int64_t id;
    cm_str_t tenant, error_class, error_code, error_message, origin_topic, origin_message_id;
    int64_t first_failed_ms, last_failed_ms, kept_ms, replayed_ms; /* epoch; 0 = none */
    int retry_count, replay_count;
    const cm_attribute_t *attributes; /* all, as they came; only when with_body */
    size_t attribute_count;
    cm_str_t body; /* only when with_body */
} cm_dead_letter_t;

/* Matching dead letters in order of id; memory is arena's. */
cm_status_t cm_dead_letter_list(cm_pg_t *pg, const char *admin_schema,
                                const cm_dead_letter_filter_t *filter, bool with_body,
                                cm_arena_t *arena, cm_dead_letter_t **ret_items, size_t *ret_count,
                                cm_error_t *err);
cm_status_t cm_dead_letter_count(cm_pg_t *pg, const char *admin_schema,
                                 const cm_dead_letter_filter_t *filter, int64_t *ret_count,
                                 cm_error_t *err);
/* Mark as replayed now (replay_count + 1). CM_PERMANENT / "replayed-out" at three, "not-found". */
cm_status_t cm_dead_letter_mark_replayed(cm_pg_t *pg, const char *admin_schema, int64_t id,
                                         cm_error_t *err);
/* Remove what matches, the oldest `limit` of it; 0 = all. */
cm_status_t cm_dead_letter_purge(cm_pg_t *pg, const char *admin_schema,
                                 const cm_dead_letter_filter_t *filter, int64_t *ret_deleted,
                                 cm_error_t *err);
#endif
