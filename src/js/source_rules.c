/* source_rules.c - what mirrors and sources may be configured as, in nats-server's order (reference: jetstream.md 13.1). */
#include <stdio.h>
#include <string.h>

#include "js/source.h"
#include "js/stream_inside.h"
#include "proto/subject.h"
#include "proto/transform.h"

#define WALKED_MAX 1024u

struct check {
    struct rb_js_account *account;
    struct rb_js_stream_config *config;
    struct rb_js_error *error;
};

/* The same rule has a code for mirrors and one for sources. */
struct codes {
    uint16_t name, filter, transform_source, transform, overlap, size, consumer;
    const char *option;
};
static const struct codes mirror_codes = { 10142, 10150, 10151, 10154,
                                           10152, 10030, 10213, "mirror consumer" };
static const struct codes source_codes = { 10141, 10144, 10145, 10146,
                                           10147, 10046, 10215, "source consumer" };

static bool refused(struct check *c, uint16_t code)
{
    rb_js_error_set(c->error, code, NULL);
    return false;
}

static bool invalid(struct check *c, const char *text)
{
    rb_js_error_set(c->error, 10052, text);
    return false;
}

static const struct rb_js_transform *transform_at(const struct rb_js_source_config *source,
                                                  uint32_t i)
{
    return &((const struct rb_js_transform *)source->subject_transforms.items)[i];
}

static const struct rb_js_source_config *source_at(const struct rb_js_stream_config *config,
                                                   uint32_t i)
{
    return &((const struct rb_js_source_config *)config->sources.items)[i];
}

static struct rb_slice everything(struct rb_slice subject)
{
    return subject.len == 0 ? RB_S(">") : subject;
}

static bool check_consumer(struct check *c, const struct rb_js_source_config *source,
                           const struct codes *codes)
{
    const struct rb_js_source_consumer *consumer = source->consumer;
    if (consumer == NULL) {
        return true;
    }
    if (!rb_js_name_valid(consumer->name) || !rb_subject_valid(consumer->deliver_subject) ||
        rb_subject_has_wildcard(consumer->deliver_subject) || source->opt_start_seq > 0 ||
        source->opt_start_time != RB_DOC_NO_TIME || source->filter_subject.len > 0 ||
        source->subject_transforms.count > 0) {
        return refused(c, codes->consumer);
    }
    return true;
}

static bool check_transforms(struct check *c, const struct rb_js_source_config *source,
                             const struct codes *codes)
{
    for (uint32_t i = 0; i < source->subject_transforms.count; i++) {
        const struct rb_js_transform *transform = transform_at(source, i);
        char text[RB_TRANSFORM_ERROR_MAX];
        struct rb_transform *compiled;
        if (transform->src.len > 0 && !rb_subject_valid(transform->src)) {
            rb_js_error_format(c->error, codes->transform_source, "invalid subject %.*s",
                               RB_S_ARG(transform->src));
            return false;
        }
        if (transform->dest.len > 0) {
            if (rb_transform_create(RB_TRANSFORM_ANY, everything(transform->src), transform->dest,
                                    &compiled, text) != RB_OK) {
                rb_js_error_set(c->error, codes->transform, text);
                return false;
            }
            rb_transform_destroy(compiled);
        }
        for (uint32_t k = 0; k < i; k++) {
            if (rb_subject_overlap(everything(transform_at(source, k)->src),
                                   everything(transform->src))) {
                return refused(c, codes->overlap);
            }
        }
    }
    return true;
}

static bool check_size(struct check *c, const struct rb_js_source_config *source,
                       const struct codes *codes)
{
    const struct rb_js_stream *origin =
        source->external != NULL ? NULL : rb_js_stream_find(c->account, source->name);
    return origin == NULL || c->config->max_msg_size <= 0 || origin->config->max_msg_size <= 0 ||
           c->config->max_msg_size >= origin->config->max_msg_size || refused(c, codes->size);
}

static bool check_external(struct check *c, const struct rb_js_source_config *source)
{
    const struct rb_js_external *external = source->external;
    char prefix[RB_MSGSTORE_SUBJECT_MAX + 1];
    if (external == NULL) {
        return true;
    }
    if (external->deliver.len > 0) {
        (void)snprintf(prefix, sizeof(prefix), "%.*s", RB_S_ARG(external->deliver));
        if (rb_subject_has_wildcard(external->deliver)) {
            rb_js_error_set(c->error, 10024, prefix);
            return false;
        }
        for (uint32_t i = 0; i < c->config->subjects.count; i++) {
            struct rb_slice subject = c->config->subjects.items[i];
            if (rb_subject_overlap(subject, external->deliver)) {
                char text[RB_MSGSTORE_SUBJECT_MAX + 1];
                (void)snprintf(text, sizeof(text), "%.*s", RB_S_ARG(subject));
                rb_js_error_set_two(c->error, 10022, prefix, text);
                return false;
            }
        }
    }
    (void)snprintf(prefix, sizeof(prefix), "%.*s", RB_S_ARG(external->api));
    if (!rb_subject_valid(external->api) || rb_subject_has_wildcard(external->api)) {
        rb_js_error_format(
            c->error, 10052,
            "stream external api prefix \"%.*s\" must be a valid subject without wildcards",
            RB_S_ARG(external->api));
        return false;
    }
    if (rb_subject_overlap(external->api, RB_S("$JS.API"))) {
        rb_js_error_set_two(c->error, 10021, prefix, "$JS.API");
        return false;
    }
    return true;
}

static bool check_mirror(struct check *c)
{
    struct rb_js_stream_config *config = c->config;
    const struct rb_js_source_config *mirror = config->mirror;
    const struct {
        bool broken;
        uint16_t code;
    } rules[] = {
        { config->first_seq > 0, 10143 },       { config->subjects.count > 0, 10034 },
        { config->sources.count > 0, 10031 },   { config->allow_msg_counter, 10173 },
        { config->allow_atomic, 10198 },        { config->allow_batched, 10209 },
        { config->allow_msg_schedules, 10186 },
    };
    for (size_t i = 0; i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (rules[i].broken) {
            return refused(c, rules[i].code);
        }
    }
    if (!check_consumer(c, mirror, &mirror_codes)) {
        return false;
    }
    if (mirror->filter_subject.len > 0 && mirror->subject_transforms.count > 0) {
        return refused(c, mirror_codes.filter);
    }
    if (config->subject_delete_marker_ttl > 0) {
        return invalid(c, "subject delete markers forbidden on mirrors");
    }
    if (!check_transforms(c, mirror, &mirror_codes)) {
        return false;
    }
    if (mirror->external == NULL && !rb_js_name_valid(mirror->name)) {
        return refused(c, mirror_codes.name);
    }
    if (!check_size(c, mirror, &mirror_codes)) {
        return false;
    }
    const struct rb_js_stream *origin =
        mirror->external != NULL ? NULL : rb_js_stream_find(c->account, mirror->name);
    if (origin != NULL && origin->config->allow_direct != config->mirror_direct) {
        if (config->pedantic && origin->config->allow_direct) {
            rb_js_error_set(c->error, 10157,
                            "origin stream has direct get set, mirror has it disabled");
            return false;
        }
        config->mirror_direct = origin->config->allow_direct;
    }
    return check_external(c, mirror);
}

static bool same_external(const struct rb_js_source_config *a, const struct rb_js_source_config *b)
{
    if (a->external == NULL || b->external == NULL) {
        return a->external == b->external;
    }
    return rb_slice_equal(a->external->api, b->external->api) &&
           rb_slice_equal(a->external->deliver, b->external->deliver);
}

/* Where they begin does not count. */
static bool same_source(const struct rb_js_source_config *a, const struct rb_js_source_config *b)
{
    bool same = rb_slice_equal(a->name, b->name) && same_external(a, b) &&
                rb_slice_equal(a->filter_subject, b->filter_subject) &&
                a->subject_transforms.count == b->subject_transforms.count;
    for (uint32_t i = 0; same && i < a->subject_transforms.count; i++) {
        same = rb_slice_equal(transform_at(a, i)->src, transform_at(b, i)->src) &&
               rb_slice_equal(transform_at(a, i)->dest, transform_at(b, i)->dest);
    }
    return same;
}

static bool check_source(struct check *c, uint32_t at)
{
    const struct rb_js_source_config *source = source_at(c->config, at);
    if (!rb_js_name_valid(source->name)) {
        return refused(c, source_codes.name);
    }
    for (uint32_t i = 0; i < at; i++) {
        if (same_source(source_at(c->config, i), source)) {
            return refused(c, 10140);
        }
    }
    if (source->filter_subject.len > 0 && source->subject_transforms.count > 0) {
        return refused(c, source_codes.filter);
    }
    if (!check_transforms(c, source, &source_codes) || !check_consumer(c, source, &source_codes)) {
        return false;
    }
    for (uint32_t i = 0; i < at && source->consumer != NULL; i++) {
        const struct rb_js_source_consumer *other = source_at(c->config, i)->consumer;
        if (other != NULL && rb_slice_equal(other->name, source->consumer->name) &&
            rb_slice_equal(source_at(c->config, i)->name, source->name)) {
            return refused(c, 10216);
        }
    }
    return check_size(c, source, &source_codes) && check_external(c, source);
}

static bool check_supported(struct check *c, const struct rb_js_source_config *source,
                            const struct codes *codes)
{
    if (source->consumer == NULL) {
        return true;
    }
    rb_js_error_format(c->error, 10052, "%s is not supported by ringbus yet", codes->option);
    return false;
}

bool rb_js_source_rules(struct rb_js_account *account, struct rb_js_stream_config *config,
                        const struct rb_js_stream_config *update, struct rb_js_error *error)
{
    struct check c = { account, config, error };
    if (config->mirror != NULL) {
        return check_mirror(&c) && check_supported(&c, config->mirror, &mirror_codes);
    }
    if (config->sources.count > 0 && config->allow_msg_schedules) {
        return refused(&c, 10187);
    }
    for (uint32_t i = 0; i < config->sources.count; i++) {
        if (!check_source(&c, i)) {
            return false;
        }
    }
    for (uint32_t i = 0; i < config->sources.count; i++) {
        if (!check_supported(&c, source_at(config, i), &source_codes)) {
            return false;
        }
    }
    return true;
}

/* ---- cycles ---- */

static bool overlaps(const struct rb_js_source_config *a, const struct rb_js_source_config *b)
{
    uint32_t a_count = a->subject_transforms.count, b_count = b->subject_transforms.count;
    for (uint32_t i = 0; i == 0 || i < a_count; i++) {
        struct rb_slice x = everything(a_count > 0 ? transform_at(a, i)->src : a->filter_subject);
        for (uint32_t k = 0; k == 0 || k < b_count; k++) {
            struct rb_slice y =
                everything(b_count > 0 ? transform_at(b, k)->src : b->filter_subject);
            if (rb_subject_overlap(x, y)) {
                return true;
            }
        }
    }
    return false;
}

static uint32_t source_count(const struct rb_js_stream_config *config)
{
    return config->mirror != NULL ? 1 : config->sources.count;
}

static const struct rb_js_source_config *nth(const struct rb_js_stream_config *config, uint32_t n)
{
    return config->mirror != NULL ? config->mirror : source_at(config, n);
}

/* Sources from which the messages of a stream come, directly and by others: each once. */
struct walk {
    const struct rb_js_source_config *found[WALKED_MAX];
    uint32_t count;
};

static void add(struct walk *walk, const struct rb_js_source_config *source)
{
    for (uint32_t i = 0; i < walk->count; i++) {
        if (walk->found[i] == source) {
            return;
        }
    }
    if (walk->count < WALKED_MAX && source->external == NULL) {
        walk->found[walk->count++] = source;
    }
}

static bool has_cycle(struct rb_js_account *account, const struct rb_js_stream_config *config)
{
    struct walk walk = { .count = 0 };
    for (uint32_t i = 0; i < source_count(config); i++) {
        add(&walk, nth(config, i));
    }
    for (uint32_t at = 0; at < walk.count; at++) {
        const struct rb_js_source_config *source = walk.found[at];
        if (rb_slice_equal(source->name, config->name)) {
            return true;
        }
        const struct rb_js_stream *origin = rb_js_stream_any(account, source->name);
        for (uint32_t i = 0; origin != NULL && i < source_count(origin->config); i++) {
            const struct rb_js_source_config *next = nth(origin->config, i);
            if (overlaps(source, next)) {
                add(&walk, next);
            }
        }
    }
    return false;
}

bool rb_js_source_cycles(struct rb_js_account *account, const struct rb_js_stream_config *config,
                         struct rb_js_error *error)
{
    if (has_cycle(account, config)) {
        rb_js_error_set(error, 10052, "detected cycle");
        return false;
    }
    for (uint32_t i = 0; i < source_count(config); i++) {
        const struct rb_js_source_config *source = nth(config, i);
        if (source->filter_subject.len > 0 && !rb_subject_valid(source->filter_subject)) {
            rb_js_error_format(error, 10049,
                               config->mirror != NULL
                                   ? "subject filter '%.*s' for the mirror invalid subject"
                                   : "subject filter '%.*s' for the source: invalid subject",
                               RB_S_ARG(source->filter_subject));
            return false;
        }
    }
    return true;
}
