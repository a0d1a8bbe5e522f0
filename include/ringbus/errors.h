/* errors.h - the one list of error codes (docs/ARCHITECTURE.md). */
#pragma once

/** What a call that can fail returns. RB_OK is zero; everything else is an error. */
enum rb_err {
    RB_OK = 0,
    RB_ERR_MEMORY,      /* the allocator or a budget refused */
    RB_ERR_FULL,        /* a bounded queue or table has no room; try later */
    RB_ERR_CORRUPT,     /* bytes that fail their check */
    RB_ERR_INVALID,     /* an argument or input is malformed */
    RB_ERR_UNSUPPORTED, /* known, refused by name */
    RB_ERR_STALE,       /* an id of an earlier generation */
    RB_ERR_BUSY,        /* the one permitted operation is already in flight */
    RB_ERR_ADDRESS,     /* the address cannot be parsed or bound */
    RB_ERR_IN_USE,      /* the address is taken by another socket */
    RB_ERR_RESET,       /* the peer is gone */
    RB_ERR_CANCELED,    /* ended by our own close */
    RB_ERR_TIMEOUT,     /* the time allowed has passed */
    RB_ERR_LIMIT,       /* a limit of the operating system (descriptors, locked memory) */
    RB_ERR_IO,          /* any other failure of a system call */
    RB_ERR_SPACE,       /* the disk, or the room configured on it, is used up */
    RB_ERR_MISSING,     /* the named thing does not exist */
    RB_ERR_COUNT
};

#define RB_MUST_CHECK __attribute__((warn_unused_result))

/** Short English text of `err`, for logs. Never NULL; static storage. */
const char *rb_err_text(enum rb_err err);
