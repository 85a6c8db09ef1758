/* broker check and create as an operator uses them: the built program; Redis, and Pub/Sub's
 * stand-in. */
#include "runtime/cleanup.h"
#include "tests/support/fixture.h"
#include "tests/support/program.h"
#include "tests/support/pubsub_server.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PROJECT "/v1/projects/test/"

typedef struct {
    cm_test_pubsub_t server;
    char emulator[64];
    const char *env[4];
    cm_program_t program;
} world_t;

static void world_open(world_t *self)
{
    *self = (world_t){0};
    cm_test_pubsub_start(&self->server, NULL);
    snprintf(self->emulator, sizeof self->emulator, "PUBSUB_EMULATOR_HOST=127.0.0.1:%d",
             self->server.port);
    self->env[0] = self->emulator;
    self->env[1] = "CM_BROKER_KIND=pubsub";
    self->env[2] = "CM_PUBSUB_PROJECT=test";
}

static const cm_program_t *broker(world_t *self, const char *verb)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cm_program_run(&self->program, NULL, self->env, (const char *const[]){"broker", verb, NULL});
    return &self->program;
}

static void world_close(world_t *self)
{
    if (self->program.out)
        cm_program_destroy(&self->program);
    cr_expect(eq(llong, cm_test_pubsub_stat(&self->server, "violations.count"), 0));
    cm_test_pubsub_stop(&self->server);
}

static bool says(const cm_program_t *done, const char *text)
{
    return strstr(done->out, text) != NULL;
}

/* Change a subscription in one field. */
static void patch(world_t *self, const char *name, const char *field, const char *value)
{
    char path[128], body[256];
    snprintf(path, sizeof path, PROJECT "subscriptions/%s", name);
    snprintf(body, sizeof body, "{\"subscription\":{\"%s\":%s},\"updateMask\":\"%s\"}", field,
             value, field);
    free(cm_test_pubsub_call(&self->server, "PATCH", path, body, NULL));
}

Test(command_broker, check_tells_what_is_missing_and_changes_nothing, .timeout = 60)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    for (int i = 0; i < 2; i++) {
        const cm_program_t *done = broker(&world, "check");
        cr_expect(eq(int, done->code, 1));
        cr_expect(eq(str, done->err, "0 created, 18 failed, 0 warnings\n"));
        cr_expect(says(done, "missing"));
        cr_expect(says(done, "client-manager broker create"));
    }
}

Test(command_broker, create_makes_what_is_missing_once, .timeout = 60)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cr_expect(eq(int, broker(&world, "create")->code, 0));
    cr_expect(eq(str, world.program.err, "18 created, 0 failed, 0 warnings\n"));
    cr_expect(eq(int, broker(&world, "create")->code, 0));
    cr_expect(eq(str, world.program.err, "0 created, 0 failed, 0 warnings\n"));
    cr_expect(eq(int, broker(&world, "check")->code, 0));
    char *answer = cm_test_pubsub_call(&world.server, "GET",
                                       PROJECT "subscriptions/client-manager.writer", NULL, NULL);
    cr_expect(strstr(answer, "\"ackDeadlineSeconds\": 60") ||
                  strstr(answer, "\"ackDeadlineSeconds\":60"),
              "%s", answer);
    cr_expect(strstr(answer, "expirationPolicy") != NULL, "%s", answer);
    free(answer);
}

Test(command_broker, a_dead_letter_policy_would_take_messages_that_wait, .timeout = 60)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    broker(&world, "create");
    patch(&world, "client-manager.republisher", "deadLetterPolicy",
          "{\"deadLetterTopic\":\"projects/test/topics/client-manager.writer-errors\","
          "\"maxDeliveryAttempts\":7}");
    cr_expect(eq(int, broker(&world, "check")->code, 1));
    cr_expect(says(&world.program, "dead-letters after 7 attempts"));
    cr_expect(says(&world.program, "gcloud pubsub subscriptions update client-manager.republisher "
                                   "--clear-dead-letter-policy"));
}

Test(command_broker, a_short_deadline_is_a_warning_and_an_end_a_fault, .timeout = 60)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    broker(&world, "create");
    patch(&world, "client-manager.writer", "ackDeadlineSeconds", "10");
    patch(&world, "client-manager.account-deletion", "expirationPolicy", "{\"ttl\":\"2678400s\"}");
    cr_expect(eq(int, broker(&world, "check")->code, 1));
    cr_expect(eq(str, world.program.err, "0 created, 1 failed, 1 warnings\n"));
    cr_expect(says(&world.program, "--ack-deadline=60"));
    cr_expect(says(&world.program, "--expiration-period=never"));
}

Test(command_broker, a_missing_right_is_told_with_the_role, .timeout = 60)
{
    CM_CLEANUP(world_close) world_t world;
    world_open(&world);
    cm_test_pubsub_fault(&world.server, "{\"kind\":\"status\",\"call\":\"getTopic\",\"status\":403,"
                                        "\"google\":\"PERMISSION_DENIED\"}");
    cr_expect(eq(int, broker(&world, "check")->code, 1));
    cr_expect(says(&world.program, "roles/pubsub.viewer"));
}

Test(command_broker, redis_groups_are_made_as_well, .timeout = 60)
{
    char redis[CM_TEST_URI_MAX + 32], prefix[CM_TEST_NAME_MAX], variable[CM_TEST_NAME_MAX + 32];
    CM_CLEANUP(cm_program_destroy) cm_program_t before = {0}, made = {0}, after = {0};
    cm_test_unique(prefix, "cli");
    snprintf(redis, sizeof redis, "CM_REDIS_URI=%s", cm_test_redis_uri());
    snprintf(variable, sizeof variable, "CM_BROKER_PREFIX=%s", prefix);
    const char *const env[] = {redis, variable, NULL};
    cm_program_run(&before, NULL, env, (const char *const[]){"broker", "check", NULL});
    cr_expect(eq(str, before.err, "0 created, 0 failed, 9 warnings\n"));
    cm_program_run(&made, NULL, env, (const char *const[]){"broker", "create", NULL});
    cr_expect(eq(str, made.err, "9 created, 0 failed, 0 warnings\n"));
    cm_program_run(&after, NULL, env, (const char *const[]){"broker", "check", NULL});
    cr_expect(eq(str, after.err, "0 created, 0 failed, 0 warnings\n"));
    cr_expect(eq(int, after.code, 0));
}
