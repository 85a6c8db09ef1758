#include "runtime/cleanup.h"
#include "schema/audit_log.h"
#include "schema/sql.h"

#include <openssl/crypto.h>
#include <string.h>

enum { PROGRESS_ROWS = 1000 };

typedef struct {
    cm_audit_chain_t *chain;
    const cm_audit_verify_t *how;
    cm_audit_report_t *report;
    int64_t last_us, total;
} verify_t;

const char *cm_audit_fault_name(cm_audit_fault_t fault)
{
    switch (fault) {
    case CM_AUDIT_INTACT:
        return "intact";
    case CM_AUDIT_GAP:
        return "gap";
    case CM_AUDIT_ORDER:
        return "order";
    case CM_AUDIT_PREVIOUS:
        return "previous-hash";
    case CM_AUDIT_HASH:
        return "hash";
    case CM_AUDIT_KEY:
        return "key";
    case CM_AUDIT_UNKEYED:
        return "unkeyed";
    case CM_AUDIT_ANCHOR:
        return "head";
    case CM_AUDIT_TRUNCATED:
        return "truncated";
    }
    return "unknown";
}

static bool same(const unsigned char *a, const unsigned char *b)
{
    return CRYPTO_memcmp(a, b, CM_AUDIT_HASH_BYTES) == 0;
}

/* Rows without key come first, and only as far as the caller expects them: else whoever can write
 * to the table could put a log of his own in the place of one with key. */
static cm_audit_fault_t check_key(const verify_t *self, const cm_audit_row_t *row)
{
    const char *ours = cm_audit_chain_key_id(self->chain);
    if (row->key_id.len > 0)
        return *ours && cm_str_is(row->key_id, ours) ? CM_AUDIT_INTACT : CM_AUDIT_KEY;
    bool expected = !*ours || row->position <= self->how->unkeyed_until;
    return expected && self->report->unkeyed == self->report->rows ? CM_AUDIT_INTACT
                                                                   : CM_AUDIT_UNKEYED;
}

static cm_audit_fault_t check(const verify_t *self, const cm_audit_row_t *row)
{
    unsigned char hash[CM_AUDIT_HASH_BYTES];
    int64_t wanted = self->report->head.position + 1;
    const cm_audit_head_t *expected = self->how->expected;
    if (row->position != wanted)
        return row->position > wanted ? CM_AUDIT_GAP : CM_AUDIT_ORDER;
    cm_audit_fault_t fault = check_key(self, row);
    if (fault != CM_AUDIT_INTACT)
        return fault;
    if (!same(row->previous_hash, self->report->head.hash))
        return CM_AUDIT_PREVIOUS;
    cm_audit_chain_hash(self->chain, row, hash);
    if (row->damaged || !same(row->hash, hash))
        return CM_AUDIT_HASH;
    if (expected && expected->position == wanted && !same(row->hash, expected->hash))
        return CM_AUDIT_ANCHOR;
    return CM_AUDIT_INTACT;
}

static bool on_row(void *ctx, const cm_audit_row_t *row)
{
    verify_t *self = ctx;
    cm_audit_report_t *report = self->report;
    report->fault = check(self, row);
    if (report->fault != CM_AUDIT_INTACT) {
        report->position =
            report->fault == CM_AUDIT_ORDER ? row->position : report->head.position + 1;
        return false;
    }
    report->rows++;
    report->unkeyed += row->key_id.len == 0;
    if (report->rows > 1 && row->at_us < self->last_us && report->clock_back++ == 0)
        report->clock_back_position = row->position;
    self->last_us = row->at_us;
    report->head.position = row->position;
    memcpy(report->head.hash, row->hash, sizeof row->hash);
    if (self->how->on_progress && report->rows % PROGRESS_ROWS == 0)
        self->how->on_progress(self->how->ctx, report->rows, self->total);
    return true;
}

/* For the progress only; rows that come meanwhile are not in it. */
static cm_status_t count(cm_pg_t *pg, const char *schema, int64_t *ret_total, cm_error_t *err)
{
    CM_CLEANUP(cm_pg_clear) PGresult *result = NULL;
    cm_status_t status = cm_sql_query(pg, "SELECT max(position) FROM @schema@.audit_log", schema, 0,
                                      NULL, &result, err);
    if (status == CM_OK)
        *ret_total = cm_pg_i64(result, 0, 0);
    return status;
}

cm_status_t cm_audit_verify(cm_pg_t *pg, const char *admin_schema, const char *key,
                            const cm_audit_verify_t *how, cm_audit_report_t *ret_report,
                            cm_error_t *err)
{
    CM_CLEANUP(cm_audit_chain_destroy) cm_audit_chain_t *chain = cm_audit_chain_new(key);
    verify_t self = {.chain = chain, .how = how, .report = ret_report};
    *ret_report = (cm_audit_report_t){0};
    cm_status_t status = count(pg, admin_schema, &self.total, err);
    if (status == CM_OK)
        status = cm_audit_each(pg, admin_schema, &(cm_audit_filter_t){0}, on_row, &self, err);
    if (status != CM_OK || ret_report->fault != CM_AUDIT_INTACT)
        return status;
    if (how->expected && how->expected->position > ret_report->head.position) {
        ret_report->fault = CM_AUDIT_TRUNCATED;
        ret_report->position = ret_report->head.position + 1;
    }
    return CM_OK;
}
