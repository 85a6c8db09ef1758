#include "tests/fakes/fake_dead_letter_store.h"

cm_fake_dead_letter_store_t fake_dead_letter_store;

cm_status_t cm_dead_letter_keep(cm_pg_t *pg, const cm_dead_letter_place_t *place,
                                const char *errors_topic, const cm_delivery_t *deliveries,
                                size_t count, cm_letter_result_t *ret_results, cm_error_t *err)
{
    (void)pg, (void)place, (void)errors_topic;
    atomic_fetch_add(&fake_dead_letter_store.statements, 1);
    cm_status_t failure = (cm_status_t)atomic_load(&fake_dead_letter_store.failure);
    if (failure != CM_OK)
        return cm_error_set(err, failure, "55P03", "refused by the test");
    for (size_t i = 0; i < count; i++)
        if (cm_str_is(deliveries[i].body, "bad"))
            return cm_error_set(err, CM_PERMANENT, "22021", "a bad letter");
    for (size_t i = 0; i < count; i++)
        ret_results[i] = cm_str_is(deliveries[i].body, "known")    ? CM_LETTER_KEPT_BEFORE
                         : cm_str_is(deliveries[i].body, "erased") ? CM_LETTER_DROPPED
                         : cm_str_is(deliveries[i].body, "busy")   ? CM_LETTER_BUSY
                                                                   : CM_LETTER_KEPT;
    return CM_OK;
}

static cm_status_t not_faked(cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "test", "not faked");
}

cm_status_t cm_dead_letter_list(cm_pg_t *pg, const char *admin_schema,
                                const cm_dead_letter_filter_t *filter, bool with_body,
                                cm_arena_t *arena, cm_dead_letter_t **ret_items, size_t *ret_count,
                                cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)filter, (void)with_body;
    (void)arena, (void)ret_items, (void)ret_count;
    return not_faked(err);
}

cm_status_t cm_dead_letter_count(cm_pg_t *pg, const char *admin_schema,
                                 const cm_dead_letter_filter_t *filter, int64_t *ret_count,
                                 cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)filter, (void)ret_count;
    return not_faked(err);
}

cm_status_t cm_dead_letter_mark_replayed(cm_pg_t *pg, const char *admin_schema, int64_t id,
                                         cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)id;
    return not_faked(err);
}

cm_status_t cm_dead_letter_purge(cm_pg_t *pg, const char *admin_schema,
                                 const cm_dead_letter_filter_t *filter, int64_t *ret_deleted,
                                 cm_error_t *err)
{
    (void)pg, (void)admin_schema, (void)filter, (void)ret_deleted;
    return not_faked(err);
}
