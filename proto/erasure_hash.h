/* erasure_hash - keyed hashes by which erased contacts are known without their ids.
 *
 * tenant key    = the first 16 bytes of HMAC-SHA-256(erasure.key, canonical tenant id)
 * contact hash  = SipHash-2-4-128(tenant key, contact id as 8 bytes, little-endian)
 * device hash   = SipHash-2-4-128(tenant key, n1, applicationCode, n2, clientId), n = length of
 * what follows, 4 bytes, little-endian token hash    = the same of 0xffffffff, n1, applicationCode,
 * n2, push token: of a verdict that is addressed by its token alone key id        = the first 8
 * bytes, in hex, of HMAC-SHA-256(erasure.key, "client-manager erasure key"); "" without key
 *
 * Without a key (empty) the hashes still hide no id from whoever can try all of them; with one they
 * do from everybody who has not the key. SipHash is our own dozen of lines, since each device event
 * pays for one: 20 ns, against some 300 ns through OpenSSL's EVP_MAC, which the tests hold it to.
 * Pure functions; a failure of OpenSSL can only be memory and aborts.
 */
#ifndef CM_PROTO_ERASURE_HASH_H
#define CM_PROTO_ERASURE_HASH_H
#include "runtime/str.h"

#include <stdint.h>

enum {
    CM_ERASURE_HASH_BYTES = 16,
    CM_ERASURE_HEX_MAX = 2 * CM_ERASURE_HASH_BYTES + 1, /* with the NUL, as the next */
    CM_ERASURE_KEY_ID_MAX = 17
};

typedef struct {
    unsigned char bytes[16];
} cm_erasure_key_t; /* of one tenant */

typedef struct {
    unsigned char bytes[CM_ERASURE_HASH_BYTES];
} cm_erasure_hash_t;

cm_erasure_key_t cm_erasure_tenant_key(const char *key, const char *tenant);
cm_erasure_hash_t cm_erasure_contact(const cm_erasure_key_t *key, int64_t contact_id);
cm_erasure_hash_t cm_erasure_device(const cm_erasure_key_t *key, cm_str_t application_code,
                                    cm_str_t client_id);
cm_erasure_hash_t cm_erasure_token(const cm_erasure_key_t *key, cm_str_t application_code,
                                   cm_str_t token);
const char *cm_erasure_key_id(const char *key, char id[CM_ERASURE_KEY_ID_MAX]); /* returns id */
cm_str_t cm_erasure_hash_str(const cm_erasure_hash_t *hash);                    /* borrowed */
cm_str_t cm_erasure_hash_hex(const cm_erasure_hash_t *hash,
                             char hex[CM_ERASURE_HEX_MAX]); /* in hex */

/* SipHash-2-4 with 128 bits. Source: Aumasson and Bernstein, and their reference code. */
cm_erasure_hash_t cm_siphash_128(const unsigned char key[16], const void *bytes, size_t len);
#endif
