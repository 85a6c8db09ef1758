#include "proto/subscription.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

Test(subscription, the_table_is_in_the_order_of_its_ids)
{
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++)
        cr_expect(eq(int, cm_subscription((cm_subscription_id_t)id)->id, id));
}

Test(subscription, device_events_retry_at_the_republisher_and_end_in_writer_errors)
{
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        const cm_subscription_t *row = cm_subscription((cm_subscription_id_t)id);
        bool device = id == CM_SUBSCRIPTION_WRITER || id == CM_SUBSCRIPTION_REPUBLISHER;
        cr_expect(eq(int, row->flow == CM_FLOW_DEVICES, device));
        cr_expect(eq(int, row->retry, device ? CM_SUBSCRIPTION_REPUBLISHER : CM_SUBSCRIPTION_NONE));
        if (device)
            cr_expect(eq(int, row->reject, CM_SUBSCRIPTION_WRITER_ERRORS));
    }
}

Test(subscription, a_rejected_contact_deletion_has_an_errors_topic_of_its_own)
{
    cr_expect(eq(int, cm_subscription(CM_SUBSCRIPTION_CONTACT_DELETION)->reject,
                 CM_SUBSCRIPTION_CONTACT_DELETION_ERRORS));
}

Test(subscription, the_errors_topics_belong_to_the_dead_letter_keeper_and_reject_nothing)
{
    const cm_subscription_id_t errors[] = {CM_SUBSCRIPTION_WRITER_ERRORS,
                                           CM_SUBSCRIPTION_CONTACT_DELETION_ERRORS};
    for (int i = 0; i < 2; i++) {
        cr_expect(eq(str, (char *)cm_subscription(errors[i])->subworker, "dead-letter"));
        cr_expect(eq(int, cm_subscription(errors[i])->reject, CM_SUBSCRIPTION_NONE));
    }
}

Test(subscription, every_other_topic_has_somewhere_to_reject_to)
{
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        if (id != CM_SUBSCRIPTION_WRITER_ERRORS && id != CM_SUBSCRIPTION_CONTACT_DELETION_ERRORS)
            cr_expect(
                ne(int, cm_subscription((cm_subscription_id_t)id)->reject, CM_SUBSCRIPTION_NONE));
    }
}

Test(subscription, the_ledger_has_a_flow_for_each_subscription)
{
    static const char *const expected[CM_SUBSCRIPTION_COUNT] = {
        "devices",     "devices",           "dead-letters",      "token-status", "token-status",
        "activations", "account-deletions", "contact-deletions", "dead-letters"};
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        const cm_subscription_t *row = cm_subscription((cm_subscription_id_t)id);
        cr_expect(eq(str, (char *)cm_flow_name(row->flow), (char *)expected[id]));
    }
}

/* The gateway keeps one balance of retries. */
Test(subscription, only_device_events_have_a_retry_topic)
{
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        const cm_subscription_t *row = cm_subscription((cm_subscription_id_t)id);
        if (row->retry != CM_SUBSCRIPTION_NONE)
            cr_expect(eq(int, row->flow, CM_FLOW_DEVICES));
    }
}

Test(subscription, a_topic_is_found_again_by_its_name)
{
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        char name[CM_TOPIC_NAME_MAX];
        const char *topic = cm_subscription_topic((cm_subscription_id_t)id, "staging.cm", name);
        cr_expect(eq(int, cm_subscription_by_topic(topic, "staging.cm"), id));
    }
}

Test(subscription, topics_have_the_names_and_consumers_of_the_events_page)
{
    static const char *const expected[CM_SUBSCRIPTION_COUNT][2] = {
        {"client-manager.writer", "writer"},
        {"client-manager.republisher", "republisher"},
        {"client-manager.writer-errors", "dead-letter"},
        {"client-manager.push-token-status", "push-token-status"},
        {"client-manager.web-push-token-status", "push-token-status"},
        {"client-manager.activate-customer", "tenant-activator"},
        {"client-manager.account-deletion", "account-deletion"},
        {"client-manager.contact-deletion", "contact-deletion"},
        {"client-manager.contact-deletion-errors", "dead-letter"},
    };
    for (int i = 0; i < CM_SUBSCRIPTION_COUNT; i++) {
        cm_subscription_id_t id = (cm_subscription_id_t)i;
        char name[CM_TOPIC_NAME_MAX];
        cr_expect(eq(str, (char *)cm_subscription_topic(id, "client-manager", name),
                     (char *)expected[i][0]));
        cr_expect(eq(str, (char *)cm_subscription(id)->subworker, (char *)expected[i][1]));
    }
}

Test(subscription, a_topic_of_others_is_none)
{
    static const char *const others[] = {"",
                                         "client-manager",
                                         "client-manager.",
                                         "client-manager.writer2",
                                         "client-manager.write",
                                         "client-manager-writer",
                                         "client-managers.writer",
                                         "other.writer",
                                         "writer"};
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        cr_expect(
            eq(int, cm_subscription_by_topic(others[i], "client-manager"), CM_SUBSCRIPTION_NONE),
            "%s", others[i]);
}
