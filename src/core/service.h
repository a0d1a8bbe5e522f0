/* service.h - requests that cross from one account into another, and the way back of their answers. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "core/account.h"

/** The export of `exporter` that an import of `subject` uses; NULL: none (its defaults then). */
const struct rb_export *rb_service_export(const struct rb_policy_account *exporter,
                                          struct rb_slice subject);
/** Sets what a service import does with a request. */
void rb_service_init(struct rb_service_import *service);
/**
 * False: `subject` is where this shard awaits answers to an imported request, and nobody listens for them any more, or they all
 * came. True for every other subject.
 */
bool rb_service_wanted(struct rb_core *core, struct rb_slice subject);
/** A response's time is over: `timer` is of kind RB_TIMER_RESPONSE. */
void rb_service_timer(struct rb_core *core, struct rb_timer *timer);
/** Forgets every awaited answer. */
void rb_services_deinit(struct rb_core *core);
/** True for "_R_.<6>.<6>.T": the answer of a responder whose latency is measured. */
bool rb_service_measured(struct rb_slice subject);
