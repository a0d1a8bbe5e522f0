/* syslog.h - log lines to the local syslog or to a remote one. One thread at a time: logout.c. */
#pragma once

#include <stddef.h>

#include "ringbus/errors.h"
#include "ringbus/log.h"
#include "ringbus/slice.h"

struct rb_syslog;

/**
 * `target`: NULL or empty for the local one (/dev/log), else udp://host:port, tcp://host:port or unix:///path; port 514 if
 * left out. `tag` names the program; both are copied. Looks names up and connects, so it may take a moment.
 * Errors: RB_ERR_ADDRESS, RB_ERR_IO, RB_ERR_MEMORY; `error` says what failed.
 */
RB_MUST_CHECK enum rb_err rb_syslog_open(const char *target, const char *tag,
                                         struct rb_syslog **ret_syslog, char *error,
                                         size_t error_cap);
/** NULL is allowed. */
void rb_syslog_close(struct rb_syslog *syslog);
/** Never waits: what the socket does not take is dropped, and a lost TCP connection is made again. */
void rb_syslog_write(struct rb_syslog *syslog, enum rb_log_level level, struct rb_slice message);
