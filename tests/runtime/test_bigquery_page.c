#include "runtime/bigquery_page.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

enum { COLUMNS = 2 };

static void collect(void *ctx, const cm_str_t *values)
{
    cm_buffer_t *rows = ctx;
    for (size_t i = 0; i < COLUMNS; i++)
        cm_buffer_printf(rows, "%s%.*s", i ? "," : "", values[i].ptr ? (int)values[i].len : 4,
                         values[i].ptr ? values[i].ptr : "NULL");
    cm_buffer_append(rows, ";", 1);
}

typedef struct {
    cm_bigquery_page_t *page;
    cm_buffer_t rows;
    cm_error_t err;
} world_t;

static void set_up(world_t *self)
{
    self->page = cm_bigquery_page_new(COLUMNS, collect, &self->rows);
}

static void tear_down(world_t *self)
{
    cm_bigquery_page_destroy(&self->page);
    cm_buffer_destroy(&self->rows);
}

/* Read text in pieces of that many bytes. */
static cm_status_t read_in(world_t *self, const char *text, size_t bytes)
{
    size_t len = strlen(text);
    cm_buffer_clear(&self->rows);
    cm_bigquery_page_reset(self->page);
    for (size_t at = 0; at < len; at += bytes) {
        cm_str_t piece = {text + at, len - at < bytes ? len - at : bytes};
        cm_status_t status = cm_bigquery_page_feed(self->page, piece, &self->err);
        if (status != CM_OK)
            return status;
    }
    return cm_bigquery_page_end(self->page, &self->err);
}

Test(bigquery_page, rows_token_and_total_are_told_wherever_the_bytes_are_parted)
{
    static const char text[] =
        "{\"kind\":\"k\",\"schema\":{\"fields\":[{\"name\":\"rows\",\"f\":[1]}]},"
        "\"rows\":[{\"f\":[{\"v\":\"1001\"},{\"v\":null}]},"
        "{\"x\":{\"f\":[]},\"f\":[{\"v\":\"a\\u00e9\\n\"},{\"note\":[true],\"v\":\"\"}]}],"
        "\"totalRows\":\"17\",\"pageToken\":\"next=\",\"jobComplete\":true,\"errors\":[{}]} \n";
    world_t world = {0};
    set_up(&world);
    for (size_t bytes = 1; bytes <= sizeof text; bytes++) {
        cr_assert(eq(int, read_in(&world, text, bytes), CM_OK), "%s", world.err.message);
        cr_assert(eq(str, (char *)cm_buffer_text(&world.rows), "1001,NULL;a\xc3\xa9\n,;"));
        cm_bigquery_page_info_t info = cm_bigquery_page_info(world.page);
        cr_expect(info.complete);
        cr_expect(eq(llong, info.total_rows, 17));
        cr_expect(eq(llong, info.row_count, 2));
        cr_expect(eq(str, (char *)info.token, "next="));
    }
    tear_down(&world);
}

Test(bigquery_page, a_page_without_rows_token_or_total_is_one)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, read_in(&world, "{\"jobComplete\":false,\"rows\":[]}", 5), CM_OK));
    cm_bigquery_page_info_t info = cm_bigquery_page_info(world.page);
    cr_expect(not(info.complete));
    cr_expect(eq(llong, info.total_rows, -1));
    cr_expect(eq(str, (char *)info.token, ""));
    tear_down(&world);
}

Test(bigquery_page, what_is_no_page_is_malformed)
{
    static const char *const texts[] = {
        "",
        "[]",
        "7",
        "{",
        "{\"rows\":[",
        "{\"rows\":7}",
        "{\"rows\":null}{}",
        "{} {}",
        "{\"rows\":[7]}",
        "{\"rows\":[null]}",
        "{\"rows\":[[]]}",
        "{\"rows\":[{}]}",
        "{\"rows\":[{\"f\":7}]}",
        "{\"rows\":[{\"f\":null}]}",
        "{\"rows\":[{\"f\":[]}]}",
        "{\"rows\":[{\"f\":[{\"v\":\"1\"}]}]}",
        "{\"rows\":[{\"f\":[{\"v\":\"1\"},{\"v\":\"2\"},{\"v\":\"3\"}]}]}",
        "{\"rows\":[{\"f\":[{\"v\":\"1\",\"v\":\"2\"}]}]}",
        "{\"rows\":[{\"f\":[{\"v\":\"1\"},{}]}]}",
        "{\"rows\":[{\"f\":[{\"v\":1},{\"v\":2}]}]}",
        "{\"rows\":[{\"f\":[{\"v\":[]},{\"v\":\"2\"}]}]}",
        "{\"rows\":[{\"f\":[{\"v\":\"1\"},{\"v\":\"2\"}],\"f\":[]}]}",
        "{\"rows\":[],\"rows\":[]}",
        "{\"totalRows\":\"many\"}",
        "{\"totalRows\":-1}",
        "{\"totalRows\":[]}",
        "{\"pageToken\":7}",
        "{\"pageToken\":\"\"}",
        "{\"pageToken\":\"a\\u0000b\"}",
        "{\"jobComplete\":\"yes\"}",
        "{\"rows\":[{\"f\":[{\"v\":\"\xff\"},{\"v\":\"2\"}]}]}",
        "<html>",
    };
    world_t world = {0};
    set_up(&world);
    for (size_t i = 0; i < CM_LENGTH(texts); i++) {
        cr_expect(eq(int, read_in(&world, texts[i], 4096), CM_PERMANENT), "%s", texts[i]);
        cr_expect(eq(str, world.err.code, "malformed"));
    }
    tear_down(&world);
}

Test(bigquery_page, bytes_behind_a_fault_are_not_taken)
{
    world_t world = {0};
    set_up(&world);
    cr_assert(eq(int, cm_bigquery_page_feed(world.page, CM_STR("{\"rows\":true"), &world.err),
                 CM_PERMANENT));
    cr_expect(eq(int, cm_bigquery_page_feed(world.page, CM_STR("}"), &world.err), CM_PERMANENT));
    cr_expect(eq(int, cm_bigquery_page_end(world.page, &world.err), CM_PERMANENT));
    tear_down(&world);
}

Test(bigquery_page, a_row_a_token_and_nesting_have_bounds)
{
    world_t world = {0};
    set_up(&world);
    cm_buffer_t text = {0};
    cm_buffer_printf(&text, "{\"rows\":[{\"f\":[{\"v\":\"%0*d\"},{\"v\":\"\"}]}]}",
                     CM_BIGQUERY_ROW_BYTES_MAX, 7);
    cr_expect(eq(int, read_in(&world, cm_buffer_text(&text), text.len), CM_OK), "%s",
              world.err.message);
    cm_buffer_clear(&text);
    cm_buffer_printf(&text, "{\"rows\":[{\"f\":[{\"v\":\"%0*d\"},{\"v\":\"x\"}]}]}",
                     CM_BIGQUERY_ROW_BYTES_MAX, 7);
    cr_expect(eq(int, read_in(&world, cm_buffer_text(&text), text.len), CM_PERMANENT));
    cm_buffer_clear(&text); /* a text that never ends */
    cm_buffer_printf(&text, "{\"note\":\"%0*d", CM_BIGQUERY_ROW_BYTES_MAX * 2, 7);
    cr_expect(eq(int, read_in(&world, cm_buffer_text(&text), 16384), CM_PERMANENT));
    cm_buffer_clear(&text);
    cm_buffer_printf(&text, "{\"pageToken\":\"%0*d\"}", CM_BIGQUERY_TOKEN_MAX, 7);
    cr_expect(eq(int, read_in(&world, cm_buffer_text(&text), 16384), CM_PERMANENT));
    cm_buffer_clear(&text);
    cm_buffer_printf(&text, "{\"note\":%.*s", 40, "[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[");
    cr_expect(eq(int, read_in(&world, cm_buffer_text(&text), 16384), CM_PERMANENT));
    cm_buffer_destroy(&text);
    tear_down(&world);
}
