#include "proto/attributes.h"
#include "runtime/cleanup.h"
#include "schema/dead_letter_store.h"
#include "tests/support/schema_fixture.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

TestSuite(dead_letter_store, .timeout = 30, .fini = cm_test_database_drop);

#define TOPIC "client-manager.writer-errors"

typedef struct {
    char uri[CM_TEST_URI_MAX];
    cm_pg_t *pg;
    cm_arena_t *arena;
    cm_error_t err;
    cm_dead_letter_t *items;
    size_t count;
} world_t;

static void set_up(world_t *self)
{
    self->pg = cm_test_admin(self->uri);
    self->arena = cm_arena_new(64 * 1024);
}

static void tear_down(world_t *self)
{
    cm_arena_destroy(&self->arena);
    cm_pg_destroy(&self->pg);
}

static cm_status_t keep(world_t *self, const cm_delivery_t *deliveries, size_t count, bool *is_new)
{
    cm_dead_letter_place_t place = {CM_TEST_ADMIN, ""};
    cm_letter_result_t results[16];
    cm_status_t status =
        cm_dead_letter_keep(self->pg, &place, TOPIC, deliveries, count, results, &self->err);
    for (size_t i = 0; status == CM_OK && is_new && i < count; i++)
        is_new[i] = results[i] == CM_LETTER_KEPT;
    return status;
}

static void list(world_t *self, cm_dead_letter_filter_t filter)
{
    cr_assert(eq(int,
                 cm_dead_letter_list(self->pg, CM_TEST_ADMIN, &filter, true, self->arena,
                                     &self->items, &self->count, &self->err),
                 CM_OK),
              "%s", self->err.message);
}

/* clang-format off */
#define ATTRIBUTES(...)                                                                            \
    .attributes = (const cm_attribute_t[]){__VA_ARGS__},                                           \
    .attribute_count = sizeof((const cm_attribute_t[]){__VA_ARGS__}) / sizeof(cm_attribute_t)
#define BYTES(text) {text, sizeof(text) - 1} /* CM_STR() for static objects */
#define A(name, value) {BYTES(name), BYTES(value)}
/* clang-format on */
#define IS(actual, expected) cr_expect(cm_str_is(actual, expected), "%.*s", CM_STR_ARG(actual))

static const cm_attribute_t attributes_of_one[] = {
    A("customerId", "42"),          A("errorClass", "permanent"),
    A("errorCode", "23514"),        A("errorMessage", "check violated"),
    A("originTopic", "the-writer"), A("originMessageId", "12-1"),
    A("firstFailedAt", "1000"),     A("lastFailedAt", "2000"),
    A("retryCount", "5"),           A("replayCount", "1"),
    A("x-unknown", "carried")};
static const cm_delivery_t one = {.message_id = BYTES("77-0"),
                                  .publish_ms = 5000,
                                  .attributes = attributes_of_one,
                                  .attribute_count = CM_LENGTH(attributes_of_one),
                                  .body = BYTES("{\"customerId\": 42}")};

Test(dead_letter_store, what_is_kept_comes_back_whole)
{
    world_t world = {0};
    set_up(&world);
    bool is_new = false;
    cr_assert(eq(int, keep(&world, &one, 1, &is_new), CM_OK), "%s", world.err.message);
    cr_expect(is_new);
    list(&world, (cm_dead_letter_filter_t){0});
    cr_assert(eq(sz, world.count, 1));
    const cm_dead_letter_t *item = world.items;
    IS(item->tenant, "42");
    IS(item->error_class, "permanent");
    IS(item->error_code, "23514");
    IS(item->error_message, "check violated");
    IS(item->origin_topic, "the-writer");
    IS(item->origin_message_id, "12-1");
    IS(item->body, "{\"customerId\": 42}");
    cr_expect(eq(i64, item->first_failed_ms, 1000));
    cr_expect(eq(i64, item->last_failed_ms, 2000));
    cr_expect(gt(i64, item->kept_ms, 1600000000000));
    cr_expect(eq(i64, item->replayed_ms, 0));
    cr_expect(eq(int, item->retry_count, 5));
    cr_expect(eq(int, item->replay_count, 1));
    cr_assert(eq(sz, item->attribute_count, one.attribute_count));
    for (size_t i = 0; i < one.attribute_count; i++) {
        cr_expect(cm_str_eq(item->attributes[i].name, one.attributes[i].name));
        cr_expect(cm_str_eq(item->attributes[i].value, one.attributes[i].value));
    }
    tear_down(&world);
}

Test(dead_letter_store, any_bytes_survive_in_body_and_attributes)
{
    world_t world = {0};
    set_up(&world);
    char bytes[256];
    for (int i = 0; i < 256; i++)
        bytes[i] = (char)i;
    cm_str_t all = {bytes, sizeof bytes};
    cm_attribute_t attributes[] = {{all, all},
                                   {CM_STR("empty"), CM_STR("")},
                                   {CM_STR("errorMessage"), all},
                                   {CM_STR(""), CM_STR("\n")}};
    cm_delivery_t delivery = {
        .message_id = CM_STR("1"), .attributes = attributes, .attribute_count = 4, .body = all};
    cr_assert(eq(int, keep(&world, &delivery, 1, NULL), CM_OK), "%s", world.err.message);
    list(&world, (cm_dead_letter_filter_t){0});
    cr_expect(cm_str_eq(world.items->body, all));
    cr_assert(eq(sz, world.items->attribute_count, 4));
    for (size_t i = 0; i < 4; i++) {
        cr_expect(cm_str_eq(world.items->attributes[i].name, attributes[i].name), "%zu", i);
        cr_expect(cm_str_eq(world.items->attributes[i].value, attributes[i].value), "%zu", i);
    }
    tear_down(&world);
}

Test(dead_letter_store, text_stays_text_and_the_rest_becomes_a_question_mark)
{
    world_t world = {0};
    set_up(&world);
    cm_delivery_t delivery = {
        .message_id = CM_STR("1"),
        ATTRIBUTES(A("errorMessage",
                     "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80|\xc3|\xc0\x80|\xed\xa0\x80|"
                     "\xf5\x80\x80\x80|\x80|\n|\xe2\x82"))};
    cr_assert(eq(int, keep(&world, &delivery, 1, NULL), CM_OK), "%s", world.err.message);
    list(&world, (cm_dead_letter_filter_t){0});
    IS(world.items->error_message,
       "\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80|?|\?\?|\?\?\?|\?\?\?\?|?|?|\?\?");
    tear_down(&world);
}

Test(dead_letter_store, a_message_without_any_attribute_is_named_by_its_delivery)
{
    world_t world = {0};
    set_up(&world);
    cm_delivery_t delivery = {.message_id = CM_STR("9-9"), .publish_ms = 5000};
    cr_assert(eq(int, keep(&world, &delivery, 1, NULL), CM_OK), "%s", world.err.message);
    list(&world, (cm_dead_letter_filter_t){0});
    IS(world.items->tenant, "");
    IS(world.items->origin_topic, TOPIC);
    IS(world.items->origin_message_id, "9-9");
    IS(world.items->body, "");
    cr_expect(eq(i64, world.items->first_failed_ms, 0));
    cr_expect(eq(i64, world.items->last_failed_ms, 5000));
    cr_expect(eq(sz, world.items->attribute_count, 0));
    tear_down(&world);
}

Test(dead_letter_store, the_tenant_is_found_in_the_body_when_no_attribute_names_it)
{
    world_t world = {0};
    set_up(&world);
    cm_delivery_t deliveries[] = {
        {.message_id = CM_STR("1"), .body = CM_STR("{\"customerId\": \"A-1\"}")},
        {.message_id = CM_STR("2"),
         ATTRIBUTES(A("customerId", "not valid!")),
         .body = CM_STR("{\"customerId\": 7}")},
        {.message_id = CM_STR("3"), .body = CM_STR("no JSON")}};
    cr_assert(eq(int, keep(&world, deliveries, 3, NULL), CM_OK));
    list(&world, (cm_dead_letter_filter_t){0});
    IS(world.items[0].tenant, "A-1");
    IS(world.items[1].tenant, "7");
    IS(world.items[2].tenant, "");
    tear_down(&world);
}

Test(dead_letter_store, the_same_one_is_kept_once)
{
    world_t world = {0};
    set_up(&world);
    bool is_new[4];
    cm_delivery_t other = {.message_id = CM_STR("other")};
    cm_delivery_t again = one;
    again.message_id = CM_STR("78-0"); /* delivered anew under another id */
    const cm_delivery_t first[] = {one, other, one, again};
    cr_assert(eq(int, keep(&world, first, 4, is_new), CM_OK));
    cr_expect(is_new[0]);
    cr_expect(is_new[1]);
    cr_expect(not(is_new[2]));
    cr_expect(not(is_new[3]));
    cr_assert(eq(int, keep(&world, &again, 1, is_new), CM_OK));
    cr_expect(not(is_new[0]));
    list(&world, (cm_dead_letter_filter_t){0});
    cr_expect(eq(sz, world.count, 2));
    tear_down(&world);
}

Test(dead_letter_store, a_replay_that_fails_again_is_another_one)
{
    world_t world = {0};
    set_up(&world);
    bool is_new = false;
    cm_delivery_t delivery = {.message_id = CM_STR("1"), .body = CM_STR("x")};
    cr_assert(eq(int, keep(&world, &delivery, 1, NULL), CM_OK));
    list(&world, (cm_dead_letter_filter_t){0});
    cr_assert(eq(int,
                 cm_dead_letter_mark_replayed(world.pg, CM_TEST_ADMIN, world.items->id, &world.err),
                 CM_OK));
    cm_delivery_t failed = {
        .message_id = CM_STR("1"), .body = CM_STR("x"), ATTRIBUTES(A("replayCount", "1"))};
    cr_assert(eq(int, keep(&world, &failed, 1, &is_new), CM_OK));
    cr_expect(is_new);
    tear_down(&world);
}

Test(dead_letter_store, unlike_bodies_under_one_origin_are_both_kept)
{
    world_t world = {0};
    set_up(&world);
    bool is_new = false;
    cm_delivery_t liar = one;
    liar.body = CM_STR("another");
    cr_assert(eq(int, keep(&world, &one, 1, NULL), CM_OK));
    cr_assert(eq(int, keep(&world, &liar, 1, &is_new), CM_OK));
    cr_expect(is_new);
    tear_down(&world);
}

/* Ten of them: tenant a or b, class permanent or exhausted, code 0 to 4, last failure at 1000 to
 * 10000. */
static void keep_ten(world_t *self)
{
    cm_delivery_t deliveries[10];
    cm_attribute_t attributes[10][4];
    char codes[10][8], times[10][8], ids[10][8];
    for (int i = 0; i < 10; i++) {
        snprintf(codes[i], 8, "%d", i % 5);
        snprintf(times[i], 8, "%d", 1000 * (i + 1));
        snprintf(ids[i], 8, "id%d", i);
        attributes[i][0] = (cm_attribute_t){CM_STR("customerId"), cm_str(i % 2 ? "b" : "a")};
        attributes[i][1] =
            (cm_attribute_t){CM_STR("errorClass"), cm_str(i < 5 ? "permanent" : "exhausted")};
        attributes[i][2] = (cm_attribute_t){CM_STR("errorCode"), cm_str(codes[i])};
        attributes[i][3] = (cm_attribute_t){CM_STR("lastFailedAt"), cm_str(times[i])};
        deliveries[i] = (cm_delivery_t){
            .message_id = cm_str(ids[i]), .attributes = attributes[i], .attribute_count = 4};
    }
    cr_assert(eq(int, keep(self, deliveries, 10, NULL), CM_OK), "%s", self->err.message);
}

static int64_t matching(world_t *self, cm_dead_letter_filter_t filter)
{
    int64_t count = -1;
    cr_assert(
        eq(int, cm_dead_letter_count(self->pg, CM_TEST_ADMIN, &filter, &count, &self->err), CM_OK),
        "%s", self->err.message);
    return count;
}

Test(dead_letter_store, a_filter_narrows_by_each_of_its_members)
{
    world_t world = {0};
    set_up(&world);
    keep_ten(&world);
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){0}), 10));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.tenant = ""}), 10));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.tenant = "a"}), 5));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.error_class = "permanent"}), 5));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.error_code = "3"}), 2));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.since_ms = 3000}), 8));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.until_ms = 3000}), 2));
    cr_expect(eq(i64,
                 matching(&world, (cm_dead_letter_filter_t){.tenant = "a",
                                                            .error_code = "0",
                                                            .error_class = "permanent",
                                                            .since_ms = 1000,
                                                            .until_ms = 1001}),
                 1));
    list(&world, (cm_dead_letter_filter_t){.tenant = "b"});
    int64_t id = world.items[1].id;
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.id = id}), 1));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.id = id, .tenant = "a"}), 0));
    tear_down(&world);
}

Test(dead_letter_store, pages_follow_the_id)
{
    world_t world = {0};
    set_up(&world);
    keep_ten(&world);
    int64_t after = 0;
    size_t seen = 0;
    do {
        list(&world, (cm_dead_letter_filter_t){.after_id = after, .limit = 4});
        cr_assert(le(sz, world.count, 4));
        for (size_t i = 0; i < world.count; i++, seen++) {
            char id[8];
            snprintf(id, sizeof id, "id%zu", seen);
            IS(world.items[i].origin_message_id, id);
            cr_assert(gt(i64, world.items[i].id, after));
            after = world.items[i].id;
        }
    } while (world.count > 0);
    cr_expect(eq(sz, seen, 10));
    tear_down(&world);
}

Test(dead_letter_store, a_list_without_bodies_shows_neither_body_nor_attributes)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, keep(&world, &one, 1, NULL), CM_OK));
    cr_assert(eq(int,
                 cm_dead_letter_list(world.pg, CM_TEST_ADMIN, &(cm_dead_letter_filter_t){0}, false,
                                     world.arena, &world.items, &world.count, &world.err),
                 CM_OK));
    cr_expect(eq(ptr, (void *)world.items->body.ptr, NULL));
    cr_expect(eq(sz, world.items->attribute_count, 0));
    tear_down(&world);
}

Test(dead_letter_store, the_fourth_replay_is_refused)
{
    world_t world = {0};
    set_up(&world);
    keep_ten(&world);
    list(&world, (cm_dead_letter_filter_t){.limit = 1});
    int64_t id = world.items->id;
    for (int i = 0; i < 3; i++)
        cr_assert(
            eq(int, cm_dead_letter_mark_replayed(world.pg, CM_TEST_ADMIN, id, &world.err), CM_OK));
    cr_expect(eq(int, cm_dead_letter_mark_replayed(world.pg, CM_TEST_ADMIN, id, &world.err),
                 CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "replayed-out"));
    list(&world, (cm_dead_letter_filter_t){.id = id});
    cr_expect(eq(int, world.items->replay_count, 3));
    cr_expect(gt(i64, world.items->replayed_ms, 0));
    tear_down(&world);
}

Test(dead_letter_store, to_mark_one_that_is_not_there_is_permanent)
{
    world_t world = {0};
    set_up(&world);
    cr_expect(eq(int, cm_dead_letter_mark_replayed(world.pg, CM_TEST_ADMIN, 1, &world.err),
                 CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "not-found"));
    tear_down(&world);
}

Test(dead_letter_store, purging_removes_what_matches)
{
    world_t world = {0};
    set_up(&world);
    int64_t deleted = -1;
    keep_ten(&world);
    cr_assert(eq(int,
                 cm_dead_letter_purge(world.pg, CM_TEST_ADMIN,
                                      &(cm_dead_letter_filter_t){.tenant = "a", .limit = 2},
                                      &deleted, &world.err),
                 CM_OK));
    cr_expect(eq(i64, deleted, 2));
    cr_assert(
        eq(int,
           cm_dead_letter_purge(world.pg, CM_TEST_ADMIN, &(cm_dead_letter_filter_t){.tenant = "a"},
                                &deleted, &world.err),
           CM_OK));
    cr_expect(eq(i64, deleted, 3));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){0}), 5));
    cr_expect(eq(i64, matching(&world, (cm_dead_letter_filter_t){.tenant = "a"}), 0));
    tear_down(&world);
}

Test(dead_letter_store, without_its_table_keeping_is_missing_and_without_link_unavailable)
{
    world_t world = {0};
    set_up(&world);
    cm_test_sql(world.pg, "DROP TABLE " CM_TEST_ADMIN ".dead_letters CASCADE");
    cr_expect(eq(int, keep(&world, &one, 1, NULL), CM_MISSING));
    cm_pg_close(world.pg);
    cr_expect(eq(int, keep(&world, &one, 1, NULL), CM_UNAVAILABLE));
    tear_down(&world);
}

Test(dead_letter_store, an_id_that_is_no_text_keeps_no_letter_out)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "a");
    cm_delivery_t letters[] = {
        {.message_id = CM_STR("1-0"),
         .publish_ms = 5000,
         .body = CM_STR(
             "{\"customerId\": \"a\", \"applicationCode\": \"\xff\xfe\", \"clientId\": \"c\"}")},
        {.message_id = CM_STR("2-0"),
         .publish_ms = 5000,
         .body = CM_STR(
             "{\"customerId\": \"a\", \"applicationCode\": \"app\", \"clientId\": \"\xc3\"}")}};
    bool is_new[2] = {false};
    cr_assert(eq(int, keep(&world, letters, 2, is_new), CM_OK), "%s", world.err.message);
    cr_expect(is_new[0] && is_new[1]);
    tear_down(&world);
}

typedef struct {
    const char *uri;
    cm_letter_result_t results[2];
    cm_status_t status;
    cm_error_t err;
} keeping_t;

static void *keep_two(void *arg)
{
    keeping_t *self = arg;
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_test_connect(self->uri);
    cm_dead_letter_place_t place = {CM_TEST_ADMIN, ""};
    cm_delivery_t letters[] = {
        {.message_id = CM_STR("1-0"), .publish_ms = 5000, .body = CM_STR("{\"customerId\": \"a\"")},
        {.message_id = CM_STR("2-0"),
         .publish_ms = 5000,
         .body = CM_STR("{\"customerId\": \"z\"")}};
    self->status = cm_dead_letter_keep(pg, &place, TOPIC, letters, 2, self->results, &self->err);
    return NULL;
}

/* The keeper has looked at the tenants, and waits for tables of one, when the other, which nobody
 * knew, is deleted from request to verification. */
Test(dead_letter_store, a_letter_of_an_unknown_tenant_is_not_kept_behind_its_deletion)
{
    world_t world = {0};
    set_up(&world);
    cm_test_tenant(world.pg, "a");
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *holder = cm_test_connect(world.uri);
    cm_test_sql(holder, "BEGIN");
    cm_test_sql(holder, "LOCK TABLE tenant_a.tombstones");
    keeping_t keeping = {.uri = world.uri};
    pthread_t thread;
    cr_assert(eq(int, pthread_create(&thread, NULL, keep_two, &keeping), 0));
    while (cm_test_number(world.pg, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation ="
                                    " 'tenant_a.tombstones'::regclass") == 0)
        ;
    cr_expect(eq(int, cm_test_delete(world.pg, "z", 9000), 3)); /* nothing, purged, verified */
    cm_test_sql(holder, "COMMIT");
    pthread_join(thread, NULL);
    cr_assert(eq(int, keeping.status, CM_OK), "%s", keeping.err.message);
    cr_expect(eq(int, keeping.results[0], CM_LETTER_KEPT));
    cr_expect(eq(int, keeping.results[1], CM_LETTER_DROPPED));
    cr_expect(eq(i64,
                 cm_test_number(world.pg, "SELECT count(*) FROM " CM_TEST_ADMIN ".dead_letters"
                                          " WHERE tenant = 'z'"),
                 0));
    tear_down(&world);
}
