/* Watermarks: what is kept of one, and when it moves. */
#include "actors/contact_marks.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdlib.h>
#include <string.h>

TestSuite(contact_marks, .timeout = 10);

static cm_contact_mark_t fresh(void)
{
    return (cm_contact_mark_t){
        .tenant = "1001", .generation = 2, .watermark_ms = CM_CONTACT_MS_NONE};
}

static void free_mark(cm_contact_mark_t *mark)
{
    free(mark->source);
}

Test(contact_marks, a_mark_is_read_as_it_was_put)
{
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    CM_CLEANUP(free_mark) cm_contact_mark_t read = fresh();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    mark.watermark_ms = 500;
    cm_contact_mark_begin(&mark, 7, 950, 400);
    mark.newest_ms = 900;
    mark.counts = (cm_contact_counts_t){1, 2, 3, 4, 5, CM_CONTACT_MS_NONE};
    mark.resumed = 3;
    cm_contact_mark_set_source(&mark, "bigquery 12 EU job-1");
    cm_contact_mark_put(&mark, 0xabc, &text);
    cr_assert(cm_contact_mark_read(&read, 0xabc, (cm_str_t){text.data, text.len}));
    cr_expect(eq(i64, read.watermark_ms, 500));
    cr_expect(eq(i64, read.pass, 7));
    cr_expect(eq(i64, read.resumed, 3));
    cr_expect(eq(i64, read.counted_run, 7));
    cr_expect(eq(i64, read.begun_ms, 950));
    cr_expect(eq(i64, read.since_ms, 400));
    cr_expect(eq(i64, read.newest_ms, 900));
    cr_expect(zero(int, memcmp(&read.counts, &mark.counts, sizeof mark.counts)));
    cr_expect(eq(str, read.source, "bigquery 12 EU job-1"));
    cr_expect(not(read.dirty));
}

Test(contact_marks, a_mark_of_another_source_or_generation_or_none_is_left)
{
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    CM_CLEANUP(free_mark) cm_contact_mark_t read = fresh();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    mark.watermark_ms = 500;
    cm_contact_mark_put(&mark, 0xabc, &text);
    cm_str_t put = {text.data, text.len};
    cr_expect(not(cm_contact_mark_read(&read, 0xabd, put)));
    read.generation = 3;
    cr_expect(not(cm_contact_mark_read(&read, 0xabc, put)));
    read.generation = 2;
    for (size_t len = 0; len < 30; len++)
        cr_expect(not(cm_contact_mark_read(&read, 0xabc, (cm_str_t){text.data, len})));
    cr_expect(not(cm_contact_mark_read(&read, 0xabc, CM_STR("nonsense"))));
    cr_expect(eq(i64, read.watermark_ms, CM_CONTACT_MS_NONE));
    cr_expect(cm_contact_mark_read(&read, 0xabc, put));
    cr_expect(eq(ptr, read.source, NULL));
}

Test(contact_marks, the_longest_mark_fits_into_a_checkpoint)
{
    char source[512];
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    memset(source, 'x', sizeof source);
    source[sizeof source - 1] = '\0';
    mark.generation = mark.watermark_ms = mark.done_run = mark.pass = mark.counted_run = INT64_MIN;
    mark.resumed = INT64_MIN;
    mark.begun_ms = mark.since_ms = mark.newest_ms = INT64_MIN;
    mark.counts =
        (cm_contact_counts_t){INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN};
    cm_contact_mark_set_source(&mark, source);
    cm_contact_mark_put(&mark, UINT64_MAX, &text);
    cr_expect(lt(sz, text.len, CM_JOB_CHECKPOINT_MAX));
}

Test(contact_marks, a_watermark_rises_at_the_end_of_a_pass_and_never_falls)
{
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    cm_contact_mark_begin(&mark, 7, 1000, 0);
    mark.newest_ms = 900;
    cr_expect(eq(i64, mark.watermark_ms, CM_CONTACT_MS_NONE));
    cm_contact_mark_end(&mark, 7);
    cr_expect(eq(i64, mark.watermark_ms, 900));
    cr_expect(eq(i64, mark.done_run, 7));
    cr_expect(eq(i64, mark.pass, 0));
    cm_contact_mark_begin(&mark, 8, 1000, 800);
    mark.newest_ms = 850;
    cm_contact_mark_end(&mark, 8);
    cr_expect(eq(i64, mark.watermark_ms, 900));
    cm_contact_mark_begin(&mark, 9, 1000, 800); /* nothing came */
    cm_contact_mark_end(&mark, 9);
    cr_expect(eq(i64, mark.watermark_ms, 900));
}

Test(contact_marks, no_watermark_passes_the_beginning_of_its_pass)
{
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    CM_CLEANUP(free_mark) cm_contact_mark_t whole = fresh();
    cm_contact_mark_begin(&mark, 7, 1000, 0);
    mark.newest_ms = 5000;
    cm_contact_mark_go_on(&mark, 8); /* later, by the same query */
    cm_contact_mark_raise(&whole, &mark, mark.newest_ms);
    cm_contact_mark_end(&mark, 8);
    cr_expect(eq(i64, mark.watermark_ms, 1000));
    cr_expect(eq(i64, whole.watermark_ms, 1000));
    cm_contact_mark_raise(&mark, &mark, 2000);
    cr_expect(eq(i64, mark.watermark_ms, 1000));
}

Test(contact_marks, a_pass_that_is_given_up_moves_nothing)
{
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    cm_contact_mark_begin(&mark, 7, 1000, 0);
    mark.newest_ms = 900;
    cm_contact_mark_set_source(&mark, "file 1 1 x");
    cm_contact_mark_drop(&mark);
    cr_expect(eq(i64, mark.watermark_ms, CM_CONTACT_MS_NONE));
    cr_expect(eq(i64, mark.pass, 0));
    cr_expect(eq(ptr, mark.source, NULL));
}

Test(contact_marks, a_later_run_counts_anew_and_keeps_the_rest_of_the_pass)
{
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    cm_contact_mark_begin(&mark, 7, 1000, 300);
    mark.newest_ms = 900;
    mark.counts.published = 10;
    cm_contact_mark_go_on(&mark, 7);
    cr_expect(eq(i64, mark.counts.published, 10));
    cm_contact_mark_go_on(&mark, 8);
    cr_expect(eq(i64, mark.counts.published, 0));
    cr_expect(eq(i64, mark.pass, 7));
    cr_expect(eq(i64, mark.since_ms, 300));
    cr_expect(eq(i64, mark.newest_ms, 900));
}

Test(contact_marks, whoever_is_not_taken_along_once_is_out_of_the_pass)
{
    CM_CLEANUP(free_mark) cm_contact_mark_t whole = fresh();
    CM_CLEANUP(free_mark) cm_contact_mark_t mark = fresh();
    cm_contact_mark_begin(&whole, 7, 1000, 0);
    cr_expect(not(cm_contact_mark_is_of(&mark, &whole)));
    cm_contact_mark_begin(&mark, 7, 1000, 0);
    cr_expect(cm_contact_mark_is_of(&mark, &whole));
    cm_contact_mark_go_on(&mark, 7);
    cm_contact_mark_go_on(&whole, 7);
    cr_expect(cm_contact_mark_is_of(&mark, &whole));
    cm_contact_mark_go_on(&whole, 7);
    cr_expect(not(cm_contact_mark_is_of(&mark, &whole)));
}

Test(contact_marks, bytes_that_are_not_known_do_not_count)
{
    cm_contact_counts_t sum = {.billed = CM_CONTACT_MS_NONE};
    cm_contact_counts_add(&sum, &(cm_contact_counts_t){.billed = CM_CONTACT_MS_NONE});
    cr_expect(eq(i64, sum.billed, CM_CONTACT_MS_NONE));
    cm_contact_counts_add(&sum, &(cm_contact_counts_t){.published = 2, .billed = 5});
    cm_contact_counts_add(&sum, &(cm_contact_counts_t){.published = 3, .billed = 6});
    cr_expect(eq(i64, sum.billed, 11));
    cr_expect(eq(i64, sum.published, 5));
}
