/* fuzz_contact_record - any bytes as a line of a file of contacts: refused with a code, or a
 * contact within all limits. The first byte tells JSON from CSV; in CSV the first line is the head.
 */
#include "proto/contact_record.h"
#include "runtime/cleanup.h"

#include <string.h>

#define NOW INT64_C(1795190400000)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void require(bool what)
{
    if (!what)
        __builtin_trap();
}

static void check(cm_status_t status, const cm_contact_t *contact, const cm_error_t *err)
{
    if (status != CM_OK) {
        require(status == CM_PERMANENT && err->code[0] && err->message[0] &&
                !strpbrk(err->message, "\r\n"));
        return;
    }
    char again[CM_TENANT_ID_MAX];
    require(cm_tenant_id_canonical(cm_str(contact->customer_id), again, NULL) == CM_OK &&
            strcmp(again, contact->customer_id) == 0);
    require(contact->deleted_ms >= 0 && contact->deleted_ms <= NOW + 86400000);
}

static void try_csv(cm_str_t text, cm_arena_t *arena)
{
    cm_contact_csv_t csv;
    cm_contact_t contact = {0};
    cm_error_t err = {0};
    const char *feed = text.len ? memchr(text.ptr, '\n', text.len) : NULL;
    size_t len = feed ? (size_t)(feed - text.ptr) : text.len;
    cm_status_t status = cm_contact_csv_head((cm_str_t){text.ptr, len}, arena, &csv, &err);
    if (status != CM_OK || !feed)
        return;
    require(csv.columns <= CM_CONTACT_COLUMNS_MAX);
    cm_str_t line = {feed + 1, text.len - len - 1};
    status = cm_contact_from_csv(&csv, line, NOW, arena, &contact, &err);
    check(status, &contact, &err);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    CM_CLEANUP(cm_arena_destroy) cm_arena_t *arena = cm_arena_new(4096);
    cm_contact_t contact = {0};
    cm_error_t err = {0};
    if (size == 0)
        return 0;
    cm_str_t text = {(const char *)data + 1, size - 1};
    if (data[0] % 2)
        try_csv(text, arena);
    else
        check(cm_contact_from_json(text, NOW, arena, &contact, &err), &contact, &err);
    return 0;
}
