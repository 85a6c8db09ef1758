/* broker check|create: the topics and subscriptions that the service needs, at the broker that is
 * configured. Each subscription has the name of its topic. */
#include "actors/broker_choice.h"
#include "actors/command.h"
#include "actors/table.h"
#include "proto/subscription.h"
#include "runtime/broker/google_pubsub_admin.h"
#include "runtime/cleanup.h"
#include "runtime/redis.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* What a subscription should have. An ack deadline that normal work never reaches needs no
 * extension; one without traffic must not expire, or its messages are lost unseen. */
enum { ACK_DEADLINE_S = 60, REDIS_TIMEOUT_MS = 3000 };

typedef struct {
    const cm_invocation_t *invocation;
    bool create;
    cm_pubsub_admin_t *pubsub; /* one of the two */
    redisContext *redis;
    cm_table_t table;
    int failed, warned, created;
} broker_command_t;

typedef enum { GOOD, CREATED, WARNING, BAD } verdict_t;

static void say(broker_command_t *self, verdict_t verdict, const char *kind, const char *name,
                const char *found, const char *mend)
{
    static const char *const words[] = {"ok", "created", "warn", "FAIL"};
    cm_table_cell(&self->table, words[verdict]);
    cm_table_cell(&self->table, kind);
    cm_table_cell(&self->table, name);
    cm_table_cell(&self->table, found);
    cm_table_cell(&self->table, mend);
    self->failed += verdict == BAD;
    self->warned += verdict == WARNING;
    self->created += verdict == CREATED;
}

/* ---- Google Pub/Sub ------------------------------------------------------------------------- */

static const char create_command[] = "client-manager broker create";

/* Get "topics/NAME" or "subscriptions/NAME", or make it with body. False: told, and it is not
 * there. */
static bool have(broker_command_t *self, const char *kind, const char *name, const json_t *body,
                 json_t **ret_resource)
{
    char path[2 * CM_TOPIC_NAME_MAX];
    cm_error_t err = {0};
    snprintf(path, sizeof path, "%ss/%s", kind, name);
    cm_status_t status =
        cm_pubsub_admin_call(self->pubsub, CM_HTTP_GET, path, NULL, ret_resource, &err);
    if (status == CM_OK)
        return true;
    if (status == CM_MISSING && !self->create) {
        say(self, BAD, kind, name, "missing", create_command);
        return false;
    }
    if (status == CM_MISSING)
        status = cm_pubsub_admin_call(self->pubsub, CM_HTTP_PUT, path, body, ret_resource, &err);
    if (status == CM_OK)
        say(self, CREATED, kind, name, "", "");
    else
        say(self, BAD, kind, name, err.message,
            strcmp(err.code, "PERMISSION_DENIED") == 0
                ? "grant roles/pubsub.viewer to check, roles/pubsub.editor to create"
                : "");
    return false;
}

static void check_topic(broker_command_t *self, const char *name)
{
    json_t *body = json_object(), *topic = NULL;
    if (have(self, "topic", name, body, &topic))
        say(self, GOOD, "topic", name, "", "");
    json_decref(topic);
    json_decref(body);
}

static json_t *wanted_subscription(const broker_command_t *self, const char *name)
{
    char topic[1024];
    snprintf(topic, sizeof topic, "%s/topics/%s", cm_pubsub_admin_project(self->pubsub), name);
    return json_pack("{s:s, s:i, s:{}}", "topic", topic, "ackDeadlineSeconds", ACK_DEADLINE_S,
                     "expirationPolicy");
}

/* Where a defer counts as a delivery attempt, a policy would take messages that only wait. */
static verdict_t check_dead_letter(const json_t *resource, char *found, size_t size)
{
    json_int_t attempts = 5;
    if (json_unpack((json_t *)resource, "{s:{s?I}}", "deadLetterPolicy", "maxDeliveryAttempts",
                    &attempts) != 0)
        return GOOD;
    snprintf(found, size,
             "dead-letters after %d attempts: waiting for a retry or a suspended tenant counts",
             (int)attempts);
    return BAD;
}

static void check_settings(broker_command_t *self, const char *name, const json_t *resource)
{
    char found[256] = "", mend[512], topic[1024];
    const char *of = "", *ttl = NULL, *option = "";
    int deadline_s = 0, ordering = 0;
    verdict_t verdict = GOOD;
    json_unpack((json_t *)resource, "{s?s, s?i, s?b, s?{s?s}}", "topic", &of, "ackDeadlineSeconds",
                &deadline_s, "enableMessageOrdering", &ordering, "expirationPolicy", "ttl", &ttl);
    bool expires = ttl || !json_object_get(resource, "expirationPolicy");
    snprintf(topic, sizeof topic, "%s/topics/%s", cm_pubsub_admin_project(self->pubsub), name);
    if (strcmp(of, topic) != 0) {
        verdict = BAD;
        snprintf(found, sizeof found, "is attached to %.200s", of);
        option = NULL;
    } else if (check_dead_letter(resource, found, sizeof found) != GOOD) {
        verdict = BAD;
        option = "--clear-dead-letter-policy";
    } else if (expires) {
        verdict = BAD;
        snprintf(found, sizeof found, "expires after %s without use, its messages with it",
                 ttl ? ttl : "31 days");
        option = "--expiration-period=never";
    } else if (deadline_s < ACK_DEADLINE_S) {
        verdict = WARNING;
        snprintf(found, sizeof found, "ack deadline %d s: more leases are extended", deadline_s);
        option = "--ack-deadline=60";
    } else if (ordering) {
        verdict = WARNING;
        snprintf(found, sizeof found, "ordered: one message that waits holds up its key");
        option = NULL;
    }
    if (option)
        snprintf(mend, sizeof mend, "gcloud pubsub subscriptions update %s %s", name, option);
    else
        snprintf(mend, sizeof mend, "delete it once it is empty, then %s", create_command);
    say(self, verdict, "subscription", name, found, verdict == GOOD ? "" : mend);
}

static void check_subscription(broker_command_t *self, const char *name)
{
    json_t *body = wanted_subscription(self, name), *resource = NULL;
    if (have(self, "subscription", name, body, &resource))
        check_settings(self, name, resource);
    json_decref(resource);
    json_decref(body);
}

/* ---- Redis Streams -------------------------------------------------------------------------- */

static bool reply_failed(const redisReply *reply, cm_error_t *err)
{
    return !reply ? cm_redis_classify(NULL, err) != CM_OK
                  : reply->type == REDIS_REPLY_ERROR && cm_redis_classify(reply->str, err) != CM_OK;
}

/* False with err->status CM_OK: there is none. A stream that is not there is no fault here. */
static bool group_exists(broker_command_t *self, const char *name, cm_error_t *err)
{
    CM_CLEANUP(cm_redis_free_reply)
    redisReply *reply = redisCommand(self->redis, "XINFO GROUPS %s", name);
    bool no_stream = reply && reply->type == REDIS_REPLY_ERROR && strstr(reply->str, "no such key");
    if (!no_stream && reply_failed(reply, err))
        return false;
    for (size_t i = 0; reply && reply->type == REDIS_REPLY_ARRAY && i < reply->elements; i++) {
        const redisReply *group = reply->element[i];
        if (group->elements >= 2 && group->element[1]->str &&
            strcmp(group->element[1]->str, name) == 0)
            return true;
    }
    return false;
}

static void check_group(broker_command_t *self, const char *name)
{
    cm_error_t err = {0};
    if (group_exists(self, name, &err) || err.status != CM_OK) {
        say(self, err.status == CM_OK ? GOOD : BAD, "group", name, err.message, "");
        return;
    }
    if (!self->create) {
        say(self, WARNING, "group", name, "missing; the service makes it when it starts",
            create_command);
        return;
    }
    CM_CLEANUP(cm_redis_free_reply)
    redisReply *reply = redisCommand(self->redis, "XGROUP CREATE %s %s 0 MKSTREAM", name, name);
    bool good = !reply_failed(reply, &err);
    say(self, good ? CREATED : BAD, "group", name, good ? "" : err.message, "");
}

/* ---- the command ---------------------------------------------------------------------------- */

static cm_status_t open_broker(broker_command_t *self, cm_error_t *err)
{
    cm_broker_choice_t choice;
    cm_broker_choose(&choice, self->invocation->options, "broker");
    if (self->invocation->options->broker.kind == CM_BROKER_PUBSUB)
        return cm_pubsub_admin_open(&self->pubsub, &choice.options, err);
    cm_redis_address_t address;
    cm_status_t status = cm_redis_parse(choice.options.uri, &address, err);
    return status == CM_OK ? cm_redis_connect(&address, REDIS_TIMEOUT_MS, &self->redis, err)
                           : status;
}

static int check_all(const cm_invocation_t *invocation, bool create)
{
    static const cm_column_t columns[] = {
        {"result", false}, {"kind", false}, {"name", false}, {"found", false}, {"mend", false}};
    broker_command_t self = {.invocation = invocation, .create = create};
    cm_error_t err = {0};
    if (open_broker(&self, &err) != CM_OK)
        return cm_command_fail(invocation, &err);
    cm_table_start(&self.table, columns, CM_LENGTH(columns), invocation->json);
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        char name[CM_TOPIC_NAME_MAX];
        cm_subscription_topic((cm_subscription_id_t)id, invocation->options->broker.prefix, name);
        if (self.redis) {
            check_group(&self, name);
        } else {
            check_topic(&self, name);
            check_subscription(&self, name);
        }
    }
    cm_table_end(&self.table);
    fprintf(stderr, "%d created, %d failed, %d warnings\n", self.created, self.failed, self.warned);
    cm_pubsub_admin_close(&self.pubsub);
    cm_redis_free(&self.redis);
    return self.failed ? CM_EXIT_FAILED : CM_EXIT_OK;
}

int cm_command_broker_check(const cm_invocation_t *invocation)
{
    return check_all(invocation, false);
}

int cm_command_broker_create(const cm_invocation_t *invocation)
{
    return check_all(invocation, true);
}
