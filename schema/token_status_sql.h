/* token_status_sql - the statements of push verdicts, and their arguments.
 *
 * All are about one tenant: "@schema@" is its schema, "@admin@" the admin schema. What is locked,
 * and in which order, is told in token_status_sql.c.
 */
#ifndef CM_SCHEMA_TOKEN_STATUS_SQL_H
#define CM_SCHEMA_TOKEN_STATUS_SQL_H
#include "schema/pg_array.h"
#include "schema/token_status_store.h"

/* What cm_token_status_sql_write answers of a verdict, the weakest first: of a token that several
 * rows hold, the strongest of theirs. */
enum {
    CM_TOKEN_ANSWER_STALE = 1,
    CM_TOKEN_ANSWER_DUPLICATE = 2,
    CM_TOKEN_ANSWER_HELD = 3,
    CM_TOKEN_ANSWER_APPLIED = 4
};

/* Verdicts into the rows they are about: cm_token_status_sql_bind_write(). Answers per verdict, in
 * any order: its index from 1, what became of it, whether a brake was on for it. All binary. */
extern const char cm_token_status_sql_write[];
/* The same, in two thirds of the time, when each verdict names its device and no two the same; one
 * whose device is not there is not answered: stale. */
extern const char cm_token_status_sql_write_apart[];
/* Likewise, when besides none says that a token is gone. */
extern const char cm_token_status_sql_write_valid[];

/* A brake goes on: lock first, then trip: cm_token_status_sql_bind_trip(). Answers per trip: its
 * index from 1, whether the brake was off, the verdicts taken back. */
extern const char cm_token_status_sql_lock_devices[], cm_token_status_sql_lock_held[];
extern const char cm_token_status_sql_trip[];

/* Forget what was applied too long ago to be taken back, $1 of them at most. */
extern const char cm_token_status_sql_prune[];

/* The next verdicts held for $1 application code, $2 provider, at most $3: apply them by the rule
 * of every day, or drop them. Answers how many there were and how many of them changed a device. */
extern const char cm_token_status_sql_release[], cm_token_status_sql_discard[];

void cm_token_status_sql_bind_write(cm_pg_arrays_t *arrays, const char *tenant,
                                    const cm_token_verdict_t *verdicts, size_t count);
void cm_token_status_sql_bind_trip(cm_pg_arrays_t *arrays, const char *tenant,
                                   const cm_token_trip_t *trips, size_t count);
#endif
