/* Seven roles by eight actions, on the real server, as the table in README.md says. */
#include "schema/audit_log.h"
#include "tests/schema/role_case.h"

#define TENANT "\"tenant_1\""

enum { ACTIONS = 8, ROLES = 7, LINE_MAX_BYTES = 1024 };

/* ---- what is tried -------------------------------------------------------------------------- */

/* Each in a transaction of its own, rolled back. Done when one of the statements passes. */
static const struct {
    const char *name; /* heading in README.md */
    const char *statements[6];
} actions[ACTIONS] = {
    {"create a schema", {"CREATE SCHEMA tenant_2"}},
    {"drop a tenant's schema", {"DROP SCHEMA " TENANT " CASCADE"}},
    {"write a device",
     {"INSERT INTO " TENANT ".devices (application_code, client_id) VALUES ('a', 'new')"}},
    {"delete a device", {"DELETE FROM " TENANT ".devices WHERE client_id = 'c'"}},
    {"read devices", {"SELECT count(*) FROM " TENANT ".devices"}},
    {"add to the audit log", {NULL}}, /* by cm_audit_append() */
    {"change the audit log",
     {"ALTER TABLE " CM_TEST_ADMIN ".audit_log DISABLE TRIGGER ALL",
      "DROP TABLE " CM_TEST_ADMIN ".audit_log", "DROP SCHEMA " CM_TEST_ADMIN " CASCADE",
      "ALTER TABLE " CM_TEST_ADMIN ".audit_log RENAME TO old_log",
      "CREATE OR REPLACE FUNCTION " CM_TEST_ADMIN ".audit_log_refuse() RETURNS trigger"
      " LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"}},
    {"remove a dead letter", {"DELETE FROM " CM_TEST_ADMIN ".dead_letters WHERE id = 1"}},
};

/* PostgreSQL says 42501 for each of the denials; anything else is a fault of the test. */
static bool passes(cm_pg_t *pg, const char *statement)
{
    cm_error_t err = {0};
    cm_status_t status = cm_pg_begin(pg, &err);
    if (status == CM_OK && statement)
        status = cm_pg_exec(pg, statement, &err);
    else if (status == CM_OK)
        status = cm_audit_append(pg, CM_TEST_ADMIN, "",
                                 &(cm_audit_entry_t){"test", "tried", "1", 1, NULL}, NULL, &err);
    cm_pg_rollback(pg);
    if (status != CM_OK && strcmp(err.code, "42501") != 0)
        cr_fatal("%s: %s %s", statement ? statement : "append", err.code, err.message);
    return status == CM_OK;
}

static bool may(cm_pg_t *pg, size_t action)
{
    bool done = passes(pg, actions[action].statements[0]);
    for (size_t i = 1; i < CM_LENGTH(actions[action].statements); i++)
        if (actions[action].statements[i])
            done |= passes(pg, actions[action].statements[i]);
    return done;
}

/* ---- what README.md says -------------------------------------------------------------------- */

/* The next cell of a table's row, trimmed; NULL behind the last. */
static char *next_cell(char **line_p)
{
    char *start = *line_p + strspn(*line_p, "| "), *end = strchr(start, '|');
    if (!end)
        return NULL;
    *line_p = end;
    while (end > start && end[-1] == ' ')
        end--;
    if (**line_p)
        (*line_p)++;
    *end = '\0';
    return start;
}

typedef struct {
    char role[ROLES][CM_ROLE_NAME_MAX];
    bool allowed[ROLES][ACTIONS];
    size_t count;
} matrix_t;

static void read_row(matrix_t *self, char *line)
{
    cr_assert(lt(sz, self->count, ROLES), "more than %d roles", ROLES);
    char *name = next_cell(&line);
    cr_assert(name != NULL && strncmp(name, "`cm_", 4) == 0, "the row begins with %s", name);
    snprintf(self->role[self->count], CM_ROLE_NAME_MAX, "%.*s", (int)strcspn(name + 4, "`"),
             name + 4);
    for (size_t i = 0; i < ACTIONS; i++) {
        char *cell = next_cell(&line);
        cr_assert(cell && (strcmp(cell, "yes") == 0 || strcmp(cell, "no") == 0), "%s: %s",
                  actions[i].name, cell);
        self->allowed[self->count][i] = strcmp(cell, "yes") == 0;
    }
    self->count++;
}

static void read_matrix(matrix_t *self)
{
    char line[LINE_MAX_BYTES];
    int number = -1; /* of the line in the table */
    FILE *file = fopen(CM_README, "r");
    cr_assert(file != NULL, "%s is missing", CM_README);
    while (fgets(line, sizeof line, file)) {
        if (strncmp(line, "<!-- /role matrix", 17) == 0)
            break;
        if (strncmp(line, "<!-- role matrix", 16) == 0) {
            number = 0;
            continue;
        }
        if (number < 0)
            continue;
        char *rest = line;
        if (number == 0) {
            for (size_t i = 0; i < ACTIONS; i++)
                cr_expect(eq(str, next_cell(&rest), (char *)actions[i].name));
        } else if (number > 1) {
            read_row(self, line);
        }
        number++;
    }
    fclose(file);
    cr_assert(eq(sz, self->count, ROLES), "README.md has no matrix of %d roles", ROLES);
}

static cm_role_t role_of(const char *suffix)
{
    for (int role = CM_ROLE_OWNER; role < CM_ROLE_COUNT; role++)
        if (strcmp(cm_role_suffix((cm_role_t)role), suffix) == 0)
            return (cm_role_t)role;
    cr_fatal("README.md tells of a role %s", suffix);
}

/* ---- the tests ------------------------------------------------------------------------------ */

static void fill(role_world_t *world)
{
    role_world_open(world);
    cm_test_tenant(world->pg, "1");
    cm_test_sql(world->pg, "INSERT INTO " TENANT ".devices (application_code, client_id)"
                           " VALUES ('a', 'c')");
    cm_test_sql(world->pg,
                "INSERT INTO " CM_TEST_ADMIN ".dead_letters (id, tenant, error_class, error_code,"
                " error_message, errors_topic, origin_topic, origin_message_id, last_failed_at,"
                " retry_count, kept_replay_count, replay_count, attributes, body)"
                " VALUES (1, '1', '', '', '', '', '', '', now(), 0, 0, 0, '{}', '')");
    role_prepare_all(world, world->pg);
    /* Nobody works as the owners, but whoever could is held back as they are. */
    cm_test_sql(world->pg, "GRANT %s_owner, %s_audit_owner TO %s", world->prefix, world->prefix,
                world->login);
}

Test(role_matrix, each_role_may_do_what_the_readme_says_and_nothing_else, .timeout = 120)
{
    role_world_t world;
    matrix_t matrix = {0};
    read_matrix(&matrix);
    fill(&world);
    for (size_t row = 0; row < ROLES; row++) {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, role_of(matrix.role[row]));
        for (size_t i = 0; i < ACTIONS; i++)
            cr_expect(eq(int, may(pg, i), matrix.allowed[row][i]), "%s: %s", matrix.role[row],
                      actions[i].name);
    }
    role_world_close(&world);
}

Test(role_matrix, a_login_without_a_role_may_do_none_of_it, .timeout = 120)
{
    role_world_t world;
    fill(&world);
    {
        CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = role_session(&world, CM_ROLE_NONE);
        for (size_t i = 0; i < ACTIONS; i++)
            cr_expect(eq(int, may(pg, i), false), "%s", actions[i].name);
    }
    role_world_close(&world);
}
