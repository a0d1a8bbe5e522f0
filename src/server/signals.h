/* signals.h - signals -> what the server does (docs/operating.md). For main.c only: the library installs no handler. */
#pragma once

#include <signal.h>

#include "ringbus/errors.h"
#include "ringbus/log.h"

struct rb_running;

struct rb_signals {
    int signal_fd, end_fd;
    const char *manager; /* NOTIFY_SOCKET, or NULL */
};

/**
 * Blocks them for this thread and all that it starts: call it first. SIGPIPE is ignored.
 * RB_ERR_LIMIT: no descriptor left.
 */
RB_MUST_CHECK enum rb_err rb_signals_init(struct rb_signals *signals, const char *manager);
void rb_signals_deinit(struct rb_signals *signals);
/** Carries signals out until the server is to end: SIGINT, SIGTERM (not in lame duck mode), or rb_signals_end. */
void rb_signals_serve(struct rb_signals *signals, struct rb_running *running, struct rb_log *log);
/** The server has ended by itself. Any thread. */
void rb_signals_end(struct rb_signals *signals);
