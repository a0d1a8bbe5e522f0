/* unix.c - listening sockets in the file system.
 *
 *   lock the folder -> bind -+-> mode 0660 -> listen -> unlock
 *                            `-> taken: connect to it -+-> refused: remove, bind again
 *                                                      `-> answered: RB_ERR_IN_USE
 *
 * 1. Only a socket that refuses connections is removed, never a file of another kind.
 * 2. The lock on the folder (advisory, flock) covers the time between bind and listen, in which a
 *    living socket refuses connections as well: two servers that start at once do not remove each
 *    other's socket. It is a courtesy: where it cannot be had in time, the start goes on without.
 * 3. Nobody can connect before listen(2), so nobody sees the mode that bind(2) made.
 */
#include "transport/unix.h"

#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define SOCKET_MODE 0660
#define LOCK_TRIES 100
#define LOCK_PAUSE_NS 10000000L
#define BIND_TRIES 3

static enum rb_err path_err(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
    case EROFS:
    case EPERM:
    case ELOOP:
    case ENAMETOOLONG:
        return RB_ERR_ADDRESS;
    case ENOSPC:
    case EDQUOT:
        return RB_ERR_LIMIT;
    default:
        return rb_socket_err(error);
    }
}

/* -1 when there is no lock to be had (invariant 2). */
static int lock_folder(const char *path)
{
    char folder[sizeof(((struct sockaddr_un *)NULL)->sun_path)];
    const char *slash = strrchr(path, '/');
    size_t len = slash == NULL ? 0 : (size_t)(slash - path);
    memcpy(folder, path, len);
    folder[len] = '\0';
    const char *name = slash == NULL ? "." : len == 0 ? "/" : folder;
    int fd = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int tries = 0; fd >= 0 && tries < LOCK_TRIES; tries++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) {
            return fd;
        }
        struct timespec pause = { .tv_nsec = LOCK_PAUSE_NS };
        nanosleep(&pause, NULL);
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

/* RB_OK: what stood in the way is gone. */
static enum rb_err remove_stale(const struct sockaddr_un *target)
{
    struct stat found;
    if (lstat(target->sun_path, &found) != 0) {
        return errno == ENOENT ? RB_OK : path_err(errno);
    }
    if (!S_ISSOCK(found.st_mode)) {
        return RB_ERR_ADDRESS; /* invariant 1 */
    }
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return rb_socket_err(errno);
    }
    int error = connect(fd, (const struct sockaddr *)target, sizeof(*target)) == 0 ? 0 : errno;
    close(fd);
    if (error == ENOENT) {
        return RB_OK;
    }
    if (error != ECONNREFUSED) {
        return RB_ERR_IN_USE; /* answered, too busy to answer, or not for us to judge */
    }
    return unlink(target->sun_path) == 0 || errno == ENOENT ? RB_OK : path_err(errno);
}

static enum rb_err bind_path(int fd, const struct sockaddr_un *target)
{
    for (int tries = 0; tries < BIND_TRIES; tries++) {
        if (bind(fd, (const struct sockaddr *)target, sizeof(*target)) == 0) {
            return RB_OK;
        }
        enum rb_err err = errno == EADDRINUSE ? remove_stale(target) : path_err(errno);
        if (err != RB_OK) {
            return err;
        }
    }
    return RB_ERR_IN_USE;
}

static enum rb_err start_listening(struct rb_listen_socket *made, const struct sockaddr_un *target,
                                   int backlog)
{
    enum rb_err err = bind_path(made->fd, target);
    if (err != RB_OK) {
        return err;
    }
    struct stat file;
    if (chmod(target->sun_path, SOCKET_MODE) != 0 || listen(made->fd, backlog) != 0 ||
        lstat(target->sun_path, &file) != 0) {
        err = path_err(errno);
        (void)unlink(target->sun_path);
        return err;
    }
    made->dev = file.st_dev;
    made->ino = file.st_ino;
    return RB_OK;
}

enum rb_err rb_unix_listen(const char *path, int type_flags, int backlog,
                           struct rb_listen_socket *ret_socket)
{
    struct sockaddr_un target = { .sun_family = AF_UNIX };
    size_t len = strlen(path);
    if (len == 0 || len >= sizeof(target.sun_path)) {
        return RB_ERR_ADDRESS;
    }
    memcpy(target.sun_path, path, len);
    struct rb_listen_socket made = { .unix_path = strdup(path) };
    if (made.unix_path == NULL) {
        return RB_ERR_MEMORY;
    }
    made.fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | type_flags, 0);
    enum rb_err err = made.fd < 0 ? rb_socket_err(errno) : RB_OK;
    if (err == RB_OK) {
        int lock = lock_folder(path);
        err = start_listening(&made, &target, backlog);
        if (lock >= 0) {
            close(lock); /* and with it the lock */
        }
    }
    if (err != RB_OK) {
        if (made.fd >= 0) {
            close(made.fd);
        }
        free(made.unix_path);
        return err;
    }
    *ret_socket = made;
    return RB_OK;
}

void rb_unix_unlink(struct rb_listen_socket *socket)
{
    if (socket->unix_path == NULL) {
        return;
    }
    struct stat file;
    if (lstat(socket->unix_path, &file) == 0 && file.st_dev == socket->dev &&
        file.st_ino == socket->ino) {
        (void)unlink(socket->unix_path);
    }
    free(socket->unix_path);
    socket->unix_path = NULL;
}
