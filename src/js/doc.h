/* doc.h - JSON documents of the $JS.API as C structs: one table per document serves reading (as strict as Go's decoder, in its
 * words), writing (its order, its omissions, its escaping) and comparing. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/mem.h"
#include "ringbus/slice.h"

/** A time that is not set. rb_doc_init() and rb_doc_read() set it; a struct that was only zeroed says 1970. */
#define RB_DOC_NO_TIME INT64_MIN
#define RB_DOC_ERROR_MAX 256
/** Items of an array of objects; more are refused. */
#define RB_DOC_OBJECTS_MAX 10000

enum rb_doc_kind {
    RB_DOC_BOOL,     /* bool */
    RB_DOC_I32,      /* int32_t */
    RB_DOC_I64,      /* int64_t */
    RB_DOC_INT,      /* int64_t: what Go calls int */
    RB_DOC_DURATION, /* int64_t: ns, what Go calls time.Duration */
    RB_DOC_U64,      /* uint64_t */
    RB_DOC_STRING,   /* struct rb_slice; decoded */
    RB_DOC_TIME,     /* int64_t: ns since 1970, RB_DOC_NO_TIME for Go's zero time */
    RB_DOC_ENUM,     /* uint8_t: index into `names` */
    RB_DOC_STRINGS,  /* struct rb_doc_strings */
    RB_DOC_I64S,     /* struct rb_doc_i64s: durations */
    RB_DOC_U64S,     /* array of unsigned numbers: checked, never kept (offset unused) */
    RB_DOC_COUNTS,   /* string to unsigned number: checked, never kept (offset unused) */
    RB_DOC_MAP,      /* struct rb_doc_map: string to string, written sorted by key */
    RB_DOC_OBJECT,   /* pointer to a struct of `type`; NULL: absent or null */
    RB_DOC_INLINE, /* a struct of `type` in place; always there. Without a `name` its members are the outer object's (Go: embedded) */
    RB_DOC_OBJECTS, /* struct rb_doc_objects of `type` */
    RB_DOC_RAW,     /* struct rb_slice: the JSON text as it is */
};
enum rb_doc_flags {
    RB_DOC_OMIT = 1,      /* written only when not zero, empty or absent */
    RB_DOC_READ_ONLY = 2, /* never read: unknown in strict mode */
    RB_DOC_ANY_CASE = 4,  /* of enums when read */
    RB_DOC_NO_WRITE = 8,  /* read, never written or compared */
    RB_DOC_TEXT =
        16, /* of enums: what is no string is refused as such, before its value is looked at */
    RB_DOC_POINTERS =
        32, /* of objects in an array: Go has pointers to them ("[]*server.X" in errors) */
};
struct rb_doc_strings {
    struct rb_slice *items;
    uint32_t count;
};
struct rb_doc_i64s {
    int64_t *items;
    uint32_t count;
};
struct rb_doc_pair {
    struct rb_slice key, value;
};
struct rb_doc_map {
    struct rb_doc_pair *items; /* sorted by key once read */
    uint32_t count;
    bool present; /* {} differs from nothing */
};
struct rb_doc_objects {
    void *items; /* an array of structs */
    uint32_t count;
};
struct rb_doc_type;
struct rb_doc_field {
    const char *name;
    enum rb_doc_kind kind;
    uint32_t flags;
    size_t offset;
    const char *const *names; /* of enums, NULL at the end */
    const struct rb_doc_type *type;
    /** Of enums, what is said of other values; when it ends with a blank their text follows. NULL: can not unmarshal "..." */
    const char *refusal;
};
struct rb_doc_type {
    const char *go_name; /* for errors: "StreamConfig" */
    size_t size;
    const struct rb_doc_field *fields;
    uint32_t field_count;
};

/** All absent: zeroes, and times that are not set. */
void rb_doc_init(const struct rb_doc_type *type, void *doc);
/**
 * Reads a JSON object into `out` (initialised first). Text and arrays go to `arena`, nothing points into `json`. False: `error`
 * holds the text that follows "invalid JSON: ".
 * `strict`: as Go's Decoder with unknown fields disallowed reads all values of the text into the same struct; no text is no value.
 * Otherwise as Go's Unmarshal: exactly one value.
 */
bool rb_doc_read(struct rb_arena *arena, const struct rb_doc_type *type, struct rb_slice json,
                 bool strict, void *out, char error[RB_DOC_ERROR_MAX]);

/** Growing text: for documents of any length. `failed` once memory was refused; then nothing is added any more. */
struct rb_out {
    struct rb_budget *budget;
    uint8_t *bytes;
    size_t len, cap;
    bool failed;
};
void rb_out_init(struct rb_out *out, struct rb_budget *budget);
void rb_out_deinit(struct rb_out *out);
void rb_out_put(struct rb_out *out, struct rb_slice text);
__attribute__((format(printf, 2, 3))) void rb_out_printf(struct rb_out *out, const char *format,
                                                         ...);
/** A quoted JSON string in Go's escaping. */
void rb_out_string(struct rb_out *out, struct rb_slice text);
/** A quoted time as Go prints it; RB_DOC_NO_TIME is 0001-01-01T00:00:00Z. */
void rb_out_time(struct rb_out *out, int64_t time_ns);
static inline struct rb_slice rb_out_slice(const struct rb_out *out)
{
    return rb_slice_of(out->bytes, out->len);
}

/** Writes "{...}". */
void rb_doc_write(struct rb_out *out, const struct rb_doc_type *type, const void *doc);
/** Writes the members only, each with a comma before it when `comma`. */
void rb_doc_write_members(struct rb_out *out, const struct rb_doc_type *type, const void *doc,
                          bool comma);
/** Equal as documents. */
bool rb_doc_equal(const struct rb_doc_type *type, const void *a, const void *b);
/** A deep copy into `arena`; false: memory refused. */
bool rb_doc_copy(struct rb_arena *arena, const struct rb_doc_type *type, const void *from,
                 void *to);
