#include "runtime/cleanup.h"
#include "schema/audit_chain.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

#define KEY "correct horse battery staple"

static cm_audit_row_t example(const char *key_id)
{
    cm_audit_row_t row = {.position = 7,
                          .at_us = 1795219200123456,
                          .generation = 3,
                          .actor = CM_STR("operator:1000"),
                          .action = CM_STR("tenant-activated"),
                          .tenant = CM_STR("42"),
                          .detail = CM_STR("{\"devices\": 12}"),
                          .key_id = cm_str(key_id)};
    for (unsigned i = 0; i < CM_AUDIT_HASH_BYTES; i++)
        row.previous_hash[i] = (unsigned char)i;
    return row;
}

static void expect_hash(const char *key, const cm_audit_row_t *row, const char *expected)
{
    CM_CLEANUP(cm_audit_chain_destroy) cm_audit_chain_t *chain = cm_audit_chain_new(key);
    cm_audit_head_t head = {.position = row->position};
    char text[CM_AUDIT_HEAD_TEXT_MAX];
    cm_audit_chain_hash(chain, row, head.hash);
    cr_expect(eq(str, (char *)cm_audit_head_text(&head, text), (char *)expected));
}

/* The expected values were computed by Python's hashlib and hmac from the description in the
 * header.
 */
Test(audit_chain, a_row_with_key_hashes_as_documented)
{
    cm_audit_row_t row = example("21e94459a8c2159d");
    expect_hash(KEY, &row, "7:55ebf6a5318fb08b00c58b8326799384229b84341a633ccda6c38f6a4eb16ffa");
}

Test(audit_chain, a_row_without_key_hashes_as_documented)
{
    cm_audit_row_t row = example("");
    expect_hash(NULL, &row, "7:ae3c869f7d0e8a5cad31a6757231382b2aefa9d2a7b5ec63288735633cb3b3af");
    expect_hash(KEY, &row, "7:ae3c869f7d0e8a5cad31a6757231382b2aefa9d2a7b5ec63288735633cb3b3af");
}

Test(audit_chain, a_key_is_named_as_documented)
{
    CM_CLEANUP(cm_audit_chain_destroy) cm_audit_chain_t *chain = cm_audit_chain_new(KEY);
    CM_CLEANUP(cm_audit_chain_destroy) cm_audit_chain_t *none = cm_audit_chain_new("");
    cr_expect(eq(str, (char *)cm_audit_chain_key_id(chain), "21e94459a8c2159d"));
    cr_expect(eq(str, (char *)cm_audit_chain_key_id(none), ""));
}

Test(audit_chain, bytes_that_move_to_the_next_field_change_the_hash)
{
    CM_CLEANUP(cm_audit_chain_destroy) cm_audit_chain_t *chain = cm_audit_chain_new(NULL);
    unsigned char one[CM_AUDIT_HASH_BYTES], other[CM_AUDIT_HASH_BYTES];
    cm_audit_row_t row = example("");
    row.actor = CM_STR("ab");
    row.action = CM_STR("c");
    cm_audit_chain_hash(chain, &row, one);
    row.actor = CM_STR("a");
    row.action = CM_STR("bc");
    cm_audit_chain_hash(chain, &row, other);
    cr_expect(ne(int, memcmp(one, other, sizeof one), 0));
}

Test(audit_chain, a_head_is_read_back_from_its_text)
{
    cm_audit_head_t head = {.position = INT64_MAX}, back;
    char text[CM_AUDIT_HEAD_TEXT_MAX];
    memset(head.hash, 0xe7, sizeof head.hash);
    cr_assert(cm_audit_head_parse(cm_audit_head_text(&head, text), &back));
    cr_expect(eq(i64, back.position, INT64_MAX));
    cr_expect(eq(int, memcmp(back.hash, head.hash, sizeof head.hash), 0));
}

Test(audit_chain, what_is_no_head_is_refused)
{
#define HEX_62 "55ebf6a5318fb08b00c58b8326799384229b84341a633ccda6c38f6a4eb16f"
    static const char *const wrong[] = {"",
                                        "7",
                                        "7:",
                                        "7:" HEX_62,
                                        "7:" HEX_62 "fg",
                                        "7:" HEX_62 "fa0",
                                        "0:" HEX_62 "fa",
                                        "-1:" HEX_62 "fa",
                                        ":" HEX_62 "fa",
                                        "x:" HEX_62 "fa",
                                        "9223372036854775808:" HEX_62 "fa"};
    for (size_t i = 0; i < CM_LENGTH(wrong); i++) {
        cm_audit_head_t head;
        cr_expect(not(cm_audit_head_parse(wrong[i], &head)), "%s", wrong[i]);
    }
}
