#include "runtime/cleanup.h"
#include "schema/contact_query.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

TestSuite(contact_query, .timeout = 30, .fini = cm_test_database_drop);

#define QUERY                                                                                      \
    "SELECT customer AS customer_id, contact AS contact_id, at AS deleted_at FROM public.gone "    \
    "WHERE customer = $1 AND at >= $2"

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg, *other;
    char rows[512]; /* "customer/contact/us;..." */
    size_t count;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    cm_test_database(self->uri);
    self->pg = cm_test_connect(self->uri);
    self->other = cm_test_connect(self->uri);
    cm_test_sql(self->other,
                "CREATE TABLE public.gone (customer text, contact bigint, at timestamptz)");
    cm_test_sql(self->other,
                "INSERT INTO public.gone VALUES ('a', 3, '2026-01-01T00:00:00.000001Z'), "
                "('a', 1, '2026-01-01T00:00:00.000001Z'), "
                "('a', 2, '2026-01-01T00:00:00Z'), ('b', 9, '2026-01-01T00:00:00Z')");
}

static void tear_down(world_t *self)
{
    cm_pg_destroy(&self->pg);
    cm_pg_destroy(&self->other);
}

static void on_row(void *ctx, const cm_contact_row_t *row)
{
    world_t *self = ctx;
    size_t len = strlen(self->rows);
    cm_str_t none = CM_STR("-");
    cm_str_t contact = row->contact_id.ptr ? row->contact_id : none;
    cm_str_t us = row->deleted_us.ptr ? row->deleted_us : none;
    snprintf(self->rows + len, sizeof self->rows - len, "%.*s/%.*s/%.*s;",
             CM_STR_ARG(row->customer_id), CM_STR_ARG(contact), CM_STR_ARG(us));
}

static cm_status_t open_at(world_t *self, const cm_contact_key_t *after)
{
    return cm_contact_query_open(self->pg, QUERY, "a", 0, after, &self->err);
}

static void fetch(world_t *self, size_t max)
{
    self->rows[0] = '\0';
    cr_assert(eq(int, cm_contact_query_fetch(self->pg, max, on_row, self, &self->count, &self->err),
                 CM_OK),
              "%s", self->err.message);
}

Test(contact_query, rows_come_by_time_customer_and_contact_and_then_no_more)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, open_at(&world, NULL), CM_OK), "%s", world.err.message);
    fetch(&world, 2);
    cr_expect(eq(str, world.rows, "a/2/1767225600000000;a/1/1767225600000001;"));
    fetch(&world, 2);
    cr_expect(eq(str, world.rows, "a/3/1767225600000001;"));
    fetch(&world, 2);
    cr_expect(eq(sz, world.count, 0));
    cm_contact_query_close(world.pg);
    tear_down(&world);
}

Test(contact_query, reading_goes_on_behind_a_row_to_the_microsecond)
{
    world_t world = {0};
    set_up(&world);
    cm_contact_key_t after = {"a", "1", "1767225600000001"};
    cr_assert(eq(int, open_at(&world, &after), CM_OK), "%s", world.err.message);
    fetch(&world, 10);
    cr_expect(eq(str, world.rows, "a/3/1767225600000001;"));
    cm_contact_query_close(world.pg);
    tear_down(&world);
}

Test(contact_query, rows_that_lack_a_value_come_too)
{
    world_t world = {0};
    set_up(&world);
    cm_test_sql(world.other, "INSERT INTO public.gone VALUES ('a', NULL, '2026-01-02Z'), "
                             "('a', 7, 'infinity')");
    cr_assert(eq(int, open_at(&world, NULL), CM_OK), "%s", world.err.message);
    fetch(&world, 10);
    cr_expect(eq(sz, world.count, 5));
    cr_expect(ne(ptr, strstr(world.rows, "a/-/1767312000000000;"), NULL));
    cr_expect(ne(ptr, strstr(world.rows, "a/7/-;"), NULL));
    cm_contact_query_close(world.pg);
    tear_down(&world);
}

Test(contact_query, what_is_written_meanwhile_is_not_seen)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, open_at(&world, NULL), CM_OK));
    cm_test_sql(world.other, "DELETE FROM public.gone");
    fetch(&world, 10);
    cr_expect(eq(sz, world.count, 3));
    cm_contact_query_close(world.pg);
    tear_down(&world);
}

Test(contact_query, a_failed_query_leaves_no_transaction)
{
    world_t world = {0};
    set_up(&world);
    cr_expect(
        eq(int,
           cm_contact_query_open(world.pg, "SELECT now() AS deleted_at", "a", 0, NULL, &world.err),
           CM_MISCONFIGURED));
    cr_expect(eq(int, open_at(&world, NULL), CM_OK), "%s", world.err.message);
    cm_contact_query_close(world.pg);
    cr_expect(eq(int,
                 cm_pg_exec(world.pg, "INSERT INTO public.gone VALUES ('c', 1, now())", &world.err),
                 CM_OK));
    tear_down(&world);
}
