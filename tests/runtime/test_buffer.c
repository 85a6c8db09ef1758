#include "runtime/buffer.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

Test(buffer, appended_bytes_stand_one_after_the_other)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t buffer = {0};
    cm_buffer_append(&buffer, "a\0b", 3);
    cm_buffer_append(&buffer, "c", 1);
    cr_expect(eq(sz, buffer.len, 4));
    cr_expect(zero(int, memcmp(buffer.data, "a\0bc", 4)));
}

Test(buffer, nothing_appended_allocates_nothing)
{
    cm_buffer_t buffer = {0};
    cm_buffer_append(&buffer, NULL, 0);
    cr_expect(eq(ptr, buffer.data, NULL));
}

Test(buffer, it_grows_and_keeps_what_it_held)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t buffer = {0};
    for (int i = 0; i < 10000; i++)
        cm_buffer_printf(&buffer, "%04d", i);
    cr_assert(eq(sz, buffer.len, 40000));
    cr_expect(zero(int, strncmp(cm_buffer_text(&buffer) + 4 * 1234, "12341235", 8)));
}

Test(buffer, reserved_room_is_used_without_moving)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t buffer = {0};
    cm_buffer_reserve(&buffer, 5000);
    const char *before = buffer.data;
    for (int i = 0; i < 5000; i++)
        cm_buffer_append(&buffer, "x", 1);
    cr_expect(eq(ptr, buffer.data, (void *)before));
}

Test(buffer, printf_adds_no_terminator_to_the_length)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t buffer = {0};
    cm_buffer_printf(&buffer, "%s-%d", "a", 5);
    cm_buffer_printf(&buffer, "%s", "");
    cr_expect(eq(sz, buffer.len, 3));
    cr_expect(eq(str, (char *)cm_buffer_text(&buffer), "a-5"));
    cr_expect(eq(sz, buffer.len, 3));
}

Test(buffer, the_text_of_an_empty_buffer_is_empty)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t buffer = {0};
    cr_expect(eq(str, (char *)cm_buffer_text(&buffer), ""));
}

Test(buffer, text_fits_where_the_capacity_just_ends)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t buffer = {0};
    cm_buffer_reserve(&buffer, 1);
    size_t cap = buffer.cap;
    for (size_t i = 0; i < cap; i++)
        cm_buffer_append(&buffer, "y", 1);
    cr_expect(eq(sz, strlen(cm_buffer_text(&buffer)), cap));
}

Test(buffer, clear_keeps_the_memory_and_destroy_is_safe_twice)
{
    cm_buffer_t buffer = {0};
    cm_buffer_append(&buffer, "abc", 3);
    const char *before = buffer.data;
    cm_buffer_clear(&buffer);
    cr_expect(eq(sz, buffer.len, 0));
    cr_expect(eq(ptr, buffer.data, (void *)before));
    cm_buffer_destroy(&buffer);
    cm_buffer_destroy(&buffer);
    cr_expect(eq(ptr, buffer.data, NULL));
    cr_expect(eq(sz, buffer.cap, 0));
}
