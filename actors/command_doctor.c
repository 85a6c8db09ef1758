#include "actors/broker_choice.h"
#include "actors/command.h"
#include "actors/table.h"
#include "proto/subscription.h"
#include "runtime/broker/google_pubsub_admin.h"
#include "runtime/cleanup.h"
#include "runtime/redis.h"
#include "schema/checkup.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

typedef struct {
    cm_table_t table;
    int failed, warned;
} doctor_t;

typedef enum { GOOD, WARNING, BAD } verdict_t;

static void say(doctor_t *self, const char *check, verdict_t verdict, const char *found,
                const char *mend)
{
    static const char *const words[] = {"ok", "warn", "FAIL"};
    cm_table_cell(&self->table, words[verdict]);
    cm_table_cell(&self->table, check);
    cm_table_cell(&self->table, found);
    cm_table_cell(&self->table, verdict == GOOD ? "" : mend);
    self->failed += verdict == BAD;
    self->warned += verdict == WARNING;
}

/* ---- PostgreSQL ----------------------------------------------------------------------------- */

static void say_all(doctor_t *self, const cm_checkup_t *items, size_t count)
{
    for (size_t i = 0; i < count; i++)
        say(self, items[i].what,
            items[i].good       ? GOOD
            : items[i].required ? BAD
                                : WARNING,
            items[i].found, items[i].mend);
}

static void check_postgres(doctor_t *self, const cm_options_t *options)
{
    cm_error_t err = {0};
    cm_checkup_t items[CM_CHECKUP_MAX];
    size_t count = 0;
    cm_pg_options_t pg_options = cm_options_pg_as(options, "client-manager doctor", CM_ROLE_DDL);
    CM_CLEANUP(cm_pg_destroy) cm_pg_t *pg = cm_pg_new(&pg_options);
    if (cm_pg_connect(pg, NULL, &err) != CM_OK) {
        say(self, "postgres connection", BAD, err.message,
            strcmp(err.code, "role") == 0 ? "the roles are not prepared: run that command"
                                          : "check postgres.uri, the server, and the password");
        return;
    }
    say(self, "postgres connection", GOOD, "writable", "");
    if (cm_checkup_run(pg, options->postgres.admin_schema, items, &count, &err) != CM_OK) {
        say(self, "postgres settings", BAD, err.message, "grant what is missing");
        return;
    }
    say_all(self, items, count);
    if (!options->postgres.roles)
        return;
    if (cm_checkup_roles(pg, options->postgres.admin_schema, options->postgres.role_prefix, items,
                         &count, &err) != CM_OK)
        say(self, "database roles", BAD, err.message, "client-manager database prepare --roles");
    say_all(self, items, count);
}

/* ---- Redis ---------------------------------------------------------------------------------- */

/* Value of a CONFIG parameter; false when the server does not tell. */
static bool redis_config(redisContext *context, const char *name, char *value, size_t size)
{
    CM_CLEANUP(cm_redis_free_reply)
    redisReply *reply = redisCommand(context, "CONFIG GET %s", name);
    if (!reply || reply->type != REDIS_REPLY_ARRAY || reply->elements < 2)
        return false;
    snprintf(value, size, "%s", reply->element[1]->str);
    return true;
}

static void check_redis(doctor_t *self, const cm_options_t *options)
{
    cm_error_t err = {0};
    cm_redis_address_t address;
    CM_CLEANUP(cm_redis_free) redisContext *context = NULL;
    if (cm_redis_parse(options->redis.uri, &address, &err) != CM_OK ||
        cm_redis_connect(&address, 3000, &context, &err) != CM_OK) {
        say(self, "redis connection", BAD, err.message, "check redis.uri and the server");
        return;
    }
    say(self, "redis connection", GOOD, options->redis.uri[0] == 'u' ? "unix socket" : "tcp", "");
    char value[64];
    if (!redis_config(context, "appendonly", value, sizeof value)) {
        say(self, "redis persistence", WARNING, "CONFIG is refused",
            "see to it that appendonly is yes and maxmemory-policy is noeviction");
        return;
    }
    say(self, "redis appendonly", strcmp(value, "yes") == 0 ? GOOD : BAD, value,
        "CONFIG SET appendonly yes: without it a crash of Redis loses messages");
    if (redis_config(context, "maxmemory-policy", value, sizeof value))
        say(self, "redis maxmemory-policy", strcmp(value, "noeviction") == 0 ? GOOD : BAD, value,
            "CONFIG SET maxmemory-policy noeviction: others throw messages away");
}

/* ---- Google Pub/Sub ------------------------------------------------------------------------- */

static void check_pubsub(doctor_t *self, const cm_options_t *options)
{
    cm_error_t err = {0};
    cm_broker_choice_t choice;
    cm_pubsub_admin_t *admin = NULL;
    char path[16 + CM_TOPIC_NAME_MAX] = "subscriptions/";
    cm_broker_choose(&choice, options, "doctor");
    cm_subscription_topic(CM_SUBSCRIPTION_WRITER, options->broker.prefix, path + strlen(path));
    cm_status_t status = cm_pubsub_admin_open(&admin, &choice.options, &err);
    if (status == CM_OK)
        status = cm_pubsub_admin_call(admin, CM_HTTP_GET, path, NULL, NULL, &err);
    if (status == CM_OK)
        say(self, "pubsub connection", GOOD, cm_pubsub_admin_project(admin), "");
    else if (strcmp(err.code, "PERMISSION_DENIED") == 0) /* running needs no right to look */
        say(self, "pubsub connection", WARNING, err.message,
            "grant roles/pubsub.viewer, then: client-manager broker check");
    else
        say(self, "pubsub connection", BAD, err.message,
            status == CM_MISSING ? "client-manager broker create"
                                 : "check pubsub.project and pubsub.credentials_file");
    cm_pubsub_admin_close(&admin);
}

static void check_limits(doctor_t *self)
{
    struct rlimit limit;
    char found[32];
    getrlimit(RLIMIT_NOFILE, &limit);
    snprintf(found, sizeof found, "%llu", (unsigned long long)limit.rlim_cur);
    say(self, "open files", limit.rlim_cur >= 1024 ? GOOD : WARNING, found,
        "raise LimitNOFILE to 1024 or more");
}

/* Whether the log is whole is another question: `audit verify` reads all of it. */
static void check_audit(doctor_t *self, const cm_options_t *options)
{
    bool keyed = *options->audit.key != '\0';
    say(self, "audit key", keyed ? GOOD : WARNING,
        keyed ? "set" : "none, the audit log is chained by plain SHA-256",
        "openssl rand -hex 32 > FILE; CM_AUDIT_KEY_FILE=FILE: without it whoever can write to the "
        "log can forge it");
}

int cm_command_doctor(const cm_invocation_t *invocation)
{
    static const cm_column_t columns[] = {
        {"result", false}, {"check", false}, {"found", false}, {"mend", false}};
    doctor_t self = {0};
    cm_table_start(&self.table, columns, CM_LENGTH(columns), invocation->json);
    check_postgres(&self, invocation->options);
    if (invocation->options->broker.kind == CM_BROKER_REDIS)
        check_redis(&self, invocation->options);
    else
        check_pubsub(&self, invocation->options);
    check_limits(&self);
    check_audit(&self, invocation->options);
    cm_table_end(&self.table);
    fprintf(stderr, "%d failed, %d warnings\n", self.failed, self.warned);
    return self.failed ? CM_EXIT_FAILED : CM_EXIT_OK;
}
