/* errors.h - the errors of the $JS.API by their err_code, in nats-server's words. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"

struct rb_out;

#define RB_JS_ERROR_TEXT_MAX 512
/** code 0: no error. */
struct rb_js_error {
    uint16_t status, code; /* "code" and "err_code" of the document */
    char text[RB_JS_ERROR_TEXT_MAX];
};
/** `detail` takes the place of the {placeholder} of the text; NULL when it has none. Never fails; an unknown code is an assertion. */
void rb_js_error_set(struct rb_js_error *error, uint16_t code, const char *detail);
/** For texts with two placeholders (10021, 10022, 10042). */
void rb_js_error_set_two(struct rb_js_error *error, uint16_t code, const char *first,
                         const char *second);
__attribute__((format(printf, 3, 4))) void
rb_js_error_format(struct rb_js_error *error, uint16_t code, const char *format, ...);
/** {"code":..,"err_code":..,"description":".."} */
void rb_js_error_write(struct rb_out *out, const struct rb_js_error *error);
