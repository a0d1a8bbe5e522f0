/* custom.h - the embedding program decides: from a request to its callback and back (public side: ringbus/auth.h).
 *
 * A ticket is shared by the wait for it (auth.c) and by the program. Whoever answers first, program or cancellation, sends
 * the wait's job home; the other side only keeps the memory.
 */
#pragma once

#include <stdbool.h>

#include "ringbus/auth.h"

#include "auth/auth.h"

/** Given with rb_auth_context; outlives every wait. */
struct rb_auth_hook {
    rb_auth_decide decide;
    void *ctx;
};

/**
 * Calls the program. *ret_answered: it has answered already, `job` will not come; else `job` comes through
 * rb_work_done(work, job->home), once. In both cases rb_ticket_finish must follow.
 * RB_ERR_INVALID: a text of the request has a NUL in it; RB_ERR_MEMORY. The policy and `job` stay until then.
 */
RB_MUST_CHECK enum rb_err rb_ticket_open(const struct rb_auth_context *context,
                                         const struct rb_auth_request *request, struct rb_job *job,
                                         struct rb_auth_ticket **ret_ticket, bool *ret_answered);
/** Answers with a refusal, if nobody has answered. Thread: the home's. */
void rb_ticket_cancel(struct rb_auth_ticket *ticket);
/** The answer. The wait's share of the ticket is gone then. */
struct rb_verdict rb_ticket_finish(struct rb_auth_ticket *ticket);
