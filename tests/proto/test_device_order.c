#include "proto/device_order.h"
#include "runtime/clock.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

/* ---- events
 * -------------------------------------------------------------------------------------- */

static cm_device_event_t event_at(int64_t ms)
{
    return (cm_device_event_t){
        .application_code = CM_STR("A"), .client_id = CM_STR("C"), .event_ms = ms};
}

static cm_device_change_t change_of(const cm_device_event_t *event)
{
    cm_device_change_t change;
    cm_device_change_from_event(&change, event);
    return change;
}

static cm_device_change_t device_change(int64_t ms, const char *platform)
{
    cm_device_event_t event = event_at(ms);
    event.has_device = true;
    event.device[CM_DEVICE_PLATFORM] = cm_str(platform);
    return change_of(&event);
}

static cm_device_change_t push_change(int64_t ms, const char *token)
{
    cm_device_event_t event = event_at(ms);
    event.has_push = true;
    event.push_token = cm_str(token);
    event.push_address_type = cm_str(token ? "fcm" : NULL);
    return change_of(&event);
}

static cm_device_change_t contact_change(int64_t ms, bool has_id, int64_t id)
{
    cm_device_event_t event = event_at(ms);
    event.has_contact = true;
    event.has_contact_id = has_id;
    event.contact_id = id;
    return change_of(&event);
}

static cm_device_change_t removal(int64_t ms)
{
    cm_device_event_t event = event_at(ms);
    event.removed = true;
    return change_of(&event);
}

static bool same(const cm_device_change_t *a, const cm_device_change_t *b)
{
    bool equal = a->device_ms == b->device_ms && a->push_ms == b->push_ms &&
                 a->contact_ms == b->contact_ms && a->removed_ms == b->removed_ms &&
                 a->has_contact_id == b->has_contact_id && a->contact_id == b->contact_id &&
                 a->has_contact_field_id == b->has_contact_field_id &&
                 a->contact_field_id == b->contact_field_id &&
                 cm_str_eq(a->push_token, b->push_token) &&
                 cm_str_eq(a->push_address_type, b->push_address_type);
    for (int i = 0; i < CM_DEVICE_FIELDS; i++)
        equal = equal && cm_str_eq(a->device[i], b->device[i]);
    return equal;
}

/* Merge b into a and a into b: both must end in the same change. Returns it and how b fared. */
static cm_device_change_t merged(cm_device_change_t a, cm_device_change_t b, cm_merge_t *ret_merge)
{
    cm_device_change_t ab = a, ba = b;
    *ret_merge = cm_device_change_merge(&ab, &b);
    cm_device_change_merge(&ba, &a);
    cr_expect(same(&ab, &ba));
    return ab;
}

/* ---- single merges --------------------------------------------------------------------------- */

Test(device_order, a_change_holds_what_its_event_held, .timeout = 5)
{
    cm_device_change_t change = push_change(5, "t");
    cr_expect(eq(i64, change.push_ms, 5));
    cr_expect(eq(i64, change.device_ms, CM_TIME_NONE));
    cr_expect(eq(i64, change.contact_ms, CM_TIME_NONE));
    cr_expect(eq(i64, change.removed_ms, CM_TIME_NONE));
    cr_expect(cm_str_is(change.push_token, "t"));
    cr_expect(cm_str_is(change.client_id, "C"));
}

Test(device_order, a_removal_outdoes_the_groups_of_its_own_event, .timeout = 5)
{
    cm_device_event_t event = event_at(5);
    event.removed = event.has_device = event.has_push = event.has_contact = true;
    event.device[CM_DEVICE_PLATFORM] = CM_STR("ios");
    cm_device_change_t change = change_of(&event), expected = removal(5);
    cr_expect(same(&change, &expected));
}

Test(device_order, a_newer_group_replaces_the_older_one_whole, .timeout = 5)
{
    cm_device_event_t older = event_at(1);
    older.has_device = true;
    older.device[CM_DEVICE_PLATFORM] = CM_STR("ios");
    older.device[CM_DEVICE_LANGUAGE] = CM_STR("de");
    cm_merge_t merge;
    cm_device_change_t end = merged(change_of(&older), device_change(2, "android"), &merge);
    cr_expect(eq(int, merge, CM_MERGE_APPLIED));
    cr_expect(eq(i64, end.device_ms, 2));
    cr_expect(cm_str_is(end.device[CM_DEVICE_PLATFORM], "android"));
    cr_expect(eq(ptr, (void *)end.device[CM_DEVICE_LANGUAGE].ptr, NULL));
}

Test(device_order, groups_have_times_of_their_own, .timeout = 5)
{
    cm_merge_t merge;
    cm_device_change_t end = merged(device_change(5, "x"), push_change(3, "t"), &merge);
    cr_expect(eq(int, merge, CM_MERGE_APPLIED));
    end = merged(end, contact_change(1, true, 7), &merge);
    cr_expect(eq(int, merge, CM_MERGE_APPLIED));
    cr_expect(eq(i64, end.device_ms, 5));
    cr_expect(eq(i64, end.push_ms, 3));
    cr_expect(eq(i64, end.contact_ms, 1));
}

Test(device_order, an_older_group_is_stale, .timeout = 5)
{
    cm_merge_t merge;
    cm_device_change_t end = merged(push_change(5, "new"), push_change(4, "old"), &merge);
    cr_expect(eq(int, merge, CM_MERGE_STALE));
    cr_expect(cm_str_is(end.push_token, "new"));
}

Test(device_order, a_repeated_event_is_a_duplicate, .timeout = 5)
{
    cm_device_change_t changes[] = {device_change(5, "x"), push_change(5, NULL),
                                    contact_change(5, false, 0), removal(5)};
    for (int i = 0; i < 4; i++) {
        cm_merge_t merge;
        merged(changes[i], changes[i], &merge);
        cr_expect(eq(int, merge, CM_MERGE_DUPLICATE), "%d", i);
    }
}

Test(device_order, an_event_half_repeated_and_half_older_is_stale, .timeout = 5)
{
    cm_device_event_t both = event_at(5);
    both.has_device = both.has_push = true;
    cm_merge_t merge;
    cm_device_change_t end = merged(change_of(&both), push_change(6, "t"), &merge);
    merged(end, change_of(&both), &merge);
    cr_expect(eq(int, merge, CM_MERGE_STALE));
}

Test(device_order, equal_times_go_to_the_greater_content, .timeout = 5)
{
    cm_merge_t merge;
    cm_device_change_t end = merged(push_change(5, "a"), push_change(5, "b"), &merge);
    cr_expect(eq(int, merge, CM_MERGE_APPLIED));
    cr_expect(cm_str_is(end.push_token, "b"));
    end = merged(push_change(5, "a"), push_change(5, NULL), &merge);
    cr_expect(eq(int, merge, CM_MERGE_STALE));
    cr_expect(cm_str_is(end.push_token, "a"));
    end = merged(push_change(5, "ab"), push_change(5, "abc"), &merge);
    cr_expect(cm_str_is(end.push_token, "abc"));
    end = merged(push_change(5, "\x7f"), push_change(5, "\xc3\xa9"), &merge);
    cr_expect(cm_str_is(end.push_token, "\xc3\xa9"));
}

Test(device_order, contents_are_compared_field_by_field_in_column_order, .timeout = 5)
{
    cm_device_event_t a = event_at(5), b = event_at(5);
    a.has_device = b.has_device = true;
    a.device[CM_DEVICE_PLATFORM] = CM_STR("b");
    b.device[CM_DEVICE_PLATFORM] = CM_STR("a");
    b.device[CM_DEVICE_APPLICATION_VERSION] = CM_STR("z");
    cm_merge_t merge;
    cm_device_change_t end = merged(change_of(&a), change_of(&b), &merge);
    cr_expect(eq(int, merge, CM_MERGE_STALE));
    cr_expect(eq(ptr, (void *)end.device[CM_DEVICE_APPLICATION_VERSION].ptr, NULL));
}

Test(device_order, contact_ids_are_compared_by_value_with_absent_lowest, .timeout = 5)
{
    cm_merge_t merge;
    cm_device_change_t end =
        merged(contact_change(5, true, -10), contact_change(5, true, 9), &merge);
    cr_expect(eq(i64, end.contact_id, 9));
    end = merged(contact_change(5, false, 0), contact_change(5, true, INT64_MIN), &merge);
    cr_expect(eq(int, merge, CM_MERGE_APPLIED));
    cr_expect(end.has_contact_id);
}

Test(device_order, a_removal_clears_what_is_not_newer, .timeout = 5)
{
    cm_merge_t merge;
    cm_device_change_t end = merged(device_change(4, "x"), push_change(5, "t"), &merge);
    end = merged(end, contact_change(6, true, 7), &merge);
    end = merged(end, removal(5), &merge);
    cr_expect(eq(int, merge, CM_MERGE_APPLIED));
    cr_expect(eq(i64, end.device_ms, CM_TIME_NONE));
    cr_expect(eq(ptr, (void *)end.device[CM_DEVICE_PLATFORM].ptr, NULL));
    cr_expect(eq(i64, end.push_ms, CM_TIME_NONE));
    cr_expect(eq(ptr, (void *)end.push_token.ptr, NULL));
    cr_expect(eq(i64, end.contact_ms, 6));
    cr_expect(eq(i64, end.removed_ms, 5));
}

Test(device_order, an_event_at_or_before_a_removal_is_stale, .timeout = 5)
{
    for (int64_t ms = 4; ms <= 6; ms++) {
        cm_merge_t merge;
        merged(removal(5), device_change(ms, "x"), &merge);
        cr_expect(eq(int, merge, ms <= 5 ? CM_MERGE_STALE : CM_MERGE_APPLIED));
    }
}

Test(device_order, an_older_removal_is_stale, .timeout = 5)
{
    cm_merge_t merge;
    cm_device_change_t end = merged(removal(5), removal(4), &merge);
    cr_expect(eq(int, merge, CM_MERGE_STALE));
    cr_expect(eq(i64, end.removed_ms, 5));
}

Test(device_order, keys_are_ordered_by_application_then_client_bytewise, .timeout = 5)
{
    cm_device_change_t a = removal(1), b = removal(1);
    cr_expect(eq(int, cm_device_change_cmp_key(&a, &b), 0));
    b.client_id = CM_STR("C2");
    cr_expect(lt(int, cm_device_change_cmp_key(&a, &b), 0));
    a.application_code = CM_STR("B");
    cr_expect(gt(int, cm_device_change_cmp_key(&a, &b), 0));
    b.application_code = CM_STR("\xc3\xa9");
    cr_expect(lt(int, cm_device_change_cmp_key(&a, &b), 0));
}

/* ---- every order ends the same --------------------------------------------------------------- */

enum { EVENTS_MAX = 7, TIMES = 4 };

static cm_device_event_t random_event(uint64_t *state)
{
    static const char *const texts[] = {NULL, "a", "b"};
    cm_device_event_t event = event_at(100 + (int64_t)cm_random_below(state, TIMES));
    event.removed = cm_random_below(state, 5) == 0;
    uint64_t groups = event.removed ? cm_random_below(state, 8) : 1 + cm_random_below(state, 7);
    event.has_device = groups & 1;
    event.has_push = groups & 2;
    event.has_contact = groups & 4;
    event.device[CM_DEVICE_PLATFORM] = cm_str(texts[cm_random_below(state, 3)]);
    event.device[CM_DEVICE_PUSH_SETTINGS] = cm_str(texts[cm_random_below(state, 3)]);
    event.push_token = cm_str(texts[cm_random_below(state, 3)]);
    if (event.push_token.ptr)
        event.push_address_type = cm_str(texts[1 + cm_random_below(state, 2)]);
    event.has_contact_id = cm_random_below(state, 3) > 0;
    if (event.has_contact_id) {
        event.contact_id = (int64_t)cm_random_below(state, 3) - 1;
        event.has_contact_field_id = cm_random_below(state, 2);
        event.contact_field_id =
            event.has_contact_field_id ? (int64_t)cm_random_below(state, 2) : 0;
    }
    return event;
}

/* The content of a register as text that strcmp() orders as the rule does, for the oracle only:
 * texts here are absent, "a" or "b", numbers -1, 0 or 1. */
static void content(const cm_device_event_t *event, int group, char text[8])
{
    const cm_str_t *device = event->device;
    memset(text, 0, 8);
    if (group == 0) {
        text[0] = device[CM_DEVICE_PLATFORM].ptr ? *device[CM_DEVICE_PLATFORM].ptr : '-';
        text[1] = device[CM_DEVICE_PUSH_SETTINGS].ptr ? *device[CM_DEVICE_PUSH_SETTINGS].ptr : '-';
    } else if (group == 1) {
        text[0] = event->push_token.ptr ? *event->push_token.ptr : '-';
        text[1] = event->push_address_type.ptr ? *event->push_address_type.ptr : '-';
    } else {
        text[0] = event->has_contact_id ? (char)('6' + event->contact_id) : '-';
        text[1] = event->has_contact_field_id ? (char)('6' + event->contact_field_id) : '-';
    }
}

/* The end by definition: per group the greatest (time, content) after the last removal. */
static cm_device_change_t oracle(const cm_device_event_t *events, size_t count)
{
    int64_t removed = CM_TIME_NONE;
    for (size_t i = 0; i < count; i++) {
        if (events[i].removed && events[i].event_ms > removed)
            removed = events[i].event_ms;
    }
    cm_device_event_t end[3] = {event_at(CM_TIME_NONE), event_at(CM_TIME_NONE),
                                event_at(CM_TIME_NONE)};
    for (int group = 0; group < 3; group++) {
        char best[8] = "", text[8];
        for (size_t i = 0; i < count; i++) {
            const cm_device_event_t *event = &events[i];
            bool has[] = {event->has_device, event->has_push, event->has_contact};
            content(event, group, text);
            if (event->removed || !has[group] || event->event_ms <= removed ||
                event->event_ms < end[group].event_ms ||
                (event->event_ms == end[group].event_ms && strcmp(text, best) <= 0))
                continue;
            end[group] = *event;
            memcpy(best, text, sizeof best);
        }
    }
    cm_device_change_t change = {.application_code = CM_STR("A"),
                                 .client_id = CM_STR("C"),
                                 .device_ms = end[0].event_ms,
                                 .push_ms = end[1].event_ms,
                                 .contact_ms = end[2].event_ms,
                                 .removed_ms = removed,
                                 .push_token = end[1].push_token,
                                 .push_address_type = end[1].push_address_type,
                                 .has_contact_id = end[2].has_contact_id,
                                 .has_contact_field_id = end[2].has_contact_field_id,
                                 .contact_id = end[2].contact_id,
                                 .contact_field_id = end[2].contact_field_id};
    memcpy(change.device, end[0].device, sizeof change.device);
    return change;
}

/* Merge changes[order[0]], ... with random repetitions and in random groupings: a stack of partial
 * merges, whose two topmost are merged now and then, from either side. */
static cm_device_change_t merge_in_order(const cm_device_change_t *changes, const size_t *order,
                                         size_t count, uint64_t *state)
{
    cm_device_change_t stack[2 * EVENTS_MAX + 1];
    size_t depth = 0;
    for (size_t i = 0; i < count; i++) {
        stack[depth++] = changes[order[i]];
        if (cm_random_below(state, 4) == 0) /* delivered again, this one or one before */
            stack[depth++] = changes[order[cm_random_below(state, i + 1)]];
        while (depth > 1 && (i + 1 == count || cm_random_below(state, 2))) {
            cm_device_change_t *under = &stack[depth - 2], *over = &stack[depth - 1];
            if (cm_random_below(state, 2)) {
                cm_device_change_merge(under, over);
            } else {
                cm_device_change_merge(over, under);
                *under = *over;
            }
            depth--;
        }
    }
    return stack[0];
}

static bool next_permutation(size_t *order, size_t count)
{
    size_t i = count - 1;
    while (i > 0 && order[i - 1] >= order[i])
        i--;
    if (i == 0)
        return false;
    size_t j = count - 1;
    while (order[j] <= order[i - 1])
        j--;
    size_t swap = order[i - 1];
    order[i - 1] = order[j];
    order[j] = swap;
    for (size_t low = i, high = count - 1; low < high; low++, high--) {
        swap = order[low];
        order[low] = order[high];
        order[high] = swap;
    }
    return true;
}

/* All orders of one set of events; the number of those that ended wrong. */
static size_t wrong_orders(const cm_device_event_t *events, size_t count, uint64_t *state)
{
    cm_device_change_t changes[EVENTS_MAX], expected = oracle(events, count);
    size_t order[EVENTS_MAX], wrong = 0;
    for (size_t i = 0; i < count; i++) {
        changes[i] = change_of(&events[i]);
        order[i] = i;
    }
    do {
        cm_device_change_t end = merge_in_order(changes, order, count, state);
        wrong += !same(&end, &expected);
    } while (next_permutation(order, count));
    return wrong;
}

Test(device_order, every_order_repetition_and_grouping_ends_in_the_state_by_definition,
     .timeout = 120)
{
    uint64_t state = 20261120;
    for (int set = 0; set < 400; set++) {
        cm_device_event_t events[EVENTS_MAX];
        size_t count = 2 + (size_t)set % (EVENTS_MAX - 1);
        for (size_t i = 0; i < count; i++)
            events[i] = random_event(&state);
        cr_assert(eq(sz, wrong_orders(events, count, &state), 0), "set %d", set);
    }
}

/* applied, stale and duplicate as the header defines them, from the states before and after. */
Test(device_order, a_merge_tells_whether_it_changed_anything, .timeout = 60)
{
    uint64_t state = 7;
    for (int round = 0; round < 20000; round++) {
        cm_device_event_t a = random_event(&state), b = random_event(&state);
        cm_device_change_t into = change_of(&a), from = change_of(&b), before, again;
        before = into;
        cm_merge_t merge = cm_device_change_merge(&into, &from);
        cr_assert(eq(int, merge == CM_MERGE_APPLIED, !same(&before, &into)));
        again = into;
        cm_merge_t second = cm_device_change_merge(&again, &from);
        cr_assert(ne(int, second, CM_MERGE_APPLIED));
        cr_assert(same(&again, &into));
    }
}
