/* config.h - configuration text and command line -> struct rb_config. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

#define RB_CONFIG_TEXT_MAX 256
#define RB_CONFIG_ERROR_MAX 1024

/** Everything a node needs to know. Plain values: copy freely. Times in ns, sizes in bytes. */
struct rb_config {
    char host[RB_CONFIG_TEXT_MAX];
    int32_t port;                              /* -1: any free one */
    char server_name[RB_CONFIG_TEXT_MAX];      /* empty: the server id */
    char client_advertise[RB_CONFIG_TEXT_MAX]; /* empty: none */
    char config_file[RB_CONFIG_TEXT_MAX * 4];  /* as given; empty: none */
    char config_digest[80];                    /* "sha256:..." of the file's values */
    char log_file[RB_CONFIG_TEXT_MAX * 4];     /* empty: stderr */
    char pid_file[RB_CONFIG_TEXT_MAX * 4];     /* empty: none */
    char user[RB_CONFIG_TEXT_MAX], pass[RB_CONFIG_TEXT_MAX], token[RB_CONFIG_TEXT_MAX];
    uint64_t auth_timeout_ns;
    uint32_t shards;    /* 0: one per usable core */
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
    bool pin_shards;              /* each shard to a core of its own, when there are enough */
    uint64_t memory_budget_bytes; /* of the whole server; 0: 3/4 of the machine's memory */
};

/** nats-server's defaults. */
void rb_config_defaults(struct rb_config *config);

/**
 * Reads a configuration text over *config. `path` names it in errors ("path:line:column: message") and is the base of
 * relative includes. On failure *config is unchanged and `error` holds every warning and error, one per line; on
 * success it holds the warnings (empty: none). Environment variables that the text names are read during the call.
 */
RB_MUST_CHECK enum rb_err rb_config_load_text(struct rb_config *config, const char *path,
                                              struct rb_slice text,
                                              char error[RB_CONFIG_ERROR_MAX]);
/** The same for a file, which also becomes `config_file`; the error for a missing one is "open FILE: no such file or directory". */
RB_MUST_CHECK enum rb_err rb_config_load_file(struct rb_config *config, const char *path,
                                              char error[RB_CONFIG_ERROR_MAX]);
/** Rules between options (max_payload <= max_pending, ...). */
RB_MUST_CHECK enum rb_err rb_config_check(const struct rb_config *config,
                                          char error[RB_CONFIG_ERROR_MAX]);

enum rb_args_action {
    RB_ARGS_RUN,       /* start; `output` holds warnings for stderr, or is empty */
    RB_ARGS_EXIT_OK,   /* help, version: print `output` to stdout, exit 0 */
    RB_ARGS_EXIT_FAIL, /* print `output` to stderr, exit 1 */
    /** As nats-server: `output` to stderr, then the string after its NUL (usage, or empty) to stdout, exit 0. */
    RB_ARGS_BAD_FLAG,
    RB_ARGS_CHECKED =
        RB_ARGS_BAD_FLAG, /* -t found nothing wrong: the same, with an empty second string */
};
#define RB_ARGS_OUTPUT_MIN 8192 /* the least useful `output_cap` */
/**
 * Parses argv (one or two dashes, "-x v", "-x=v", booleans), loads the file named by -c, lays the flags over it, checks.
 * `output` gets text for the actions that end, each line with its newline. The program's name in texts is
 * "nats-server" when argv[0] ends so, else "ringbus". A flag that is known to nats-server but not supported yet ends with
 * RB_ARGS_EXIT_FAIL and "ringbus: flag -m is not supported by ringbus yet".
 */
enum rb_args_action rb_args_parse(struct rb_config *config, int argc, char *const *argv,
                                  char *output, size_t output_cap);
