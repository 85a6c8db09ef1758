#include "tests/fakes/fake_token_status_store.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cm_fake_token_status_store_t fake_token_status_store;

struct cm_token_status_store {
    int nothing;
};

cm_token_status_store_t *cm_token_status_store_new(cm_pg_t *pg, const char *admin_schema)
{
    (void)pg, (void)admin_schema;
    return calloc(1, sizeof(cm_token_status_store_t));
}

void cm_token_status_store_destroy(cm_token_status_store_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

static void decide(cm_token_verdict_t *verdict)
{
    static const cm_error_t errors[] = {{CM_TRANSIENT, "40P01", "deadlock"},
                                        {CM_TRANSIENT, "55P03", "locked"},
                                        {CM_PERMANENT, "23514", "bad"},
                                        {CM_MISSING, "42P01", "missing"}};
    static const char *const names[] = {"transient", "locked", "bad", "missing"};
    verdict->is_braked = verdict->is_gone && atomic_load(&fake_token_status_store.braked);
    verdict->result = verdict->is_braked                           ? CM_TOKEN_HELD
                      : cm_str_is(verdict->client_id, "stale")     ? CM_TOKEN_STALE
                      : cm_str_is(verdict->client_id, "duplicate") ? CM_TOKEN_DUPLICATE
                                                                   : CM_TOKEN_APPLIED;
    for (size_t i = 0; i < 4; i++)
        if (cm_str_is(verdict->client_id, names[i])) {
            verdict->result = CM_TOKEN_FAILED;
            verdict->error = &errors[i];
        }
}

cm_status_t cm_token_status_store_write(cm_token_status_store_t *self, cm_token_tenant_t *tenants,
                                        size_t count, cm_error_t *err)
{
    (void)self;
    if (atomic_load(&fake_token_status_store.failures) > 0) {
        atomic_fetch_sub(&fake_token_status_store.failures, 1);
        return cm_error_set(err, CM_UNAVAILABLE, "link", "lost by the test");
    }
    for (size_t t = 0; t < count; t++) {
        for (size_t i = 0; i < tenants[t].trip_count; i++) {
            tenants[t].trips[i].is_new = true;
            atomic_store(&fake_token_status_store.braked, 1);
        }
        tenants[t].is_tripped = tenants[t].trip_count > 0;
        atomic_fetch_add(&fake_token_status_store.trips, (int)tenants[t].trip_count);
        for (size_t i = 0; i < tenants[t].count; i++)
            decide(&tenants[t].verdicts[i]);
        atomic_fetch_add(&fake_token_status_store.verdicts, (int)tenants[t].count);
    }
    atomic_fetch_add(&fake_token_status_store.writes, 1);
    return CM_OK;
}

cm_status_t cm_token_status_prune_next(cm_pg_t *pg, const char *admin_schema, const char *after,
                                       int64_t most, char ret_tenant[CM_TENANT_ID_MAX],
                                       int64_t *ret_forgotten, cm_error_t *err)
{
    (void)pg, (void)admin_schema;
    const char *next = strcmp(after, "a") < 0 ? "a" : strcmp(after, "b") < 0 ? "b" : "";
    snprintf(ret_tenant, CM_TENANT_ID_MAX, "%s", next);
    *ret_forgotten = 0;
    if (*next == 'b' && atomic_load(&fake_token_status_store.old_chunks) > 0) {
        atomic_fetch_sub(&fake_token_status_store.old_chunks, 1);
        *ret_forgotten = most;
    }
    atomic_fetch_add(*next ? &fake_token_status_store.prunes : &fake_token_status_store.rounds, 1);
    return *next == 'a' ? cm_error_set(err, CM_TRANSIENT, "55P03", "locked by the test") : CM_OK;
}

cm_token_status_stats_t cm_token_status_store_stats(const cm_token_status_store_t *self)
{
    (void)self;
    return (cm_token_status_stats_t){0};
}
