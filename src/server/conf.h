/* conf.h - the NATS configuration grammar: text, includes and variables -> a tree of typed values.
 *
 * The tree lives in one arena until rb_conf_deinit(). Environment variables named by "$NAME" are read
 * while parsing and at no other time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/mem.h"
#include "ringbus/slice.h"

#define RB_CONF_BYTES_MAX (4u << 20)  /* text of all files together */
#define RB_CONF_VALUES_MAX (1u << 18) /* values, a variable counting as often as it is used */
#define RB_CONF_DEPTH_MAX 32          /* maps and arrays inside each other */
#define RB_CONF_INCLUDE_DEPTH_MAX 16  /* files including files, and variables naming variables */

enum rb_conf_kind {
    RB_CONF_BOOL,
    RB_CONF_INT,
    RB_CONF_FLOAT,
    RB_CONF_TIME, /* `text` is YYYY-MM-DDThh:mm:ssZ, checked */
    RB_CONF_TEXT,
    RB_CONF_ARRAY,
    RB_CONF_MAP,
};

struct rb_conf_value;

/** A key of a map. Columns are nats-server's: bytes from the line's start, 0-based on line 1, else 1-based. */
struct rb_conf_entry {
    struct rb_conf_entry *next; /* in the order of the file; a repeated key keeps its first place */
    struct rb_conf_entry *next_equal; /* the map's hash chain */
    struct rb_slice key;
    const struct rb_conf_value *value;
    const char *path; /* the file that holds the key, as it was named */
    uint32_t line, column;
    bool is_variable; /* some "$key" refers to it, so it need not be an option */
};

/** An item of an array. Its place is that of its first byte (behind a quote), of a map or array: behind its end. */
struct rb_conf_item {
    struct rb_conf_item *next;
    const struct rb_conf_value *value;
    const char *path;
    uint32_t line, column;
};

struct rb_conf_value {
    enum rb_conf_kind kind;
    uint32_t values; /* in this subtree, itself included */
    uint32_t height; /* 0: neither map nor array */
    uint32_t count;  /* entries or items */
    union {
        bool boolean;
        int64_t integer;
        double real;
        struct rb_slice text;
        struct {
            struct rb_conf_item *first, *last;
        } array;
        struct {
            struct rb_conf_entry *first, *last;
            struct rb_conf_entry **chains;
            uint32_t chain_count;
        } map;
    };
};

struct rb_conf {
    struct rb_arena *arena;
    const struct rb_conf_value *root; /* a map */
};

/**
 * Parses `text`; `path` names it in errors and is the base of relative includes.
 * Errors: RB_ERR_INVALID, RB_ERR_MEMORY; `error` then says why (one line, no newline) and *ret_conf is unchanged.
 */
RB_MUST_CHECK enum rb_err rb_conf_parse(const char *path, struct rb_slice text,
                                        struct rb_conf *ret_conf, char *error, size_t error_cap);
/** The same, but an include or a variable that would come from the environment is an error: nothing outside is read. */
RB_MUST_CHECK enum rb_err rb_conf_parse_closed(const char *path, struct rb_slice text,
                                               struct rb_conf *ret_conf, char *error,
                                               size_t error_cap);
/** Reads and parses a file. */
RB_MUST_CHECK enum rb_err rb_conf_parse_file(const char *path, struct rb_conf *ret_conf,
                                             char *error, size_t error_cap);
void rb_conf_deinit(struct rb_conf *conf);

/** The entry of exactly this key; NULL when absent. `map` must be a map. */
const struct rb_conf_entry *rb_conf_find(const struct rb_conf_value *map, struct rb_slice key);

/** What Go calls a value of this kind ("int64"), for error texts. */
const char *rb_conf_kind_text(enum rb_conf_kind kind);

#define RB_CONF_DIGEST_MAX 80
/**
 * "sha256:" and the hex digest of the tree's JSON form, keys sorted, with a newline at its end: what
 * nats-server shows for the same file. Errors: RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_conf_digest(const struct rb_conf *conf, char out[RB_CONF_DIGEST_MAX]);
