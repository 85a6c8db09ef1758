#include "actors/broker_choice.h"

#include <stdio.h>

const cm_broker_driver_t *cm_broker_driver_of(const cm_options_t *options)
{
    return options->broker.kind == CM_BROKER_PUBSUB ? &cm_broker_google_pubsub
                                                    : &cm_broker_redis_streams;
}

static void choose_pubsub(cm_broker_choice_t *self, const cm_options_t *options)
{
    const char *emulator = options->pubsub.emulator_host;
    snprintf(self->uri, sizeof self->uri, "%s%s/projects/%s", *emulator ? "http://" : "",
             *emulator ? emulator : options->pubsub.endpoint, options->pubsub.project);
    self->pubsub = (cm_pubsub_options_t){
        .credentials_file = options->pubsub.credentials_file,
        .metadata_host = options->pubsub.metadata_host,
        .ca_file = options->pubsub.ca_file,
        .monitoring = *emulator ? NULL : options->pubsub.monitoring,
        .pulls_max = (int)options->pubsub.pulls_max,
        .connections_max = (int)options->pubsub.connections_max,
        .messages_max = (int)options->pubsub.messages_max,
        .bytes_max = options->pubsub.bytes_max,
        .watchdog_ms = (int)options->pubsub.watchdog_ms,
    };
    self->options.uri = self->uri;
    self->options.driver = &self->pubsub;
}

void cm_broker_choose(cm_broker_choice_t *self, const cm_options_t *options, const char *consumer)
{
    *self = (cm_broker_choice_t){
        .driver = cm_broker_driver_of(options),
        .options = {.uri = options->redis.uri,
                    .consumer = consumer,
                    .lease_ms = (int)options->broker.lease_ms,
                    .poll_ms = (int)options->broker.poll_ms,
                    .hold_max_ms = (int)options->broker.hold_max_minutes * 60000},
    };
    if (options->broker.kind == CM_BROKER_PUBSUB)
        choose_pubsub(self, options);
}
