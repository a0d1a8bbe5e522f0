/* signals.c - signals come through a descriptor, so that they and the end of lame duck mode are waited for in one place. */
#include "server/signals.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <time.h>
#include <unistd.h>

#include "server/node.h"
#include "server/sdnotify.h"
#include "server/start.h"

static const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };

enum rb_err rb_signals_init(struct rb_signals *signals, const char *manager)
{
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)sigaddset(&set, numbers[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, &set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
    signals->manager = manager;
    signals->signal_fd = signalfd(-1, &set, SFD_CLOEXEC);
    signals->end_fd = eventfd(0, EFD_CLOEXEC);
    if (signals->signal_fd < 0 || signals->end_fd < 0) {
        rb_signals_deinit(signals);
        return RB_ERR_LIMIT;
    }
    return RB_OK;
}

void rb_signals_deinit(struct rb_signals *signals)
{
    if (signals->signal_fd >= 0) {
        (void)close(signals->signal_fd);
    }
    if (signals->end_fd >= 0) {
        (void)close(signals->end_fd);
    }
}

void rb_signals_end(struct rb_signals *signals)
{
    (void)eventfd_write(signals->end_fd, 1);
}

/* The next signal; 0: the server has ended. */
static int next_signal(struct rb_signals *signals)
{
    struct pollfd fds[] = { { .fd = signals->end_fd, .events = POLLIN },
                            { .fd = signals->signal_fd, .events = POLLIN } };
    for (;;) {
        if (poll(fds, 2, -1) < 0) {
            continue; /* EINTR: a debugger */
        }
        struct signalfd_siginfo info;
        if ((fds[0].revents & POLLIN) != 0) {
            return 0;
        }
        if (read(signals->signal_fd, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
            return (int)info.ssi_signo;
        }
    }
}

static const char *name_of(int number)
{
    switch (number) {
    case SIGINT:
        return "interrupt";
    case SIGTERM:
        return "terminated";
    case SIGHUP:
        return "hangup";
    case SIGUSR1:
        return "user defined signal 1";
    default:
        return "user defined signal 2";
    }
}

/* A service manager that does not hear us is no reason to stop serving. */
static void log_unheard(struct rb_log *log, enum rb_err err)
{
    if (err != RB_OK) {
        rb_log_wrn(log, "Could not notify the service manager: %s", rb_err_text(err));
    }
}

static void reload(struct rb_signals *signals, struct rb_running *running, struct rb_log *log)
{
    struct timespec now;
    char error[RB_CONFIG_ERROR_MAX];
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    uint64_t usec = (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
    log_unheard(log, rb_sdnotify_reloading(signals->manager, usec));
    enum rb_err err = rb_node_reload_again(rb_running_node(running), error);
    log_unheard(log, rb_sdnotify_ready(signals->manager, err == RB_OK
                                                             ? RB_S("configuration reloaded")
                                                             : RB_S("reload failed, see the log")));
}

void rb_signals_serve(struct rb_signals *signals, struct rb_running *running, struct rb_log *log)
{
    struct rb_node *node = rb_running_node(running);
    for (;;) {
        int number = next_signal(signals);
        if (number == 0) {
            return;
        }
        rb_log_inf(log, "Trapped \"%s\" signal", name_of(number));
        switch (number) {
        case SIGINT:
            return;
        case SIGTERM:
            if (!rb_node_in_lame_duck(node)) {
                return;
            }
            break;
        case SIGHUP:
            reload(signals, running, log);
            break;
        case SIGUSR1:
            rb_running_reopen_log(running);
            break;
        default:
            if (rb_node_lame_duck(node)) {
                log_unheard(log, rb_sdnotify_stopping(signals->manager, RB_S("lame duck mode")));
            }
            break;
        }
    }
}
