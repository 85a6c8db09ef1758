/* audit_case - a database with an audit log, and ways to fill and verify it. Faults end the test.
 */
#ifndef CM_TESTS_SCHEMA_AUDIT_CASE_H
#define CM_TESTS_SCHEMA_AUDIT_CASE_H
#include "schema/audit_log.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>

#define KEY   "a key of the tests, long enough"
#define TABLE CM_TEST_ADMIN ".audit_log"

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_error_t err;
    cm_audit_head_t head;
    cm_audit_report_t report;
} world_t;

static inline void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
}

static inline void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
}

static inline cm_status_t append_in(world_t *self, const char *isolation, const char *key,
                                    const cm_audit_entry_t *entry)
{
    cm_status_t status = cm_pg_begin(self->pg, &self->err);
    if (status == CM_OK)
        status = cm_pg_exec(self->pg, isolation, &self->err);
    if (status == CM_OK)
        status = cm_audit_append(self->pg, CM_TEST_ADMIN, key, entry, &self->head, &self->err);
    if (status == CM_OK)
        status = cm_pg_commit(self->pg, &self->err);
    if (status != CM_OK)
        cm_pg_rollback(self->pg);
    return status;
}

static inline cm_status_t append(world_t *self, const char *key, const cm_audit_entry_t *entry)
{
    return append_in(self, "SET TRANSACTION ISOLATION LEVEL READ COMMITTED", key, entry);
}

static inline void append_many(world_t *self, const char *key, int count)
{
    for (int i = 0; i < count; i++) {
        char tenant[16], detail[32];
        snprintf(tenant, sizeof tenant, "%d", i);
        snprintf(detail, sizeof detail, "{\"number\":  %d}", i);
        cm_audit_entry_t entry = {"a test", "tested", tenant, i, detail};
        cr_assert(eq(int, append(self, key, &entry), CM_OK), "%s", self->err.message);
    }
}

static inline void verify(world_t *self, const char *key, cm_audit_verify_t how)
{
    cr_assert(eq(int,
                 cm_audit_verify(self->pg, CM_TEST_ADMIN, key, &how, &self->report, &self->err),
                 CM_OK),
              "%s", self->err.message);
}

static inline void expect_fault(world_t *self, cm_audit_fault_t fault, int64_t position)
{
    cr_expect(eq(str, (char *)cm_audit_fault_name(self->report.fault),
                 (char *)cm_audit_fault_name(fault)));
    cr_expect(eq(i64, self->report.position, position));
}

/* More rows than a page; computed by cm_audit_append() would take long, so chained in SQL. */
static inline void fill(world_t *self, int rows)
{
    cm_test_sql(self->pg, "ALTER TABLE " TABLE " DISABLE TRIGGER ALL");
    cm_test_sql(self->pg,
                "DO $$ DECLARE previous bytea := decode(repeat('00', 32), 'hex'); fields bytea[]; "
                "field bytea;"
                " encoded bytea; BEGIN FOR p IN 1..%d LOOP"
                " fields := ARRAY['client-manager audit 1', p::text::bytea, (p * "
                "1000000::bigint)::text::bytea,"
                " 'filler', 'filled', '7', '1', '{}', '', previous]; encoded := '';"
                " FOREACH field IN ARRAY fields LOOP encoded := encoded || int4send(length(field)) "
                "|| field;"
                " END LOOP;"
                " INSERT INTO " TABLE
                " VALUES (p, to_timestamp(p), 'filler', 'filled', '7', 1, '{}', '',"
                " previous, sha256(encoded)); previous := sha256(encoded); END LOOP; END $$",
                rows);
}
#endif
