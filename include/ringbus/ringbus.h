/* ringbus.h - a NATS server inside a program. For C and C++; docs/embedding.md has examples.
 *
 * The library installs no signal handler, never exits, writes to no descriptor that it was not given or told to open, and
 * keeps no global state: any number of servers may run in one process. Link with `pkg-config --libs ringbus`.
 *
 * Threads: all functions may be called from any thread, but not from inside a callback unless they say so. Nothing of a
 * server may be called while or after rb_server_stop runs; its connections stay valid until they are closed.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/auth.h"

#ifdef __cplusplus
extern "C" {
#endif

#ifndef RB_API
#define RB_API __attribute__((visibility("default")))
#endif

struct rb_server;
struct rb_connection;

/** What a log line is about. */
enum { RB_LINE_FTL, RB_LINE_ERR, RB_LINE_WRN, RB_LINE_INF, RB_LINE_DBG, RB_LINE_TRC };

/** JetStream of a server. */
enum rb_jetstream_choice {
    RB_JETSTREAM_DEFAULT, /* as config_text says; on when there is none */
    RB_JETSTREAM_ON,
    RB_JETSTREAM_OFF,
};

/**
 * Everything 0 but struct_bytes is a development server: all interfaces, port 4222, no login, no TLS, silent, JetStream with a store
 * of its own in the temporary directory that is removed when the server stops. Begin with
 * `struct rb_server_options options = RB_SERVER_OPTIONS_INIT;`. Texts are borrowed during rb_server_start.
 */
struct rb_server_options {
    size_t struct_bytes; /* which version of this struct the program was compiled with */
    /** Configuration in nats-server's format; NULL: defaults. What follows overrides it where it is not 0. */
    const char *config_text;
    const char *host;         /* NULL: of the configuration */
    int32_t port;             /* -1: any free one */
    const char *server_name;  /* NULL: of the configuration, or made up */
    const char *unix_socket;  /* path of a Unix-domain socket to listen at, too */
    int32_t monitor_port;     /* HTTP monitor on loopback; -1: any free one */
    uint32_t shards;          /* threads that serve clients; 0: one per usable core */
    bool in_process;          /* rb_server_connect will be used */
    int64_t start_timeout_ns; /* 0: 5 seconds; -1: none */
    /** Gets each log line, from the server's threads, several at a time. NULL: silent, unless the configuration names a log. */
    void (*log)(void *ctx, int level, const char *line);
    void *log_ctx;
    /** Decides alone who clients are (auth.h). NULL: the configuration does. */
    rb_auth_decide decide;
    void *decide_ctx;
    int32_t jetstream; /* enum rb_jetstream_choice */
    /**
     * Directory of JetStream's store, which stays; the data is in its "jetstream" folder, and one server at a time may use it. NULL:
     * the configuration's; without one a new directory in the temporary one (TMPDIR, or /tmp), removed when the server stops.
     */
    const char *store_dir;
};
#define RB_SERVER_OPTIONS_INIT                                                                     \
    {                                                                                              \
        sizeof(struct rb_server_options), NULL, NULL, 0, NULL, NULL, 0, 0, false, 0, NULL, NULL,   \
            NULL, NULL, RB_JETSTREAM_DEFAULT, NULL                                                 \
    }

/**
 * Starts a server; returns when clients can connect, or with NULL and a message in `error` when that failed or took longer
 * than the timeout. Nothing is left behind then: no thread, no descriptor, no memory, and no callback will come (what hangs
 * in the kernel, say on a file of a dead file server, is given up as soon as it returns). `options` NULL: defaults.
 * Ownership: the server is the caller's until rb_server_stop.
 */
RB_API struct rb_server *rb_server_start(const struct rb_server_options *options, char *error,
                                         size_t error_cap);
/** Closes every connection, waits for the server's threads, frees it. Callbacks have ended when it returns. NULL is allowed. */
RB_API void rb_server_stop(struct rb_server *server);

/* What a server is; texts live as long as it. */
/** "nats://HOST:PORT" (or "tls://") with the real port; all interfaces show as 127.0.0.1. */
RB_API const char *rb_server_client_url(const struct rb_server *server);
RB_API uint16_t rb_server_port(const struct rb_server *server);
/** "ws://HOST:PORT" or "wss://"; NULL: there is none. */
RB_API const char *rb_server_websocket_url(const struct rb_server *server);
/** "http://127.0.0.1:PORT" or "https://"; NULL: there is none. */
RB_API const char *rb_server_monitor_url(const struct rb_server *server);
/** JetStream's store (".../jetstream"); NULL: JetStream is off. */
RB_API const char *rb_server_store_directory(const struct rb_server *server);
RB_API const char *rb_server_id(const struct rb_server *server);
RB_API const char *rb_server_name(const struct rb_server *server);
/** "uring" or "epoll". */
RB_API const char *rb_server_transport(const struct rb_server *server);
/** Version of the library, like "0.1.0". */
RB_API const char *rb_server_version(void);

/** Totals since the start, but `connections` and `subscriptions`, which are of now. */
struct rb_server_metrics {
    uint64_t connections, connections_total, subscriptions;
    uint64_t in_messages, in_bytes, out_messages, out_bytes;
    uint64_t slow_consumers, stale_connections;
};
/** Fills the first `metrics_bytes` (sizeof(*metrics)) bytes. Cheap; also inside callbacks. */
RB_API void rb_server_metrics(const struct rb_server *server, struct rb_server_metrics *metrics,
                              size_t metrics_bytes);

/**
 * Puts another configuration in force, all of it or, with a message in `error`, nothing. What the options overrode stays
 * overridden. NULL: the text of the start again, so that certificates are read again. False: it failed.
 */
RB_API bool rb_server_reload(struct rb_server *server, const char *config_text, char *error,
                             size_t error_cap);
/**
 * Lame duck mode: no new clients; those that are there are told to go, and closed one by one when lame_duck_grace_period is
 * over. Returns at once; rb_server_wait says when it has ended, rb_server_stop is still needed. False: it had begun.
 */
RB_API bool rb_server_lame_duck(struct rb_server *server);
/** Waits until lame duck mode has ended the server. `timeout_ns` -1: for ever. False: not yet. */
RB_API bool rb_server_wait(struct rb_server *server, int64_t timeout_ns);

/* Connections inside the process: the NATS protocol without a socket. A client library that can be given a pair of read and
 * write functions speaks it as over TCP. One thread may write and one may read a connection at the same time. `timeout_ns`: 0
 * does not wait, -1 has no limit. */
enum rb_io {
    RB_IO_OK,
    RB_IO_TIMEOUT,
    RB_IO_CLOSED, /* the server or rb_connection_shutdown ended it */
    RB_IO_FULL,   /* no more connections */
    RB_IO_OFF,    /* the options did not say in_process, or the server takes no clients any more */
    RB_IO_NO_MEMORY,
};
RB_API enum rb_io rb_server_connect(struct rb_server *server, struct rb_connection **connection);
/** All of `bytes`; *written (may be NULL) is how much was taken, also when it failed. */
RB_API enum rb_io rb_connection_write(struct rb_connection *connection, const void *bytes,
                                      size_t len, int64_t timeout_ns, size_t *written);
/** At least one byte and at most `cap` (> 0). RB_IO_OK with 0: the server ended the connection in order. */
RB_API enum rb_io rb_connection_read(struct rb_connection *connection, void *bytes, size_t cap,
                                     int64_t timeout_ns, size_t *read_bytes);
/** Readable for poll(2) when a read has something to give, or a write that timed out can go on. -1: no descriptor left. */
RB_API int rb_connection_fd(struct rb_connection *connection);
/** Reads and writes that run, or follow, give RB_IO_CLOSED. Also while other threads use it. */
RB_API void rb_connection_shutdown(struct rb_connection *connection);
/** Ends and frees it; what was written still arrives. Also after the server was stopped. NULL is allowed. */
RB_API void rb_connection_close(struct rb_connection *connection);

/** What the two environment switches of old runbooks open: see rb_log_opts. */
struct rb_log_opts {
    bool debug, trace, monitor;
};
/**
 * Pure. The values of UNIBUS_NATS_DEBUG ("1": debug log; "2": protocol trace, too; either opens the monitor on
 * 127.0.0.1:8222) and UNIBUS_NATS_MONITOR ("1": only the monitor). NULL: not set; any other text is as not set.
 */
RB_API struct rb_log_opts rb_log_opts(const char *debug, const char *monitor);

#ifdef __cplusplus
}
#endif
