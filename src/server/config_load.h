/* config_load.h - what the files that give a configuration its meaning share (config*.c only).
 *
 * A load fills a copy of the caller's rb_config, and a policy and lists in an arena of their own. Every reader
 * adds an error with the place of the key and returns false when the value is not what it wants.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/mem.h"
#include "server/conf.h"
#include "server/config.h"

#define RB_SECOND_NS 1000000000ull
#define RB_PORT_DEFAULT 4222
#define RB_TLS_TIMEOUT_DEFAULT_NS ((int64_t)(2 * RB_SECOND_NS))
#define RB_AUTH_TIMEOUT_DEFAULT_NS (2 * RB_SECOND_NS)

struct rb_load_messages {
    char text[RB_CONFIG_ERROR_MAX];
    size_t len;
    uint32_t count, left_out;
};

/** What the top level names and what is read when all of it is known. */
struct rb_load_blocks {
    const struct rb_conf_entry *accounts, *authorization, *mappings, *no_auth_user;
    const struct rb_conf_entry *websocket_no_auth_user, *system_account;
};

/** A user with the key that its errors are told at. */
struct rb_load_user {
    struct rb_policy_user user;
    const struct rb_conf_entry *from;
};

struct rb_load {
    struct rb_config *config;
    struct rb_arena *arena;
    struct rb_policy *policy;
    struct rb_config_lists *lists;
    struct rb_policy_account *accounts; /* policy->accounts */
    struct rb_load_user *users;
    uint32_t user_count, user_cap;
    struct rb_load_blocks blocks;
    struct rb_load_messages warnings, errors;
    bool out_of_memory;
    bool system_named; /* the system account is one that the file declares */
    bool store_dir_named;
    bool closed; /* files that the text names are not opened */
};

enum rb_option_kind {
    RB_OPTION_CALL,     /* `set` reads it */
    RB_OPTION_BOOL,     /* bool */
    RB_OPTION_TEXT,     /* char[cap] */
    RB_OPTION_STRING,   /* const char *, in the arena */
    RB_OPTION_SLICE,    /* struct rb_slice, in the arena */
    RB_OPTION_REFUSED,  /* known, not supported yet */
    RB_OPTION_OFF_BOOL, /* the same, but for `false` */
    RB_OPTION_OFF_ZERO, /* the same, but for 0 */
};

/** `names`: one or more, with a blank between. `offset` is counted from the `base` that rb_load_options gets. */
struct rb_option {
    const char *names;
    enum rb_option_kind kind;
    size_t offset, cap;
    void (*set)(struct rb_load *load, const struct rb_conf_entry *entry, void *base);
};

/** The key as the file spells it, for "%.*s". */
#define RB_KEY(entry) RB_S_ARG((entry)->key)

__attribute__((format(printf, 3, 4))) void
rb_load_error(struct rb_load *load, const struct rb_conf_entry *entry, const char *format, ...);
__attribute__((format(printf, 3, 4))) void
rb_load_warning(struct rb_load *load, const struct rb_conf_entry *entry, const char *format, ...);
void rb_load_refuse(struct rb_load *load, const struct rb_conf_entry *entry);
void rb_load_unknown(struct rb_load *load, const struct rb_conf_entry *entry);

#define RB_SHOWN_MAX 64
/** A value of the wrong form, for error texts. */
const char *rb_load_show(const struct rb_conf_value *value, char out[RB_SHOWN_MAX]);
/** Zeroed memory of the policy's arena; NULL, and the load fails, when refused. */
void *rb_load_take(struct rb_load *load, size_t bytes);
/** A copy in the arena with a NUL behind it. */
struct rb_slice rb_load_copy(struct rb_load *load, struct rb_slice text);
/** The item of an array as a value of its own, under the array's key. */
struct rb_conf_entry rb_load_item(const struct rb_conf_entry *array,
                                  const struct rb_conf_item *item);

/** An error unless the value is of this kind. */
bool rb_load_kind(struct rb_load *load, const struct rb_conf_entry *entry, enum rb_conf_kind kind);
bool rb_load_bool(struct rb_load *load, const struct rb_conf_entry *entry, bool *ret_value);
bool rb_load_int(struct rb_load *load, const struct rb_conf_entry *entry, int64_t *ret_value);
/** An integer from 0 to `max`. */
bool rb_load_size(struct rb_load *load, const struct rb_conf_entry *entry, int64_t max,
                  int64_t *ret_value);
/** Text without a zero byte, shorter than `cap`. */
bool rb_load_text(struct rb_load *load, const struct rb_conf_entry *entry, char *out, size_t cap);
/** Text without a zero byte, copied into the arena. */
bool rb_load_slice(struct rb_load *load, const struct rb_conf_entry *entry,
                   struct rb_slice *ret_text);
/** A text or an array of texts, as strings in the arena. */
bool rb_load_strings(struct rb_load *load, const struct rb_conf_entry *entry,
                     const char ***ret_strings, uint32_t *ret_count);
/** Text as a Go duration; a bare integer is seconds, with a warning. Not below 0; 0 gives `unset_ns`. */
bool rb_load_duration(struct rb_load *load, const struct rb_conf_entry *entry, uint64_t unset_ns,
                      uint64_t *ret_ns);
/** Seconds as integer or float, or a Go duration. `what` opens the error text ("error parsing tls config"). */
bool rb_load_timeout(struct rb_load *load, const struct rb_conf_entry *entry, const char *what,
                     bool warn_long, int64_t *ret_ns);
/** Text like "25%" or "25". False without an error when it is not. */
bool rb_load_percent_text(struct rb_slice text, int64_t *ret_percent);

/** A Go duration ("1h30m", "-2ms"). False: `problem` says why. */
bool rb_config_parse_duration(const char *text, int64_t *ret_ns, char *problem, size_t problem_cap);
/** Puts a duration as Go prints it ("2m0s", "1.5s", "250ms") into `out`. */
#define RB_DURATION_TEXT_MAX 40
const char *rb_config_show_duration(int64_t ns, char out[RB_DURATION_TEXT_MAX]);
/** "host:port", "[v6]:port", ":port". False when the colons are not where they must be. */
bool rb_config_split_host_port(const char *text, struct rb_slice *ret_host, const char **ret_port);
bool rb_config_parse_port(const char *text, int64_t *ret_port);
/** "host" or "host:port" with a port from 0 to 65535. */
bool rb_config_is_advertisable(const char *text);
/** A port alone leaves `host` as it is; ":port" and "host:port" set it. */
bool rb_load_listen(struct rb_load *load, const struct rb_conf_entry *entry, char *host,
                    size_t host_cap, int32_t *ret_port);
/** A port from -1 to 65535. */
bool rb_load_port(struct rb_load *load, const struct rb_conf_entry *entry, int32_t *ret_port);

/** Reads the entry by the table; false when it is not in it. */
bool rb_load_option(struct rb_load *load, const struct rb_conf_entry *entry,
                    const struct rb_option *options, void *base);
/** Reads every entry of `map` by the table; what is not in it is an unknown field. */
void rb_load_options(struct rb_load *load, const struct rb_conf_value *map,
                     const struct rb_option *options, void *base);

/* config_tls.c */
/** Makes a context and gives it back: are the files there, and do they fit? */
RB_MUST_CHECK enum rb_err rb_config_tls_try(const struct rb_tls_config *tls,
                                            char error[RB_CONFIG_ERROR_MAX]);
void rb_load_tls(struct rb_load *load, const struct rb_conf_entry *entry,
                 struct rb_tls_config *ret_tls);
void rb_load_websocket(struct rb_load *load, const struct rb_conf_entry *entry, void *base);

/* config_auth.c: what needs the whole top level, in this order */
/** Makes the policy's accounts from the names. False: no memory. */
bool rb_load_accounts_declare(struct rb_load *load);
void rb_load_accounts(struct rb_load *load);
void rb_load_authorization(struct rb_load *load, const struct rb_conf_entry *entry);
/** Users of all blocks -> the policy's array. */
void rb_load_users_finish(struct rb_load *load);
void rb_load_proxies(struct rb_load *load, const struct rb_conf_entry *entry, void *base);
/** Index of an account; -1. */
int32_t rb_load_account(const struct rb_load *load, struct rb_slice name);
/** The same for those that exports and imports can name: neither "$G" nor a system account that is not in the file. */
int32_t rb_load_account_named(const struct rb_load *load, struct rb_slice name);

/* config_users.c */
/** Users of a block; what is wrong between users (a name twice) is told at `told_at`. */
void rb_load_users(struct rb_load *load, const struct rb_conf_entry *entry,
                   const struct rb_conf_entry *told_at, uint32_t account);
/** NULL after an error. */
const struct rb_permissions *rb_load_permissions(struct rb_load *load,
                                                 const struct rb_conf_entry *entry);

/* config_jetstream.c */
void rb_load_jetstream(struct rb_load *load, const struct rb_conf_entry *entry, void *base);
void rb_load_store_dir(struct rb_load *load, const struct rb_conf_entry *entry, void *base);
void rb_load_account_jetstream(struct rb_load *load, const struct rb_conf_entry *entry,
                               uint32_t account);
bool rb_config_domain_valid(const char *domain);

/* config_share.c, config_mapping.c: of an account */
void rb_load_exports(struct rb_load *load, const struct rb_conf_entry *entry, uint32_t account);
void rb_load_imports(struct rb_load *load, const struct rb_conf_entry *entry, uint32_t account);
void rb_load_mappings(struct rb_load *load, const struct rb_conf_entry *entry, uint32_t account);
/** Imports against exports, and cycles; errors are told at the `accounts` key. */
void rb_load_check_imports(struct rb_load *load);

/* config_check.c */
bool rb_config_transport_known(const char *name);

/* config_seal.c */
/** A policy with "$G" and, if `system`, "$SYS"; *ret_lists lie in its arena. NULL: no memory. */
struct rb_policy *rb_config_draft(bool system, struct rb_config_lists **ret_lists);
/** For changes before the seal: asserts that there was none. */
struct rb_policy *rb_config_own_policy(struct rb_config *config);
struct rb_config_lists *rb_config_own_lists(struct rb_config *config);
/** rb_config_load_file without the seal, for flags to be laid over it. */
RB_MUST_CHECK enum rb_err rb_config_read_file(struct rb_config *config, const char *path,
                                              char error[RB_CONFIG_ERROR_MAX]);
/** A copy of `text` in the policy's arena; NULL: no memory. */
const char *rb_config_keep(struct rb_config *config, const char *text);
