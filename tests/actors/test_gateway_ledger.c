/* The books of the gateway, without its loop. */
#include "actors/gateway_private.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

typedef struct {
    gateway_t gateway;
    source_t writer, republisher, verdicts, letters;
} books_t;

static void open_books(books_t *books)
{
    *books = (books_t){0};
    cm_reporter_open(&books->gateway.reporter, NULL, "gateway", NULL);
    books->writer.table = cm_subscription(CM_SUBSCRIPTION_WRITER);
    books->republisher.table = cm_subscription(CM_SUBSCRIPTION_REPUBLISHER);
    books->verdicts.table = cm_subscription(CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS);
    books->letters.table = cm_subscription(CM_SUBSCRIPTION_WRITER_ERRORS);
    source_t *sources[] = {&books->writer, &books->republisher, &books->verdicts, &books->letters};
    for (int i = 0; i < 4 * CM_OUTCOME_COUNT; i++)
        sources[i % 4]->outcomes[i / 4] =
            cm_metrics_counter(books->gateway.reporter.metrics, "client_manager_x_total", "x", "");
}

static void close_books(books_t *books)
{
    cm_gateway_forget_publishes(&books->gateway);
    cm_reporter_close(&books->gateway.reporter);
}

/* A retry that was published and is not confirmed. */
static publish_t *publish_retry(books_t *books, source_t *source)
{
    publish_t *publish = calloc(1, sizeof *publish);
    publish->token = ++books->gateway.next_token;
    publish->lease = publish->token;
    publish->source = source;
    publish->kind = CM_OUTCOME_RETRY;
    publish->message = calloc(1, sizeof *publish->message);
    HASH_ADD(hh, books->gateway.publishes, token, sizeof publish->token, publish);
    HASH_ADD(by_lease, books->gateway.publishes_by_lease, lease, sizeof publish->lease, publish);
    return publish;
}

static void confirm_retry(books_t *books, source_t *source)
{
    cm_gateway_forget_publishes(&books->gateway);
    cm_gateway_ledger_ended(&books->gateway, source, CM_OUTCOME_RETRY, 1);
}

static const cm_ledger_t *balanced(books_t *books)
{
    cm_gateway_ledger_balance(&books->gateway);
    return &books->gateway.ledgers.flows[CM_FLOW_DEVICES];
}

Test(gateway_ledger, a_retry_waits_as_retrying_and_is_received_once)
{
    books_t books;
    open_books(&books);
    cm_gateway_ledger_received(&books.gateway, &books.writer);
    confirm_retry(&books, &books.writer);
    const cm_ledger_t *ledger = balanced(&books);
    cr_expect(eq(u64, ledger->received, 1));
    cr_expect(eq(u64, ledger->retrying, 1));
    cr_expect(eq(i64, cm_ledger_drift(ledger), 0));
    cm_gateway_ledger_received(&books.gateway, &books.republisher);
    cm_gateway_ledger_ended(&books.gateway, &books.republisher, CM_OUTCOME_APPLIED, 1);
    ledger = balanced(&books);
    cr_expect(eq(u64, ledger->received, 1));
    cr_expect(eq(u64, ledger->retrying, 0));
    cr_expect(eq(u64, ledger->applied, 1));
    cr_expect(eq(i64, cm_ledger_drift(ledger), 0));
    close_books(&books);
}

Test(gateway_ledger, a_retry_delivered_before_its_publish_is_confirmed_is_not_received_twice)
{
    books_t books;
    open_books(&books);
    cm_gateway_ledger_received(&books.gateway, &books.writer);
    publish_retry(&books, &books.writer);
    cm_gateway_ledger_received(&books.gateway, &books.republisher);
    cm_gateway_ledger_ended(&books.gateway, &books.republisher, CM_OUTCOME_APPLIED, 1);
    const cm_ledger_t *ledger = balanced(&books);
    cr_expect(eq(u64, ledger->received, 1));
    cr_expect(eq(u64, ledger->in_flight, 0));
    cr_expect(eq(i64, cm_ledger_drift(ledger), 0));
    confirm_retry(&books, &books.writer);
    ledger = balanced(&books);
    cr_expect(eq(u64, ledger->received, 1));
    cr_expect(eq(u64, ledger->retrying, 0));
    cr_expect(eq(i64, cm_ledger_drift(ledger), 0));
    close_books(&books);
}

Test(gateway_ledger, a_publish_that_waits_and_whose_delivery_lapsed_was_not_received)
{
    books_t books;
    open_books(&books);
    for (int i = 0; i < 2; i++)
        cm_gateway_ledger_received(&books.gateway, &books.writer);
    publish_t *waits = publish_retry(&books, &books.writer);
    publish_t *flies = publish_retry(&books, &books.writer);
    waits->waiting = true;
    cm_broker_lease_t leases[] = {waits->lease, flies->lease};
    for (int i = 0; i < 2; i++)
        cr_expect(cm_gateway_publish_lapsed(&books.gateway, leases[i]));
    cr_expect(not(cm_gateway_publish_lapsed(&books.gateway, 99)));
    const cm_ledger_t *ledger = balanced(&books);
    cr_expect(eq(u64, ledger->received, 1));
    cr_expect(eq(u64, ledger->in_flight, 1));
    cr_expect(eq(u64, ledger->released_total, 1));
    cr_expect(eq(i64, cm_ledger_drift(ledger), 0));
    close_books(&books);
}

Test(gateway_ledger, a_retry_of_another_instance_is_received_here)
{
    books_t books;
    open_books(&books);
    cm_gateway_ledger_received(&books.gateway, &books.republisher);
    cm_gateway_ledger_ended(&books.gateway, &books.republisher, CM_OUTCOME_REJECT, 1);
    const cm_ledger_t *ledger = balanced(&books);
    cr_expect(eq(u64, ledger->received, 1));
    cr_expect(eq(u64, ledger->dead, 1));
    cr_expect(eq(i64, cm_ledger_drift(ledger), 0));
    close_books(&books);
}

Test(gateway_ledger, what_is_given_back_was_not_received_and_a_deferred_retry_is_retrying)
{
    books_t books;
    open_books(&books);
    cm_gateway_ledger_received(&books.gateway, &books.writer);
    cm_gateway_ledger_ended(&books.gateway, &books.writer, CM_OUTCOME_RELEASE, 1);
    cr_expect(eq(u64, balanced(&books)->received, 0));
    cm_gateway_ledger_received(&books.gateway, &books.writer);
    confirm_retry(&books, &books.writer);
    cm_gateway_ledger_received(&books.gateway, &books.republisher);
    cm_gateway_ledger_ended(&books.gateway, &books.republisher, CM_OUTCOME_DEFER, 1);
    const cm_ledger_t *ledger = balanced(&books);
    cr_expect(eq(u64, ledger->retrying, 1));
    cr_expect(eq(u64, ledger->deferred_total, 1));
    cr_expect(eq(i64, cm_ledger_drift(ledger), 0));
    close_books(&books);
}

static publish_t *publish_dead(books_t *books, source_t *source)
{
    publish_t *publish = publish_retry(books, source);
    publish->kind = CM_OUTCOME_REJECT;
    return publish;
}

Test(gateway_ledger, each_flow_has_a_balance_of_its_own)
{
    books_t books;
    open_books(&books);
    for (int i = 0; i < 3; i++)
        cm_gateway_ledger_received(&books.gateway, &books.verdicts);
    cm_gateway_ledger_received(&books.gateway, &books.letters);
    cm_gateway_ledger_ended(&books.gateway, &books.verdicts, CM_OUTCOME_STALE, 1);
    cm_gateway_ledger_ended(&books.gateway, &books.letters, CM_OUTCOME_APPLIED, 1);
    cm_gateway_ledger_ended(&books.gateway, &books.verdicts, CM_OUTCOME_DEFER, 1);
    publish_dead(&books, &books.verdicts);
    cr_expect(eq(u64, balanced(&books)->received, 0));
    const cm_ledgers_t *ledgers = &books.gateway.ledgers;
    cr_expect(eq(u64, ledgers->flows[CM_FLOW_TOKEN_STATUS].received, 2));
    cr_expect(eq(u64, ledgers->flows[CM_FLOW_TOKEN_STATUS].stale, 1));
    cr_expect(eq(u64, ledgers->flows[CM_FLOW_TOKEN_STATUS].in_flight, 1));
    cr_expect(eq(u64, ledgers->flows[CM_FLOW_DEAD_LETTERS].applied, 1));
    cr_expect(cm_ledgers_balanced(ledgers));
    close_books(&books);
}

Test(gateway_ledger, a_dead_letter_on_its_way_is_no_retry)
{
    books_t books;
    open_books(&books);
    cm_gateway_ledger_received(&books.gateway, &books.verdicts);
    publish_dead(&books, &books.verdicts);
    cm_gateway_ledger_received(&books.gateway, &books.republisher);
    cm_gateway_ledger_ended(&books.gateway, &books.republisher, CM_OUTCOME_APPLIED, 1);
    cr_expect(eq(u64, balanced(&books)->received, 1), "of another instance");
    cr_expect(cm_ledgers_balanced(&books.gateway.ledgers));
    close_books(&books);
}
