/* main.c - the ringbus program: arguments, log, signals, exit code. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "ringbus/log.h"
#include "server/config.h"
#include "server/node.h"
#include "server/sdnotify.h"

#define OUTPUT_MAX 16384

static bool write_pid_file(const struct rb_config *config, struct rb_log *log)
{
    if (config->pid_file[0] == '\0') {
        return true;
    }
    int fd = open(config->pid_file, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    char text[16];
    int len = snprintf(text, sizeof(text), "%ld", (long)getpid());
    bool ok = fd >= 0 && write(fd, text, (size_t)len) == len;
    if (fd >= 0 && close(fd) != 0) {
        ok = false;
    }
    if (!ok) {
        rb_log_ftl(log, "Could not write pidfile: %s: %s", config->pid_file, strerror(errno));
    }
    return ok;
}

static bool open_log(const struct rb_config *config, struct rb_log *log, const char *program)
{
    rb_log_init(log);
    log->debug = config->debug;
    log->trace = config->trace;
    log->time = config->logtime;
    log->utc = config->logtime_utc;
    if (config->log_file[0] == '\0') {
        return true;
    }
    int fd = open(config->log_file, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
    if (fd < 0) {
        (void)fprintf(stderr, "%s: open %s: %s\n", program, config->log_file, strerror(errno));
        return false;
    }
    log->fd = fd;
    log->color = false;
    return true;
}

static void block_signals(sigset_t *ret_set)
{
    (void)sigemptyset(ret_set);
    const int numbers[] = { SIGINT, SIGTERM, SIGHUP, SIGUSR1, SIGUSR2 };
    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        (void)sigaddset(ret_set, numbers[i]);
    }
    (void)pthread_sigmask(SIG_BLOCK, ret_set, NULL);
    (void)signal(SIGPIPE, SIG_IGN);
}

/* Returns when the server is to end. */
static void wait_for_signal(const sigset_t *set, struct rb_log *log)
{
    for (;;) {
        int number = 0;
        if (sigwait(set, &number) != 0) {
            continue;
        }
        switch (number) {
        case SIGINT:
            rb_log_inf(log, "Trapped \"interrupt\" signal");
            return;
        case SIGTERM:
            rb_log_inf(log, "Trapped \"terminated\" signal");
            return;
        case SIGHUP:
            rb_log_err(log, "reload (SIGHUP) is not supported by ringbus yet: nothing was changed");
            break;
        case SIGUSR1:
            rb_log_err(log, "log re-open (SIGUSR1) is not supported by ringbus yet");
            break;
        default:
            rb_log_err(log, "lame duck mode (SIGUSR2) is not supported by ringbus yet");
            break;
        }
    }
}

/* A service manager that does not hear us is no reason to stop serving. */
static void log_unheard(struct rb_log *log, enum rb_err err)
{
    if (err != RB_OK) {
        rb_log_wrn(log, "Could not notify the service manager: %s", rb_err_text(err));
    }
}

static void notify_ready(const char *manager, const struct rb_node *node, struct rb_log *log)
{
    char addr[RB_ADDR_TEXT_MAX], status[RB_ADDR_TEXT_MAX + 32];
    int len = snprintf(status, sizeof(status), "serving clients on %s",
                       rb_addr_format(rb_node_addr(node), addr));
    log_unheard(log, rb_sdnotify_ready(manager, rb_slice_of(status, (size_t)len)));
}

static void log_start(const struct rb_config *config, const struct rb_node *node,
                      struct rb_log *log)
{
    char addr[RB_ADDR_TEXT_MAX];
    rb_log_inf(log, "  Name:     %s", rb_node_name(node));
    rb_log_inf(log, "  ID:       %s", rb_node_id(node));
    rb_log_inf(log, "  Shards:   %u, transport uring", rb_node_shard_count(node));
    if (config->config_file[0] != '\0') {
        rb_log_inf(log, "Using configuration file: %s (%s)", config->config_file,
                   config->config_digest);
    }
    rb_log_inf(log, "Listening for client connections on %s",
               rb_addr_format(rb_node_addr(node), addr));
    rb_log_inf(log, "Server is ready");
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    const char *program = slash == NULL ? argv[0] : slash + 1;
    static struct rb_config config;
    static char output[OUTPUT_MAX];
    rb_config_defaults(&config);
    switch (rb_args_parse(&config, argc, argv, output, sizeof(output))) {
    case RB_ARGS_RUN:
        (void)fputs(output, stderr); /* warnings */
        break;
    case RB_ARGS_EXIT_OK:
        (void)fputs(output, stdout);
        return 0;
    case RB_ARGS_EXIT_FAIL:
        (void)fputs(output, stderr);
        return 1;
    case RB_ARGS_BAD_FLAG:
        (void)fputs(output, stderr);
        (void)fputs(output + strlen(output) + 1, stdout); /* the usage */
        return 0;
    }
    const char *manager = getenv("NOTIFY_SOCKET");
    struct rb_log log;
    sigset_t signals;
    if (!open_log(&config, &log, program)) {
        return 1;
    }
    block_signals(&signals);
    rb_log_inf(&log, "Starting nats-server");
    rb_log_inf(&log, "  Version:  "
                     "2.15.1"
                     " (ringbus " RB_VERSION ")");
    if (!write_pid_file(&config, &log)) {
        return 1;
    }
    struct rb_node *node;
    char error[RB_NODE_ERROR_MAX];
    if (rb_node_start(&config, &log, &node, error) != RB_OK) {
        rb_log_ftl(&log, "%s", error);
        return 1;
    }
    log_start(&config, node, &log);
    notify_ready(manager, node, &log);
    wait_for_signal(&signals, &log);
    rb_log_inf(&log, "Initiating Shutdown...");
    log_unheard(&log, rb_sdnotify_stopping(manager, RB_S("shutting down")));
    rb_node_stop(node);
    rb_log_inf(&log, "Server Exiting..");
    return 0;
}
