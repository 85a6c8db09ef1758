/* contact_record - one deleted contact as a contact source gives it: a line of JSON, a line of CSV,
 * or the texts of a row.
 *
 * The three values are customerId, contactId and deletedAt, named so or in any other case and with
 * underscores (customer_id). Their rules are those of events.md, sections 3 and 6: a customer of
 * canonical form, a 64-bit integer, a time as RFC 3339 with an offset or as epoch milliseconds.
 * Faults are CM_PERMANENT with the codes of section 3; no message quotes a value.
 */
#ifndef CM_PROTO_CONTACT_RECORD_H
#define CM_PROTO_CONTACT_RECORD_H
#include "proto/tenant_id.h"
#include "runtime/status.h"
#include "runtime/str.h"

typedef struct {
    char customer_id[CM_TENANT_ID_MAX]; /* canonical */
    int64_t contact_id;
    int64_t deleted_ms; /* epoch */
} cm_contact_t;

enum {
    CM_CONTACT_CUSTOMER_ID,
    CM_CONTACT_CONTACT_ID,
    CM_CONTACT_DELETED_AT,
    CM_CONTACT_VALUES,
    CM_CONTACT_COLUMNS_MAX = 64
};

/* Which of the values a column of that name holds, -1 for none. */
int cm_contact_column(cm_str_t name);

/* From one text for each value; absent is a fault. */
cm_status_t cm_contact_from_texts(const cm_str_t texts[CM_CONTACT_VALUES], int64_t now_ms,
                                  cm_contact_t *ret_contact, cm_error_t *err);
/* From a JSON object, the body of a message of contact-deletion; further members are ignored. */
cm_status_t cm_contact_from_json(cm_str_t line, int64_t now_ms, cm_arena_t *arena,
                                 cm_contact_t *ret_contact, cm_error_t *err);

typedef struct {
    size_t columns;
    size_t column_of[CM_CONTACT_VALUES];
} cm_contact_csv_t;

/* The first line: names of columns. "malformed" when one of the three is missing or repeated. */
cm_status_t cm_contact_csv_head(cm_str_t line, cm_arena_t *arena, cm_contact_csv_t *ret_csv,
                                cm_error_t *err);
/* A further line, RFC 4180 with commas; as many fields as columns. A line break cannot be quoted.
 * An empty field is an absent value. */
cm_status_t cm_contact_from_csv(const cm_contact_csv_t *csv, cm_str_t line, int64_t now_ms,
                                cm_arena_t *arena, cm_contact_t *ret_contact, cm_error_t *err);
#endif
