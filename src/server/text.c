/* text.c - see text.h. */
#include "server/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#define FIRST_BYTES 1024

void rb_text_init(struct rb_text *text, size_t max)
{
    *text = (struct rb_text){ .max = max };
}

void rb_text_deinit(struct rb_text *text)
{
    free(text->ptr);
    *text = (struct rb_text){ 0 };
}

bool rb_text_reserve(struct rb_text *text, size_t bytes)
{
    if (text->failed || bytes > text->max - text->len) {
        text->failed = true;
        return false;
    }
    size_t need = text->len + bytes + 1; /* the NUL */
    if (need <= text->cap) {
        return true;
    }
    size_t cap = text->cap == 0 ? FIRST_BYTES : text->cap;
    while (cap < need) {
        cap *= 2;
    }
    char *ptr = realloc(text->ptr, cap);
    if (ptr == NULL) {
        text->failed = true;
        return false;
    }
    text->ptr = ptr;
    text->cap = cap;
    return true;
}

void rb_text_add(struct rb_text *text, const void *bytes, size_t len)
{
    if (!rb_text_reserve(text, len)) {
        return;
    }
    if (len > 0) {
        memcpy(text->ptr + text->len, bytes, len);
        text->len += len;
    }
    text->ptr[text->len] = '\0';
}

void rb_text_puts(struct rb_text *text, const char *string)
{
    rb_text_add(text, string, strlen(string));
}

void rb_text_slice(struct rb_text *text, struct rb_slice slice)
{
    rb_text_add(text, slice.ptr, slice.len);
}

void rb_text_printf(struct rb_text *text, const char *format, ...)
{
    va_list args, again;
    va_start(args, format);
    va_copy(again, args);
    int len = vsnprintf(NULL, 0, format, args);
    va_end(args);
    if (len >= 0 && rb_text_reserve(text, (size_t)len)) {
        (void)vsnprintf(text->ptr + text->len, (size_t)len + 1, format, again);
        text->len += (size_t)len;
    }
    va_end(again);
}

const char *rb_text_bytes(int64_t bytes, char out[RB_BYTES_TEXT_MAX])
{
    static const char units[] = "KMGTPE";
    double rest = (double)bytes;
    int unit = -1;
    while (rest >= 1024 && unit < 5) {
        rest /= 1024;
        unit++;
    }
    if (unit < 0) {
        (void)snprintf(out, RB_BYTES_TEXT_MAX, "%lld B", (long long)bytes);
    } else {
        (void)snprintf(out, RB_BYTES_TEXT_MAX, "%.2f %cB", rest, units[unit]);
    }
    return out;
}
