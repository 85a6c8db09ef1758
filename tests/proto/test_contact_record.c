#include "proto/contact_record.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#define NOW INT64_C(1795190400000)

typedef struct {
    cm_arena_t *arena;
    cm_contact_csv_t csv;
    cm_contact_t contact;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    *self = (world_t){.arena = cm_arena_new(4096)};
}

static void tear_down(world_t *self)
{
    cm_arena_destroy(&self->arena);
}

static cm_status_t json(world_t *self, const char *line)
{
    return cm_contact_from_json(cm_str(line), NOW, self->arena, &self->contact, &self->err);
}

static cm_status_t head(world_t *self, const char *line)
{
    return cm_contact_csv_head(cm_str(line), self->arena, &self->csv, &self->err);
}

static cm_status_t csv(world_t *self, const char *line)
{
    return cm_contact_from_csv(&self->csv, cm_str(line), NOW, self->arena, &self->contact,
                               &self->err);
}

static void expect_contact(const world_t *self, const char *customer, int64_t contact, int64_t ms)
{
    cr_expect(eq(str, (char *)self->contact.customer_id, (char *)customer));
    cr_expect(eq(llong, self->contact.contact_id, contact));
    cr_expect(eq(llong, self->contact.deleted_ms, ms));
}

Test(contact_record, names_of_columns_are_known_in_every_case_and_with_underscores)
{
    cr_expect(eq(int, cm_contact_column(CM_STR("customerId")), CM_CONTACT_CUSTOMER_ID));
    cr_expect(eq(int, cm_contact_column(CM_STR("CONTACT_ID")), CM_CONTACT_CONTACT_ID));
    cr_expect(eq(int, cm_contact_column(CM_STR("deleted_at")), CM_CONTACT_DELETED_AT));
    cr_expect(eq(int, cm_contact_column(CM_STR("deleted")), -1));
    cr_expect(eq(int, cm_contact_column(CM_STR("deletedAtAll")), -1));
    cr_expect(eq(int, cm_contact_column(CM_STR("")), -1));
    cr_expect(eq(int, cm_contact_column(CM_STR_NONE), -1));
}

Test(contact_record, a_line_of_json_is_a_message_of_contact_deletion)
{
    world_t world;
    set_up(&world);
    cr_assert(eq(int,
                 json(&world, "{\"customerId\": 218524530, \"contactId\": 77120011, \"deletedAt\": "
                              "\"2026-11-20T16:00:00Z\", \"more\": [1]}"),
                 CM_OK),
              "%s", world.err.message);
    expect_contact(&world, "218524530", 77120011, INT64_C(1795190400000));
    cr_assert(eq(int,
                 json(&world, "{\"contact_id\": -5, \"deleted_at\": 1000, \"customer_id\": "
                              "\"6A2F4BD8-6D5C-4A53-9DD3-21C8F0F0A6A1\"}"),
                 CM_OK));
    expect_contact(&world, "6a2f4bd86d5c4a539dd321c8f0f0a6a1", -5, 1000);
    tear_down(&world);
}

Test(contact_record, a_line_of_json_that_is_none_is_told_without_its_values)
{
    static const struct {
        const char *line, *code;
    } cases[] = {
        {"", "malformed"},
        {"[]", "malformed"},
        {"{\"customerId\":1,\"contactId\":2}", "malformed"},
        {"{\"customerId\":1,\"deletedAt\":2}", "malformed"},
        {"{\"contactId\":1,\"deletedAt\":2}", "malformed"},
        {"{\"customerId\":1,\"contactId\":null,\"deletedAt\":2}", "malformed"},
        {"{\"customerId\":1,\"contactId\":\"jane\",\"deletedAt\":2}", "malformed"},
        {"{\"customerId\":1,\"contactId\":9223372036854775808,\"deletedAt\":2}", "malformed"},
        {"{\"customerId\":1,\"contactId\":2,\"contact_id\":3,\"deletedAt\":2}", "malformed"},
        {"{\"customerId\":\"a b\",\"contactId\":2,\"deletedAt\":2}", "invalid-tenant"},
        {"{\"customerId\":1,\"contactId\":2,\"deletedAt\":\"yesterday\"}", "bad-time"},
        {"{\"customerId\":1,\"contactId\":2,\"deletedAt\":1795290400000}", "bad-time"},
    };
    world_t world;
    set_up(&world);
    for (size_t i = 0; i < CM_LENGTH(cases); i++) {
        cr_expect(eq(int, json(&world, cases[i].line), CM_PERMANENT), "%s", cases[i].line);
        cr_expect(eq(str, world.err.code, (char *)cases[i].code), "%s", cases[i].line);
        cr_expect(eq(ptr, strstr(world.err.message, "jane"), NULL));
    }
    tear_down(&world);
}

Test(contact_record, a_line_of_csv_is_read_by_the_names_of_the_first)
{
    world_t world;
    set_up(&world);
    cr_assert(eq(int, head(&world, "note,\"Contact_Id\",deletedAt,customer_id"), CM_OK), "%s",
              world.err.message);
    cr_assert(eq(int, csv(&world, "\"a, \"\"b\"\"\",42,2026-11-20T17:00:00+01:00,\"1001\""), CM_OK),
              "%s", world.err.message);
    expect_contact(&world, "1001", 42, INT64_C(1795190400000));
    cr_assert(eq(int, csv(&world, ",7,1000,acme"), CM_OK));
    expect_contact(&world, "acme", 7, 1000);
    tear_down(&world);
}

Test(contact_record, a_first_line_of_csv_must_name_each_value_once)
{
    static const char *const lines[] = {
        "", "customerId,contactId", "customerId,contactId,deletedAt,contact_id",
        "customerId,contactId,\"deletedAt", "1001,42,2026-11-20T17:00:00Z"};
    world_t world;
    set_up(&world);
    for (size_t i = 0; i < CM_LENGTH(lines); i++)
        cr_expect(eq(int, head(&world, lines[i]), CM_PERMANENT), "%s", lines[i]);
    tear_down(&world);
}

Test(contact_record, a_line_of_csv_that_is_none_is_told)
{
    static const char *const lines[] = {"1,2",      "1,2,3,4", ",2,3",        "1,,3",    "1,2,",
                                        "a\"b,2,3", "\"1,2,3", "\"1\"x,2,3",  "1,2.5,3", "1,2,3.5",
                                        "1,2,soon", "a b,2,3", "1,\"2\"\",3", "1,2,-5"};
    world_t world;
    set_up(&world);
    cr_assert(eq(int, head(&world, "customerId,contactId,deletedAt"), CM_OK));
    for (size_t i = 0; i < CM_LENGTH(lines); i++) {
        cr_expect(eq(int, csv(&world, lines[i]), CM_PERMANENT), "%s", lines[i]);
        cr_expect(world.err.code[0] && world.err.message[0]);
    }
    tear_down(&world);
}

Test(contact_record, a_line_of_csv_has_at_most_so_many_fields)
{
    world_t world;
    char line[256] = "customerId,contactId,deletedAt";
    set_up(&world);
    memset(line + strlen(line), ',', CM_CONTACT_COLUMNS_MAX - 3);
    cr_expect(eq(int, head(&world, line), CM_OK), "%s", world.err.message);
    strcat(line, ",");
    cr_expect(eq(int, head(&world, line), CM_PERMANENT));
    tear_down(&world);
}
