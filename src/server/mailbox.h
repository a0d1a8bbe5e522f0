/* mailbox.h - messages between shards: blocks of records over SPSC rings, one pair of rings per
 * ordered pair of shards (docs/sharding.md).
 *
 *   producer: current block --publish--> [mail ring] --> consumer reads records
 *   producer <----------------------- [return ring] <--- consumer gives the block back
 *
 * 1. At most RB_MAIL_BLOCKS_MAX blocks of one pair are out; a producer without a block has no room and
 *    stops reading the sockets that feed it.
 * 2. A record never spans blocks; one larger than a block gets a block of its own size.
 * 3. Blocks belong to the producer; the consumer only reads and returns.
 * 4. Large payloads are not copied into blocks: an exported rb_buf is attached and changes its owner.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/spsc.h"
#include "ringbus/bounds.h"
#include "ringbus/buf.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

struct rb_mail_block {
    uint32_t cap, len;
    uint64_t attached_bytes;
    struct rb_buf *attached, *attached_tail; /* exported blocks that records speak of, in order */
    uint8_t data[];
};

/* A block with so many bytes attached is full, so that what is under way stays bounded. */
#define RB_MAIL_ATTACHED_MAX (256 * 1024)

#define RB_MAIL_SPARES 4

struct rb_mail_pair {
    struct rb_spsc mail, back;
    /* producer's: */
    struct rb_mail_block *current;
    struct rb_mail_block *spare[RB_MAIL_SPARES];
    uint32_t spare_count, out_count;
};

/** One per shard, shared: consumers sleep and wake here. */
struct rb_mail_bell {
    _Alignas(64) _Atomic uint32_t sleeping;
    _Atomic uint32_t wants_room; /* as a producer: blocks given back are news to it */
};

struct rb_mail {
    struct rb_mail_pair *pairs; /* [from * count + to] */
    struct rb_mail_bell *bells; /* [shard] */
    uint32_t count;
};

RB_MUST_CHECK enum rb_err rb_mail_init(struct rb_mail *mail, uint32_t shard_count);
/** Frees every block, also those under way. No shard runs any more. */
void rb_mail_deinit(struct rb_mail *mail);

/** Producer `from`: takes returned blocks back; true when at least `blocks` more may go out to `to`. */
bool rb_mail_room(struct rb_mail *mail, uint32_t from, uint32_t to, uint32_t blocks);
/**
 * Producer: `len` bytes to be written at once, seen by the consumer after rb_mail_publish.
 * NULL when memory is refused or four times the agreed number of blocks is out.
 */
uint8_t *rb_mail_record(struct rb_mail *mail, uint32_t from, uint32_t to, uint32_t len);
/** Producer: `buf` (exported) goes with the record just made; the consumer or the mail owns it now. */
void rb_mail_attach(struct rb_mail *mail, uint32_t from, uint32_t to, struct rb_buf *buf);
/** Consumer: the next attached block, exported; NULL when there is none. */
struct rb_buf *rb_mail_detach(struct rb_mail_block *block);
/** Producer, end of turn: hands the current block over. True when the consumer slept and must be woken. */
bool rb_mail_publish(struct rb_mail *mail, uint32_t from, uint32_t to);
/** Consumer: next block from `from`, NULL when none. Give it back with rb_mail_return. */
struct rb_mail_block *rb_mail_take(struct rb_mail *mail, uint32_t from, uint32_t to);
/** True when the producer sleeps and waits for room: wake it. */
bool rb_mail_return(struct rb_mail *mail, uint32_t from, uint32_t to, struct rb_mail_block *block);
/** Producer: says that it waits for blocks. Call before sleeping, then look again with rb_mail_room. */
void rb_mail_want_room(struct rb_mail *mail, uint32_t from);
/** Consumer: announces sleep; false (and awake) when mail is there already. */
bool rb_mail_sleep(struct rb_mail *mail, uint32_t self);
void rb_mail_awake(struct rb_mail *mail, uint32_t self);
