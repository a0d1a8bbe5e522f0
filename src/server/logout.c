/* logout.c - one lock around the log's target. Lines are for people: the hot path counts instead of logging, so the
 * lock is not on a message's way.
 */
#include "server/logout.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#include "server/logfile.h"
#include "server/syslog.h"

struct target {
    struct rb_logfile *file;
    struct rb_syslog *syslog;
};

struct rb_logout {
    pthread_mutex_t lock;
    struct target target; /* both NULL: standard error */
    struct rb_log format;
    char tag[64];
};

static void write_stderr(const char *header, size_t header_len, const char *message)
{
    size_t len = strlen(message);
    bool ended = len > 0 && message[len - 1] == '\n';
    struct iovec parts[] = { { (void *)(uintptr_t)header, header_len },
                             { (void *)(uintptr_t)message, len },
                             { (void *)(uintptr_t) "\n", ended ? 0 : 1 } };
    struct iovec *at = parts;
    int count = 3;
    while (count > 0) {
        ssize_t done = writev(STDERR_FILENO, at, count);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return;
        }
        for (; count > 0 && (size_t)done >= at->iov_len; at++, count--) {
            done -= (ssize_t)at->iov_len;
        }
        if (count > 0) {
            at->iov_base = (char *)at->iov_base + done;
            at->iov_len -= (size_t)done;
        }
    }
}

static void write_line(void *ctx, enum rb_log_level level, const char *message)
{
    struct rb_logout *logout = ctx;
    char header[RB_LOG_HEADER_MAX];
    (void)pthread_mutex_lock(&logout->lock);
    if (logout->target.syslog != NULL) {
        rb_syslog_write(logout->target.syslog, level, rb_slice_text(message));
    } else {
        size_t len = rb_log_header(&logout->format, level, header);
        if (logout->target.file != NULL) {
            rb_logfile_write(logout->target.file, rb_slice_of(header, len), rb_slice_text(message));
        } else {
            write_stderr(header, len, message);
        }
    }
    (void)pthread_mutex_unlock(&logout->lock);
}

static void close_target(struct target *target)
{
    rb_logfile_close(target->file);
    rb_syslog_close(target->syslog);
    *target = (struct target){ 0 };
}

static enum rb_err open_target(struct rb_logout *logout, const struct rb_config *config,
                               struct target *ret_target, char *error, size_t error_cap)
{
    *ret_target = (struct target){ 0 };
    if (config->log_file[0] != 0) {
        const struct rb_logfile_options options = { .path = config->log_file,
                                                    .size_limit = config->log_size_limit,
                                                    .max_num = config->log_max_num,
                                                    .format = &logout->format };
        return rb_logfile_open(&options, &ret_target->file, error, error_cap);
    }
    if (config->remote_syslog[0] != 0) {
        return rb_syslog_open(config->remote_syslog, logout->tag, &ret_target->syslog, error,
                              error_cap);
    }
    if (config->syslog) {
        return rb_syslog_open(NULL, logout->tag, &ret_target->syslog, error, error_cap);
    }
    return RB_OK;
}

static void set_format(struct rb_logout *logout, const struct rb_config *config)
{
    logout->format.time = config->logtime;
    logout->format.utc = config->logtime_utc;
    logout->format.color = logout->target.file == NULL && isatty(STDERR_FILENO) == 1;
}

enum rb_err rb_logout_open(const struct rb_config *config, const char *tag, struct rb_log *log,
                           struct rb_logout **ret_logout, char *error, size_t error_cap)
{
    rb_log_init(log);
    struct rb_logout *logout = calloc(1, sizeof(*logout));
    if (logout == NULL) {
        snprintf(error, error_cap, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    logout->format = *log;
    logout->format.time = config->logtime;
    snprintf(logout->tag, sizeof(logout->tag), "%s", tag);
    enum rb_err err = open_target(logout, config, &logout->target, error, error_cap);
    if (err != RB_OK) {
        free(logout);
        return err;
    }
    (void)pthread_mutex_init(&logout->lock, NULL);
    set_format(logout, config);
    log->debug = config->debug;
    log->trace = config->trace;
    log->sink = write_line;
    log->sink_ctx = logout;
    *ret_logout = logout;
    return RB_OK;
}

enum rb_err rb_logout_switch(struct rb_logout *logout, const struct rb_config *config, char *error,
                             size_t error_cap)
{
    struct target target;
    enum rb_err err = open_target(logout, config, &target, error, error_cap);
    if (err != RB_OK) {
        return err;
    }
    (void)pthread_mutex_lock(&logout->lock);
    struct target old = logout->target;
    logout->target = target;
    set_format(logout, config);
    (void)pthread_mutex_unlock(&logout->lock);
    close_target(&old);
    return RB_OK;
}

enum rb_err rb_logout_reopen(struct rb_logout *logout, char *error, size_t error_cap)
{
    enum rb_err err = RB_ERR_UNSUPPORTED;
    (void)pthread_mutex_lock(&logout->lock);
    if (logout->target.file != NULL) {
        err = rb_logfile_reopen(logout->target.file, error, error_cap);
    }
    (void)pthread_mutex_unlock(&logout->lock);
    return err;
}

void rb_logout_close(struct rb_logout *logout)
{
    if (logout != NULL) {
        close_target(&logout->target);
        (void)pthread_mutex_destroy(&logout->lock);
        free(logout);
    }
}
