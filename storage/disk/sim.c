/* sim.c - the simulated disk: operations complete in virtual time, and a power cut keeps what a real one must keep.
 *
 *   names (now) ---- names_stable + a journal of changes      inode: bytes (now), stable (what a cut keeps)
 *
 * 1. An operation takes effect at its completion. A write in flight at a cut has changed any of its sectors.
 * 2. `bytes` is what reads see. `stable` follows at once for durable files, at sync() for others; at a cut each sector in
 *    which they differ is old or new.
 * 3. Changes of names wait in `journal` until their directory is synced; a cut keeps a prefix of what waits.
 * 4. All randomness comes from one generator, so one seed and one order of calls give one history.
 */
#include "storage/disk/sim.h"

#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"

#define SECTOR 512u
#define FILES_MAX 512
#define OPEN_MAX 512
#define OP_MAX_DEFAULT 1024
#define KINDS (RB_DISK_SPACE + 1)

/* op->driver */
enum { AT_DUE, AT_ORDER, AT_FAULT, AT_STUCK };

struct inode {
    uint8_t *bytes, *stable;
    uint64_t size, stable_size, cap;
    bool directory;
    uint32_t uses; /* names, stable names, journal entries and open files */
};

struct name {
    char text[RB_DISK_NAME_MAX + 1];
    struct inode *inode;
};

struct names {
    struct name item[FILES_MAX];
    uint32_t count;
};

struct change { /* inode NULL: the name is gone */
    char text[RB_DISK_NAME_MAX + 1];
    struct inode *inode;
    bool joined; /* with the one before: a rename happens whole or not */
};

struct rb_disk_file {
    struct inode *inode; /* NULL: this place is free */
    bool durable;
    uint32_t op_count;
};

struct sim_disk {
    struct rb_disk base;
    struct rb_sim_disk_options options;
    struct rb_env draw;
    struct names now, stable;
    struct change *journal;
    uint32_t journal_count, journal_cap;
    struct rb_disk_file open[OPEN_MAX];
    struct rb_disk_op **ops;
    uint32_t op_count;
    uint64_t order;
    bool held;
    enum rb_err fail_next[KINDS];
    struct rb_disk_op *done[RB_DISK_DONE_MAX];
};

static struct sim_disk *sim_of(struct rb_disk *disk)
{
    return (struct sim_disk *)disk;
}

static bool chance(struct sim_disk *d, uint32_t permille)
{
    return permille > 0 && rb_env_below(&d->draw, 1000) < permille;
}

static bool coin(struct sim_disk *d)
{
    return (rb_env_random(&d->draw) & 1) != 0;
}

/* ---- inodes and names ---- */

static void drop_inode(struct inode *inode)
{
    rb_assert(inode->uses > 0);
    if (--inode->uses == 0) {
        free(inode->bytes);
        free(inode->stable);
        free(inode);
    }
}

static struct inode *new_inode(bool directory)
{
    struct inode *inode = calloc(1, sizeof(*inode));
    rb_assert(inode != NULL);
    inode->directory = directory;
    return inode;
}

static void inode_room(struct inode *inode, uint64_t size)
{
    if (size <= inode->cap) {
        return;
    }
    uint64_t cap = inode->cap * 2 > size ? inode->cap * 2 : size;
    inode->bytes = realloc(inode->bytes, cap);
    inode->stable = realloc(inode->stable, cap);
    rb_assert(inode->bytes != NULL && inode->stable != NULL);
    memset(inode->bytes + inode->cap, 0, cap - inode->cap);
    memset(inode->stable + inode->cap, 0, cap - inode->cap);
    inode->cap = cap;
}

static void inode_resize(struct inode *inode, uint64_t size)
{
    inode_room(inode, size);
    if (size < inode->size) {
        memset(inode->bytes + size, 0, inode->size - size);
    }
    inode->size = size;
}

static uint32_t name_place(const struct names *names, const char *text, bool *ret_found)
{
    uint32_t low = 0;
    uint32_t high = names->count;
    *ret_found = false;
    while (low < high) {
        uint32_t middle = (low + high) / 2;
        int order = strcmp(names->item[middle].text, text);
        if (order == 0) {
            *ret_found = true;
            return middle;
        }
        if (order < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low;
}

static struct inode *name_find(const struct names *names, const char *text)
{
    bool found;
    uint32_t at = name_place(names, text, &found);
    return found ? names->item[at].inode : NULL;
}

/* Sets what `text` names; NULL: nothing any more. */
static void name_set(struct names *names, const char *text, struct inode *inode)
{
    bool found;
    uint32_t at = name_place(names, text, &found);
    if (inode != NULL) {
        inode->uses++;
    }
    if (found) {
        drop_inode(names->item[at].inode);
        if (inode != NULL) {
            names->item[at].inode = inode;
            return;
        }
        names->count--;
        memmove(&names->item[at], &names->item[at + 1],
                (names->count - at) * sizeof(names->item[0]));
        return;
    }
    if (inode == NULL) {
        return;
    }
    rb_assert(names->count < FILES_MAX);
    memmove(&names->item[at + 1], &names->item[at], (names->count - at) * sizeof(names->item[0]));
    names->count++;
    strcpy(names->item[at].text, text);
    names->item[at].inode = inode;
}

/* Changes a name now, and remembers it for the next sync of its directory. */
static void change_name(struct sim_disk *d, const char *text, struct inode *inode)
{
    if (d->journal_count == d->journal_cap) {
        d->journal_cap = d->journal_cap == 0 ? 16 : d->journal_cap * 2;
        d->journal = realloc(d->journal, d->journal_cap * sizeof(*d->journal));
        rb_assert(d->journal != NULL);
    }
    struct change *change = &d->journal[d->journal_count++];
    strcpy(change->text, text);
    change->inode = inode;
    change->joined = false;
    if (inode != NULL) {
        inode->uses++;
    }
    name_set(&d->now, text, inode);
}

static bool inside(const char *directory, const char *text)
{
    const char *slash = strrchr(text, '/');
    if (strcmp(directory, ".") == 0) {
        return slash == NULL;
    }
    size_t len = strlen(directory);
    return slash != NULL && (size_t)(slash - text) == len && memcmp(text, directory, len) == 0;
}

static bool parent_exists(struct sim_disk *d, const char *text)
{
    char parent[RB_DISK_NAME_MAX + 1];
    const char *slash = strrchr(text, '/');
    if (slash == NULL) {
        return true;
    }
    memcpy(parent, text, (size_t)(slash - text));
    parent[slash - text] = '\0';
    struct inode *inode = name_find(&d->now, parent);
    return inode != NULL && inode->directory;
}

static void sync_names(struct sim_disk *d, const char *directory)
{
    uint32_t left = 0;
    for (uint32_t i = 0; i < d->journal_count; i++) {
        struct change *change = &d->journal[i];
        if (!inside(directory, change->text)) {
            d->journal[left++] = *change;
            continue;
        }
        name_set(&d->stable, change->text, change->inode);
        if (change->inode != NULL) {
            drop_inode(change->inode);
        }
    }
    d->journal_count = left;
}

static uint64_t used_bytes(struct sim_disk *d)
{
    uint64_t used = 0;
    for (uint32_t i = 0; i < d->now.count; i++) {
        used += d->now.item[i].inode->size;
    }
    return used;
}

/* False when `more` bytes do not fit. */
static bool space_for(struct sim_disk *d, uint64_t more)
{
    return d->options.capacity_bytes == 0 || used_bytes(d) + more <= d->options.capacity_bytes;
}

/* ---- effects of operations ---- */

static enum rb_err do_open(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = name_find(&d->now, op->name);
    if (inode == NULL && ((op->flags & RB_DISK_CREATE) == 0 || !parent_exists(d, op->name))) {
        return RB_ERR_MISSING;
    }
    if (inode != NULL && inode->directory) {
        return RB_ERR_IO;
    }
    struct rb_disk_file *file = NULL;
    for (uint32_t i = 0; i < OPEN_MAX && file == NULL; i++) {
        file = d->open[i].inode == NULL ? &d->open[i] : NULL;
    }
    if (file == NULL) {
        return RB_ERR_LIMIT;
    }
    if (inode == NULL) {
        inode = new_inode(false);
        change_name(d, op->name, inode);
    }
    inode->uses++;
    *file = (struct rb_disk_file){ inode, (op->flags & RB_DISK_DURABLE) != 0, 0 };
    op->file = file;
    op->size = inode->size;
    return RB_OK;
}

static enum rb_err do_read(struct rb_disk_op *op)
{
    struct inode *inode = op->file->inode;
    uint64_t left = op->offset < inode->size ? inode->size - op->offset : 0;
    op->size = left < op->len ? left : op->len;
    if (op->size > 0) {
        memcpy(op->bytes, inode->bytes + op->offset, op->size);
    }
    return RB_OK;
}

static enum rb_err do_write(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = op->file->inode;
    uint64_t end = op->offset + op->len;
    if (end > inode->size) {
        if (!space_for(d, end - inode->size)) {
            return RB_ERR_SPACE;
        }
        inode_resize(inode, end);
    }
    memcpy(inode->bytes + op->offset, op->bytes, op->len);
    if (op->file->durable) {
        memcpy(inode->stable + op->offset, op->bytes, op->len);
        inode->stable_size = end > inode->stable_size ? end : inode->stable_size;
    }
    return RB_OK;
}

/* Each sector of a write that did not complete is old or new (invariant 1). */
static void tear(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = op->file->inode;
    uint64_t end = op->offset + op->len;
    if (end > inode->size) {
        if (!coin(d) || !space_for(d, end - inode->size)) {
            return;
        }
        inode_resize(inode, end);
        inode->stable_size = end > inode->stable_size ? end : inode->stable_size;
    }
    uint32_t likely = rb_env_below(&d->draw, 1001); /* from nothing to everything */
    for (uint32_t at = 0; at < op->len; at += SECTOR) {
        if (rb_env_below(&d->draw, 1000) < likely) {
            memcpy(inode->bytes + op->offset + at, op->bytes + at, SECTOR);
            memcpy(inode->stable + op->offset + at, op->bytes + at, SECTOR);
        }
    }
}

static enum rb_err do_preallocate(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = op->file->inode;
    inode_resize(inode, 0);
    if (!space_for(d, op->size)) {
        inode->stable_size = 0;
        return RB_ERR_SPACE;
    }
    inode_resize(inode, op->size);
    memset(inode->stable, 0, op->size);
    inode->stable_size = op->size;
    return RB_OK;
}

static enum rb_err do_rename(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = name_find(&d->now, op->name);
    if (inode == NULL || !parent_exists(d, op->name_to)) {
        return RB_ERR_MISSING;
    }
    inode->uses++;
    change_name(d, op->name_to, inode);
    change_name(d, op->name, NULL);
    d->journal[d->journal_count - 1].joined = true;
    drop_inode(inode);
    return RB_OK;
}

static enum rb_err do_remove(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = name_find(&d->now, op->name);
    if (inode == NULL) {
        return RB_ERR_MISSING;
    }
    if (inode->directory) {
        return RB_ERR_IO;
    }
    change_name(d, op->name, NULL);
    return RB_OK;
}

static enum rb_err do_remove_directory(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = name_find(&d->now, op->name);
    bool empty = inode != NULL && inode->directory;
    for (uint32_t i = 0; i < d->now.count && empty; i++) {
        empty = !inside(op->name, d->now.item[i].text);
    }
    if (empty) {
        change_name(d, op->name, NULL);
    }
    return empty ? RB_OK : inode == NULL ? RB_ERR_MISSING : RB_ERR_IO;
}

static enum rb_err do_make_directory(struct sim_disk *d, struct rb_disk_op *op)
{
    struct inode *inode = name_find(&d->now, op->name);
    if (inode != NULL) {
        return inode->directory ? RB_OK : RB_ERR_IO;
    }
    if (!parent_exists(d, op->name)) {
        return RB_ERR_MISSING;
    }
    change_name(d, op->name, new_inode(true));
    return RB_OK;
}

static enum rb_err do_list(struct sim_disk *d, struct rb_disk_op *op)
{
    size_t prefix = strcmp(op->name, ".") == 0 ? 0 : strlen(op->name) + 1;
    if (prefix > 0 && name_find(&d->now, op->name) == NULL) {
        return RB_ERR_MISSING;
    }
    op->size = 0;
    for (uint32_t i = 0; i < d->now.count; i++) {
        const char *text = d->now.item[i].text;
        if (!inside(op->name, text)) {
            continue;
        }
        size_t len = strlen(text + prefix) + 1;
        if (op->size + len > op->len) {
            return RB_ERR_FULL;
        }
        memcpy(op->bytes + op->size, text + prefix, len);
        op->size += len;
    }
    return RB_OK;
}

static void sync_inode(struct inode *inode)
{
    if (inode->size > 0) {
        memcpy(inode->stable, inode->bytes, inode->size);
    }
    inode->stable_size = inode->size;
}

static enum rb_err run_op(struct sim_disk *d, struct rb_disk_op *op)
{
    enum rb_err fault = (enum rb_err)op->driver[AT_FAULT];
    if (fault != RB_OK) {
        if (op->kind == RB_DISK_WRITE) {
            tear(d, op);
        }
        return fault;
    }
    switch (op->kind) {
    case RB_DISK_OPEN:
        return do_open(d, op);
    case RB_DISK_READ:
        return do_read(op);
    case RB_DISK_WRITE:
        return do_write(d, op);
    case RB_DISK_SYNC:
        sync_inode(op->file->inode);
        return RB_OK;
    case RB_DISK_PREALLOCATE:
        return do_preallocate(d, op);
    case RB_DISK_MAKE_DIRECTORY:
        return do_make_directory(d, op);
    case RB_DISK_RENAME:
        return do_rename(d, op);
    case RB_DISK_REMOVE:
        return do_remove(d, op);
    case RB_DISK_REMOVE_DIRECTORY:
        return do_remove_directory(d, op);
    case RB_DISK_SYNC_DIRECTORY:
        sync_names(d, op->name);
        return RB_OK;
    case RB_DISK_LIST:
        return do_list(d, op);
    case RB_DISK_SPACE: {
        uint64_t used = used_bytes(d);
        uint64_t cap = d->options.capacity_bytes == 0 ? UINT64_MAX : d->options.capacity_bytes;
        op->size = cap > used ? cap - used : 0;
        return RB_OK;
    }
    }
    rb_unreachable("every kind is handled above");
}

/* ---- the table ---- */

static bool uses_file(enum rb_disk_kind kind)
{
    return kind == RB_DISK_READ || kind == RB_DISK_WRITE || kind == RB_DISK_SYNC ||
           kind == RB_DISK_PREALLOCATE;
}

static enum rb_err draw_fault(struct sim_disk *d, enum rb_disk_kind kind)
{
    enum rb_err next = d->fail_next[kind];
    d->fail_next[kind] = RB_OK;
    if (next != RB_OK) {
        return next;
    }
    uint32_t permille = d->options.other_fail_permille;
    if (kind == RB_DISK_READ) {
        permille = d->options.read_fail_permille;
    } else if (kind == RB_DISK_WRITE || kind == RB_DISK_SYNC) {
        permille = d->options.write_fail_permille;
    }
    return chance(d, permille) ? RB_ERR_IO : RB_OK;
}

static enum rb_err sim_start(struct rb_disk *base, struct rb_disk_op *op)
{
    struct sim_disk *d = sim_of(base);
    rb_assert(!op->in_flight);
    if (op->kind == RB_DISK_READ || op->kind == RB_DISK_WRITE) {
        rb_assert(op->offset % RB_DISK_ALIGN == 0 && op->len % RB_DISK_ALIGN == 0 && op->len > 0);
        rb_assert((uintptr_t)op->bytes % RB_DISK_ALIGN == 0 && op->len <= RB_DISK_IO_BYTES_MAX);
    }
    if (d->op_count == d->options.op_max) {
        return RB_ERR_FULL;
    }
    if (uses_file(op->kind)) {
        rb_assert(op->file->inode != NULL);
        op->file->op_count++;
    }
    uint64_t spread = d->options.delay_max_ns - d->options.delay_min_ns;
    uint64_t delay = d->options.delay_min_ns;
    if (spread > 0) {
        delay += rb_env_random(&d->draw) % (spread + 1);
    }
    op->driver[AT_DUE] = d->options.now_ns(d->options.clock_ctx) + delay;
    op->driver[AT_ORDER] = d->order++;
    op->driver[AT_FAULT] = draw_fault(d, op->kind);
    op->driver[AT_STUCK] = (op->kind == RB_DISK_WRITE || op->kind == RB_DISK_SYNC) &&
                           chance(d, d->options.stuck_permille);
    op->in_flight = true;
    d->ops[d->op_count++] = op;
    return RB_OK;
}

static bool can_complete(const struct sim_disk *d, const struct rb_disk_op *op)
{
    return op->driver[AT_STUCK] == 0 &&
           !(d->held && (op->kind == RB_DISK_WRITE || op->kind == RB_DISK_SYNC));
}

static struct rb_disk_op *first_due(const struct sim_disk *d, uint32_t *ret_index)
{
    struct rb_disk_op *best = NULL;
    for (uint32_t i = 0; i < d->op_count; i++) {
        struct rb_disk_op *op = d->ops[i];
        if (can_complete(d, op) && (best == NULL || op->driver[AT_DUE] < best->driver[AT_DUE] ||
                                    (op->driver[AT_DUE] == best->driver[AT_DUE] &&
                                     op->driver[AT_ORDER] < best->driver[AT_ORDER]))) {
            best = op;
            *ret_index = i;
        }
    }
    return best;
}

static uint32_t sim_poll(struct rb_disk *base, int64_t timeout_ns, struct rb_disk_op ***ret_ops)
{
    struct sim_disk *d = sim_of(base);
    uint64_t now = d->options.now_ns(d->options.clock_ctx);
    uint32_t count = 0;
    uint32_t index = 0;
    struct rb_disk_op *op;
    while (count < RB_DISK_DONE_MAX && (op = first_due(d, &index)) != NULL &&
           op->driver[AT_DUE] <= now) {
        d->ops[index] = d->ops[--d->op_count];
        if (uses_file(op->kind)) {
            op->file->op_count--;
        }
        op->err = run_op(d, op);
        op->in_flight = false;
        d->done[count++] = op;
    }
    *ret_ops = d->done;
    return count;
}

static void sim_close(struct rb_disk *base, struct rb_disk_file *file)
{
    rb_assert(file->inode != NULL && file->op_count == 0);
    drop_inode(file->inode);
    file->inode = NULL;
}

static void *sim_alloc(struct rb_disk *base, size_t bytes)
{
    void *ptr = NULL;
    if (posix_memalign(&ptr, RB_DISK_ALIGN, bytes) != 0) {
        return NULL;
    }
    return memset(ptr, 0, bytes);
}

static void sim_free(struct rb_disk *base, void *ptr, size_t bytes)
{
    free(ptr);
}

static void forget_ops(struct sim_disk *d)
{
    for (uint32_t i = 0; i < d->op_count; i++) {
        d->ops[i]->in_flight = false;
    }
    d->op_count = 0;
    for (uint32_t i = 0; i < OPEN_MAX; i++) {
        if (d->open[i].inode != NULL) {
            drop_inode(d->open[i].inode);
            d->open[i].inode = NULL;
        }
    }
}

static void clear_names(struct names *names)
{
    for (uint32_t i = 0; i < names->count; i++) {
        drop_inode(names->item[i].inode);
    }
    names->count = 0;
}

static void clear_journal(struct sim_disk *d, uint32_t apply)
{
    for (uint32_t i = 0; i < d->journal_count; i++) {
        if (i < apply || (i == apply && d->journal[i].joined)) {
            name_set(&d->stable, d->journal[i].text, d->journal[i].inode);
        }
        if (d->journal[i].inode != NULL) {
            drop_inode(d->journal[i].inode);
        }
    }
    d->journal_count = 0;
}

static void sim_destroy(struct rb_disk *base)
{
    struct sim_disk *d = sim_of(base);
    forget_ops(d);
    clear_journal(d, 0);
    clear_names(&d->now);
    clear_names(&d->stable);
    free(d->journal);
    free(d->ops);
    free(d);
}

static const struct rb_disk_ops sim_ops = {
    .name = "sim",
    .start = sim_start,
    .close = sim_close,
    .alloc = sim_alloc,
    .free = sim_free,
    .poll = sim_poll,
    .destroy = sim_destroy,
};

enum rb_err rb_sim_disk_create(const struct rb_sim_disk_options *options, struct rb_disk **ret_disk)
{
    rb_assert(options->delay_max_ns >= options->delay_min_ns && options->now_ns != NULL);
    struct sim_disk *d = calloc(1, sizeof(*d));
    if (d == NULL) {
        return RB_ERR_MEMORY;
    }
    d->base.ops = &sim_ops;
    d->options = *options;
    if (d->options.op_max == 0) {
        d->options.op_max = OP_MAX_DEFAULT;
    }
    d->ops = calloc(d->options.op_max, sizeof(struct rb_disk_op *));
    if (d->ops == NULL) {
        free(d);
        return RB_ERR_MEMORY;
    }
    rb_env_seed(&d->draw, options->seed);
    *ret_disk = &d->base;
    return RB_OK;
}

/* ---- what tests do to it ---- */

uint64_t rb_sim_disk_due(const struct rb_disk *disk)
{
    uint32_t index;
    struct rb_disk_op *op = first_due((const struct sim_disk *)disk, &index);
    return op == NULL ? UINT64_MAX : op->driver[AT_DUE];
}

void rb_sim_disk_set(struct rb_disk *disk, const struct rb_sim_disk_options *options)
{
    struct sim_disk *d = sim_of(disk);
    struct rb_sim_disk_options kept = d->options;
    d->options = *options;
    d->options.seed = kept.seed;
    d->options.now_ns = kept.now_ns;
    d->options.clock_ctx = kept.clock_ctx;
    d->options.op_max = kept.op_max;
}

void rb_sim_disk_hold(struct rb_disk *disk, bool held)
{
    sim_of(disk)->held = held;
}

void rb_sim_disk_fail_next(struct rb_disk *disk, enum rb_disk_kind kind, enum rb_err err)
{
    sim_of(disk)->fail_next[kind] = err;
}

/* What was in flight has happened in part, or not. */
static void end_ops(struct sim_disk *d)
{
    for (uint32_t i = 0; i < d->op_count; i++) {
        struct rb_disk_op *op = d->ops[i];
        if (op->kind == RB_DISK_WRITE) {
            tear(d, op);
        } else if (op->kind == RB_DISK_PREALLOCATE) {
            uint64_t some = op->size * rb_env_below(&d->draw, 9) / 8;
            inode_resize(op->file->inode, 0);
            if (space_for(d, some)) {
                inode_resize(op->file->inode, some);
                sync_inode(op->file->inode);
            }
        } else if (op->kind == RB_DISK_RENAME && coin(d)) {
            (void)do_rename(d, op);
        } else if (op->kind == RB_DISK_REMOVE && coin(d)) {
            (void)do_remove(d, op);
        } else if (op->kind == RB_DISK_REMOVE_DIRECTORY && coin(d)) {
            (void)do_remove_directory(d, op);
        }
    }
    forget_ops(d);
}

static void cut_inode(struct sim_disk *d, struct inode *inode)
{
    if (inode->stable_size != inode->size && coin(d)) {
        inode->stable_size = inode->size;
    }
    for (uint64_t at = 0; at < inode->stable_size; at += SECTOR) {
        uint64_t len = inode->stable_size - at < SECTOR ? inode->stable_size - at : SECTOR;
        if (memcmp(inode->bytes + at, inode->stable + at, len) != 0 && coin(d)) {
            memcpy(inode->stable + at, inode->bytes + at, len);
        }
    }
    inode->size = inode->stable_size;
    if (inode->cap > 0) {
        memset(inode->stable + inode->size, 0, inode->cap - inode->size);
        memcpy(inode->bytes, inode->stable, inode->cap);
    }
}

void rb_sim_disk_cut(struct rb_disk *disk)
{
    struct sim_disk *d = sim_of(disk);
    end_ops(d);
    clear_journal(d, rb_env_below(&d->draw, d->journal_count + 1));
    clear_names(&d->now);
    for (uint32_t i = 0; i < d->stable.count; i++) {
        name_set(&d->now, d->stable.item[i].text, d->stable.item[i].inode);
        cut_inode(d, d->stable.item[i].inode);
    }
}

void rb_sim_disk_kill(struct rb_disk *disk)
{
    end_ops(sim_of(disk));
}

uint8_t *rb_sim_disk_bytes(struct rb_disk *disk, const char *name, uint64_t *ret_size)
{
    struct inode *inode = name_find(&sim_of(disk)->now, name);
    if (inode == NULL || inode->directory) {
        return NULL;
    }
    if (ret_size != NULL) {
        *ret_size = inode->size;
    }
    return inode->bytes;
}

bool rb_sim_disk_flip(struct rb_disk *disk, const char *name, uint64_t offset, uint8_t mask)
{
    struct inode *inode = name_find(&sim_of(disk)->now, name);
    if (inode == NULL || offset >= inode->size) {
        return false;
    }
    inode->bytes[offset] ^= mask;
    inode->stable[offset] = inode->bytes[offset];
    return true;
}

void rb_sim_disk_plant(struct rb_disk *disk, const char *name, const void *bytes, uint64_t size)
{
    struct sim_disk *d = sim_of(disk);
    struct inode *inode = new_inode(false);
    inode_resize(inode, size);
    if (size > 0) {
        memcpy(inode->bytes, bytes, size);
    }
    sync_inode(inode);
    name_set(&d->now, name, inode);
    name_set(&d->stable, name, inode);
}

bool rb_sim_disk_chop(struct rb_disk *disk, const char *name, uint64_t size)
{
    struct inode *inode = name_find(&sim_of(disk)->now, name);
    if (inode == NULL || inode->size < size) {
        return false;
    }
    inode_resize(inode, size);
    sync_inode(inode);
    return true;
}

bool rb_sim_disk_unlink(struct rb_disk *disk, const char *name)
{
    struct sim_disk *d = sim_of(disk);
    bool found = name_find(&d->now, name) != NULL;
    name_set(&d->now, name, NULL);
    name_set(&d->stable, name, NULL);
    return found;
}

const char *rb_sim_disk_name(struct rb_disk *disk, uint32_t index)
{
    struct sim_disk *d = sim_of(disk);
    return index < d->now.count ? d->now.item[index].text : NULL;
}

uint32_t rb_sim_disk_in_flight(const struct rb_disk *disk)
{
    return ((const struct sim_disk *)disk)->op_count;
}

uint32_t rb_sim_disk_open_count(const struct rb_disk *disk)
{
    const struct sim_disk *d = (const struct sim_disk *)disk;
    uint32_t count = 0;
    for (uint32_t i = 0; i < OPEN_MAX; i++) {
        count += d->open[i].inode != NULL;
    }
    return count;
}
