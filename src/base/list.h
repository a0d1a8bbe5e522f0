/* list.h - intrusive doubly linked list with a sentinel. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct rb_list {
    struct rb_list *prev, *next;
};

#define RB_CONTAINER(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

static inline void rb_list_init(struct rb_list *list)
{
    list->prev = list->next = list;
}

static inline bool rb_list_empty(const struct rb_list *list)
{
    return list->next == list;
}

static inline void rb_list_append(struct rb_list *list, struct rb_list *item)
{
    item->prev = list->prev;
    item->next = list;
    list->prev->next = item;
    list->prev = item;
}

/** Leaves `item` linked to itself, so removing twice is harmless. */
static inline void rb_list_remove(struct rb_list *item)
{
    item->prev->next = item->next;
    item->next->prev = item->prev;
    item->prev = item->next = item;
}

/** Moves every item of `from` behind those of `list`; `from` is empty afterwards. */
static inline void rb_list_splice(struct rb_list *list, struct rb_list *from)
{
    if (rb_list_empty(from)) {
        return;
    }
    from->next->prev = list->prev;
    list->prev->next = from->next;
    from->prev->next = list;
    list->prev = from->prev;
    rb_list_init(from);
}

/** NULL when empty. */
static inline struct rb_list *rb_list_pop(struct rb_list *list)
{
    struct rb_list *item = list->next;
    if (item == list) {
        return NULL;
    }
    rb_list_remove(item);
    return item;
}
