/* text.h - text that grows up to a limit: bodies of monitoring pages. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/slice.h"

/** After a refusal (`max` passed, or no memory) nothing more is added and `failed` stays set. */
struct rb_text {
    char *ptr; /* NUL-terminated once anything was added */
    size_t len, cap, max;
    bool failed;
};

/** At most `max` bytes. Nothing is allocated yet. */
void rb_text_init(struct rb_text *text, size_t max);
void rb_text_deinit(struct rb_text *text);
/** Room for `bytes` more at ptr + len; false and `failed` when refused. */
bool rb_text_reserve(struct rb_text *text, size_t bytes);
void rb_text_add(struct rb_text *text, const void *bytes, size_t len);
void rb_text_puts(struct rb_text *text, const char *string);
void rb_text_slice(struct rb_text *text, struct rb_slice slice);
__attribute__((format(printf, 2, 3))) void rb_text_printf(struct rb_text *text, const char *format,
                                                          ...);

#define RB_BYTES_TEXT_MAX 32
/** "512 B", "1.50 KB", "10.00 GB": steps of 1024, as nats-server shows sizes. */
const char *rb_text_bytes(int64_t bytes, char out[RB_BYTES_TEXT_MAX]);
