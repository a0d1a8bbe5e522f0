/* password.c - secrets compared as they are, or through bcrypt.
 *
 * 1. Plain secrets are compared without an early exit, so that time tells nothing of the content.
 * 2. nats-server's bcrypt knows one algorithm behind all four prefixes ($2a$, $2b$, $2x$, $2y$; tried with each), while
 *    libxcrypt keeps the old bug behind $2x$ and a countermeasure to it behind $2a$. So all are computed as $2b$, and only
 *    the 31 characters of the result are compared; salt and cost came from the hash itself.
 * 3. bcrypt uses 72 bytes of a password; the rest is cut off, as Go does. C strings end at a NUL and Go's do not, so a
 *    password with a NUL in these bytes fits nothing, but costs the same.
 */
#include "auth/password.h"

#include <crypt.h>
#include <string.h>

#include "ringbus/check.h"

#define PREFIX_LEN 7  /* "$2a$10$" */
#define SALT_LEN 22   /* base64 of 16 bytes */
#define RESULT_LEN 31 /* base64 of 23 bytes */
#define HASH_LEN (PREFIX_LEN + SALT_LEN + RESULT_LEN)

bool rb_password_equal(struct rb_slice a, struct rb_slice b)
{
    if (a.len != b.len) {
        return false;
    }
    unsigned difference = 0;
    for (size_t i = 0; i < a.len; i++) {
        difference |= (unsigned)(a.ptr[i] ^ b.ptr[i]);
    }
    return difference == 0;
}

static bool is_digit(uint8_t c)
{
    return c >= '0' && c <= '9';
}

bool rb_password_is_hash(struct rb_slice secret)
{
    const uint8_t *p = secret.ptr;
    return secret.len >= PREFIX_LEN && p[0] == '$' && p[1] == '2' &&
           (p[2] == 'a' || p[2] == 'b' || p[2] == 'x' || p[2] == 'y') && p[3] == '$' &&
           is_digit(p[4]) && is_digit(p[5]) && p[6] == '$';
}

uint32_t rb_password_cost(struct rb_slice secret)
{
    if (!rb_password_is_hash(secret) || secret.len < HASH_LEN) {
        return 0;
    }
    uint32_t cost = (uint32_t)(secret.ptr[4] - '0') * 10 + (uint32_t)(secret.ptr[5] - '0');
    return cost < RB_PASSWORD_COST_MIN || cost > RB_PASSWORD_COST_MAX ? 0 : cost;
}

/* The result part of `password` under `setting` ("$2b$10$" and a salt). False when libxcrypt refuses the setting. */
static bool compute(const char *setting, const char *password, char ret_result[RESULT_LEN])
{
    struct crypt_data data; /* 32 KiB, all of it secret afterwards */
    memset(&data, 0, sizeof(data));
    const char *hash = crypt_r(password, setting, &data);
    bool ok = hash != NULL && strlen(hash) == HASH_LEN;
    if (ok) {
        memcpy(ret_result, hash + PREFIX_LEN + SALT_LEN, RESULT_LEN);
    }
    explicit_bzero(&data, sizeof(data));
    return ok;
}

bool rb_password_check_hash(struct rb_slice hash, struct rb_slice password)
{
    if (rb_password_cost(hash) == 0) {
        return false;
    }
    char setting[PREFIX_LEN + SALT_LEN + 1] = "", text[RB_PASSWORD_BYTES_MAX + 1] = "";
    memcpy(setting, hash.ptr, PREFIX_LEN + SALT_LEN);
    setting[2] = 'b'; /* invariant 2 */
    size_t len = password.len < RB_PASSWORD_BYTES_MAX ? password.len : RB_PASSWORD_BYTES_MAX;
    if (len > 0) {
        memcpy(text, password.ptr, len);
    }
    char result[RESULT_LEN];
    bool ok = compute(setting, text, result);
    ok = ok && rb_password_equal(rb_slice_of(result, RESULT_LEN),
                                 rb_slice_of(hash.ptr + PREFIX_LEN + SALT_LEN, RESULT_LEN));
    ok = ok && strlen(text) == len; /* invariant 3 */
    explicit_bzero(text, sizeof(text));
    return ok;
}

enum rb_err rb_password_make_hash(struct rb_slice password, uint32_t cost,
                                  const uint8_t salt[RB_PASSWORD_SALT_BYTES],
                                  char ret_hash[RB_PASSWORD_HASH_CAP])
{
    if (cost < RB_PASSWORD_COST_MIN || cost > RB_PASSWORD_COST_MAX ||
        password.len > RB_PASSWORD_BYTES_MAX ||
        (password.len > 0 && memchr(password.ptr, '\0', password.len) != NULL)) {
        return RB_ERR_INVALID;
    }
    char setting[CRYPT_GENSALT_OUTPUT_SIZE], text[RB_PASSWORD_BYTES_MAX + 1] = "";
    if (crypt_gensalt_rn("$2b$", cost, (const char *)salt, RB_PASSWORD_SALT_BYTES, setting,
                         sizeof(setting)) == NULL) {
        return RB_ERR_INVALID;
    }
    rb_assert(strlen(setting) == PREFIX_LEN + SALT_LEN);
    if (password.len > 0) {
        memcpy(text, password.ptr, password.len);
    }
    char hash[RB_PASSWORD_HASH_CAP];
    memcpy(hash, setting, PREFIX_LEN + SALT_LEN);
    bool ok = compute(setting, text, hash + PREFIX_LEN + SALT_LEN);
    explicit_bzero(text, sizeof(text));
    if (!ok) {
        return RB_ERR_INVALID;
    }
    hash[2] = 'a'; /* what Go writes; the same algorithm (invariant 2) */
    hash[HASH_LEN] = '\0';
    memcpy(ret_hash, hash, sizeof(hash));
    return RB_OK;
}
