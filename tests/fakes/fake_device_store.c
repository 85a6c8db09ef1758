#include "tests/fakes/fake_device_store.h"

#include <stdlib.h>
#include <string.h>

enum { ERRORS = 64 };

cm_fake_device_store_t fake_device_store;

struct cm_device_store {
    cm_store_tenant_t *tenants;
    size_t count;
    cm_error_t errors[ERRORS];
    size_t error_count;
};

void cm_device_store_set_erasure_key(cm_device_store_t *self, const char *key)
{
    (void)self, (void)key;
}

cm_device_store_t *cm_device_store_new(cm_pg_t *pg, const char *admin_schema)
{
    (void)pg, (void)admin_schema;
    return calloc(1, sizeof(cm_device_store_t));
}

void cm_device_store_destroy(cm_device_store_t **self_p)
{
    free(*self_p);
    *self_p = NULL;
}

void cm_device_store_set_patience(cm_device_store_t *self, const cm_device_patience_t *patience)
{
    (void)self, (void)patience;
}

cm_status_t cm_device_store_begin(cm_device_store_t *self, cm_store_tenant_t *tenants, size_t count,
                                  cm_error_t *err)
{
    (void)err;
    memset(self->errors, 0x5a, sizeof self->errors);
    self->tenants = tenants;
    self->count = count;
    self->error_count = 0;
    atomic_fetch_add(&fake_device_store.begins, 1);
    atomic_fetch_add(&fake_device_store.tenants_written, (int)count);
    for (size_t i = 0; i < count; i++)
        atomic_fetch_add(&fake_device_store.trials, tenants[i].on_trial);
    return CM_OK;
}

static const cm_fake_rule_t *rule_for(const cm_store_tenant_t *tenant, const cm_store_item_t *item)
{
    for (size_t i = 0; i < CM_FAKE_RULES; i++) {
        const cm_fake_rule_t *rule = &fake_device_store.rules[i];
        if (rule->error.status != CM_OK &&
            (!rule->client_id || cm_str_is(item->change.client_id, rule->client_id)) &&
            (!rule->tenant || strcmp(tenant->tenant, rule->tenant) == 0) &&
            (!rule->model || cm_str_is(item->change.device[CM_DEVICE_MODEL], rule->model)))
            return rule;
    }
    return NULL;
}

/* Whatever fails is found at once: isolation has its own tests. */
static cm_status_t write_all(cm_device_store_t *self, cm_error_t *err)
{
    cm_status_t away = (cm_status_t)atomic_load(&fake_device_store.away);
    if (away != CM_OK)
        return cm_error_set(err, away, "53100", "away by the test");
    for (size_t t = 0; t < self->count; t++) {
        for (size_t i = 0; i < self->tenants[t].count; i++) {
            cm_store_item_t *item = &self->tenants[t].items[i];
            const cm_fake_rule_t *rule = rule_for(&self->tenants[t], item);
            item->result = rule ? CM_CHANGE_FAILED : CM_CHANGE_APPLIED;
            item->error = NULL;
            if (!rule || self->error_count == ERRORS)
                continue;
            self->errors[self->error_count] = rule->error;
            item->error = &self->errors[self->error_count++];
        }
    }
    return CM_OK;
}

cm_status_t cm_device_store_pump(cm_device_store_t *self, bool *ret_done, cm_error_t *err)
{
    *ret_done = true;
    return write_all(self, err);
}

cm_status_t cm_device_store_try_lock(cm_device_store_t *self, const char *tenant, cm_error_t *err)
{
    (void)self;
    atomic_fetch_add(&fake_device_store.lock_tries, 1);
    for (size_t i = 0; i < CM_FAKE_RULES; i++) {
        const cm_fake_rule_t *rule = &fake_device_store.rules[i];
        if (strcmp(rule->error.code, "55P03") == 0 && rule->tenant &&
            strcmp(rule->tenant, tenant) == 0) {
            *err = rule->error;
            return rule->error.status;
        }
    }
    return CM_OK;
}

bool cm_device_store_wants_write(const cm_device_store_t *self)
{
    (void)self;
    return false;
}

cm_status_t cm_device_store_isolate(cm_device_store_t *self, cm_error_t *err)
{
    return write_all(self, err);
}

cm_status_t cm_device_store_write(cm_device_store_t *self, cm_store_tenant_t *tenants, size_t count,
                                  cm_error_t *err)
{
    cm_status_t status = cm_device_store_begin(self, tenants, count, err);
    return status == CM_OK ? write_all(self, err) : status;
}

cm_device_store_stats_t cm_device_store_stats(const cm_device_store_t *self)
{
    (void)self;
    return (cm_device_store_stats_t){0};
}
