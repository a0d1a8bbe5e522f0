/* settings.h - configuration -> what every shard's core is told; made anew by a reload. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/core.h"
#include "server/config.h"

struct rb_node_shared;

/**
 * Reads certificates. One count in *ret_settings. `error`: what is wrong, in nats-server's words.
 * Thread: any. Errors: RB_ERR_INVALID, RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_settings_make(const struct rb_config *config,
                                           const struct rb_node_shared *shared,
                                           struct rb_core_settings **ret_settings,
                                           char error[RB_CONFIG_ERROR_MAX]);
static inline const struct rb_core_settings *rb_settings_hold(struct rb_core_settings *settings)
{
    atomic_fetch_add_explicit(&settings->ref_count, 1, memory_order_relaxed);
    return settings;
}
