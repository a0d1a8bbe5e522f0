/* background.h - the company of the `_churn` variants: many foreign subscriptions, and some that
 * come and go. */
#pragma once

#include <stdint.h>

#include "load.h"

struct rb_background;

/** Opens the connections, subscribes, and starts to change subscriptions from a thread of its own.
 */
struct rb_background *rb_background_start(const struct rb_load *load);
/** Changes made so far. */
uint64_t rb_background_changes(const struct rb_background *background);
/** Ends the thread; dies unless the server took every change. */
void rb_background_stop(struct rb_background *background);
