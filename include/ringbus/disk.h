/* disk.h - seam: files of one shard. Completion-based, batched, no callbacks, no descriptors.
 *
 * One struct rb_disk per shard and directory, used by that shard's thread only. Every name is relative to that directory.
 * The contract every driver keeps (tests/support/disk_suite.c):
 *  1. A call that returned RB_OK is followed by exactly one completion of its operation out of poll(), with `err` and the
 *     results in the operation; after an error none follows. Only list, space, close and alloc answer in other ways, as
 *     they say.
 *  2. The operation, its name and its bytes are lent until that completion. `in_flight` is true meanwhile.
 *  3. Completions come in any order. Two operations on the same bytes, or name, must not be in flight together.
 *  4. A write to a file opened with RB_DISK_DURABLE completes when its bytes are on stable storage: they survive a power cut.
 *     Without that flag they may be lost, wholly or in part, until a later sync() of the file has completed.
 *  5. A write that failed, or was in flight at a power cut, leaves its bytes unknown: each sector old or new.
 *  6. Names (open with RB_DISK_CREATE, make_directory, rename, remove, remove_directory) survive a power cut once a later sync_directory() of
 *     the directory they are in has completed.
 *  7. A failed write or sync says nothing of what was lost; whoever asked must not retry and hope.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"

/** Offsets, lengths and memory of reads and writes are multiples of it. */
#define RB_DISK_ALIGN 4096u
/** Longest name, its terminating NUL not counted. */
#define RB_DISK_NAME_MAX 255
/** One read or write. */
#define RB_DISK_IO_BYTES_MAX (64u << 20)
/** Operations given by one poll(). */
#define RB_DISK_DONE_MAX 128

enum rb_disk_kind {
    RB_DISK_OPEN,
    RB_DISK_READ,
    RB_DISK_WRITE,
    RB_DISK_SYNC,
    RB_DISK_PREALLOCATE,
    RB_DISK_MAKE_DIRECTORY,
    RB_DISK_RENAME,
    RB_DISK_REMOVE,
    RB_DISK_REMOVE_DIRECTORY,
    RB_DISK_SYNC_DIRECTORY,
    RB_DISK_LIST,
    RB_DISK_SPACE,
};

enum rb_disk_open_flags {
    RB_DISK_CREATE = 1,  /* makes the file when it is missing */
    RB_DISK_DURABLE = 2, /* rule 4 */
};

/** An open file of one driver. */
struct rb_disk_file;

/** One operation, embedded in its owner, zeroed before its first use. */
struct rb_disk_op {
    void *owner; /* these two are the owner's: the shard hands a completion to whom it belongs */
    uint32_t tag;
    enum rb_disk_kind kind;
    enum rb_err err; /* valid after the completion */
    bool in_flight;
    uint32_t flags;
    struct rb_disk_file *file;  /* OPEN: the result */
    const char *name, *name_to; /* relative to the disk's directory; "." is that directory */
    uint64_t offset;
    uint8_t *bytes;
    uint32_t len;
    /**
     * OPEN: the file's size. READ: bytes read, less than `len` only at the end of the file. LIST: bytes of names.
     * SPACE: bytes that may still be used.
     */
    uint64_t size;
    struct rb_disk_op *next; /* these two are the driver's */
    uint64_t driver[8];
};

struct rb_disk;
struct rb_disk_ops {
    const char *name;
    enum rb_err (*start)(struct rb_disk *disk, struct rb_disk_op *op);
    void (*close)(struct rb_disk *disk, struct rb_disk_file *file);
    void *(*alloc)(struct rb_disk *disk, size_t bytes);
    void (*free)(struct rb_disk *disk, void *ptr, size_t bytes);
    uint32_t (*poll)(struct rb_disk *disk, int64_t timeout_ns, struct rb_disk_op ***ret_ops);
    void (*destroy)(struct rb_disk *disk);
};
/** Drivers embed this first in their own struct. */
struct rb_disk {
    const struct rb_disk_ops *ops;
};

/* Every call below that returns enum rb_err: RB_ERR_FULL when the driver has no room for one more; nothing follows then. */

/** Result: `file`, `size`. Completes with RB_ERR_MISSING, RB_ERR_LIMIT, RB_ERR_SPACE or RB_ERR_IO. */
RB_MUST_CHECK static inline enum rb_err rb_disk_open(struct rb_disk *disk, struct rb_disk_op *op,
                                                     const char *name, uint32_t flags)
{
    op->kind = RB_DISK_OPEN;
    op->name = name;
    op->flags = flags;
    op->file = NULL;
    return disk->ops->start(disk, op);
}

/** `offset`, `len` and the address of `bytes` are multiples of RB_DISK_ALIGN; `len` is 1..RB_DISK_IO_BYTES_MAX. */
RB_MUST_CHECK static inline enum rb_err rb_disk_read(struct rb_disk *disk, struct rb_disk_op *op,
                                                     struct rb_disk_file *file, uint64_t offset,
                                                     void *bytes, uint32_t len)
{
    op->kind = RB_DISK_READ;
    op->file = file;
    op->offset = offset;
    op->bytes = bytes;
    op->len = len;
    return disk->ops->start(disk, op);
}

/** As rb_disk_read. The file grows when the write ends beyond its size. All or an error; rules 4, 5 and 7. */
RB_MUST_CHECK static inline enum rb_err rb_disk_write(struct rb_disk *disk, struct rb_disk_op *op,
                                                      struct rb_disk_file *file, uint64_t offset,
                                                      const void *bytes, uint32_t len)
{
    op->kind = RB_DISK_WRITE;
    op->file = file;
    op->offset = offset;
    op->bytes = (uint8_t *)(uintptr_t)bytes;
    op->len = len;
    return disk->ops->start(disk, op);
}

/** All that writes of this file have completed becomes durable. */
RB_MUST_CHECK static inline enum rb_err rb_disk_sync(struct rb_disk *disk, struct rb_disk_op *op,
                                                     struct rb_disk_file *file)
{
    op->kind = RB_DISK_SYNC;
    op->file = file;
    return disk->ops->start(disk, op);
}

/**
 * Makes the file `size` bytes long, zeroes and durable, so that later writes inside it change no metadata and need no space.
 * For new files: what it held is gone. RB_ERR_SPACE when that much is not free; the file is empty then.
 */
RB_MUST_CHECK static inline enum rb_err rb_disk_preallocate(struct rb_disk *disk,
                                                            struct rb_disk_op *op,
                                                            struct rb_disk_file *file,
                                                            uint64_t size)
{
    op->kind = RB_DISK_PREALLOCATE;
    op->file = file;
    op->size = size;
    return disk->ops->start(disk, op);
}

/** Succeeds when it is there already. Its parent must exist. */
RB_MUST_CHECK static inline enum rb_err
rb_disk_make_directory(struct rb_disk *disk, struct rb_disk_op *op, const char *name)
{
    op->kind = RB_DISK_MAKE_DIRECTORY;
    op->name = name;
    return disk->ops->start(disk, op);
}

/** Replaces what `to` named. Open files stay open. */
RB_MUST_CHECK static inline enum rb_err rb_disk_rename(struct rb_disk *disk, struct rb_disk_op *op,
                                                       const char *from, const char *to)
{
    op->kind = RB_DISK_RENAME;
    op->name = from;
    op->name_to = to;
    return disk->ops->start(disk, op);
}

/** A file, not a directory. Its space comes back when it is closed as well. */
RB_MUST_CHECK static inline enum rb_err rb_disk_remove(struct rb_disk *disk, struct rb_disk_op *op,
                                                       const char *name)
{
    op->kind = RB_DISK_REMOVE;
    op->name = name;
    return disk->ops->start(disk, op);
}

/** Completes with RB_ERR_MISSING, or RB_ERR_IO when it is not empty, or no directory. */
RB_MUST_CHECK static inline enum rb_err
rb_disk_remove_directory(struct rb_disk *disk, struct rb_disk_op *op, const char *name)
{
    op->kind = RB_DISK_REMOVE_DIRECTORY;
    op->name = name;
    return disk->ops->start(disk, op);
}

RB_MUST_CHECK static inline enum rb_err
rb_disk_sync_directory(struct rb_disk *disk, struct rb_disk_op *op, const char *name)
{
    op->kind = RB_DISK_SYNC_DIRECTORY;
    op->name = name;
    return disk->ops->start(disk, op);
}

/**
 * The names in a directory without "." and "..", sorted, each with its NUL, into `bytes` (any alignment): `size` bytes.
 * Completes with RB_ERR_FULL when they do not fit.
 */
RB_MUST_CHECK static inline enum rb_err rb_disk_list(struct rb_disk *disk, struct rb_disk_op *op,
                                                     const char *directory, void *bytes,
                                                     uint32_t len)
{
    op->kind = RB_DISK_LIST;
    op->name = directory;
    op->bytes = bytes;
    op->len = len;
    return disk->ops->start(disk, op);
}

/** Result: `size`, the free bytes of the file system the disk's directory is on. */
RB_MUST_CHECK static inline enum rb_err rb_disk_space(struct rb_disk *disk, struct rb_disk_op *op)
{
    op->kind = RB_DISK_SPACE;
    return disk->ops->start(disk, op);
}

/** At once. No operation on `file` is in flight. */
static inline void rb_disk_close(struct rb_disk *disk, struct rb_disk_file *file)
{
    disk->ops->close(disk, file);
}

/** Zeroed, aligned memory, known to the kernel where that is possible: reads and writes in it cost less. NULL: refused. */
static inline void *rb_disk_alloc(struct rb_disk *disk, size_t bytes)
{
    return disk->ops->alloc(disk, bytes);
}

/** `bytes` as it was allocated with; no operation uses it any more. `ptr` may be NULL. */
static inline void rb_disk_free(struct rb_disk *disk, void *ptr, size_t bytes)
{
    disk->ops->free(disk, ptr, bytes);
}

/**
 * Submits what was started, waits up to `timeout_ns` (0: do not wait, -1: no limit) for a completion, and gives at most
 * RB_DISK_DONE_MAX. The array is borrowed until the next poll(). A disk whose ring is polled by a transport never waits
 * here, and submits with the transport's turn.
 */
static inline uint32_t rb_disk_poll(struct rb_disk *disk, int64_t timeout_ns,
                                    struct rb_disk_op ***ret_ops)
{
    return disk->ops->poll(disk, timeout_ns, ret_ops);
}

/** Waits for what is in flight (no completion comes out any more), closes every file, frees the disk. */
static inline void rb_disk_destroy(struct rb_disk *disk)
{
    disk->ops->destroy(disk);
}
