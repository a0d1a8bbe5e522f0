/* bench_index.c - what the index of message stores costs: memory per message, time per call, and how it grows.
 *
 *   bench_index [MESSAGES]
 * Subjects of their own ("kv.0001234") in order and shuffled, then one subject for all; 10 million messages by default. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "storage/index.h"

static double now_s(void)
{
    struct timespec at;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &at); /* others may be at work */
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static void die(const char *what)
{
    fprintf(stderr, "bench_index: %s\n", what);
    exit(1);
}

static void report(const char *what, uint64_t count, double begun_s)
{
    double ns = (now_s() - begun_s) * 1e9;
    printf("  %-44s %10.1f ns each, %8.1f ms\n", what, ns / (double)count, ns / 1e6);
}

/* A permutation of 0 .. 2^bits - 1 without a table. */
static uint32_t shuffle(uint32_t value, uint32_t bits)
{
    uint32_t mask = (uint32_t)((UINT64_C(1) << bits) - 1);
    for (int i = 0; i < 3; i++) {
        value = (value * 0x9E3779B1u + 12345) & mask;
        value ^= value >> (bits / 2);
    }
    return value;
}

struct bench {
    struct rb_index *index;
    uint64_t seq, removed;
    uint32_t count, bits;
    bool in_order;
};

static uint32_t number_of(const struct bench *b, uint32_t i)
{
    return b->in_order ? i : shuffle(i, b->bits);
}

static struct rb_slice subject_of(uint32_t number, char *out)
{
    memcpy(out, "kv.0000000", 11);
    for (int at = 9; number > 0; at--, number /= 10) {
        out[at] = (char)('0' + number % 10);
    }
    return rb_slice_of(out, 10);
}

static void append(struct bench *b, struct rb_slice subject)
{
    b->seq++;
    struct rb_index_message message = { .seq = b->seq,
                                        .time_us = UINT64_C(1700000000000000) + b->seq * 3,
                                        .place = (uint32_t)b->seq,
                                        .bytes = 160,
                                        .subject = subject };
    if (rb_index_append(b->index, &message) != RB_OK) {
        die("append");
    }
}

static void load_again(struct bench *b)
{
    double begun = now_s();
    if (rb_index_freeze(b->index) != RB_OK) {
        die("freeze");
    }
    report("freeze", 1, begun);
    uint32_t pages = rb_index_frozen_pages(b->index);
    struct rb_index *index;
    begun = now_s();
    if (rb_index_load_begin(NULL, pages, &index) != RB_OK) {
        die("load");
    }
    for (uint32_t i = 0; i < pages; i++) {
        memcpy(rb_index_load_page(index, i), rb_index_frozen_page(b->index, i), RB_PAGE_BYTES);
    }
    report("load: pages copied", 1, begun);
    begun = now_s();
    if (rb_index_load_end(index) != RB_OK) {
        die("load_end");
    }
    report("load: checked", 1, begun);
    rb_index_destroy(index);
    rb_index_thaw(b->index);
}

static void ask(struct bench *b)
{
    char text[16];
    uint32_t asks = 1000000;
    struct rb_msgstore_subject subject;
    double begun = now_s();
    for (uint32_t i = 0; i < asks; i++) {
        uint32_t number = shuffle(i * 7 & ((1u << b->bits) - 1), b->bits) % b->count;
        if (!rb_index_subject(b->index, subject_of(number, text), &subject) && b->in_order) {
            die("subject");
        }
    }
    report("subject (its last), at random", asks, begun);
    begun = now_s();
    struct rb_index_message message;
    for (uint32_t i = 0; i < asks; i++) {
        if (!rb_index_find(b->index, shuffle(i, b->bits) % b->count + 1, &message)) {
            die("find");
        }
    }
    report("find by sequence, at random", asks, begun);
    begun = now_s();
    uint8_t name[RB_MSGSTORE_SUBJECT_MAX];
    for (uint32_t i = 0; i < asks; i++) {
        rb_index_subject_of(b->index, shuffle(i, b->bits) % b->count + 1, name);
    }
    report("subject of a sequence, at random", asks, begun);
    begun = now_s();
    struct rb_slice some = RB_S("kv.>");
    uint64_t sum = 0;
    for (uint32_t i = 0; i < 1000; i++) {
        sum += rb_index_count(b->index, &some, 1, 0);
    }
    report("count kv.>", 1000, begun);
    begun = now_s();
    sum += rb_index_count(b->index, &some, 1, b->count / 2);
    report("count kv.> from the middle", 1, begun);
    begun = now_s();
    sum += rb_index_subject_count(b->index, RB_S("kv.*"));
    report("subject_count kv.*", 1, begun);
    struct rb_index_cursor *cursor;
    if (rb_index_cursor_create(b->index, &some, 1, &cursor) != RB_OK) {
        die("cursor");
    }
    begun = now_s();
    uint32_t given = 0;
    for (uint64_t at = 1; given < asks && (at = rb_index_cursor_next(cursor, at)) != 0; at++) {
        given++;
    }
    report("cursor kv.> (all match)", given + 1, begun);
    rb_index_cursor_destroy(cursor);
    if (sum == 1) {
        die("sum");
    }
}

static void subjects_of_their_own(struct bench *b)
{
    char text[16];
    double begun = now_s();
    uint32_t part = b->count / 10;
    for (uint32_t i = 0; i < b->count; i++) {
        if (i == b->count - part) {
            report("append, first nine tenths", i, begun);
            begun = now_s();
        }
        append(b, subject_of(number_of(b, i), text));
    }
    report("append, last tenth", part, begun);
    printf("  %-44s %10.1f bytes\n", "memory per message",
           (double)rb_index_bytes(b->index) / b->count);
    ask(b);
    load_again(b);
    begun = now_s();
    uint32_t updates = b->count / 10;
    for (uint32_t i = 0; i < updates; i++) { /* as a key-value store with one value each */
        struct rb_slice subject = subject_of(number_of(b, shuffle(i, b->bits) % b->count), text);
        struct rb_msgstore_subject old;
        if (!rb_index_subject(b->index, subject, &old)) {
            die("update");
        }
        append(b, subject);
        rb_index_remove(b->index, old.last_seq);
    }
    report("update: subject, append, remove the old one", updates, begun);
    begun = now_s();
    struct rb_msgstore_state state;
    rb_index_state(b->index, &state);
    uint64_t before = rb_index_bytes(b->index);
    for (uint32_t i = 0; i < b->count / 2; i++) {
        rb_index_remove(b->index, rb_index_next(b->index, 1));
    }
    report("remove the oldest", b->count / 2, begun);
    printf("  %-44s %10.1f MB, then %.1f MB\n", "memory before half were removed",
           (double)before / 1e6, (double)rb_index_bytes(b->index) / 1e6);
}

static void one_subject(struct bench *b)
{
    double begun = now_s();
    for (uint32_t i = 0; i < b->count; i++) {
        append(b, RB_S("orders.new"));
    }
    report("append", b->count, begun);
    printf("  %-44s %10.1f bytes\n", "memory per message",
           (double)rb_index_bytes(b->index) / b->count);
    struct rb_slice filter = RB_S("orders.*");
    uint32_t asks = 1000000;
    begun = now_s();
    uint64_t sum = 0;
    for (uint32_t i = 0; i < asks; i++) {
        sum += rb_index_count(b->index, &filter, 1, shuffle(i, b->bits) % b->count + 1);
    }
    report("count from a sequence, at random", asks, begun);
    struct rb_index_cursor *cursor;
    if (rb_index_cursor_create(b->index, &filter, 1, &cursor) != RB_OK || sum == 1) {
        die("cursor");
    }
    begun = now_s();
    for (uint64_t at = 1; (at = rb_index_cursor_next(cursor, at)) != 0; at++) {
    }
    report("cursor", b->count, begun);
    rb_index_cursor_destroy(cursor);
    load_again(b);
    begun = now_s();
    for (uint32_t i = 0; i < b->count / 2; i++) {
        append(b, RB_S("orders.new"));
        rb_index_remove(b->index, rb_index_next(b->index, 1));
    }
    report("append one, remove the oldest", b->count / 2, begun);
    begun = now_s();
    uint32_t removed = 0;
    for (uint32_t i = 0; i < b->count / 2; i++) {
        removed += rb_index_remove(b->index, b->count / 2 + shuffle(i, b->bits) % b->count);
    }
    report("remove at random", removed, begun);
    printf("  %-44s %10.1f MB\n", "memory in the end", (double)rb_index_bytes(b->index) / 1e6);
}

int main(int argc, char **argv)
{
    setvbuf(stdout, NULL, _IOLBF, 0);
    uint32_t count = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) : 10000000;
    count = count < 1000 ? 1000 : count > 10000000 ? 10000000 : count;
    static const char *const titles[] = { "subjects of their own, in order",
                                          "subjects of their own, shuffled", "one subject" };
    for (int kind = 0; kind < 3; kind++) {
        struct bench b = { .count = count, .bits = 1, .in_order = kind == 0 };
        while ((1u << b.bits) < count) {
            b.bits++;
        }
        if (kind == 1) {
            b.count = count = 1u << (b.bits - 1 > 23 ? 23 : b.bits - 1);
            b.bits = b.bits - 1 > 23 ? 23 : b.bits - 1;
        }
        if (rb_index_create(NULL, &b.index) != RB_OK) {
            die("create");
        }
        printf("%u messages, %s\n", b.count, titles[kind]);
        if (kind < 2) {
            subjects_of_their_own(&b);
        } else {
            one_subject(&b);
        }
        rb_index_destroy(b.index);
    }
    return 0;
}
