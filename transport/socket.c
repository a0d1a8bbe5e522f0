/* socket.c - between the kernel's addresses and error numbers and ours; listening sockets.
 *
 * 1. An IPv4 peer of a dual-stack listener (::ffff:a.b.c.d) is shown as IPv4.
 * 2. Accepted sockets inherit TCP_NODELAY from the listener, which spares a system call for each.
 */
#include "transport/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <unistd.h>

#include "transport/unix.h"

enum rb_err rb_socket_err(int error)
{
    switch (error) {
    case 0:
        return RB_OK;
    case ECONNRESET:
    case ECONNREFUSED:
    case ECONNABORTED:
    case ENOTCONN:
    case ESHUTDOWN:
    case EPIPE:
        return RB_ERR_RESET;
    case ECANCELED:
        return RB_ERR_CANCELED;
    case ETIMEDOUT:
        return RB_ERR_TIMEOUT;
    case EADDRINUSE:
        return RB_ERR_IN_USE;
    case EADDRNOTAVAIL:
    case EAFNOSUPPORT:
    case EACCES:
    case EHOSTUNREACH:
    case ENETUNREACH:
        return RB_ERR_ADDRESS;
    case EMFILE:
    case ENFILE:
    case ENOBUFS:
        return RB_ERR_LIMIT;
    case ENOMEM:
        return RB_ERR_MEMORY;
    default:
        return RB_ERR_IO;
    }
}

/* The length of the address, 0 when its family is not one of the network's. */
static socklen_t sockaddr_from(const struct rb_addr *addr, struct sockaddr_in6 *ret_target)
{
    memset(ret_target, 0, sizeof(*ret_target));
    if (addr->family == 4) {
        struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(addr->port) };
        memcpy(&in.sin_addr, addr->ip, 4);
        memcpy(ret_target, &in, sizeof(in));
        return sizeof(in);
    }
    if (addr->family == 6) {
        ret_target->sin6_family = AF_INET6;
        ret_target->sin6_port = htons(addr->port);
        ret_target->sin6_scope_id = addr->scope;
        memcpy(&ret_target->sin6_addr, addr->ip, 16);
        return sizeof(*ret_target);
    }
    return 0;
}

enum rb_err rb_socket_open(const struct rb_addr *addr, int type_flags,
                           struct sockaddr_in6 *ret_target, socklen_t *ret_len, int *ret_fd)
{
    *ret_len = sockaddr_from(addr, ret_target);
    if (*ret_len == 0) {
        return RB_ERR_ADDRESS;
    }
    *ret_fd = socket(ret_target->sin6_family, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    if (*ret_fd < 0) {
        return rb_socket_err(errno);
    }
    int on = 1;
    setsockopt(*ret_fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)); /* invariant 2 */
    return RB_OK;
}

void rb_sockaddr_to(const struct sockaddr_storage *from, struct rb_addr *ret_addr)
{
    *ret_addr = (struct rb_addr){ 0 };
    if (from->ss_family == AF_INET) {
        struct sockaddr_in in;
        memcpy(&in, from, sizeof(in));
        ret_addr->family = 4;
        ret_addr->port = ntohs(in.sin_port);
        memcpy(ret_addr->ip, &in.sin_addr, 4);
    } else if (from->ss_family == AF_INET6) {
        struct sockaddr_in6 in6;
        memcpy(&in6, from, sizeof(in6));
        ret_addr->port = ntohs(in6.sin6_port);
        if (IN6_IS_ADDR_V4MAPPED(&in6.sin6_addr)) {
            ret_addr->family = 4; /* invariant 1 */
            memcpy(ret_addr->ip, in6.sin6_addr.s6_addr + 12, 4);
        } else {
            ret_addr->family = 6;
            ret_addr->scope = in6.sin6_scope_id;
            memcpy(ret_addr->ip, &in6.sin6_addr, 16);
        }
    }
}

bool rb_socket_ends(int fd, struct rb_addr *ret_peer, struct rb_addr *ret_local)
{
    struct sockaddr_storage peer, local;
    socklen_t peer_len = sizeof(peer), local_len = sizeof(local);
    if (getpeername(fd, (struct sockaddr *)&peer, &peer_len) != 0 ||
        getsockname(fd, (struct sockaddr *)&local, &local_len) != 0) {
        return false;
    }
    rb_sockaddr_to(&peer, ret_peer);
    rb_sockaddr_to(&local, ret_local);
    return true;
}

bool rb_socket_accept_passes_by(int error)
{
    switch (error) {
    case ECONNABORTED:
    case EINTR:
    case EAGAIN:
    case EPROTO:
    case EPERM:
    case ENETDOWN:
    case ENETUNREACH:
    case EHOSTDOWN:
    case EHOSTUNREACH:
    case ECANCELED:
        return true;
    default:
        return false;
    }
}

static enum rb_err open_inet(const struct rb_listen_options *options, int type_flags, int backlog,
                             int *ret_fd, struct rb_addr *ret_bound)
{
    struct sockaddr_in6 target;
    socklen_t len;
    int fd;
    enum rb_err err = rb_socket_open(&options->addr, type_flags, &target, &len, &fd);
    if (err != RB_OK) {
        return err;
    }
    int on = 1, off = 0;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (options->addr.family == 6 && IN6_IS_ADDR_UNSPECIFIED(&target.sin6_addr)) {
        setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof(off));
    }
    struct sockaddr_storage bound;
    socklen_t bound_len = sizeof(bound);
    if (bind(fd, (struct sockaddr *)&target, len) != 0 || listen(fd, backlog) != 0 ||
        getsockname(fd, (struct sockaddr *)&bound, &bound_len) != 0) {
        err = rb_socket_err(errno);
        close(fd);
        return err;
    }
    rb_sockaddr_to(&bound, ret_bound);
    *ret_fd = fd;
    return RB_OK;
}

enum rb_err rb_listen_socket_open(const struct rb_listen_options *options, int type_flags,
                                  struct rb_listen_socket *ret_socket, struct rb_addr *ret_bound)
{
    int backlog = options->backlog == 0 ? SOMAXCONN : (int)options->backlog;
    if (options->unix_path == NULL) {
        struct rb_listen_socket plain = { .fd = -1 };
        enum rb_err err = open_inet(options, type_flags, backlog, &plain.fd, ret_bound);
        if (err == RB_OK) {
            *ret_socket = plain;
        }
        return err;
    }
    enum rb_err err = rb_unix_listen(options->unix_path, type_flags, backlog, ret_socket);
    if (err == RB_OK) {
        *ret_bound = (struct rb_addr){ 0 };
    }
    return err;
}

void rb_listen_socket_close(struct rb_listen_socket *socket)
{
    rb_unix_unlink(socket);
    if (socket->fd >= 0) {
        close(socket->fd);
        socket->fd = -1;
    }
}
