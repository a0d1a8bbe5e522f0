/* signal_target.h - "--signal cmd[=target]": which process gets which signal. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/** What the command sees of the machine; tests bring their own. */
struct rb_signal_world {
    const char *proc;                             /* "/proc" */
    long own_pid;                                 /* never a target by name or prefix */
    int (*send)(void *ctx, long pid, int number); /* 0, or what errno would be */
    void *ctx;
};

/** The machine as it is. */
struct rb_signal_world rb_signal_world(void);

/**
 * Does what `command` says: stop, quit, term, reopen, ldm, reload; target a pid, a file that holds one, or the first
 * digits of pids and "*"; without a target the only process whose program is called ringbus or nats-server.
 * False: `error` is nats-server's text, to be shown behind "PROGRAM: ".
 */
bool rb_signal_run(const struct rb_signal_world *world, const char *command, char *error,
                   size_t error_cap);
