/* config.h - configuration text and command line -> struct rb_config. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

#define RB_CONFIG_TEXT_MAX 256
#define RB_CONFIG_ERROR_MAX 1024

/** Everything a node needs to know. Plain values: copy freely. Times in ns, sizes in bytes. */
struct rb_config {
    char host[RB_CONFIG_TEXT_MAX];
    int32_t port; /* -1: any free one */
    char server_name[RB_CONFIG_TEXT_MAX];      /* empty: the server id */
    char client_advertise[RB_CONFIG_TEXT_MAX]; /* empty: none */
    char config_file[RB_CONFIG_TEXT_MAX * 4];  /* as given; empty: none */
    char config_digest[80];                    /* "sha256:..." of the file's values */
    char log_file[RB_CONFIG_TEXT_MAX * 4];     /* empty: stderr */
    char pid_file[RB_CONFIG_TEXT_MAX * 4];     /* empty: none */
    char user[RB_CONFIG_TEXT_MAX], pass[RB_CONFIG_TEXT_MAX], token[RB_CONFIG_TEXT_MAX];
    uint64_t auth_timeout_ns;
    uint32_t shards; /* 0: one per usable core */
    char transport[16]; /* "uring" */
    bool debug, trace, logtime, logtime_utc;
    uint32_t max_traced_msg_bytes; /* 0: all */
    int64_t max_connections;       /* -1: refuse all (the file said 0) */
    uint32_t max_subscriptions;    /* per connection; 0: no limit */
    uint32_t max_sub_tokens;       /* 0: no limit */
    uint32_t max_control_line, max_payload;
    uint64_t max_pending_bytes;
    uint64_t ping_interval_ns;
    uint32_t ping_max;
    uint64_t write_deadline_ns;
    bool no_header_support;
    uint64_t memory_budget_bytes; /* of the whole server; 0: 3/4 of the machine's memory */
};

/** nats-server's defaults. */
void rb_config_defaults(struct rb_config *config);

/**
 * Reads a configuration text over *config. `path` names it in errors ("path:line:column: message") and is the base of
 * relative includes. On failure *config is unchanged and `error` holds every error, one per line.
 */
RB_MUST_CHECK enum rb_err rb_config_load_text(struct rb_config *config, const char *path,
                                              struct rb_slice text,
                                              char error[RB_CONFIG_ERROR_MAX]);
/** Opens the file; the error for a missing one is "open FILE: no such file or directory". */
RB_MUST_CHECK enum rb_err rb_config_load_file(struct rb_config *config, const char *path,
                                              char error[RB_CONFIG_ERROR_MAX]);
/** Rules between options (max_payload <= max_pending, ...). */
RB_MUST_CHECK enum rb_err rb_config_check(const struct rb_config *config,
                                          char error[RB_CONFIG_ERROR_MAX]);

enum rb_args_action {
    RB_ARGS_RUN,
    RB_ARGS_EXIT_OK,   /* help, version: print `output` to stdout, exit 0 */
    RB_ARGS_EXIT_FAIL, /* print `output` to stderr, exit 1 */
    RB_ARGS_BAD_FLAG,  /* as nats-server: `output` to stderr, usage to stdout, exit 0 */
};
/**
 * Parses argv (one or two dashes, "-x v", "-x=v", booleans), loads the file named by -c, lays the flags over it, checks.
 * `output` gets text for the actions that end. A flag that is known to nats-server but not supported yet ends with
 * RB_ARGS_EXIT_FAIL and "nats-server: flag -m is not supported by ringbus yet".
 */
enum rb_args_action rb_args_parse(struct rb_config *config, int argc, char *const *argv, char *output,
                                  size_t output_cap);
