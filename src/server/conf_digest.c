/* conf_digest.c - the configuration's digest: SHA-256 over the JSON text that Go's encoder makes of the tree.
 *
 * 1. The text is never held: it goes into the hash piece by piece.
 * 2. The tree's height is bounded (conf.c, invariant 2), so walking it may recurse.
 * 3. Escapes and numbers are Go's, because operators compare the digest with nats-server's.
 */
#include "server/conf.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include <openssl/evp.h>

#include "ringbus/check.h"

struct digest {
    EVP_MD_CTX *md;
    bool ok;
};

static void digest_bytes(struct digest *digest, const void *bytes, size_t len)
{
    digest->ok = digest->ok && EVP_DigestUpdate(digest->md, bytes, len) == 1;
}

static void digest_text(struct digest *digest, const char *text)
{
    digest_bytes(digest, text, strlen(text));
}

/** Length of the valid UTF-8 sequence at `ptr`; 0 when there is none. */
static size_t utf8_len(const uint8_t *ptr, size_t left)
{
    uint8_t first = ptr[0];
    size_t len = first < 0x80   ? 1
                 : first < 0xc2 ? 0
                 : first < 0xe0 ? 2
                 : first < 0xf0 ? 3
                 : first < 0xf5 ? 4
                                : 0;
    if (len == 0 || len > left) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((ptr[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool overlong = (first == 0xe0 && ptr[1] < 0xa0) || (first == 0xf0 && ptr[1] < 0x90);
    bool outside = (first == 0xed && ptr[1] >= 0xa0) || (first == 0xf4 && ptr[1] >= 0x90);
    return overlong || outside ? 0 : len;
}

/** A JSON string as Go writes it: "<", ">", "&", U+2028 and U+2029 escaped, bad bytes replaced. */
static void digest_string(struct digest *digest, struct rb_slice text)
{
    digest_text(digest, "\"");
    for (size_t i = 0; i < text.len;) {
        const uint8_t *at = text.ptr + i;
        size_t len = utf8_len(at, text.len - i);
        char escape[8];
        static const char plain[] = "\b\f\n\r\t\"\\", letters[] = "bfnrt\"\\";
        const char *known = len == 1 && *at != 0 ? strchr(plain, *at) : NULL;
        if (known != NULL) {
            snprintf(escape, sizeof(escape), "\\%c", letters[known - plain]);
            digest_text(digest, escape);
        } else if (len == 1 && (*at < 0x20 || *at == '<' || *at == '>' || *at == '&')) {
            snprintf(escape, sizeof(escape), "\\u%04x", *at);
            digest_text(digest, escape);
        } else if (len == 0) {
            digest_text(digest, "\\ufffd");
        } else if (len == 3 && at[0] == 0xe2 && at[1] == 0x80 && (at[2] & 0xfe) == 0xa8) {
            digest_text(digest, at[2] == 0xa8 ? "\\u2028" : "\\u2029");
        } else {
            digest_bytes(digest, at, len);
        }
        i += len == 0 ? 1 : len;
    }
    digest_text(digest, "\"");
}

/** The shortest decimal that reads back as `real`, with an exponent only below 1e-6 or from 1e21 on. */
static void digest_real(struct digest *digest, double real)
{
    char text[400], digits[32];
    int precision = 1;
    do {
        snprintf(digits, sizeof(digits), "%.*e", precision - 1, real);
    } while (strtod(digits, NULL) != real && ++precision <= 17);
    double size = fabs(real);
    if (size != 0 && (size < 1e-6 || size >= 1e21)) {
        char *exponent = strchr(digits, 'e');
        if (exponent[2] == '0') { /* Go writes e-07 as e-7 */
            memmove(exponent + 2, exponent + 3, strlen(exponent + 3) + 1);
        }
        digest_text(digest, digits);
        return;
    }
    int exponent = (int)strtol(strchr(digits, 'e') + 1, NULL, 10);
    int decimals = precision - 1 - exponent;
    if (decimals >= 0) {
        snprintf(text, sizeof(text), "%.*f", decimals, real);
        digest_text(digest, text);
        return;
    }
    /* A large whole number: its shortest digits, then zeros. */
    size_t len = 0;
    for (const char *at = digits; *at != 'e'; at++) {
        if (*at != '.') {
            text[len++] = *at;
        }
    }
    memset(text + len, '0', (size_t)-decimals);
    text[len + (size_t)-decimals] = 0;
    digest_text(digest, text);
}

static int compare_entries(const void *a, const void *b)
{
    struct rb_slice left = (*(const struct rb_conf_entry *const *)a)->key;
    struct rb_slice right = (*(const struct rb_conf_entry *const *)b)->key;
    size_t len = left.len < right.len ? left.len : right.len;
    int order = len == 0 ? 0 : memcmp(left.ptr, right.ptr, len);
    return order != 0 ? order : (left.len > right.len) - (left.len < right.len);
}

static void digest_value(struct digest *digest, const struct rb_conf_value *value);

static void digest_map(struct digest *digest, const struct rb_conf_value *map)
{
    const struct rb_conf_entry **sorted = calloc(map->count + 1, sizeof(struct rb_conf_entry *));
    if (sorted == NULL) {
        digest->ok = false;
        return;
    }
    uint32_t count = 0;
    for (const struct rb_conf_entry *entry = map->map.first; entry != NULL; entry = entry->next) {
        sorted[count++] = entry;
    }
    qsort(sorted, count, sizeof(struct rb_conf_entry *), compare_entries);
    digest_text(digest, "{");
    for (uint32_t i = 0; i < count; i++) {
        digest_text(digest, i > 0 ? "," : "");
        digest_string(digest, sorted[i]->key);
        digest_text(digest, ":");
        digest_value(digest, sorted[i]->value);
    }
    digest_text(digest, "}");
    free(sorted);
}

static void digest_array(struct digest *digest, const struct rb_conf_value *array)
{
    digest_text(digest, "[");
    for (const struct rb_conf_item *item = array->array.first; item != NULL; item = item->next) {
        digest_text(digest, item != array->array.first ? "," : "");
        digest_value(digest, item->value);
    }
    digest_text(digest, "]");
}

static void digest_value(struct digest *digest, const struct rb_conf_value *value)
{
    char text[32];
    switch (value->kind) {
    case RB_CONF_BOOL:
        digest_text(digest, value->boolean ? "true" : "false");
        break;
    case RB_CONF_INT:
        snprintf(text, sizeof(text), "%lld", (long long)value->integer);
        digest_text(digest, text);
        break;
    case RB_CONF_FLOAT:
        digest_real(digest, value->real);
        break;
    case RB_CONF_TIME:
    case RB_CONF_TEXT:
        digest_string(digest, value->text);
        break;
    case RB_CONF_ARRAY:
        digest_array(digest, value);
        break;
    case RB_CONF_MAP:
        digest_map(digest, value);
        break;
    }
}

enum rb_err rb_conf_digest(const struct rb_conf *conf, char out[RB_CONF_DIGEST_MAX])
{
    unsigned char hash[32];
    unsigned int hash_len = 0;
    struct digest digest = { EVP_MD_CTX_new(), true };
    digest.ok = digest.md != NULL && EVP_DigestInit_ex(digest.md, EVP_sha256(), NULL) == 1;
    if (digest.ok) {
        digest_value(&digest, conf->root);
        digest_text(&digest, "\n");
        digest.ok = digest.ok && EVP_DigestFinal_ex(digest.md, hash, &hash_len) == 1;
    }
    EVP_MD_CTX_free(digest.md);
    if (!digest.ok) {
        return RB_ERR_MEMORY;
    }
    rb_assert(hash_len == sizeof(hash));
    size_t len = (size_t)snprintf(out, RB_CONF_DIGEST_MAX, "sha256:");
    for (size_t i = 0; i < sizeof(hash); i++) {
        len += (size_t)snprintf(out + len, RB_CONF_DIGEST_MAX - len, "%02x", hash[i]);
    }
    return RB_OK;
}
