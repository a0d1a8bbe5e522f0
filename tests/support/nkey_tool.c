/* nkey_tool.c - keys, signatures and password hashes for tests and examples.
 *
 *   nkey_tool gen user|account|server|cluster|operator|curve     prints a seed and its public key, a line each
 *   nkey_tool public SEED                                        prints the public key
 *   nkey_tool sign SEED                                          signs all of stdin; base64url without padding
 *   nkey_tool bcrypt PASSWORD [COST]                             prints a hash (cost 11, as `nats server passwd`)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "auth/nkey.h"
#include "auth/password.h"

#define INPUT_BYTES_MAX (64 * 1024)
#define COST_DEFAULT 11

static int fail(const char *why)
{
    fprintf(stderr, "nkey_tool: %s\n", why);
    return 1;
}

static void print_public(const struct rb_nkey *nkey)
{
    char text[RB_NKEY_PUBLIC_LEN + 1];
    rb_nkey_encode_public(nkey->kind, nkey->public_key, text);
    puts(text);
}

static int generate(const char *kind_name)
{
    static const struct {
        const char *name;
        enum rb_nkey_kind kind;
    } kinds[] = {
        { "user", RB_NKEY_USER },         { "account", RB_NKEY_ACCOUNT },
        { "server", RB_NKEY_SERVER },     { "cluster", RB_NKEY_CLUSTER },
        { "operator", RB_NKEY_OPERATOR }, { "curve", RB_NKEY_CURVE },
    };
    for (size_t i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
        if (strcmp(kinds[i].name, kind_name) == 0) {
            struct rb_env env;
            struct rb_nkey nkey;
            rb_env_init_system(&env);
            if (rb_nkey_generate(&env, kinds[i].kind, &nkey) != RB_OK) {
                return fail("out of memory");
            }
            char seed[RB_NKEY_SEED_LEN + 1];
            rb_nkey_encode_seed(&nkey, seed);
            puts(seed);
            print_public(&nkey);
            return 0;
        }
    }
    return fail("no such kind of key");
}

static int sign(const struct rb_nkey *nkey)
{
    static uint8_t message[INPUT_BYTES_MAX];
    size_t len = fread(message, 1, sizeof(message), stdin);
    if (ferror(stdin) || !feof(stdin)) {
        return fail("cannot read stdin, or it is too long");
    }
    uint8_t signature[RB_NKEY_SIGNATURE_BYTES];
    if (rb_nkey_sign(nkey, rb_slice_of(message, len), signature) != RB_OK) {
        return fail("this key cannot sign");
    }
    char text[RB_NKEY_SIGNATURE_LEN + 1];
    rb_nkey_encode_signature(signature, text);
    puts(text);
    return 0;
}

static int hash(const char *password, const char *cost_text)
{
    char *end = NULL, text[RB_PASSWORD_HASH_CAP];
    unsigned long cost = cost_text == NULL ? COST_DEFAULT : strtoul(cost_text, &end, 10);
    if (cost > RB_PASSWORD_COST_MAX || (end != NULL && *end != '\0')) {
        return fail("the cost is a number from 4 to 31");
    }
    struct rb_env env;
    uint8_t salt[RB_PASSWORD_SALT_BYTES];
    rb_env_init_system(&env);
    env.entropy(env.ctx, salt, sizeof(salt));
    if (rb_password_make_hash(rb_slice_text(password), (uint32_t)cost, salt, text) != RB_OK) {
        return fail("cost out of range, or password too long");
    }
    puts(text);
    return 0;
}

int main(int argc, char **argv)
{
    const char *verb = argc < 3 ? "" : argv[1];
    if (strcmp(verb, "gen") == 0 && argc == 3) {
        return generate(argv[2]);
    }
    if (strcmp(verb, "bcrypt") == 0 && argc <= 4) {
        return hash(argv[2], argv[3]);
    }
    bool signs = strcmp(verb, "sign") == 0;
    if ((signs || strcmp(verb, "public") == 0) && argc == 3) {
        struct rb_nkey nkey;
        if (rb_nkey_from_seed(rb_slice_text(argv[2]), &nkey) != RB_OK) {
            return fail("not a seed");
        }
        if (signs) {
            return sign(&nkey);
        }
        print_public(&nkey);
        return 0;
    }
    return fail("usage: gen KIND | public SEED | sign SEED | bcrypt PASSWORD [COST]");
}
