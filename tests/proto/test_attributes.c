#include "proto/attributes.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <string.h>

static const cm_attribute_t some[] = {
    {{"colour", 6}, {"red", 3}},
    {{"retryCount", 10}, {"3", 1}},
    {{"empty", 5}, {"", 0}},
    {{"colour", 6}, {"blue", 4}},
};

static void fill(cm_attribute_list_t *list, char names[CM_ATTRIBUTES_MAX][8])
{
    list->count = 0;
    for (size_t i = 0; i < CM_ATTRIBUTES_MAX; i++) {
        snprintf(names[i], 8, "x%zu", i);
        cm_attribute_set(list, names[i], CM_STR("v"));
    }
}

Test(attributes, the_first_of_a_name_is_its_value)
{
    cr_expect(cm_str_is(cm_attribute_get(some, 4, "colour"), "red"));
}

Test(attributes, a_missing_name_is_absent_but_an_empty_value_is_not)
{
    cr_expect(cm_attribute_get(some, 4, "Colour").ptr == NULL);
    cr_expect(cm_attribute_get(NULL, 0, "colour").ptr == NULL);
    cr_expect(cm_attribute_get(some, 4, "empty").ptr != NULL);
}

Test(attributes, a_number_falls_back_when_absent_or_no_number)
{
    cr_expect(eq(i64, cm_attribute_i64(some, 4, "retryCount", 9), 3));
    cr_expect(eq(i64, cm_attribute_i64(some, 4, "missing", 9), 9));
    cr_expect(eq(i64, cm_attribute_i64(some, 4, "empty", 9), 9));
    cr_expect(eq(i64, cm_attribute_i64(some, 4, "colour", 9), 9));
    const cm_attribute_t huge = {CM_STR("n"), CM_STR("99999999999999999999")};
    cr_expect(eq(i64, cm_attribute_i64(&huge, 1, "n", 9), 9));
}

Test(attributes, setting_twice_keeps_one_with_the_later_value)
{
    cm_attribute_list_t list = {.count = 0};
    cm_attribute_set(&list, "a", CM_STR("1"));
    cm_attribute_set(&list, "b", CM_STR("2"));
    cm_attribute_set(&list, "a", CM_STR("3"));
    cr_expect(eq(sz, list.count, 2));
    cr_expect(cm_str_is(cm_attribute_get(list.items, list.count, "a"), "3"));
    cr_expect(cm_str_is(cm_attribute_get(list.items, list.count, "b"), "2"));
}

Test(attributes, a_full_list_drops_its_last_unknown_one_for_ours)
{
    cm_attribute_list_t list;
    char names[CM_ATTRIBUTES_MAX][8];
    fill(&list, names);
    cm_attribute_set(&list, CM_ATTRIBUTE_RETRY_COUNT, CM_STR("1"));
    cm_attribute_set(&list, CM_ATTRIBUTE_ERROR_CODE, CM_STR("40001"));
    cr_expect(eq(sz, list.count, CM_ATTRIBUTES_MAX));
    cr_expect(cm_str_is(cm_attribute_get(list.items, list.count, "retryCount"), "1"));
    cr_expect(cm_str_is(cm_attribute_get(list.items, list.count, "errorCode"), "40001"));
    cr_expect(cm_attribute_get(list.items, list.count, "x97").ptr != NULL);
    cr_expect(cm_attribute_get(list.items, list.count, "x98").ptr == NULL);
    cr_expect(cm_attribute_get(list.items, list.count, "x99").ptr == NULL);
}

Test(attributes, replacing_in_a_full_list_drops_nothing)
{
    cm_attribute_list_t list;
    char names[CM_ATTRIBUTES_MAX][8];
    fill(&list, names);
    cm_attribute_set(&list, "x0", CM_STR("new"));
    cr_expect(cm_str_is(cm_attribute_get(list.items, list.count, "x0"), "new"));
    cr_expect(cm_attribute_get(list.items, list.count, "x99").ptr != NULL);
}

Test(attributes, a_list_full_of_repeated_ours_gives_up_a_repetition)
{
    cm_attribute_list_t list = {.count = CM_ATTRIBUTES_MAX};
    for (size_t i = 0; i < CM_ATTRIBUTES_MAX; i++)
        list.items[i] = (cm_attribute_t){CM_STR("customerId"), CM_STR("1")};
    list.items[0].name = CM_STR("originMessageId");
    list.items[CM_ATTRIBUTES_MAX - 1].name = CM_STR("originTopic");
    cm_attribute_set(&list, CM_ATTRIBUTE_RETRY_COUNT, CM_STR("1"));
    cr_expect(eq(sz, list.count, CM_ATTRIBUTES_MAX));
    cr_expect(cm_attribute_get(list.items, list.count, "customerId").ptr != NULL);
    cr_expect(cm_attribute_get(list.items, list.count, "originMessageId").ptr != NULL);
    cr_expect(cm_attribute_get(list.items, list.count, "originTopic").ptr != NULL);
    cr_expect(cm_attribute_get(list.items, list.count, "retryCount").ptr != NULL);
}
