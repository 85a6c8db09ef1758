#include "actors/command.h"
#include "actors/progress.h"
#include "actors/publisher.h"
#include "actors/table.h"
#include "proto/attributes.h"
#include "proto/device_event.h"
#include "proto/tenant_event.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READ_BYTES = 64 * 1024, LINE_BYTES_MAX = 16 << 20 };

typedef struct {
    const cm_invocation_t *invocation;
    cm_publisher_t *publisher;
    cm_subscription_id_t topic;
    cm_attribute_list_t attributes;
    cm_arena_t *arena;
    cm_progress_t progress;
    uint64_t published, bad;
} publish_t;

static cm_status_t check_event(publish_t *self, cm_str_t body, cm_error_t *err)
{
    cm_device_event_t event;
    cm_tenant_activation_t activation;
    cm_arena_reset(self->arena);
    if (self->topic == CM_SUBSCRIPTION_WRITER || self->topic == CM_SUBSCRIPTION_REPUBLISHER)
        return cm_device_event_decode(body, cm_clock_epoch_ms(), self->arena, &event, err);
    if (self->topic == CM_SUBSCRIPTION_ACTIVATE_CUSTOMER)
        return cm_tenant_activation_decode(body, cm_clock_epoch_ms(), self->arena, &activation,
                                           err);
    return CM_OK;
}

static cm_status_t publish_line(publish_t *self, const char *file, uint64_t number, cm_str_t body,
                                cm_error_t *err)
{
    if (!cm_flag_given(self->invocation, "no-check") && check_event(self, body, err) != CM_OK) {
        cm_progress_say(&self->progress, "%s:%llu: %s (%s)", file, (unsigned long long)number,
                        err->message, err->code);
        self->bad++;
        return CM_OK;
    }
    cm_message_t message = {.body = body,
                            .attributes = self->attributes.items,
                            .attribute_count = self->attributes.count};
    cm_status_t status = cm_publisher_send(self->publisher, self->topic, &message, err);
    self->published += status == CM_OK;
    cm_progress_update(&self->progress, self->published, 0, "");
    return status;
}

static cm_status_t bad_file(const char *name, cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, NULL, "%s: %s", name, strerror(errno));
}

/* All files are looked at before the first line is published. */
static bool check_files(const cm_invocation_t *invocation)
{
    bool good = true;
    for (size_t i = 0; i < invocation->arg_count; i++) {
        const char *name = invocation->args[i];
        struct stat info;
        if (strcmp(name, "-") == 0 ||
            (access(name, R_OK) == 0 && stat(name, &info) == 0 && !S_ISDIR(info.st_mode)))
            continue;
        bool directory = access(name, R_OK) == 0;
        fprintf(stderr, "client-manager publish: %s: %s\n", name,
                strerror(directory ? EISDIR : errno));
        good = false;
    }
    return good;
}

/* ---- lines ---------------------------------------------------------------------------------- */

typedef struct {
    const char *name;
    int fd;
    cm_buffer_t bytes; /* read and not taken yet: from `taken` */
    size_t taken;
    uint64_t number; /* of the line taken last, from 1 */
    bool ended;
} lines_t;

/* Somebody types, or `tail -f` feeds us: what we have goes out before we wait. */
static cm_status_t read_more(publish_t *self, lines_t *lines, cm_error_t *err)
{
    struct pollfd input = {.fd = lines->fd, .events = POLLIN};
    cm_status_t status = poll(&input, 1, 0) ? CM_OK : cm_publisher_flush(self->publisher, err);
    if (status != CM_OK)
        return status;
    size_t left = lines->bytes.len - lines->taken;
    if (left > LINE_BYTES_MAX)
        return cm_error_set(err, CM_PERMANENT, NULL, "%s:%llu: is longer than %d MiB", lines->name,
                            (unsigned long long)lines->number + 1, LINE_BYTES_MAX >> 20);
    if (lines->taken) /* else there may be no memory yet */
        memmove(lines->bytes.data, lines->bytes.data + lines->taken, left);
    lines->bytes.len = left;
    lines->taken = 0;
    cm_buffer_reserve(&lines->bytes, READ_BYTES);
    ssize_t got;
    do
        got = read(lines->fd, lines->bytes.data + left, READ_BYTES);
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return bad_file(lines->name, err);
    lines->ended = got == 0;
    lines->bytes.len += (size_t)got;
    return CM_OK;
}

/* The next line without its end; an absent one behind the last. */
static cm_status_t next_line(publish_t *self, lines_t *lines, cm_str_t *ret_line, cm_error_t *err)
{
    size_t looked = 0;
    for (;;) {
        const char *from = lines->bytes.data ? lines->bytes.data + lines->taken : "";
        size_t left = lines->bytes.len - lines->taken;
        const char *end = memchr(from + looked, '\n', left - looked);
        if (end || lines->ended) {
            size_t len = end ? (size_t)(end - from) : left;
            *ret_line = len || end ? (cm_str_t){from, len} : CM_STR_NONE;
            lines->taken += len + (end != NULL);
            lines->number++;
            return CM_OK;
        }
        looked = left;
        cm_status_t status = read_more(self, lines, err);
        if (status != CM_OK)
            return status;
    }
}

static cm_status_t publish_lines(publish_t *self, lines_t *lines, cm_error_t *err)
{
    for (;;) {
        cm_str_t line;
        cm_status_t status = next_line(self, lines, &line, err);
        if (status != CM_OK || !line.ptr)
            return status;
        while (line.len && line.ptr[line.len - 1] == '\r')
            line.len--;
        if (line.len)
            status = publish_line(self, lines->name, lines->number, line, err);
        if (status != CM_OK)
            return status;
    }
}

static cm_status_t publish_file(publish_t *self, const char *name, cm_error_t *err)
{
    bool is_stdin = strcmp(name, "-") == 0;
    lines_t lines = {.name = is_stdin ? "stdin" : name,
                     .fd = is_stdin ? STDIN_FILENO : open(name, O_RDONLY | O_CLOEXEC)};
    if (lines.fd < 0)
        return bad_file(name, err);
    cm_status_t status = publish_lines(self, &lines, err);
    cm_buffer_destroy(&lines.bytes);
    if (!is_stdin)
        close(lines.fd);
    return status;
}

/* ---- the command ---------------------------------------------------------------------------- */

/* Each --attribute into the list; the texts stay in the arguments. */
static bool parse_attributes(publish_t *self)
{
    const char *text;
    for (size_t i = 0; (text = cm_flag_nth(self->invocation, "attribute", i)); i++) {
        const char *equals = strchr(text, '=');
        if (!equals || equals == text) {
            fprintf(stderr, "client-manager publish: --attribute is \"%s\"; give NAME=VALUE\n",
                    text);
            return false;
        }
        if (self->attributes.count == CM_ATTRIBUTES_MAX) {
            fprintf(stderr, "client-manager publish: more than %d attributes\n", CM_ATTRIBUTES_MAX);
            return false;
        }
        self->attributes.items[self->attributes.count++] =
            (cm_attribute_t){{text, (size_t)(equals - text)}, cm_str(equals + 1)};
    }
    return true;
}

static bool parse_topic(publish_t *self)
{
    const char *suffix = cm_flag_text(self->invocation, "topic");
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++) {
        self->topic = (cm_subscription_id_t)id;
        if (strcmp(cm_subscription(self->topic)->suffix, suffix) == 0)
            return true;
    }
    fprintf(stderr, "client-manager publish: --topic is \"%s\"; give one of:", suffix);
    for (int id = 0; id < CM_SUBSCRIPTION_COUNT; id++)
        fprintf(stderr, " %s", cm_subscription((cm_subscription_id_t)id)->suffix);
    fputc('\n', stderr);
    return false;
}

int cm_command_publish(const cm_invocation_t *invocation)
{
    publish_t self = {.invocation = invocation};
    cm_error_t err = {0};
    int64_t rate = 0;
    if (!cm_flag_i64(invocation, "rate", 0, 10000000, &rate) || !parse_topic(&self) ||
        !parse_attributes(&self))
        return CM_EXIT_USAGE;
    if (!check_files(invocation))
        return CM_EXIT_FAILED;
    cm_status_t status = cm_publisher_open(&self.publisher, invocation->options, rate, &err);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    self.arena = cm_arena_new(64 * 1024);
    cm_progress_start(&self.progress, "events", invocation->terminal);
    static const char *const only_stdin[] = {"-"};
    const char *const *files = invocation->arg_count ? invocation->args : only_stdin;
    size_t count = invocation->arg_count ? invocation->arg_count : 1;
    for (size_t i = 0; status == CM_OK && i < count; i++)
        status = publish_file(&self, files[i], &err);
    if (status == CM_OK)
        status = cm_publisher_flush(self.publisher, &err);
    uint64_t confirmed = cm_publisher_confirmed(self.publisher);
    cm_progress_end(&self.progress, confirmed, 0, "confirmed");
    static const cm_column_t columns[] = {{"published", true}, {"bad", true}};
    cm_table_t table;
    cm_table_start(&table, columns, CM_LENGTH(columns), invocation->json);
    cm_table_cell_i64(&table, (int64_t)confirmed);
    cm_table_cell_i64(&table, (int64_t)self.bad);
    cm_table_end(&table);
    cm_publisher_close(&self.publisher);
    cm_arena_destroy(&self.arena);
    if (status != CM_OK)
        return cm_command_fail(invocation, &err);
    return self.bad ? CM_EXIT_PARTIAL : CM_EXIT_OK;
}
