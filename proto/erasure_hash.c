#include "proto/erasure_hash.h"

#include <endian.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- SipHash -------------------------------------------------------------------------------- */

typedef struct {
    uint64_t v0, v1, v2, v3;
} sip_t;

static uint64_t rotl(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

static void rounds(sip_t *s, int count)
{
    while (count-- > 0) {
        s->v0 += s->v1, s->v1 = rotl(s->v1, 13) ^ s->v0, s->v0 = rotl(s->v0, 32);
        s->v2 += s->v3, s->v3 = rotl(s->v3, 16) ^ s->v2;
        s->v0 += s->v3, s->v3 = rotl(s->v3, 21) ^ s->v0;
        s->v2 += s->v1, s->v1 = rotl(s->v1, 17) ^ s->v2, s->v2 = rotl(s->v2, 32);
    }
}

static uint64_t word(const unsigned char *bytes)
{
    uint64_t value;
    memcpy(&value, bytes, sizeof value);
    return le64toh(value);
}

static void take(sip_t *s, uint64_t m)
{
    s->v3 ^= m;
    rounds(s, 2);
    s->v0 ^= m;
}

cm_erasure_hash_t cm_siphash_128(const unsigned char key[16], const void *bytes, size_t len)
{
    const unsigned char *at = bytes;
    uint64_t k0 = word(key), k1 = word(key + 8), last = (uint64_t)len << 56;
    sip_t s = {k0 ^ UINT64_C(0x736f6d6570736575), k1 ^ UINT64_C(0x646f72616e646f6d) ^ 0xee,
               k0 ^ UINT64_C(0x6c7967656e657261), k1 ^ UINT64_C(0x7465646279746573)};
    for (; len >= 8; len -= 8, at += 8)
        take(&s, word(at));
    for (size_t i = 0; i < len; i++)
        last |= (uint64_t)at[i] << (8 * i);
    take(&s, last);
    s.v2 ^= 0xee;
    rounds(&s, 4);
    uint64_t low = htole64(s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
    s.v1 ^= 0xdd;
    rounds(&s, 4);
    uint64_t high = htole64(s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
    cm_erasure_hash_t hash;
    memcpy(hash.bytes, &low, 8);
    memcpy(hash.bytes + 8, &high, 8);
    return hash;
}

/* ---- keys ----------------------------------------------------------------------------------- */

static void keyed(const char *key, const char *text, unsigned char ret_hash[EVP_MAX_MD_SIZE])
{
    unsigned len = 0;
    if (!HMAC(EVP_sha256(), key, (int)strlen(key), (const unsigned char *)text, strlen(text),
              ret_hash, &len))
        abort(); /* out of memory */
}

cm_erasure_key_t cm_erasure_tenant_key(const char *key, const char *tenant)
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    cm_erasure_key_t result;
    keyed(key, tenant, hash);
    memcpy(result.bytes, hash, sizeof result.bytes);
    return result;
}

const char *cm_erasure_key_id(const char *key, char id[CM_ERASURE_KEY_ID_MAX])
{
    unsigned char hash[EVP_MAX_MD_SIZE];
    id[0] = '\0';
    if (!*key)
        return id;
    keyed(key, "client-manager erasure key", hash);
    for (int i = 0; i < CM_ERASURE_KEY_ID_MAX / 2; i++)
        snprintf(id + 2 * i, 3, "%02x", hash[i]);
    return id;
}

/* ---- hashes --------------------------------------------------------------------------------- */

cm_erasure_hash_t cm_erasure_contact(const cm_erasure_key_t *key, int64_t contact_id)
{
    uint64_t little_endian = htole64((uint64_t)contact_id);
    return cm_siphash_128(key->bytes, &little_endian, sizeof little_endian);
}

static unsigned char *put_text(unsigned char *at, cm_str_t text)
{
    uint32_t len = htole32((uint32_t)text.len);
    at = mempcpy(at, &len, sizeof len);
    return text.len ? mempcpy(at, text.ptr, text.len) : at;
}

static cm_erasure_hash_t hash_pair(const cm_erasure_key_t *key, bool marked, cm_str_t first,
                                   cm_str_t second)
{
    static const unsigned char mark[] = {0xff, 0xff, 0xff, 0xff};
    unsigned char room[1024];
    size_t need = sizeof mark + 8 + first.len + second.len;
    unsigned char *bytes = need <= sizeof room ? room : malloc(need);
    if (!bytes)
        abort();
    unsigned char *at = marked ? mempcpy(bytes, mark, sizeof mark) : bytes;
    at = put_text(put_text(at, first), second);
    cm_erasure_hash_t hash = cm_siphash_128(key->bytes, bytes, (size_t)(at - bytes));
    if (bytes != room)
        free(bytes);
    return hash;
}

cm_erasure_hash_t cm_erasure_device(const cm_erasure_key_t *key, cm_str_t application_code,
                                    cm_str_t client_id)
{
    return hash_pair(key, false, application_code, client_id);
}

cm_erasure_hash_t cm_erasure_token(const cm_erasure_key_t *key, cm_str_t application_code,
                                   cm_str_t token)
{
    return hash_pair(key, true, application_code, token);
}

cm_str_t cm_erasure_hash_str(const cm_erasure_hash_t *hash)
{
    return (cm_str_t){(const char *)hash->bytes, sizeof hash->bytes};
}

cm_str_t cm_erasure_hash_hex(const cm_erasure_hash_t *hash, char hex[CM_ERASURE_HEX_MAX])
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < sizeof hash->bytes; i++) {
        hex[2 * i] = digits[hash->bytes[i] >> 4];
        hex[2 * i + 1] = digits[hash->bytes[i] & 15];
    }
    hex[CM_ERASURE_HEX_MAX - 1] = '\0';
    return (cm_str_t){hex, CM_ERASURE_HEX_MAX - 1};
}
