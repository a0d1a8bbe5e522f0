/* test_nkey.c - nkeys as text, and Ed25519: keys made with the Go implementation, a vector of RFC 8032, and broken ones. */
#include "auth/nkey.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

/* Made for this test, and for nothing else. */
static const struct made {
    enum rb_nkey_kind kind;
    const char *seed, *public_key, *signature; /* over "nonce-of-a-test" */
} made[] = {
    { RB_NKEY_USER, "SUAOX4YS6A47K6KYCR5PNWJRJCTMQLCPSMKNA6LC6A6MGM7FW5B42YVDM4",
      "UAN36WN7YO7NJGQ2Y5MAMF7B55SEDBGAIEA46M3TOHSTKMHHEW2Z6RCW",
      "FPz4yuyYH9_bp8VvTRilXq7ieco58JMTZBlvr1Dd_k1_vxZluH2l0kho6_O2yv7ZKLjlIdd3DV083ZM0L1reBw" },
    { RB_NKEY_ACCOUNT, "SAALT2JK22M6LUISYH2ONVTE57POFG56EPFRYEY7FOFRUAVQL6FN77TJSI",
      "ACIIIZFSJRXMTF7YPX6QBG7GZEZ5GK3VUKTNLMW225N473R3PXXWEHAF",
      "iQVbLBx45S9h_fbN3Z8qqn5uYjGwnw85jl2uOzAA89NN7mxn-QSRZqClRbEVXJ0jAouPmIctriPzdJmEjLwcAQ" },
    { RB_NKEY_SERVER, "SNAKQVBZGZCNSL32KK2LRQEXNC3V74ZIJ4VMOPNMNAEZQOFBN5LFQRKSFY",
      "NBX66CH3BRGQSZZFMI5V6H3RVC2RMJOBRPU6Q62RA77AS3QOR6ZBIPN5",
      "Qq13CJEhgnLYYrAJTMohDJPYwacrbTaldCLFbYzfpNiIGOQ0BDcrhsCgQuLSD7lJB6j984ShSz3yInT3cvJ1Ag" },
    { RB_NKEY_CLUSTER, "SCAKQ6DJY6TBDGTS6FS2A2PXWKAL2PTB3SQZX7Q6M47YEBSR6SP6K3LLSM",
      "CDH6QZY6VN3KXR6KHGKQHQ66LLVAL3VUZ4DQTA7SL6WW646PLTSYBIWE",
      "yNS4RE99p1YyiG-o6n7cjb_2pHlNW14B4yf8zUuKXhC57udgEkx4eQ3--d4yt0r1t3mNAfQelH6f1EVKzMMgDQ" },
    { RB_NKEY_OPERATOR, "SOADUIWWKLHPJ4VQXXIG3OB5B4QWTWER23V7HM66PPPGKFFKHUX2WOIXNI",
      "OC3PXODG37JYEYH4PH7DA45L5WVXNJWCF7P675VP53U2DXFOIPJJ5ZKO",
      "4S4hIv_UC32v5EeP7AsfPyO9wJL--Ggl5P22gB3GrUctolDjfII0IaLdah0ga50d-0xcw3s95vJGJnNYycliCg" },
    { RB_NKEY_CURVE, "SXAOOI2RDJ6LUPFQ7PNPDYBQPUDRSJTELVEKAEBFUHVASPVAYPZCUKZQZE",
      "XCBHBVVWRLF4LMNTBKRXMCVB6A3OJCD4D6KRH5SFSLAXZDAWKGJDI7K2", "" },
};
enum { MADE = sizeof(made) / sizeof(made[0]) };

static struct rb_slice nonce(void)
{
    return RB_S("nonce-of-a-test");
}

static void keys_of_go_are_understood(void **state)
{
    for (int i = 0; i < MADE; i++) {
        struct rb_slice text = rb_slice_text(made[i].public_key);
        enum rb_nkey_kind kind;
        uint8_t key[RB_NKEY_RAW_BYTES];
        assert_int_equal(rb_nkey_decode_public(text, &kind, key), RB_OK);
        assert_int_equal(kind, made[i].kind);
        assert_true(rb_nkey_is_any_public(text));
        for (int other = 0; other < MADE; other++) {
            assert_int_equal(rb_nkey_is_public(text, made[other].kind), i == other);
        }
        char again[RB_NKEY_PUBLIC_LEN + 1];
        rb_nkey_encode_public(kind, key, again);
        assert_string_equal(again, made[i].public_key);
        assert_false(rb_nkey_is_any_public(rb_slice_text(made[i].seed)));
    }
}

static void seeds_of_go_are_understood(void **state)
{
    for (int i = 0; i < MADE; i++) {
        struct rb_nkey nkey;
        assert_int_equal(rb_nkey_from_seed(rb_slice_text(made[i].seed), &nkey), RB_OK);
        assert_int_equal(nkey.kind, made[i].kind);
        char seed[RB_NKEY_SEED_LEN + 1], public_key[RB_NKEY_PUBLIC_LEN + 1];
        rb_nkey_encode_seed(&nkey, seed);
        rb_nkey_encode_public(nkey.kind, nkey.public_key, public_key);
        assert_string_equal(seed, made[i].seed);
        assert_string_equal(public_key, made[i].public_key);
        assert_int_equal(rb_nkey_from_seed(rb_slice_text(public_key), &nkey), RB_ERR_INVALID);
    }
}

static void signatures_of_go_are_ours(void **state)
{
    for (int i = 0; i < MADE; i++) {
        struct rb_nkey nkey;
        uint8_t signature[RB_NKEY_SIGNATURE_BYTES];
        char text[RB_NKEY_SIGNATURE_LEN + 1];
        assert_int_equal(rb_nkey_from_seed(rb_slice_text(made[i].seed), &nkey), RB_OK);
        if (made[i].kind == RB_NKEY_CURVE) {
            assert_int_equal(rb_nkey_sign(&nkey, nonce(), signature), RB_ERR_INVALID);
            continue;
        }
        assert_int_equal(rb_nkey_sign(&nkey, nonce(), signature), RB_OK);
        rb_nkey_encode_signature(signature, text);
        assert_string_equal(text, made[i].signature);
        struct rb_slice key = rb_slice_text(made[i].public_key);
        assert_true(rb_nkey_verify_text(key, nonce(), rb_slice_text(text), true));
        assert_false(rb_nkey_verify_text(key, RB_S("nonce-of-a-tesu"), rb_slice_text(text), true));
        assert_false(rb_nkey_verify_text(key, RB_S(""), rb_slice_text(text), true));
        struct rb_slice other = rb_slice_text(made[(i + 1) % MADE].public_key);
        assert_false(rb_nkey_verify_text(other, nonce(), rb_slice_text(text), true));
        for (size_t at = 0; at < sizeof(signature); at += 7) {
            signature[at] ^= 0x10;
            assert_false(rb_nkey_verify(nkey.public_key, nonce(), signature));
            signature[at] ^= 0x10;
        }
        rb_nkey_wipe(&nkey);
        assert_true(nkey.seed[0] == 0 && memcmp(nkey.seed, nkey.seed + 1, 31) == 0);
    }
}

/* Any change of one character breaks the checksum, or is outside the alphabet. */
static void broken_keys_are_refused(void **state)
{
    char text[RB_NKEY_SEED_LEN + 2];
    for (size_t at = 0; at < RB_NKEY_PUBLIC_LEN; at++) {
        memcpy(text, made[0].public_key, RB_NKEY_PUBLIC_LEN + 1);
        for (const char *with = "AZ27u0189=-\x7f\xff"; *with != '\0'; with++) {
            text[at] = *with;
            bool same = *with == made[0].public_key[at];
            assert_int_equal(rb_nkey_is_any_public(rb_slice_of(text, RB_NKEY_PUBLIC_LEN)), same);
        }
    }
    memcpy(text, made[0].public_key, RB_NKEY_PUBLIC_LEN);
    assert_true(rb_nkey_is_any_public(rb_slice_of(text, RB_NKEY_PUBLIC_LEN)));
    text[RB_NKEY_PUBLIC_LEN] = 'A';
    for (size_t len = 0; len <= RB_NKEY_PUBLIC_LEN + 1; len++) {
        if (len != RB_NKEY_PUBLIC_LEN) {
            assert_false(rb_nkey_is_any_public(rb_slice_of(text, len)));
        }
    }
    assert_false(rb_nkey_is_any_public(rb_slice_of(NULL, 0)));
}

static void broken_seeds_are_refused(void **state)
{
    struct rb_nkey nkey = { .kind = RB_NKEY_USER };
    char text[RB_NKEY_SEED_LEN + 1];
    for (size_t at = 0; at < RB_NKEY_SEED_LEN; at++) {
        memcpy(text, made[0].seed, sizeof(text));
        text[at] = text[at] == 'B' ? 'C' : 'B';
        assert_int_equal(rb_nkey_from_seed(rb_slice_text(text), &nkey), RB_ERR_INVALID);
    }
    /* The last character has two bits too many; they must be zero. */
    memcpy(text, made[0].seed, sizeof(text));
    assert_int_equal(text[RB_NKEY_SEED_LEN - 1], '4');
    text[RB_NKEY_SEED_LEN - 1] = '5';
    assert_int_equal(rb_nkey_from_seed(rb_slice_text(text), &nkey), RB_ERR_INVALID);
    assert_int_equal(rb_nkey_from_seed(rb_slice_of(text, 57), &nkey), RB_ERR_INVALID);
}

/* An unknown letter with a right checksum is still no key. */
static void unknown_kinds_are_refused(void **state)
{
    uint8_t key[RB_NKEY_RAW_BYTES] = { 1, 2, 3 };
    char text[RB_NKEY_PUBLIC_LEN + 1];
    for (int prefix = 0; prefix < 256; prefix++) {
        bool known = false;
        for (int i = 0; i < MADE; i++) {
            known = known || (int)made[i].kind == prefix;
        }
        rb_nkey_encode_public((enum rb_nkey_kind)prefix, key, text);
        assert_int_equal(rb_nkey_is_any_public(rb_slice_text(text)), known);
    }
}

static void hex(const char *text, uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        char pair[3] = { text[2 * i], text[2 * i + 1], '\0' };
        out[i] = (uint8_t)strtoul(pair, NULL, 16);
    }
}

/* RFC 8032, section 7.1, TEST 2. */
static void ed25519_as_published(void **state)
{
    uint8_t seed[32], key[32], signature[64], signed_here[64];
    hex("4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb", seed, 32);
    hex("3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c", key, 32);
    hex("92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
        signature, 64);
    struct rb_nkey nkey = { .kind = RB_NKEY_USER };
    memcpy(nkey.seed, seed, 32);
    assert_int_equal(rb_nkey_sign(&nkey, RB_S("\x72"), signed_here), RB_OK);
    assert_memory_equal(signed_here, signature, 64);
    assert_true(rb_nkey_verify(key, RB_S("\x72"), signature));
    assert_false(rb_nkey_verify(key, RB_S("\x73"), signature));
    char text[RB_NKEY_SEED_LEN + 1];
    rb_nkey_encode_seed(&nkey, text);
    assert_int_equal(rb_nkey_from_seed(rb_slice_text(text), &nkey), RB_OK);
    assert_memory_equal(nkey.public_key, key, 32);
}

/* Users may pad, proxies may not; nothing else passes. */
static void signatures_as_text(void **state)
{
    uint8_t raw[RB_NKEY_SIGNATURE_BYTES], back[RB_NKEY_SIGNATURE_BYTES];
    char text[RB_NKEY_SIGNATURE_LEN + 3];
    memset(raw, 0xfb, sizeof(raw)); /* "-_v7" or "+/v7" */
    rb_nkey_encode_signature(raw, text);
    assert_non_null(strchr(text, '-'));
    struct rb_slice url = rb_slice_of(text, RB_NKEY_SIGNATURE_LEN);
    assert_int_equal(rb_nkey_decode_signature(url, false, back), RB_OK);
    assert_memory_equal(raw, back, sizeof(raw));
    memcpy(text + RB_NKEY_SIGNATURE_LEN, "==", 3);
    struct rb_slice padded = rb_slice_text(text);
    assert_int_equal(rb_nkey_decode_signature(padded, true, back), RB_ERR_INVALID);
    for (char *c = text; *c != '\0'; c++) {
        *c = *c == '-' ? '+' : *c == '_' ? '/' : *c;
    }
    memset(back, 0, sizeof(back));
    assert_int_equal(rb_nkey_decode_signature(padded, true, back), RB_OK);
    assert_memory_equal(raw, back, sizeof(raw));
    assert_int_equal(rb_nkey_decode_signature(padded, false, back), RB_ERR_INVALID);
    assert_int_equal(rb_nkey_decode_signature(url, true, back),
                     RB_ERR_INVALID); /* standard, bare */
    assert_int_equal(rb_nkey_decode_signature(RB_S(""), true, back), RB_ERR_INVALID);
}

static void server_ids_differ(void **state)
{
    struct rb_env env;
    rb_env_init_system(&env);
    char a[RB_NKEY_PUBLIC_LEN + 1], b[RB_NKEY_PUBLIC_LEN + 1];
    assert_int_equal(rb_nkey_server_id(&env, a), RB_OK);
    assert_int_equal(rb_nkey_server_id(&env, b), RB_OK);
    assert_true(rb_nkey_is_public(rb_slice_text(a), RB_NKEY_SERVER));
    assert_int_equal(a[0], 'N');
    assert_string_not_equal(a, b);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(keys_of_go_are_understood), cmocka_unit_test(seeds_of_go_are_understood),
        cmocka_unit_test(signatures_of_go_are_ours), cmocka_unit_test(broken_keys_are_refused),
        cmocka_unit_test(broken_seeds_are_refused),  cmocka_unit_test(unknown_kinds_are_refused),
        cmocka_unit_test(ed25519_as_published),      cmocka_unit_test(signatures_as_text),
        cmocka_unit_test(server_ids_differ),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
