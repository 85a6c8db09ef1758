/* The budget of the Google Pub/Sub driver: how much the next request may ask for. */
#include "runtime/broker/google_pubsub_private.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>

static cm_pubsub_t driver;
static cm_pubsub_sub_t sub;

static void begin(void)
{
    driver.own = (cm_pubsub_options_t){.messages_max = 4000, .bytes_max = 64 << 20};
    sub = (cm_pubsub_sub_t){
        .driver = &driver, .wanted = 2, .ask_max = CM_PUBSUB_ASK_MAX, .average_bytes = 1024};
}

TestSuite(pubsub_ask, .init = begin, .timeout = 10);

/* What a request that goes out does to the books. */
static void send_one(size_t ask)
{
    sub.in_flight++;
    sub.reserved += ask;
}

Test(pubsub_ask, asks_for_what_the_service_gives_at_most)
{
    cr_assert(eq(sz, cm_pubsub_ask(&sub), CM_PUBSUB_ASK_MAX));
}

Test(pubsub_ask, shares_the_budget_among_all_requests)
{
    sub.wanted = 32;
    size_t ask;
    while (sub.in_flight < sub.wanted && (ask = cm_pubsub_ask(&sub)))
        send_one(ask);
    cr_assert(eq(sz, sub.in_flight, 32));
    cr_assert(eq(sz, sub.reserved, 4000));
}

Test(pubsub_ask, never_reserves_more_than_there_is)
{
    for (size_t most = 1; most <= 3000; most += 7)
        for (size_t wanted = 1; wanted <= 40; wanted++) {
            begin();
            driver.own.messages_max = (int)most;
            sub.wanted = wanted;
            sub.buffered = most / 3;
            size_t ask;
            while (sub.in_flight < wanted && (ask = cm_pubsub_ask(&sub)))
                send_one(ask);
            cr_assert(le(sz, sub.reserved + sub.buffered, most));
            cr_assert(ge(sz, sub.in_flight, 1)); /* and something is always asked for */
        }
}

Test(pubsub_ask, waits_for_room_while_others_are_under_way)
{
    send_one(3500);
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 0));
    sub.in_flight = 0; /* the same as buffered: then a small request is better than none */
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 500));
}

Test(pubsub_ask, asks_for_nothing_when_the_buffer_is_full)
{
    sub.buffered = 4000;
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 0));
    begin();
    sub.buffered = 10;
    sub.buffered_bytes = 64 << 20;
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 0));
}

Test(pubsub_ask, keeps_large_messages_within_the_bytes)
{
    sub.average_bytes = 1 << 20;
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 64));
    send_one(64);
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 0));
}

Test(pubsub_ask, one_message_larger_than_all_bytes_is_possible)
{
    driver.own.bytes_max = 1000;
    sub.average_bytes = 5000;
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 1));
}

Test(pubsub_ask, asks_for_less_after_an_answer_that_was_too_large)
{
    sub.ask_max = 10;
    cr_assert(eq(sz, cm_pubsub_ask(&sub), 10));
}
