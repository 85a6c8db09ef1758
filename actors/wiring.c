#include "actors/wiring.h"
#include "actors/account_deletion.h"
#include "actors/broker_choice.h"
#include "actors/contact_deletion.h"
#include "actors/dead_letter.h"
#include "actors/erasure_sweeper.h"
#include "actors/push_token_status.h"
#include "actors/republisher.h"
#include "actors/tenant_activator.h"
#include "actors/writer.h"
#include "proto/endpoint.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

static unsigned one(const cm_options_t *options)
{
    (void)options;
    return 1;
}

static unsigned writer_shards(const cm_options_t *options)
{
    return (unsigned)options->writer.shards;
}

static unsigned republisher_shards(const cm_options_t *options)
{
    return (unsigned)options->republisher.shards;
}

/* push_token_status.type chooses between the two subscriptions. */
static bool leaves_verdicts(const cm_options_t *options, cm_subscription_id_t id)
{
    int type = options->push_token_status.type;
    return type != CM_PUSH_TYPE_BOTH &&
           (id == CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS) != (type == CM_PUSH_TYPE_WEB);
}

static void route_verdicts(const cm_options_t *options, cm_gateway_route_t *route)
{
    route->batch_max = (size_t)options->push_token_status.batch_max;
    route->fill_ms = options->push_token_status.batch_age_ms;
    route->leaves = leaves_verdicts;
}

const cm_wiring_t cm_wiring[] = {
    {"writer", cm_writer_actor, writer_shards, 0, "device events into the tenants' schemas",
     CM_ROLE_WRITER, NULL},
    {"republisher", cm_republisher_actor, republisher_shards, 1000,
     "retries of device events at their time", CM_ROLE_WRITER, NULL},
    {"push-token-status", cm_push_token_status_actor, one, 0,
     "what push providers say of tokens, into the devices", CM_ROLE_WRITER, route_verdicts},
    {"tenant-activator", cm_tenant_activator_actor, one, 50,
     "schemas for customers that were activated", CM_ROLE_DDL, NULL},
    {"account-deletion", cm_account_deletion_actor, one, 1,
     "schemas of customers that are deleted, in steps that are resumed", CM_ROLE_DDL, NULL},
    {"contact-deletion", cm_contact_deletion_actor, one, 500,
     "devices of contacts that were deleted", CM_ROLE_PURGER, NULL},
    {"dead-letter", cm_dead_letter_actor, one, 1000, "the errors topics into a table",
     CM_ROLE_WRITER, NULL},
};
const size_t cm_wiring_count = CM_LENGTH(cm_wiring);

const cm_wiring_t *cm_wiring_find(const char *subworker)
{
    for (size_t i = 0; i < cm_wiring_count; i++)
        if (strcmp(cm_wiring[i].subworker, subworker) == 0)
            return &cm_wiring[i];
    return NULL;
}

enum { STOP_SUBWORKERS = 1, STOP_GATEWAY = 2, STOP_MONITOR = 3 };

static void add_service(cm_mesh_t *self, const cm_service_t *service)
{
    self->services[self->service_count++] = *service;
    if (service->body != cm_monitor_actor)
        self->expected[self->expected_count++] = service->name;
}

static cm_status_t add_subworker(cm_mesh_t *self, const cm_options_t *options,
                                 const cm_wiring_t *wiring, cm_error_t *err)
{
    for (size_t i = 0; i < self->route_count; i++)
        if (strcmp(self->routes[i].subworker, wiring->subworker) == 0)
            return CM_OK; /* named twice */
    unsigned shards = wiring->shards(options);
    if (self->service_count + shards + 3 > CM_SERVICES_MAX)
        return cm_error_set(err, CM_MISCONFIGURED, "config", "more than %d actors in all",
                            CM_SERVICES_MAX);
    cm_gateway_route_t *route = &self->routes[self->route_count++];
    *route = (cm_gateway_route_t){
        .subworker = wiring->subworker, .shards = shards, .batch_max = wiring->batch_max};
    if (wiring->route)
        wiring->route(options, route);
    for (unsigned shard = 0; shard < shards; shard++) {
        cm_subworker_args_t *args = &self->subworkers[self->subworker_count++];
        *args = (cm_subworker_args_t){.subworker = wiring->subworker,
                                      .shard = shard,
                                      .role = wiring->role,
                                      .options = options,
                                      .reports = CM_ENDPOINT_REPORTS};
        snprintf(args->name, sizeof args->name, "%s/%u", wiring->subworker, shard);
        add_service(self, &(cm_service_t){.name = args->name,
                                          .body = wiring->body,
                                          .args = args,
                                          .stop_order = STOP_SUBWORKERS,
                                          .drains = true,
                                          .required = true});
    }
    return CM_OK;
}

/* Beside the sub-worker whose erasures it completes. */
static void add_sweeper(cm_mesh_t *self, const cm_options_t *options)
{
    cm_subworker_args_t *args = &self->subworkers[self->subworker_count++];
    *args = (cm_subworker_args_t){.name = "erasure-sweeper",
                                  .subworker = "erasure-sweeper",
                                  .role = CM_ROLE_DDL,
                                  .options = options,
                                  .reports = CM_ENDPOINT_REPORTS};
    add_service(self, &(cm_service_t){.name = args->name,
                                      .body = cm_erasure_sweeper_actor,
                                      .args = args,
                                      .stop_order = STOP_SUBWORKERS,
                                      .required = true});
}

static cm_status_t add_scheduler(cm_mesh_t *self, const cm_options_t *options,
                                 const cm_batch_job_t *job, cm_error_t *err)
{
    if (self->scheduler_count == CM_SCHEDULERS_MAX || self->service_count + 3 > CM_SERVICES_MAX)
        return cm_error_set(err, CM_MISCONFIGURED, "config", "more than %d actors in all",
                            CM_SERVICES_MAX);
    cm_scheduler_args_t *args = &self->schedulers[self->scheduler_count++];
    *args = (cm_scheduler_args_t){
        .job = job, .options = options, .holder = self->holder, .reports = CM_ENDPOINT_REPORTS};
    snprintf(args->name, sizeof args->name, "job/%s", job->name);
    add_service(self, &(cm_service_t){.name = args->name,
                                      .body = cm_scheduler_actor,
                                      .args = args,
                                      .stop_order = STOP_SUBWORKERS,
                                      .drains = true,
                                      .required = true});
    if (cm_job_schedule_open(&args->schedule, job->name, cm_batch_job_schedule(job, options),
                             err) == CM_OK)
        return CM_OK;
    return cm_error_prefix(err, "%s", job->section);
}

static cm_status_t add_schedulers(cm_mesh_t *self, const cm_options_t *options, cm_error_t *err)
{
    cm_status_t status = CM_OK;
    if (self->scheduler_count)
        return CM_OK; /* named twice */
    for (size_t i = 0; status == CM_OK && i < cm_batch_job_count; i++)
        status = add_scheduler(self, options, &cm_batch_jobs[i], err);
    return status;
}

static cm_status_t add_named(cm_mesh_t *self, const cm_options_t *options, const char *name,
                             cm_error_t *err)
{
    const cm_wiring_t *wiring = cm_wiring_find(name);
    if (strcmp(name, CM_SCHEDULER) == 0)
        return add_schedulers(self, options, err);
    if (wiring)
        return add_subworker(self, options, wiring, err);
    cm_error_set(err, CM_MISCONFIGURED, "usage", "there is no sub-worker \"%s\"; give", name);
    for (size_t i = 0; i <= cm_wiring_count; i++) {
        size_t used = strlen(err->message);
        snprintf(err->message + used, sizeof err->message - used, "%s %s", i ? "," : "",
                 i < cm_wiring_count ? cm_wiring[i].subworker : CM_SCHEDULER);
    }
    return err->status;
}

static void add_gateway(cm_mesh_t *self, const cm_options_t *options)
{
    self->gateway = (cm_gateway_args_t){.options = options,
                                        .driver = cm_broker_driver_of(options),
                                        .consumer = self->consumer,
                                        .reports = CM_ENDPOINT_REPORTS,
                                        .routes = self->routes,
                                        .route_count = self->route_count};
    add_service(self, &(cm_service_t){.name = "gateway",
                                      .body = cm_gateway_actor,
                                      .args = &self->gateway,
                                      .stop_order = STOP_GATEWAY,
                                      .drains = true,
                                      .required = true,
                                      .essential = true});
}

cm_status_t cm_mesh_lay_out(cm_mesh_t *self, const cm_options_t *options, const char *const *names,
                            size_t count, cm_error_t *err)
{
    *self = (cm_mesh_t){0};
    char host[64] = "host";
    gethostname(host, sizeof host - 1);
    snprintf(self->consumer, sizeof self->consumer, "%s:%d:%llx", host, (int)getpid(),
             (unsigned long long)cm_random_u64());
    cm_batch_holder(self->holder);
    add_service(self, &(cm_service_t){.name = "monitor",
                                      .body = cm_monitor_actor,
                                      .args = &self->monitor,
                                      .stop_order = STOP_MONITOR,
                                      .required = true,
                                      .essential = true});
    cm_status_t status = CM_OK;
    for (size_t i = 0; status == CM_OK && i < count; i++)
        status = add_named(self, options, names[i], err);
    for (size_t i = 0; status == CM_OK && !count && i < cm_wiring_count; i++)
        status = add_subworker(self, options, &cm_wiring[i], err);
    if (status == CM_OK && !count && options->scheduler.enabled)
        status = add_schedulers(self, options, err);
    if (status != CM_OK)
        return status;
    for (size_t i = 0; i < self->route_count; i++)
        if (strcmp(self->routes[i].subworker, "contact-deletion") == 0)
            add_sweeper(self, options);
    if (self->route_count)
        add_gateway(self, options);
    self->monitor = (cm_monitor_args_t){.reports = CM_ENDPOINT_REPORTS,
                                        .listen = options->monitor.listen,
                                        .version = CM_VERSION,
                                        .expected = self->expected,
                                        .expected_count = self->expected_count,
                                        .beat_timeout_ms = (int)options->monitor.beat_timeout_ms};
    return CM_OK;
}

void cm_mesh_close(cm_mesh_t *self)
{
    for (size_t i = 0; i < self->scheduler_count; i++)
        cm_job_schedule_close(&self->schedulers[i].schedule);
}

cm_role_t cm_mesh_role(const cm_mesh_t *self)
{
    if (self->subworker_count)
        return self->subworkers[0].role;
    return self->scheduler_count ? self->schedulers[0].job->role : CM_ROLE_DASH;
}
