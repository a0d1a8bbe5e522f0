/* tls_pair.c - see tls_pair.h. */
#include "tls_pair.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "ringbus/check.h"

bool wire_sink(void *ctx, const uint8_t *bytes, size_t len)
{
    struct wire *wire = ctx;
    if (wire->refuse_after > 0 && wire->total + len > wire->refuse_after) {
        return false;
    }
    wire->total += len;
    if (wire->begin == wire->end) {
        wire->begin = wire->end = 0;
    }
    if (wire->end + len > wire->cap) {
        wire->cap = (wire->end + len) * 2;
        wire->bytes = realloc(wire->bytes, wire->cap);
        rb_assert(wire->bytes != NULL);
    }
    memcpy(wire->bytes + wire->end, bytes, len);
    wire->end += len;
    return true;
}

void wire_free(struct wire *wire)
{
    free(wire->bytes);
    *wire = (struct wire){ 0 };
}

static int run(const char *format, const char *folder)
{
    char command[512];
    snprintf(command, sizeof(command), format, folder);
    return system(command);
}

char *certs_create(void)
{
    char folder[] = "/tmp/ringbus-certs-XXXXXX";
    rb_assert(mkdtemp(folder) != NULL);
    rb_assert(run("sh '" RB_SOURCE_DIR "/tests/support/certs.sh' '%s'", folder) == 0);
    return strdup(folder);
}

void certs_remove(char *folder)
{
    rb_assert(run("rm -r '%s'", folder) == 0);
    free(folder);
}

const char *cert_path(const char *folder, const char *name)
{
    static char paths[16][256];
    static unsigned next;
    char *path = paths[next++ % 16];
    snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
    return path;
}

void tls_pair_init(struct tls_pair *pair, struct rb_tls_context *client,
                   struct rb_tls_context *server, const char *host)
{
    *pair = (struct tls_pair){ .client_result = RB_TLS_MORE, .server_result = RB_TLS_MORE };
    rb_assert(rb_tls_create(client, &pair->client) == RB_OK);
    rb_assert(rb_tls_create(server, &pair->server) == RB_OK);
    if (host != NULL) {
        rb_assert(rb_tls_set_host(pair->client, host) == RB_OK);
    }
}

void tls_pair_deinit(struct tls_pair *pair)
{
    rb_tls_destroy(pair->client);
    rb_tls_destroy(pair->server);
    wire_free(&pair->to_client);
    wire_free(&pair->to_server);
}

/* One side takes up to `step` bytes. False: nothing happened. */
static bool step_side(struct rb_tls *tls, enum rb_tls_result *result, struct wire *in,
                      struct wire *out, size_t step, bool starts)
{
    size_t len = in->end - in->begin < step ? in->end - in->begin : step;
    if (*result != RB_TLS_MORE || (len == 0 && !starts)) {
        return false;
    }
    struct rb_slice slice = rb_slice_of(in->bytes + in->begin, len);
    *result = rb_tls_handshake(tls, &slice, wire_sink, out);
    rb_assert(*result != RB_TLS_MORE || slice.len == 0); /* all was taken */
    in->begin += len - slice.len;
    return true;
}

void tls_pair_shake(struct tls_pair *pair, size_t step)
{
    bool moved = step_side(pair->client, &pair->client_result, &pair->to_client, &pair->to_server,
                           step, true);
    while (moved) {
        moved = step_side(pair->server, &pair->server_result, &pair->to_server, &pair->to_client,
                          step, false);
        moved |= step_side(pair->client, &pair->client_result, &pair->to_client, &pair->to_server,
                           step, false);
    }
}

enum rb_tls_result tls_read_all(struct rb_tls *tls, struct wire *wire, struct wire *back,
                                uint8_t *out, size_t cap, size_t *ret_len)
{
    enum rb_tls_result result = RB_TLS_DONE;
    *ret_len = 0;
    while (result == RB_TLS_DONE && *ret_len < cap) {
        struct rb_slice in = rb_slice_of(wire->bytes + wire->begin, wire->end - wire->begin);
        size_t before = in.len, got = 0;
        result = rb_tls_read(tls, &in, out + *ret_len, cap - *ret_len, &got, wire_sink, back);
        wire->begin += before - in.len;
        *ret_len += got;
    }
    return result;
}
