/* mapping.c - weighted subject mappings: which one, which target, which subject.
 *
 * 1. Mappings keep their order. Those with a literal source are found by hash, those with wildcards are walked through
 *    in order; the smaller index of both is the first that matches. Only the first of equal sources is ever used.
 * 2. A mapping's choices are those targets that hold for this cluster, with cumulative weights up to 100. What is missing
 *    goes to the subject itself, unless the source is listed as a target: then it is lost on purpose.
 * 3. Weight is drawn from the low part of `random`, a {{random(n)}} in the target gets the rest, so that one does not
 *    decide the other.
 */
#include "core/mapping.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/map.h"
#include "proto/subject.h"
#include "proto/transform.h"
#include "ringbus/check.h"

struct choice {
    struct rb_transform *transform;
    uint32_t until; /* of 100; cumulative */
};

struct mapping {
    struct rb_transform *original; /* its source, onto itself */
    struct choice *choices;
    uint32_t choice_count, index;
    bool loses; /* invariant 2 */
};

struct rb_mappings {
    struct mapping *mappings;
    uint32_t count, pattern_count;
    uint32_t *patterns; /* indexes of those with wildcards, ascending */
    struct rb_map literals;
};

static struct rb_slice source_of(const struct mapping *mapping)
{
    return rb_transform_source(mapping->original);
}

static bool has_source(const void *item, struct rb_slice source)
{
    return rb_slice_equal(source_of(item), source);
}

static uint64_t hash_source(const void *item)
{
    return rb_slice_hash(source_of(item));
}

static int shown(struct rb_slice s)
{
    return (int)(s.len < 80 ? s.len : 80);
}

static enum rb_err fail(char *error, const struct rb_mapping *from, const char *text,
                        struct rb_slice name)
{
    int len = snprintf(error, RB_MAPPINGS_ERROR_MAX, "\"%.*s\" : %s", shown(from->source),
                       (const char *)from->source.ptr, text);
    if (name.len > 0 && len < RB_MAPPINGS_ERROR_MAX) {
        snprintf(error + len, (size_t)(RB_MAPPINGS_ERROR_MAX - len), " for \"%.*s\"", shown(name),
                 (const char *)name.ptr);
    }
    return RB_ERR_INVALID;
}

static enum rb_err make_transform(const struct rb_mapping *from, struct rb_slice destination,
                                  struct rb_transform **ret_transform, char *error)
{
    char text[RB_TRANSFORM_ERROR_MAX];
    enum rb_err err =
        rb_transform_create(RB_TRANSFORM_MAPPING, from->source, destination, ret_transform, text);
    return err == RB_OK || err == RB_ERR_MEMORY ? err
                                                : fail(error, from, text, rb_slice_of(NULL, 0));
}

static uint32_t total_of(const struct rb_mapping *from, struct rb_slice cluster)
{
    uint64_t total = 0;
    for (uint32_t i = 0; i < from->target_count; i++) {
        total += rb_slice_equal(from->targets[i].cluster, cluster) ? from->targets[i].weight : 0;
    }
    return total > UINT32_MAX ? UINT32_MAX : (uint32_t)total;
}

/* Each subject once, whatever its cluster; at most 100 % for each cluster. */
static enum rb_err check_targets(const struct rb_mapping *from, char *error)
{
    if (from->target_count > RB_MAPPING_TARGETS_MAX) {
        return fail(error, from, "too many destinations", rb_slice_of(NULL, 0));
    }
    for (uint32_t i = 0; i < from->target_count; i++) {
        for (uint32_t j = 0; j < i; j++) {
            if (rb_slice_equal(from->targets[i].subject, from->targets[j].subject)) {
                return fail(error, from, "duplicate entry", from->targets[i].subject);
            }
        }
        if (total_of(from, from->targets[i].cluster) > 100) {
            return fail(error, from, "total weight needs to be <= 100", rb_slice_of(NULL, 0));
        }
    }
    return RB_OK;
}

/* Compiles every target, also those of other clusters: a mistake is one on each server. */
static enum rb_err make_mapping(const struct rb_mapping *from, struct rb_slice cluster,
                                struct mapping *mapping, char *error)
{
    bool scoped = false;
    enum rb_err err = check_targets(from, error);
    if (err != RB_OK) {
        return err;
    }
    err = make_transform(from, rb_slice_of(NULL, 0), &mapping->original, error);
    if (err != RB_OK) {
        return err;
    }
    mapping->choices = calloc(from->target_count + 1, sizeof(*mapping->choices));
    if (mapping->choices == NULL) {
        return RB_ERR_MEMORY;
    }
    for (uint32_t i = 0; i < from->target_count; i++) {
        scoped = scoped || (cluster.len > 0 && rb_slice_equal(from->targets[i].cluster, cluster));
    }
    uint32_t until = 0;
    for (uint32_t i = 0; i < from->target_count; i++) {
        const struct rb_mapping_target *target = &from->targets[i];
        struct rb_transform *transform = NULL;
        mapping->loses = mapping->loses || rb_slice_equal(target->subject, from->source);
        err = make_transform(from, target->subject, &transform, error);
        if (err != RB_OK) {
            return err;
        }
        bool ours = scoped ? rb_slice_equal(target->cluster, cluster) : target->cluster.len == 0;
        if (!ours) {
            rb_transform_destroy(transform);
            continue;
        }
        until += target->weight;
        mapping->choices[mapping->choice_count++] = (struct choice){ transform, until };
    }
    return RB_OK;
}

static enum rb_err make_all(struct rb_mappings *made, const struct rb_mapping *from,
                            struct rb_slice cluster, char *error)
{
    for (uint32_t i = 0; i < made->count; i++) {
        struct mapping *mapping = &made->mappings[i];
        mapping->index = i;
        enum rb_err err = make_mapping(&from[i], cluster, mapping, error);
        if (err != RB_OK) {
            return err;
        }
        struct rb_slice source = source_of(mapping);
        uint64_t hash = rb_slice_hash(source);
        if (rb_subject_has_wildcard(source)) {
            made->patterns[made->pattern_count++] = i;
        } else if (rb_map_find(&made->literals, hash, source) == NULL) {
            err = rb_map_insert(&made->literals, hash, mapping);
            if (err != RB_OK) {
                return err;
            }
        }
    }
    return RB_OK;
}

enum rb_err rb_mappings_create(const struct rb_mapping *mappings, uint32_t count,
                               struct rb_slice cluster, struct rb_mappings **ret_mappings,
                               char error[RB_MAPPINGS_ERROR_MAX])
{
    struct rb_mappings *made = calloc(1, sizeof(*made));
    if (made == NULL) {
        snprintf(error, RB_MAPPINGS_ERROR_MAX, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    rb_map_init(&made->literals, NULL, 0, has_source, hash_source);
    made->mappings = calloc((size_t)count + 1, sizeof(*made->mappings));
    made->patterns = calloc((size_t)count + 1, sizeof(*made->patterns));
    made->count = made->mappings == NULL ? 0 : count;
    enum rb_err err = made->mappings == NULL || made->patterns == NULL
                          ? RB_ERR_MEMORY
                          : make_all(made, mappings, cluster, error);
    if (err != RB_OK) {
        if (err == RB_ERR_MEMORY) {
            snprintf(error, RB_MAPPINGS_ERROR_MAX, "%s", rb_err_text(err));
        }
        rb_mappings_destroy(made);
        return err;
    }
    *ret_mappings = made;
    return RB_OK;
}

void rb_mappings_destroy(struct rb_mappings *mappings)
{
    if (mappings == NULL) {
        return;
    }
    for (uint32_t i = 0; i < mappings->count; i++) {
        struct mapping *mapping = &mappings->mappings[i];
        for (uint32_t j = 0; j < mapping->choice_count; j++) {
            rb_transform_destroy(mapping->choices[j].transform);
        }
        free(mapping->choices);
        rb_transform_destroy(mapping->original);
    }
    rb_map_deinit(&mappings->literals);
    free(mappings->patterns);
    free(mappings->mappings);
    free(mappings);
}

/* Invariant 1. */
static const struct mapping *find(const struct rb_mappings *mappings, struct rb_slice subject)
{
    const struct mapping *found = NULL;
    if (mappings->literals.count > 0) {
        found = rb_map_find(&mappings->literals, rb_slice_hash(subject), subject);
    }
    for (uint32_t i = 0; i < mappings->pattern_count; i++) {
        const struct mapping *pattern = &mappings->mappings[mappings->patterns[i]];
        if (found != NULL && found->index < pattern->index) {
            break;
        }
        if (rb_subject_match(source_of(pattern), subject)) {
            return pattern;
        }
    }
    return found;
}

enum rb_mapped rb_mappings_apply(const struct rb_mappings *mappings, struct rb_slice subject,
                                 uint64_t random, uint8_t *out, size_t cap, size_t *ret_len)
{
    const struct mapping *mapping = mappings == NULL ? NULL : find(mappings, subject);
    if (mapping == NULL) {
        return RB_MAPPED_NONE;
    }
    const struct rb_transform *transform = mapping->loses ? NULL : mapping->original;
    for (uint32_t i = 0; i < mapping->choice_count; i++) {
        if (random % 100 < mapping->choices[i].until) {
            transform = mapping->choices[i].transform;
            break;
        }
    }
    size_t len =
        transform == NULL ? 0 : rb_transform_apply(transform, subject, random / 100, out, cap);
    if (len == 0) {
        return RB_MAPPED_DROPPED;
    }
    *ret_len = len;
    return RB_MAPPED;
}
