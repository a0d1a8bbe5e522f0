/* slice.c - bytes: comparing, hashing, little-endian reading and writing, numbers and quoting.
 *
 * 1. A reader that came short stands at its end with `ok` false: every later read comes short as
 *    well and yields 0, so callers decode first and check once. A writer that overran behaves
 *    alike.
 * 2. Bytes are put together by shifts, which compilers turn into one load or store: no alignment or
 *    byte order of the machine is assumed.
 * 3. Quoting emits whole units (a character or an escape) or stops, so a cut text is still
 *    well-formed.
 */
#include "ringbus/slice.h"

#include <xxhash.h>

static uint8_t fold(uint8_t c)
{
    return c >= 'A' && c <= 'Z' ? (uint8_t)(c + ('a' - 'A')) : c;
}

bool rb_slice_equal_fold(struct rb_slice a, struct rb_slice b)
{
    if (a.len != b.len) {
        return false;
    }
    for (size_t i = 0; i < a.len; i++) {
        if (fold(a.ptr[i]) != fold(b.ptr[i])) {
            return false;
        }
    }
    return true;
}

bool rb_slice_decimal(struct rb_slice s, size_t digits_max, uint64_t *ret_value)
{
    uint64_t value = 0;
    if (s.len == 0 || s.len > digits_max) {
        return false;
    }
    for (size_t i = 0; i < s.len; i++) {
        uint32_t digit = (uint32_t)s.ptr[i] - '0';
        if (digit > 9) {
            return false;
        }
        value = value * 10 + digit;
    }
    *ret_value = value;
    return true;
}

uint64_t rb_slice_hash(struct rb_slice s)
{
    return XXH3_64bits(s.ptr, s.len);
}

/* The next `len` bytes, or NULL with the reader spent (invariant 1). */
static const uint8_t *read_bytes(struct rb_reader *reader, size_t len)
{
    if (!reader->ok || (size_t)(reader->end - reader->at) < len) {
        reader->at = reader->end;
        reader->ok = false;
        return NULL;
    }
    const uint8_t *bytes = reader->at;
    if (len > 0) {
        reader->at += len;
    }
    return bytes;
}

uint8_t rb_read_u8(struct rb_reader *reader)
{
    const uint8_t *p = read_bytes(reader, 1);
    return p == NULL ? 0 : p[0];
}

uint16_t rb_read_u16(struct rb_reader *reader)
{
    const uint8_t *p = read_bytes(reader, 2);
    return p == NULL ? 0 : (uint16_t)(p[0] | p[1] << 8);
}

uint32_t rb_read_u32(struct rb_reader *reader)
{
    const uint8_t *p = read_bytes(reader, 4);
    if (p == NULL) {
        return 0;
    }
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

uint64_t rb_read_u64(struct rb_reader *reader)
{
    const uint8_t *p = read_bytes(reader, 8);
    if (p == NULL) {
        return 0;
    }
    return (uint64_t)p[0] | (uint64_t)p[1] << 8 | (uint64_t)p[2] << 16 | (uint64_t)p[3] << 24 |
           (uint64_t)p[4] << 32 | (uint64_t)p[5] << 40 | (uint64_t)p[6] << 48 |
           (uint64_t)p[7] << 56;
}

struct rb_slice rb_read_slice(struct rb_reader *reader, size_t len)
{
    const uint8_t *p = read_bytes(reader, len);
    return rb_slice_of(p, p == NULL ? 0 : len);
}

/* Where the next `len` bytes go, or NULL with the writer overrun (invariant 1). */
static uint8_t *write_bytes(struct rb_writer *writer, size_t len)
{
    if (!writer->ok || (size_t)(writer->end - writer->at) < len) {
        writer->ok = false;
        return NULL;
    }
    uint8_t *bytes = writer->at;
    writer->at += len;
    return bytes;
}

void rb_write_u8(struct rb_writer *writer, uint8_t value)
{
    uint8_t *p = write_bytes(writer, 1);
    if (p != NULL) {
        p[0] = value;
    }
}

void rb_write_u16(struct rb_writer *writer, uint16_t value)
{
    uint8_t *p = write_bytes(writer, 2);
    if (p != NULL) {
        p[0] = (uint8_t)value;
        p[1] = (uint8_t)(value >> 8);
    }
}

void rb_write_u32(struct rb_writer *writer, uint32_t value)
{
    uint8_t *p = write_bytes(writer, 4);
    if (p != NULL) {
        p[0] = (uint8_t)value;
        p[1] = (uint8_t)(value >> 8);
        p[2] = (uint8_t)(value >> 16);
        p[3] = (uint8_t)(value >> 24);
    }
}

void rb_write_u64(struct rb_writer *writer, uint64_t value)
{
    uint8_t *p = write_bytes(writer, 8);
    if (p != NULL) {
        for (int i = 0; i < 8; i++) {
            p[i] = (uint8_t)(value >> 8 * i);
        }
    }
}

void rb_write_slice(struct rb_writer *writer, struct rb_slice s)
{
    if (s.len == 0) {
        return; /* memcpy must not see NULL */
    }
    uint8_t *p = write_bytes(writer, s.len);
    if (p != NULL) {
        memcpy(p, s.ptr, s.len);
    }
}

void rb_write_decimal(struct rb_writer *writer, uint64_t value)
{
    uint8_t digits[20];
    size_t len = rb_format_decimal(digits, value);
    rb_write_slice(writer, rb_slice_of(digits, len));
}

size_t rb_format_decimal(uint8_t *out, uint64_t value)
{
    static const char pairs[] = "00010203040506070809101112131415161718192021222324"
                                "25262728293031323334353637383940414243444546474849"
                                "50515253545556575859606162636465666768697071727374"
                                "75767778798081828384858687888990919293949596979899";
    uint8_t digits[20];
    size_t at = sizeof(digits);
    while (value >= 100) {
        at -= 2;
        memcpy(digits + at, pairs + 2 * (value % 100), 2);
        value /= 100;
    }
    if (value >= 10) {
        at -= 2;
        memcpy(digits + at, pairs + 2 * value, 2);
    } else {
        digits[--at] = (uint8_t)('0' + value);
    }
    memcpy(out, digits + at, sizeof(digits) - at);
    return sizeof(digits) - at;
}

/* Length of the well-formed UTF-8 character at the start of `s` with its code point; 0 when there
 * is none (bad or missing continuation, overlong, surrogate, above U+10FFFF). Source: RFC 3629,
 * section 4. */
static size_t decode_utf8(struct rb_slice s, uint32_t *ret_code)
{
    uint8_t first = s.ptr[0];
    if (first < 0x80) {
        *ret_code = first;
        return 1;
    }
    size_t len = first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : 2;
    if (first < 0xc2 || first > 0xf4 || s.len < len) {
        return 0;
    }
    uint32_t code = first & (0x7fu >> len);
    for (size_t i = 1; i < len; i++) {
        if ((s.ptr[i] & 0xc0) != 0x80) {
            return 0;
        }
        code = code << 6 | (s.ptr[i] & 0x3f);
    }
    static const uint32_t smallest[] = { 0, 0, 0x80, 0x800, 0x10000 };
    if (code < smallest[len] || code > 0x10ffff || (code >= 0xd800 && code <= 0xdfff)) {
        return 0;
    }
    *ret_code = code;
    return len;
}

/* Code points that would hide in a log, or rearrange it: controls, blanks other than ' ',
 * formatting, private use, non-characters. What Unicode has not assigned is not known here and
 * passes. */
static bool is_hidden(uint32_t code)
{
    static const struct {
        uint32_t first, last;
    } ranges[] = {
        { 0x00, 0x1f },       { 0x7f, 0xa0 },        { 0xad, 0xad },       { 0x600, 0x605 },
        { 0x61c, 0x61c },     { 0x6dd, 0x6dd },      { 0x70f, 0x70f },     { 0x890, 0x891 },
        { 0x8e2, 0x8e2 },     { 0x1680, 0x1680 },    { 0x180e, 0x180e },   { 0x2000, 0x200f },
        { 0x2028, 0x202f },   { 0x205f, 0x206f },    { 0x3000, 0x3000 },   { 0xe000, 0xf8ff },
        { 0xfeff, 0xfeff },   { 0xfff0, 0xfffb },    { 0xfffe, 0xffff },   { 0x110bd, 0x110bd },
        { 0x110cd, 0x110cd }, { 0x13430, 0x1343f },  { 0x1bca0, 0x1bca3 }, { 0x1d173, 0x1d17a },
        { 0xe0000, 0xe00ff }, { 0xe01f0, 0x10ffff },
    };
    for (size_t i = 0; i < sizeof(ranges) / sizeof(ranges[0]); i++) {
        if (code <= ranges[i].last) {
            return code >= ranges[i].first;
        }
    }
    return false;
}

/* Backslash, `letter`, then `digits` hexadecimal digits of `value`; returns the length. */
static size_t put_escape(uint8_t *out, char letter, int digits, uint32_t value)
{
    out[0] = '\\';
    out[1] = (uint8_t)letter;
    for (int i = 0; i < digits; i++) {
        out[2 + i] = (uint8_t) "0123456789abcdef"[value >> 4 * (digits - 1 - i) & 15];
    }
    return 2 + (size_t)digits;
}

/* The quoted form of the first character of `s`: its length in `unit`; *ret_taken bytes of `s` are
 * used. */
static size_t quote_one(uint8_t unit[10], struct rb_slice s, size_t *ret_taken)
{
    static const char short_codes[] = "\a\b\f\n\r\t\v\\\"";
    static const char short_letters[] = "abfnrtv\\\"";
    uint32_t code;
    size_t len = decode_utf8(s, &code);
    if (len == 0) {
        *ret_taken = 1;
        return put_escape(unit, 'x', 2, s.ptr[0]);
    }
    *ret_taken = len;
    const char *found = code == 0 || code > 0x7f ? NULL : strchr(short_codes, (int)code);
    if (found != NULL) {
        return put_escape(unit, short_letters[found - short_codes], 0, 0);
    }
    if (!is_hidden(code)) {
        memcpy(unit, s.ptr, len);
        return len;
    }
    if (code < 0x80) {
        return put_escape(unit, 'x', 2, code);
    }
    return code < 0x10000 ? put_escape(unit, 'u', 4, code) : put_escape(unit, 'U', 8, code);
}

size_t rb_format_quoted(uint8_t *out, size_t cap, struct rb_slice s)
{
    size_t written = 0;
    while (s.len > 0) {
        uint8_t unit[10];
        size_t taken;
        size_t len = quote_one(unit, s, &taken);
        if (len > cap - written) {
            break; /* invariant 3 */
        }
        memcpy(out + written, unit, len);
        written += len;
        s = rb_slice_of(s.ptr + taken, s.len - taken);
    }
    return written;
}
