/* contact_source_file - deleted contacts from a file of JSON lines or CSV. */
#include "actors/contact_source_private.h"
#include "runtime/cleanup.h"
#include "runtime/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

enum {
    LINE_MAX_BYTES = 64 << 10,
    BUFFER_BYTES = 256 << 10,
    DIGEST_BYTES = 4096, /* of the beginning, by which the file is known again */
    STOP_EVERY = 4096,   /* lines */
    ARENA_BYTES = 16 << 10,
};

typedef struct {
    int fd;
    char *buffer;
    size_t from, to;      /* what of it is not read yet */
    int64_t offset, line; /* in the file, of what is not read yet; lines before it */
    bool at_end, is_json;
    cm_contact_csv_t csv;
    cm_arena_t *arena;
    int64_t now_ms;
} driver_t;

static cm_status_t open_driver(cm_contact_source_t *source, cm_error_t *err)
{
    driver_t *self = calloc(1, sizeof *self);
    if (!self || !(self->buffer = malloc(BUFFER_BYTES)))
        abort();
    self->fd = -1;
    self->arena = cm_arena_new(ARENA_BYTES);
    source->driver = self;
    if (!source->options.path || !source->options.path[0])
        return cm_error_set(err, CM_MISCONFIGURED, "path", "there is no path");
    return CM_OK;
}

static void close_file(driver_t *self)
{
    if (self->fd != -1)
        close(self->fd);
    self->fd = -1;
}

static void close_driver(cm_contact_source_t *source)
{
    driver_t *self = source->driver;
    close_file(self);
    cm_arena_destroy(&self->arena);
    free(self->buffer);
    free(self);
}

/* ---- lines ----------------------------------------------------------------------------------- */

static cm_status_t failed_to(const char *what, const cm_contact_source_t *source, int error,
                             cm_status_t status, cm_error_t *err)
{
    return cm_error_set(err, status, "file", "cannot %s %.120s: %s", what, source->options.path,
                        strerror(error));
}

/* More of the file behind what is not read yet, which moves to the front. */
static cm_status_t fill(const cm_contact_source_t *source, cm_error_t *err)
{
    driver_t *self = source->driver;
    memmove(self->buffer, self->buffer + self->from, self->to - self->from);
    self->to -= self->from;
    self->from = 0;
    ssize_t got;
    do
        got = read(self->fd, self->buffer + self->to, BUFFER_BYTES - self->to);
    while (got == -1 && errno == EINTR);
    if (got == -1)
        return failed_to("read", source, errno, CM_UNAVAILABLE, err);
    self->at_end = got == 0;
    self->to += (size_t)got;
    return CM_OK;
}

static void consume(driver_t *self, size_t bytes)
{
    self->from += bytes;
    self->offset += (int64_t)bytes;
}

typedef enum {
    LINE_WHOLE,
    LINE_OPEN,    /* the last one, without a line feed: more of it may be yet to come */
    LINE_TOO_LONG /* its beginning is given */
} line_kind_t;

/* The next line without its end, borrowed until the next call. Absent: there is none. */
static cm_status_t next_line(const cm_contact_source_t *source, cm_str_t *ret_line,
                             line_kind_t *ret_kind, cm_error_t *err)
{
    driver_t *self = source->driver;
    bool too_long = false;
    for (;;) {
        char *start = self->buffer + self->from;
        size_t have = self->to - self->from;
        char *feed = have ? memchr(start, '\n', have) : NULL;
        if (feed || (self->at_end && have)) {
            size_t len = feed ? (size_t)(feed - start) : have;
            consume(self, len + (feed != NULL));
            self->line++;
            if (len && start[len - 1] == '\r')
                len--;
            *ret_kind = too_long || len > LINE_MAX_BYTES ? LINE_TOO_LONG
                        : feed                           ? LINE_WHOLE
                                                         : LINE_OPEN;
            *ret_line = (cm_str_t){start, len};
            return CM_OK;
        }
        if (self->at_end) {
            *ret_kind = too_long ? LINE_TOO_LONG : LINE_WHOLE;
            *ret_line = too_long ? CM_STR("") : CM_STR_NONE;
            self->line += too_long;
            return CM_OK;
        }
        if (have > LINE_MAX_BYTES) { /* goes on to be dropped */
            too_long = true;
            consume(self, have);
        }
        cm_status_t status = fill(source, err);
        if (status != CM_OK)
            return status;
    }
}

/* ---- where it stands ------------------------------------------------------------------------- */

static bool digest_of(int fd, int64_t bytes, uint64_t *ret_digest)
{
    char beginning[DIGEST_BYTES];
    size_t wanted = bytes < DIGEST_BYTES ? (size_t)bytes : DIGEST_BYTES;
    if (pread(fd, beginning, wanted, 0) != (ssize_t)wanted)
        return false;
    *ret_digest = XXH3_64bits(beginning, wanted);
    return true;
}

static void set_checkpoint(cm_contact_source_t *source)
{
    const driver_t *self = source->driver;
    uint64_t digest = 0;
    digest_of(self->fd, self->offset, &digest);
    snprintf(source->checkpoint, sizeof source->checkpoint,
             "file %" PRId64 " %" PRId64 " %016" PRIx64, self->offset, self->line, digest);
}

/* True when the file is the one that the checkpoint was made of; then it stands there. */
static bool go_to_checkpoint(driver_t *self, const char *text)
{
    int64_t offset, line;
    uint64_t digest, found;
    int len = 0;
    struct stat facts;
    if (sscanf(text, "file %" SCNd64 " %" SCNd64 " %" SCNx64 "%n", &offset, &line, &digest, &len) !=
            3 ||
        text[len] != '\0' || offset < 0 || line < 0 || fstat(self->fd, &facts) != 0 ||
        offset > facts.st_size || !digest_of(self->fd, offset, &found) || found != digest ||
        lseek(self->fd, offset, SEEK_SET) != offset)
        return false;
    self->from = self->to = 0;
    self->at_end = false;
    self->offset = offset;
    self->line = line;
    return true;
}

/* ---- begin ----------------------------------------------------------------------------------- */

/* A byte order mark, and which of the formats it is. */
static cm_status_t look_at_start(cm_contact_source_t *source, cm_error_t *err)
{
    driver_t *self = source->driver;
    cm_status_t status = fill(source, err);
    if (status != CM_OK)
        return status;
    if (self->to >= 3 && memcmp(self->buffer, "\xef\xbb\xbf", 3) == 0)
        consume(self, 3);
    self->is_json = self->from == self->to || self->buffer[self->from] == '{';
    if (self->is_json)
        return CM_OK;
    cm_str_t line;
    line_kind_t kind;
    status = next_line(source, &line, &kind, err);
    if (status != CM_OK)
        return status;
    cm_arena_reset(self->arena);
    status = kind != LINE_TOO_LONG
                 ? cm_contact_csv_head(line, self->arena, &self->csv, err)
                 : cm_error_set(err, CM_PERMANENT, "too-large", "(line): too long");
    return status == CM_OK ? CM_OK
                           : cm_error_set(err, CM_MISCONFIGURED, "file", "%.120s, line 1: %.100s",
                                          source->options.path, err->message);
}

static cm_status_t begin(cm_contact_source_t *source, const char *checkpoint, cm_error_t *err)
{
    driver_t *self = source->driver;
    struct stat facts;
    close_file(self);
    self->from = self->to = 0;
    self->offset = self->line = 0;
    self->at_end = false;
    self->fd = open(source->options.path, O_RDONLY | O_CLOEXEC);
    if (self->fd == -1)
        return failed_to("open", source, errno, CM_MISCONFIGURED, err);
    if (fstat(self->fd, &facts) != 0 || !S_ISREG(facts.st_mode))
        return cm_error_set(err, CM_MISCONFIGURED, "file", "%.120s is no regular file",
                            source->options.path);
    cm_status_t status = look_at_start(source, err);
    if (status != CM_OK)
        return status;
    source->resumed = go_to_checkpoint(self, checkpoint);
    set_checkpoint(source);
    return CM_OK;
}

/* ---- next ------------------------------------------------------------------------------------ */

static bool is_wanted(const cm_contact_source_t *source, const cm_contact_t *contact)
{
    return contact->deleted_ms >= source->since_ms &&
           (!source->customer_id[0] || strcmp(source->customer_id, contact->customer_id) == 0);
}

static cm_status_t read_line(driver_t *self, cm_str_t line, line_kind_t kind,
                             cm_contact_t *ret_contact, cm_error_t *err)
{
    cm_arena_reset(self->arena);
    if (kind == LINE_TOO_LONG)
        return cm_error_set(err, CM_PERMANENT, "too-large", "(line): more than %d bytes",
                            LINE_MAX_BYTES);
    if (self->is_json)
        return cm_contact_from_json(line, self->now_ms, self->arena, ret_contact, err);
    if (kind == LINE_OPEN) /* of a number that was cut nobody can tell */
        return cm_error_set(err, CM_PERMANENT, "malformed", "(line): without an end");
    return cm_contact_from_csv(&self->csv, line, self->now_ms, self->arena, ret_contact, err);
}

/* *ret_passed false: whoever comes back shall meet the line again. */
static cm_status_t take_line(cm_contact_source_t *source, cm_str_t line, line_kind_t kind,
                             bool *ret_passed, cm_error_t *err)
{
    driver_t *self = source->driver;
    cm_contact_t contact = {0};
    cm_error_t why = {0};
    *ret_passed = true;
    if (read_line(self, line, kind, &contact, &why) != CM_OK) {
        cm_status_t status = cm_contact_pass_over(source, "line", self->line, &why, err);
        *ret_passed = status == CM_OK && kind != LINE_OPEN;
        return status;
    }
    if (is_wanted(source, &contact))
        cm_contact_batch_add(source, &contact);
    return CM_OK;
}

static cm_status_t next(cm_contact_source_t *source, size_t max, cm_error_t *err)
{
    driver_t *self = source->driver;
    cm_status_t status = CM_OK;
    self->now_ms = cm_clock_epoch_ms();
    for (int lines = 1; status == CM_OK && source->count < max; lines++) {
        cm_str_t line;
        line_kind_t kind;
        bool passed = true;
        int64_t offset = self->offset, number = self->line;
        status = next_line(source, &line, &kind, err);
        if (status != CM_OK || !line.ptr)
            break;
        if (line.len || kind == LINE_TOO_LONG)
            status = take_line(source, line, kind, &passed, err);
        if (!passed) {
            self->offset = offset;
            self->line = number;
        } else if (lines % STOP_EVERY == 0) {
            status = cm_contact_check_stop(source, err);
        }
    }
    set_checkpoint(source);
    return status;
}

const cm_contact_driver_t cm_contact_file = {"file", open_driver, close_driver, begin, next};
