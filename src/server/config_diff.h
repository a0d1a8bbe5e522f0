/* config_diff.h - what a reload would change, and whether it may (docs/operating.md). */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "server/config.h"

/** What has to be done about a change; bits. */
enum {
    RB_CHANGE_LOG =
        1
        << 0, /* levels, form, target of the log: rb_logout_switch, and the levels in all copies */
    RB_CHANGE_FILES = 1 << 1,       /* pid file or ports file: write the new one, remove the old */
    RB_CHANGE_LIMITS = 1 << 2,      /* sizes, intervals, deadlines: at next use */
    RB_CHANGE_CONNECTIONS = 1 << 3, /* max_connections: close those that are too many */
    RB_CHANGE_TLS = 1 << 4,  /* new context for new connections; pins: look at the old ones again */
    RB_CHANGE_INFO = 1 << 5, /* client_advertise: tell clients */
    RB_CHANGE_AUTH = 1 << 6, /* always: every connection is judged again */
    RB_CHANGE_TAGS = 1 << 7, /* tags and metadata of the monitor */
    RB_CHANGE_JETSTREAM = 1 << 9, /* limits of the server's jetstream block */
    RB_CHANGE_PROXIES = 1 << 8,   /* close what came through proxies that are trusted no more */
};

#define RB_CONFIG_CHANGES_MAX 48
#define RB_CONFIG_CHANGE_TEXT_MAX 320

struct rb_config_changes {
    uint32_t what;
    uint32_t count;
    char lines[RB_CONFIG_CHANGES_MAX][RB_CONFIG_CHANGE_TEXT_MAX]; /* "Reloaded: debug = true" */
};

/**
 * Compares two sealed configurations. RB_OK: *ret_changes holds a line for each change, in nats-server's words. Secrets
 * are never shown.
 * RB_ERR_UNSUPPORTED: `error` is "config reload not supported for Port: old=4222, new=4223"; *ret_changes is unchanged.
 */
RB_MUST_CHECK enum rb_err rb_config_diff(const struct rb_config *running,
                                         const struct rb_config *wanted,
                                         struct rb_config_changes *ret_changes,
                                         char error[RB_CONFIG_ERROR_MAX]);
