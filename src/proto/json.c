/* json.c - writing JSON by hand, where a document tree would cost more than it helps. Escapes what Go's encoder escapes. */
#include "proto/json.h"

#include <stdio.h>
#include <time.h>

size_t rb_utf8_len(const uint8_t *at, size_t left)
{
    uint8_t c = at[0];
    size_t len = c < 0x80 ? 1 : c < 0xc2 ? 0 : c < 0xe0 ? 2 : c < 0xf0 ? 3 : c < 0xf5 ? 4 : 0;
    if (len > left) {
        return 0;
    }
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    if ((c == 0xe0 && at[1] < 0xa0) || (c == 0xed && at[1] >= 0xa0) ||
        (c == 0xf0 && at[1] < 0x90) || (c == 0xf4 && at[1] >= 0x90)) {
        return 0;
    }
    return len;
}

static void write_unicode(struct rb_writer *out, uint32_t code)
{
    static const char digits[] = "0123456789abcdef";
    rb_write_slice(out, RB_S("\\u"));
    for (int shift = 12; shift >= 0; shift -= 4) {
        rb_write_u8(out, (uint8_t)digits[(code >> shift) & 15]);
    }
}

static void write_ascii(struct rb_writer *out, uint8_t c)
{
    switch (c) {
    case '"':
        rb_write_slice(out, RB_S("\\\""));
        break;
    case '\\':
        rb_write_slice(out, RB_S("\\\\"));
        break;
    case '\b':
        rb_write_slice(out, RB_S("\\b"));
        break;
    case '\f':
        rb_write_slice(out, RB_S("\\f"));
        break;
    case '\n':
        rb_write_slice(out, RB_S("\\n"));
        break;
    case '\r':
        rb_write_slice(out, RB_S("\\r"));
        break;
    case '\t':
        rb_write_slice(out, RB_S("\\t"));
        break;
    case '<':
    case '>':
    case '&':
        write_unicode(out, c);
        break;
    default:
        if (c < 0x20) {
            write_unicode(out, c);
        } else {
            rb_write_u8(out, c);
        }
    }
}

void rb_json_string(struct rb_writer *out, struct rb_slice text)
{
    rb_write_u8(out, '"');
    for (size_t at = 0; at < text.len;) {
        const uint8_t *ptr = text.ptr + at;
        size_t len = rb_utf8_len(ptr, text.len - at);
        if (len == 0) {
            write_unicode(out, 0xfffd);
            len = 1;
        } else if (len == 1) {
            write_ascii(out, *ptr);
        } else if (len == 3 && ptr[0] == 0xe2 && ptr[1] == 0x80 && (ptr[2] & 0xfe) == 0xa8) {
            write_unicode(out, 0x2000u + (ptr[2] & 0x3fu)); /* line and paragraph separators */
        } else {
            rb_write_slice(out, rb_slice_of(ptr, len));
        }
        at += len;
    }
    rb_write_u8(out, '"');
}

void rb_json_text(struct rb_writer *out, struct rb_slice name, struct rb_slice value)
{
    rb_write_slice(out, name);
    rb_json_string(out, value);
}

void rb_json_optional(struct rb_writer *out, struct rb_slice name, struct rb_slice value)
{
    if (value.len != 0) {
        rb_json_text(out, name, value);
    }
}

void rb_json_number(struct rb_writer *out, struct rb_slice name, uint64_t value)
{
    rb_write_slice(out, name);
    rb_write_decimal(out, value);
}

void rb_json_true(struct rb_writer *out, struct rb_slice name, bool value)
{
    if (value) {
        rb_write_slice(out, name);
        rb_write_slice(out, RB_S("true"));
    }
}

void rb_json_time(struct rb_writer *out, struct rb_slice name, uint64_t wall_ns)
{
    time_t seconds = (time_t)(wall_ns / 1000000000);
    struct tm tm;
    char text[64];
    (void)gmtime_r(&seconds, &tm);
    size_t len = strftime(text, sizeof(text), "\"%Y-%m-%dT%H:%M:%S", &tm);
    uint32_t fraction = (uint32_t)(wall_ns % 1000000000);
    if (fraction > 0) {
        len += (size_t)snprintf(text + len, sizeof(text) - len, ".%09u", fraction);
        while (text[len - 1] == '0') {
            len--;
        }
    }
    rb_write_slice(out, name);
    rb_write_slice(out, rb_slice_of(text, len));
    rb_write_slice(out, RB_S("Z\""));
}
