/* logfile.c - a log file that is moved away when it has grown.
 *
 * 1. Lines are written with one writev(2) to a descriptor opened for append.
 * 2. A rotation renames the file and opens a new one under the old name; only then is the old descriptor closed. What
 *    cannot be renamed or opened leaves the old file in use, and the limit grows, so that not every line tries again.
 * 3. Only names of the form FILE.YYYY.MM.DD.hh.mm.ss.nnnnnnnnn are ever deleted: those that a rotation gave.
 */
#include "server/logfile.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "ringbus/check.h"

#define PATH_BYTES_MAX 1024
#define SUFFIX ".0000.00.00.00.00.00.000000000"
#define BACKUPS_MAX 4096 /* names looked at in one purge */

struct rb_logfile {
    char path[PATH_BYTES_MAX];
    int fd;
    int64_t size, size_limit, size_next; /* rotate when size passes size_next */
    int64_t max_num;
    const struct rb_log *format;
};

static int open_append(const char *path)
{
    return open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0640);
}

static int64_t size_of(int fd)
{
    struct stat info;
    return fstat(fd, &info) == 0 ? (int64_t)info.st_size : 0;
}

static void write_all(struct rb_logfile *file, struct iovec *parts, int count)
{
    while (count > 0) {
        ssize_t done = writev(file->fd, parts, count);
        if (done < 0 && errno == EINTR) {
            continue;
        }
        if (done <= 0) {
            return; /* a full disk: the line is lost, the server goes on */
        }
        file->size += done;
        while (count > 0 && (size_t)done >= parts->iov_len) {
            done -= (ssize_t)parts->iov_len;
            parts++;
            count--;
        }
        if (count > 0) {
            parts->iov_base = (char *)parts->iov_base + done;
            parts->iov_len -= (size_t)done;
        }
    }
}

/** A line of the rotation itself: local time, CR LF, as nats-server writes them. */
static void write_own(struct rb_logfile *file, const char *message, const char *name)
{
    char line[RB_LOG_HEADER_MAX + PATH_BYTES_MAX * 2 + 64];
    struct rb_log format = *file->format;
    format.utc = false;
    format.color = false;
    size_t len = rb_log_header(&format, RB_LOG_INF, line);
    len += (size_t)snprintf(line + len, sizeof(line) - len, message, name);
    len = len < sizeof(line) - 3 ? len : sizeof(line) - 3;
    memcpy(line + len, "\r\n", 2);
    struct iovec part = { line, len + 2 };
    write_all(file, &part, 1);
}

/* ------------------------------------------------------------------ purging */

/** Is this a name that a rotation of `base` gave? */
static bool is_backup(const char *name, const char *base)
{
    static const char form[] = SUFFIX;
    size_t len = strlen(base);
    if (strncmp(name, base, len) != 0 || strlen(name) != len + sizeof(form) - 1) {
        return false;
    }
    for (size_t i = 0; i < sizeof(form) - 1; i++) {
        char c = name[len + i];
        if (form[i] == '.' ? c != '.' : c < '0' || c > '9') {
            return false;
        }
    }
    return true;
}

static int compare_names(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static uint32_t list_backups(DIR *dir, const char *base, char **names)
{
    uint32_t count = 0;
    for (struct dirent *entry; count < BACKUPS_MAX && (entry = readdir(dir)) != NULL;) {
        if (is_backup(entry->d_name, base) && (names[count] = strdup(entry->d_name)) != NULL) {
            count++;
        }
    }
    qsort(names, count, sizeof(*names), compare_names); /* the time is in the name */
    return count;
}

static void purge(struct rb_logfile *file)
{
    const char *slash = strrchr(file->path, '/');
    const char *base = slash == NULL ? file->path : slash + 1;
    char dir_path[PATH_BYTES_MAX];
    if (file->max_num <= 0) {
        return;
    }
    snprintf(dir_path, sizeof(dir_path), "%.*s", slash == NULL ? 1 : (int)(slash - file->path) + 1,
             slash == NULL ? "." : file->path);
    DIR *dir = opendir(dir_path);
    char **names = calloc(BACKUPS_MAX, sizeof(*names));
    uint32_t count = dir == NULL || names == NULL ? 0 : list_backups(dir, base, names);
    int64_t kept = file->max_num - 1; /* beside the live one */
    for (uint32_t i = 0; i < count; i++) {
        if ((int64_t)(count - i) > kept && unlinkat(dirfd(dir), names[i], 0) == 0) {
            write_own(file, "Purged log file \"%s\"", names[i]);
        }
        free(names[i]);
    }
    free(names);
    if (dir != NULL) {
        closedir(dir);
    }
}

/* ------------------------------------------------------------------ rotating */

static void name_backup(const struct rb_logfile *file, char out[PATH_BYTES_MAX + 64])
{
    struct timespec now = { 0 };
    struct tm at = { 0 };
    (void)clock_gettime(CLOCK_REALTIME, &now);
    (void)localtime_r(&now.tv_sec, &at);
    snprintf(out, PATH_BYTES_MAX + 64, "%s.%04d.%02d.%02d.%02d.%02d.%02d.%09ld", file->path,
             at.tm_year + 1900, at.tm_mon + 1, at.tm_mday, at.tm_hour, at.tm_min, at.tm_sec,
             now.tv_nsec);
}

/** Invariant 2. */
static void put_off(struct rb_logfile *file, const char *what, int error)
{
    char why[PATH_BYTES_MAX];
    file->size_next = file->size + file->size_limit;
    snprintf(why, sizeof(why), "%s: %s", what, strerror(error));
    write_own(file, "Unable to rotate the log file (%s), will try again later", why);
}

static void rotate(struct rb_logfile *file)
{
    char backup[PATH_BYTES_MAX + 64];
    name_backup(file, backup);
    if (access(backup, F_OK) == 0) {
        put_off(file, "rename", EEXIST); /* never over another */
        return;
    }
    if (rename(file->path, backup) != 0) {
        put_off(file, "rename", errno);
        return;
    }
    int fd = open_append(file->path);
    if (fd < 0) {
        int error = errno;
        (void)rename(backup, file->path);
        put_off(file, "open", error);
        return;
    }
    (void)close(file->fd);
    file->fd = fd;
    file->size = size_of(fd);
    file->size_next = file->size_limit;
    write_own(file, "Rotated log, backup saved as \"%s\"", backup);
    purge(file);
}

/* ------------------------------------------------------------------ the file */

static enum rb_err say_open(const char *path, char *error, size_t error_cap)
{
    snprintf(error, error_cap, "open %s: %s", path, strerror(errno));
    if (errno == ENOENT) {
        snprintf(error, error_cap, "open %s: no such file or directory", path);
    }
    return RB_ERR_IO;
}

enum rb_err rb_logfile_open(const struct rb_logfile_options *options, struct rb_logfile **ret_file,
                            char *error, size_t error_cap)
{
    if (strlen(options->path) >= PATH_BYTES_MAX) {
        errno = ENAMETOOLONG;
        return say_open(options->path, error, error_cap);
    }
    struct rb_logfile *file = calloc(1, sizeof(*file));
    if (file == NULL) {
        snprintf(error, error_cap, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    snprintf(file->path, sizeof(file->path), "%s", options->path);
    file->fd = open_append(file->path);
    if (file->fd < 0) {
        free(file);
        return say_open(options->path, error, error_cap);
    }
    file->format = options->format;
    file->size_limit = file->size_next = options->size_limit;
    file->max_num = options->max_num;
    file->size = size_of(file->fd);
    if (file->size_limit > 0 && file->size > file->size_limit) {
        write_own(file, "Rotating logfile...%s", "");
        rotate(file);
    }
    *ret_file = file;
    return RB_OK;
}

void rb_logfile_close(struct rb_logfile *file)
{
    if (file != NULL) {
        (void)close(file->fd);
        free(file);
    }
}

void rb_logfile_write(struct rb_logfile *file, struct rb_slice header, struct rb_slice message)
{
    static const char newline[] = "\n";
    bool ended = message.len > 0 && message.ptr[message.len - 1] == '\n';
    struct iovec parts[] = {
        { (void *)(uintptr_t)header.ptr, header.len },
        { (void *)(uintptr_t)message.ptr, message.len },
        { (void *)(uintptr_t)newline, ended ? 0 : 1 },
    };
    write_all(file, parts, 3);
    if (file->size_limit > 0 && file->size > file->size_next) {
        rotate(file);
    }
}

enum rb_err rb_logfile_reopen(struct rb_logfile *file, char *error, size_t error_cap)
{
    int fd = open_append(file->path);
    if (fd < 0) {
        return say_open(file->path, error, error_cap);
    }
    (void)close(file->fd);
    file->fd = fd;
    file->size = size_of(fd);
    file->size_next = file->size_limit;
    return RB_OK;
}
