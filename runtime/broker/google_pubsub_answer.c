#include "runtime/broker/google_pubsub_json.h"

#include <limits.h>
#include <string.h>
#include <yajl/yajl_parse.h>

enum { DEPTH_MAX = 32 }; /* of what is skipped */

typedef enum { OUTSIDE, TOP, LIST, RECEIVED, MESSAGE, ATTRIBUTES, DONE } place_t;

enum { /* members of interest, one bit each */
       KEY_UNKNOWN = 0,
       KEY_MESSAGES = 1,
       KEY_ACK_ID = 2,
       KEY_MESSAGE = 4,
       KEY_ATTEMPT = 8,
       KEY_DATA = 16,
       KEY_ATTRIBUTES = 32,
       KEY_MESSAGE_ID = 64,
       KEY_TIME = 128,
       KEY_ORDERING = 256
};

typedef struct {
    cm_arena_t *arena;
    size_t max;
    place_t place;
    unsigned key, seen; /* of the member being read; of the received message being read */
    size_t skipping;    /* depth within a member of no interest */
    const char *fault;
    cm_pubsub_message_t *messages;
    size_t count, cap;
    cm_attribute_t attributes[CM_ATTRIBUTES_MAX]; /* of the message being read */
    size_t attribute_count;
    cm_str_t name; /* of the attribute being read */
} reader_t;

static const struct {
    place_t place;
    const char *name;
    unsigned key;
} members[] = {
    {TOP, "receivedMessages", KEY_MESSAGES},
    {RECEIVED, "ackId", KEY_ACK_ID},
    {RECEIVED, "message", KEY_MESSAGE},
    {RECEIVED, "deliveryAttempt", KEY_ATTEMPT},
    {MESSAGE, "data", KEY_DATA},
    {MESSAGE, "attributes", KEY_ATTRIBUTES},
    {MESSAGE, "messageId", KEY_MESSAGE_ID},
    {MESSAGE, "publishTime", KEY_TIME},
    {MESSAGE, "orderingKey", KEY_ORDERING},
};

static int fail(reader_t *self, const char *fault)
{
    self->fault = fault;
    return 0; /* yajl stops */
}

static cm_pubsub_message_t *current(reader_t *self)
{
    return &self->messages[self->count - 1];
}

static int begin_message(reader_t *self)
{
    if (self->count == self->max)
        return fail(self, "more messages than were asked for");
    if (self->count == self->cap) {
        size_t cap = self->cap ? self->cap * 2 : 16;
        cm_pubsub_message_t *more = cm_arena_alloc(self->arena, cap * sizeof *more);
        if (self->count)
            memcpy(more, self->messages, self->count * sizeof *more);
        self->messages = more;
        self->cap = cap;
    }
    self->messages[self->count++] = (cm_pubsub_message_t){.attempt = 1, .message.body = CM_STR("")};
    self->attribute_count = 0;
    self->seen &= KEY_MESSAGES;
    self->place = RECEIVED;
    return 1;
}

static int end_message(reader_t *self)
{
    const unsigned needed = KEY_ACK_ID | KEY_MESSAGE | KEY_MESSAGE_ID | KEY_TIME;
    if ((self->seen & needed) != needed)
        return fail(self, "a message without ackId, messageId or publishTime");
    cm_pubsub_message_t *message = current(self);
    size_t size = self->attribute_count * sizeof self->attributes[0];
    if (size) {
        cm_attribute_t *attributes = cm_arena_alloc(self->arena, size);
        memcpy(attributes, self->attributes, size);
        message->message.attributes = attributes;
        message->message.attribute_count = self->attribute_count;
    }
    message->bytes = cm_pubsub_message_bytes(&message->message);
    self->place = LIST;
    return 1;
}

static void add_attribute(reader_t *self, cm_str_t value)
{
    if (cm_str_is(self->name, CM_PUBSUB_EMPTY) || self->attribute_count == CM_ATTRIBUTES_MAX)
        return;
    self->attributes[self->attribute_count++] =
        (cm_attribute_t){self->name, cm_arena_copy(self->arena, value)};
}

/* ---- what yajl calls ------------------------------------------------------------------------- */

/* A value of no known member; true when it is one and may pass. */
static bool passes(const reader_t *self)
{
    return self->skipping ||
           (self->key == KEY_UNKNOWN &&
            (self->place == TOP || self->place == RECEIVED || self->place == MESSAGE));
}

static int on_null(void *ctx)
{
    reader_t *self = ctx; /* null is how protobuf's JSON may say that a member is absent */
    bool in_object = self->place == TOP || self->place == RECEIVED || self->place == MESSAGE;
    if (!self->skipping && in_object)
        self->seen &= ~self->key;
    return passes(self) || in_object ? 1 : fail(self, "null where a value belongs");
}

static int on_boolean(void *ctx, int value)
{
    (void)value;
    return passes(ctx) ? 1 : fail(ctx, "a boolean where it does not belong");
}

static int on_number(void *ctx, const char *text, size_t len)
{
    reader_t *self = ctx;
    int64_t value = 0;
    if (passes(self))
        return 1;
    if (self->place != RECEIVED || self->key != KEY_ATTEMPT ||
        !cm_str_to_i64((cm_str_t){text, len}, &value))
        return fail(self, "a number where it does not belong");
    current(self)->attempt = value < 1 ? 1 : value > INT_MAX ? INT_MAX : (int)value;
    return 1;
}

static int take_string(reader_t *self, cm_str_t text)
{
    cm_pubsub_message_t *message = current(self);
    switch (self->key) {
    case KEY_ACK_ID:
        message->ack_id = cm_arena_copy(self->arena, text);
        return text.len ? 1 : fail(self, "an empty ackId");
    case KEY_MESSAGE_ID:
        message->message_id = cm_arena_copy(self->arena, text);
        return text.len ? 1 : fail(self, "an empty messageId");
    case KEY_TIME:
        return cm_pubsub_parse_time(text, &message->publish_ms)
                   ? 1
                   : fail(self, "a publishTime that is no time");
    case KEY_DATA:
        return cm_pubsub_decode_base64(text, self->arena, &message->message.body)
                   ? 1
                   : fail(self, "data that is no base64");
    case KEY_ORDERING:
        if (text.len)
            message->message.ordering_key = cm_arena_copy(self->arena, text);
        return 1;
    default:
        return fail(self, "a string where it does not belong");
    }
}

static int on_string(void *ctx, const unsigned char *text_p, size_t len)
{
    reader_t *self = ctx;
    cm_str_t text = {(const char *)text_p, len};
    if (passes(self))
        return 1;
    if (!cm_pubsub_is_text(text)) /* yajl lets surrogates and overlong forms pass */
        return fail(self, "a string that is no UTF-8");
    if (self->place == ATTRIBUTES) {
        add_attribute(self, text);
        return 1;
    }
    if (self->place != RECEIVED && self->place != MESSAGE)
        return fail(self, "a string where it does not belong");
    return take_string(self, text);
}

static int on_map_key(void *ctx, const unsigned char *text_p, size_t len)
{
    reader_t *self = ctx;
    cm_str_t text = {(const char *)text_p, len};
    if (self->skipping)
        return 1;
    if (self->place == ATTRIBUTES) {
        self->name = cm_arena_copy(self->arena, text);
        return cm_pubsub_is_text(text) ? 1 : fail(self, "an attribute name that is no UTF-8");
    }
    self->key = KEY_UNKNOWN;
    for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
        if (members[i].place == self->place && cm_str_is(text, members[i].name))
            self->key = members[i].key;
    if (self->seen & self->key)
        return fail(self, "a member twice");
    self->seen |= self->key;
    return 1;
}

static int on_start_map(void *ctx)
{
    reader_t *self = ctx;
    if (self->place == OUTSIDE)
        self->place = TOP;
    else if (!self->skipping && self->place == LIST)
        return begin_message(self);
    else if (!self->skipping && self->place == RECEIVED && self->key == KEY_MESSAGE)
        self->place = MESSAGE;
    else if (!self->skipping && self->place == MESSAGE && self->key == KEY_ATTRIBUTES)
        self->place = ATTRIBUTES;
    else if (passes(self))
        return ++self->skipping <= DEPTH_MAX ? 1 : fail(self, "too many levels");
    else
        return fail(self, "an object where it does not belong");
    return 1;
}

static int on_end_map(void *ctx)
{
    reader_t *self = ctx;
    if (self->skipping) {
        self->skipping--;
        return 1;
    }
    switch (self->place) {
    case RECEIVED:
        return end_message(self);
    case MESSAGE:
        self->place = RECEIVED;
        break;
    case ATTRIBUTES:
        self->place = MESSAGE;
        break;
    default:
        self->place = DONE;
        break;
    }
    return 1;
}

static int on_start_array(void *ctx)
{
    reader_t *self = ctx;
    if (!self->skipping && self->place == TOP && self->key == KEY_MESSAGES)
        self->place = LIST;
    else if (passes(self))
        return ++self->skipping <= DEPTH_MAX ? 1 : fail(self, "too many levels");
    else
        return fail(self, "an array where it does not belong");
    return 1;
}

static int on_end_array(void *ctx)
{
    reader_t *self = ctx;
    if (self->skipping)
        self->skipping--;
    else
        self->place = TOP;
    return 1;
}

static const yajl_callbacks callbacks = {
    .yajl_null = on_null,
    .yajl_boolean = on_boolean,
    .yajl_number = on_number,
    .yajl_string = on_string,
    .yajl_start_map = on_start_map,
    .yajl_map_key = on_map_key,
    .yajl_end_map = on_end_map,
    .yajl_start_array = on_start_array,
    .yajl_end_array = on_end_array,
};

cm_status_t cm_pubsub_read_pull(cm_str_t answer, size_t max, cm_arena_t *arena,
                                cm_pubsub_message_t **ret_messages, size_t *ret_count,
                                cm_error_t *err)
{
    reader_t reader;
    reader.arena = arena; /* member by member: the scratch attributes need no clearing */
    reader.max = max;
    reader.place = OUTSIDE;
    reader.key = reader.seen = 0;
    reader.skipping = reader.count = reader.cap = reader.attribute_count = 0;
    reader.fault = NULL;
    reader.messages = NULL;
    yajl_handle yajl = yajl_alloc(&callbacks, NULL, &reader);
    yajl_status status = yajl_status_error;
    if (answer.len)
        status = yajl_parse(yajl, (const unsigned char *)answer.ptr, answer.len);
    if (status == yajl_status_ok)
        status = yajl_complete_parse(yajl);
    yajl_free(yajl);
    if (status != yajl_status_ok || reader.place != DONE)
        return cm_error_set(err, CM_PERMANENT, "malformed", "the answer to a pull is malformed: %s",
                            reader.fault ? reader.fault : "it is no JSON object");
    *ret_messages = reader.messages;
    *ret_count = reader.count;
    return CM_OK;
}
