/* The contact deletion job: what a pass counts for that was left and is gone on with later. */
#include "tests/integration/contact_job_case.h"

TestSuite(contact_job_resume, .timeout = 60);

/* The run that is begun, or goes on, ends when so many contacts were published. */
static void stop_after(uint64_t rows)
{
    world.stop_at = rows;
    cr_assert(eq(int, call_body(), CM_CANCELLED), "%s", world.err.message);
    world.stop_at = 0;
}

static void must_end(void)
{
    cr_assert(eq(int, call_body(), CM_OK), "%s", world.err.message);
    end_run(CM_RUN_DONE);
}

/* ---- how far a watermark rises --------------------------------------------------------------- */

/* What was deleted from then on the query may not have seen. published: by the run after it. */
static void end_later(const char *queries, long long published)
{
    set("contact_job.queries=%s", queries);
    set("contact_job.page_size=150");
    configure();
    begin_run();
    world.lease.now_ms = FIRST_MS + 500 * 1000;
    stop_after(300);
    world.lease.now_ms += 3600 * 1000;
    must_end();
    forget_stream();
    must_run();
    expect_published(published);
}

Test(contact_job_resume, no_watermark_passes_the_beginning_of_the_pass, .init = begin_postgres,
     .fini = end_world)
{
    end_later("one", 2 * 500);
}

Test(contact_job_resume, nor_that_of_a_pass_of_one_customer, .init = begin_postgres,
     .fini = end_world)
{
    end_later("each", 500 + 1);
}

Test(contact_job_resume, a_customer_asked_for_alone_leaves_the_pass_of_all, .init = begin_postgres,
     .fini = end_world)
{
    set("contact_job.queries=one");
    set("contact_job.page_size=150");
    configure();
    begin_run();
    int64_t run_id = world.run.run_id;
    stop_after(300);
    world.run.tenant = "1002";
    world.run.run_id = 0;
    stop_after(300);
    world.run.tenant = NULL;
    world.run.run_id = run_id;
    must_end();
    cr_expect(eq(llong, told_customers("done"), 1));
    cr_expect(eq(llong, told_customers("skipped"), 1));
    forget_stream();
    must_run(); /* its own pass was not at its end */
    read_stream();
    expect_each(CONTACTS + 1, 2 * CONTACTS, 1, 1);
    cr_expect(eq(llong, world.published, CONTACTS + 1));
}

/* ---- customers that go and come back --------------------------------------------------------- */

static void set_state(const char *state)
{
    cm_test_sql(world.pg, "UPDATE " CM_TEST_ADMIN ".tenants SET state = '%s' WHERE id = '1001'",
                state);
}

/* The newest first: the watermark would be there when the half of them was not taken. */
static void write_backwards(void)
{
    FILE *file = fopen(world.path, "w");
    for (int i = 1; i <= 2 * CONTACTS; i++)
        fprintf(file, "{\"customerId\":%d,\"contactId\":%d,\"deletedAt\":%lld}\n",
                i <= CONTACTS ? 1001 : 1002, i,
                (long long)FIRST_MS + (2 * CONTACTS - i) % CONTACTS * 1000);
    fclose(file);
}

Test(contact_job_resume, whoever_was_suspended_for_a_part_of_the_pass_is_asked_for_again,
     .init = begin_file, .fini = end_file)
{
    write_backwards();
    set("contact_job.page_size=150");
    configure();
    begin_run();
    die_at(500);
    set_state("suspended");
    die_at(1200);
    set_state("active");
    must_end();
    cr_expect(eq(llong, told_customers("done"), 1));
    cr_expect(eq(llong, told_customers("skipped"), 1));
    must_run();
    read_stream();
    expect_each(1, 2 * CONTACTS, 1, 4);
}

/* ---- beside a deletion ----------------------------------------------------------------------- */

static bool waits_for_results(void *arg)
{
    (void)arg;
    return cm_test_number(world.pg, "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation "
                                    "= '" CM_TEST_ADMIN ".job_run_tenants'::regclass") > 0;
}

/* A purge locks the results before the checkpoints: whoever writes both does, too. */
Test(contact_job_resume, a_result_is_written_before_its_mark, .init = begin_postgres,
     .fini = end_world)
{
    configure();
    begin_run();
    cm_test_sql(world.pg, "BEGIN");
    cm_test_sql(world.pg,
                "LOCK TABLE " CM_TEST_ADMIN ".job_run_tenants IN SHARE ROW EXCLUSIVE MODE");
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        world.pg = cm_test_connect(world.uri);
        _exit(call_body() == CM_OK ? 0 : 1);
    }
    cr_expect(cm_test_wait(waits_for_results, NULL, 30000));
    cm_error_t err = {0};
    cr_expect(eq(int,
                 cm_pg_exec(world.pg,
                            "LOCK TABLE " CM_TEST_ADMIN
                            ".job_checkpoints IN SHARE ROW EXCLUSIVE MODE NOWAIT",
                            &err),
                 CM_OK),
              "%s", err.message);
    cm_pg_rollback(world.pg);
    int code = -1;
    waitpid(pid, &code, 0);
    cr_expect(zero(int, code));
}

/* ---- at a low rate --------------------------------------------------------------------------- */

Test(contact_job_resume, a_stop_within_a_batch_is_heard_and_loses_nothing, .init = begin_file,
     .fini = end_file)
{
    enum { RATE = 60, BATCH = 5 * RATE };
    set("contact_job.rate=%d", RATE);
    configure();
    begin_run();
    stop_after(RATE + RATE / 2);
    read_stream();
    cr_expect(lt(llong, world.published, BATCH));
    set("contact_job.rate=0");
    configure();
    must_end();
    read_stream();
    expect_each(1, 2 * CONTACTS, 1, 2);
    cr_expect(lt(llong, world.published, 2 * CONTACTS + BATCH));
}
