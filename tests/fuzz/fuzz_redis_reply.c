/* Arbitrary bytes as the answer of a server: through the reader of hiredis into deliveries. */
#include "runtime/broker/redis_streams.h"

#include <assert.h>
#include <stdlib.h>

static void touch(cm_str_t text)
{
    static volatile char sink;
    for (size_t i = 0; i < text.len; i++)
        sink = (char)(sink ^ text.ptr[i]);
}

static void decode_all(const redisReply *entries)
{
    static cm_streams_entry_t entry;
    for (size_t i = 0; entries && i < entries->elements; i++) {
        if (!cm_streams_decode(entries->element[i], &entry))
            continue;
        assert(entry.body.ptr && entry.message_id.ptr && entry.publish_ms >= 0);
        assert(entry.attribute_count <= CM_ATTRIBUTES_MAX);
        touch(entry.message_id);
        touch(entry.body);
        for (size_t a = 0; a < entry.attribute_count; a++) {
            touch(entry.attributes[a].name);
            touch(entry.attributes[a].value);
        }
        cm_buffer_t command = {0};
        cm_streams_id_t again;
        cm_streams_put_id(&command, entry.id);
        const char *text = memchr(command.data, '\n', command.len);
        cm_str_t id = {text + 1, command.len - (size_t)(text + 1 - command.data) - 2};
        assert(cm_streams_parse_id(id, &again) && cm_streams_compare_id(again, entry.id) == 0);
        cm_buffer_destroy(&command);
    }
}

static void decode(const redisReply *reply)
{
    cm_streams_claimed_t claimed;
    cm_error_t err;
    decode_all(cm_streams_read_entries(reply));
    if (cm_streams_claimed(reply, &claimed)) {
        decode_all(claimed.entries);
        touch(claimed.cursor);
    }
    if (reply->type == REDIS_REPLY_ERROR)
        cm_redis_classify(reply->str, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    redisReader *reader = redisReaderCreate();
    cm_arena_t *arena = cm_arena_new(4096);
    cm_redis_use_arena(reader, arena);
    void *reply = NULL;
    for (size_t at = 1, piece = 1u + data[0]; at < size; at += piece) {
        if (piece > size - at)
            piece = size - at;
        if (redisReaderFeed(reader, (const char *)data + at, piece) != REDIS_OK)
            break;
        while (redisReaderGetReply(reader, &reply) == REDIS_OK && reply) {
            decode(reply);
            reader->fn->freeObject(reply);
        }
    }
    redisReaderFree(reader);
    cm_arena_destroy(&arena);
    return 0;
}
