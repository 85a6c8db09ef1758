#include "actors/device_job.h"
#include "proto/delivery.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

/* A batch of bodies, each a delivery with lease 1, 2, ...; attributes are those of the last call.
 */
static void load(cm_device_job_t *job, cm_device_rules_t *rules, const cm_attribute_t *attributes,
                 size_t attribute_count, ...)
{
    cm_delivery_builder_t builder = {0};
    cm_broker_lease_t lease = 0;
    va_list bodies;
    va_start(bodies, attribute_count);
    for (const char *body; (body = va_arg(bodies, const char *)) != NULL;) {
        cm_broker_delivery_t delivery = {
            .lease = ++lease,
            .message_id = CM_STR("1-1"),
            .publish_ms = cm_clock_epoch_ms(),
            .attempt = 1,
            .message = {cm_str(body), attributes, attribute_count},
        };
        cm_delivery_builder_add(&builder, lease, &delivery, 1);
    }
    va_end(bodies);
    cm_buffer_t frame;
    cm_delivery_builder_seal(&builder, 7, CM_SUBSCRIPTION_WRITER, &frame);
    zmq_msg_t message;
    zmq_msg_init_size(&message, frame.len);
    memcpy(zmq_msg_data(&message), frame.data, frame.len);
    cm_buffer_destroy(&frame);
    cm_error_t err = {0};
    cr_assert(cm_device_job_load(job, &message, rules, &err), "%s", err.message);
    zmq_msg_close(&message);
}

static cm_device_rules_t writer_rules(void)
{
    return (cm_device_rules_t){.subworker = "writer",
                               .prefix = "client-manager",
                               .retry = {{1000, 2000, 3000, 4000, 5000}},
                               .random = 1};
}

#define EVENT(tenant, client, time, model)                                                         \
    "{\"customerId\":" tenant ",\"applicationCode\":\"A\",\"clientId\":\"" client                  \
    "\",\"eventTime\":" time ",\"device\":{\"deviceModel\":\"" model "\"}}"

/* The outcome frame of job, decoded into arena. */
static cm_outcome_frame_t outcomes(cm_device_job_t *job, const cm_device_rules_t *rules,
                                   cm_arena_t *arena, cm_buffer_t *frame)
{
    cm_outcome_frame_t decoded;
    cm_error_t err = {0};
    cm_device_job_finish(job, rules, 1, frame);
    cm_status_t status = cm_outcome_frame_decode(frame->data, frame->len, arena, &decoded, &err);
    cr_assert(eq(int, status, CM_OK));
    return decoded;
}

Test(device_job, events_are_grouped_by_tenant_in_order_of_id_and_key)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    cm_device_job_init(&job);
    load(&job, &rules, NULL, 0, EVENT("2", "b", "5", "m"), EVENT("1", "z", "5", "m"),
         EVENT("2", "a", "5", "m"), NULL);
    cr_assert(eq(sz, job.tenant_count, 2));
    cr_expect(eq(str, job.tenants[0].store.tenant, "1"));
    cr_expect(eq(sz, job.tenants[1].store.count, 2));
    cr_expect(cm_str_is(job.tenants[1].store.items[0].change.client_id, "a"));
    cr_expect(cm_str_is(job.tenants[1].store.items[1].change.client_id, "b"));
    cm_device_job_destroy(&job);
}

Test(device_job, events_of_one_device_become_one_change)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    cm_device_job_init(&job);
    load(&job, &rules, NULL, 0, EVENT("1", "a", "5", "old"), EVENT("1", "a", "9", "new"),
         EVENT("1", "a", "7", "between"), NULL);
    cr_assert(eq(sz, job.tenants[0].store.count, 1));
    const cm_device_change_t *change = &job.tenants[0].store.items[0].change;
    cr_expect(eq(i64, change->device_ms, 9));
    cr_expect(cm_str_is(change->device[CM_DEVICE_MODEL], "new"));
    cm_device_job_destroy(&job);
}

Test(device_job, each_delivery_gets_its_own_outcome_in_order)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_device_job_init(&job);
    load(&job, &rules, NULL, 0, EVENT("1", "a", "9", "new"), EVENT("1", "a", "5", "old"),
         EVENT("1", "a", "9", "new"), "{\"customerId\":1", NULL);
    cm_device_job_select(&job, &rules);
    job.writing[0].items[0].result = CM_CHANGE_APPLIED;
    cm_device_job_written(&job);
    cm_outcome_frame_t decoded = outcomes(&job, &rules, arena, &frame);
    cr_assert(eq(sz, decoded.count, 4));
    cr_expect(eq(u64, decoded.batch_id, 7));
    const cm_outcome_kind_t expected[] = {CM_OUTCOME_APPLIED, CM_OUTCOME_STALE,
                                          CM_OUTCOME_DUPLICATE, CM_OUTCOME_REJECT};
    for (size_t i = 0; i < 4; i++) {
        cr_expect(eq(u64, decoded.items[i].lease, i + 1));
        cr_expect(eq(int, decoded.items[i].kind, expected[i]), "delivery %zu", i);
    }
    cm_device_job_destroy(&job);
}

Test(device_job, an_event_that_the_row_knew_is_a_duplicate)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_device_job_init(&job);
    load(&job, &rules, NULL, 0, EVENT("1", "a", "9", "new"), NULL);
    cm_device_job_select(&job, &rules);
    job.writing[0].items[0].result = CM_CHANGE_DUPLICATE;
    cm_device_job_written(&job);
    cm_outcome_frame_t decoded = outcomes(&job, &rules, arena, &frame);
    cr_expect(eq(int, decoded.items[0].kind, CM_OUTCOME_DUPLICATE));
    cm_device_job_destroy(&job);
}

Test(device_job, a_malformed_delivery_is_rejected_with_its_bytes_untouched)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_attribute_t mine = {CM_STR("mine"), CM_STR("\x01\xff")};
    cm_device_job_init(&job);
    load(&job, &rules, &mine, 1, "not json", NULL);
    cm_outcome_frame_t decoded = outcomes(&job, &rules, arena, &frame);
    const cm_outcome_t *outcome = &decoded.items[0];
    cr_assert(eq(int, outcome->kind, CM_OUTCOME_REJECT));
    cr_expect(cm_str_is(outcome->message.body, "not json"));
    const cm_attribute_t *attributes = outcome->message.attributes;
    size_t count = outcome->message.attribute_count;
    cr_expect(cm_str_is(cm_attribute_get(attributes, count, "mine"), "\x01\xff"));
    cr_expect(cm_str_is(cm_attribute_get(attributes, count, "errorClass"), "permanent"));
    cr_expect(cm_str_is(cm_attribute_get(attributes, count, "errorCode"), "malformed"));
    cm_device_job_destroy(&job);
}

Test(device_job, the_republisher_defers_what_is_not_due)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    char due[32];
    int64_t due_ms = cm_clock_epoch_ms() + 1500;
    snprintf(due, sizeof due, "%lld", (long long)due_ms);
    cm_attribute_t later = {CM_STR("notBefore"), cm_str(due)};
    cm_device_job_init(&job);
    rules.waits = true;
    load(&job, &rules, &later, 1, EVENT("1", "a", "5", "m"), NULL);
    cr_expect(eq(sz, job.tenant_count, 0));
    cm_outcome_frame_t decoded = outcomes(&job, &rules, arena, &frame);
    cr_expect(eq(int, decoded.items[0].kind, CM_OUTCOME_DEFER));
    cr_expect(gt(i64, decoded.items[0].until_ms, cm_clock_epoch_ms() - 60000));
    cm_device_job_destroy(&job);
}

Test(device_job, a_settled_tenant_is_not_written)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_device_job_init(&job);
    load(&job, &rules, NULL, 0, EVENT("1", "a", "5", "m"), EVENT("2", "a", "5", "m"),
         EVENT("1", "b", "5", "m"), NULL);
    cm_device_job_settle(&job, &job.tenants[0], CM_OUTCOME_DROPPED, 0);
    cm_device_job_select(&job, &rules);
    cr_assert(eq(sz, job.writing_count, 1));
    cr_expect(eq(str, job.writing[0].tenant, "2"));
    cm_outcome_frame_t decoded = outcomes(&job, &rules, arena, &frame);
    cr_expect(eq(int, decoded.items[0].kind, CM_OUTCOME_DROPPED));
    cr_expect(eq(int, decoded.items[1].kind, CM_OUTCOME_RELEASE)); /* never written: given back */
    cr_expect(eq(int, decoded.items[2].kind, CM_OUTCOME_DROPPED));
    cm_device_job_destroy(&job);
}

Test(device_job, a_missing_tenant_takes_the_retry_path)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t frame = {0};
    cm_error_t err = {0};
    cm_device_job_init(&job);
    load(&job, &rules, NULL, 0, EVENT("1", "a", "5", "m"), NULL);
    cm_error_set(&err, CM_MISSING, "tenant-missing", "tenant is absent");
    cm_device_job_fail(&job, &job.tenants[0], &rules, &err);
    cm_outcome_frame_t decoded = outcomes(&job, &rules, arena, &frame);
    const cm_message_t *message = &decoded.items[0].message;
    cr_assert(eq(int, decoded.items[0].kind, CM_OUTCOME_RETRY));
    cr_expect(cm_str_is(
        cm_attribute_get(message->attributes, message->attribute_count, "retryCount"), "1"));
    cr_expect(
        cm_str_is(cm_attribute_get(message->attributes, message->attribute_count, "originTopic"),
                  "client-manager.writer"));
    cm_device_job_destroy(&job);
}

Test(device_job, a_frame_that_is_no_batch_is_refused)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    cm_error_t err = {0};
    zmq_msg_t message;
    cm_device_job_init(&job);
    zmq_msg_init_size(&message, 3);
    memcpy(zmq_msg_data(&message), "\xc1\xc1\xc1", 3);
    cr_expect(not(cm_device_job_load(&job, &message, &rules, &err)));
    cr_expect(eq(int, err.status, CM_PERMANENT));
    zmq_msg_close(&message);
    cm_device_job_destroy(&job);
}

Test(device_job, errors_of_the_store_are_kept_when_it_forgets_them)
{
    cm_device_job_t job;
    cm_device_rules_t rules = writer_rules();
    cm_error_t of_store[2] = {{0}};
    cm_device_job_init(&job);
    load(&job, &rules, NULL, 0, EVENT("1", "a", "5", "m"), EVENT("1", "b", "5", "m"), NULL);
    cm_device_job_select(&job, &rules);
    cm_error_set(&of_store[0], CM_PERMANENT, "22001", "first");
    cm_error_set(&of_store[1], CM_PERMANENT, "23514", "second");
    for (size_t i = 0; i < 2; i++) {
        job.writing[0].items[i].result = CM_CHANGE_FAILED;
        job.writing[0].items[i].error = &of_store[i];
    }
    cm_device_job_written(&job);
    memset(of_store, 0, sizeof of_store);
    cr_expect(eq(str, (char *)job.entries[0].item->error->code, "22001"));
    cr_expect(eq(str, (char *)job.entries[1].item->error->code, "23514"));
    cm_device_job_destroy(&job);
}
