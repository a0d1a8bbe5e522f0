/* config.h - configuration text and command line -> struct rb_config. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "auth/policy.h"
#include "ringbus/errors.h"
#include "ringbus/slice.h"

#define RB_CONFIG_TEXT_MAX 256
#define RB_CONFIG_ERROR_MAX 1024

struct rb_cert_pair {
    const char *cert_file, *key_file;
};

/** A `tls {}` block. Strings are NUL-terminated, in the policy's arena; NULL: not given. */
struct rb_tls_config {
    bool set; /* the block (or a -tls flag) is there */
    const char *cert_file, *key_file, *ca_file, *min_version;
    struct rb_cert_pair *certs;
    const char **ciphers, **curves, **pinned; /* pinned: lower-case hex */
    uint32_t cert_count, cipher_count, curve_count, pinned_count;
    bool verify, map;   /* verify_and_map sets both */
    int64_t timeout_ns; /* 2 s */
    bool handshake_first;
    int64_t handshake_first_fallback_ns; /* > 0: "auto" (50 ms) or as given; 0: always first */
    int64_t connection_rate_limit;       /* per second; 0: none */
};

struct rb_text_pair {
    const char *key, *value;
};

struct rb_flags; /* args.c: what the command line gave */

/** What has no fixed size. Lies in the policy's arena and lives as long. */
struct rb_config_lists {
    const struct rb_flags *flags; /* laid over the file again at a reload; NULL: none */
    bool auth_timeout_set;     /* the file said it; else it follows the tls block's timeout ... */
    bool auth_timeout_follows; /* ... unless the caller set it */
    struct rb_tls_config tls, websocket_tls;
    const char **tags;
    struct rb_text_pair *metadata;
    uint32_t tag_count, metadata_count;
    /* websocket block */
    const char **ws_origins;
    struct rb_text_pair *ws_headers;
    uint32_t ws_origin_count, ws_header_count;
    const char *ws_jwt_cookie, *ws_user_cookie, *ws_pass_cookie, *ws_token_cookie;
};

/** The jetstream block. Sizes in bytes; 0: the default, where not said otherwise. */
struct rb_config_jetstream {
    bool enabled;
    bool lenient;   /* strict: false */
    bool temporary; /* the store goes with the server: small files will do */
    bool lazy;      /* sync_interval was given as a duration: acknowledge before the disk has it */
    char
        store_dir[RB_CONFIG_TEXT_MAX *
                  4]; /* empty: "nats" in the temporary directory; the data is in its "jetstream" */
    char domain[RB_CONFIG_TEXT_MAX]; /* empty: none */
    int64_t max_memory, max_storage; /* -1: 75 % of the machine's memory, of the free disk */
    uint64_t sync_interval_ns;       /* of `lazy` */
    int64_t max_ack_pending, max_request_batch, duplicate_window_ns; /* 0: no limit */
    int64_t batch_inflight_per_stream, batch_inflight_total, batch_msgs, batch_timeout_ns;
    uint32_t max_buffered_msgs;
    uint64_t max_buffered_bytes;
    int64_t request_queue_limit, info_queue_limit; /* 0 or less: the default */
};

/**
 * Everything a node needs to know. Times in ns, sizes in bytes. Copy with rb_config_copy: it holds a count on `policy`.
 * `policy` and `lists` are NULL until rb_config_seal.
 */
struct rb_config {
    const struct rb_policy *policy; /* accounts, users, permissions, logins */
    const struct rb_config_lists *lists;
    bool trace_verbose, trace_headers;
    int64_t log_size_limit, log_max_num; /* 0: no rotation; 0: keep all */
    bool syslog;
    char remote_syslog[RB_CONFIG_TEXT_MAX];
    char ports_file_dir[RB_CONFIG_TEXT_MAX * 4];
    char unix_socket[RB_CONFIG_TEXT_MAX];    /* ringbus only: path of a listener; empty: none */
    char http_host[RB_CONFIG_TEXT_MAX];      /* as asked for; the monitor binds loopback always */
    int32_t http_port, https_port;           /* 0: off; -1: any free one */
    char http_base_path[RB_CONFIG_TEXT_MAX]; /* "/" or "/base" */
    uint32_t max_closed_clients;             /* 10000 */
    uint64_t lame_duck_duration_ns, lame_duck_grace_ns; /* 2 m, 10 s */
    bool proxy_protocol, allow_non_tls;
    bool no_fast_producer_stall;
    bool no_system_account;
    /* websocket block: port 0: off (without the block); -1: any free one */
    bool ws_set, ws_no_tls, ws_same_origin, ws_compression;
    int32_t ws_port;
    char ws_host[RB_CONFIG_TEXT_MAX], ws_advertise[RB_CONFIG_TEXT_MAX];
    uint64_t ws_handshake_timeout_ns; /* 2 s */
    uint64_t ws_ping_interval_ns;     /* 0: as clients */
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
    struct rb_config_jetstream jetstream;
};

/** nats-server's defaults; `policy` NULL. */
void rb_config_defaults(struct rb_config *config);
/**
 * Turns what was read (file, flags) into `policy` and `lists`; called by the loaders and by rb_args_parse at their end,
 * and to be called once after defaults when there is neither. `user`, `pass`, `token` and the timeout are taken here;
 * what is set in them afterwards has no effect.
 */
RB_MUST_CHECK enum rb_err rb_config_seal(struct rb_config *config, char error[RB_CONFIG_ERROR_MAX]);
/**
 * Reads the file of `running` again and lays its flags over it; *ret_config is sealed and checked, to be given back
 * with rb_config_deinit. `error` holds what is wrong, or the warnings. `running` is only read.
 * Errors: RB_ERR_INVALID (no file: "can only reload config when a file is provided using -c or --config"), RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_config_reload(const struct rb_config *running,
                                           struct rb_config *ret_config,
                                           char error[RB_CONFIG_ERROR_MAX]);
/** *to becomes a copy with a count of its own. */
void rb_config_copy(struct rb_config *to, const struct rb_config *from);
/** Gives the policy's count back; the struct may be zeroed or reused afterwards. */
void rb_config_deinit(struct rb_config *config);

/**
 * Reads a configuration text over *config. `path` names it in errors ("path:line:column: message") and is the base of
 * relative includes. On failure *config is unchanged and `error` holds every warning and error, one per line; on
 * success it holds the warnings (empty: none). Environment variables that the text names are read during the call.
 */
RB_MUST_CHECK enum rb_err rb_config_load_text(struct rb_config *config, const char *path,
                                              struct rb_slice text,
                                              char error[RB_CONFIG_ERROR_MAX]);
/**
 * The same for a text that may touch nothing else: includes and environment variables are errors, and the files that a
 * tls block names are not opened.
 */
RB_MUST_CHECK enum rb_err rb_config_load_closed(struct rb_config *config, const char *path,
                                                struct rb_slice text,
                                                char error[RB_CONFIG_ERROR_MAX]);
/** The same for a file, which also becomes `config_file`; the error for a missing one is "open FILE: no such file or directory". */
RB_MUST_CHECK enum rb_err rb_config_load_file(struct rb_config *config, const char *path,
                                              char error[RB_CONFIG_ERROR_MAX]);
struct rb_tls_options;
/** What src/tls makes a context of; borrows from `tls`. */
void rb_config_tls_options(const struct rb_tls_config *tls, struct rb_tls_options *ret_options);
/** Rules between options (max_payload <= max_pending, ...). */
RB_MUST_CHECK enum rb_err rb_config_check(const struct rb_config *config,
                                          char error[RB_CONFIG_ERROR_MAX]);

enum rb_args_action {
    RB_ARGS_RUN,       /* start; `output` holds warnings for stderr, or is empty */
    RB_ARGS_EXIT_OK,   /* help, version: print `output` to stdout, exit 0 */
    RB_ARGS_EXIT_FAIL, /* print `output` to stderr, exit 1 */
    RB_ARGS_SIGNAL, /* `output` is what -signal was given ("cmd" or "cmd=target"): see signal_target.h */
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
 * RB_ARGS_EXIT_FAIL and "ringbus: flag -js is not supported by ringbus yet". *config must not be sealed before;
 * after RB_ARGS_RUN and RB_ARGS_CHECKED it is, else it is unchanged.
 */
enum rb_args_action rb_args_parse(struct rb_config *config, int argc, char *const *argv,
                                  char *output, size_t output_cap);
