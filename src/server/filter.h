/* filter.h - which servers a system request is meant for: server_name, cluster, host, tags, domain. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/slice.h"

#define RB_FILTER_TEXT_MAX 512
#define RB_FILTER_TAGS_MAX 64
#define RB_FILTER_ERROR_MAX 640

struct rb_filter {
    char name[RB_FILTER_TEXT_MAX], cluster[RB_FILTER_TEXT_MAX], host[RB_FILTER_TEXT_MAX],
        domain[RB_FILTER_TEXT_MAX];
    bool exact;
    char (*tags)[RB_FILTER_TEXT_MAX];
    uint32_t tag_count;
    uint64_t cid; /* of KICK and LDM; 0: none */
    bool cid_bad; /* it was there, but is no number of a connection */
};

/** What a server is; texts may be NULL or empty. */
struct rb_filter_facts {
    const char *name, *cluster, *host, *domain;
    const char *const *tags;
    uint32_t tag_count;
};

/**
 * From a JSON body; an empty one asks everybody. `type`: what nats-server calls these options in errors
 * ("ConnzEventOptions"). False: `error` says why, in the words of Go's decoder, and nothing needs to be freed.
 */
bool rb_filter_parse(struct rb_slice body, const char *type, struct rb_filter *filter,
                     char error[RB_FILTER_ERROR_MAX]);
void rb_filter_deinit(struct rb_filter *filter);
/** Names and hosts must be contained, or equal when `exact`; tags in any case. */
bool rb_filter_meant(const struct rb_filter *filter, const struct rb_filter_facts *facts);
