#include "runtime/broker/message.h"

#include <stdlib.h>
#include <string.h>

static size_t content_size(const cm_message_t *message)
{
    size_t size = message->attribute_count * sizeof(cm_attribute_t) + message->body.len +
                  message->ordering_key.len;
    for (size_t i = 0; i < message->attribute_count; i++)
        size += message->attributes[i].name.len + message->attributes[i].value.len;
    return size;
}

static cm_str_t copy_text(char **at, cm_str_t text)
{
    if (text.len)
        memcpy(*at, text.ptr, text.len);
    cm_str_t copy = {*at, text.len};
    *at += text.len;
    return copy;
}

cm_message_t *cm_message_copy(const cm_message_t *message)
{
    cm_message_t *copy = malloc(sizeof *copy + content_size(message));
    if (!copy)
        abort();
    cm_attribute_t *attributes = (cm_attribute_t *)(copy + 1);
    char *at = (char *)(attributes + message->attribute_count);
    for (size_t i = 0; i < message->attribute_count; i++) {
        attributes[i].name = copy_text(&at, message->attributes[i].name);
        attributes[i].value = copy_text(&at, message->attributes[i].value);
    }
    *copy = (cm_message_t){.body = copy_text(&at, message->body),
                           .attributes = attributes,
                           .attribute_count = message->attribute_count};
    if (message->ordering_key.ptr)
        copy->ordering_key = copy_text(&at, message->ordering_key);
    return copy;
}
