/* snapshot.c - a snapshot's memory: arrays that double and an arena for texts.
 *
 * Filled by one shard after another, so nothing here needs a lock; when memory is refused the snapshot says so and
 * keeps what it has.
 */
#include "server/snapshot.h"

#include <stdlib.h>
#include <string.h>

#define ARENA_BLOCK_BYTES 65536
#define FIRST_CAP 64

void rb_snapshot_init(struct rb_snapshot *snapshot, const struct rb_snapshot_request *request)
{
    *snapshot = (struct rb_snapshot){ .request = *request };
    if (rb_arena_create(ARENA_BLOCK_BYTES, &snapshot->arena) != RB_OK) {
        snapshot->arena = NULL;
        snapshot->incomplete = true;
    }
}

void rb_snapshot_deinit(struct rb_snapshot *snapshot)
{
    free(snapshot->conns);
    free(snapshot->accounts);
    free(snapshot->subs);
    free(snapshot->js_accounts);
    if (snapshot->arena != NULL) {
        rb_arena_destroy(snapshot->arena);
    }
    memset(snapshot, 0, sizeof(*snapshot));
}

/* The next zeroed item of an array of `bytes` each; NULL when memory is refused. */
static void *grow(struct rb_snapshot *snapshot, void **items, uint32_t *count, uint32_t *cap,
                  size_t bytes)
{
    if (*count == *cap) {
        uint32_t more = *cap == 0 ? FIRST_CAP : *cap > UINT32_MAX / 2 ? *cap : *cap * 2;
        void *grown = more == *cap ? NULL : realloc(*items, more * bytes);
        if (grown == NULL) {
            snapshot->incomplete = true;
            return NULL;
        }
        *items = grown;
        *cap = more;
    }
    void *item = (char *)*items + (size_t)*count * bytes;
    memset(item, 0, bytes);
    (*count)++;
    return item;
}

struct rb_conn_snapshot *rb_snapshot_conn(struct rb_snapshot *snapshot)
{
    void *items = snapshot->conns;
    struct rb_conn_snapshot *conn = grow(snapshot, &items, &snapshot->conn_count,
                                         &snapshot->conn_cap, sizeof(*snapshot->conns));
    snapshot->conns = items;
    return conn;
}

struct rb_account_snapshot *rb_snapshot_account(struct rb_snapshot *snapshot)
{
    void *items = snapshot->accounts;
    struct rb_account_snapshot *account = grow(snapshot, &items, &snapshot->account_count,
                                               &snapshot->account_cap, sizeof(*snapshot->accounts));
    snapshot->accounts = items;
    return account;
}

struct rb_js_account_snapshot *rb_snapshot_js_account(struct rb_snapshot *snapshot)
{
    void *items = snapshot->js_accounts;
    struct rb_js_account_snapshot *account =
        grow(snapshot, &items, &snapshot->js_account_count, &snapshot->js_account_cap,
             sizeof(*snapshot->js_accounts));
    snapshot->js_accounts = items;
    return account;
}

struct rb_sub_snapshot *rb_snapshot_sub(struct rb_snapshot *snapshot)
{
    void *items = snapshot->subs;
    struct rb_sub_snapshot *sub =
        grow(snapshot, &items, &snapshot->sub_count, &snapshot->sub_cap, sizeof(*snapshot->subs));
    snapshot->subs = items;
    return sub;
}

void *rb_snapshot_take(struct rb_snapshot *snapshot, size_t bytes)
{
    void *memory = snapshot->arena == NULL ? NULL : rb_arena_take(snapshot->arena, bytes);
    snapshot->incomplete |= memory == NULL;
    return memory;
}

struct rb_slice rb_snapshot_text(struct rb_snapshot *snapshot, struct rb_slice text)
{
    uint8_t *copy = text.len == 0 ? NULL : rb_snapshot_take(snapshot, text.len);
    if (copy == NULL) {
        return (struct rb_slice){ 0 };
    }
    memcpy(copy, text.ptr, text.len);
    return rb_slice_of(copy, text.len);
}
