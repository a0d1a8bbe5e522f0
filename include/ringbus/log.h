/* log.h - nats-server's log lines: "[PID] YYYY/MM/DD hh:mm:ss.uuuuuu [LVL] message". */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum rb_log_level { RB_LOG_FTL, RB_LOG_ERR, RB_LOG_WRN, RB_LOG_INF, RB_LOG_DBG, RB_LOG_TRC };

/**
 * Where lines go. Thread-safe: each line leaves in one write(2) to a descriptor opened for append.
 * `sink`, when set, gets the message instead (embedding, tests); it may be called from any shard.
 */
struct rb_log {
    int fd;                    /* -1: nowhere */
    _Atomic bool debug, trace; /* a reload changes them while they are read */
    bool time, utc, color;
    long pid;
    void (*sink)(void *ctx, enum rb_log_level level, const char *message);
    void *sink_ctx;
};

/** stderr, colours when it is a terminal, timestamps on, debug and trace off. */
void rb_log_init(struct rb_log *log);

static inline bool rb_log_enabled(const struct rb_log *log, enum rb_log_level level)
{
    return level <= RB_LOG_INF || (level == RB_LOG_DBG ? log->debug : log->trace);
}

#define RB_LOG_HEADER_MAX 128
/** "[PID] YYYY/MM/DD hh:mm:ss.uuuuuu [LVL] " as a line of `log` begins, for sinks that write lines; its length. */
size_t rb_log_header(const struct rb_log *log, enum rb_log_level level,
                     char out[RB_LOG_HEADER_MAX]);

/** Prints nothing when `level` is off. A line longer than RB_LOG_LINE_MAX is cut. Keeps errno. */
#define RB_LOG_LINE_MAX 65536
__attribute__((format(printf, 3, 4))) void rb_log_line(struct rb_log *log, enum rb_log_level level,
                                                       const char *format, ...);

#define rb_log_inf(log, ...) rb_log_line((log), RB_LOG_INF, __VA_ARGS__)
#define rb_log_wrn(log, ...) rb_log_line((log), RB_LOG_WRN, __VA_ARGS__)
#define rb_log_err(log, ...) rb_log_line((log), RB_LOG_ERR, __VA_ARGS__)
#define rb_log_ftl(log, ...) rb_log_line((log), RB_LOG_FTL, __VA_ARGS__)
#define rb_log_dbg(log, ...)                                                                       \
    do {                                                                                           \
        if (rb_log_enabled((log), RB_LOG_DBG)) {                                                   \
            rb_log_line((log), RB_LOG_DBG, __VA_ARGS__);                                           \
        }                                                                                          \
    } while (0)
#define rb_log_trc(log, ...)                                                                       \
    do {                                                                                           \
        if (rb_log_enabled((log), RB_LOG_TRC)) {                                                   \
            rb_log_line((log), RB_LOG_TRC, __VA_ARGS__);                                           \
        }                                                                                          \
    } while (0)

/** At most one line per `interval_ns`; the next says how many were left out. Owner thread only. */
struct rb_log_limit {
    uint64_t interval_ns, last_ns, skipped_count;
};
/** True when a line may be printed now; *ret_skipped gets the number left out since the last. */
bool rb_log_limit_pass(struct rb_log_limit *limit, uint64_t now_ns, uint64_t *ret_skipped);
