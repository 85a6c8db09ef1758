/* audit_chain - how a row of the audit log becomes bytes, and the bytes a hash.
 *
 * The encoding, version 1: ten fields one after the other, each its length in bytes as four bytes,
 * high byte first, then the bytes themselves.
 *
 *      1  the text "client-manager audit 1"
 *      2  position, decimal            from 1
 *      3  time, decimal                microseconds since 1970-01-01 UTC
 *      4  actor                        UTF-8, as the next ones
 *      5  action
 *      6  tenant                       empty: of none
 *      7  generation, decimal          0: none
 *      8  detail                       the text of a JSON object, byte for byte
 *      9  key id                       empty: no key
 *     10  hash of the row before       32 bytes, all zero before the first row
 *
 * hash = HMAC-SHA-256(key, encoding), or SHA-256(encoding) in a row without key id. A plain hash
 * shows mistakes; it does not stop somebody who can write to the table, since he can compute it.
 * The key is the bytes of its text. key id = the first 8 bytes, in hex, of HMAC-SHA-256(key,
 * "client-manager audit key"): it tells keys apart and says nothing of one that is long and random.
 * A change of any of this is a new version, and the first field tells which one a row has.
 *
 * Pure functions on OpenSSL; a failure in there can only be memory and aborts. Rule: reliability,
 * section 4.1.
 */
#ifndef CM_SCHEMA_AUDIT_CHAIN_H
#define CM_SCHEMA_AUDIT_CHAIN_H
#include "runtime/str.h"

#include <stdbool.h>
#include <stdint.h>

enum {
    CM_AUDIT_HASH_BYTES = 32,
    CM_AUDIT_KEY_ID_MAX = 17,                                     /* with the NUL */
    CM_AUDIT_HEAD_TEXT_MAX = 20 + 1 + 2 * CM_AUDIT_HASH_BYTES + 1 /* "17:9f86d0...", NUL */
};

typedef struct {
    int64_t position; /* 0: the log is empty, the hash all zero */
    unsigned char hash[CM_AUDIT_HASH_BYTES];
} cm_audit_head_t;

typedef struct {
    int64_t position, at_us, generation;
    cm_str_t actor, action, tenant, detail, key_id; /* borrowed */
    unsigned char previous_hash[CM_AUDIT_HASH_BYTES], hash[CM_AUDIT_HASH_BYTES];
    bool damaged; /* a column is empty or has a form that was never written */
} cm_audit_row_t;

/* "POSITION:HASH", the hash in hex; returns text. */
const char *cm_audit_head_text(const cm_audit_head_t *head, char text[CM_AUDIT_HEAD_TEXT_MAX]);
/* False unless text is a position from 1 and a whole hash. */
bool cm_audit_head_parse(const char *text, cm_audit_head_t *ret_head);

typedef struct cm_audit_chain cm_audit_chain_t; /* a key, ready for use; of one thread */

cm_audit_chain_t *cm_audit_chain_new(const char *key); /* NULL or "": none */
void cm_audit_chain_destroy(cm_audit_chain_t **self_p);
const char *cm_audit_chain_key_id(const cm_audit_chain_t *self); /* "" without key; lives as self */
/* Hash of row, its own member hash left aside: with the key when row->key_id is not empty. The
 * chain must then have one (asserted). */
void cm_audit_chain_hash(cm_audit_chain_t *self, const cm_audit_row_t *row,
                         unsigned char ret_hash[CM_AUDIT_HASH_BYTES]);
#endif
