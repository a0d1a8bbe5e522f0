/* logout.h - where the program's log lines go: a file, a remote or the local syslog, or standard error. */
#pragma once

#include <stddef.h>

#include "ringbus/errors.h"
#include "ringbus/log.h"
#include "server/config.h"

/** Thread-safe: each line is written whole, in the order of arrival, also while the target changes. */
struct rb_logout;

/**
 * Opens what `config` asks for (precedence: log_file, remote_syslog, syslog, standard error) and makes `log` write there:
 * sets its levels and its sink. `log` and its copies may be used until rb_logout_close. `tag`: the program's name, for
 * syslog; copied.
 * Errors: RB_ERR_IO, RB_ERR_ADDRESS, RB_ERR_MEMORY; `error` says why, `log` is as rb_log_init makes it.
 */
RB_MUST_CHECK enum rb_err rb_logout_open(const struct rb_config *config, const char *tag,
                                         struct rb_log *log, struct rb_logout **ret_logout,
                                         char *error, size_t error_cap);
/** After a reload: another target or form of lines. On failure all stays as it was. */
RB_MUST_CHECK enum rb_err rb_logout_switch(struct rb_logout *logout, const struct rb_config *config,
                                           char *error, size_t error_cap);
/** SIGUSR1. RB_ERR_UNSUPPORTED: the log is not a file. RB_ERR_IO: the old file stays in use. */
RB_MUST_CHECK enum rb_err rb_logout_reopen(struct rb_logout *logout, char *error, size_t error_cap);
/** No line may come any more. NULL is allowed. */
void rb_logout_close(struct rb_logout *logout);
