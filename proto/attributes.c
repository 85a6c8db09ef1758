#include "proto/attributes.h"
#include "runtime/cleanup.h"

static bool is_ours(cm_str_t name)
{
    static const char *const ours[] = {
        CM_ATTRIBUTE_RETRY_COUNT,    CM_ATTRIBUTE_NOT_BEFORE,   CM_ATTRIBUTE_FIRST_FAILED_AT,
        CM_ATTRIBUTE_LAST_FAILED_AT, CM_ATTRIBUTE_ERROR_CLASS,  CM_ATTRIBUTE_ERROR_CODE,
        CM_ATTRIBUTE_ERROR_MESSAGE,  CM_ATTRIBUTE_ORIGIN_TOPIC, CM_ATTRIBUTE_ORIGIN_MESSAGE_ID,
        CM_ATTRIBUTE_REPLAY_COUNT,   CM_ATTRIBUTE_CUSTOMER_ID,
    };
    for (size_t i = 0; i < CM_LENGTH(ours); i++) {
        if (cm_str_is(name, ours[i]))
            return true;
    }
    return false;
}

/* Index of the first attribute of that name; count when there is none. */
static size_t find(const cm_attribute_t *items, size_t count, cm_str_t name)
{
    size_t i = 0;
    while (i < count && !cm_str_eq(items[i].name, name))
        i++;
    return i;
}

cm_str_t cm_attribute_get(const cm_attribute_t *items, size_t count, const char *name)
{
    size_t i = find(items, count, cm_str(name));
    return i < count ? items[i].value : CM_STR_NONE;
}

int64_t cm_attribute_i64(const cm_attribute_t *items, size_t count, const char *name,
                         int64_t fallback)
{
    int64_t value;
    return cm_str_to_i64(cm_attribute_get(items, count, name), &value) ? value : fallback;
}

static void remove_at(cm_attribute_list_t *list, size_t at)
{
    list->count--;
    for (size_t i = at; i < list->count; i++)
        list->items[i] = list->items[i + 1];
}

/* The last attribute that may go: an unknown one, or one whose name stands further in front. Ours
 * are far fewer than the list is long, so there is one. */
static size_t find_victim(const cm_attribute_list_t *list)
{
    size_t i = list->count - 1;
    while (i > 0 && is_ours(list->items[i].name) && find(list->items, i, list->items[i].name) == i)
        i--;
    return i;
}

void cm_attribute_set(cm_attribute_list_t *list, const char *name, cm_str_t value)
{
    cm_str_t key = cm_str(name);
    size_t at = find(list->items, list->count, key);
    if (at == CM_ATTRIBUTES_MAX)
        remove_at(list, find_victim(list));
    if (at >= list->count)
        at = list->count++;
    list->items[at] = (cm_attribute_t){key, value};
}
