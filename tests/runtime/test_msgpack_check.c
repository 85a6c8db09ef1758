#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "runtime/msgpack_check.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <msgpack.h>
#include <string.h>

static bool check(const char *bytes, size_t len, size_t *ret_used)
{
    return cm_msgpack_check(bytes, len, CM_MSGPACK_DEPTH, ret_used);
}

#define CHECK(literal, ret_used) check((literal), sizeof(literal) - 1, (ret_used))

static int write_buffer(void *buffer, const char *bytes, size_t len)
{
    cm_buffer_append(buffer, bytes, len);
    return 0;
}

static void pack_one_of_each(msgpack_packer *packer)
{
    static const uint32_t sizes[] = {0, 31, 32, 255, 256, 65535, 65536};
    static const char zeros[65536];
    msgpack_pack_array(packer, 10 + 3 * (sizeof sizes / sizeof sizes[0]));
    msgpack_pack_nil(packer);
    msgpack_pack_true(packer);
    msgpack_pack_int64(packer, -1);
    msgpack_pack_int64(packer, INT64_MIN);
    msgpack_pack_uint64(packer, UINT64_MAX);
    msgpack_pack_uint32(packer, 40000);
    msgpack_pack_float(packer, 1.5f);
    msgpack_pack_double(packer, 0.1);
    msgpack_pack_map(packer, 1);
    msgpack_pack_int(packer, 1);
    msgpack_pack_array(packer, 0);
    msgpack_pack_ext_with_body(packer, zeros, 16, 5);
    for (size_t i = 0; i < CM_LENGTH(sizes); i++) {
        msgpack_pack_str_with_body(packer, zeros, sizes[i]);
        msgpack_pack_bin_with_body(packer, zeros, sizes[i]);
        msgpack_pack_ext_with_body(packer, zeros, sizes[i] ? sizes[i] : 1, 7);
    }
}

Test(msgpack_check, every_kind_of_value_is_accepted_to_its_last_byte)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t buffer = {0};
    msgpack_packer packer;
    msgpack_packer_init(&packer, &buffer, write_buffer);
    pack_one_of_each(&packer);
    size_t used = 0;
    cr_assert(check(buffer.data, buffer.len, &used));
    cr_assert(eq(sz, used, buffer.len));
}

Test(msgpack_check, a_value_cut_anywhere_is_refused)
{
    static const char value[] = "\x82\xa1"
                                "a\xd9\x02xy\xcc\x80\x93\xc0\xcb\0\0\0\0\0\0\0\0\xc7\x01\x05z";
    size_t len = sizeof value - 1, used = 0;
    cr_assert(check(value, len, &used));
    cr_assert(eq(sz, used, len));
    for (size_t cut = 0; cut < len; cut++)
        cr_expect(not(check(value, cut, NULL)), "cut at %zu", cut);
}

Test(msgpack_check, counts_beyond_the_frame_are_refused)
{
    cr_expect(not(CHECK("\xdd\x10\x00\x00\x00", NULL)), "array 32");
    cr_expect(not(CHECK("\xdf\x10\x00\x00\x00", NULL)), "map 32");
    cr_expect(not(CHECK("\xdf\xff\xff\xff\xff", NULL)),
              "map 32, twice the count overflows 32 bits");
    cr_expect(not(CHECK("\xdb\xff\xff\xff\xff", NULL)), "str 32");
    cr_expect(not(CHECK("\xc6\xff\xff\xff\xff", NULL)), "bin 32");
    cr_expect(not(CHECK("\xc9\xff\xff\xff\xff\x01", NULL)), "ext 32");
    cr_expect(not(CHECK("\xdc\x00\x03\x01\x01", NULL)), "array 16, one short");
    cr_expect(not(CHECK("\xde\x00\x01\x01", NULL)), "map 16, value missing");
}

Test(msgpack_check, the_unused_tag_is_refused)
{
    cr_expect(not(CHECK("\xc1", NULL)));
    cr_expect(not(CHECK("\x91\xc1", NULL)));
}

Test(msgpack_check, nothing_is_not_a_value)
{
    cr_expect(not(cm_msgpack_check(NULL, 0, CM_MSGPACK_DEPTH, NULL)));
}

Test(msgpack_check, bytes_after_the_value_are_left_to_the_caller)
{
    size_t used = 0;
    cr_assert(CHECK("\x91\x01\xff\xff", &used));
    cr_expect(eq(sz, used, 2));
}

Test(msgpack_check, nesting_is_accepted_up_to_the_limit_and_no_further)
{
    for (size_t limit = 0; limit <= CM_MSGPACK_DEPTH_MAX; limit++) {
        char value[CM_MSGPACK_DEPTH_MAX + 2];
        memset(value, '\x91', sizeof value); /* arrays of one, the last holds an integer */
        value[limit] = 1;
        cr_expect(cm_msgpack_check(value, limit + 1, limit, NULL), "depth %zu", limit);
        value[limit] = '\x90'; /* an empty array is a level too */
        cr_expect(not(cm_msgpack_check(value, limit + 1, limit, NULL)), "depth %zu + 1", limit);
    }
}
