/* batch - device events as the statements want them: decoded, grouped by tenant, sorted, merged.
 *
 * The barest way from bodies to cm_device_store, for the ceilings; uses the service's decoder and
 * order rule, none of its actors.
 */
#ifndef CM_BENCH_BATCH_H
#define CM_BENCH_BATCH_H
#include "schema/device_store.h"

typedef struct {
    cm_device_change_t change;
    char tenant[CM_TENANT_ID_MAX];
    uint32_t index;
} cm_bench_event_t;

typedef struct {
    cm_arena_t *arena;
    cm_bench_event_t *events; /* arena's, room for cap */
    size_t count, cap;
    cm_store_tenant_t *tenants; /* arena's; after group */
    size_t tenant_count;
} cm_bench_batch_t;

void cm_bench_batch_init(cm_bench_batch_t *self, size_t cap);
void cm_bench_batch_destroy(cm_bench_batch_t *self);
void cm_bench_batch_clear(cm_bench_batch_t *self); /* keep the memory */
/* Decode body, which must outlive the batch; one that does not decode ends the program. */
void cm_bench_batch_add(cm_bench_batch_t *self, cm_str_t body, int64_t now_ms);
void cm_bench_batch_group(cm_bench_batch_t *self);
/* After the write: how many changes have this result. */
uint64_t cm_bench_batch_results(const cm_bench_batch_t *self, cm_change_result_t result);
#endif
