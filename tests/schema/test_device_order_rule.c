/* The order rule, as the database keeps it: whatever the order, the splits into batches and the
 * repetitions, a set of events leaves one row, the one that proto/device_order computes. So it is
 * with the deletion of a contact among them. CM_TEST_SEED repeats a run. */
#include "runtime/buffer.h"
#include "runtime/clock.h"
#include "schema/contact_store.h"
#include "tests/schema/store_case.h"

#include <inttypes.h>

enum {
    SETS = 2000,
    EVENTS_MAX = 5,
    DELETION = 255,  /* the step that deletes the contact of a set */
    CONTACTS = 5,    /* ids of a set, from -2 */
    ORDERS = 24,     /* all of those of up to four events */
    REPEATS_MAX = 2, /* events of a set that come twice */
    DEVICES = SETS * ORDERS,
    BATCH = 4000,
    STEPS_MAX = EVENTS_MAX + REPEATS_MAX + 2
};

typedef struct {
    cm_device_change_t events[EVENTS_MAX];
    size_t count;
    int64_t contact_id, deleted_ms; /* deleted_ms 0: no contact is deleted */
} set_t;

typedef struct { /* one delivery order of a set, to a device of its own */
    char client_id[24];
    unsigned char steps[STEPS_MAX];
    size_t count, next;
} device_t;

typedef struct {
    store_world_t store;
    uint64_t seed, random;
    set_t *sets;
    device_t *devices;
    cm_store_item_t *items;
    size_t results[CM_CHANGE_FAILED + 1];
    bool deletes;
    size_t deletions;
} rule_world_t;

static size_t below(rule_world_t *self, size_t bound)
{
    return (size_t)cm_random_below(&self->random, bound);
}

/* Few times and few contents, so that ties of all kinds are common. */
static cm_device_change_t random_event(rule_world_t *self)
{
    static const char *const texts[] = {NULL, "a", "aa", "b", "Z", "\xc3\xa4"};
    static const char *const settings[] = {NULL, "{}", "{\"a\":1}", "{\"a\": 1}"};
    cm_device_change_t event = change_of("");
    int64_t ms = 1000 + (int64_t)below(self, 4);
    size_t kind = below(self, 9);
    if (kind == 0) {
        event.removed_ms = ms;
        return event;
    }
    size_t groups = 1 + below(self, 7);
    if (groups & 1) {
        event.device_ms = ms;
        event.device[CM_DEVICE_PLATFORM] = cm_str(texts[below(self, 6)]);
        event.device[CM_DEVICE_TIMEZONE] = cm_str(texts[below(self, 6)]);
        event.device[CM_DEVICE_PUSH_SETTINGS] = cm_str(settings[below(self, 4)]);
    }
    if (groups & 2) {
        event.push_ms = ms;
        event.push_token = cm_str(texts[below(self, 6)]);
        event.push_address_type =
            event.push_token.ptr ? cm_str(texts[1 + below(self, 3)]) : CM_STR_NONE;
    }
    if (groups & 4) {
        event.contact_ms = ms;
        event.has_contact_id = below(self, 3) > 0;
        event.contact_id = event.has_contact_id ? (int64_t)below(self, 5) - 2 : 0;
        event.has_contact_field_id = below(self, 2) > 0;
        event.contact_field_id = event.has_contact_field_id ? (int64_t)below(self, 3) - 1 : 0;
    }
    return event;
}

/* The number-th order of count things. */
static void permute(unsigned char *steps, size_t count, size_t number)
{
    for (size_t i = 0; i < count; i++)
        steps[i] = (unsigned char)i;
    for (size_t left = count; left > 1; left--) {
        size_t pick = number % left;
        number /= left;
        unsigned char step = steps[pick];
        steps[pick] = steps[left - 1];
        steps[left - 1] = step;
    }
}

/* Give each device contacts of its own, so that each has a deletion of its own. */
static int64_t contact_of_device(const rule_world_t *self, const device_t *device, int64_t id)
{
    return self->deletes ? (device - self->devices) * CONTACTS + id + 2 : id;
}

/* Choose a deletion, if the set has one outcome under it. It has when the contact was never linked
 * by then, or when all events together leave the device linked to it: then the link that counts is
 * found by whichever comes later. Else the device has moved on in between (to another contact, to
 * none, by a removal, or linked anew since): either is right, which depends on the order. */
static void choose_deletion(rule_world_t *self, set_t *set)
{
    int64_t contact_id = (int64_t)below(self, CONTACTS) - 2,
            deleted_ms = 1000 + (int64_t)below(self, 5);
    cm_device_change_t all = set->events[0];
    bool linked = false;
    for (size_t i = 0; i < set->count; i++) {
        const cm_device_change_t *event = &set->events[i];
        if (i > 0)
            cm_device_change_merge(&all, event);
        if (event->has_contact_id && below(self, 2)) /* one that is linked, more often than not */
            contact_id = event->contact_id;
    }
    for (size_t i = 0; i < set->count; i++)
        linked |= set->events[i].has_contact_id && set->events[i].contact_id == contact_id &&
                  set->events[i].contact_ms <= deleted_ms;
    bool ends = all.has_contact_id && all.contact_id == contact_id && all.contact_ms <= deleted_ms;
    if (linked && !ends)
        return;
    set->contact_id = contact_id;
    set->deleted_ms = deleted_ms;
}

static void make_device(rule_world_t *self, size_t set, size_t order)
{
    device_t *device = &self->devices[order * SETS + set];
    size_t events = self->sets[set].count;
    snprintf(device->client_id, sizeof device->client_id, "%02zu-%05zu", order, set);
    permute(device->steps, events, events <= 4 ? order : below(self, 120));
    device->count = events;
    for (size_t left = self->sets[set].deleted_ms ? 1 + below(self, 2) : 0; left > 0; left--) {
        size_t at = below(self, device->count + 1);
        memmove(device->steps + at + 1, device->steps + at, device->count - at);
        device->steps[at] = DELETION;
        device->count++;
    }
    for (size_t repeats = below(self, REPEATS_MAX + 1); repeats > 0; repeats--) {
        size_t at = below(self, device->count + 1);
        memmove(device->steps + at + 1, device->steps + at, device->count - at);
        device->steps[at] = (unsigned char)below(self, events);
        device->count++;
    }
}

static void make_world(rule_world_t *self)
{
    const char *seed = getenv("CM_TEST_SEED");
    store_set_up(&self->store);
    self->seed = self->random = seed ? strtoull(seed, NULL, 10) : cm_random_u64();
    self->sets = calloc(SETS, sizeof *self->sets);
    self->devices = calloc(DEVICES, sizeof *self->devices);
    self->items = calloc(BATCH, sizeof *self->items);
    for (size_t s = 0; s < SETS; s++) {
        self->sets[s].count = 2 + below(self, EVENTS_MAX - 1);
        for (size_t i = 0; i < self->sets[s].count; i++)
            self->sets[s].events[i] = random_event(self);
        if (self->deletes)
            choose_deletion(self, &self->sets[s]);
        for (size_t order = 0; order < ORDERS; order++)
            make_device(self, s, order);
    }
}

static cm_device_change_t event_of(rule_world_t *self, device_t *device, const set_t *set)
{
    cm_device_change_t event = set->events[device->steps[device->next++]];
    event.client_id = cm_str(device->client_id);
    if (event.has_contact_id)
        event.contact_id = contact_of_device(self, device, event.contact_id);
    return event;
}

/* The next few events of a device, merged as the writer merges those of one batch. */
static cm_device_change_t next_change(rule_world_t *self, device_t *device, const set_t *set)
{
    size_t take = 1 + below(self, 3);
    cm_device_change_t change = event_of(self, device, set);
    while (--take > 0 && device->next < device->count && device->steps[device->next] != DELETION) {
        cm_device_change_t more = event_of(self, device, set);
        cm_device_change_merge(&change, &more);
    }
    return change;
}

static int by_contact(const void *a, const void *b)
{
    const cm_contact_item_t *left = a, *right = b;
    return (left->contact_id > right->contact_id) - (left->contact_id < right->contact_id);
}

static void delete_contacts(rule_world_t *self, cm_contact_item_t *items, size_t count)
{
    static const cm_contact_place_t place = {CM_TEST_ADMIN, ""};
    cm_contact_tenant_t tenant = {"a", items, count};
    cm_contact_totals_t totals = {0};
    qsort(items, count, sizeof *items, by_contact);
    cr_assert(eq(int,
                 cm_contact_store_delete(self->store.other, &place, &tenant, 1, &totals,
                                         &self->store.err),
                 CM_OK),
              "seed %" PRIu64 ": %s", self->seed, self->store.err.message);
    for (size_t i = 0; i < count; i++)
        cr_assert(ne(int, items[i].result, CM_CONTACT_FAILED));
    self->deletions += count;
}

/* Every device whose next step is a deletion takes it. */
static void deliver_deletions(rule_world_t *self)
{
    CM_CLEANUP(cm_free) cm_contact_item_t *items = calloc(BATCH, sizeof *items);
    size_t count = 0;
    for (size_t d = 0; d < DEVICES; d++) {
        device_t *device = &self->devices[d];
        const set_t *set = &self->sets[d % SETS];
        if (device->next == device->count || device->steps[device->next] != DELETION)
            continue;
        device->next++;
        items[count++] =
            (cm_contact_item_t){.contact_id = contact_of_device(self, device, set->contact_id),
                                .deleted_ms = set->deleted_ms};
        if (count == BATCH) {
            delete_contacts(self, items, count);
            count = 0;
        }
    }
    if (count > 0)
        delete_contacts(self, items, count);
}

static void write_batch(rule_world_t *self, size_t count)
{
    cr_assert(eq(int, write_items(&self->store, "a", self->items, count), CM_OK),
              "seed %" PRIu64 ": %s", self->seed, self->store.err.message);
    for (size_t i = 0; i < count; i++)
        self->results[self->items[i].result]++;
}

/* Each round takes some of the devices a step on. */
static void deliver_all(rule_world_t *self)
{
    for (bool more = true; more;) {
        size_t count = 0;
        more = false;
        if (self->deletes)
            deliver_deletions(self);
        for (size_t d = 0; d < DEVICES; d++) {
            device_t *device = &self->devices[d];
            if (device->next == device->count)
                continue;
            more = true;
            if (below(self, 4) == 0 || device->steps[device->next] == DELETION)
                continue;
            self->items[count++] =
                (cm_store_item_t){.change = next_change(self, device, &self->sets[d % SETS])};
            if (count == BATCH) {
                write_batch(self, count);
                count = 0;
            }
        }
        if (count > 0)
            write_batch(self, count);
    }
}

static void print_ms(cm_buffer_t *out, int64_t ms)
{
    if (ms == CM_TIME_NONE)
        cm_buffer_printf(out, "-|");
    else
        cm_buffer_printf(out, "%" PRId64 "|", ms);
}

static void print_text(cm_buffer_t *out, cm_str_t text)
{
    if (text.len == 0)
        cm_buffer_printf(out, "-|");
    else
        cm_buffer_printf(out, "%.*s|", CM_STR_ARG(text));
}

static void print_number(cm_buffer_t *out, bool has, int64_t number)
{
    print_ms(out, has ? number : CM_TIME_NONE);
}

/* As ROW_COLUMNS below. */
static void print_expected(const rule_world_t *self, cm_buffer_t *out, const set_t *set,
                           const device_t *device)
{
    cm_device_change_t all = set->events[0];
    for (size_t i = 1; i < set->count; i++)
        cm_device_change_merge(&all, &set->events[i]);
    if (set->deleted_ms && all.has_contact_id && all.contact_id == set->contact_id &&
        all.contact_ms <= set->deleted_ms) {
        cm_device_change_t removal = removal_of("", set->deleted_ms);
        removal.client_id = all.client_id;
        cm_device_change_merge(&all, &removal);
    }
    if (all.has_contact_id)
        all.contact_id = contact_of_device(self, device, all.contact_id);
    cm_buffer_clear(out);
    print_ms(out, all.device_ms);
    print_text(out, all.device[CM_DEVICE_PLATFORM]);
    print_text(out, all.device[CM_DEVICE_TIMEZONE]);
    print_text(out, all.device[CM_DEVICE_PUSH_SETTINGS]);
    print_ms(out, all.push_ms);
    print_text(out, all.push_token);
    print_text(out, all.push_address_type);
    print_ms(out, all.contact_ms);
    print_number(out, all.has_contact_id, all.contact_id);
    print_number(out, all.has_contact_field_id, all.contact_field_id);
    print_ms(out, all.removed_ms);
    bool row = all.device_ms != CM_TIME_NONE || all.push_ms != CM_TIME_NONE ||
               all.contact_ms != CM_TIME_NONE;
    cm_buffer_printf(out, "%s", row ? "row" : "none");
}

/* clang-format off */
#define MS(column) "(extract(epoch FROM " column ") * 1000)::bigint"
#define ROW_COLUMNS                                                                                \
    MS("device_at") ", platform, timezone, push_settings, " MS("push_at")                          \
    ", push_token, push_address_type, " MS("contact_at") ", contact_id, contact_field_id, "        \
    MS("removed_at") ", CASE WHEN created_at IS NULL THEN 'none' ELSE 'row' END"
/* clang-format on */

static size_t compare_all(rule_world_t *self)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t expected = {0};
    CM_CLEANUP(cm_free)
    char *rows = cm_test_rows(
        self->store.other,
        "SELECT client_id, " ROW_COLUMNS " FROM tenant_a.devices FULL JOIN"
        " tenant_a.tombstones USING (application_code, client_id) WHERE application_code <> ''"
        " ORDER BY client_id");
    size_t count = 0;
    char *rest = NULL;
    for (char *row = strtok_r(rows, "\n", &rest); row; row = strtok_r(NULL, "\n", &rest), count++) {
        char *text = strchr(row, '|') + 1;
        size_t set = (size_t)strtoul(row + 3, NULL, 10);
        size_t order = (size_t)strtoul(row, NULL, 10);
        print_expected(self, &expected, &self->sets[set], &self->devices[order * SETS + set]);
        cr_assert(eq(str, text, (char *)cm_buffer_text(&expected)), "device %.8s, seed %" PRIu64,
                  row, self->seed);
    }
    return count;
}

static void free_world(rule_world_t *self)
{
    free(self->sets);
    free(self->devices);
    free(self->items);
    store_tear_down(&self->store);
}

Test(device_order_rule, every_order_and_split_and_repetition_ends_in_one_row, .timeout = 240,
     .fini = cm_test_database_drop)
{
    rule_world_t world = {0};
    make_world(&world);
    deliver_all(&world);
    cr_assert(eq(sz, compare_all(&world), DEVICES), "seed %" PRIu64, world.seed);
    cr_expect(gt(sz, world.results[CM_CHANGE_APPLIED], DEVICES));
    cr_expect(gt(sz, world.results[CM_CHANGE_STALE], SETS));
    cr_expect(gt(sz, world.results[CM_CHANGE_DUPLICATE], SETS));
    cr_expect(eq(sz, world.results[CM_CHANGE_PENDING], 0));
    cr_expect(eq(sz, world.results[CM_CHANGE_FAILED], 0));
    free_world(&world);
}

Test(device_order_rule, the_deletion_of_a_contact_among_them_ends_in_one_row, .timeout = 240,
     .fini = cm_test_database_drop)
{
    rule_world_t world = {.deletes = true};
    make_world(&world);
    deliver_all(&world);
    cr_assert(eq(sz, compare_all(&world), DEVICES), "seed %" PRIu64, world.seed);
    cr_expect(gt(sz, world.deletions, DEVICES / 2));
    cr_expect(eq(sz, world.results[CM_CHANGE_PENDING], 0));
    cr_expect(eq(sz, world.results[CM_CHANGE_FAILED], 0));
    free_world(&world);
}
