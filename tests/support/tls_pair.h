/* tls_pair.h - a TLS client and server that talk through memory, and the certificates they use. */
#pragma once

#include "tls/tls.h"

/** Ciphertext on its way. */
struct wire {
    uint8_t *bytes;
    size_t begin, end, cap;
    size_t refuse_after; /* the sink refuses from this many bytes on; 0: never */
    size_t total;
};

bool wire_sink(void *ctx, const uint8_t *bytes, size_t len);
void wire_free(struct wire *wire);

struct tls_pair {
    struct rb_tls *client, *server;
    struct wire to_server, to_client;
    enum rb_tls_result client_result, server_result;
};

/** Makes the certificates in a new folder below /tmp and returns its path. */
char *certs_create(void);
void certs_remove(char *folder);
/** "FOLDER/NAME", in one of several static buffers. */
const char *cert_path(const char *folder, const char *name);

void tls_pair_init(struct tls_pair *pair, struct rb_tls_context *client,
                   struct rb_tls_context *server, const char *host);
void tls_pair_deinit(struct tls_pair *pair);
/** Runs both handshakes to their ends, handing over at most `step` bytes at a time. */
void tls_pair_shake(struct tls_pair *pair, size_t step);
/** Reads with `tls` from `wire` until it has `cap` bytes, or a result other than DONE. */
enum rb_tls_result tls_read_all(struct rb_tls *tls, struct wire *wire, struct wire *back,
                                uint8_t *out, size_t cap, size_t *ret_len);
