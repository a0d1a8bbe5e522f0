/* transfer.h - what snapshots and restores have in common: a stream's archive on its way, with a time limit. */
#pragma once

#include "js/api_inside.h"

/** Of one account at a time; more are refused. */
#define RB_JS_TRANSFERS_MAX 32
/** Without an acknowledgement or a chunk for so long a transfer is given up. */
#define RB_JS_TRANSFER_IDLE_NS 5000000000u
/** Bytes of messages worked on per turn. */
#define RB_JS_TRANSFER_TURN_BYTES (1u << 20)

struct rb_js_transfer {
    struct rb_list link; /* api->transfers */
    struct rb_js_api *api;
    struct rb_js_account *account;
    struct rb_js_stream *stream;  /* NULL: there is none (yet, any more) */
    struct rb_slice name, client; /* the stream's; ClientInfo. Both allocated behind the struct */
    uint64_t begun_ns;            /* wall */
    struct rb_js_api_timed timed;
    struct rb_special special; /* acknowledgements or chunks come here */
    bool listening;
    /** Its account or stream goes: ends without a word to anybody. */
    void (*end)(struct rb_js_transfer *transfer);
};

/** Links it into the account and listens to `subject`. False: too many, or no memory; then nothing was done. */
bool rb_js_transfer_open(struct rb_js_transfer *transfer, struct rb_slice subject,
                         rb_special_take take);
/** Unlinks; the memory stays the caller's. */
void rb_js_transfer_close(struct rb_js_transfer *transfer);
void rb_js_transfer_arm(struct rb_js_transfer *transfer, uint64_t after_ns);
/** "stream":.. with start and end and so on, for the advisories. */
void rb_js_transfer_advise(struct rb_js_transfer *transfer, enum rb_js_transfer_event event,
                           uint64_t bytes, const char *error);

/* restore_consumer.c */

/**
 * Reads a consumer's entry of an archive: its configuration (in `arena`) and the state for rb_js_consumer_restore(). NULL, or what is
 * wrong. `store` has all messages.
 */
const char *rb_js_archived_consumer(const struct rb_msgstore *store, struct rb_arena *arena,
                                    struct rb_slice payload,
                                    struct rb_js_consumer_config *ret_config, struct rb_out *state);
