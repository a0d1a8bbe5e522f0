/* files.c - pid file and ports file.
 *
 * The ports file is written beside its place and renamed, so that a reader never sees half of it.
 */
#include "server/files.h"

#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define TEXT_BYTES_MAX 65536 /* of a ports file: some thousand addresses */

static enum rb_err say(const char *what, const char *path, char *error, size_t error_cap)
{
    const char *why = errno == ENOENT ? "no such file or directory" : strerror(errno);
    snprintf(error, error_cap, "%s %s: %s", what, path, why);
    return RB_ERR_IO;
}

/** Writes a new file, or over an old one; *ret_what is what failed. */
static bool write_file(const char *path, mode_t mode, const char *text, size_t len,
                       const char **ret_what)
{
    *ret_what = "open";
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode);
    if (fd < 0) {
        return false;
    }
    *ret_what = "write";
    bool ok = true;
    while (ok && len > 0) {
        ssize_t done = write(fd, text, len);
        ok = done > 0 || (done < 0 && errno == EINTR);
        text += done > 0 ? done : 0;
        len -= done > 0 ? (size_t)done : 0;
    }
    int saved = errno;
    if (close(fd) != 0 && ok) {
        return false;
    }
    errno = saved;
    return ok;
}

enum rb_err rb_pid_file_write(const char *path, char *error, size_t error_cap)
{
    char text[16];
    const char *what;
    int len = snprintf(text, sizeof(text), "%ld", (long)getpid());
    if (!write_file(path, 0600, text, (size_t)len, &what)) {
        return say(what, path, error, error_cap);
    }
    return RB_OK;
}

/* ------------------------------------------------------------------ ports */

struct text {
    char *bytes;
    size_t len;
    bool full;
};

static void add(struct text *text, const char *more)
{
    size_t len = strlen(more);
    if (text->len + len >= TEXT_BYTES_MAX) {
        text->full = true;
        return;
    }
    memcpy(text->bytes + text->len, more, len + 1);
    text->len += len;
}

static void add_url(struct text *text, const struct rb_port *port, const struct rb_addr *addr,
                    bool first)
{
    static const char *const schemes[RB_PORT_KINDS][2] = {
        [RB_PORT_NATS] = { "nats", "tls" },    [RB_PORT_MONITORING] = { "http", "https" },
        [RB_PORT_CLUSTER] = { "nats", "tls" }, [RB_PORT_PROFILE] = { "http", "https" },
        [RB_PORT_WEBSOCKET] = { "ws", "wss" },
    };
    struct rb_addr shown = *addr;
    char address[RB_ADDR_TEXT_MAX], url[RB_ADDR_TEXT_MAX + 32];
    shown.scope = 0;
    snprintf(url, sizeof(url), "%s\"%s://%s\"", first ? "" : ",",
             schemes[port->kind][port->tls ? 1 : 0], rb_addr_format(&shown, address));
    add(text, url);
}

static bool is_any(const struct rb_addr *addr)
{
    static const uint8_t zero[16];
    return memcmp(addr->ip, zero, addr->family == 6 ? 16 : 4) == 0 && addr->family != 0;
}

/** The address of an interface with the listener's port; false when the listener does not take it. */
static bool take_interface(const struct rb_port *port, const struct ifaddrs *interface,
                           struct rb_addr *ret_addr)
{
    if (interface->ifa_addr == NULL || (interface->ifa_flags & IFF_UP) == 0) {
        return false;
    }
    int family = interface->ifa_addr->sa_family;
    *ret_addr = (struct rb_addr){ .port = port->addr.port };
    if (family == AF_INET) { /* a socket for all of IPv6 takes IPv4 too */
        struct sockaddr_in v4;
        memcpy(&v4, interface->ifa_addr, sizeof(v4));
        ret_addr->family = 4;
        memcpy(ret_addr->ip, &v4.sin_addr, 4);
        return true;
    }
    if (family == AF_INET6 && (port->addr.family == 6 || port->both)) {
        struct sockaddr_in6 v6;
        memcpy(&v6, interface->ifa_addr, sizeof(v6));
        ret_addr->family = 6;
        memcpy(ret_addr->ip, &v6.sin6_addr, 16);
        return true;
    }
    return false;
}

static void add_port(struct text *text, const struct rb_port *port, const struct ifaddrs *all,
                     bool *first)
{
    struct rb_addr addr;
    if (!is_any(&port->addr)) {
        add_url(text, port, &port->addr, *first);
        *first = false;
        return;
    }
    for (; all != NULL; all = all->ifa_next) {
        if (take_interface(port, all, &addr)) {
            add_url(text, port, &addr, *first);
            *first = false;
        }
    }
}

static void add_ports(struct text *text, const struct rb_port *ports, size_t count,
                      const struct ifaddrs *all)
{
    static const char *const names[RB_PORT_KINDS] = {
        [RB_PORT_NATS] = "nats",           [RB_PORT_MONITORING] = "monitoring",
        [RB_PORT_CLUSTER] = "cluster",     [RB_PORT_PROFILE] = "profile",
        [RB_PORT_WEBSOCKET] = "websocket",
    };
    bool first_kind = true;
    add(text, "{");
    for (size_t kind = 0; kind < RB_PORT_KINDS; kind++) {
        bool first = true;
        for (size_t i = 0; i < count; i++) {
            if (ports[i].kind != kind) {
                continue;
            }
            if (first) {
                add(text, first_kind ? "\"" : ",\"");
                add(text, names[kind]);
                add(text, "\":[");
                first_kind = false;
            }
            bool none = first;
            add_port(text, &ports[i], all, &none);
            first = false;
        }
        add(text, first ? "" : "]");
    }
    add(text, "}");
}

enum rb_err rb_ports_file_write(const char *dir, const char *program, const struct rb_port *ports,
                                size_t port_count, char ret_path[RB_PORTS_PATH_MAX], char *error,
                                size_t error_cap)
{
    char path[RB_PORTS_PATH_MAX], temporary[RB_PORTS_PATH_MAX + 8];
    const char *what;
    struct text text = { .bytes = malloc(TEXT_BYTES_MAX) };
    struct ifaddrs *all = NULL;
    if (text.bytes == NULL) {
        snprintf(error, error_cap, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    int len = snprintf(path, sizeof(path), "%s/%s_%ld.ports", dir, program, (long)getpid());
    bool ok = len > 0 && (size_t)len < sizeof(path);
    if (!ok) {
        errno = ENAMETOOLONG;
    }
    ok = ok && getifaddrs(&all) == 0;
    if (ok) {
        add_ports(&text, ports, port_count, all);
        freeifaddrs(all);
        snprintf(temporary, sizeof(temporary), "%s.tmp", path);
        ok = !text.full && write_file(temporary, 0640, text.bytes, text.len, &what);
        if (ok && rename(temporary, path) != 0) {
            int saved = errno;
            (void)unlink(temporary);
            errno = saved;
            ok = false;
        }
    }
    free(text.bytes);
    if (!ok) {
        return say("open", path, error, error_cap);
    }
    snprintf(ret_path, RB_PORTS_PATH_MAX, "%s", path);
    return RB_OK;
}

void rb_ports_file_remove(const char *path)
{
    if (path[0] != 0) {
        (void)unlink(path);
    }
}
