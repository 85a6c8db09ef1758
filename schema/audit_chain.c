#include "schema/audit_chain.h"
#include "runtime/buffer.h"
#include "runtime/cleanup.h"

#include <assert.h>
#include <inttypes.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct cm_audit_chain {
    EVP_MAC_CTX *mac; /* NULL: no key */
    EVP_MD *sha256;
    EVP_MD_CTX *digest;
    char key_id[CM_AUDIT_KEY_ID_MAX];
    cm_buffer_t encoded; /* kept between rows for its memory */
};

/* ---- texts ---------------------------------------------------------------------------------- */

static void append_hex(char *text, const unsigned char *bytes, size_t len)
{
    for (size_t i = 0; i < len; i++)
        snprintf(text + 2 * i, 3, "%02x", bytes[i]);
}

const char *cm_audit_head_text(const cm_audit_head_t *head, char text[CM_AUDIT_HEAD_TEXT_MAX])
{
    int len = snprintf(text, CM_AUDIT_HEAD_TEXT_MAX, "%" PRId64 ":", head->position);
    append_hex(text + len, head->hash, sizeof head->hash);
    return text;
}

bool cm_audit_head_parse(const char *text, cm_audit_head_t *ret_head)
{
    const char *colon = strchr(text, ':');
    if (!colon || !cm_str_to_i64((cm_str_t){text, (size_t)(colon - text)}, &ret_head->position) ||
        ret_head->position < 1)
        return false;
    const char *hex = colon + 1;
    if (strlen(hex) != 2 * sizeof ret_head->hash ||
        strspn(hex, "0123456789abcdefABCDEF") != 2 * sizeof ret_head->hash)
        return false;
    for (size_t i = 0; i < sizeof ret_head->hash; i++) {
        const char pair[] = {hex[2 * i], hex[2 * i + 1], '\0'};
        ret_head->hash[i] = (unsigned char)strtoul(pair, NULL, 16);
    }
    return true;
}

/* ---- hashes --------------------------------------------------------------------------------- */

static void must(bool done)
{
    if (!done)
        abort(); /* out of memory */
}

static void keyed(cm_audit_chain_t *self, const void *bytes, size_t len,
                  unsigned char ret_hash[CM_AUDIT_HASH_BYTES])
{
    size_t written = 0;
    must(EVP_MAC_init(self->mac, NULL, 0, NULL) && EVP_MAC_update(self->mac, bytes, len) &&
         EVP_MAC_final(self->mac, ret_hash, &written, CM_AUDIT_HASH_BYTES) &&
         written == CM_AUDIT_HASH_BYTES);
}

static void plain(cm_audit_chain_t *self, const void *bytes, size_t len,
                  unsigned char ret_hash[CM_AUDIT_HASH_BYTES])
{
    must(EVP_DigestInit_ex2(self->digest, self->sha256, NULL) &&
         EVP_DigestUpdate(self->digest, bytes, len) &&
         EVP_DigestFinal_ex(self->digest, ret_hash, NULL));
}

static void take_key(cm_audit_chain_t *self, const char *key)
{
    static const char purpose[] = "client-manager audit key";
    char name[] = "SHA256";
    OSSL_PARAM params[] = {OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, name, 0),
                           OSSL_PARAM_construct_end()};
    unsigned char id[CM_AUDIT_HASH_BYTES];
    EVP_MAC *hmac = EVP_MAC_fetch(NULL, "HMAC", NULL);
    must(hmac != NULL);
    self->mac = EVP_MAC_CTX_new(hmac);
    EVP_MAC_free(hmac);
    must(self->mac && EVP_MAC_init(self->mac, (const unsigned char *)key, strlen(key), params));
    keyed(self, purpose, sizeof purpose - 1, id);
    append_hex(self->key_id, id, (CM_AUDIT_KEY_ID_MAX - 1) / 2);
}

cm_audit_chain_t *cm_audit_chain_new(const char *key)
{
    cm_audit_chain_t *self = calloc(1, sizeof *self);
    must(self != NULL);
    self->sha256 = EVP_MD_fetch(NULL, "SHA256", NULL);
    self->digest = EVP_MD_CTX_new();
    must(self->sha256 && self->digest);
    if (key && *key)
        take_key(self, key);
    return self;
}

void cm_audit_chain_destroy(cm_audit_chain_t **self_p)
{
    cm_audit_chain_t *self = *self_p;
    if (!self)
        return;
    EVP_MAC_CTX_free(self->mac); /* wipes the key */
    EVP_MD_CTX_free(self->digest);
    EVP_MD_free(self->sha256);
    cm_buffer_destroy(&self->encoded);
    free(self);
    *self_p = NULL;
}

const char *cm_audit_chain_key_id(const cm_audit_chain_t *self)
{
    return self->key_id;
}

/* ---- the encoding --------------------------------------------------------------------------- */

static void put(cm_buffer_t *out, const void *bytes, size_t len)
{
    assert(len <= UINT32_MAX);
    const unsigned char prefix[] = {(unsigned char)(len >> 24), (unsigned char)(len >> 16),
                                    (unsigned char)(len >> 8), (unsigned char)len};
    cm_buffer_append(out, prefix, sizeof prefix);
    cm_buffer_append(out, bytes, len);
}

static void put_text(cm_buffer_t *out, cm_str_t text)
{
    put(out, text.ptr ? text.ptr : "", text.len);
}

static void put_number(cm_buffer_t *out, int64_t number)
{
    char text[24];
    int len = snprintf(text, sizeof text, "%" PRId64, number);
    put(out, text, (size_t)len);
}

void cm_audit_chain_hash(cm_audit_chain_t *self, const cm_audit_row_t *row,
                         unsigned char ret_hash[CM_AUDIT_HASH_BYTES])
{
    cm_buffer_t *out = &self->encoded;
    cm_buffer_clear(out);
    put_text(out, CM_STR("client-manager audit 1"));
    put_number(out, row->position);
    put_number(out, row->at_us);
    put_text(out, row->actor);
    put_text(out, row->action);
    put_text(out, row->tenant);
    put_number(out, row->generation);
    put_text(out, row->detail);
    put_text(out, row->key_id);
    put(out, row->previous_hash, sizeof row->previous_hash);
    if (row->key_id.len == 0) {
        plain(self, out->data, out->len, ret_hash);
    } else {
        assert(self->mac);
        keyed(self, out->data, out->len, ret_hash);
    }
}
