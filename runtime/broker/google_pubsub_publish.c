#include "runtime/broker/google_pubsub_private.h"
#include "runtime/clock.h"

#include <stdlib.h>
#include <string.h>
#include <utlist.h>

enum {
    POST_MESSAGES_MAX = 1000,
    POST_BYTES_MAX = 9000000, /* decoded; the service takes 10 MB. A larger message goes alone */
    ANSWER_MS = 60000,
};

typedef struct post { /* one request, under way or to be sent */
    cm_pubsub_topic_t *topic;
    cm_http_call_t *call;
    cm_buffer_t body;   /* without its end */
    char *ordering_key; /* of all its messages; NULL = none */
    unsigned token_number;
    bool refreshed; /* sent again with a new token */
    size_t bytes, count, cap;
    struct {
        uint64_t token;
        size_t start; /* in body */
    } * messages;
    struct post *prev, *next;
} post_t;

struct cm_pubsub_topic {
    cm_pubsub_t *driver;
    char *name, *url;
    post_t *waiting, *flying; /* utlist */
    unsigned in_flight;
    cm_pubsub_topic_t *prev, *next;
};

/* ---- telling --------------------------------------------------------------------------------- */

void cm_pubsub_tell_untold(cm_pubsub_t *self)
{
    cm_pubsub_untold_t *untold = self->untold;
    size_t count = self->untold_count;
    self->untold = NULL; /* an event may publish again */
    self->untold_count = self->untold_cap = 0;
    for (size_t i = 0; i < count; i++) {
        self->unsettled--;
        self->events.on_published(self->events.ctx, untold[i].token, untold[i].error.status,
                                  &untold[i].error);
    }
    free(untold);
}

static void tell_later(cm_pubsub_t *self, uint64_t token, const cm_error_t *error)
{
    if (self->untold_count == self->untold_cap) {
        self->untold_cap = self->untold_cap ? self->untold_cap * 2 : 16;
        self->untold = realloc(self->untold, self->untold_cap * sizeof *self->untold);
        if (!self->untold)
            abort();
    }
    self->untold[self->untold_count++] = (cm_pubsub_untold_t){token, *error};
    cm_pubsub_wake(self);
}

/* ---- requests to be ------------------------------------------------------------------------- */

static void post_destroy(post_t *post)
{
    cm_buffer_destroy(&post->body);
    free(post->ordering_key);
    free(post->messages);
    free(post);
}

static post_t *post_new(cm_pubsub_topic_t *topic, cm_str_t ordering_key)
{
    post_t *post = calloc(1, sizeof *post);
    if (!post)
        abort();
    post->topic = topic;
    if (ordering_key.len && !(post->ordering_key = strndup(ordering_key.ptr, ordering_key.len)))
        abort();
    cm_pubsub_messages_begin(&post->body);
    return post;
}

static void post_note(post_t *post, uint64_t token)
{
    if (post->count == post->cap) {
        post->cap = post->cap ? post->cap * 2 : 8;
        post->messages = realloc(post->messages, post->cap * sizeof *post->messages);
        if (!post->messages)
            abort();
    }
    post->messages[post->count].token = token;
    post->messages[post->count++].start = post->body.len;
}

static bool fits(const post_t *post, cm_str_t ordering_key, size_t bytes)
{
    cm_str_t key = cm_str(post->ordering_key);
    bool same_key = key.len == ordering_key.len &&
                    (key.len == 0 || memcmp(key.ptr, ordering_key.ptr, key.len) == 0);
    return same_key && post->count < POST_MESSAGES_MAX && post->bytes + bytes <= POST_BYTES_MAX;
}

static cm_pubsub_topic_t *find_topic(cm_pubsub_t *self, const char *name)
{
    cm_pubsub_topic_t *topic;
    DL_FOREACH(self->topics, topic)
    {
        if (strcmp(topic->name, name) == 0)
            return topic;
    }
    cm_buffer_t url = {0};
    cm_buffer_printf(&url, "%s/v1/projects/%s/topics/", self->address.base, self->address.project);
    cm_pubsub_put_escaped(&url, cm_str(name));
    cm_buffer_append(&url, ":publish", 9); /* with its NUL */
    topic = calloc(1, sizeof *topic);
    if (!topic || !(topic->name = strdup(name)))
        abort();
    topic->url = url.data;
    topic->driver = self;
    DL_APPEND(self->topics, topic);
    return topic;
}

void cm_pubsub_publish(cm_pubsub_t *self, const char *topic_name, const cm_message_t *message,
                       uint64_t token)
{
    cm_error_t err;
    const char *why = cm_pubsub_unfit(message);
    self->unsettled++;
    if (why) {
        cm_error_set(&err, CM_PERMANENT, "unfit", "%s", why);
        tell_later(self, token, &err);
        return;
    }
    if (self->link.state != CM_PUBSUB_UP) {
        cm_error_set(&err, CM_UNAVAILABLE, "link", "pubsub: not connected");
        tell_later(self, token, &err);
        return;
    }
    cm_pubsub_topic_t *topic = find_topic(self, topic_name);
    size_t bytes = cm_pubsub_message_bytes(message);
    post_t *post = topic->waiting ? topic->waiting->prev : NULL; /* the last */
    if (!post || !fits(post, message->ordering_key, bytes)) {
        post = post_new(topic, message->ordering_key);
        DL_APPEND(topic->waiting, post);
    }
    post_note(post, token);
    cm_pubsub_put_message(&post->body, message);
    post->bytes += bytes;
    cm_pubsub_wake(self);
}

void cm_pubsub_topics_destroy(cm_pubsub_t *self)
{
    cm_pubsub_topic_t *topic, *next_topic;
    DL_FOREACH_SAFE(self->topics, topic, next_topic)
    {
        post_t *post, *next;
        DL_CONCAT(topic->waiting, topic->flying);
        DL_FOREACH_SAFE(topic->waiting, post, next)
        {
            if (post->call)
                cm_http_cancel(self->calls, post->call);
            post_destroy(post);
        }
        free(topic->name);
        free(topic->url);
        free(topic);
    }
    self->topics = NULL;
}

/* ---- answers --------------------------------------------------------------------------------- */

static void tell_all(post_t *post, const cm_error_t *err)
{
    cm_pubsub_t *self = post->topic->driver;
    for (size_t i = 0; i < post->count; i++) {
        self->unsettled--;
        self->events.on_published(self->events.ctx, post->messages[i].token, err->status, err);
    }
}

/* Messages from..to of post as a request of their own, which goes first. */
static post_t *part_of(const post_t *post, size_t from, size_t to)
{
    post_t *part = post_new(post->topic, cm_str(post->ordering_key));
    for (size_t i = from; i < to; i++) {
        size_t start = post->messages[i].start;
        size_t end = i + 1 < post->count ? post->messages[i + 1].start : post->body.len;
        if (part->count == 0 && post->body.data[start] == ',')
            start++;
        post_note(part, post->messages[i].token);
        cm_buffer_append(&part->body, post->body.data + start, end - start);
    }
    part->refreshed = post->refreshed;
    part->bytes = POST_BYTES_MAX + 1; /* nothing is added to it */
    return part;
}

/* A 400 stores nothing of a request: halve until the bad message is alone. */
static void bisect(post_t *post, const cm_error_t *err)
{
    size_t half = post->count / 2;
    if (half == 0) {
        tell_all(post, err);
        return;
    }
    post_t *second = part_of(post, half, post->count), *first = part_of(post, 0, half);
    DL_PREPEND(post->topic->waiting, second);
    DL_PREPEND(post->topic->waiting, first);
}

static void refused(post_t *post, cm_error_t *err)
{
    const cm_pubsub_t *self = post->topic->driver;
    cm_error_t told;
    if (strcmp(err->code, "http-404") == 0)
        cm_error_set(&told, CM_MISCONFIGURED, err->code,
                     "topic %.60s (broker.prefix) is missing in project %.40s (pubsub.project); "
                     "run: client-manager broker create",
                     post->topic->name, self->address.project);
    else if (strcmp(err->code, "http-403") == 0)
        cm_error_set(&told, CM_MISCONFIGURED, err->code,
                     "no right to topic %.60s of project %.40s; grant %.60s "
                     "(pubsub.credentials_file) roles/pubsub.publisher",
                     post->topic->name, self->address.project,
                     self->credentials ? cm_google_credentials_name(self->credentials)
                                       : "this instance");
    else
        cm_error_set(&told, CM_MISCONFIGURED, err->code, "topic %.60s: %s", post->topic->name,
                     err->message);
    tell_all(post, &told);
}

/* Not stored, or not known to be: the caller repeats it. With a new token it was not even looked
 * at, so it is sent again once. */
static void later(post_t *post, const cm_http_answer_t *answer, cm_error_t *err, bool *ret_kept)
{
    cm_pubsub_t *self = post->topic->driver;
    if (answer->http == 401 && !post->refreshed && self->link.state == CM_PUBSUB_UP) {
        post->refreshed = true;
        post->call = NULL;
        DL_PREPEND(post->topic->waiting, post);
        *ret_kept = true;
        return;
    }
    err->status = CM_UNAVAILABLE;
    tell_all(post, err);
}

static void stored(post_t *post, const cm_http_answer_t *answer)
{
    cm_error_t err = {.status = CM_OK};
    if (cm_pubsub_read_published(answer->body) != (int)post->count)
        cm_error_set(&err, CM_UNAVAILABLE, "malformed",
                     "pubsub: the answer to a publish cannot be read");
    tell_all(post, &err);
}

static void on_answer(void *ctx, const cm_http_answer_t *answer)
{
    post_t *post = ctx;
    cm_pubsub_topic_t *topic = post->topic;
    cm_pubsub_t *self = topic->driver;
    cm_pubsub_fault_t fault;
    cm_error_t err = {0};
    bool kept = false;
    DL_DELETE(topic->flying, post);
    topic->in_flight--;
    switch (cm_pubsub_judge(self, answer, &self->publish_gate, post->token_number, &fault, &err)) {
    case CM_PUBSUB_FINE:
        stored(post, answer);
        break;
    case CM_PUBSUB_LATER:
        later(post, answer, &err, &kept);
        break;
    case CM_PUBSUB_REFUSED:
        refused(post, &err);
        break;
    case CM_PUBSUB_BAD:
        bisect(post, &err);
        break;
    }
    if (!kept)
        post_destroy(post);
    cm_pubsub_wake(self);
}

/* ---- sending --------------------------------------------------------------------------------- */

/* Messages of one key are stored in the order of publishing: one request of it at a time. */
static bool must_wait(const post_t *post)
{
    const post_t *other;
    if (!post->ordering_key)
        return false;
    DL_FOREACH(post->topic->flying, other)
    {
        if (other->ordering_key && strcmp(other->ordering_key, post->ordering_key) == 0)
            return true;
    }
    return false;
}

static void send_post(post_t *post)
{
    cm_pubsub_topic_t *topic = post->topic;
    cm_pubsub_t *self = topic->driver;
    size_t open_len = post->body.len;
    cm_pubsub_messages_end(&post->body);
    cm_http_request_t request = {
        .method = CM_HTTP_POST,
        .url = topic->url,
        .bearer = cm_pubsub_bearer(self),
        .body = {post->body.data, post->body.len},
        .timeout_ms = ANSWER_MS,
        .body_max = CM_PUBSUB_FAULT_MAX,
        .done = on_answer,
        .ctx = post,
    };
    DL_DELETE(topic->waiting, post);
    DL_APPEND(topic->flying, post);
    topic->in_flight++;
    post->token_number = self->link.token;
    post->call = cm_http_send(self->calls, &request);
    post->body.len = open_len; /* for halving it */
}

/* The link is lost: all that waits is answered, and the caller's to repeat. */
static void give_up(cm_pubsub_topic_t *topic)
{
    cm_error_t err;
    post_t *post, *next, *lost = topic->waiting;
    topic->waiting = NULL; /* an event may publish again */
    cm_error_set(&err, CM_UNAVAILABLE, "link", "%.200s", topic->driver->link.why.message);
    DL_FOREACH_SAFE(lost, post, next)
    {
        tell_all(post, &err);
        post_destroy(post);
    }
}

void cm_pubsub_flush_publishes(cm_pubsub_t *self, int64_t now)
{
    cm_pubsub_topic_t *topic;
    bool down = self->link.state != CM_PUBSUB_UP;
    if (!down && (!cm_pubsub_may_send(self) || now < self->publish_gate.until))
        return;
    DL_FOREACH(self->topics, topic)
    {
        post_t *post, *next;
        if (down)
            give_up(topic);
        DL_FOREACH_SAFE(topic->waiting, post, next)
        {
            if (topic->in_flight == CM_PUBSUB_IN_FLIGHT)
                break;
            if (!must_wait(post))
                send_post(post);
        }
    }
}
