#include "proto/device_order.h"

#include <assert.h>

static int cmp_i64(int64_t a, int64_t b)
{
    return (a > b) - (a < b);
}

static int cmp_optional_i64(bool has_a, int64_t a, bool has_b, int64_t b)
{
    return has_a && has_b ? cmp_i64(a, b) : has_a - has_b;
}

/* ---- the registers: time first, then content ------------------------------------------------- */

static int cmp_device(const cm_device_change_t *a, const cm_device_change_t *b)
{
    int order = cmp_i64(a->device_ms, b->device_ms);
    for (int i = 0; order == 0 && i < CM_DEVICE_FIELDS; i++)
        order = cm_str_cmp(a->device[i], b->device[i]);
    return order;
}

static int cmp_push(const cm_device_change_t *a, const cm_device_change_t *b)
{
    int order = cmp_i64(a->push_ms, b->push_ms);
    if (order == 0)
        order = cm_str_cmp(a->push_token, b->push_token);
    if (order == 0)
        order = cm_str_cmp(a->push_address_type, b->push_address_type);
    return order;
}

static int cmp_contact(const cm_device_change_t *a, const cm_device_change_t *b)
{
    int order = cmp_i64(a->contact_ms, b->contact_ms);
    if (order == 0)
        order =
            cmp_optional_i64(a->has_contact_id, a->contact_id, b->has_contact_id, b->contact_id);
    if (order == 0)
        order = cmp_optional_i64(a->has_contact_field_id, a->contact_field_id,
                                 b->has_contact_field_id, b->contact_field_id);
    return order;
}

static void set_device(cm_device_change_t *into, const cm_device_change_t *from)
{
    into->device_ms = from->device_ms;
    for (int i = 0; i < CM_DEVICE_FIELDS; i++)
        into->device[i] = from->device[i];
}

static void set_push(cm_device_change_t *into, const cm_device_change_t *from)
{
    into->push_ms = from->push_ms;
    into->push_token = from->push_token;
    into->push_address_type = from->push_address_type;
}

static void set_contact(cm_device_change_t *into, const cm_device_change_t *from)
{
    into->contact_ms = from->contact_ms;
    into->has_contact_id = from->has_contact_id;
    into->contact_id = from->contact_id;
    into->has_contact_field_id = from->has_contact_field_id;
    into->contact_field_id = from->contact_field_id;
}

/* ---- the change ------------------------------------------------------------------------------ */

static const cm_device_change_t empty_change = {.device_ms = CM_TIME_NONE,
                                                .push_ms = CM_TIME_NONE,
                                                .contact_ms = CM_TIME_NONE,
                                                .removed_ms = CM_TIME_NONE};

void cm_device_change_from_event(cm_device_change_t *ret_change, const cm_device_event_t *event)
{
    *ret_change = empty_change;
    ret_change->application_code = event->application_code;
    ret_change->client_id = event->client_id;
    if (event->removed) { /* it wins against groups of its own time */
        ret_change->removed_ms = event->event_ms;
        return;
    }
    if (event->has_device) {
        ret_change->device_ms = event->event_ms;
        for (int i = 0; i < CM_DEVICE_FIELDS; i++)
            ret_change->device[i] = event->device[i];
    }
    if (event->has_push) {
        ret_change->push_ms = event->event_ms;
        ret_change->push_token = event->push_token;
        ret_change->push_address_type = event->push_address_type;
    }
    if (event->has_contact) {
        ret_change->contact_ms = event->event_ms;
        ret_change->has_contact_id = event->has_contact_id;
        ret_change->contact_id = event->contact_id;
        ret_change->has_contact_field_id = event->has_contact_field_id;
        ret_change->contact_field_id = event->contact_field_id;
    }
}

static void clear_removed(cm_device_change_t *change)
{
    if (change->device_ms <= change->removed_ms)
        set_device(change, &empty_change);
    if (change->push_ms <= change->removed_ms)
        set_push(change, &empty_change);
    if (change->contact_ms <= change->removed_ms)
        set_contact(change, &empty_change);
}

cm_merge_t cm_device_change_merge(cm_device_change_t *into, const cm_device_change_t *from)
{
    assert(cm_device_change_cmp_key(into, from) == 0);
    bool applied = false, stale = false;
    if (from->removed_ms > into->removed_ms) {
        into->removed_ms = from->removed_ms;
        clear_removed(into);
        applied = true;
    } else {
        stale = from->removed_ms != CM_TIME_NONE && from->removed_ms < into->removed_ms;
    }
    struct {
        int64_t ms;
        int order;
        void (*set)(cm_device_change_t *into, const cm_device_change_t *from);
    } registers[] = {{from->device_ms, cmp_device(from, into), set_device},
                     {from->push_ms, cmp_push(from, into), set_push},
                     {from->contact_ms, cmp_contact(from, into), set_contact}};
    for (size_t i = 0; i < sizeof registers / sizeof registers[0]; i++) {
        if (registers[i].ms == CM_TIME_NONE)
            continue;
        bool newer = registers[i].order > 0 && registers[i].ms > into->removed_ms;
        if (newer)
            registers[i].set(into, from);
        applied |= newer;
        stale |= !newer && registers[i].order != 0;
    }
    return applied ? CM_MERGE_APPLIED : stale ? CM_MERGE_STALE : CM_MERGE_DUPLICATE;
}

int cm_device_change_cmp_key(const cm_device_change_t *a, const cm_device_change_t *b)
{
    int order = cm_str_cmp(a->application_code, b->application_code);
    return order ? order : cm_str_cmp(a->client_id, b->client_id);
}
