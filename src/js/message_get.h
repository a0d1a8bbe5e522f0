/* message_get.h - what MSG.GET and DIRECT.GET are asked: one message or several, by sequence, subject or time. */
#pragma once

#include "js/doc.h"

struct rb_msgstore;

struct rb_js_message_get {
    uint64_t seq, up_to_seq;
    struct rb_slice last_by_subj, next_by_subj;
    int64_t batch, max_bytes;
    int64_t start_time, up_to_time;
    struct rb_doc_strings multi_last;
    bool no_hdr;
};
extern const struct rb_doc_type rb_js_message_get_type;

/** Two ways of choosing that exclude each other. */
bool rb_js_message_get_conflicts(const struct rb_js_message_get *get);
/** The one message that is meant; 0: there is none. Not for multi_last. */
uint64_t rb_js_message_get_find(const struct rb_js_message_get *get,
                                const struct rb_msgstore *store);
