/* latency.h - measurements of exported services (client-protocol.md 15): one message per sampled request, published in
 * the exporting account. */
#pragma once

#include "core/account.h"

struct rb_latency;

/** NULL: this request is not sampled (or memory was refused). `from` may be NULL. */
struct rb_latency *rb_latency_begin(struct rb_core *core, const struct rb_service_import *service,
                                    struct rb_account *exporter, const struct rb_conn *from,
                                    struct rb_slice payload, uint32_t header_len);
/** Publishes status 200 (or 408 when nobody waits for the answer any more) and frees it. `responder`: client info as JSON, may be empty. */
void rb_latency_answered(struct rb_core *core, struct rb_latency *latency,
                         struct rb_slice responder, bool wanted);
/** Publishes a failure and frees it. */
void rb_latency_failed(struct rb_core *core, struct rb_latency *latency, int status,
                       const char *description);
/** Frees it without a word. NULL is allowed. */
void rb_latency_free(struct rb_core *core, struct rb_latency *latency);
