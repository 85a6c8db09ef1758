/* contact_source - deleted contacts of one customer, or of all, from where they are kept: a query
 * of BigQuery, a query of a PostgreSQL database, or a file.
 *
 * Opened once, then for each customer: begin, next until the end, and the checkpoint saved after
 * begin (or a query job of BigQuery would be paid for again) and whenever what next gave has been
 * dealt with for good. Begun again with that text, in this process or
 * another, it goes on behind it: each contact is given at least once, and again only what came
 * after the checkpoint that was saved. A checkpoint that cannot be used (of another driver, of a
 * file that was replaced, of a result that Google has dropped) is passed over: everything since
 * since_ms comes again.
 *
 * Contacts come in no particular order. Those before since_ms may come too, if the query gives
 * them. A record that is none (values missing or of the wrong form) is counted and passed over, up
 * to malformed_max of them after each begin; one beyond is CM_PERMANENT / "malformed" with its line
 * or row. A row of another customer than the one asked for means that the query looks at no
 * customer: CM_MISCONFIGURED / "foreign-customer".
 *
 * The queries give the columns customer_id, contact_id and deleted_at (proto/contact_record):
 *   bigquery  standard SQL with @customer STRING (NULL = all) and @since TIMESTAMP, both used.
 *             The job runs once; its result is read on for a day. Checkpoint: job and row
 *   postgres  schema/contact_query; $1 and $2. Checkpoint: the last contact
 *   file      one JSON object a line, or CSV with a line of names; the first byte of the file tells
 *             which ('{' is JSON). Lines of 64 KiB at most, LF or CRLF, a byte order mark is
 *             skipped, empty lines are. Contacts of other customers and of before since_ms are
 *             left out. Checkpoint: offset and line, with a digest of the file's beginning
 * Blocking, for a job's thread; `stopped` is asked between steps and while a statement of
 * PostgreSQL runs, each second at least, so that it can give a sign of life: CM_CANCELLED. No
 * message holds a contact id.
 */
#ifndef CM_ACTORS_CONTACT_SOURCE_H
#define CM_ACTORS_CONTACT_SOURCE_H
#include "proto/contact_record.h"
#include "runtime/bigquery.h"

typedef enum {
    CM_CONTACT_SOURCE_BIGQUERY,
    CM_CONTACT_SOURCE_POSTGRES,
    CM_CONTACT_SOURCE_FILE
} cm_contact_source_kind_t;

enum { CM_CONTACT_CHECKPOINT_MAX = 512, CM_CONTACT_BATCH_MAX = 50000 };

typedef struct { /* copied; texts borrowed for life */
    cm_contact_source_kind_t kind;
    int64_t malformed_max;      /* 0 = none is passed over */
    bool (*stopped)(void *ctx); /* NULL = never */
    void *ctx;
    const char *query;              /* of bigquery and postgres */
    cm_bigquery_options_t bigquery; /* its stopped and ctx are those above */
    const char *location;           /* of the data set */
    int64_t maximum_bytes_billed;   /* 0 = no limit */
    const char *postgres_uri;       /* of a database of its own */
    int statement_timeout_ms;       /* of each statement there; 0 = 10 min */
    const char *path;               /* of the file */
} cm_contact_source_options_t;

typedef struct cm_contact_source cm_contact_source_t;

/* Connects to nothing yet. CM_MISCONFIGURED: an option is missing or of no use. */
cm_status_t cm_contact_source_open(cm_contact_source_t **ret_self,
                                   const cm_contact_source_options_t *options, cm_error_t *err);
void cm_contact_source_close(cm_contact_source_t **self_p);

/* customer_id: canonical; NULL = every customer. since_ms: epoch; contacts deleted at that time or
 * later are wanted. checkpoint: NULL or "" = from the first. The statuses of bigquery.h and pg.h;
 * CM_MISCONFIGURED for a file that cannot be opened or has no usable line of names. After a
 * failure, begin again. */
cm_status_t cm_contact_source_begin(cm_contact_source_t *self, const char *customer_id,
                                    int64_t since_ms, const char *checkpoint, cm_error_t *err);
/* The next contacts, 1 to max (at most CM_CONTACT_BATCH_MAX), borrowed until the next call;
 * *ret_count 0: there are no more. After a failure begin again; after CM_CANCELLED it can go on,
 * unless that ended a statement of PostgreSQL (then CM_UNAVAILABLE). */
cm_status_t cm_contact_source_next(cm_contact_source_t *self, size_t max,
                                   const cm_contact_t **ret_contacts, size_t *ret_count,
                                   cm_error_t *err);

/* Where to go on behind the contacts that next has given; changed by begin and next. */
const char *cm_contact_source_checkpoint(const cm_contact_source_t *self);
/* Begun at the checkpoint that was given, rather than from the first contact. */
bool cm_contact_source_resumed(const cm_contact_source_t *self);
/* Bytes that what begin has run is billed for; -1: nothing was run, or it is not known. */
int64_t cm_contact_source_billed(const cm_contact_source_t *self);
/* Records passed over since begin, and of the first of them, where it stands and what is wrong (""
 * = there is none). */
int64_t cm_contact_source_malformed(const cm_contact_source_t *self, const char **ret_first);
const char *cm_contact_source_kind_name(cm_contact_source_kind_t kind); /* "bigquery" ... */
#endif
