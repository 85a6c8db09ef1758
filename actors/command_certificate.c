/* tenant certificate: what the tables tell of a deletion, for others to keep. */
#include "actors/command_tenant.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"
#include "schema/audit_log.h"
#include "schema/migration.h"
#include "schema/tenant_deletion.h"

#include <jansson.h>
#include <stdio.h>
#include <string.h>

typedef struct {
    int64_t generation;
    json_t *entries; /* of the audit log */
} found_t;

static json_t *time_of(int64_t epoch_ms)
{
    char text[CM_TIME_TEXT_MAX];
    return epoch_ms ? json_string(cm_clock_format(epoch_ms, text)) : json_null();
}

static json_t *hash_of(const unsigned char hash[CM_AUDIT_HASH_BYTES])
{
    char text[2 * CM_AUDIT_HASH_BYTES + 1];
    for (size_t i = 0; i < CM_AUDIT_HASH_BYTES; i++)
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    return json_string(text);
}

/* Entries of this generation that tell of its deletion. */
static bool add_entry(void *ctx, const cm_audit_row_t *row)
{
    found_t *self = ctx;
    bool of_it = cm_str_is(row->action, "nothing-to-delete") ||
                 (row->action.len > 9 && memcmp(row->action.ptr, "deletion-", 9) == 0);
    if (row->generation == self->generation && of_it)
        json_array_append_new(self->entries,
                              json_pack("{s:s%, s:I, s:o, s:s%, s:o}", "action", row->action.ptr,
                                        row->action.len, "position", (json_int_t)row->position,
                                        "at", time_of(row->at_us / 1000), "actor", row->actor.ptr,
                                        row->actor.len, "hash", hash_of(row->hash)));
    return true;
}

static bool take_head(void *ctx, const cm_audit_row_t *row)
{
    cm_audit_head_t *head = ctx;
    head->position = row->position;
    memcpy(head->hash, row->hash, sizeof head->hash);
    return false;
}

static json_t *object_of(const char *text)
{
    json_t *object = json_loads(text, 0, NULL);
    return object ? object : json_object();
}

/* Takes entries over. */
static json_t *certificate(const char *tenant, const cm_deletion_record_t *record, json_t *entries,
                           const cm_audit_head_t *head)
{
    char text[CM_AUDIT_HEAD_TEXT_MAX];
    json_t *made = json_pack("{s:s, s:s, s:I, s:b, s:s, s:s}", "certificate",
                             "client-manager tenant deletion 1", "tenant", tenant, "generation",
                             (json_int_t)record->generation, "complete", record->verified_ms != 0,
                             "requested_by", record->requested_by, "reason", record->reason);
    json_object_set_new(made, "event_at", time_of(record->event_ms));
    json_object_set_new(made, "requested_at", time_of(record->requested_ms));
    json_object_set_new(made, "blocked_by_hold_at", time_of(record->blocked_ms));
    json_object_set_new(made, "dropped_at", time_of(record->dropped_ms));
    json_object_set_new(made, "rows", object_of(record->counts));
    json_object_set_new(made, "purged_at", time_of(record->purged_ms));
    json_object_set_new(made, "purged",
                        json_pack("{s:I, s:I}", "dead_letters", (json_int_t)record->dead_letters,
                                  "push_brakes", (json_int_t)record->push_brakes));
    json_object_set_new(made, "verified_at", time_of(record->verified_ms));
    json_object_set_new(made, "left",
                        json_pack("{s:s, s:o}", "database", record->database, "found_by_place",
                                  object_of(record->checks)));
    json_object_set_new(made, "audit", entries);
    json_object_set_new(made, "audit_head", json_string(cm_audit_head_text(head, text)));
    return made;
}

static cm_status_t read_all(const cm_invocation_t *invocation, cm_pg_t *pg, const char *tenant,
                            int64_t generation, cm_arena_t *arena, cm_deletion_record_t *record,
                            json_t *entries, cm_audit_head_t *head, cm_error_t *err)
{
    const char *admin = invocation->options->postgres.admin_schema;
    cm_audit_filter_t of_tenant = {.tenant = tenant};
    cm_audit_filter_t newest = {.newest_first = true, .limit = 1};
    cm_status_t status = cm_tenant_deletion_get(pg, admin, tenant, generation, arena, record, err);
    found_t found = {.generation = record->generation, .entries = entries};
    if (status == CM_OK)
        status = cm_audit_each(pg, admin, &of_tenant, add_entry, &found, err);
    return status == CM_OK ? cm_audit_each(pg, admin, &newest, take_head, head, err) : status;
}

int cm_command_tenant_certificate(const cm_invocation_t *invocation)
{
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = NULL;
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_deletion_record_t record = {0};
    cm_audit_head_t head = {0};
    cm_error_t err = {0};
    char id[CM_TENANT_ID_MAX];
    int64_t generation = -1;
    bool given = cm_flag_given(invocation, "generation");
    if (!cm_tenant_args_check(invocation) ||
        (given && !cm_flag_i64(invocation, "generation", 0, INT64_MAX, &generation)))
        return CM_EXIT_USAGE;
    cm_tenant_args_id(invocation, 0, id);
    json_t *entries = json_array();
    cm_status_t status =
        cm_command_admin_read(invocation, "client-manager tenant", CM_ADMIN_DELETIONS, &pg, &err);
    if (status == CM_OK)
        status = read_all(invocation, pg, id, generation, arena, &record, entries, &head, &err);
    if (status != CM_OK) {
        json_decref(entries);
        return cm_command_fail(invocation, &err);
    }
    json_t *made = certificate(id, &record, entries, &head);
    json_dumpf(made, stdout, JSON_INDENT(invocation->json ? 0 : 2) | JSON_PRESERVE_ORDER);
    fputs("\n", stdout);
    json_decref(made);
    if (record.verified_ms)
        return CM_EXIT_OK;
    fprintf(stderr, "the deletion of tenant %s is not verified yet\n", id);
    return CM_EXIT_PARTIAL;
}
