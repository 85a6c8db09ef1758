#include "actors/job_orphan_figures.h"
#include "runtime/cleanup.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <jansson.h>
#include <stdio.h>

static cm_orphan_tenant_t tenant_of(const char *id, int64_t devices, int64_t orphans,
                                    int64_t deleted)
{
    cm_orphan_tenant_t tenant = {.result = {.devices = devices,
                                            .orphans = orphans,
                                            .deleted = deleted,
                                            .batches = 1,
                                            .lock_waits = 2}};
    snprintf(tenant.id, sizeof tenant.id, "%s", id);
    return tenant;
}

Test(job_orphan_figures, what_is_kept_of_a_tenant_can_be_read_again)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_orphan_tenant_t tenant = tenant_of("a", 5, 4, 3);
    cm_orphan_result_t read;
    cm_orphan_end_t end;
    cm_orphan_detail_write(&text, CM_ORPHAN_HELD, &tenant.result);
    cm_orphan_detail_read((cm_str_t){text.data, text.len}, &end, &read);
    cr_expect(eq(int, end, CM_ORPHAN_HELD));
    cr_expect(eq(i64, read.devices, 5));
    cr_expect(eq(i64, read.orphans, 4));
    cr_expect(eq(i64, read.deleted, 3));
    cr_expect(eq(i64, read.batches, 1));
    cr_expect(eq(i64, read.lock_waits, 2));
}

Test(job_orphan_figures, what_cannot_be_read_is_zero)
{
    cm_orphan_result_t read;
    cm_orphan_end_t end;
    const char *texts[] = {"", "{", "[]", "{\"end\": 1, \"devices\": \"x\"}", "{\"end\": \"?\"}"};
    for (size_t i = 0; i < CM_LENGTH(texts); i++) {
        cm_orphan_detail_read(cm_str(texts[i]), &end, &read);
        cr_expect(eq(int, end, CM_ORPHAN_DONE));
        cr_expect(eq(i64, read.devices, 0));
    }
    cm_orphan_detail_read(CM_STR_NONE, &end, &read);
    cr_expect(eq(int, end, CM_ORPHAN_DONE));
}

Test(job_orphan_figures, an_attempt_counts_what_the_one_before_left)
{
    cm_orphan_result_t all = {0};
    cm_orphan_tenant_t first = tenant_of("a", 100, 10, 4), second = tenant_of("a", 96, 6, 6);
    cm_orphan_attempt_add(&all, &first.result);
    cm_orphan_attempt_add(&all, &second.result);
    cr_expect(eq(i64, all.devices, 100));
    cr_expect(eq(i64, all.orphans, 10));
    cr_expect(eq(i64, all.deleted, 10));
    cr_expect(eq(i64, all.batches, 2));
    cr_expect(eq(i64, all.lock_waits, 4));
}

Test(job_orphan_figures, the_summary_counts_ends_and_names_those_the_guard_kept)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_orphan_figures_t figures = {.rounds = 2};
    cm_orphan_tenant_t a = tenant_of("a", 10, 2, 2), b = tenant_of("b", 200, 90, 0);
    cm_orphan_figures_add(&figures, CM_ORPHAN_DONE, &a);
    cm_orphan_figures_add(&figures, CM_ORPHAN_GUARDED, &b);
    cm_orphan_figures_add(&figures, CM_ORPHAN_FAILED, &a);
    cm_orphan_figures_add(&figures, CM_ORPHAN_FAILED, &a);
    cm_orphan_figures_take(&figures, CM_ORPHAN_FAILED, &a);
    cm_orphan_summary_write(&text, &figures);
    cr_expect(eq(str, (char *)cm_buffer_text(&text),
                 "{\"tenants_done\": 1, \"tenants_failed\": 2, \"tenants_guarded\": 1,"
                 " \"tenants_excluded\": 0, \"tenants_held\": 0, \"tenants_gone\": 0,"
                 " \"devices\": 220, \"orphans\": 94, \"deleted\": 4, \"batches\": 3,"
                 " \"lock_waits\": 6, \"retry_rounds\": 2, \"guarded\": [{\"tenant\": \"b\","
                 " \"devices\": 200, \"orphans\": 90}]}"));
    cm_orphan_figures_destroy(&figures);
}

Test(job_orphan_figures, a_summary_has_room_however_many_the_guard_kept)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_orphan_figures_t figures = {0};
    cm_orphan_tenant_t tenant =
        tenant_of("a23456789012345678901234567890123456789012345678901234567890", INT64_MAX / 1000,
                  INT64_MAX / 1000, 0);
    for (int i = 0; i < 500; i++)
        cm_orphan_figures_add(&figures, CM_ORPHAN_GUARDED, &tenant);
    cm_orphan_summary_write(&text, &figures);
    cr_expect(lt(sz, text.len, 64 * 1024));
    json_t *root = json_loadb(text.data, text.len, 0, NULL);
    cr_expect(eq(sz, json_array_size(json_object_get(root, "guarded")), 100));
    json_decref(root);
    cm_orphan_figures_destroy(&figures);
}
