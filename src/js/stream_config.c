/* stream_config.c - the document of a stream's configuration, in the order in which nats-server writes it. */
#include "js/config.h"

#define COUNT(fields) (uint32_t)(sizeof(fields) / sizeof((fields)[0]))
#define FIELD(struct_, name_, kind_, flags_)                                                       \
    {                                                                                              \
        .name = #name_, .kind = (kind_), .flags = (flags_), .offset = offsetof(struct_, name_)     \
    }
#define ENUM(struct_, name_, flags_, names_, refusal_)                                             \
    {                                                                                              \
        .name = #name_, .kind = RB_DOC_ENUM, .flags = (flags_),                                    \
        .offset = offsetof(struct_, name_), .names = (names_), .refusal = (refusal_)               \
    }
#define OF_TYPE(struct_, name_, kind_, flags_, type_)                                              \
    {                                                                                              \
        .name = #name_, .kind = (kind_), .flags = (flags_), .offset = offsetof(struct_, name_),    \
        .type = &(type_)                                                                           \
    }

static const struct rb_doc_field placement_fields[] = {
    FIELD(struct rb_js_placement, cluster, RB_DOC_STRING, RB_DOC_OMIT),
    FIELD(struct rb_js_placement, tags, RB_DOC_STRINGS, RB_DOC_OMIT),
    FIELD(struct rb_js_placement, preferred, RB_DOC_STRING, RB_DOC_OMIT),
};
static const struct rb_doc_type placement_type = { "Placement", sizeof(struct rb_js_placement),
                                                   placement_fields, COUNT(placement_fields) };

static const struct rb_doc_field transform_fields[] = {
    FIELD(struct rb_js_transform, src, RB_DOC_STRING, 0),
    FIELD(struct rb_js_transform, dest, RB_DOC_STRING, 0),
};
static const struct rb_doc_type transform_type = { "SubjectTransformConfig",
                                                   sizeof(struct rb_js_transform), transform_fields,
                                                   COUNT(transform_fields) };

static const struct rb_doc_field republish_fields[] = {
    FIELD(struct rb_js_republish, src, RB_DOC_STRING, RB_DOC_OMIT),
    FIELD(struct rb_js_republish, dest, RB_DOC_STRING, 0),
    FIELD(struct rb_js_republish, headers_only, RB_DOC_BOOL, RB_DOC_OMIT),
};
static const struct rb_doc_type republish_type = { "RePublish", sizeof(struct rb_js_republish),
                                                   republish_fields, COUNT(republish_fields) };

static const struct rb_doc_field external_fields[] = {
    FIELD(struct rb_js_external, api, RB_DOC_STRING, 0),
    FIELD(struct rb_js_external, deliver, RB_DOC_STRING, 0),
};
static const struct rb_doc_type external_type = { "ExternalStream", sizeof(struct rb_js_external),
                                                  external_fields, COUNT(external_fields) };

static const struct rb_doc_field source_consumer_fields[] = {
    FIELD(struct rb_js_source_consumer, name, RB_DOC_STRING, RB_DOC_OMIT),
    FIELD(struct rb_js_source_consumer, deliver_subject, RB_DOC_STRING, RB_DOC_OMIT),
};
static const struct rb_doc_type source_consumer_type = { "StreamConsumerSource",
                                                         sizeof(struct rb_js_source_consumer),
                                                         source_consumer_fields,
                                                         COUNT(source_consumer_fields) };

static const struct rb_doc_field source_fields[] = {
    FIELD(struct rb_js_source_config, name, RB_DOC_STRING, 0),
    FIELD(struct rb_js_source_config, opt_start_seq, RB_DOC_U64, RB_DOC_OMIT),
    FIELD(struct rb_js_source_config, opt_start_time, RB_DOC_TIME, RB_DOC_OMIT),
    FIELD(struct rb_js_source_config, filter_subject, RB_DOC_STRING, RB_DOC_OMIT),
    OF_TYPE(struct rb_js_source_config, subject_transforms, RB_DOC_OBJECTS, RB_DOC_OMIT,
            transform_type),
    OF_TYPE(struct rb_js_source_config, external, RB_DOC_OBJECT, RB_DOC_OMIT, external_type),
    OF_TYPE(struct rb_js_source_config, consumer, RB_DOC_OBJECT, RB_DOC_OMIT, source_consumer_type),
};
const struct rb_doc_type rb_js_source_config_type = { "StreamSource",
                                                      sizeof(struct rb_js_source_config),
                                                      source_fields, COUNT(source_fields) };

static const struct rb_doc_field limits_fields[] = {
    FIELD(struct rb_js_consumer_limits, inactive_threshold, RB_DOC_DURATION, RB_DOC_OMIT),
    FIELD(struct rb_js_consumer_limits, max_ack_pending, RB_DOC_INT, RB_DOC_OMIT),
};
static const struct rb_doc_type limits_type = { "StreamConsumerLimits",
                                                sizeof(struct rb_js_consumer_limits), limits_fields,
                                                COUNT(limits_fields) };

static const char *const retention_names[] = { "limits", "interest", "workqueue", NULL };
static const char *const discard_names[] = { "old", "new", NULL };
static const char *const storage_names[] = { "file", "memory", NULL };
static const char *const compression_names[] = { "none", "s2", NULL };
static const char *const persist_names[] = { "default", "async", NULL };

#define CONFIG struct rb_js_stream_config
static const struct rb_doc_field config_fields[] = {
    FIELD(CONFIG, name, RB_DOC_STRING, 0),
    FIELD(CONFIG, description, RB_DOC_STRING, RB_DOC_OMIT),
    FIELD(CONFIG, subjects, RB_DOC_STRINGS, RB_DOC_OMIT),
    ENUM(CONFIG, retention, 0, retention_names, NULL),
    FIELD(CONFIG, max_consumers, RB_DOC_INT, 0),
    FIELD(CONFIG, max_msgs, RB_DOC_I64, 0),
    FIELD(CONFIG, max_bytes, RB_DOC_I64, 0),
    FIELD(CONFIG, max_age, RB_DOC_DURATION, 0),
    FIELD(CONFIG, max_msgs_per_subject, RB_DOC_I64, 0),
    FIELD(CONFIG, max_msg_size, RB_DOC_I32, RB_DOC_OMIT),
    ENUM(CONFIG, discard, RB_DOC_ANY_CASE, discard_names, NULL),
    ENUM(CONFIG, storage, 0, storage_names, NULL),
    FIELD(CONFIG, num_replicas, RB_DOC_INT, 0),
    FIELD(CONFIG, no_ack, RB_DOC_BOOL, RB_DOC_OMIT),
    FIELD(CONFIG, duplicate_window, RB_DOC_DURATION, RB_DOC_OMIT),
    OF_TYPE(CONFIG, placement, RB_DOC_OBJECT, RB_DOC_OMIT, placement_type),
    OF_TYPE(CONFIG, mirror, RB_DOC_OBJECT, RB_DOC_OMIT, rb_js_source_config_type),
    {
        .name = "sources",
        .kind = RB_DOC_OBJECTS,
        .flags = RB_DOC_OMIT | RB_DOC_POINTERS,
        .offset = offsetof(CONFIG, sources),
        .type = &rb_js_source_config_type,
    },
    ENUM(CONFIG, compression, RB_DOC_TEXT, compression_names, "unknown compression algorithm"),
    FIELD(CONFIG, first_seq, RB_DOC_U64, RB_DOC_OMIT),
    OF_TYPE(CONFIG, subject_transform, RB_DOC_OBJECT, RB_DOC_OMIT, transform_type),
    OF_TYPE(CONFIG, republish, RB_DOC_OBJECT, RB_DOC_OMIT, republish_type),
    FIELD(CONFIG, allow_direct, RB_DOC_BOOL, 0),
    FIELD(CONFIG, mirror_direct, RB_DOC_BOOL, 0),
    FIELD(CONFIG, discard_new_per_subject, RB_DOC_BOOL, RB_DOC_OMIT),
    FIELD(CONFIG, sealed, RB_DOC_BOOL, 0),
    FIELD(CONFIG, deny_delete, RB_DOC_BOOL, 0),
    FIELD(CONFIG, deny_purge, RB_DOC_BOOL, 0),
    FIELD(CONFIG, allow_rollup_hdrs, RB_DOC_BOOL, 0),
    OF_TYPE(CONFIG, consumer_limits, RB_DOC_INLINE, 0, limits_type),
    FIELD(CONFIG, allow_msg_ttl, RB_DOC_BOOL, 0),
    FIELD(CONFIG, subject_delete_marker_ttl, RB_DOC_DURATION, RB_DOC_OMIT),
    FIELD(CONFIG, allow_msg_counter, RB_DOC_BOOL, RB_DOC_OMIT),
    FIELD(CONFIG, allow_atomic, RB_DOC_BOOL, RB_DOC_OMIT),
    FIELD(CONFIG, allow_msg_schedules, RB_DOC_BOOL, RB_DOC_OMIT),
    ENUM(CONFIG, persist_mode, RB_DOC_OMIT, persist_names, NULL),
    FIELD(CONFIG, allow_batched, RB_DOC_BOOL, RB_DOC_OMIT),
    FIELD(CONFIG, metadata, RB_DOC_MAP, RB_DOC_OMIT),
};
const struct rb_doc_type rb_js_stream_config_type = { "StreamConfig",
                                                      sizeof(struct rb_js_stream_config),
                                                      config_fields, COUNT(config_fields) };
