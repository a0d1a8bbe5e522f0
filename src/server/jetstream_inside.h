/* jetstream_inside.h - what jetstream.c (shards) and jetstream_store.c (the node) share. */
#pragma once

#include <pthread.h>

#include "js/js.h"
#include "server/jetstream.h"

#define CLAIM_BUCKETS 1024

/** Invariant 1 of jetstream.h. */
struct claim {
    struct claim *next;
    uint32_t home;
    uint32_t name_len;
    uint8_t name[];
};

struct rb_jetstream {
    struct rb_jetstream_options options;
    char directory[RB_CONFIG_TEXT_MAX * 4 + 16];
    int lock_fd;
    uint32_t home_count;
    struct rb_js_shared shared;
    _Atomic uint32_t recovered_count, told_count; /* shards */
    _Atomic bool failed;
    pthread_mutex_t lock; /* of all that follows */
    struct rb_js_settings settings;
    char failure[RB_JETSTREAM_ERROR_MAX];
    struct claim *claims[CLAIM_BUCKETS]; /* by the hash of the name */
};

/** True when the account lives in `home`. `found`: its streams are there. */
bool rb_jetstream_claim(struct rb_jetstream *jetstream, struct rb_slice name, uint32_t home,
                        bool found);
/** Keeps the first reason. */
void rb_jetstream_fail(struct rb_jetstream *jetstream, const char *why);
/** The settings in force, copied. */
struct rb_js_settings rb_jetstream_settings(const struct rb_jetstream *jetstream);
