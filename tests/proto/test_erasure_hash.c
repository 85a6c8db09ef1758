#include "proto/erasure_hash.h"

#include <criterion/criterion.h>
#include <criterion/new/assert.h>
#include <openssl/core_names.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <stdio.h>
#include <string.h>

static bool same(cm_erasure_hash_t a, cm_erasure_hash_t b)
{
    return memcmp(a.bytes, b.bytes, sizeof a.bytes) == 0;
}

static cm_erasure_hash_t by_openssl(const unsigned char key[16], const void *bytes, size_t len)
{
    size_t size = CM_ERASURE_HASH_BYTES, written = 0;
    OSSL_PARAM params[] = {OSSL_PARAM_construct_size_t(OSSL_MAC_PARAM_SIZE, &size),
                           OSSL_PARAM_construct_end()};
    cm_erasure_hash_t hash;
    EVP_MAC *mac = EVP_MAC_fetch(NULL, "SIPHASH", NULL);
    EVP_MAC_CTX *ctx = EVP_MAC_CTX_new(mac);
    cr_assert(eq(int, EVP_MAC_init(ctx, key, 16, params), 1));
    cr_assert(eq(int, EVP_MAC_update(ctx, bytes, len), 1));
    cr_assert(eq(int, EVP_MAC_final(ctx, hash.bytes, &written, sizeof hash.bytes), 1));
    cr_assert(eq(sz, written, sizeof hash.bytes));
    EVP_MAC_CTX_free(ctx);
    EVP_MAC_free(mac);
    return hash;
}

Test(erasure_hash, siphash_is_that_of_openssl_at_every_length, .timeout = 20)
{
    unsigned char key[16], bytes[64];
    for (int i = 0; i < 64; i++)
        bytes[i] = (unsigned char)(i * 37 + 1);
    for (int round = 0; round < 8; round++) {
        for (int i = 0; i < 16; i++)
            key[i] = (unsigned char)(i * (round + 1) + round);
        for (size_t len = 0; len <= sizeof bytes; len++)
            cr_expect(same(cm_siphash_128(key, bytes, len), by_openssl(key, bytes, len)),
                      "length %zu", len);
    }
}

/* From the reference code: vectors_sip128, key 00 to 0f. */
Test(erasure_hash, siphash_keeps_to_the_published_vectors, .timeout = 5)
{
    static const unsigned char empty[] = {0xa3, 0x81, 0x7f, 0x04, 0xba, 0x25, 0xa8, 0xe6,
                                          0x6d, 0xf6, 0x72, 0x14, 0xc7, 0x55, 0x02, 0x93};
    static const unsigned char one[] = {0xda, 0x87, 0xc1, 0xd8, 0x6b, 0x99, 0xaf, 0x44,
                                        0x34, 0x76, 0x59, 0x11, 0x9b, 0x22, 0xfc, 0x45};
    unsigned char key[16];
    for (int i = 0; i < 16; i++)
        key[i] = (unsigned char)i;
    cr_expect(eq(int, memcmp(cm_siphash_128(key, "", 0).bytes, empty, 16), 0));
    cr_expect(eq(int, memcmp(cm_siphash_128(key, "\0", 1).bytes, one, 16), 0));
}

/* What stands in a table must be found again by every later version and on every machine. */
Test(erasure_hash, the_hashes_of_version_1_stay_as_they_are, .timeout = 5)
{
    cm_erasure_key_t key = cm_erasure_tenant_key("0123456789abcdef", "218524530");
    cm_erasure_hash_t hash = cm_erasure_contact(&key, 77120011);
    char hex[33] = "", id[CM_ERASURE_KEY_ID_MAX];
    for (int i = 0; i < 16; i++)
        snprintf(hex + 2 * i, 3, "%02x", hash.bytes[i]);
    cr_expect(eq(str, hex, "51da711a911eb01b55448eb63a84c3ac"));
    cr_expect(eq(str, (char *)cm_erasure_key_id("0123456789abcdef", id), "c811559b3094e48d"));
    cr_expect(eq(str, (char *)cm_erasure_key_id("", id), ""));
}

Test(erasure_hash, a_contact_has_another_hash_in_another_tenant_and_under_another_key, .timeout = 5)
{
    cm_erasure_key_t a = cm_erasure_tenant_key("k", "1"), b = cm_erasure_tenant_key("k", "2");
    cm_erasure_key_t other = cm_erasure_tenant_key("l", "1"), none = cm_erasure_tenant_key("", "1");
    cr_expect(same(cm_erasure_contact(&a, 5), cm_erasure_contact(&a, 5)));
    cr_expect(not(same(cm_erasure_contact(&a, 5), cm_erasure_contact(&a, -5))));
    cr_expect(not(same(cm_erasure_contact(&a, 5), cm_erasure_contact(&b, 5))));
    cr_expect(not(same(cm_erasure_contact(&a, 5), cm_erasure_contact(&other, 5))));
    cr_expect(not(same(cm_erasure_contact(&a, 5), cm_erasure_contact(&none, 5))));
}

Test(erasure_hash, the_parts_of_a_device_key_do_not_run_into_each_other, .timeout = 5)
{
    static char text[3000];
    cm_erasure_key_t key = cm_erasure_tenant_key("k", "1");
    memset(text, 'x', sizeof text);
    cm_str_t large = {text, sizeof text}, larger = {text, sizeof text - 1};
    cr_expect(not(same(cm_erasure_device(&key, CM_STR("ab"), CM_STR("c")),
                       cm_erasure_device(&key, CM_STR("a"), CM_STR("bc")))));
    cr_expect(not(same(cm_erasure_device(&key, CM_STR("a"), CM_STR("b")),
                       cm_erasure_token(&key, CM_STR("a"), CM_STR("b")))));
    cr_expect(not(same(cm_erasure_token(&key, CM_STR("a"), large),
                       cm_erasure_token(&key, CM_STR("a"), larger))));
}
