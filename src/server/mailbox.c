/* mailbox.c - see mailbox.h.
 *
 * The sleep protocol (as in a futex): a consumer sets its bell, then looks at its rings once more; a
 * producer pushes, then looks at the bell. All four are sequentially consistent accesses (rb_spsc_push
 * and rb_spsc_ready are), so one of the two sees the other.
 */
#include "server/mailbox.h"

#include <stdlib.h>

#include "ringbus/check.h"

#define RING_CAP (4 * RB_MAIL_BLOCKS_MAX)

static struct rb_mail_pair *pair_of(struct rb_mail *mail, uint32_t from, uint32_t to)
{
    return &mail->pairs[from * mail->count + to];
}

enum rb_err rb_mail_init(struct rb_mail *mail, uint32_t shard_count)
{
    size_t pairs = (size_t)shard_count * shard_count;
    mail->count = shard_count;
    mail->pairs = aligned_alloc(64, pairs * sizeof(*mail->pairs));
    mail->bells = aligned_alloc(64, shard_count * sizeof(*mail->bells));
    if (mail->pairs == NULL || mail->bells == NULL) {
        free(mail->pairs);
        free(mail->bells);
        return RB_ERR_MEMORY;
    }
    memset(mail->pairs, 0, pairs * sizeof(*mail->pairs));
    memset(mail->bells, 0, shard_count * sizeof(*mail->bells));
    for (size_t i = 0; i < pairs; i++) {
        if (i / shard_count == i % shard_count) {
            continue; /* nobody writes to itself */
        }
        if (rb_spsc_init(&mail->pairs[i].mail, RING_CAP) != RB_OK ||
            rb_spsc_init(&mail->pairs[i].back, RING_CAP) != RB_OK) {
            rb_mail_deinit(mail);
            return RB_ERR_MEMORY;
        }
    }
    return RB_OK;
}

struct rb_buf *rb_mail_detach(struct rb_mail_block *block)
{
    struct rb_buf *buf = block->attached;
    if (buf != NULL) {
        block->attached = buf->next;
        buf->next = NULL;
    }
    return buf;
}

static void free_block(struct rb_mail_block *block)
{
    if (block == NULL) {
        return;
    }
    for (struct rb_buf *buf; (buf = rb_mail_detach(block)) != NULL;) {
        rb_buf_free_exported(buf);
    }
    free(block);
}

static void free_ring(struct rb_spsc *ring)
{
    if (ring->items == NULL) {
        return;
    }
    for (void *block; (block = rb_spsc_pop(ring)) != NULL;) {
        free_block(block);
    }
    rb_spsc_deinit(ring);
}

void rb_mail_deinit(struct rb_mail *mail)
{
    for (size_t i = 0; i < (size_t)mail->count * mail->count; i++) {
        struct rb_mail_pair *pair = &mail->pairs[i];
        free_ring(&pair->mail);
        free_ring(&pair->back);
        free_block(pair->current);
        for (uint32_t k = 0; k < pair->spare_count; k++) {
            free(pair->spare[k]);
        }
    }
    free(mail->pairs);
    free(mail->bells);
}

static void collect(struct rb_mail_pair *pair)
{
    while (rb_spsc_ready(&pair->back)) {
        struct rb_mail_block *block = rb_spsc_pop(&pair->back);
        rb_assert(pair->out_count > 0);
        pair->out_count--;
        if (block->cap == RB_MAIL_BLOCK_BYTES && pair->spare_count < RB_MAIL_SPARES) {
            pair->spare[pair->spare_count++] = block;
        } else {
            free(block);
        }
    }
}

bool rb_mail_room(struct rb_mail *mail, uint32_t from, uint32_t to, uint32_t blocks)
{
    struct rb_mail_pair *pair = pair_of(mail, from, to);
    if (pair->out_count + blocks <= RB_MAIL_BLOCKS_MAX) {
        return true;
    }
    collect(pair);
    return pair->out_count + blocks <= RB_MAIL_BLOCKS_MAX;
}

static bool hand_over(struct rb_mail_pair *pair)
{
    if (!rb_spsc_push(&pair->mail, pair->current)) {
        return false;
    }
    pair->out_count++;
    pair->current = NULL;
    return true;
}

uint8_t *rb_mail_record(struct rb_mail *mail, uint32_t from, uint32_t to, uint32_t len)
{
    struct rb_mail_pair *pair = pair_of(mail, from, to);
    struct rb_mail_block *block = pair->current;
    if (block != NULL &&
        (block->cap - block->len < len || block->attached_bytes >= RB_MAIL_ATTACHED_MAX)) {
        if (!hand_over(pair)) {
            return NULL;
        }
        block = NULL;
    }
    if (block == NULL) {
        collect(pair);
        if (pair->out_count >= RING_CAP - 1) {
            return NULL;
        }
        uint32_t cap = len > RB_MAIL_BLOCK_BYTES ? len : RB_MAIL_BLOCK_BYTES;
        if (cap == RB_MAIL_BLOCK_BYTES && pair->spare_count > 0) {
            block = pair->spare[--pair->spare_count];
        } else {
            block = malloc(sizeof(*block) + cap);
            if (block == NULL) {
                return NULL;
            }
            block->cap = cap;
        }
        block->len = 0;
        block->attached_bytes = 0;
        block->attached = block->attached_tail = NULL;
        pair->current = block;
    }
    uint8_t *out = block->data + block->len;
    block->len += len;
    return out;
}

void rb_mail_attach(struct rb_mail *mail, uint32_t from, uint32_t to, struct rb_buf *buf)
{
    struct rb_mail_block *block = pair_of(mail, from, to)->current;
    buf->next = NULL;
    if (block->attached == NULL) {
        block->attached = buf;
    } else {
        block->attached_tail->next = buf;
    }
    block->attached_tail = buf;
    block->attached_bytes += buf->cap;
}

/* True when the shard slept; it is awake for everybody else from now on. */
static bool ring_bell(struct rb_mail_bell *bell)
{
    return atomic_load(&bell->sleeping) != 0 && atomic_exchange(&bell->sleeping, 0) != 0;
}

bool rb_mail_publish(struct rb_mail *mail, uint32_t from, uint32_t to)
{
    struct rb_mail_pair *pair = pair_of(mail, from, to);
    if (pair->current != NULL) {
        bool handed = hand_over(pair);
        rb_assert(handed); /* rb_mail_record keeps one place */
    }
    return ring_bell(&mail->bells[to]);
}

struct rb_mail_block *rb_mail_take(struct rb_mail *mail, uint32_t from, uint32_t to)
{
    return rb_spsc_pop(&pair_of(mail, from, to)->mail);
}

bool rb_mail_return(struct rb_mail *mail, uint32_t from, uint32_t to, struct rb_mail_block *block)
{
    rb_assert(block->attached == NULL);
    bool pushed = rb_spsc_push(&pair_of(mail, from, to)->back, block);
    rb_assert(pushed); /* as many places as blocks can be out */
    struct rb_mail_bell *bell = &mail->bells[from];
    return atomic_load(&bell->wants_room) != 0 && ring_bell(bell);
}

void rb_mail_want_room(struct rb_mail *mail, uint32_t from)
{
    atomic_store(&mail->bells[from].wants_room, 1);
}

bool rb_mail_sleep(struct rb_mail *mail, uint32_t self)
{
    atomic_store(&mail->bells[self].sleeping, 1);
    for (uint32_t from = 0; from < mail->count; from++) {
        if (from != self && rb_spsc_ready(&pair_of(mail, from, self)->mail)) {
            rb_mail_awake(mail, self);
            return false;
        }
    }
    return true;
}

void rb_mail_awake(struct rb_mail *mail, uint32_t self)
{
    atomic_store_explicit(&mail->bells[self].sleeping, 0, memory_order_relaxed);
    atomic_store_explicit(&mail->bells[self].wants_room, 0, memory_order_relaxed);
}
