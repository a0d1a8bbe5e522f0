/* logfile.h - the log in a file: append, reopen, rotation by size (docs/operating.md). One thread at a time: logout.c. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/log.h"
#include "ringbus/slice.h"

struct rb_logfile;

struct rb_logfile_options {
    const char *path; /* copied */
    int64_t size_limit,
        max_num; /* bytes, 0: never rotate; files kept, the live one included, 0: all */
    const struct rb_log
        *format; /* how lines of the rotation itself begin; lent as long as the file is open */
};

/**
 * Opens for append, creates with 0640. A file that is over the limit is rotated at once.
 * Errors: RB_ERR_IO with "open PATH: reason" in `error`; RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_logfile_open(const struct rb_logfile_options *options,
                                          struct rb_logfile **ret_file, char *error,
                                          size_t error_cap);
/** NULL is allowed. */
void rb_logfile_close(struct rb_logfile *file);
/** One line, its newline included, in one write; then rotates when the file has passed its limit. */
void rb_logfile_write(struct rb_logfile *file, struct rb_slice header, struct rb_slice message);
/** Another file under the same name, for those who moved the old one away. On failure the old one stays in use. */
RB_MUST_CHECK enum rb_err rb_logfile_reopen(struct rb_logfile *file, char *error, size_t error_cap);
