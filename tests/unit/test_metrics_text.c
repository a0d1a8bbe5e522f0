/* test_metrics_text.c - /metrics read back by a strict reader of Prometheus' text format. */
#include <ctype.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fake_view.h"
#include "server/docs.h"

#define SERIES_MAX 4096

struct series {
    char name[160], labels[600], family[160];
    double value;
};

struct reader {
    struct series *list;
    uint32_t count;
    char family[160], type[16], help_of[160];
    char families[512][160];
    uint32_t family_count;
};

static bool ends(const char *text, const char *tail)
{
    size_t len = strlen(text), tail_len = strlen(tail);
    return len >= tail_len && strcmp(text + len - tail_len, tail) == 0;
}

static void check_name(const char *name)
{
    assert_true(isalpha((unsigned char)name[0]) || name[0] == '_');
    for (const char *at = name; *at != '\0'; at++) {
        assert_true(isalnum((unsigned char)*at) || *at == '_' || *at == ':');
    }
}

static void read_comment(struct reader *r, char *line)
{
    char word[16], name[160];
    int used;
    assert_int_equal(sscanf(line, "# %15s %159s%n", word, name, &used), 2);
    check_name(name);
    if (strcmp(word, "HELP") == 0) {
        assert_true(line[used] == ' ' && line[used + 1] != '\0');
        for (uint32_t i = 0; i < r->family_count; i++) {
            assert_string_not_equal(r->families[i], name); /* once only */
        }
        assert_true(r->family_count < 512);
        (void)snprintf(r->families[r->family_count++], 160, "%s", name);
        (void)snprintf(r->help_of, sizeof(r->help_of), "%s", name);
    } else if (strcmp(word, "TYPE") == 0) {
        assert_string_equal(r->help_of, name);
        (void)snprintf(r->family, sizeof(r->family), "%s", name);
        assert_int_equal(sscanf(line + used, "%15s", r->type), 1);
        assert_true(strcmp(r->type, "gauge") == 0 || strcmp(r->type, "counter") == 0 ||
                    strcmp(r->type, "histogram") == 0);
        if (strncmp(name, "ringbus_", 8) == 0) {
            assert_int_equal(strcmp(r->type, "counter") == 0, ends(name, "_total"));
        }
    } else {
        char unit[32];
        assert_string_equal(word, "UNIT");
        assert_string_equal(r->family, name);
        assert_int_equal(sscanf(line + used, "%31s", unit), 1);
        assert_non_null(strstr(name, unit)); /* the name carries its unit */
    }
}

/* Labels `name="value",...`; escapes are \\, \" and \n only. Gives what follows the brace. */
static char *read_labels(char *at, char labels[600])
{
    char *begin = at;
    while (*at != '}') {
        size_t len = strspn(at, "abcdefghijklmnopqrstuvwxyz_");
        assert_true(len > 0 && at[len] == '=' && at[len + 1] == '"');
        at += len + 2;
        while (*at != '"') {
            assert_true(*at != '\0');
            if (*at == '\\') {
                at++;
                assert_true(*at == '\\' || *at == '"' || *at == 'n');
            }
            at++;
        }
        at++;
        assert_true(*at == ',' || *at == '}');
        at += *at == ',';
    }
    (void)snprintf(labels, 600, "%.*s", (int)(at - begin), begin);
    return at + 1;
}

static void read_sample(struct reader *r, char *line)
{
    assert_true(r->count < SERIES_MAX);
    struct series *s = &r->list[r->count++];
    size_t len = strcspn(line, "{ ");
    (void)snprintf(s->name, sizeof(s->name), "%.*s", (int)len, line);
    (void)snprintf(s->family, sizeof(s->family), "%s", r->family);
    check_name(s->name);
    char *at = line + len;
    s->labels[0] = '\0';
    if (*at == '{') {
        at = read_labels(at + 1, s->labels);
    }
    assert_true(*at == ' ');
    char *end;
    s->value = strtod(at + 1, &end);
    assert_true(end > at + 1 && *end == '\0');
    /* It belongs to the family that was announced last. */
    if (strcmp(r->type, "histogram") == 0) {
        size_t family_len = strlen(r->family);
        assert_memory_equal(s->name, r->family, family_len);
        const char *suffix = s->name + family_len;
        assert_true(strcmp(suffix, "_bucket") == 0 || strcmp(suffix, "_sum") == 0 ||
                    strcmp(suffix, "_count") == 0);
    } else {
        assert_string_equal(s->name, r->family);
    }
    for (uint32_t i = 0; i + 1 < r->count; i++) {
        assert_false(strcmp(r->list[i].name, s->name) == 0 &&
                     strcmp(r->list[i].labels, s->labels) == 0);
    }
}

static struct reader read_all(const char *text)
{
    struct reader r = { 0 };
    r.list = calloc(SERIES_MAX, sizeof(*r.list));
    assert_non_null(r.list);
    char *copy = strdup(text), *rest = copy, *line;
    assert_non_null(copy);
    assert_true(ends(text, "\n"));
    while ((line = strsep(&rest, "\n")) != NULL && rest != NULL) {
        if (line[0] == '#') {
            read_comment(&r, line);
        } else {
            read_sample(&r, line);
        }
    }
    free(copy);
    return r;
}

static double value_of(const struct reader *r, const char *name, const char *labels)
{
    for (uint32_t i = 0; i < r->count; i++) {
        if (strcmp(r->list[i].name, name) == 0 && strstr(r->list[i].labels, labels) != NULL) {
            return r->list[i].value;
        }
    }
    fail_msg("no series %s{%s}", name, labels);
    return 0;
}

/* Fixture */

struct fixture {
    struct fake_view fake;
    struct rb_monitor_source source;
    struct rb_text text;
    uint64_t requests[RB_PAGE_COUNTED];
};

static int set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof(*f));
    assert_non_null(f);
    fake_init(&f->fake);
    f->source = fake_source(&f->fake);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    rb_text_deinit(&f->text);
    fake_deinit(&f->fake);
    free(f);
    return 0;
}

static struct reader scrape(struct fixture *f)
{
    struct rb_monitor_view view;
    struct rb_snapshot_request request = { .conns = RB_CONNS_OPEN,
                                           .conn_account = -1,
                                           .accounts = true,
                                           .sub_account = -1,
                                           .js = f->fake.jetstream,
                                           .js_streams = true,
                                           .js_consumers = true };
    assert_int_equal(f->source.open(f->source.ctx, &view), RB_OK);
    view.http_requests = f->requests;
    f->requests[RB_PAGE_ROOT] = 3;
    assert_int_equal(f->source.collect(f->source.ctx, &request, &view.snapshot), RB_OK);
    rb_text_deinit(&f->text);
    rb_text_init(&f->text, 4 << 20);
    rb_page_metrics(&view, &f->text);
    f->source.close(f->source.ctx, &view);
    assert_false(f->text.failed);
    return read_all(f->text.ptr);
}

/* The names that prometheus-nats-exporter 0.18 gives for the same server. */
static void exporters_names_are_there(void **state)
{
    static const char *const names[] = {
        "gnatsd_varz_auth_timeout",
        "gnatsd_varz_config_load_time",
        "gnatsd_varz_connections",
        "gnatsd_varz_cores",
        "gnatsd_varz_cpu",
        "gnatsd_varz_disk_io_wait_stats_max_wait_time",
        "gnatsd_varz_gomaxprocs",
        "gnatsd_varz_http_port",
        "gnatsd_varz_http_req_stats",
        "gnatsd_varz_https_port",
        "gnatsd_varz_in_bytes",
        "gnatsd_varz_in_client_bytes",
        "gnatsd_varz_in_msgs",
        "gnatsd_varz_leafnodes",
        "gnatsd_varz_max_connections",
        "gnatsd_varz_max_control_line",
        "gnatsd_varz_max_payload",
        "gnatsd_varz_max_pending",
        "gnatsd_varz_mem",
        "gnatsd_varz_out_bytes",
        "gnatsd_varz_out_msgs",
        "gnatsd_varz_ping_interval",
        "gnatsd_varz_ping_max",
        "gnatsd_varz_port",
        "gnatsd_varz_proto",
        "gnatsd_varz_remotes",
        "gnatsd_varz_routes",
        "gnatsd_varz_server_id",
        "gnatsd_varz_server_name",
        "gnatsd_varz_slow_consumer_stats_clients",
        "gnatsd_varz_slow_consumers",
        "gnatsd_varz_stale_connection_stats_leafs",
        "gnatsd_varz_stale_connections",
        "gnatsd_varz_stalled_clients",
        "gnatsd_varz_start",
        "gnatsd_varz_subscriptions",
        "gnatsd_varz_tls_timeout",
        "gnatsd_varz_total_connections",
        "gnatsd_varz_version",
        "gnatsd_varz_write_deadline",
        "gnatsd_subsz_num_subscriptions",
        "gnatsd_subsz_avg_fanout",
        "gnatsd_subsz_cache_hit_rate",
        "gnatsd_routez_num_routes",
        "gnatsd_connz_num_connections",
        "gnatsd_connz_total",
        "gnatsd_connz_offset",
        "gnatsd_connz_limit",
        "gnatsd_connz_pending_bytes",
        "gnatsd_connz_subscriptions",
        "gnatsd_connz_in_bytes",
        "gnatsd_connz_out_bytes",
        "gnatsd_connz_in_msgs",
        "gnatsd_connz_out_msgs",
        "gnatsd_leafz_conn_nodes_total",
        "gnatsd_healthz_status",
        "gnatsd_healthz_status_value",
        "gnatsd_accstatz_current_connections",
        "gnatsd_accstatz_total_connections",
        "gnatsd_accstatz_subscriptions",
        "gnatsd_accstatz_leaf_nodes",
        "gnatsd_accstatz_sent_messages",
        "gnatsd_accstatz_sent_bytes",
        "gnatsd_accstatz_received_messages",
        "gnatsd_accstatz_received_bytes",
        "gnatsd_accstatz_slow_consumers",
    };
    struct fixture *f = *state;
    struct reader r = scrape(f);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)value_of(&r, names[i], "server_id=\"" FAKE_ID "\"");
    }
    static const char *const jetstream[] = {
        "jetstream_server_jetstream_disabled",  "jetstream_server_total_streams",
        "jetstream_server_total_consumers",     "jetstream_server_total_messages",
        "jetstream_server_total_message_bytes", "jetstream_server_max_memory",
        "jetstream_server_max_storage",
    };
    for (size_t i = 0; i < sizeof(jetstream) / sizeof(jetstream[0]); i++) {
        assert_true(value_of(&r, jetstream[i],
                             "server_name=\"fake <1>\",cluster=\"\",domain=\"\",meta_leader=\"\","
                             "is_meta_leader=\"true\"") == (i == 0));
    }
    assert_null(strstr(f->text.ptr, "gnatsd_varz_leaf_"));
    assert_null(strstr(f->text.ptr, "gnatsd_varz_now")); /* a time that the exporter leaves out */
    assert_null(strstr(f->text.ptr, "gnatsd_varz_go{"));
    free(r.list);
}

static void values_are_the_pages(void **state)
{
    struct fixture *f = *state;
    struct reader r = scrape(f);
    assert_true(value_of(&r, "gnatsd_varz_in_msgs", "") == 210);
    assert_true(value_of(&r, "gnatsd_varz_start", "") == 1764034814438.0); /* ms */
    assert_true(value_of(&r, "gnatsd_varz_server_name", "value=\"fake <1>\"") == 1);
    assert_true(value_of(&r, "gnatsd_varz_http_req_stats", "") == 3);
    assert_true(value_of(&r, "gnatsd_connz_num_connections", "") == 3);
    assert_true(value_of(&r, "gnatsd_connz_pending_bytes", "") == 123456789);
    assert_true(value_of(&r, "gnatsd_connz_subscriptions", "") == 5);
    assert_true(value_of(&r, "gnatsd_healthz_status", "") == 0);
    assert_true(value_of(&r, "gnatsd_healthz_status_value", "value=\"ok\"") == 1);
    assert_true(value_of(&r, "gnatsd_accstatz_received_bytes",
                         "account=\"A\",account_id=\"A\",account_name=\"A\"") == 400);
    assert_true(value_of(&r, "ringbus_received_messages_total", "shard=\"1\"") == 110);
    assert_true(value_of(&r, "ringbus_monitor_requests_total", "path=\"/\"") == 3);
    assert_true(value_of(&r, "ringbus_build_info", "version=\"0.1.0\",nats_version=\"2.15.1\"") ==
                1);
    free(r.list);
    f->fake.not_accepting = true;
    r = scrape(f);
    assert_true(value_of(&r, "gnatsd_healthz_status", "") == 1);
    assert_true(value_of(&r, "gnatsd_healthz_status_value", "value=\"error\"") == 0);
    free(r.list);
}

/* Buckets grow, end with +Inf, and agree with _count; bounds are in the metric's unit. */
static void histograms_are_cumulative(void **state)
{
    static const char *const names[] = { "ringbus_loop_seconds", "ringbus_delivery_seconds",
                                         "ringbus_pending_bytes" };
    struct fixture *f = *state;
    rb_histogram_add(&f->fake.turn[1], 500); /* below the first bound */
    rb_histogram_add(&f->fake.turn[1], 1500);
    rb_histogram_add(&f->fake.turn[1], UINT64_MAX); /* beyond the last */
    rb_histogram_add(&f->fake.pending[0], 0);
    rb_histogram_add(&f->fake.pending[0], 70000);
    struct reader r = scrape(f);
    for (size_t n = 0; n < 3; n++) {
        for (int shard = 0; shard < 2; shard++) {
            char bucket[160], labels[64], count[160];
            (void)snprintf(bucket, sizeof(bucket), "%s_bucket", names[n]);
            (void)snprintf(count, sizeof(count), "%s_count", names[n]);
            (void)snprintf(labels, sizeof(labels), "shard=\"%d\"", shard);
            double last = 0, bound = -1;
            uint32_t buckets = 0;
            for (uint32_t i = 0; i < r.count; i++) {
                const char *le = strstr(r.list[i].labels, "le=\"");
                if (strcmp(r.list[i].name, bucket) != 0 ||
                    strstr(r.list[i].labels, labels) == NULL) {
                    continue;
                }
                assert_non_null(le);
                double this_bound = strtod(le + 4, NULL);
                assert_true(this_bound > bound && r.list[i].value >= last);
                bound = this_bound;
                last = r.list[i].value;
                buckets++;
            }
            assert_true(isinf(bound) && buckets > 10);
            assert_true(value_of(&r, count, labels) == last);
        }
    }
    assert_true(value_of(&r, "ringbus_loop_seconds_count", "shard=\"1\"") == 3);
    assert_true(value_of(&r, "ringbus_loop_seconds_bucket", "shard=\"1\",le=\"1.023e-06\"") == 1);
    assert_true(value_of(&r, "ringbus_loop_seconds_bucket", "shard=\"1\",le=\"2.047e-06\"") == 2);
    assert_true(value_of(&r, "ringbus_pending_bytes_sum", "shard=\"0\"") == 70000);
    assert_true(value_of(&r, "ringbus_pending_bytes_bucket", "shard=\"0\",le=\"15\"") == 1);
    free(r.list);
}

static void streams_have_their_series(void **state)
{
    struct fixture *f = *state;
    f->fake.jetstream = true;
    struct reader r = scrape(f);
    assert_true(value_of(&r, "jetstream_server_jetstream_disabled", "") == 0);
    assert_true(value_of(&r, "jetstream_server_total_message_bytes", "") == 76);
    assert_true(value_of(&r, "jetstream_stream_total_messages", "stream_name=\"ORDERS\"") == 3);
    assert_true(value_of(&r, "jetstream_stream_last_seq", "account=\"A\"") == 3);
    assert_true(value_of(&r, "jetstream_consumer_num_pending",
                         "consumer_desc=\"a \\\"quoted\\\" one\"") == 2);
    assert_true(value_of(&r, "ringbus_jetstream_log_batches_total", "shard=\"0\"") == 0);
    free(r.list);
}

static void names_with_quotes_are_escaped(void **state)
{
    struct fixture *f = *state;
    static const struct rb_text_pair metadata[] = { { "version", "a\"b\\c\nd" },
                                                    { "domain", "x" },
                                                    { "odd key-1", "y" } };
    f->fake.lists.metadata = (struct rb_text_pair *)(uintptr_t)metadata;
    f->fake.lists.metadata_count = 3;
    struct reader r = scrape(f);
    assert_true(value_of(&r, "gnatsd_varz_metadata_version", "value=\"a\\\"b\\\\c\\nd\"") == 1);
    free(r.list);
}

/* What is not measured yet has no series rather than zeros. */
static void missing_histograms_are_left_out(void **state)
{
    struct fixture *f = *state;
    struct rb_monitor_view view;
    assert_int_equal(f->source.open(f->source.ctx, &view), RB_OK);
    f->fake.shards[0].turn_ns = NULL;
    f->fake.shards[1].turn_ns = NULL;
    rb_text_init(&f->text, 4 << 20);
    rb_page_metrics(&view, &f->text);
    f->source.close(f->source.ctx, &view);
    assert_null(strstr(f->text.ptr, "ringbus_loop_seconds"));
    struct reader r = read_all(f->text.ptr);
    assert_true(r.count > 100);
    free(r.list);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(exporters_names_are_there),     TEST(values_are_the_pages),
        TEST(histograms_are_cumulative),     TEST(streams_have_their_series),
        TEST(names_with_quotes_are_escaped), TEST(missing_histograms_are_left_out),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
