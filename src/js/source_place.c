/* source_place.c - how far each source came, by what it asks of whom. */
#include <string.h>

#include "js/saved.h"
#include "js/source.h"

#define IDENTITY_MAX 64u

struct rb_js_place {
    uint64_t seq;
    uint32_t key_len, identity_len;
    uint8_t *text; /* key, then IDENTITY_MAX bytes for the identity; allocated */
};

/* The n-th word, or all words from there on. */
static struct rb_slice next_word(struct rb_slice *rest)
{
    const uint8_t *end = rest->len == 0 ? NULL : memchr(rest->ptr, ' ', rest->len);
    size_t len = end == NULL ? rest->len : (size_t)(end - rest->ptr);
    struct rb_slice word = rb_slice_of(rest->ptr, len);
    *rest = end == NULL ? rb_slice_of(NULL, 0) : rb_slice_of(end + 1, rest->len - len - 1);
    return word;
}

bool rb_js_source_header_parse(struct rb_slice value, struct rb_js_source_header *ret_header)
{
    struct rb_slice rest = value;
    ret_header->origin = next_word(&rest);
    struct rb_slice seq = next_word(&rest);
    ret_header->filter = next_word(&rest);
    ret_header->destination = next_word(&rest);
    ret_header->subject = next_word(&rest);
    ret_header->identity = next_word(&rest);
    return ret_header->destination.len > 0 && ret_header->identity.len <= IDENTITY_MAX &&
           rb_slice_decimal(seq, 19, &ret_header->seq);
}

void rb_js_places_init(struct rb_js_places *places, struct rb_budget *budget)
{
    *places = (struct rb_js_places){ .budget = budget };
}

void rb_js_places_deinit(struct rb_js_places *places)
{
    for (uint32_t i = 0; i < places->count; i++) {
        struct rb_js_place *place = &places->items[i];
        rb_free(places->budget, place->text, place->key_len + IDENTITY_MAX);
    }
    rb_free(places->budget, places->items, places->cap * sizeof(*places->items));
}

static bool key_equal(const struct rb_js_place *place, const struct rb_js_source_header *key)
{
    if (place->key_len != key->origin.len + key->filter.len + key->destination.len + 2) {
        return false;
    }
    struct rb_slice rest = rb_slice_of(place->text, place->key_len);
    return rb_slice_equal(next_word(&rest), key->origin) &&
           rb_slice_equal(next_word(&rest), key->filter) && rb_slice_equal(rest, key->destination);
}

static struct rb_js_place *find(const struct rb_js_places *places,
                                const struct rb_js_source_header *key)
{
    for (uint32_t i = 0; i < places->count; i++) {
        if (key_equal(&places->items[i], key)) {
            return &places->items[i];
        }
    }
    return NULL;
}

uint64_t rb_js_place_of(const struct rb_js_places *places, const struct rb_js_source_header *key,
                        struct rb_slice *ret_identity)
{
    const struct rb_js_place *place = find(places, key);
    if (ret_identity != NULL) {
        *ret_identity = place == NULL
                            ? rb_slice_of(NULL, 0)
                            : rb_slice_of(place->text + place->key_len, place->identity_len);
    }
    return place == NULL ? 0 : place->seq;
}

static struct rb_js_place *add(struct rb_js_places *places, size_t key_len)
{
    if (places->count == places->cap) {
        uint32_t cap = places->cap == 0 ? 4 : 2 * places->cap;
        struct rb_js_place *items = rb_realloc(places->budget, places->items,
                                               places->cap * sizeof(*items), cap * sizeof(*items));
        if (items == NULL) {
            return NULL;
        }
        places->items = items;
        places->cap = cap;
    }
    uint8_t *text = rb_alloc(places->budget, key_len + IDENTITY_MAX);
    if (text == NULL) {
        return NULL;
    }
    struct rb_js_place *place = &places->items[places->count++];
    *place = (struct rb_js_place){ .key_len = (uint32_t)key_len, .text = text };
    return place;
}

bool rb_js_place_set(struct rb_js_places *places, const struct rb_js_source_header *header)
{
    struct rb_js_place *place = find(places, header);
    if (place == NULL) {
        size_t key_len = header->origin.len + header->filter.len + header->destination.len + 2;
        place = add(places, key_len);
        if (place == NULL) {
            return false;
        }
        struct rb_writer out = rb_writer_over(place->text, key_len);
        rb_write_slice(&out, header->origin);
        rb_write_u8(&out, ' ');
        rb_write_slice(&out, header->filter);
        rb_write_u8(&out, ' ');
        rb_write_slice(&out, header->destination);
    }
    place->seq = header->seq;
    place->identity_len = (uint32_t)header->identity.len;
    if (header->identity.len > 0) {
        memcpy(place->text + place->key_len, header->identity.ptr, header->identity.len);
    }
    return true;
}

void rb_js_places_save(const struct rb_js_places *places, struct rb_out *out)
{
    rb_js_put_number(out, places->count);
    for (uint32_t i = 0; i < places->count; i++) {
        const struct rb_js_place *place = &places->items[i];
        rb_js_put_number(out, place->seq);
        rb_js_put_text(out, rb_slice_of(place->text, place->key_len));
        rb_js_put_text(out, rb_slice_of(place->text + place->key_len, place->identity_len));
    }
}

enum rb_err rb_js_places_load(struct rb_js_places *places, struct rb_reader *reader)
{
    uint64_t count = rb_read_u64(reader);
    for (uint64_t i = 0; i < count; i++) {
        struct rb_js_source_header header = { .seq = rb_read_u64(reader) };
        struct rb_slice rest = rb_js_get_text(reader);
        header.identity = rb_js_get_text(reader);
        if (!rb_reader_ok(reader) || header.identity.len > IDENTITY_MAX) {
            return RB_ERR_CORRUPT;
        }
        header.origin = next_word(&rest);
        header.filter = next_word(&rest);
        header.destination = rest;
        if (!rb_js_place_set(places, &header)) {
            return RB_ERR_MEMORY;
        }
    }
    return rb_reader_ok(reader) ? RB_OK : RB_ERR_CORRUPT;
}
