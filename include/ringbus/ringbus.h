/* ringbus.h - embed a NATS server in a program.
 *
 * The library installs no signal handler, never exits, writes to no descriptor that it was not given, and keeps no
 * global state: several servers may run in one process. Link with `pkg-config --libs ringbus`.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define RB_API __attribute__((visibility("default")))

struct rb_server;

/** Zeroed options give a development server: all interfaces, port 4222, no login, silent. */
struct rb_server_options {
    /** Configuration text in nats-server's format, NUL-terminated; NULL: defaults. Read during the call only. */
    const char *config_text;
    /** The port, when not 0: overrides the configuration. -1: any free one. */
    int32_t port;
    /** Gets each log line: level 0 FTL, 1 ERR, 2 WRN, 3 INF, 4 DBG, 5 TRC. Called from the server's threads. NULL: silent. */
    void (*log)(void *ctx, int level, const char *message);
    void *log_ctx;
};

/**
 * Starts a server; returns when clients can connect, or with NULL and a message in `error`.
 * Ownership: the server is the caller's until rb_server_stop. Thread: any.
 */
RB_API struct rb_server *rb_server_start(const struct rb_server_options *options, char *error,
                                         size_t error_cap);
/** "nats://HOST:PORT" with the real port; a wildcard host shows as 127.0.0.1. Lives as long as the server. */
RB_API const char *rb_server_client_url(const struct rb_server *server);
RB_API uint16_t rb_server_port(const struct rb_server *server);
/** Closes every connection, waits for the server's threads, frees it. NULL is allowed. */
RB_API void rb_server_stop(struct rb_server *server);
/** Version of the library, like "0.1.0". */
RB_API const char *rb_server_version(void);

#ifdef __cplusplus
}
#endif
