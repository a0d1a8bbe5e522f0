/* switches.c - rb_log_opts: a pure function, so that a table can show all of it. */
#include "server/switches.h"

#include <stdio.h>
#include <string.h>

static bool is(const char *text, const char *wanted)
{
    return text != NULL && strcmp(text, wanted) == 0;
}

struct rb_log_opts rb_log_opts(const char *debug, const char *monitor)
{
    bool trace = is(debug, "2");
    bool verbose = trace || is(debug, "1");
    return (struct rb_log_opts){
        .debug = verbose,
        .trace = trace,
        .monitor = verbose || is(monitor, "1"),
    };
}

void rb_log_opts_apply(const struct rb_log_opts *opts, struct rb_config *config)
{
    config->debug |= opts->debug;
    config->trace |= opts->trace;
    if (opts->monitor && config->http_port == 0 && config->https_port == 0) {
        config->http_port = RB_SWITCH_MONITOR_PORT;
        snprintf(config->http_host, sizeof(config->http_host), "127.0.0.1");
    }
}
