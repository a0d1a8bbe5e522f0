/* config.h - StreamConfig and ConsumerConfig: documents, defaults, rules (reference: jetstream.md 5, 6, 16). */
#pragma once

#include "js/doc.h"
#include "js/errors.h"

enum rb_js_retention { RB_JS_LIMITS, RB_JS_INTEREST, RB_JS_WORKQUEUE };
enum rb_js_discard { RB_JS_DISCARD_OLD, RB_JS_DISCARD_NEW };
enum rb_js_storage { RB_JS_FILE, RB_JS_MEMORY };
enum rb_js_compression { RB_JS_COMPRESSION_NONE, RB_JS_COMPRESSION_S2 };
enum rb_js_persist { RB_JS_PERSIST_DEFAULT, RB_JS_PERSIST_ASYNC };

struct rb_js_placement {
    struct rb_slice cluster, preferred;
    struct rb_doc_strings tags;
};
struct rb_js_transform {
    struct rb_slice src, dest;
};
struct rb_js_republish {
    struct rb_slice src, dest;
    bool headers_only;
};
struct rb_js_external {
    struct rb_slice api, deliver;
};
struct rb_js_source_consumer {
    struct rb_slice name, deliver_subject;
};
struct rb_js_source_config {
    struct rb_slice name;
    uint64_t opt_start_seq;
    int64_t opt_start_time;
    struct rb_slice filter_subject;
    struct rb_doc_objects subject_transforms; /* rb_js_transform */
    struct rb_js_external *external;
    struct rb_js_source_consumer *consumer;
};
struct rb_js_consumer_limits {
    int64_t inactive_threshold;
    int64_t max_ack_pending;
};
struct rb_js_stream_config {
    struct rb_slice name, description;
    struct rb_doc_strings subjects;
    uint8_t retention, discard, storage, compression, persist_mode;
    int64_t max_consumers, max_msgs, max_bytes, max_age, max_msgs_per_subject, duplicate_window;
    int32_t max_msg_size;
    int64_t num_replicas;
    bool discard_new_per_subject, no_ack;
    struct rb_js_placement *placement;
    struct rb_js_source_config *mirror;
    struct rb_doc_objects sources; /* rb_js_source_config */
    uint64_t first_seq;
    struct rb_js_transform *subject_transform;
    struct rb_js_republish *republish;
    bool allow_direct, mirror_direct, sealed, deny_delete, deny_purge, allow_rollup_hdrs;
    struct rb_js_consumer_limits consumer_limits;
    bool allow_msg_ttl;
    int64_t subject_delete_marker_ttl;
    bool allow_msg_counter, allow_atomic, allow_msg_schedules, allow_batched;
    struct rb_doc_map metadata;
    bool pedantic; /* of requests only */
};
extern const struct rb_doc_type rb_js_stream_config_type, rb_js_source_config_type;

enum rb_js_deliver {
    RB_JS_DELIVER_ALL,
    RB_JS_DELIVER_LAST,
    RB_JS_DELIVER_NEW,
    RB_JS_DELIVER_BY_START_SEQUENCE,
    RB_JS_DELIVER_BY_START_TIME,
    RB_JS_DELIVER_LAST_PER_SUBJECT,
};
enum rb_js_ack_policy { RB_JS_ACK_NONE, RB_JS_ACK_ALL, RB_JS_ACK_EXPLICIT, RB_JS_ACK_FLOW_CONTROL };
enum rb_js_replay { RB_JS_REPLAY_INSTANT, RB_JS_REPLAY_ORIGINAL };
enum rb_js_priority {
    RB_JS_PRIORITY_NONE,
    RB_JS_PRIORITY_OVERFLOW,
    RB_JS_PRIORITY_PINNED,
    RB_JS_PRIORITY_PRIORITIZED,
};
struct rb_js_consumer_config {
    struct rb_slice durable_name, name, description;
    uint8_t deliver_policy, ack_policy, replay_policy, priority_policy;
    uint64_t opt_start_seq;
    int64_t opt_start_time;
    int64_t ack_wait, max_deliver;
    struct rb_doc_i64s backoff;
    struct rb_slice filter_subject;
    struct rb_doc_strings filter_subjects;
    uint64_t rate_limit_bps;
    struct rb_slice sample_freq;
    int64_t max_waiting, max_ack_pending;
    bool flow_control, headers_only, mem_storage, direct, sourcing;
    int64_t idle_heartbeat, max_batch, max_expires, max_bytes, inactive_threshold, num_replicas;
    struct rb_slice deliver_subject, deliver_group;
    struct rb_doc_map metadata;
    int64_t pause_until;
    struct rb_doc_strings priority_groups;
    int64_t priority_timeout;
};
extern const struct rb_doc_type rb_js_consumer_config_type;
