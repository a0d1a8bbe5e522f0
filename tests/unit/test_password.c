/* test_password.c - plain secrets and bcrypt hashes. The hashes were made by Go's bcrypt, as `nats server passwd` does. */
#include "auth/password.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#define HORSE "$2a$04$ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy" /* correct horse */

static void plain_secrets(void **state)
{
    assert_true(rb_password_equal(RB_S("a"), RB_S("a")));
    assert_true(rb_password_equal(RB_S(""), rb_slice_of(NULL, 0)));
    assert_false(rb_password_equal(RB_S("a"), RB_S("b")));
    assert_false(rb_password_equal(RB_S("a"), RB_S("ab")));
    assert_false(rb_password_equal(RB_S("a\0b"), RB_S("a\0c")));
}

static void what_looks_like_a_hash(void **state)
{
    static const struct {
        const char *text;
        bool hash;
        uint32_t cost;
    } cases[] = {
        { HORSE, true, 4 },
        { "$2b$31$ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy", true, 31 },
        { "$2b$32$ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy", true, 0 },
        { "$2b$03$ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy", true, 0 },
        { "$2y$10$short", true, 0 },
        { "$2x$10$", true, 0 },
        { "$2z$10$x", false, 0 },
        { "$2a$1$xx", false, 0 },
        { "$2a$10", false, 0 },
        { "x$2a$10$", false, 0 },
        { "", false, 0 },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        assert_int_equal(rb_password_is_hash(rb_slice_text(cases[i].text)), cases[i].hash);
        assert_int_equal(rb_password_cost(rb_slice_text(cases[i].text)), cases[i].cost);
    }
}

/* Go knows one algorithm behind all four prefixes, also for the bytes that $2x$ and $2a$ were once about. */
static void all_four_prefixes_are_one(void **state)
{
    static const struct {
        const char *hash, *password;
    } cases[] = {
        { HORSE, "correct horse" },
        { "$2a$04$83JjXM4yDSFaKPTwQSuG6.dFpzhoJKahdd/W035KlN4vodaBLmt56",
          "\xff\xa3\x34\xff\xff\xff\xa3"
          "345 p\xc3\xa4ss" },
        { "$2a$04$z2dlVLLcLQMfGxjPK/o/neP8Zuv9eT7sYihBQ0dBHtBoekmVz0ene", "" },
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (const char *letter = "abxy"; *letter != '\0'; letter++) {
            char hash[RB_PASSWORD_HASH_CAP];
            memcpy(hash, cases[i].hash, sizeof(hash));
            hash[2] = *letter;
            struct rb_slice text = rb_slice_text(hash);
            assert_true(rb_password_check_hash(text, rb_slice_text(cases[i].password)));
            assert_false(rb_password_check_hash(text, RB_S("correct horsf")));
        }
    }
}

static void seventy_two_bytes_count(void **state)
{
    struct rb_slice hash = RB_S("$2a$04$G9Wmu8jZ9/ssujG79SA8gemLigh9eVNRNpy3vVLMIYbQJg2ZS3uCm");
    char text[80];
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (char)('0' + i % 10);
    }
    assert_true(rb_password_check_hash(hash, rb_slice_of(text, 72)));
    assert_true(rb_password_check_hash(hash, rb_slice_of(text, 80)));
    assert_false(rb_password_check_hash(hash, rb_slice_of(text, 71)));
    text[75] = '\0'; /* does not count */
    assert_true(rb_password_check_hash(hash, rb_slice_of(text, 80)));
    text[71] = '\0';
    assert_false(rb_password_check_hash(hash, rb_slice_of(text, 80)));
}

/* Behind a NUL a C string ends; a password does not. */
static void a_nul_fits_nothing(void **state)
{
    struct rb_slice hash = RB_S("$2a$04$WcYnRgTcAayOyBszWQQTGeATvtXZjW1BSk.VD17o/u87kjBqIu2zS");
    assert_true(rb_password_check_hash(hash, RB_S("ab")));
    assert_false(rb_password_check_hash(hash, RB_S("ab\0cd")));
    assert_false(rb_password_check_hash(hash, RB_S("ab\0")));
}

static void broken_hashes_fit_nothing(void **state)
{
    static const char *const hashes[] = {
        "",
        "$2a$04$",
        "$2a$04$!!!9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy",
        "$2a$04$ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacM",
        "$2a$99$ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy",
        "$2a$04:ouP9y98wtTSy6iTqUtDffecKNvP4IKZtt9TuZGdaGt0PnpN4KacMy",
    };
    for (size_t i = 0; i < sizeof(hashes) / sizeof(hashes[0]); i++) {
        assert_false(rb_password_check_hash(rb_slice_text(hashes[i]), RB_S("correct horse")));
    }
}

static void made_hashes_fit(void **state)
{
    char hash[RB_PASSWORD_HASH_CAP];
    uint8_t salt[RB_PASSWORD_SALT_BYTES], text[73];
    memset(salt, 0x5a, sizeof(salt));
    memset(text, 'x', sizeof(text));
    assert_int_equal(rb_password_make_hash(RB_S("secret"), 5, salt, hash), RB_OK);
    assert_int_equal(strlen(hash), 60);
    assert_int_equal(rb_password_cost(rb_slice_text(hash)), 5);
    assert_true(rb_password_check_hash(rb_slice_text(hash), RB_S("secret")));
    assert_false(rb_password_check_hash(rb_slice_text(hash), RB_S("Secret")));
    assert_int_equal(rb_password_make_hash(rb_slice_of(text, 72), 4, salt, hash), RB_OK);
    assert_int_equal(rb_password_make_hash(rb_slice_of(text, 73), 4, salt, hash), RB_ERR_INVALID);
    assert_int_equal(rb_password_make_hash(RB_S("a\0b"), 4, salt, hash), RB_ERR_INVALID);
    assert_int_equal(rb_password_make_hash(RB_S("a"), 3, salt, hash), RB_ERR_INVALID);
    assert_int_equal(rb_password_make_hash(RB_S("a"), 32, salt, hash), RB_ERR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_secrets),
        cmocka_unit_test(what_looks_like_a_hash),
        cmocka_unit_test(all_four_prefixes_are_one),
        cmocka_unit_test(seventy_two_bytes_count),
        cmocka_unit_test(a_nul_fits_nothing),
        cmocka_unit_test(broken_hashes_fit_nothing),
        cmocka_unit_test(made_hashes_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
