/* header.c - NATS/1.0 header blocks, read and changed as bytes.
 *
 *   NATS/1.0[ status[ text]] CRLF      the status line
 *   key:value CRLF                     any number of lines
 *   CRLF                               the end
 *
 * 1. Blocks come from clients unchecked: every search stops at the end of the slice.
 * 2. Keys are compared byte for byte at the start of a line; the status line is not searched.
 * 3. A change keeps every byte that it does not concern, also of lines that have no sense.
 */
#include "proto/header.h"

#define STATUS_WORD RB_S("NATS/1.0")

static const uint8_t crlf[2] = { '\r', '\n' };

/* Length of the line that begins at `at`, without CRLF; `size` when no CRLF comes. */
static size_t line_len(const uint8_t *at, size_t size)
{
    size_t i = 0;
    while (i + 1 < size) {
        const uint8_t *cr = memchr(at + i, '\r', size - i - 1);
        if (cr == NULL) {
            return size;
        }
        i = (size_t)(cr - at);
        if (at[i + 1] == '\n') {
            return i;
        }
        i++;
    }
    return size;
}

/* The whole of the first line that begins with `key` and ':', without its CRLF. */
static struct rb_slice find_line(struct rb_slice block, struct rb_slice key)
{
    struct rb_slice none = { NULL, 0 };
    size_t at = line_len(block.ptr, block.len);
    if (key.len == 0) {
        return none;
    }
    while (at + 2 < block.len) {
        at += 2;
        size_t left = block.len - at;
        size_t len = line_len(block.ptr + at, left);
        if (len > key.len && block.ptr[at + key.len] == ':' &&
            memcmp(block.ptr + at, key.ptr, key.len) == 0) {
            return rb_slice_of(block.ptr + at, len);
        }
        at += len;
    }
    return none;
}

struct rb_slice rb_header_get(struct rb_slice block, struct rb_slice key)
{
    struct rb_slice line = find_line(block, key);
    if (line.ptr == NULL) {
        return line;
    }
    size_t at = key.len + 1;
    while (at < line.len && (line.ptr[at] == ' ' || line.ptr[at] == '\t')) {
        at++;
    }
    return rb_slice_of(line.ptr + at, line.len - at);
}

bool rb_header_valid(struct rb_slice block)
{
    if (!rb_slice_starts(block, STATUS_WORD)) {
        return false;
    }
    size_t at = line_len(block.ptr, block.len);
    if (at > STATUS_WORD.len && block.ptr[STATUS_WORD.len] != ' ' &&
        block.ptr[STATUS_WORD.len] != '\t') {
        return false;
    }
    while (at + 2 < block.len) {
        at += 2;
        size_t left = block.len - at;
        size_t len = line_len(block.ptr + at, left);
        if (len == left) {
            return false; /* the last line has no end */
        }
        if (len == 0) {
            return left == 2;
        }
        if (memchr(block.ptr + at, ':', len) == NULL) {
            return false;
        }
        at += len;
    }
    return false;
}

uint32_t rb_header_status(struct rb_slice block)
{
    if (!rb_slice_starts(block, STATUS_WORD)) {
        return 0;
    }
    size_t end = line_len(block.ptr, block.len);
    size_t at = STATUS_WORD.len;
    while (at < end && (block.ptr[at] == ' ' || block.ptr[at] == '\t')) {
        at++;
    }
    if (at == STATUS_WORD.len) {
        return 0;
    }
    uint32_t status = 0;
    size_t digits = 0;
    while (at < end && block.ptr[at] >= '0' && block.ptr[at] <= '9') {
        if (++digits > 3) {
            return 0;
        }
        status = status * 10 + (uint32_t)(block.ptr[at] - '0');
        at++;
    }
    if (at < end && block.ptr[at] != ' ' && block.ptr[at] != '\t') {
        return 0;
    }
    return status;
}

/* Bytes that would end a line early, or make another header of the rest. */
static bool breaks_line(struct rb_slice text)
{
    return text.len != 0 &&
           (memchr(text.ptr, '\r', text.len) != NULL || memchr(text.ptr, '\n', text.len) != NULL);
}

/* Joins the parts at `out`; 0 when they are longer than `cap`. */
static size_t join(uint8_t *out, size_t cap, const struct rb_slice *parts, size_t count)
{
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > cap - len) {
            return 0;
        }
        if (parts[i].len != 0) {
            memcpy(out + len, parts[i].ptr, parts[i].len);
        }
        len += parts[i].len;
    }
    return len;
}

size_t rb_header_set(uint8_t *out, size_t cap, struct rb_slice block, struct rb_slice key,
                     struct rb_slice value)
{
    if (key.len == 0 || breaks_line(key) || breaks_line(value) ||
        memchr(key.ptr, ':', key.len) != NULL) {
        return 0;
    }
    if (block.len == 0) {
        block = RB_S("NATS/1.0\r\n\r\n");
    }
    if (!rb_header_valid(block)) {
        return 0;
    }
    struct rb_slice line = find_line(block, key);
    if (line.ptr != NULL) {
        size_t keep = key.len + 1;
        keep += keep < line.len && line.ptr[keep] == ' '; /* the blank stays as it was */
        const uint8_t *rest = line.ptr + line.len;
        struct rb_slice parts[] = {
            rb_slice_of(block.ptr, (size_t)(line.ptr - block.ptr) + keep),
            value,
            rb_slice_of(rest, (size_t)(block.ptr + block.len - rest)),
        };
        return join(out, cap, parts, 3);
    }
    struct rb_slice parts[] = {
        rb_slice_of(block.ptr, block.len - sizeof(crlf)),
        key,
        RB_S(": "),
        value,
        rb_slice_of(crlf, sizeof(crlf)),
        rb_slice_of(crlf, sizeof(crlf)),
    };
    return join(out, cap, parts, 6);
}

static bool mentions(struct rb_slice text, struct rb_slice word)
{
    for (size_t i = 0; i + word.len <= text.len; i++) {
        if (rb_slice_equal_fold(rb_slice_of(text.ptr + i, word.len), word)) {
            return true;
        }
    }
    return false;
}

enum rb_encoding rb_header_encoding(struct rb_slice accept)
{
    if (accept.len == 0) {
        return RB_ENCODING_NONE;
    }
    bool snappy = mentions(accept, RB_S("snappy")) || mentions(accept, RB_S("s2"));
    return !snappy && mentions(accept, RB_S("gzip")) ? RB_ENCODING_GZIP : RB_ENCODING_IDENTITY;
}
