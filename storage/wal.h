/* wal.h - the log of storage.h over a disk (docs/storage.md, docs/ondisk.md). */
#pragma once

#include "ringbus/disk.h"
#include "ringbus/env.h"
#include "ringbus/mem.h"
#include "ringbus/storage.h"

#define RB_WAL_WRITES_MAX 16
#define RB_WAL_FILES_MAX 1000

struct rb_wal_options {
    struct rb_disk *disk;
    struct rb_budget *budget; /* the index and the tables; may be NULL */
    struct rb_env *env;       /* clock, and entropy for a new log */
    const char *
        directory; /* in the disk's directory; made when missing, its parent must exist; borrowed */
    uint64_t file_bytes; /* a multiple of RB_DISK_ALIGN, at least twice batch_bytes; 0: 64 MiB */
    uint32_t
        batch_bytes; /* longest write, a multiple of RB_DISK_ALIGN, at least 2 of them; 0: 1 MiB */
    uint32_t writes_max; /* in flight at once, at most RB_WAL_WRITES_MAX; 0: 4 */
    uint32_t files_max;  /* at least 4, at most RB_WAL_FILES_MAX; 0: 64 */
    uint64_t
        reserve_bytes; /* kept from entries for states, and as much from states (rule 5); 0: an eighth of a file */
    uint64_t state_bytes_max; /* all states together; 0: a quarter of all files */
    uint64_t retry_ns;        /* how often a full disk is asked again; 0: 1 s */
    uint64_t seal_ns; /* idle for so long, the log writes that everything is durable; 0: 100 ms */
};

/** Starts to open; RB_WAL_OPENED follows out of poll(). Errors: RB_ERR_INVALID (options), RB_ERR_MEMORY, RB_ERR_FULL. */
RB_MUST_CHECK enum rb_err rb_wal_create(const struct rb_wal_options *options,
                                        struct rb_wal **ret_log);
