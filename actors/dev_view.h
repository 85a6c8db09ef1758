/* dev_view - what `dev` tells on stderr: the servers, the tenants, the flow, the final ledger. */
#ifndef CM_ACTORS_DEV_VIEW_H
#define CM_ACTORS_DEV_VIEW_H
#include "actors/dev_servers.h"
#include "actors/progress.h"
#include "proto/report.h"

typedef struct {
    bool terminal, color;
    bool open; /* a line stands on the terminal without its end */
    cm_progress_t tenants;
    int64_t shown_ms; /* monotonic */
    int64_t rate_ms;  /* when `ended` was taken */
    uint64_t ended;   /* then */
    double events_per_second;
} cm_dev_view_t;

void cm_dev_view_start(cm_dev_view_t *self, bool terminal, bool color,
                       const cm_dev_servers_t *servers, const char *listen);
void cm_dev_view_tenants(cm_dev_view_t *self, int64_t active, int64_t total);
void cm_dev_view_tenants_done(cm_dev_view_t *self, int64_t active, int64_t total);
bool cm_dev_view_due(cm_dev_view_t *self); /* is it time to show the flow again? */
/* events 0: no end. */
void cm_dev_view_flow(cm_dev_view_t *self, const cm_ledgers_t *ledgers, uint64_t published,
                      uint64_t events);
void cm_dev_view_break(cm_dev_view_t *self); /* other text follows */
void cm_dev_view_stop(cm_dev_view_t *self);  /* the service drains now */
/* The sum, and each flow that something came in by. */
void cm_dev_view_end(cm_dev_view_t *self, const cm_ledgers_t *ledgers, bool balanced);

enum { CM_COUNT_MAX = 16 };
/* 999, 1.23k, 45.6M: at most five characters. Returns text. */
const char *cm_dev_view_count(char text[CM_COUNT_MAX], uint64_t count);
#endif
