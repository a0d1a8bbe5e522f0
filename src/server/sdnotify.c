/* sdnotify.c - one datagram per message, to the socket the service manager named.
 *
 *   READY=1\nSTATUS=serving on 0.0.0.0:4222\n
 *
 * 1. A socket per message: nothing to keep, nothing to close at the end, and a manager that was
 *    restarted is found again. There are a handful of messages in a server's life.
 * 2. A status comes from anywhere (names, addresses): a line break in it would be read as a further
 *    assignment, so control bytes become blanks.
 * 3. No call waits longer than RB_SDNOTIFY_WAIT_MS.
 */
#include "server/sdnotify.h"

#include <errno.h>
#include <stdio.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "ringbus/check.h"

#define MESSAGE_MAX (RB_SDNOTIFY_STATUS_MAX + 64)

/* "/run/x" is a path, "@x" a name in the abstract namespace, where a NUL stands for the '@'. */
static enum rb_err parse_name(const char *name, struct sockaddr_un *ret_addr, socklen_t *ret_len)
{
    struct sockaddr_un addr = { .sun_family = AF_UNIX };
    size_t len = strlen(name);
    if (name[0] != '/' && name[0] != '@') {
        return strchr(name, ':') != NULL ? RB_ERR_UNSUPPORTED : RB_ERR_INVALID; /* "vsock:2:5" */
    }
    /* a path is sent with its NUL, an abstract name ends where its length says */
    size_t size = name[0] == '/' ? len + 1 : len;
    if (len < 2 || size > sizeof(addr.sun_path)) {
        return RB_ERR_INVALID;
    }
    memcpy(addr.sun_path, name, size);
    if (name[0] == '@') {
        addr.sun_path[0] = '\0';
    }
    *ret_addr = addr;
    *ret_len = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + size);
    return RB_OK;
}

static enum rb_err err_of(int number)
{
    switch (number) {
    case ENOENT:
    case ECONNREFUSED:
    case EACCES:
    case EPERM:
    case ENOTDIR:
    case EPROTOTYPE:
        return RB_ERR_ADDRESS;
    case EAGAIN:
        return RB_ERR_TIMEOUT;
    case EMFILE:
    case ENFILE:
        return RB_ERR_LIMIT;
    case ENOMEM:
        return RB_ERR_MEMORY;
    default:
        return RB_ERR_IO;
    }
}

static enum rb_err send_message(const char *name, const uint8_t *message, size_t len)
{
    struct sockaddr_un addr;
    socklen_t addr_len;
    if (name == NULL || name[0] == '\0') {
        return RB_OK;
    }
    enum rb_err err = parse_name(name, &addr, &addr_len);
    if (err != RB_OK) {
        return err;
    }
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return err_of(errno);
    }
    struct timeval wait = { .tv_sec = RB_SDNOTIFY_WAIT_MS / 1000,
                            .tv_usec = RB_SDNOTIFY_WAIT_MS % 1000 * 1000 };
    ssize_t sent = setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &wait, sizeof(wait));
    while (sent == 0) {
        sent = sendto(fd, message, len, MSG_NOSIGNAL, (struct sockaddr *)&addr, addr_len);
        if (sent < 0 && errno == EINTR) {
            sent = 0;
        }
    }
    err = sent < 0 ? err_of(errno) : RB_OK;
    (void)close(fd);
    return err;
}

/* `state` is an assignment with its line end, or empty; STATUS= follows unless `status` is empty. */
static enum rb_err notify(const char *name, struct rb_slice state, struct rb_slice status)
{
    uint8_t message[MESSAGE_MAX];
    struct rb_writer writer = rb_writer_over(message, sizeof(message));
    rb_write_slice(&writer, state);
    if (status.len != 0) {
        size_t len = status.len < RB_SDNOTIFY_STATUS_MAX ? status.len : RB_SDNOTIFY_STATUS_MAX;
        rb_write_slice(&writer, RB_S("STATUS="));
        for (size_t i = 0; i < len; i++) {
            uint8_t c = status.ptr[i];
            rb_write_u8(&writer, c < ' ' || c == 0x7f ? ' ' : c);
        }
        rb_write_slice(&writer, RB_S("\n"));
    }
    rb_assert(writer.ok);
    return send_message(name, message, rb_writer_len(&writer));
}

enum rb_err rb_sdnotify_ready(const char *socket_name, struct rb_slice status)
{
    return notify(socket_name, RB_S("READY=1\n"), status);
}

enum rb_err rb_sdnotify_reloading(const char *socket_name, uint64_t monotonic_usec)
{
    char text[64];
    int len = snprintf(text, sizeof(text), "RELOADING=1\nMONOTONIC_USEC=%llu\n",
                       (unsigned long long)monotonic_usec);
    rb_assert(len > 0 && (size_t)len < sizeof(text));
    return notify(socket_name, rb_slice_of(text, (size_t)len), rb_slice_of(NULL, 0));
}

enum rb_err rb_sdnotify_stopping(const char *socket_name, struct rb_slice status)
{
    return notify(socket_name, RB_S("STOPPING=1\n"), status);
}

enum rb_err rb_sdnotify_status(const char *socket_name, struct rb_slice status)
{
    /* an empty status takes the last one back */
    return status.len == 0 ? notify(socket_name, RB_S("STATUS=\n"), status)
                           : notify(socket_name, rb_slice_of(NULL, 0), status);
}

enum rb_err rb_sdnotify_watchdog(const char *socket_name)
{
    return notify(socket_name, RB_S("WATCHDOG=1\n"), rb_slice_of(NULL, 0));
}

/* Decimal digits only, above 0; strtoull() alone would take blanks and signs. */
static bool parse_number(const char *text, uint64_t *ret_number)
{
    char *end;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    errno = 0;
    unsigned long long number = strtoull(text, &end, 10);
    *ret_number = number;
    return *end == '\0' && errno == 0 && number != 0;
}

enum rb_err rb_sdnotify_watchdog_usec(const char *usec, const char *pid, pid_t own,
                                      uint64_t *ret_usec)
{
    uint64_t interval, watched;
    if (usec == NULL || usec[0] == '\0') {
        *ret_usec = 0;
        return RB_OK;
    }
    if (!parse_number(usec, &interval)) {
        return RB_ERR_INVALID;
    }
    if (pid != NULL && pid[0] != '\0') {
        if (!parse_number(pid, &watched)) {
            return RB_ERR_INVALID;
        }
        if (watched != (uint64_t)own) {
            interval = 0;
        }
    }
    *ret_usec = interval;
    return RB_OK;
}
