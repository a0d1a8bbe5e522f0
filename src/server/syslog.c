/* syslog.c - RFC 3164 lines on a socket of our own (syslog(3) has one global state per process).
 *
 * 1. Facility daemon. FTL is crit, ERR err, WRN warning, INF and TRC notice, DBG debug, as with nats-server.
 * 2. The socket never blocks. A line that a stream takes only in part ends the connection, since the rest would be
 *    read as another line; it is made again at most once a second.
 */
#include "server/syslog.h"

#include <errno.h>
#include <netdb.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define FACILITY_DAEMON (3 << 3)
#define LINE_BYTES_MAX 8192 /* of a message; longer ones are cut */
#define LOCAL_PATH "/dev/log"

struct rb_syslog {
    int fd; /* -1: not connected */
    int type;
    bool local;
    struct sockaddr_storage addr;
    socklen_t addr_len;
    time_t tried_s;
    char tag[64], host[256];
};

static int severity_of(enum rb_log_level level)
{
    static const int severities[] = {
        [RB_LOG_FTL] = 2, [RB_LOG_ERR] = 3, [RB_LOG_WRN] = 4,
        [RB_LOG_INF] = 5, [RB_LOG_DBG] = 7, [RB_LOG_TRC] = 5,
    };
    return severities[level];
}

/** `flags` is SOCK_NONBLOCK, or 0 to wait for the connection. */
static bool connect_socket(struct rb_syslog *syslog, int flags)
{
    int fd = socket(syslog->addr.ss_family, syslog->type | SOCK_CLOEXEC | flags, 0);
    syslog->tried_s = time(NULL);
    if (fd < 0) {
        return false;
    }
    if (connect(fd, (const struct sockaddr *)&syslog->addr, syslog->addr_len) != 0 &&
        errno != EINPROGRESS) {
        int saved = errno;
        (void)close(fd);
        errno = saved;
        return false;
    }
    syslog->fd = fd;
    return true;
}

static enum rb_err use_unix(struct rb_syslog *syslog, const char *path, char *error, size_t cap)
{
    static const int types[] = { SOCK_DGRAM, SOCK_STREAM };
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(addr.sun_path)) {
        snprintf(error, cap, "syslog path %s is too long", path);
        return RB_ERR_ADDRESS;
    }
    snprintf(addr.sun_path, sizeof(addr.sun_path), "%s", path);
    memcpy(&syslog->addr, &addr, sizeof(addr));
    syslog->addr_len = sizeof(addr);
    syslog->local = true;
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        syslog->type = types[i];
        if (connect_socket(syslog, 0)) {
            return RB_OK;
        }
    }
    snprintf(error, cap, "error connecting to syslog %s: %s", path, strerror(errno));
    return RB_ERR_IO;
}

/** "host", "host:port" or "[v6]:port". */
static enum rb_err use_network(struct rb_syslog *syslog, const char *address, char *error,
                               size_t cap)
{
    char host[256], port[16] = "514";
    const char *colon = strrchr(address, ':'), *bracket = strrchr(address, ']');
    size_t host_len = strlen(address);
    if (colon != NULL && (bracket == NULL || colon > bracket)) {
        host_len = (size_t)(colon - address);
        snprintf(port, sizeof(port), "%s", colon + 1);
    }
    if (address[0] == '[' && host_len > 1 && address[host_len - 1] == ']') {
        address++;
        host_len -= 2;
    }
    snprintf(host, sizeof(host), "%.*s", (int)(host_len < 255 ? host_len : 255), address);
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = syslog->type };
    struct addrinfo *found = NULL;
    int result = getaddrinfo(host, port, &hints, &found);
    if (result != 0) {
        snprintf(error, cap, "error connecting to syslog %s:%s: %s", host, port,
                 gai_strerror(result));
        return RB_ERR_ADDRESS;
    }
    enum rb_err err = RB_ERR_IO;
    for (struct addrinfo *at = found; at != NULL && err != RB_OK; at = at->ai_next) {
        memcpy(&syslog->addr, at->ai_addr, at->ai_addrlen);
        syslog->addr_len = at->ai_addrlen;
        err = connect_socket(syslog, 0) ? RB_OK : RB_ERR_IO;
    }
    if (err != RB_OK) {
        snprintf(error, cap, "error connecting to syslog %s:%s: %s", host, port, strerror(errno));
    }
    freeaddrinfo(found);
    return err;
}

enum rb_err rb_syslog_open(const char *target, const char *tag, struct rb_syslog **ret_syslog,
                           char *error, size_t error_cap)
{
    struct rb_syslog *syslog = calloc(1, sizeof(*syslog));
    enum rb_err err;
    if (syslog == NULL) {
        snprintf(error, error_cap, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    syslog->fd = -1;
    snprintf(syslog->tag, sizeof(syslog->tag), "%s", tag);
    if (gethostname(syslog->host, sizeof(syslog->host) - 1) != 0) {
        snprintf(syslog->host, sizeof(syslog->host), "localhost");
    }
    if (target == NULL || target[0] == 0) {
        err = use_unix(syslog, LOCAL_PATH, error, error_cap);
    } else if (strncmp(target, "unix://", 7) == 0) {
        err = use_unix(syslog, target + 7, error, error_cap);
    } else if (strncmp(target, "udp://", 6) == 0 || strncmp(target, "tcp://", 6) == 0) {
        syslog->type = target[0] == 'u' ? SOCK_DGRAM : SOCK_STREAM;
        err = use_network(syslog, target + 6, error, error_cap);
    } else {
        snprintf(error, error_cap, "invalid network type: \"%.*s\"", (int)strcspn(target, ":"),
                 target);
        err = RB_ERR_ADDRESS;
    }
    if (err != RB_OK) {
        rb_syslog_close(syslog);
        return err;
    }
    *ret_syslog = syslog;
    return RB_OK;
}

void rb_syslog_close(struct rb_syslog *syslog)
{
    if (syslog != NULL) {
        if (syslog->fd >= 0) {
            (void)close(syslog->fd);
        }
        free(syslog);
    }
}

static size_t put_head(const struct rb_syslog *syslog, enum rb_log_level level, char *out,
                       size_t cap)
{
    int priority = FACILITY_DAEMON | severity_of(level);
    time_t now = time(NULL);
    struct tm at = { 0 };
    char stamp[64];
    (void)localtime_r(&now, &at);
    if (syslog->local) {
        (void)strftime(stamp, sizeof(stamp), "%b %e %H:%M:%S", &at);
        return (size_t)snprintf(out, cap, "<%d>%s %s[%ld]: ", priority, stamp, syslog->tag,
                                (long)getpid());
    }
    char zone[8];
    (void)strftime(zone, sizeof(zone), "%z", &at);
    size_t len = strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &at);
    if (strcmp(zone, "+0000") == 0) {
        snprintf(stamp + len, sizeof(stamp) - len, "Z");
    } else {
        snprintf(stamp + len, sizeof(stamp) - len, "%.3s:%s", zone, zone + 3);
    }
    return (size_t)snprintf(out, cap, "<%d>%s %s %s[%ld]: ", priority, stamp, syslog->host,
                            syslog->tag, (long)getpid());
}

void rb_syslog_write(struct rb_syslog *syslog, enum rb_log_level level, struct rb_slice message)
{
    char line[LINE_BYTES_MAX + 512];
    size_t len = put_head(syslog, level, line, 480);
    len = len < 480 ? len : 479;
    size_t take = message.len < LINE_BYTES_MAX ? message.len : LINE_BYTES_MAX;
    if (take > 0) {
        memcpy(line + len, message.ptr, take);
    }
    for (size_t i = len; i < len + take; i++) {
        line[i] = line[i] == '\n' || line[i] == '\r' ? ' ' : line[i]; /* one line each */
    }
    len += take;
    line[len++] = '\n';
    if (syslog->fd < 0 &&
        (time(NULL) == syslog->tried_s || !connect_socket(syslog, SOCK_NONBLOCK))) {
        return;
    }
    ssize_t sent = send(syslog->fd, line, len, MSG_DONTWAIT | MSG_NOSIGNAL);
    bool full = sent < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ENOTCONN ||
                             errno == EINTR || errno == ENOBUFS);
    bool lost =
        sent < 0 ? !full && errno != EMSGSIZE && errno != ECONNREFUSED : (size_t)sent != len;
    bool refused_stream = sent < 0 && errno == ECONNREFUSED && syslog->type == SOCK_STREAM;
    if (lost || refused_stream) {
        (void)close(syslog->fd);
        syslog->fd = -1;
    }
}
