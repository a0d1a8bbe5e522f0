/* bounds.h - compile-time bounds and how they relate (docs/bounds.md). */
#pragma once

#define RB_SHARDS_MAX 64             /* a shard set is one 64-bit mask */
#define RB_CONTROL_LINE_DEFAULT 4096 /* bytes of arguments, the verb not counted */
#define RB_SUBJECT_TOKENS_MAX 256    /* tokens a subject is split into for matching */
#define RB_SEND_SLICES_MAX 64        /* slices in one gathered send */
#define RB_EVENTS_MAX 512            /* transport events taken in one turn */
#define RB_RECV_BYTES 32768          /* size of one receive buffer */
#define RB_MAIL_BLOCK_BYTES 65536    /* one block of mail between two shards */
#define RB_MAIL_BLOCKS_MAX 64        /* blocks in flight between two shards */

/** Before CONNECT: payload and pending output of one connection (docs/decisions/0005). */
#define RB_UNKNOWN_PAYLOAD_MAX 4096
#define RB_UNKNOWN_PENDING_MAX 65536
#define RB_UNKNOWN_SUBS_MAX 64

_Static_assert(RB_SHARDS_MAX <= 64, "shard sets are uint64_t masks");
