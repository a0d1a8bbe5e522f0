/* fuzz_proxy.c - any bytes as the begin of a connection.
 *
 * A verdict, once given, stays with more bytes, and MORE never lasts longer than the longest header.
 */
#include <stdlib.h>

#include "ringbus/check.h"
#include "proto/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct verdict {
    enum rb_proxy_result result;
    size_t len;
    bool has_addr;
    struct rb_addr addr;
    const char *why;
};

static struct verdict parse(const uint8_t *data, size_t size)
{
    struct verdict v = { .len = SIZE_MAX };
    uint8_t *copy = malloc(size + (size == 0)); /* of its own size */
    rb_assert(copy != NULL);
    if (size != 0) {
        memcpy(copy, data, size);
    }
    v.result = rb_proxy_parse(rb_slice_of(copy, size), &v.len, &v.has_addr, &v.addr, &v.why);
    free(copy);
    return v;
}

static void check_verdict(const struct verdict *v, size_t size)
{
    rb_assert((v->result == RB_PROXY_DONE) == (v->len != SIZE_MAX));
    rb_assert((v->result == RB_PROXY_BAD) == (v->why != NULL));
    rb_assert(v->result != RB_PROXY_MORE || size < RB_PROXY_BYTES_MAX);
    if (v->result == RB_PROXY_DONE) {
        rb_assert(v->len > RB_PROXY_DECIDE_BYTES && v->len <= size && v->len <= RB_PROXY_BYTES_MAX);
        rb_assert(!v->has_addr || v->addr.family == 4 || v->addr.family == 6);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct verdict whole = parse(data, size);
    check_verdict(&whole, size);
    for (size_t cut = 0; cut < size && cut <= 160; cut++) {
        struct verdict v = parse(data, cut);
        check_verdict(&v, cut);
        if (v.result != RB_PROXY_MORE) {
            rb_assert(v.result == whole.result && v.len == whole.len && v.why == whole.why);
            rb_assert(v.result != RB_PROXY_DONE || v.has_addr == whole.has_addr);
            break;
        }
        rb_assert(whole.result != RB_PROXY_DONE || cut < whole.len);
    }
    return 0;
}
