#include "core/top.h"

#include <string.h>

void rb_top_add(struct rb_top *top, uint32_t account, struct rb_slice subject, uint64_t bytes)
{
    uint64_t hash = rb_slice_hash(subject) ^ account;
    struct rb_top_entry *least = &top->entries[0];
    for (uint32_t i = 0; i < top->count; i++) {
        struct rb_top_entry *entry = &top->entries[i];
        if (entry->hash == hash) {
            entry->msgs++;
            entry->bytes += bytes;
            return;
        }
        if (entry->msgs < least->msgs) {
            least = entry;
        }
    }
    if (top->count < RB_TOP_ENTRIES) {
        least = &top->entries[top->count++];
        *least = (struct rb_top_entry){ 0 };
    }
    /* The newcomer takes the lightest one's place and its count, which is thus an upper bound. */
    size_t len = subject.len < RB_TOP_SUBJECT_MAX ? subject.len : RB_TOP_SUBJECT_MAX;
    least->hash = hash;
    least->account = account;
    least->msgs++;
    least->bytes += bytes;
    least->subject_len = (uint8_t)len;
    memcpy(least->subject, subject.ptr, len);
}
