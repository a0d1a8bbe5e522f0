/* switches.h - the two environment switches of old runbooks -> what they open (docs/operating.md). */
#pragma once

#include "ringbus/ringbus.h"
#include "server/config.h"

#define RB_SWITCH_DEBUG                                                                            \
    "UNIBUS_NATS_DEBUG" /* "1": debug log; "2": protocol trace too; either opens the monitor */
#define RB_SWITCH_MONITOR "UNIBUS_NATS_MONITOR" /* "1": monitor; the log stays quiet */
#define RB_SWITCH_MONITOR_PORT 8222

/** Switches on what `opts` says, and nothing off. A monitor that is configured keeps its port. */
void rb_log_opts_apply(const struct rb_log_opts *opts, struct rb_config *config);
