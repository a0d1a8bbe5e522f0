/* log.c - one line, one write(2).
 *
 * 1. A line is put together in one buffer, header and message, so lines of different shards never
 *    mix: the descriptor is opened for append and write(2) places the whole line at once. Only when
 *    the kernel takes less (a full disk or pipe) does a second write follow for the rest.
 * 2. Short lines use the stack; longer ones a temporary block up to RB_LOG_LINE_MAX. What is longer
 *    still, or what the allocator refuses, is cut at a character boundary and ends in "...".
 * 3. Logging never fails and never changes errno: a line that cannot be written is dropped.
 * 4. The time stamp is the machine's wall clock, not the shard's env: lines are for people.
 */
#include "ringbus/log.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define SHORT_LINE_BYTES 2048

void rb_log_init(struct rb_log *log)
{
    *log = (struct rb_log){
        .fd = STDERR_FILENO,
        .time = true,
        .color = isatty(STDERR_FILENO) == 1,
        .pid = (long)getpid(),
    };
}

static const char *label_of(enum rb_log_level level, bool color)
{
    static const char *const labels[][2] = {
        [RB_LOG_FTL] = { "[FTL] ", "[\033[31mFTL\033[0m] " },
        [RB_LOG_ERR] = { "[ERR] ", "[\033[31mERR\033[0m] " },
        [RB_LOG_WRN] = { "[WRN] ", "[\033[0;93mWRN\033[0m] " },
        [RB_LOG_INF] = { "[INF] ", "[\033[32mINF\033[0m] " },
        [RB_LOG_DBG] = { "[DBG] ", "[\033[36mDBG\033[0m] " },
        [RB_LOG_TRC] = { "[TRC] ", "[\033[33mTRC\033[0m] " },
    };
    return labels[level][color];
}

size_t rb_log_header(const struct rb_log *log, enum rb_log_level level, char out[RB_LOG_HEADER_MAX])
{
    const char *label = label_of(level, log->color);
    struct timespec now;
    struct tm at;
    if (!log->time || clock_gettime(CLOCK_REALTIME, &now) != 0 ||
        (log->utc ? gmtime_r(&now.tv_sec, &at) : localtime_r(&now.tv_sec, &at)) == NULL) {
        return (size_t)snprintf(out, RB_LOG_HEADER_MAX, "[%ld] %s", log->pid, label);
    }
    return (size_t)snprintf(out, RB_LOG_HEADER_MAX, "[%ld] %04d/%02d/%02d %02d:%02d:%02d.%06ld %s",
                            log->pid, at.tm_year + 1900, at.tm_mon + 1, at.tm_mday, at.tm_hour,
                            at.tm_min, at.tm_sec, now.tv_nsec / 1000, label);
}

static void write_line(int fd, const char *line, size_t len)
{
    while (len > 0) {
        ssize_t done = write(fd, line, len);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return; /* invariant 3 */
        }
        line += done;
        len -= (size_t)done;
    }
}

/* Ends a text of `len` bytes that goes on at text[len], but must not: without a part of a character
 * and with "..." in place of its last bytes. Returns the new length. */
static size_t cut_text(char *text, size_t len)
{
    static const char mark[] = "...";
    if (len < sizeof(mark) - 1) {
        return 0;
    }
    len -= sizeof(mark) - 1;
    for (int back = 0; back < 3 && len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80; back++) {
        len--;
    }
    memcpy(text + len, mark, sizeof(mark));
    return len + sizeof(mark) - 1;
}

/* Formats behind `start` bytes of header and hands the line out. */
static void print_line(struct rb_log *log, enum rb_log_level level, size_t start, char *line,
                       size_t len)
{
    if (log->sink != NULL) {
        log->sink(log->sink_ctx, level, line + start);
        return;
    }
    if (len == start || line[len - 1] != '\n') {
        line[len++] = '\n'; /* in place of the NUL */
    }
    write_line(log->fd, line, len);
}

static void log_args(struct rb_log *log, enum rb_log_level level, const char *format, va_list args)
{
    char small[SHORT_LINE_BYTES];
    char *line = small, *large = NULL;
    size_t cap = sizeof(small);
    size_t start = log->sink != NULL ? 0 : rb_log_header(log, level, small);
    va_list again;
    va_copy(again, args);
    int result = vsnprintf(line + start, cap - start, format, args);
    size_t wanted = result < 0 ? 0 : (size_t)result; /* a format error leaves an empty message */
    if (result < 0) {
        line[start] = '\0';
    }
    if (wanted >= cap - start) {
        size_t needed = start + wanted + 1;
        size_t large_cap = needed < RB_LOG_LINE_MAX ? needed : RB_LOG_LINE_MAX;
        large = malloc(large_cap);
        if (large != NULL) {
            memcpy(large, small, start);
            line = large;
            cap = large_cap;
            vsnprintf(line + start, cap - start, format, again);
        }
    }
    va_end(again);
    size_t len = start + wanted;
    if (wanted >= cap - start) {
        len = start + cut_text(line + start, cap - start - 1);
    }
    print_line(log, level, start, line, len);
    free(large);
}

void rb_log_line(struct rb_log *log, enum rb_log_level level, const char *format, ...)
{
    if (!rb_log_enabled(log, level) || (log->fd < 0 && log->sink == NULL)) {
        return;
    }
    int saved_errno = errno;
    va_list args;
    va_start(args, format);
    log_args(log, level, format, args);
    va_end(args);
    errno = saved_errno;
}

bool rb_log_limit_pass(struct rb_log_limit *limit, uint64_t now_ns, uint64_t *ret_skipped)
{
    bool first = limit->last_ns == 0;
    if (!first && now_ns < limit->last_ns + limit->interval_ns) {
        limit->skipped_count++;
        return false;
    }
    limit->last_ns = now_ns == 0 ? 1 : now_ns; /* 0 says that nothing was printed yet */
    *ret_skipped = limit->skipped_count;
    limit->skipped_count = 0;
    return true;
}
