/* config_jetstream.c - the jetstream block, of the server and of an account.
 *
 * Sizes of the server's block are integers or texts with K, M, G or T behind them; those of an account are integers.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "server/config_load.h"

static struct rb_config_jetstream *block_of(void *base)
{
    return &((struct rb_config *)base)->jetstream;
}

/* ------------------------------------------------------------------ values */

/** "5G", "100M": powers of 1024. NULL, or what is wrong, in Go's words. */
static const char *read_suffixed(struct rb_slice text, int64_t *ret_bytes, char problem[160])
{
    static const char suffixes[] = "KMGT";
    char digits[32], *end = digits;
    int64_t number = 0;
    bool fits = text.len - 1 < sizeof(digits);
    if (fits) {
        memcpy(digits, text.ptr, text.len - 1);
        digits[text.len - 1] = 0;
        number = strtoll(digits, &end, 10);
    }
    if (!fits || end == digits || *end != 0 || strchr(" \t", digits[0]) != NULL) {
        snprintf(problem, 160, "strconv.ParseInt: parsing \"%.*s\": invalid syntax",
                 (int)(text.len - 1 < 64 ? text.len - 1 : 64), (const char *)text.ptr);
        return problem;
    }
    const char *suffix = strchr(suffixes, text.ptr[text.len - 1]);
    if (suffix == NULL || *suffix == 0) {
        return "sizes defined as strings must end in K, M, G, T";
    }
    if (__builtin_mul_overflow(number, INT64_C(1) << (10 * (suffix - suffixes + 1)), ret_bytes)) {
        return "is too big";
    }
    return NULL;
}

static bool read_storage(struct rb_load *load, const struct rb_conf_entry *entry, const char *name,
                         int64_t *ret_bytes)
{
    const struct rb_conf_value *value = entry->value;
    char problem[160];
    if (value->kind == RB_CONF_INT) {
        *ret_bytes = value->integer;
        return true;
    }
    if (value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "%s must be int64 or string", name);
        return false;
    }
    if (value->text.len == 0) {
        *ret_bytes = 0;
        return true;
    }
    const char *wrong = read_suffixed(value->text, ret_bytes, problem);
    if (wrong != NULL) {
        rb_load_error(load, entry, "%s %s", name, wrong);
    }
    return wrong == NULL;
}

/** An integer, in the words of nats-server's block. */
static bool read_count(struct rb_load *load, const struct rb_conf_entry *entry, int64_t *ret_count)
{
    const struct rb_conf_value *value = entry->value;
    char shown[RB_SHOWN_MAX];
    if (value->kind == RB_CONF_INT) {
        *ret_count = value->integer;
        return true;
    }
    const char *text = rb_load_show(value, shown);
    rb_load_error(load, entry, "Expected a parseable size for \"%.*s\", got %.*s", RB_KEY(entry),
                  value->kind == RB_CONF_TEXT ? (int)value->text.len : (int)strlen(text),
                  value->kind == RB_CONF_TEXT ? (const char *)value->text.ptr : text);
    return false;
}

/** Text only, as in nats-server. */
static void read_duration(struct rb_load *load, const struct rb_conf_entry *entry, int64_t *ret_ns)
{
    char text[RB_CONFIG_TEXT_MAX], problem[256];
    if (!rb_load_text(load, entry, text, sizeof(text))) {
        return;
    }
    if (!rb_config_parse_duration(text, ret_ns, problem, sizeof(problem))) {
        rb_load_error(load, entry, "%s", problem);
    }
}

static bool is_on(struct rb_slice text)
{
    return rb_slice_equal_fold(text, RB_S("enabled")) || rb_slice_equal_fold(text, RB_S("enable"));
}

static bool is_off(struct rb_slice text)
{
    return rb_slice_equal_fold(text, RB_S("disabled")) ||
           rb_slice_equal_fold(text, RB_S("disable"));
}

/** True for what is not a map: *ret_on is set, or an error was added. */
static bool read_switch(struct rb_load *load, const struct rb_conf_entry *entry, bool *ret_on)
{
    const struct rb_conf_value *value = entry->value;
    if (value->kind == RB_CONF_MAP) {
        return false;
    }
    if (value->kind == RB_CONF_BOOL) {
        *ret_on = value->boolean;
    } else if (value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry, "Expected map, bool or string to define JetStream, got %s",
                      rb_conf_kind_text(value->kind));
    } else if (is_on(value->text) || is_off(value->text)) {
        *ret_on = is_on(value->text);
    } else {
        rb_load_error(load, entry, "Expected 'enabled' or 'disabled' for string value, got '%.*s'",
                      RB_S_ARG(value->text));
    }
    return true;
}

/* ------------------------------------------------------------------ the server's */

static void set_enabled(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    (void)rb_load_bool(load, entry, &block_of(base)->enabled);
}

static void set_strict(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    char shown[RB_SHOWN_MAX];
    if (entry->value->kind == RB_CONF_BOOL) {
        block_of(base)->lenient = !entry->value->boolean;
    } else if (entry->value->kind == RB_CONF_TEXT) {
        rb_load_error(load, entry, "Expected 'true' or 'false' for bool value, got '%.*s'",
                      RB_S_ARG(entry->value->text));
    } else {
        rb_load_error(load, entry, "Expected 'true' or 'false' for bool value, got '%s'",
                      rb_load_show(entry->value, shown));
    }
}

void rb_load_store_dir(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config_jetstream *block = block_of(base);
    if (load->store_dir_named) {
        rb_load_error(load, entry, "Duplicate 'store_dir' configuration");
        return;
    }
    if (rb_load_text(load, entry, block->store_dir, sizeof(block->store_dir))) {
        load->store_dir_named = block->store_dir[0] != 0;
    }
}

/** Whatever is not above 0 and was not meant as 0 is found out at the start. */
static int64_t bound_of(int64_t bytes)
{
    return bytes < 0 ? -1 : bytes;
}

static void set_max_memory(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    int64_t bytes;
    if (read_storage(load, entry, "max_mem_store", &bytes)) {
        block_of(base)->max_memory = bound_of(bytes);
    }
}

static void set_max_storage(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    int64_t bytes;
    if (read_storage(load, entry, "max_file_store", &bytes)) {
        block_of(base)->max_storage = bound_of(bytes);
    }
}

static void set_sync(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config_jetstream *block = block_of(base);
    uint64_t interval_ns;
    if (entry->value->kind == RB_CONF_TEXT &&
        rb_slice_equal_fold(entry->value->text, RB_S("always"))) {
        block->lazy = false;
    } else if (rb_load_duration(load, entry, 0, &interval_ns)) {
        block->lazy = true;
        block->sync_interval_ns = interval_ns;
    }
}

static void set_domain(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config_jetstream *block = block_of(base);
    (void)rb_load_text(load, entry, block->domain, sizeof(block->domain));
}

static void set_max_buffered_size(struct rb_load *load, const struct rb_conf_entry *entry,
                                  void *base)
{
    int64_t bytes;
    if (read_storage(load, entry, "max_buffered_size", &bytes)) {
        block_of(base)->max_buffered_bytes = bytes < 0 ? 0 : (uint64_t)bytes;
    }
}

static void set_max_buffered_msgs(struct rb_load *load, const struct rb_conf_entry *entry,
                                  void *base)
{
    int64_t count;
    if (read_count(load, entry, &count)) {
        block_of(base)->max_buffered_msgs = count < 0            ? 0
                                            : count > UINT32_MAX ? UINT32_MAX
                                                                 : (uint32_t)count;
    }
}

static void set_request_queue_limit(struct rb_load *load, const struct rb_conf_entry *entry,
                                    void *base)
{
    (void)read_count(load, entry, &block_of(base)->request_queue_limit);
}

static void set_info_queue_limit(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    (void)read_count(load, entry, &block_of(base)->info_queue_limit);
}

#define LIMIT(field) RB_OPTION_CALL, offsetof(struct rb_config_jetstream, field)
#define NUMBER_SETTER(name, field)                                                                 \
    static void name(struct rb_load *load, const struct rb_conf_entry *entry, void *base)          \
    {                                                                                              \
        (void)rb_load_int(load, entry, &((struct rb_config_jetstream *)base)->field);              \
    }
NUMBER_SETTER(set_max_ack_pending, max_ack_pending)
NUMBER_SETTER(set_max_request_batch, max_request_batch)
NUMBER_SETTER(set_inflight_per_stream, batch_inflight_per_stream)
NUMBER_SETTER(set_inflight_total, batch_inflight_total)
NUMBER_SETTER(set_batch_msgs, batch_msgs)

static void set_duplicate_window(struct rb_load *load, const struct rb_conf_entry *entry,
                                 void *base)
{
    read_duration(load, entry, &((struct rb_config_jetstream *)base)->duplicate_window_ns);
}

static void set_batch_timeout(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    read_duration(load, entry, &((struct rb_config_jetstream *)base)->batch_timeout_ns);
}

static const struct rb_option batch_options[] = {
    { "max_inflight_per_stream", RB_OPTION_CALL, .set = set_inflight_per_stream },
    { "max_inflight_total", RB_OPTION_CALL, .set = set_inflight_total },
    { "max_msgs", RB_OPTION_CALL, .set = set_batch_msgs },
    { "timeout", RB_OPTION_CALL, .set = set_batch_timeout },
    { NULL },
};

static void set_batch(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "Expected a map to define batch limits, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    rb_load_options(load, entry->value, batch_options, base);
}

static const struct rb_option limit_options[] = {
    { "max_ack_pending", RB_OPTION_CALL, .set = set_max_ack_pending },
    { "max_request_batch", RB_OPTION_CALL, .set = set_max_request_batch },
    { "duplicate_window", RB_OPTION_CALL, .set = set_duplicate_window },
    { "batch", RB_OPTION_CALL, .set = set_batch },
    { "max_ha_assets default_max_consumers", RB_OPTION_REFUSED },
    { NULL },
};

static void set_limits(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    if (entry->value->kind != RB_CONF_MAP) {
        rb_load_error(load, entry, "Expected a map to define JetStreamLimits, got %s",
                      rb_conf_kind_text(entry->value->kind));
        return;
    }
    rb_load_options(load, entry->value, limit_options, block_of(base));
}

static const struct rb_option block_options[] = {
    { "enabled enable", RB_OPTION_CALL, .set = set_enabled },
    { "strict", RB_OPTION_CALL, .set = set_strict },
    { "store_dir storedir store", RB_OPTION_CALL, .set = rb_load_store_dir },
    { "max_memory_store max_mem_store max_mem", RB_OPTION_CALL, .set = set_max_memory },
    { "max_file_store max_file", RB_OPTION_CALL, .set = set_max_storage },
    { "sync_interval sync", RB_OPTION_CALL, .set = set_sync },
    { "domain", RB_OPTION_CALL, .set = set_domain },
    { "limits", RB_OPTION_CALL, .set = set_limits },
    { "max_buffered_size", RB_OPTION_CALL, .set = set_max_buffered_size },
    { "max_buffered_msgs", RB_OPTION_CALL, .set = set_max_buffered_msgs },
    { "request_queue_limit", RB_OPTION_CALL, .set = set_request_queue_limit },
    { "info_queue_limit", RB_OPTION_CALL, .set = set_info_queue_limit },
    /* known to nats-server 2.15 */
    { "key ek encryption_key prev_key prev_ek prev_encryption_key cipher tpm", RB_OPTION_REFUSED },
    { "extension_hint unique_tag max_outstanding_catchup meta_compact meta_compact_size "
      "meta_compact_sync max_concurrent_io",
      RB_OPTION_REFUSED },
    { NULL },
};

void rb_load_jetstream(struct rb_load *load, const struct rb_conf_entry *entry, void *base)
{
    struct rb_config_jetstream *block = block_of(base);
    if (!read_switch(load, entry, &block->enabled)) {
        block->enabled = true;
        rb_load_options(load, entry->value, block_options, base);
    }
}

bool rb_config_domain_valid(const char *domain)
{
    return strpbrk(domain, " \t\r\n\f.*>") == NULL;
}

/* ------------------------------------------------------------------ an account's */

#define ACCOUNT_SETTER(name, field)                                                                \
    static void name(struct rb_load *load, const struct rb_conf_entry *entry, void *base)          \
    {                                                                                              \
        (void)read_count(load, entry, &((struct rb_policy_jetstream *)base)->field);               \
    }
ACCOUNT_SETTER(account_max_memory, max_memory)
ACCOUNT_SETTER(account_max_storage, max_storage)
ACCOUNT_SETTER(account_max_streams, max_streams)
ACCOUNT_SETTER(account_max_consumers, max_consumers)
ACCOUNT_SETTER(account_memory_stream_bytes, memory_max_stream_bytes)
ACCOUNT_SETTER(account_storage_stream_bytes, storage_max_stream_bytes)
ACCOUNT_SETTER(account_max_ack_pending, max_ack_pending)

static void account_bytes_required(struct rb_load *load, const struct rb_conf_entry *entry,
                                   void *base)
{
    char shown[RB_SHOWN_MAX];
    if (entry->value->kind == RB_CONF_BOOL) {
        ((struct rb_policy_jetstream *)base)->max_bytes_required = entry->value->boolean;
        return;
    }
    rb_load_error(load, entry, "Expected a parseable bool for \"%.*s\", got %s", RB_KEY(entry),
                  rb_load_show(entry->value, shown));
}

static void account_cluster_traffic(struct rb_load *load, const struct rb_conf_entry *entry,
                                    void *base)
{
    const struct rb_conf_value *value = entry->value;
    char shown[RB_SHOWN_MAX];
    if (value->kind != RB_CONF_TEXT) {
        rb_load_error(load, entry,
                      "Expected either 'system' or 'owner' string value for \"%.*s\", got %s",
                      RB_KEY(entry), rb_load_show(value, shown));
    } else if (rb_slice_equal(value->text, RB_S("owner"))) {
        rb_load_refuse(load, entry);
    } else if (value->text.len > 0 && !rb_slice_equal(value->text, RB_S("system"))) {
        rb_load_error(load, entry,
                      "Expected 'system' or 'owner' string value for \"%.*s\", got %.*s",
                      RB_KEY(entry), RB_S_ARG(value->text));
    }
}

static const struct rb_option account_options[] = {
    { "max_memory max_mem mem memory", RB_OPTION_CALL, .set = account_max_memory },
    { "max_store max_file max_disk store disk", RB_OPTION_CALL, .set = account_max_storage },
    { "max_streams streams", RB_OPTION_CALL, .set = account_max_streams },
    { "max_consumers consumers", RB_OPTION_CALL, .set = account_max_consumers },
    { "max_bytes_required max_stream_bytes max_bytes", RB_OPTION_CALL,
      .set = account_bytes_required },
    { "mem_max_stream_bytes memory_max_stream_bytes", RB_OPTION_CALL,
      .set = account_memory_stream_bytes },
    { "disk_max_stream_bytes store_max_stream_bytes", RB_OPTION_CALL,
      .set = account_storage_stream_bytes },
    { "max_ack_pending", RB_OPTION_CALL, .set = account_max_ack_pending },
    { "cluster_traffic", RB_OPTION_CALL, .set = account_cluster_traffic },
    { NULL },
};

void rb_load_account_jetstream(struct rb_load *load, const struct rb_conf_entry *entry,
                               uint32_t account)
{
    struct rb_policy_jetstream *limits = rb_load_take(load, sizeof(*limits));
    bool on = false;
    if (limits == NULL) {
        return;
    }
    *limits = (struct rb_policy_jetstream)RB_POLICY_JETSTREAM_UNLIMITED;
    if (!read_switch(load, entry, &on)) {
        on = true;
        rb_load_options(load, entry->value, account_options, limits);
    }
    load->accounts[account].jetstream = on ? limits : NULL;
}
