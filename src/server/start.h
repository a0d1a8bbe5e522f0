/* start.h - a server together with what it shows of itself: log lines, pid and ports files, the HTTP monitor.
 *
 * What the program (main.c) and the embedding library (ringbus.c) share. Knows no signal and no environment.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "server/node.h"

struct rb_logout;
struct rb_running;

struct rb_start_options {
    const struct rb_config *config; /* sealed; copied */
    struct rb_log *log;             /* lives longer */
    struct rb_logout
        *logout; /* behind `log`, for reloads; NULL: the log goes where only the caller knows */
    const char *program;       /* names the ports file; copied */
    struct rb_auth_hook *hook; /* as rb_node_options */
    bool in_process;           /* same */
    bool monitor_optional;     /* a monitor whose port is taken is a WRN line, not a failure */
    void *ctx;                 /* of both: */
    enum rb_err (*load)(void *ctx, const struct rb_config *running, struct rb_config *ret_config,
                        char error[RB_CONFIG_ERROR_MAX]);
    void (*ended)(void *ctx);
};

/**
 * Starts the server; the log says so, in nats-server's order. `error` is the text of nats-server's FTL line; nothing is left
 * behind then, but for the pid file.
 * Errors: as rb_node_create and rb_node_open; RB_ERR_IO (pid or ports file), RB_ERR_INVALID (http and https).
 */
RB_MUST_CHECK enum rb_err rb_running_start(const struct rb_start_options *options,
                                           struct rb_running **ret_running,
                                           char error[RB_NODE_ERROR_MAX]);
/** Says so, ends all, frees it. Thread: as rb_node_stop. */
void rb_running_stop(struct rb_running *running);
struct rb_node *rb_running_node(struct rb_running *running);
/** The log file again under its name (SIGUSR1); the log says what happened. */
void rb_running_reopen_log(struct rb_running *running);
/** The monitor's port; 0: there is none. */
uint16_t rb_running_monitor_port(const struct rb_running *running);
