/* device_job - one batch of device events on its way from frame to outcomes; no I/O.
 *
 * load: decode each delivery, group by tenant, sort by key, merge the events of one device by the
 * order rule. A malformed one whose tenant can be told belongs to that tenant, too: were the tenant
 * deleted, its dead letter would keep data of an erased customer. The actor then settles tenants
 * that are not to be written, writes the rest through schema/device_store, and finish makes the
 * outcome frame: one outcome per delivery, in their order. Shared by writer and republisher. Rule:
 * DESIGN section 6.
 */
#ifndef CM_ACTORS_DEVICE_JOB_H
#define CM_ACTORS_DEVICE_JOB_H
#include "proto/delivery.h"
#include "proto/device_order.h"
#include "proto/outcome.h"
#include "proto/retry.h"
#include "schema/device_store.h"

#include <czmq.h>

typedef struct {
    const char *subworker; /* "writer" */
    unsigned shard;
    const char *prefix; /* of topics */
    bool waits;         /* deliveries before their notBefore are deferred (republisher) */
    cm_retry_policy_t retry;
    uint64_t random; /* jitter */
} cm_device_rules_t;

typedef struct {
    bool decided;
    cm_outcome_t outcome;
    cm_merge_t merge;            /* against the events of the same device before it in the batch */
    cm_store_item_t *item;       /* what it was merged into; NULL when it never got there */
    uint32_t next;               /* next delivery of the same tenant; CM_JOB_END */
    const cm_error_t *malformed; /* why it could not be decoded; NULL: it could */
} cm_job_entry_t;

#define CM_JOB_END UINT32_MAX

typedef struct {
    cm_store_tenant_t store; /* id and merged changes */
    uint32_t first;          /* first delivery of this tenant */
    bool settled;            /* decided without a write */
    bool has_malformed;
} cm_job_tenant_t;

typedef struct {
    bool loaded;
    zmq_msg_t frame;
    cm_arena_t *arena;
    cm_delivery_batch_t batch;
    cm_job_entry_t *entries;  /* per delivery */
    cm_job_tenant_t *tenants; /* all of the batch, sorted by id */
    size_t tenant_count;
    cm_store_tenant_t *writing; /* those not settled otherwise, sorted by id */
    size_t writing_count;
} cm_device_job_t; /* zero-initialise; reused */

void cm_device_job_init(cm_device_job_t *self);
void cm_device_job_destroy(cm_device_job_t *self);

/* Take frame over and prepare it. False: not a batch (logged by the caller from err). */
bool cm_device_job_load(cm_device_job_t *self, zmq_msg_t *frame, cm_device_rules_t *rules,
                        cm_error_t *err);
/* Decide every delivery of a tenant without writing it: by an outcome (DROPPED, DEFER until_ms,
 * RELEASE), or by an error and the retry rule. Malformed ones are decided only by DROPPED. */
void cm_device_job_settle(cm_device_job_t *self, cm_job_tenant_t *tenant, cm_outcome_kind_t kind,
                          int64_t until_ms);
void cm_device_job_fail(cm_device_job_t *self, cm_job_tenant_t *tenant, cm_device_rules_t *rules,
                        const cm_error_t *err);
/* Decide one delivery by an error and the retry rule. */
void cm_device_job_fail_entry(cm_device_job_t *self, size_t index, cm_device_rules_t *rules,
                              const cm_error_t *err);
/* Decide one delivery by what the store said of it alone. */
void cm_device_job_decide_entry(cm_device_job_t *self, size_t index, cm_change_result_t result);
/* Reject the malformed deliveries that are left, each with its own error, and collect the tenants
 * not settled into writing. */
void cm_device_job_select(cm_device_job_t *self, cm_device_rules_t *rules);
/* The write ended: turn item results of APPLIED, STALE and DUPLICATE into outcomes. Deliveries of
 * FAILED items stay undecided; their errors are the job's own from here on. */
void cm_device_job_written(cm_device_job_t *self);
/* The outcome frame; undecided deliveries are released. Empties the job. */
void cm_device_job_finish(cm_device_job_t *self, const cm_device_rules_t *rules, unsigned credits,
                          cm_buffer_t *ret_frame);
#endif
