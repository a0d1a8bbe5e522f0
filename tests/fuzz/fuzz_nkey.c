/* fuzz_nkey.c - any bytes as public key, seed, signature and distinguished name; what is understood must be written the same. */
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

#include "auth/dn.h"
#include "auth/nkey.h"
#include "auth/password.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_keys(struct rb_slice text)
{
    enum rb_nkey_kind kind;
    uint8_t key[RB_NKEY_RAW_BYTES];
    if (rb_nkey_decode_public(text, &kind, key) == RB_OK) {
        char again[RB_NKEY_PUBLIC_LEN + 1];
        rb_nkey_encode_public(kind, key, again);
        rb_assert(rb_slice_equal(text, rb_slice_text(again)) && rb_nkey_is_public(text, kind));
    }
    struct rb_nkey nkey;
    if (rb_nkey_from_seed(text, &nkey) == RB_OK) {
        char again[RB_NKEY_SEED_LEN + 1];
        uint8_t signature[RB_NKEY_SIGNATURE_BYTES];
        rb_nkey_encode_seed(&nkey, again);
        rb_assert(rb_slice_equal(text, rb_slice_text(again)));
        if (nkey.kind != RB_NKEY_CURVE) {
            rb_assert(rb_nkey_sign(&nkey, text, signature) == RB_OK);
            rb_assert(rb_nkey_verify(nkey.public_key, text, signature));
        }
    }
}

static void try_signature(struct rb_slice text)
{
    static const uint8_t key[RB_NKEY_RAW_BYTES] = { 0x3d, 0x40, 0x17, 0xc3 };
    uint8_t raw[RB_NKEY_SIGNATURE_BYTES];
    if (rb_nkey_decode_signature(text, false, raw) == RB_OK) {
        char again[RB_NKEY_SIGNATURE_LEN + 1];
        rb_nkey_encode_signature(raw, again);
        rb_assert(rb_slice_equal(text, rb_slice_text(again)));
    }
    if (rb_nkey_decode_signature(text, true, raw) == RB_OK) {
        (void)rb_nkey_verify(key, text, raw);
    }
}

static void try_name(struct rb_slice text)
{
    struct rb_dn dn;
    if (rb_dn_parse(text, &dn)) {
        rb_assert(dn.rdn_count > 0 && dn.rdn_count <= dn.attribute_count);
        rb_assert(rb_dn_equal(&dn, &dn) && rb_dn_match(&dn, &dn));
        rb_assert(rb_dn_hash(&dn) == rb_dn_hash(&dn));
    }
    rb_assert(rb_password_cost(text) == 0 || rb_password_is_hash(text));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rb_slice text = rb_slice_of(data, size);
    try_keys(text);
    try_signature(text);
    try_name(text);
    return 0;
}
