/* sdnotify.h - tells the service manager what the process is doing: sd_notify(3) without libsystemd.
 *
 * The library reads no environment: main.c gives the values of NOTIFY_SOCKET, WATCHDOG_USEC and
 * WATCHDOG_PID. A NULL or empty socket name means that nobody wants to know: RB_OK, nothing is sent.
 *
 * All sending calls:
 * Thread: any but a shard's; they open a socket and may wait RB_SDNOTIFY_WAIT_MS for a busy manager.
 * Errors: RB_ERR_INVALID (no path and no abstract name), RB_ERR_UNSUPPORTED (an address of another
 *         kind), RB_ERR_ADDRESS (nobody listens there), RB_ERR_TIMEOUT, RB_ERR_LIMIT, RB_ERR_IO.
 *         Being unheard is no reason to stop serving: log it once and go on.
 * Source: sd_notify(3) of systemd, "environment" and "well-known assignments".
 */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

#define RB_SDNOTIFY_STATUS_MAX 256 /* bytes of a status; more is cut */
#define RB_SDNOTIFY_WAIT_MS 1000

/** The start, or a reload, is finished; `status` (may be empty) says what is served. */
RB_MUST_CHECK enum rb_err rb_sdnotify_ready(const char *socket_name, struct rb_slice status);
/** A reload begins; rb_sdnotify_ready() must follow, also when it failed. Units: CLOCK_MONOTONIC. */
RB_MUST_CHECK enum rb_err rb_sdnotify_reloading(const char *socket_name, uint64_t monotonic_usec);
/** The end begins. */
RB_MUST_CHECK enum rb_err rb_sdnotify_stopping(const char *socket_name, struct rb_slice status);
/** What the process is doing, as one line: control bytes become blanks. */
RB_MUST_CHECK enum rb_err rb_sdnotify_status(const char *socket_name, struct rb_slice status);
/** Sign of life; due within each watchdog interval. */
RB_MUST_CHECK enum rb_err rb_sdnotify_watchdog(const char *socket_name);

/**
 * The watchdog's interval from `usec` (WATCHDOG_USEC) and `pid` (WATCHDOG_PID), both may be NULL.
 * *ret_usec is 0 when there is no watchdog, or it watches another process than `own`. Ping at half of it.
 * Errors: RB_ERR_INVALID for text that is no number above 0.
 */
RB_MUST_CHECK enum rb_err rb_sdnotify_watchdog_usec(const char *usec, const char *pid, pid_t own,
                                                    uint64_t *ret_usec);
