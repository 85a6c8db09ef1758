/* fakes: batch_jobs */
#include "actors/wiring.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <string.h>

static void fill(cm_options_t *options, int64_t shards)
{
    *options = (cm_options_t){0};
    options->monitor.listen = "";
    options->writer.shards = shards;
    options->republisher.shards = 1;
    options->scheduler.enabled = true;
    cm_job_schedule_options_t *jobs[] = {&options->contact_job.schedule,
                                         &options->orphan_job.schedule,
                                         &options->dashboard_job.schedule};
    for (size_t i = 0; i < sizeof jobs / sizeof *jobs; i++)
        *jobs[i] = (cm_job_schedule_options_t){.cron = "@daily", .time_zone = "UTC"};
}

static const cm_service_t *service(const cm_mesh_t *mesh, const char *name)
{
    for (size_t i = 0; i < mesh->service_count; i++)
        if (strcmp(mesh->services[i].name, name) == 0)
            return &mesh->services[i];
    return NULL;
}

Test(wiring, every_sub_worker_has_a_subscription)
{
    for (size_t i = 0; i < cm_wiring_count; i++) {
        bool found = false;
        for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++)
            found |= strcmp(cm_subscription((cm_subscription_id_t)id)->subworker,
                            cm_wiring[i].subworker) == 0;
        cr_expect(found, "%s has no subscription", cm_wiring[i].subworker);
    }
}

/* None works as the login itself, or as an owner. */
Test(wiring, every_sub_worker_works_as_a_role_of_its_own)
{
    for (size_t i = 0; i < cm_wiring_count; i++) {
        cm_role_t role = cm_wiring[i].role;
        cr_expect(role != CM_ROLE_NONE && role != CM_ROLE_OWNER && role != CM_ROLE_AUDIT_OWNER,
                  "%s: \"%s\"", cm_wiring[i].subworker, cm_role_suffix(role));
    }
}

Test(wiring, a_shard_is_told_its_role)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"tenant-activator", "writer"};
    fill(&options, 2);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 2, &err), CM_OK));
    cr_expect(eq(int, mesh.subworkers[0].role, CM_ROLE_DDL));
    cr_expect(eq(int, mesh.subworkers[2].role, CM_ROLE_WRITER));
}

Test(wiring, without_names_every_sub_worker_runs)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    fill(&options, 3);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, NULL, 0, &err), CM_OK));
    cr_expect(eq(sz, mesh.route_count, cm_wiring_count));
    cr_expect(service(&mesh, "writer/2") != NULL);
    cr_expect(service(&mesh, "writer/3") == NULL);
    cr_expect(service(&mesh, "dead-letter/0") != NULL);
}

/* The gateway starts last and is asked to stop after the sub-workers: it pulls for those that are
 * there, and takes their last outcomes. The monitor hears of all. */
Test(wiring, the_gateway_outlives_the_sub_workers_and_the_monitor_all)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    fill(&options, 1);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, NULL, 0, &err), CM_OK));
    const cm_service_t *writer = service(&mesh, "writer/0"), *gateway = service(&mesh, "gateway");
    const cm_service_t *monitor = service(&mesh, "monitor");
    cr_assert(writer && gateway && monitor);
    cr_expect(lt(int, writer->stop_order, gateway->stop_order));
    cr_expect(lt(int, gateway->stop_order, monitor->stop_order));
    cr_expect(eq(ptr, (void *)&mesh.services[0], (void *)monitor));
    cr_expect(eq(ptr, (void *)&mesh.services[mesh.service_count - 1], (void *)gateway));
    cr_expect(writer->drains && gateway->drains && !monitor->drains);
}

Test(wiring, only_what_is_named_runs)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"dead-letter"};
    fill(&options, 2);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 1, &err), CM_OK));
    cr_expect(eq(sz, mesh.route_count, 1));
    cr_expect(service(&mesh, "writer/0") == NULL);
    cr_expect(eq(sz, mesh.expected_count, 2)); /* it and the gateway */
}

Test(wiring, the_sweeper_runs_beside_the_contact_deletion_and_must_beat_too)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"contact-deletion"};
    fill(&options, 2);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 1, &err), CM_OK));
    cr_expect(service(&mesh, "erasure-sweeper") != NULL);
    cr_expect(eq(sz, mesh.expected_count, 3));
    cr_expect(eq(str, (char *)mesh.expected[1], "erasure-sweeper"));
}

Test(wiring, a_sub_worker_named_twice_runs_once)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"writer", "writer"};
    fill(&options, 1);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 2, &err), CM_OK));
    cr_expect(eq(sz, mesh.route_count, 1));
    cr_expect(eq(sz, mesh.subworker_count, 1));
}

Test(wiring, an_unknown_name_lists_the_known_ones)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"wirter"};
    fill(&options, 1);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 1, &err), CM_MISCONFIGURED));
    cr_expect(strstr(err.message, "\"wirter\"") != NULL);
    cr_expect(strstr(err.message, "writer, republisher") != NULL);
}

/* ---- schedulers ----------------------------------------------------------------------------- */

Test(wiring, without_names_each_job_has_a_scheduler_that_drains)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    fill(&options, 1);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, NULL, 0, &err), CM_OK));
    cr_expect(eq(sz, mesh.scheduler_count, cm_batch_job_count));
    const cm_service_t *job = service(&mesh, "job/orphan-deletion");
    cr_assert(job != NULL);
    cr_expect(job->drains);
    cr_expect(mesh.schedulers[0].schedule.has_ticks);
    cm_mesh_close(&mesh);
}

Test(wiring, the_switch_takes_the_schedulers_away_unless_they_are_named)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"scheduler"};
    fill(&options, 1);
    options.scheduler.enabled = false;
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, NULL, 0, &err), CM_OK));
    cr_expect(eq(sz, mesh.scheduler_count, 0));
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 1, &err), CM_OK));
    cr_expect(eq(sz, mesh.scheduler_count, cm_batch_job_count));
    cm_mesh_close(&mesh);
}

Test(wiring, the_schedulers_alone_need_no_gateway)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"scheduler", "scheduler"};
    fill(&options, 1);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 2, &err), CM_OK));
    cr_expect(service(&mesh, "gateway") == NULL);
    cr_expect(eq(sz, mesh.service_count, 1 + cm_batch_job_count), "and the monitor");
    cr_expect(eq(sz, mesh.expected_count, cm_batch_job_count));
    cr_expect(eq(int, cm_mesh_role(&mesh), cm_batch_jobs[0].role));
    cm_mesh_close(&mesh);
}

Test(wiring, a_named_sub_worker_brings_no_scheduler)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    const char *const names[] = {"writer"};
    fill(&options, 1);
    cr_assert(eq(int, cm_mesh_lay_out(&mesh, &options, names, 1, &err), CM_OK));
    cr_expect(eq(sz, mesh.scheduler_count, 0));
    cr_expect(service(&mesh, "gateway") != NULL);
}

Test(wiring, each_start_of_a_process_holds_leases_under_a_name_of_its_own)
{
    char one[CM_LEASE_HOLDER_MAX], other[CM_LEASE_HOLDER_MAX];
    cr_expect(ne(str, (char *)cm_batch_holder(one), (char *)cm_batch_holder(other)));
}

static const cm_gateway_route_t *route_of_verdicts(cm_mesh_t *mesh, const cm_options_t *options)
{
    cm_error_t err = {0};
    const char *const names[] = {"push-token-status"};
    cr_assert(eq(int, cm_mesh_lay_out(mesh, options, names, 1, &err), CM_OK));
    cr_assert(eq(sz, mesh->route_count, 1));
    return &mesh->routes[0];
}

Test(wiring, verdicts_go_in_batches_of_the_configured_size_and_age)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    fill(&options, 1);
    options.push_token_status.batch_max = 100;
    options.push_token_status.batch_age_ms = 1000;
    const cm_gateway_route_t *route = route_of_verdicts(&mesh, &options);
    cr_expect(eq(sz, route->batch_max, 100));
    cr_expect(eq(i64, route->fill_ms, 1000));
}

Test(wiring, the_type_of_verdicts_chooses_between_the_two_subscriptions)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    static const bool leaves[][2] = {[CM_PUSH_TYPE_PUSH] = {false, true},
                                     [CM_PUSH_TYPE_WEB] = {true, false},
                                     [CM_PUSH_TYPE_BOTH] = {false, false}};
    for (int type = 0; type < 3; type++) {
        fill(&options, 1);
        options.push_token_status.type = type;
        const cm_gateway_route_t *route = route_of_verdicts(&mesh, &options);
        cr_expect(
            eq(int, route->leaves(&options, CM_SUBSCRIPTION_PUSH_TOKEN_STATUS), leaves[type][0]));
        cr_expect(eq(int, route->leaves(&options, CM_SUBSCRIPTION_WEB_PUSH_TOKEN_STATUS),
                     leaves[type][1]));
    }
}

Test(wiring, more_actors_than_fit_are_refused)
{
    static cm_mesh_t mesh;
    cm_options_t options;
    cm_error_t err = {0};
    fill(&options, CM_SERVICES_MAX);
    cr_expect(eq(int, cm_mesh_lay_out(&mesh, &options, NULL, 0, &err), CM_MISCONFIGURED));
}
