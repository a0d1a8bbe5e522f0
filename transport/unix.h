/* unix.h - listening sockets in the file system; for socket.c. */
#pragma once

#include "transport/socket.h"

RB_MUST_CHECK enum rb_err rb_unix_listen(const char *path, int type_flags, int backlog,
                                         struct rb_listen_socket *ret_socket);
/** Removes the file of `socket` if it is still the one we made, and forgets the path. */
void rb_unix_unlink(struct rb_listen_socket *socket);
