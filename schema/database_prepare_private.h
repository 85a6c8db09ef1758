/* database_prepare_private - what the files of schema/database_* share; included by them alone. */
#ifndef CM_SCHEMA_DATABASE_PREPARE_PRIVATE_H
#define CM_SCHEMA_DATABASE_PREPARE_PRIVATE_H
#include "schema/database_prepare.h"
#include "schema/sql.h"

typedef struct {
    cm_pg_t *pg;
    const cm_database_plan_t *plan;
    cm_database_notes_t *notes;
    char role[CM_ROLE_COUNT][CM_ROLE_NAME_MAX]; /* their names */
    char caller[CM_ROLE_NAME_MAX], database[CM_ROLE_NAME_MAX];
    bool superuser;
} cm_database_work_t;

/* Is the value that sql yields true? a and b are its $1 and $2; NULL: it has none. No row is false.
 */
cm_status_t cm_database_is(cm_database_work_t *self, bool *ret_true, const char *sql, const char *a,
                           const char *b, cm_error_t *err);
/* The value that sql yields, "" for none. size: of text. */
cm_status_t cm_database_ask(cm_database_work_t *self, char *text, size_t size, const char *sql,
                            const char *a, const char *b, cm_error_t *err);
cm_status_t cm_database_run(cm_database_work_t *self, cm_error_t *err, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
/* mend NULL: it is done. */
void cm_database_note(cm_database_work_t *self, const char *mend, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/* The steps of database_roles.c. */
cm_status_t cm_database_make_roles(cm_database_work_t *self, cm_error_t *err);
cm_status_t cm_database_join_owners(cm_database_work_t *self, cm_error_t *err);
cm_status_t cm_database_leave_owners(cm_database_work_t *self, cm_error_t *err);
cm_status_t cm_database_make_logins(cm_database_work_t *self, cm_error_t *err);
#endif
