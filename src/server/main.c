/* main.c - the ringbus program: arguments, environment, log, signals, exit code. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/logout.h"
#include "server/sdnotify.h"
#include "server/signals.h"
#include "server/signal_target.h"
#include "server/start.h"
#include "server/switches.h"

#define OUTPUT_MAX 16384

struct program {
    const char *name;
    struct rb_config config;
    struct rb_log log;
    struct rb_logout *logout;
    struct rb_signals signals;
    struct rb_log_opts switches;
    char output[OUTPUT_MAX];
};

/* False: the program ends with *ret_code. */
static bool read_arguments(struct program *program, int argc, char **argv, int *ret_code)
{
    char *output = program->output;
    *ret_code = 0;
    switch (rb_args_parse(&program->config, argc, argv, output, sizeof(program->output))) {
    case RB_ARGS_RUN:
        (void)fputs(output, stderr); /* warnings */
        return true;
    case RB_ARGS_EXIT_OK:
        (void)fputs(output, stdout);
        return false;
    case RB_ARGS_EXIT_FAIL:
        (void)fputs(output, stderr);
        *ret_code = 1;
        return false;
    case RB_ARGS_SIGNAL: {
        struct rb_signal_world world = rb_signal_world();
        char error[512];
        if (!rb_signal_run(&world, output, error, sizeof(error))) {
            (void)fprintf(stderr, "%s: %s\n", program->name, error);
            *ret_code = 1;
        }
        return false;
    }
    case RB_ARGS_BAD_FLAG:
        (void)fputs(output, stderr);
        (void)fputs(output + strlen(output) + 1, stdout); /* the usage */
        return false;
    }
    return false;
}

/* A reload: the file, the flags over it, the switches over both. */
static enum rb_err load(void *ctx, const struct rb_config *running, struct rb_config *ret_config,
                        char error[RB_CONFIG_ERROR_MAX])
{
    const struct program *program = ctx;
    enum rb_err err = rb_config_reload(running, ret_config, error);
    if (err == RB_OK) {
        rb_log_opts_apply(&program->switches, ret_config);
    }
    return err;
}

static void ended(void *ctx)
{
    struct program *program = ctx;
    rb_signals_end(&program->signals);
}

static void log_unheard(struct rb_log *log, enum rb_err err)
{
    if (err != RB_OK) {
        rb_log_wrn(log, "Could not notify the service manager: %s", rb_err_text(err));
    }
}

static void notify_ready(struct program *program, struct rb_node *node)
{
    char addr[RB_ADDR_TEXT_MAX], status[RB_ADDR_TEXT_MAX + 32];
    int len = snprintf(status, sizeof(status), "serving clients on %s",
                       rb_addr_format(rb_node_addr(node), addr));
    log_unheard(&program->log,
                rb_sdnotify_ready(program->signals.manager, rb_slice_of(status, (size_t)len)));
}

static int serve(struct program *program)
{
    struct rb_running *running;
    char error[RB_NODE_ERROR_MAX];
    struct rb_start_options options = { .config = &program->config,
                                        .log = &program->log,
                                        .logout = program->logout,
                                        .program = program->name,
                                        .ctx = program,
                                        .load = load,
                                        .ended = ended };
    if (rb_running_start(&options, &running, error) != RB_OK) {
        rb_log_ftl(&program->log, "%s", error);
        return 1;
    }
    notify_ready(program, rb_running_node(running));
    rb_signals_serve(&program->signals, running, &program->log);
    log_unheard(&program->log,
                rb_sdnotify_stopping(program->signals.manager, RB_S("shutting down")));
    rb_running_stop(running);
    return 0;
}

static int run(struct program *program)
{
    char error[RB_NODE_ERROR_MAX];
    if (rb_signals_init(&program->signals, getenv("NOTIFY_SOCKET")) != RB_OK) {
        (void)fprintf(stderr, "%s: no file descriptor left\n", program->name);
        return 1;
    }
    program->switches = rb_log_opts(getenv(RB_SWITCH_DEBUG), getenv(RB_SWITCH_MONITOR));
    rb_log_opts_apply(&program->switches, &program->config);
    int code = 1;
    if (rb_logout_open(&program->config, program->name, &program->log, &program->logout, error,
                       sizeof(error)) != RB_OK) {
        (void)fprintf(stderr, "%s: %s\n", program->name, error);
    } else {
        code = serve(program);
    }
    rb_logout_close(program->logout);
    rb_signals_deinit(&program->signals);
    return code;
}

int main(int argc, char **argv)
{
    static struct program program;
    int code;
    const char *slash = strrchr(argv[0], '/');
    program.name = slash == NULL ? argv[0] : slash + 1;
    rb_config_defaults(&program.config);
    if (!read_arguments(&program, argc, argv, &code)) {
        rb_config_deinit(&program.config);
        return code;
    }
    code = run(&program);
    rb_config_deinit(&program.config);
    return code;
}
