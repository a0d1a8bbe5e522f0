/* slice.h - (ptr, len) views of bytes, and readers and writers over them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/** Borrowed bytes, not NUL-terminated. `ptr` may be NULL when `len` is 0. */
struct rb_slice {
    const uint8_t *ptr;
    size_t len;
};

/** A slice of a string literal. */
#define RB_S(literal) ((struct rb_slice){ (const uint8_t *)(literal), sizeof(literal) - 1 })
/** printf arguments for "%.*s". */
#define RB_S_ARG(slice) (int)(slice).len, (const char *)(slice).ptr

static inline struct rb_slice rb_slice_of(const void *ptr, size_t len)
{
    return (struct rb_slice){ (const uint8_t *)ptr, len };
}

static inline struct rb_slice rb_slice_text(const char *text)
{
    return (struct rb_slice){ (const uint8_t *)text, text == NULL ? 0 : strlen(text) };
}

static inline bool rb_slice_equal(struct rb_slice a, struct rb_slice b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

static inline bool rb_slice_starts(struct rb_slice s, struct rb_slice prefix)
{
    return s.len >= prefix.len && (prefix.len == 0 || memcmp(s.ptr, prefix.ptr, prefix.len) == 0);
}

/** ASCII case-insensitive equality. */
bool rb_slice_equal_fold(struct rb_slice a, struct rb_slice b);

/**
 * 1 to `digits_max` (at most 18) decimal digits and nothing else: no sign, no blanks. False, and
 * *ret_value is left alone, for anything else.
 */
bool rb_slice_decimal(struct rb_slice s, size_t digits_max, uint64_t *ret_value);

/** 64-bit hash (XXH3) of the bytes. */
uint64_t rb_slice_hash(struct rb_slice s);

/** Little-endian reader. After a short read every read yields 0 and rb_reader_ok() is false. */
struct rb_reader {
    const uint8_t *at, *end;
    bool ok;
};

static inline struct rb_reader rb_reader_over(struct rb_slice s)
{
    return (struct rb_reader){ s.ptr, s.len == 0 ? s.ptr : s.ptr + s.len, true };
}

uint8_t rb_read_u8(struct rb_reader *reader);
uint16_t rb_read_u16(struct rb_reader *reader);
uint32_t rb_read_u32(struct rb_reader *reader);
uint64_t rb_read_u64(struct rb_reader *reader);
/** Borrows `len` bytes of the reader's slice. */
struct rb_slice rb_read_slice(struct rb_reader *reader, size_t len);

static inline bool rb_reader_ok(const struct rb_reader *reader)
{
    return reader->ok;
}

/** Little-endian writer into borrowed memory. After an overrun nothing more is written. */
struct rb_writer {
    uint8_t *begin, *at, *end;
    bool ok;
};

static inline struct rb_writer rb_writer_over(void *ptr, size_t len)
{
    uint8_t *begin = (uint8_t *)ptr;
    return (struct rb_writer){ begin, begin, len == 0 ? begin : begin + len, true };
}

void rb_write_u8(struct rb_writer *writer, uint8_t value);
void rb_write_u16(struct rb_writer *writer, uint16_t value);
void rb_write_u32(struct rb_writer *writer, uint32_t value);
void rb_write_u64(struct rb_writer *writer, uint64_t value);
void rb_write_slice(struct rb_writer *writer, struct rb_slice s);
/** Decimal digits of `value`. */
void rb_write_decimal(struct rb_writer *writer, uint64_t value);

static inline size_t rb_writer_len(const struct rb_writer *writer)
{
    return (size_t)(writer->at - writer->begin);
}

/** Decimal digits of `value` at `out` (room for 20); returns their number. */
size_t rb_format_decimal(uint8_t *out, uint64_t value);

/**
 * Formats `s` like Go's %q without the outer quotes into `out` (control bytes, quotes, backslash
 * and invalid UTF-8 escaped, and the invisible or direction-changing code points of Unicode).
 * Returns the bytes written, at most `cap`; a text that does not fit is cut, never inside a
 * character or escape.
 */
size_t rb_format_quoted(uint8_t *out, size_t cap, struct rb_slice s);
