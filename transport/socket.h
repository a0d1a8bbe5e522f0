/* socket.h - what the drivers over kernel sockets share: addresses, error numbers, listeners. */
#pragma once

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "ringbus/transport.h"

/** From a positive errno. */
enum rb_err rb_socket_err(int error);
/**
 * A TCP socket of the address' family, with TCP_NODELAY, and the address for bind(2) or connect(2).
 * `type_flags` are SOCK_NONBLOCK or 0. Errors: RB_ERR_ADDRESS, RB_ERR_LIMIT, RB_ERR_MEMORY, RB_ERR_IO.
 */
RB_MUST_CHECK enum rb_err rb_socket_open(const struct rb_addr *addr, int type_flags,
                                         struct sockaddr_in6 *ret_target, socklen_t *ret_len,
                                         int *ret_fd);
/** Family 0 for anything but IPv4 and IPv6. */
void rb_sockaddr_to(const struct sockaddr_storage *from, struct rb_addr *ret_addr);
/** Both ends of a connected socket; false (errno) when the peer is gone already. */
bool rb_socket_ends(int fd, struct rb_addr *ret_peer, struct rb_addr *ret_local);
/** What a connection that died in the backlog, or a firewall, makes accept(2) say: not ours. */
bool rb_socket_accept_passes_by(int error);

/** A socket that listens: on an address, or at a path of the file system. */
struct rb_listen_socket {
    int fd;
    char *unix_path; /* owned; NULL: not a Unix-domain socket */
    dev_t dev;       /* of the socket file we made */
    ino_t ino;
};

/**
 * `type_flags` are SOCK_NONBLOCK or 0. A socket file that nobody listens on is replaced; one that
 * somebody listens on is RB_ERR_IN_USE; anything that is not a socket is left alone
 * (RB_ERR_ADDRESS). The file gets mode 0660 before anybody can connect.
 * Errors: RB_ERR_IN_USE, RB_ERR_ADDRESS, RB_ERR_LIMIT, RB_ERR_MEMORY, RB_ERR_IO.
 */
RB_MUST_CHECK enum rb_err rb_listen_socket_open(const struct rb_listen_options *options,
                                                int type_flags, struct rb_listen_socket *ret_socket,
                                                struct rb_addr *ret_bound);
/** Closes it and removes its file, if the file is still the one we made. */
void rb_listen_socket_close(struct rb_listen_socket *socket);
