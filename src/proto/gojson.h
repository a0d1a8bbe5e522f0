/* gojson.h - values as Go reads them, and what is wrong in the words of its encoding/json, which clients of nats-server know. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "ringbus/slice.h"

struct json_t; /* jansson.h */

#define RB_GOJSON_DEPTH_MAX 10000 /* Go's own limit */
#define RB_GOJSON_ERROR_MAX 128

/** False: `error` says what is wrong. */
bool rb_gojson_valid(struct rb_slice text, char error[RB_GOJSON_ERROR_MAX]);
/** What comes next where several values may follow each other. */
enum rb_gojson_next {
    RB_GOJSON_VALUE, /* a whole value */
    RB_GOJSON_END,   /* nothing but blanks */
    RB_GOJSON_CUT,   /* the text ends inside a value */
    RB_GOJSON_BAD,   /* `error` says why */
};
/**
 * Looks at the value that begins at *offset or behind blanks there. VALUE: *ret_value is its text, *offset is behind it. BAD:
 * *offset is behind the byte that is wrong.
 */
enum rb_gojson_next rb_gojson_next(struct rb_slice text, size_t *offset, struct rb_slice *ret_value,
                                   char error[RB_GOJSON_ERROR_MAX]);
/** What encoding/json calls the kind of this value in its errors: "object", "number"... Static. */
const char *rb_gojson_type_name(const struct json_t *value);
/** Go's strconv.ParseBool; false: `text` is none. */
bool rb_go_bool(const char *text, bool *ret_value);
