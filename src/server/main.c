/* main.c - the ringbus program: arguments, log, signals, exit code. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/log.h"
#include "server/config.h"
#include "server/files.h"
#include "server/logout.h"
#include "server/node.h"
#include "server/sdnotify.h"
#include "server/signal_target.h"
#include "server/switches.h"

#define OUTPUT_MAX 16384

/* A program's files and streams, for the time it runs. */
struct program {
    const char *name;
    struct rb_config config;
    struct rb_logout *logout;
    struct rb_log log;
    char ports_file[RB_PORTS_PATH_MAX];
};

static bool open_log(struct program *p)
{
    char error[512];
    if (rb_logout_open(&p->config, p->name, &p->log, &p->logout, error, sizeof(error)) != RB_OK) {
        (void)fprintf(stderr, "%s: error opening log: %s\n", p->name, error);
        return false;
    }
    return true;
}

static bool write_pid_file(struct program *p)
{
    char error[512];
    if (p->config.pid_file[0] == '\0' ||
        rb_pid_file_write(p->config.pid_file, error, sizeof(error)) == RB_OK) {
        return true;
    }
    rb_log_ftl(&p->log, "Could not write pidfile: %s", error);
    return false;
}

static void write_ports_file(struct program *p, const struct rb_node *node)
{
    char error[1400];
    struct rb_port port = { .kind = RB_PORT_NATS,
                            .tls = p->config.lists->tls.set && !p->config.allow_non_tls,
                            .addr = *rb_node_addr(node),
                            .both = strcmp(p->config.host, "0.0.0.0") == 0 };
    if (p->config.ports_file_dir[0] != '\0' &&
        rb_ports_file_write(p->config.ports_file_dir, p->name, &port, 1, p->ports_file, error,
                            sizeof(error)) != RB_OK) {
        rb_log_err(&p->log, "Error writing ports file: %s", error);
    }
}

static void reopen_log(struct program *p)
{
    char error[512];
    switch (rb_logout_reopen(p->logout, error, sizeof(error))) {
    case RB_OK:
        rb_log_inf(&p->log, "File log re-opened");
        break;
    case RB_ERR_UNSUPPORTED:
        rb_log_inf(&p->log, "File log re-open ignored, not a file logger");
        break;
    default:
        rb_log_err(&p->log, "File log re-open failed: %s", error);
        break;
    }
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
static void wait_for_signal(const sigset_t *set, struct program *p)
{
    struct rb_log *log = &p->log;
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
            rb_log_inf(log, "Trapped \"user defined signal 1\" signal");
            reopen_log(p);
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

/* The environment's switches come on top of file and flags. */
static void apply_switches(struct rb_config *config)
{
    struct rb_log_opts opts = rb_log_opts(getenv(RB_SWITCH_DEBUG), getenv(RB_SWITCH_MONITOR));
    rb_log_opts_apply(&opts, config);
}

/* Everything from the first log line to the last. */
static int run(struct program *p)
{
    const char *manager = getenv("NOTIFY_SOCKET");
    struct rb_log *log = &p->log;
    sigset_t signals;
    block_signals(&signals);
    rb_log_inf(log, "Starting nats-server");
    rb_log_inf(log, "  Version:  "
                    "2.15.1"
                    " (ringbus " RB_VERSION ")");
    if (!write_pid_file(p)) {
        return 1;
    }
    struct rb_node *node;
    char error[RB_NODE_ERROR_MAX];
    struct rb_node_options options = { .config = &p->config, .log = log };
    if (rb_node_start(&options, &node, error) != RB_OK) {
        rb_log_ftl(log, "%s", error);
        return 1;
    }
    log_start(&p->config, node, log);
    write_ports_file(p, node);
    notify_ready(manager, node, log);
    wait_for_signal(&signals, p);
    rb_log_inf(log, "Initiating Shutdown...");
    log_unheard(log, rb_sdnotify_stopping(manager, RB_S("shutting down")));
    rb_node_stop(node);
    rb_ports_file_remove(p->ports_file);
    rb_log_inf(log, "Server Exiting..");
    return 0;
}

static int send_signal(const char *program, const char *command)
{
    char error[16384];
    struct rb_signal_world world = rb_signal_world();
    if (rb_signal_run(&world, command, error, sizeof(error))) {
        return 0;
    }
    (void)fprintf(stderr, "%s: %s\n", program, error);
    return 1;
}

int main(int argc, char **argv)
{
    const char *slash = strrchr(argv[0], '/');
    static struct program program;
    static char output[OUTPUT_MAX];
    program.name = slash == NULL ? argv[0] : slash + 1;
    rb_config_defaults(&program.config);
    switch (rb_args_parse(&program.config, argc, argv, output, sizeof(output))) {
    case RB_ARGS_RUN:
        (void)fputs(output, stderr); /* warnings */
        break;
    case RB_ARGS_EXIT_OK:
        (void)fputs(output, stdout);
        return 0;
    case RB_ARGS_EXIT_FAIL:
        (void)fputs(output, stderr);
        return 1;
    case RB_ARGS_SIGNAL:
        return send_signal(program.name, output);
    case RB_ARGS_BAD_FLAG:
        (void)fputs(output, stderr);
        (void)fputs(output + strlen(output) + 1, stdout); /* the usage */
        rb_config_deinit(&program.config);                /* made by -t */
        return 0;
    }
    apply_switches(&program.config);
    int code = 1;
    if (open_log(&program)) {
        code = run(&program);
        rb_logout_close(program.logout);
    }
    rb_config_deinit(&program.config);
    return code;
}
