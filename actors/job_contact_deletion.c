#include "actors/job_contact_deletion.h"

#include "actors/contact_job_options.h"
#include "actors/contact_pass.h"
#include "runtime/backoff.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "runtime/log.h"

#include <inttypes.h>
#include <jansson.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>

enum {
    RETRY_CAP_MS = 60000,
    WAIT_STEP_MS = 100,
    AWAY_AFTER = 3, /* customers in a row for whom the source is away */
    HOUR_MS = 3600 * 1000,
};

typedef struct {
    cm_contact_pass_t pass;
    int64_t now_ms; /* the database's, which no watermark passes */
    uint64_t skipped;
    cm_backoff_t backoff;
} job_t;

static bool stopped(void *ctx)
{
    job_t *self = ctx;
    cm_batch_show(self->pass.run); /* a query may run for an hour */
    return cm_batch_stopped(self->pass.run);
}

/* ---- failures -------------------------------------------------------------------------------- */

static bool may_retry(const job_t *self, cm_status_t status)
{
    return !self->pass.outside && (status == CM_TRANSIENT || status == CM_UNAVAILABLE);
}

/* What the pass that failed goes on with. */
static void prepare_retry(job_t *self, const cm_error_t *why)
{
    /* Nothing came behind the checkpoint: the result itself is of no use. */
    if (why->status == CM_TRANSIENT && self->pass.read == 0)
        cm_contact_mark_set_source(self->pass.open, NULL);
    cm_log(CM_LOG_WARN, self->pass.run->name, "contacts not read",
           "tenant=\"%s\" class=%s code=\"%s\" cause=\"%s\"", self->pass.open->tenant,
           cm_status_name(why->status), why->code, why->message);
}

static cm_status_t wait_for_retry(job_t *self, cm_error_t *err)
{
    int64_t due_ms = cm_clock_mono_ms() + cm_backoff_next_ms(&self->backoff);
    cm_status_t status = cm_contact_pass_check_stop(&self->pass, err);
    while (status == CM_OK && cm_clock_mono_ms() < due_ms) {
        poll(NULL, 0, WAIT_STEP_MS);
        cm_batch_show(self->pass.run);
        status = cm_contact_pass_check_stop(&self->pass, err);
    }
    return status;
}

/* The pass cannot be gone on with: the next run begins it anew. */
static cm_status_t give_up_pass(job_t *self, cm_error_t *err)
{
    cm_error_t ignored = {0};
    cm_contact_mark_drop(self->pass.open);
    cm_contact_pass_save(&self->pass, &ignored);
    return err->status;
}

/* ---- one query for all ----------------------------------------------------------------------- */

static cm_status_t note(job_t *self, const cm_contact_mark_t *customer, cm_run_tenant_t state,
                        const cm_error_t *failure, cm_error_t *err)
{
    char detail[128];
    snprintf(detail, sizeof detail, "{\"contacts\":%" PRId64 ",\"malformed\":%" PRId64 "}",
             customer->counts.published, customer->counts.malformed);
    return cm_batch_note(self->pass.run, customer->tenant, state, detail, failure, err);
}

/* Its contacts are taken; what the newest of all tells counts for a silent one, too. */
static void end_mark(const job_t *self, cm_contact_mark_t *customer)
{
    const cm_contact_mark_t *whole = &self->pass.marks.whole;
    cm_contact_mark_end(customer, self->pass.run->run_id, self->now_ms);
    if (whole->watermark_ms != CM_CONTACT_MS_NONE)
        cm_contact_mark_raise(customer, whole->watermark_ms -
                                            self->pass.options->contact_job.lag_hours * HOUR_MS);
}

static cm_status_t note_all(job_t *self, int64_t pass, cm_error_t *err)
{
    cm_contact_marks_t *marks = &self->pass.marks;
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < marks->count; i++) {
        cm_contact_mark_t *customer = &marks->customers[i];
        bool was_of_it = customer->pass == pass;
        if (was_of_it)
            end_mark(self, customer);
        self->skipped += !was_of_it;
        status =
            note(self, customer, was_of_it ? CM_RUN_TENANT_DONE : CM_RUN_TENANT_SKIPPED, NULL, err);
    }
    return status;
}

/* All watermarks rise and all results are kept in one commit, so a kill repeats nothing of it. */
static cm_status_t end_whole(job_t *self, cm_error_t *err)
{
    cm_batch_run_t *run = self->pass.run;
    int64_t pass = self->pass.marks.whole.pass;
    cm_contact_mark_end(&self->pass.marks.whole, run->run_id, self->now_ms);
    if (run->dry_run)
        return note_all(self, pass, err);
    cm_status_t status = cm_job_write_begin(run->pg, err);
    if (status == CM_OK)
        status = cm_batch_fence(run, run->pg, err);
    if (status == CM_OK)
        status = note_all(self, pass, err);
    if (status == CM_OK)
        status = cm_contact_pass_save(&self->pass, err);
    if (status == CM_OK)
        status = cm_pg_commit(run->pg, err);
    if (status != CM_OK)
        cm_pg_rollback(run->pg);
    return status;
}

static cm_status_t read_whole(job_t *self, cm_error_t *err)
{
    int64_t failures = 0;
    self->pass.open = &self->pass.marks.whole;
    for (;;) {
        cm_status_t status = cm_contact_pass_read(&self->pass, err);
        if (status == CM_OK)
            return end_whole(self, err);
        if (status == CM_CANCELLED || self->pass.outside)
            return status;
        if (!may_retry(self, status))
            return give_up_pass(self, err);
        failures = self->pass.read ? 0 : failures + 1;
        prepare_retry(self, err);
        int64_t retries = self->pass.options->contact_job.retries;
        if (failures > retries || self->pass.anew > retries) /* each costs as much as the first */
            return status;
        if (self->pass.read)
            cm_backoff_reset(&self->backoff);
        status = wait_for_retry(self, err);
        if (status != CM_OK)
            return status;
    }
}

/* ---- one query for each ---------------------------------------------------------------------- */

static void keep_failure(cm_contact_mark_t *customer, const cm_error_t *why)
{
    if (!customer->failure && !(customer->failure = malloc(sizeof *why)))
        abort();
    *customer->failure = *why;
}

/* The result and the mark in one commit. */
static cm_status_t end_customer(job_t *self, cm_contact_mark_t *customer, const cm_error_t *failure,
                                cm_error_t *err)
{
    cm_batch_run_t *run = self->pass.run;
    customer->settled = true;
    if (!failure) {
        int64_t newest_ms = customer->newest_ms < self->now_ms ? customer->newest_ms : self->now_ms;
        cm_contact_mark_raise(&self->pass.marks.whole, newest_ms);
        end_mark(self, customer);
    }
    cm_run_tenant_t state = failure ? CM_RUN_TENANT_FAILED : CM_RUN_TENANT_DONE;
    if (run->dry_run)
        return note(self, customer, state, failure, err);
    cm_status_t status = cm_job_write_begin(run->pg, err);
    if (status == CM_OK)
        status = cm_contact_pass_save(&self->pass, err);
    if (status == CM_OK)
        status = note(self, customer, state, failure, err);
    if (status == CM_OK)
        status = cm_pg_commit(run->pg, err);
    if (status != CM_OK)
        cm_pg_rollback(run->pg);
    return status;
}

/* The query itself is wrong, not what it finds of one customer. */
static bool is_of_all(const cm_error_t *err)
{
    return err->status == CM_MISCONFIGURED && strcmp(err->code, "bytesBilledLimitExceeded") != 0;
}

/* CM_OK: it is dealt with, or its failure is kept, to be tried again. */
static cm_status_t read_customer(job_t *self, cm_contact_mark_t *customer, cm_error_t *err)
{
    self->pass.open = customer;
    cm_status_t status = cm_contact_pass_read(&self->pass, err);
    if (status == CM_OK)
        return end_customer(self, customer, NULL, err);
    if (status == CM_CANCELLED || self->pass.outside)
        return status;
    if (is_of_all(err))
        return give_up_pass(self, err);
    keep_failure(customer, err);
    prepare_retry(self, err);
    if (may_retry(self, status))
        return CM_OK;
    cm_contact_mark_drop(customer);
    return end_customer(self, customer, customer->failure, err);
}

/* All that are not settled. *ret_away: the source is, for whomever it is asked; the rest waits. */
static cm_status_t read_round(job_t *self, size_t *ret_left, bool *ret_away, cm_error_t *err)
{
    cm_contact_marks_t *marks = &self->pass.marks;
    int away = 0;
    *ret_left = 0;
    *ret_away = false;
    for (size_t i = 0; i < marks->count; i++) {
        cm_contact_mark_t *customer = &marks->customers[i];
        if (!customer->settled && !*ret_away) {
            cm_status_t status = cm_contact_pass_check_stop(&self->pass, err);
            if (status == CM_OK)
                status = read_customer(self, customer, err);
            if (status != CM_OK)
                return status;
            bool is_away = !customer->settled && customer->failure->status == CM_UNAVAILABLE;
            away = is_away ? away + 1 : 0;
            *ret_away = away == AWAY_AFTER;
        }
        *ret_left += !customer->settled;
    }
    return CM_OK;
}

static cm_status_t fail_rest(job_t *self, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < self->pass.marks.count; i++) {
        cm_contact_mark_t *customer = &self->pass.marks.customers[i];
        if (!customer->settled)
            status = end_customer(self, customer, customer->failure, err);
    }
    return status;
}

static cm_status_t read_each(job_t *self, cm_error_t *err)
{
    size_t left = 0;
    bool away = false;
    for (int64_t round = 0;; round++) {
        cm_status_t status = read_round(self, &left, &away, err);
        if (status != CM_OK || left == 0)
            return status;
        if (round == self->pass.options->contact_job.retries)
            break;
        status = wait_for_retry(self, err);
        if (status != CM_OK)
            return status;
    }
    if (!away)
        return fail_rest(self, err);
    *err = *self->pass.open->failure;
    return err->status;
}

/* ---- the job --------------------------------------------------------------------------------- */

static cm_status_t open_all(job_t *self, cm_error_t *err)
{
    cm_contact_source_options_t options = cm_contact_job_source(self->pass.options);
    options.stopped = stopped;
    options.ctx = self;
    cm_status_t status = cm_contact_source_open(&self->pass.source, &options, err);
    if (status == CM_OK)
        status = cm_contact_marks_load(
            &self->pass.marks, self->pass.run->pg, self->pass.options->postgres.admin_schema,
            self->pass.run->tenant, cm_contact_job_digest(self->pass.options), err);
    if (status == CM_OK && !self->pass.run->dry_run)
        status = cm_publisher_open(&self->pass.publisher, self->pass.options,
                                   self->pass.options->contact_job.rate, err);
    return status;
}

/* What this run has counted, in whatever process. */
static cm_contact_counts_t counts_of(const job_t *self)
{
    const cm_contact_marks_t *marks = &self->pass.marks;
    cm_contact_counts_t counts = {.billed = CM_CONTACT_MS_NONE};
    if (self->pass.asks_once && marks->whole.counted_run == self->pass.run->run_id)
        cm_contact_counts_add(&counts, &marks->whole.counts);
    for (size_t i = 0; !self->pass.asks_once && i < marks->count; i++)
        if (marks->customers[i].counted_run == self->pass.run->run_id)
            cm_contact_counts_add(&counts, &marks->customers[i].counts);
    if (self->pass.publisher)
        counts.published -=
            (int64_t)(self->pass.sent - cm_publisher_confirmed(self->pass.publisher));
    return counts;
}

/* What a process before this one has settled of this run. */
static bool find_settled(job_t *self)
{
    cm_batch_run_t *run = self->pass.run;
    cm_contact_marks_t *marks = &self->pass.marks;
    run->progress.total = marks->count;
    bool is_whole = self->pass.asks_once && run->run_id && marks->whole.done_run == run->run_id;
    for (size_t i = 0; i < marks->count; i++) {
        bool is_done = run->run_id && marks->customers[i].done_run == run->run_id;
        marks->customers[i].settled = is_done && !self->pass.asks_once;
        run->progress.done += is_whole || marks->customers[i].settled;
    }
    run->progress.rows = run->run_id ? (uint64_t)counts_of(self).published : 0;
    cm_batch_show(run);
    return is_whole;
}

static void summarise(job_t *self)
{
    const cm_batch_run_t *run = self->pass.run;
    cm_contact_counts_t counts = counts_of(self);
    json_t *made = json_pack(
        "{s:s, s:s, s:{s:I, s:I, s:I}, s:I, s:I, s:I, s:I, s:s, s:I, s:o, s:b}", "source",
        cm_contact_source_kind_name(cm_contact_job_source(self->pass.options).kind), "queries",
        self->pass.asks_once ? "one" : "each", "customers", "done",
        (json_int_t)(run->progress.done - run->progress.failed - self->skipped), "failed",
        (json_int_t)run->progress.failed, "skipped", (json_int_t)self->skipped, "contacts",
        (json_int_t)counts.published, "known", (json_int_t)counts.known, "strangers",
        (json_int_t)counts.strangers, "malformed", (json_int_t)counts.malformed, "first_malformed",
        self->pass.first_malformed, "pages", (json_int_t)counts.pages, "bytes_billed",
        counts.billed == CM_CONTACT_MS_NONE ? json_null() : json_integer(counts.billed), "dry_run",
        run->dry_run);
    char *text = json_dumps(made, JSON_COMPACT);
    cm_buffer_clear(run->summary);
    cm_buffer_append(run->summary, text, strlen(text));
    free(text);
    json_decref(made);
}

static void close_all(job_t *self)
{
    cm_publisher_close(&self->pass.publisher);
    cm_contact_source_close(&self->pass.source);
    cm_contact_marks_destroy(&self->pass.marks);
    cm_buffer_destroy(&self->pass.body);
}

cm_status_t cm_job_contact_deletion(cm_batch_run_t *run, cm_error_t *err)
{
    const cm_options_t *options = run->options;
    if (options->contact_job.source == CM_CONTACT_JOB_NONE)
        return cm_error_set(err, CM_MISCONFIGURED, "no-source",
                            "the job has no source of deleted contacts; set contact_job.source to "
                            "bigquery, postgres or file");
    CM_CLEANUP(close_all)
    job_t self = {.pass = {.run = run,
                           .options = options,
                           .asks_once = !run->tenant && cm_contact_job_asks_once(options)},
                  .now_ms = run->lease ? run->lease->now_ms : cm_clock_epoch_ms()};
    cm_backoff_init(&self.backoff, (int)options->contact_job.retry_ms, RETRY_CAP_MS,
                    cm_random_u64());
    cm_status_t status = open_all(&self, err);
    if (status != CM_OK)
        return status;
    if (!find_settled(&self))
        status = self.pass.asks_once ? read_whole(&self, err) : read_each(&self, err);
    summarise(&self);
    return status;
}
