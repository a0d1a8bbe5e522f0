/* file.c - see file.h. disk_run is the one place that says what each operation does to a file system.
 *
 * 1. A helper thread touches the operation, its file's descriptor and the directory's descriptor, nothing else of the driver.
 * 2. Open files are known to the driver (base->files) only once their operation has come home.
 */
#include "storage/disk/file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ringbus/check.h"

#define ZERO_BYTES (4u << 20)
#define FILE_MODE 0640
#define DIRECTORY_MODE 0750

enum rb_err rb_disk_err(int error)
{
    switch (error) {
    case 0:
        return RB_OK;
    case ENOENT:
        return RB_ERR_MISSING;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        return RB_ERR_SPACE;
    case EMFILE:
    case ENFILE:
        return RB_ERR_LIMIT;
    case ENOMEM:
        return RB_ERR_MEMORY;
    default:
        return RB_ERR_IO;
    }
}

/* ---- blocking calls ---- */

static enum rb_err write_all(int fd, const uint8_t *bytes, size_t len, uint64_t offset)
{
    while (len > 0) {
        ssize_t count = pwrite(fd, bytes, len, (off_t)offset);
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count <= 0) {
            return count == 0 ? RB_ERR_IO : rb_disk_err(errno);
        }
        bytes += count;
        len -= (size_t)count;
        offset += (uint64_t)count;
    }
    return RB_OK;
}

static enum rb_err run_read(struct rb_disk_op *op)
{
    op->size = 0;
    while (op->size < op->len) {
        ssize_t count = pread(op->file->fd, op->bytes + op->size, op->len - op->size,
                              (off_t)(op->offset + op->size));
        if (count < 0 && errno == EINTR) {
            continue;
        }
        if (count < 0) {
            return rb_disk_err(errno);
        }
        if (count == 0) {
            break;
        }
        op->size += (uint64_t)count;
    }
    return RB_OK;
}

static enum rb_err run_sync(int fd)
{
    return fdatasync(fd) == 0 ? RB_OK : rb_disk_err(errno);
}

static enum rb_err run_open(struct disk_base *base, struct rb_disk_op *op)
{
    int flags = O_RDWR | O_CLOEXEC | O_NOFOLLOW | base->open_flags;
    bool durable = (op->flags & RB_DISK_DURABLE) != 0;
    struct stat stat;
    flags |= (op->flags & RB_DISK_CREATE) != 0 ? O_CREAT : 0;
    flags |= durable ? base->durable_open_flags : 0;
    int fd = openat(base->root_fd, op->name, flags, FILE_MODE);
    if (fd < 0) {
        return rb_disk_err(errno);
    }
    struct rb_disk_file *file = calloc(1, sizeof(*file));
    if (file == NULL || fstat(fd, &stat) != 0 || !S_ISREG(stat.st_mode)) {
        enum rb_err err = file == NULL ? RB_ERR_MEMORY : RB_ERR_IO;
        free(file);
        close(fd);
        return err;
    }
    file->fd = fd;
    file->durable = durable;
    op->file = file;
    op->size = (uint64_t)stat.st_size;
    return RB_OK;
}

/* Zeroes are written, not only promised: later writes inside the file then change no metadata, whose journal would be part
 * of every durable write. */
static enum rb_err write_zeroes(int fd, uint64_t size)
{
    void *zeroes = NULL;
    size_t piece = size < ZERO_BYTES ? (size_t)size : ZERO_BYTES;
    if (posix_memalign(&zeroes, RB_DISK_ALIGN, piece) != 0) {
        return RB_ERR_MEMORY;
    }
    memset(zeroes, 0, piece);
    enum rb_err err = RB_OK;
    for (uint64_t at = 0; at < size && err == RB_OK; at += piece) {
        err = write_all(fd, zeroes, size - at < piece ? (size_t)(size - at) : piece, at);
    }
    free(zeroes);
    return err;
}

static enum rb_err run_preallocate(struct rb_disk_op *op)
{
    int fd = op->file->fd;
    if (ftruncate(fd, 0) != 0) {
        return rb_disk_err(errno);
    }
    if (fallocate(fd, 0, 0, (off_t)op->size) != 0 && errno != EOPNOTSUPP) {
        enum rb_err err = rb_disk_err(errno);
        return ftruncate(fd, 0) == 0 ? err : RB_ERR_IO;
    }
    enum rb_err err = write_zeroes(fd, op->size);
    err = err == RB_OK && fsync(fd) != 0 ? rb_disk_err(errno) : err;
    if (err != RB_OK && ftruncate(fd, 0) != 0) {
        return RB_ERR_IO;
    }
    return err;
}

static int open_directory(struct disk_base *base, const char *name)
{
    return openat(base->root_fd, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
}

static enum rb_err run_make_directory(struct disk_base *base, struct rb_disk_op *op)
{
    if (mkdirat(base->root_fd, op->name, DIRECTORY_MODE) == 0) {
        return RB_OK;
    }
    if (errno != EEXIST) {
        return rb_disk_err(errno);
    }
    int fd = open_directory(base, op->name);
    if (fd < 0) {
        return RB_ERR_IO;
    }
    close(fd);
    return RB_OK;
}

static enum rb_err run_sync_directory(struct disk_base *base, struct rb_disk_op *op)
{
    int fd = open_directory(base, op->name);
    if (fd < 0) {
        return rb_disk_err(errno);
    }
    enum rb_err err = fsync(fd) == 0 ? RB_OK : rb_disk_err(errno);
    close(fd);
    return err;
}

static int by_text(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Sorts `count` names that stand in `bytes`. */
static enum rb_err sort_names(struct rb_disk_op *op, uint32_t count)
{
    char *copy = malloc(op->size + 1);
    const char **names = malloc((count + 1) * sizeof(*names));
    if (copy == NULL || names == NULL) {
        free(copy);
        free(names);
        return RB_ERR_MEMORY;
    }
    memcpy(copy, op->bytes, op->size);
    const char *at = copy;
    for (uint32_t i = 0; i < count; i++) {
        names[i] = at;
        at += strlen(at) + 1;
    }
    qsort(names, count, sizeof(*names), by_text);
    uint8_t *out = op->bytes;
    for (uint32_t i = 0; i < count; i++) {
        size_t len = strlen(names[i]) + 1;
        memcpy(out, names[i], len);
        out += len;
    }
    free(copy);
    free(names);
    return RB_OK;
}

static enum rb_err run_list(struct disk_base *base, struct rb_disk_op *op)
{
    int fd = open_directory(base, op->name);
    if (fd < 0) {
        return rb_disk_err(errno);
    }
    DIR *directory = fdopendir(fd);
    if (directory == NULL) {
        close(fd);
        return RB_ERR_MEMORY;
    }
    uint32_t count = 0;
    struct dirent *entry;
    enum rb_err err = RB_OK;
    op->size = 0;
    while (err == RB_OK && (errno = 0, entry = readdir(directory)) != NULL) {
        size_t len = strlen(entry->d_name) + 1;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        if (op->size + len > op->len) {
            err = RB_ERR_FULL;
            break;
        }
        memcpy(op->bytes + op->size, entry->d_name, len);
        op->size += len;
        count++;
    }
    err = err == RB_OK && errno != 0 ? rb_disk_err(errno) : err;
    closedir(directory);
    return err == RB_OK ? sort_names(op, count) : err;
}

static enum rb_err run_space(struct disk_base *base, struct rb_disk_op *op)
{
    struct statvfs space;
    if (fstatvfs(base->root_fd, &space) != 0) {
        return rb_disk_err(errno);
    }
    op->size = (uint64_t)space.f_bavail * space.f_frsize;
    return RB_OK;
}

static enum rb_err run_write(struct disk_base *base, struct rb_disk_op *op)
{
    enum rb_err err = write_all(op->file->fd, op->bytes, op->len, op->offset);
    return err == RB_OK && op->file->durable && base->sync_after_write ? run_sync(op->file->fd)
                                                                       : err;
}

static enum rb_err disk_run(struct disk_base *base, struct rb_disk_op *op)
{
    switch (op->kind) {
    case RB_DISK_OPEN:
        return run_open(base, op);
    case RB_DISK_READ:
        return run_read(op);
    case RB_DISK_WRITE:
        return run_write(base, op);
    case RB_DISK_SYNC:
        return run_sync(op->file->fd);
    case RB_DISK_PREALLOCATE:
        return run_preallocate(op);
    case RB_DISK_MAKE_DIRECTORY:
        return run_make_directory(base, op);
    case RB_DISK_RENAME:
        return renameat(base->root_fd, op->name, base->root_fd, op->name_to) == 0
                   ? RB_OK
                   : rb_disk_err(errno);
    case RB_DISK_REMOVE:
        return unlinkat(base->root_fd, op->name, 0) == 0 ? RB_OK : rb_disk_err(errno);
    case RB_DISK_REMOVE_DIRECTORY:
        return unlinkat(base->root_fd, op->name, AT_REMOVEDIR) == 0 ? RB_OK : rb_disk_err(errno);
    case RB_DISK_SYNC_DIRECTORY:
        return run_sync_directory(base, op);
    case RB_DISK_LIST:
        return run_list(base, op);
    case RB_DISK_SPACE:
        return run_space(base, op);
    }
    rb_unreachable("every kind is handled above");
}

/* ---- the owner's side ---- */

static bool uses_file(enum rb_disk_kind kind)
{
    return kind == RB_DISK_READ || kind == RB_DISK_WRITE || kind == RB_DISK_SYNC ||
           kind == RB_DISK_PREALLOCATE;
}

enum rb_err rb_disk_base_init(struct disk_base *base, const char *path, char why[128])
{
    rb_list_init(&base->files);
    if (mkdir(path, DIRECTORY_MODE) != 0 && errno != EEXIST) {
        snprintf(why, 128, "cannot make the directory: %s", strerror(errno));
        return rb_disk_err(errno);
    }
    base->root_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (base->root_fd < 0) {
        snprintf(why, 128, "cannot open the directory: %s", strerror(errno));
        return rb_disk_err(errno);
    }
    return RB_OK;
}

void rb_disk_file_close(struct disk_base *base, struct rb_disk_file *file)
{
    rb_assert(file->op_count == 0);
    rb_list_remove(&file->link);
    close(file->fd);
    free(file);
}

void rb_disk_base_deinit(struct disk_base *base)
{
    while (!rb_list_empty(&base->files)) {
        rb_disk_file_close(base, RB_CONTAINER(base->files.next, struct rb_disk_file, link));
    }
    close(base->root_fd);
}

bool rb_disk_direct_works(struct disk_base *base, char why[128])
{
    const char *name = ".direct-probe";
    void *block = NULL;
    int fd =
        openat(base->root_fd, name, O_RDWR | O_CREAT | O_CLOEXEC | O_DIRECT | O_DSYNC, FILE_MODE);
    if (fd < 0) {
        snprintf(why, 128, "no direct writes here: %s", strerror(errno));
        return false;
    }
    bool works = posix_memalign(&block, RB_DISK_ALIGN, RB_DISK_ALIGN) == 0;
    if (works) {
        memset(block, 0, RB_DISK_ALIGN);
        works = pwrite(fd, block, RB_DISK_ALIGN, 0) == (ssize_t)RB_DISK_ALIGN;
        if (!works) {
            snprintf(why, 128, "direct writes of %u bytes fail: %s", RB_DISK_ALIGN,
                     strerror(errno));
        }
    }
    free(block);
    close(fd);
    (void)unlinkat(base->root_fd, name, 0);
    return works;
}

enum rb_err rb_disk_begin(struct disk_base *base, struct rb_disk_op *op)
{
    rb_assert(!op->in_flight);
    if (op->kind == RB_DISK_READ || op->kind == RB_DISK_WRITE) {
        rb_assert(op->offset % RB_DISK_ALIGN == 0 && op->len % RB_DISK_ALIGN == 0 && op->len > 0);
        rb_assert((uintptr_t)op->bytes % RB_DISK_ALIGN == 0 && op->len <= RB_DISK_IO_BYTES_MAX);
    }
    if (base->op_count == base->op_max) {
        return RB_ERR_FULL;
    }
    base->op_count++;
    if (uses_file(op->kind)) {
        op->file->op_count++;
    }
    op->in_flight = true;
    return RB_OK;
}

void rb_disk_end(struct disk_base *base, struct rb_disk_op *op, enum rb_err err)
{
    rb_assert(op->in_flight && base->op_count > 0);
    op->err = err;
    op->next = NULL;
    if (uses_file(op->kind)) {
        op->file->op_count--;
    } else if (op->kind == RB_DISK_OPEN && err == RB_OK) {
        rb_list_append(&base->files, &op->file->link);
    }
    if (base->done_first == NULL) {
        base->done_first = op;
    } else {
        base->done_last->next = op;
    }
    base->done_last = op;
}

uint32_t rb_disk_give(struct disk_base *base, struct rb_disk_op ***ret_ops)
{
    uint32_t count = 0;
    while (count < RB_DISK_DONE_MAX && base->done_first != NULL) {
        struct rb_disk_op *op = base->done_first;
        base->done_first = op->next;
        op->in_flight = false;
        base->op_count--;
        base->given[count++] = op;
    }
    *ret_ops = base->given;
    return count;
}

static struct rb_disk_op *op_of(struct rb_job *job)
{
    return (struct rb_disk_op *)((char *)job - offsetof(struct rb_disk_op, driver));
}

static void run_job(struct rb_job *job)
{
    struct rb_disk_op *op = op_of(job);
    op->err = disk_run(((struct disk_job *)job)->disk, op);
}

enum rb_err rb_disk_submit_job(struct disk_base *base, struct rb_work *work, struct rb_disk_op *op)
{
    enum rb_err err = rb_disk_begin(base, op);
    if (err != RB_OK) {
        return err;
    }
    struct disk_job *job = (struct disk_job *)(void *)op->driver;
    *job = (struct disk_job){ .job = { .run = run_job }, .disk = base };
    bool accepted = rb_work_submit(work, &job->job);
    rb_assert(accepted); /* op_max is far below RB_WORK_QUEUE_MAX, and the pool is stopped last */
    return RB_OK;
}

void rb_disk_take_jobs(struct disk_base *base, struct rb_work *work)
{
    struct rb_job *job;
    while ((job = rb_work_done(work, 0)) != NULL) {
        struct rb_disk_op *op = op_of(job);
        rb_disk_end(base, op, op->err);
    }
}
