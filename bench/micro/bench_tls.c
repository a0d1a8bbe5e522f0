/* bench_tls.c - what TLS costs: memory of an idle server connection, handshakes, and data in both directions.
 *
 * The argument is a folder that tests/support/certs.sh has filled. Time is CPU time of the process.
 */
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "tls/tls.h"
#include "tls_pair.h"

#define CONN_COUNT 2000
#define WRITE_BYTES 65536
#define WRITE_COUNT 8000
#define SMALL_COUNT 400000

static const char *folder;

static double now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}

static bool count_sink(void *ctx, const uint8_t *bytes, size_t len)
{
    *(uint64_t *)ctx += len;
    return true;
}

static struct rb_tls_context *create(bool client, bool mutual)
{
    struct rb_tls_options options = { .client = client,
                                      .verify = mutual && !client,
                                      .ca_file = cert_path(folder, "ca.pem") };
    if (!client || mutual) {
        options.cert_file = cert_path(folder, client ? "client.pem" : "server-rsa.pem");
        options.key_file = cert_path(folder, client ? "client-key.pem" : "server-rsa-key.pem");
    }
    struct rb_tls_context *context = NULL;
    char error[512];
    if (rb_tls_context_create(&options, &context, error, sizeof(error)) != RB_OK) {
        fprintf(stderr, "bench_tls: %s\n", error);
        exit(1);
    }
    return context;
}

static void shake(struct tls_pair *pair, struct rb_tls_context *client,
                  struct rb_tls_context *server)
{
    tls_pair_init(pair, client, server, "localhost");
    tls_pair_shake(pair, SIZE_MAX);
    if (pair->server_result != RB_TLS_DONE || pair->client_result != RB_TLS_DONE) {
        fprintf(stderr, "bench_tls: %s\n", rb_tls_error(pair->server));
        exit(1);
    }
}

static void bench_idle(bool mutual)
{
    static struct rb_tls *idle[CONN_COUNT];
    struct rb_tls_context *server = create(false, mutual);
    struct rb_tls_context *client = create(true, mutual);
    struct tls_pair pair;
    shake(&pair, client, server); /* what the library allocates once */
    tls_pair_deinit(&pair);
    size_t before = mallinfo2().uordblks;
    double begin = now_s();
    for (size_t i = 0; i < CONN_COUNT; i++) {
        uint8_t out[16];
        size_t len;
        shake(&pair, client, server);
        if (rb_tls_write(pair.client, RB_S("PING\r\n"), wire_sink, &pair.to_server) !=
                RB_TLS_DONE ||
            tls_read_all(pair.server, &pair.to_server, &pair.to_client, out, sizeof(out), &len) !=
                RB_TLS_MORE) {
            exit(1);
        }
        idle[i] = pair.server;
        pair.server = NULL;
        tls_pair_deinit(&pair);
    }
    double each_us = (now_s() - begin) / CONN_COUNT * 1e6;
    size_t bytes = (mallinfo2().uordblks - before) / CONN_COUNT;
    printf("idle   %-28s %7zu B/conn   handshake, both sides %.0f us\n",
           mutual ? "with client certificate" : "without client certificate", bytes, each_us);
    for (size_t i = 0; i < CONN_COUNT; i++) {
        rb_tls_destroy(idle[i]);
    }
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

static void bench_data(void)
{
    static uint8_t data[WRITE_BYTES], out[WRITE_BYTES];
    struct rb_tls_context *server = create(false, false);
    struct rb_tls_context *client = create(true, false);
    struct tls_pair pair;
    uint64_t sent = 0;
    double read_s = 0;
    shake(&pair, client, server);
    double begin = now_s();
    for (int i = 0; i < WRITE_COUNT; i++) {
        if (rb_tls_write(pair.server, rb_slice_of(data, sizeof(data)), count_sink, &sent) !=
            RB_TLS_DONE) {
            exit(1);
        }
    }
    double write_s = now_s() - begin;
    for (int i = 0; i < WRITE_COUNT / 4; i++) {
        size_t len;
        if (rb_tls_write(pair.client, rb_slice_of(data, sizeof(data)), wire_sink,
                         &pair.to_server) != RB_TLS_DONE) {
            exit(1);
        }
        begin = now_s();
        (void)tls_read_all(pair.server, &pair.to_server, &pair.to_client, out, sizeof(out), &len);
        read_s += now_s() - begin;
    }
    begin = now_s();
    for (int i = 0; i < SMALL_COUNT; i++) {
        if (rb_tls_write(pair.server, rb_slice_of(data, 100), count_sink, &sent) != RB_TLS_DONE) {
            exit(1);
        }
    }
    double small_ns = (now_s() - begin) / SMALL_COUNT * 1e9;
    printf("data   %-28s write %6.0f MB/s   read %6.0f MB/s   write of 100 B %5.0f ns\n",
           rb_tls_cipher(pair.server), (double)WRITE_COUNT * WRITE_BYTES / 1e6 / write_s,
           (double)(WRITE_COUNT / 4) * WRITE_BYTES / 1e6 / read_s, small_ns);
    tls_pair_deinit(&pair);
    rb_tls_context_release(client);
    rb_tls_context_release(server);
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: bench_tls DIR (see tests/support/certs.sh)\n");
        return 2;
    }
    folder = argv[1];
    bench_idle(false);
    bench_idle(true);
    bench_data();
    return 0;
}
