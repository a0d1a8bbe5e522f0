/* sockaddr.c - between the kernel's addresses and error numbers and ours.
 *
 * 1. An IPv4 peer of a dual-stack listener (::ffff:a.b.c.d) is shown as IPv4.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>

#include "transport/uring/inside.h"

enum rb_err uring_err(int error)
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

socklen_t uring_sockaddr_from(const struct rb_addr *addr, struct sockaddr_in6 *ret_target)
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

void uring_sockaddr_to(const struct sockaddr_storage *from, struct rb_addr *ret_addr)
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
