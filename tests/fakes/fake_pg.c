#include "tests/fakes/fake_pg.h"
#include "runtime/clock.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

cm_fake_pg_t fake_pg;

struct cm_pg {
    bool connected;
    int fd; /* always readable: what is asked of the fake is answered at once */
    int64_t connected_at_ms;
};

cm_pg_t *cm_pg_new(const cm_pg_options_t *options)
{
    (void)options;
    cm_pg_t *self = calloc(1, sizeof *self);
    self->fd = eventfd(1, EFD_CLOEXEC);
    return self;
}

void cm_pg_destroy(cm_pg_t **self_p)
{
    if (!*self_p)
        return;
    close((*self_p)->fd);
    free(*self_p);
    *self_p = NULL;
}

cm_status_t cm_pg_connect(cm_pg_t *self, zsock_t *interrupt, cm_error_t *err)
{
    (void)interrupt;
    self->connected = false;
    atomic_fetch_add(&fake_pg.connects, 1);
    cm_status_t refuses = (cm_status_t)atomic_load(&fake_pg.refuses);
    if (refuses != CM_OK)
        return cm_error_set(err, refuses, "connect", "refused by the test");
    self->connected = true;
    self->connected_at_ms = cm_clock_mono_ms();
    return CM_OK;
}

void cm_pg_close(cm_pg_t *self)
{
    self->connected = false;
    atomic_fetch_add(&fake_pg.closes, 1);
}

bool cm_pg_is_connected(const cm_pg_t *self)
{
    return self->connected;
}

int64_t cm_pg_connected_at_ms(const cm_pg_t *self)
{
    return self->connected_at_ms;
}

int cm_pg_fd(const cm_pg_t *self)
{
    return self->connected ? self->fd : -1;
}

PGconn *cm_pg_raw(cm_pg_t *self)
{
    (void)self;
    return NULL;
}

uint64_t cm_pg_unclassified(const cm_pg_t *self)
{
    (void)self;
    return 0;
}

static cm_status_t not_faked(cm_error_t *err)
{
    return cm_error_set(err, CM_PERMANENT, "test", "not faked");
}

cm_status_t cm_pg_exec(cm_pg_t *self, const char *sql, cm_error_t *err)
{
    (void)self, (void)sql;
    return not_faked(err);
}

cm_status_t cm_pg_query(cm_pg_t *self, const char *sql, int count, const char *const *values,
                        PGresult **ret_result, cm_error_t *err)
{
    (void)self, (void)sql, (void)count, (void)values, (void)ret_result;
    return not_faked(err);
}

void cm_pg_clear(PGresult **result_p)
{
    *result_p = NULL;
}

const char *cm_pg_text(const PGresult *result, int row, int column)
{
    (void)result, (void)row, (void)column;
    return "";
}

int64_t cm_pg_i64(const PGresult *result, int row, int column)
{
    (void)result, (void)row, (void)column;
    return 0;
}

cm_status_t cm_pg_begin(cm_pg_t *self, cm_error_t *err)
{
    (void)self;
    return not_faked(err);
}

cm_status_t cm_pg_commit(cm_pg_t *self, cm_error_t *err)
{
    (void)self;
    return not_faked(err);
}

void cm_pg_rollback(cm_pg_t *self)
{
    (void)self;
}
