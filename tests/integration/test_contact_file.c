/* Deleted contacts from a file: lines that are none, files that change, and what cannot be read. */
#include "tests/integration/contact_source_case.h"

TestSuite(contact_file, .timeout = 60);

#define GOOD(id) "{\"customerId\":1001,\"contactId\":" #id ",\"deletedAt\":1700000000000}\n"

Test(contact_file, malformed_lines_are_counted_up_to_a_limit, .init = begin_file, .fini = end_file)
{
    size_t count;
    world.options.malformed_max = 2;
    write_file("\xef\xbb\xbf" GOOD(1) "\n\r\n{\"customerId\":1001}\n" GOOD(2) "no\n" GOOD(3));
    must_begin("1001", 0, NULL);
    read_all(100);
    expect_each_once(1, 3);
    expect_malformed(2, "line 4: contactId: is missing");
    world.options.malformed_max = 1;
    open_source();
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(100, &count), CM_OK)); /* what came before is given */
    cr_expect(eq(sz, count, 2));
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    cr_expect(eq(int, next(100, &count), CM_PERMANENT));
    cr_expect(eq(str, world.err.code, "malformed"));
    cr_expect(ne(ptr, strstr(world.err.message, "line 6"), NULL));
    world.options.malformed_max = 0;
    open_source(); /* whoever comes back meets it again */
    must_begin("1001", 0, checkpoint);
    cr_expect(eq(int, next(100, &count), CM_PERMANENT));
    cr_expect(ne(ptr, strstr(world.err.message, "line 6"), NULL));
}

Test(contact_file, a_line_that_is_too_long_is_one_malformed_line, .init = begin_file,
     .fini = end_file)
{
    cm_buffer_t text = {0};
    world.options.malformed_max = 2;
    cm_buffer_printf(&text, "%s{\"x\":\"%0*d\"}\n%s{\"x\":\"%0*d", GOOD(1), 700000, 7, GOOD(2),
                     300000, 7);
    write_file(cm_buffer_text(&text));
    cm_buffer_destroy(&text);
    must_begin("1001", 0, NULL);
    read_all(100);
    expect_each_once(1, 2);
    expect_malformed(2, "line 2: (line): more than 65536 bytes");
}

Test(contact_file, the_last_line_of_json_needs_no_end, .init = begin_file, .fini = end_file)
{
    write_file(GOOD(1) "{\"customerId\":1001,\"contactId\":2,\"deletedAt\":1700000000000}");
    must_begin("1001", 0, NULL);
    read_all(1);
    expect_each_once(1, 2);
}

static void add_to_file(const char *text)
{
    FILE *file = fopen(world.path, "a");
    fputs(text, file);
    fclose(file);
}

Test(contact_file, of_csv_it_does_or_its_number_may_be_cut, .init = begin_file, .fini = end_file)
{
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    world.options.malformed_max = 1;
    write_file("customer_id,deleted_at,contact_id\n1001,1700000000000,1\n1001,1700000000000,1");
    must_begin("1001", 0, NULL);
    read_all(100);
    expect_each_once(1, 1);
    expect_malformed(1, "line 3: (line): without an end");
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    add_to_file("2\n");
    must_begin("1001", 0, checkpoint);
    cr_expect(cm_contact_source_resumed(world.source));
    read_all(100);
    cr_expect(eq(int, world.seen[12], 1));
    cr_expect(eq(llong, world.given, 2));
}

Test(contact_file, a_cut_line_is_met_again_when_it_is_whole, .init = begin_file, .fini = end_file)
{
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    world.options.malformed_max = 1;
    write_file(GOOD(1) "{\"customerId\":1001,\"contactId\":2");
    must_begin("1001", 0, NULL);
    read_all(100);
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    add_to_file("3,\"deletedAt\":1700000000000}\n");
    must_begin("1001", 0, checkpoint);
    read_all(100);
    cr_expect(eq(int, world.seen[23], 1));
    cr_expect(eq(llong, world.given, 2));
}

Test(contact_file, an_empty_file_holds_none, .init = begin_file, .fini = end_file)
{
    must_begin("1001", 0, NULL);
    read_all(1);
    cr_expect(eq(llong, world.given, 0));
}

Test(contact_file, a_file_that_was_replaced_is_read_from_its_beginning, .init = begin_json_contacts,
     .fini = end_file)
{
    size_t count;
    char checkpoint[CM_CONTACT_CHECKPOINT_MAX];
    must_begin("1001", 0, NULL);
    cr_assert(eq(int, next(100, &count), CM_OK));
    snprintf(checkpoint, sizeof checkpoint, "%s", cm_contact_source_checkpoint(world.source));
    write_contacts(true);
    must_begin("1001", 0, checkpoint);
    cr_expect(not(cm_contact_source_resumed(world.source)));
    read_all(5000);
    for (int i = 1; i <= CONTACTS; i++)
        cr_assert(world.seen[i] >= 1);
}

Test(contact_file, a_file_that_cannot_be_read_is_told, .init = begin_file, .fini = end_file)
{
    write_file("customerId,contactId\n");
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_MISCONFIGURED));
    cr_expect(ne(ptr, strstr(world.err.message, "deletedAt"), NULL));
    world.options.path = "/tmp";
    open_source();
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_MISCONFIGURED));
    world.options.path = "/nowhere/contacts";
    open_source();
    cr_expect(eq(int, begin_at("1001", 0, NULL), CM_MISCONFIGURED));
    cr_expect(eq(str, world.err.code, "file"));
}

Test(contact_file, a_source_without_what_it_needs_is_not_opened)
{
    cm_contact_source_t *source = NULL;
    cm_error_t err = {0};
    for (int kind = CM_CONTACT_SOURCE_BIGQUERY; kind <= CM_CONTACT_SOURCE_FILE; kind++) {
        cm_contact_source_options_t options = {.kind = (cm_contact_source_kind_t)kind};
        cr_expect(eq(int, cm_contact_source_open(&source, &options, &err), CM_MISCONFIGURED));
        cr_expect(ne(ptr, strstr(err.message, cm_contact_source_kind_name(options.kind)), NULL));
    }
    cm_contact_source_options_t options = {.kind = CM_CONTACT_SOURCE_POSTGRES, .query = "x"};
    cr_expect(eq(int, cm_contact_source_open(&source, &options, &err), CM_MISCONFIGURED));
    cr_expect(eq(ptr, source, NULL));
}
