/* fuzz_pubsub_answer - any bytes as each kind of answer: no fault of memory; what a pull is read
 * into keeps to its bounds, and comes back the same when published and pulled again. */
#include "runtime/broker/google_pubsub_json.h"
#include "runtime/cleanup.h"

#include <string.h>

enum { MESSAGES_MAX = 50 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

static void check_message(const cm_pubsub_message_t *one)
{
    require(one->ack_id.len && one->message_id.len && one->attempt >= 1 && one->publish_ms >= 0);
    require(one->message.body.ptr && one->message.attribute_count <= CM_ATTRIBUTES_MAX);
    require(one->bytes == cm_pubsub_message_bytes(&one->message));
    for (size_t i = 0; i < one->message.attribute_count; i++)
        require(one->message.attributes[i].name.ptr && one->message.attributes[i].value.ptr);
    require(!cm_pubsub_unfit(&one->message)); /* yajl has seen to it that all is UTF-8 */
}

/* Written as a publish, wrapped as what the service makes of it, read again. */
static void check_again(const cm_pubsub_message_t *one, cm_arena_t *arena)
{
    CM_CLEANUP(cm_buffer_destroy) cm_buffer_t text = {0};
    cm_pubsub_message_t *again = NULL;
    size_t count = 0;
    cm_error_t err = {0};
    cm_buffer_printf(&text, "{\"receivedMessages\":[{\"ackId\":\"a\",\"message\":{");
    size_t start = text.len;
    cm_pubsub_put_message(&text, &one->message);
    memmove(text.data + start - 1, text.data + start, text.len - start); /* one brace is enough */
    text.len -= 2;
    cm_buffer_printf(&text, ",\"messageId\":\"1\",\"publishTime\":\"2026-11-20T16:00:00Z\"}}]}");
    require(cm_pubsub_read_pull((cm_str_t){text.data, text.len}, 1, arena, &again, &count, &err) ==
            CM_OK);
    require(count == 1 && cm_str_eq(again->message.body, one->message.body));
    size_t at = 0;
    for (size_t i = 0; i < one->message.attribute_count; i++) {
        const cm_attribute_t *attribute = &one->message.attributes[i];
        if (at < again->message.attribute_count &&
            cm_str_eq(attribute->name, again->message.attributes[at].name) &&
            cm_str_eq(attribute->value, again->message.attributes[at].value))
            at++;
        else
            require(attribute->name.len >= 4 && memcmp(attribute->name.ptr, "goog", 4) == 0);
    }
    require(at == again->message.attribute_count);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_str_t body = {(const char *)data, size};
    cm_pubsub_message_t *messages = NULL;
    size_t count = 0;
    cm_error_t err = {0};
    if (cm_pubsub_read_pull(body, MESSAGES_MAX, arena, &messages, &count, &err) == CM_OK) {
        require(count <= MESSAGES_MAX);
        for (size_t i = 0; i < count; i++) {
            check_message(&messages[i]);
            check_again(&messages[i], arena);
        }
    } else {
        require(err.status == CM_PERMANENT && strcmp(err.code, "malformed") == 0);
    }
    require(cm_pubsub_read_published(body) >= -1);
    int64_t value = 0;
    require(!cm_pubsub_read_metric(body, &value) || value >= 0);
    cm_pubsub_fault_t fault;
    cm_pubsub_read_fault(body, arena, &fault);
    require(fault.retry_ms >= -1 && fault.retry_ms <= 600000);
    for (size_t i = 0; i < fault.id_count; i++)
        require(cm_pubsub_id_fate(&fault, fault.ids[i].id) != CM_PUBSUB_ID_DONE);
    return 0;
}
