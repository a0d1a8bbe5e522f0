/* config_mapping.c - `mappings`: subjects that are renamed, in parts by weight, for an account or for "$G". */
#include "server/config_load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "proto/subject.h"
#include "proto/transform.h"

#define TARGETS_MAX 1024

static bool is_key(const struct rb_conf_entry *entry, const char *name)
{
    return rb_slice_equal_fold(entry->key, rb_slice_text(name));
}

static bool read_weight(struct rb_load *load, const struct rb_conf_entry *entry,
                        struct rb_mapping_target *target)
{
    const struct rb_conf_value *value = entry->value;
    char shown[RB_SHOWN_MAX];
    int64_t weight = -1;
    if (value->kind == RB_CONF_TEXT) {
        if (!rb_load_percent_text(value->text, &weight) || weight > 100) {
            size_t len = value->text.len;
            len -= len > 0 && value->text.ptr[len - 1] == '%';
            rb_load_error(load, entry, "Invalid weight \"%.*s\" for mapping destination", (int)len,
                          (const char *)value->text.ptr);
            return false;
        }
    } else if (value->kind != RB_CONF_INT) {
        rb_load_error(load, entry, "Unknown entry type for weight of %s",
                      rb_load_show(value, shown));
        return false;
    } else if (value->integer < 0 || value->integer > 100) {
        rb_load_error(load, entry, "Invalid weight %" PRId64 " for mapping destination",
                      value->integer);
        return false;
    } else {
        weight = value->integer;
    }
    target->weight = (uint32_t)weight;
    return true;
}

/** {destination, weight, cluster}. */
static bool read_target(struct rb_load *load, const struct rb_conf_entry *told_at,
                        const struct rb_conf_entry *entry, struct rb_mapping_target *target)
{
    bool weight = false, fine = true;
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        if (is_key(e, "destination") || is_key(e, "dest")) {
            fine &= rb_load_slice(load, e, &target->subject);
        } else if (is_key(e, "weight")) {
            fine &= read_weight(load, e, target);
            weight = true;
        } else if (is_key(e, "cluster")) {
            fine &= rb_load_slice(load, e, &target->cluster);
        } else if (!e->is_variable) {
            rb_load_error(load, e, "Unknown field \"%.*s\" for mapping destination", RB_KEY(e));
            fine = false;
        }
    }
    if (fine && target->subject.len == 0) {
        rb_load_error(load, told_at, "Missing destination for mapping");
        fine = false;
    } else if (fine && !weight) {
        rb_load_error(load, told_at, "Missing weight for mapping destination \"%.*s\"",
                      RB_S_ARG(target->subject));
        fine = false;
    }
    return fine;
}

static bool read_targets(struct rb_load *load, const struct rb_conf_entry *entry,
                         struct rb_mapping_target *targets, uint32_t *ret_count)
{
    uint32_t count = 0;
    bool fine = true;
    if (entry->value->kind == RB_CONF_TEXT) {
        targets[0].weight = 100;
        fine = rb_load_slice(load, entry, &targets[0].subject);
        count = 1;
    } else if (entry->value->kind == RB_CONF_MAP) {
        fine = read_target(load, entry, entry, &targets[0]);
        count = 1;
    } else if (entry->value->kind == RB_CONF_ARRAY) {
        for (const struct rb_conf_item *i = entry->value->array.first; i != NULL; i = i->next) {
            struct rb_conf_entry item = rb_load_item(entry, i);
            if (i->value->kind != RB_CONF_MAP) {
                rb_load_error(load, &item, "Expected an entry for the mapping destination");
                fine = false;
            } else {
                fine &= read_target(load, entry, &item, &targets[count++]);
            }
        }
    } else {
        rb_load_error(load, entry, "Expected an entry for the mapping destination");
        fine = false;
    }
    *ret_count = count;
    return fine;
}

static bool fail_mapping(struct rb_load *load, const struct rb_conf_entry *entry,
                         struct rb_slice source, const struct rb_mapping_target *target,
                         const char *why)
{
    rb_load_error(load, entry, "Error adding mapping for \"%.*s\" to \"%.*s\" : %s",
                  RB_S_ARG(source), RB_S_ARG(target->subject), why);
    return false;
}

static bool check_target(struct rb_load *load, const struct rb_conf_entry *entry,
                         struct rb_slice source, const struct rb_mapping_target *target)
{
    struct rb_transform *transform = NULL;
    char error[RB_TRANSFORM_ERROR_MAX];
    enum rb_err err =
        rb_transform_create(RB_TRANSFORM_MAPPING, source, target->subject, &transform, error);
    if (err == RB_OK) {
        rb_transform_destroy(transform);
        return true;
    }
    if (err == RB_ERR_MEMORY) {
        load->out_of_memory = true;
        return false;
    }
    return fail_mapping(load, entry, source, target, error);
}

/** Weights of one cluster (and of "everywhere") must not sum up to more than all. */
static bool check_weights(struct rb_load *load, const struct rb_conf_entry *entry,
                          const struct rb_mapping *mapping)
{
    for (uint32_t i = 0; i < mapping->target_count; i++) {
        const struct rb_mapping_target *target = &mapping->targets[i];
        uint64_t sum = 0;
        for (uint32_t j = 0; j < mapping->target_count; j++) {
            const struct rb_mapping_target *other = &mapping->targets[j];
            if (j < i && rb_slice_equal(other->subject, target->subject)) {
                rb_load_error(load, entry,
                              "Error adding mapping for \"%.*s\" : duplicate entry for \"%.*s\"",
                              RB_S_ARG(mapping->source), RB_S_ARG(target->subject));
                return false;
            }
            sum += rb_slice_equal(other->cluster, target->cluster) ? other->weight : 0;
        }
        if (sum > 100) {
            rb_load_error(load, entry,
                          "Error adding mapping for \"%.*s\" : total weight needs to be <= 100",
                          RB_S_ARG(mapping->source));
            return false;
        }
    }
    return true;
}

static bool read_mapping(struct rb_load *load, const struct rb_conf_entry *told_at,
                         const struct rb_conf_entry *entry, struct rb_mapping *mapping)
{
    uint32_t cap = entry->value->kind == RB_CONF_ARRAY ? entry->value->count : 1, count = 0;
    struct rb_mapping_target *targets = rb_load_take(load, (cap + 1) * sizeof(*targets));
    if (targets == NULL) {
        return false;
    }
    if (!rb_subject_valid(entry->key)) {
        rb_load_error(load, told_at, "Subject \"%.*s\" is not a valid subject", RB_KEY(entry));
        return false;
    }
    mapping->source = rb_load_copy(load, entry->key);
    if (cap > TARGETS_MAX) {
        rb_load_error(load, entry, "more than %d destinations of one mapping", TARGETS_MAX);
        return false;
    }
    if (!read_targets(load, entry, targets, &count)) {
        return false;
    }
    mapping->targets = targets;
    mapping->target_count = count;
    bool fine = check_weights(load, entry, mapping);
    for (uint32_t i = 0; i < count && fine; i++) {
        fine = check_target(load, entry, mapping->source, &targets[i]);
    }
    return fine;
}

void rb_load_mappings(struct rb_load *load, const struct rb_conf_entry *entry, uint32_t account)
{
    if (!rb_load_kind(load, entry, RB_CONF_MAP)) {
        return;
    }
    struct rb_mapping *mappings = rb_load_take(load, (entry->value->count + 1) * sizeof(*mappings));
    uint32_t count = 0;
    if (mappings == NULL) {
        return;
    }
    for (const struct rb_conf_entry *e = entry->value->map.first; e != NULL; e = e->next) {
        struct rb_mapping mapping = { 0 };
        if (read_mapping(load, entry, e, &mapping) && mapping.target_count > 0) {
            mappings[count++] = mapping;
        }
    }
    load->accounts[account].mappings = mappings;
    load->accounts[account].mapping_count = count;
}
