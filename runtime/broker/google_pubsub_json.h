/* google_pubsub_json - Pub/Sub REST v1: requests out, answers in; pure functions.
 *
 * Requests are appended to a buffer. What an answer is read into borrows from the arena only, so
 * the answer itself may go. Answers are read strictly: JSON of the documented shape, canonical
 * base64, members of no interest skipped. Error bodies are optional: a proxy answers HTML or
 * nothing. Rule: pubsub-bigquery, part A.
 */
#ifndef CM_RUNTIME_BROKER_GOOGLE_PUBSUB_JSON_H
#define CM_RUNTIME_BROKER_GOOGLE_PUBSUB_JSON_H
#include "runtime/broker/broker.h"
#include "runtime/buffer.h"

enum { CM_PUBSUB_MESSAGE_BYTES_MAX = 10000000 }; /* of one message, decoded */

/* The service refuses a message with neither data nor attributes; ours goes out with this one,
 * which is hidden again on receipt. */
#define CM_PUBSUB_EMPTY "cm-empty"

/* ---- addresses ------------------------------------------------------------------------------- */

typedef struct { /* owned */
    char *base;  /* "https://pubsub.googleapis.com" */
    char *project;
    bool emulator; /* http://: no credentials */
} cm_pubsub_address_t;

/* BASE/projects/PROJECT. CM_MISCONFIGURED for everything else. */
cm_status_t cm_pubsub_address_parse(const char *uri, cm_pubsub_address_t *ret_address,
                                    cm_error_t *err);
void cm_pubsub_address_destroy(cm_pubsub_address_t *self);
/* Append text with every byte but letters, digits and "-_.~" as %XX. */
void cm_pubsub_put_escaped(cm_buffer_t *url, cm_str_t text);

/* ---- requests -------------------------------------------------------------------------------- */

void cm_pubsub_put_pull(cm_buffer_t *body, size_t max);
/* acknowledge and modifyAckDeadline: begin, one put for each id, end. seconds < 0: acknowledge. */
void cm_pubsub_ids_begin(cm_buffer_t *body);
void cm_pubsub_put_id(cm_buffer_t *body, cm_str_t id);
void cm_pubsub_ids_end(cm_buffer_t *body, int seconds);
/* publish: the same, one put for each message. Attributes whose names start with "goog", except
 * "googclient_", are the service's own and left out. */
void cm_pubsub_messages_begin(cm_buffer_t *body);
void cm_pubsub_put_message(cm_buffer_t *body, const cm_message_t *message);
void cm_pubsub_messages_end(cm_buffer_t *body);
/* Why the service would refuse message whatever else it is sent with; NULL when it would not. */
const char *cm_pubsub_unfit(const cm_message_t *message);
size_t cm_pubsub_message_bytes(const cm_message_t *message); /* as the service counts them */

/* ---- answers --------------------------------------------------------------------------------- */

typedef struct { /* borrows from the arena */
    cm_str_t ack_id, message_id;
    int64_t publish_ms;
    int attempt;          /* 1 when it is not told */
    cm_message_t message; /* body never absent; attributes beyond CM_ATTRIBUTES_MAX left out */
    size_t bytes;
} cm_pubsub_message_t;

/* The answer to a pull for at most max messages. CM_PERMANENT, code "malformed". */
cm_status_t cm_pubsub_read_pull(cm_str_t answer, size_t max, cm_arena_t *arena,
                                cm_pubsub_message_t **ret_messages, size_t *ret_count,
                                cm_error_t *err);
/* How many messages the answer to a publish confirms; -1 when it is malformed. */
int cm_pubsub_read_published(cm_str_t answer);

typedef enum { CM_PUBSUB_ID_DONE, CM_PUBSUB_ID_GONE, CM_PUBSUB_ID_AGAIN } cm_pubsub_id_fate_t;

typedef struct { /* borrows from the arena */
    cm_str_t id;
    cm_pubsub_id_fate_t fate;
} cm_pubsub_id_result_t;

typedef struct {
    char status[32];            /* "INVALID_ARGUMENT"; "" when the body does not say */
    char message[160];          /* printable ASCII; "" likewise */
    int retry_ms;               /* RetryInfo; -1 = not told */
    cm_pubsub_id_result_t *ids; /* of a subscription with exactly-once delivery; sorted by id */
    size_t id_count;
} cm_pubsub_fault_t;

/* Read an error body; whatever cannot be read is left empty. */
void cm_pubsub_read_fault(cm_str_t body, cm_arena_t *arena, cm_pubsub_fault_t *ret_fault);
/* What became of id; ids that a fault with ids does not name succeeded. */
cm_pubsub_id_fate_t cm_pubsub_id_fate(const cm_pubsub_fault_t *fault, cm_str_t id);

/* The newest value of the first time series of Cloud Monitoring. False when there is none. */
bool cm_pubsub_read_metric(cm_str_t answer, int64_t *ret_value);

/* ---- texts ----------------------------------------------------------------------------------- */

/* RFC 3339 in UTC ("2026-11-20T16:00:00.123456789Z") as epoch milliseconds. */
bool cm_pubsub_parse_time(cm_str_t text, int64_t *ret_epoch_ms);
bool cm_pubsub_is_text(cm_str_t text); /* UTF-8, without surrogates and overlong forms */
/* Canonical base64 with padding, into the arena. */
bool cm_pubsub_decode_base64(cm_str_t text, cm_arena_t *arena, cm_str_t *ret_bytes);
#endif
