/* dashboard.c - /dashboard (one page, src/server/dashboard.html) and /dashboardz, the numbers it needs beside /varz and
 * /connz. */
#include <stdlib.h>
#include <string.h>

#include "server/docs.h"

#define TOP_SHOWN 20

/* dashboard.html as bytes, made when building; see meson.build. */
extern const unsigned char rb_dashboard_html[];
extern const size_t rb_dashboard_html_len;

struct rb_slice rb_page_dashboard(void)
{
    return rb_slice_of(rb_dashboard_html, rb_dashboard_html_len);
}

/* Subjects with most traffic: a subject may stand in the table of several shards. */

static int by_subject(const void *left, const void *right)
{
    const struct rb_top_subject *a = left, *b = right;
    size_t len = a->subject.len < b->subject.len ? a->subject.len : b->subject.len;
    int order = len == 0 ? 0 : memcmp(a->subject.ptr, b->subject.ptr, len);
    return order != 0                        ? order
           : a->subject.len < b->subject.len ? -1
                                             : a->subject.len > b->subject.len;
}

static int by_msgs(const void *left, const void *right)
{
    const struct rb_top_subject *a = left, *b = right;
    if (a->msgs != b->msgs) {
        return a->msgs > b->msgs ? -1 : 1;
    }
    return by_subject(left, right);
}

static uint32_t merge_top(const struct rb_monitor_view *view, struct rb_top_subject *list)
{
    uint32_t count = 0, merged = 0;
    for (uint32_t i = 0; i < view->shard_count; i++) {
        for (uint32_t j = 0; j < view->shards[i].top_count && j < RB_TOP_SUBJECTS_MAX; j++) {
            list[count++] = view->shards[i].top[j];
        }
    }
    qsort(list, count, sizeof(*list), by_subject);
    for (uint32_t i = 0; i < count; i++) {
        if (merged > 0 && rb_slice_equal(list[merged - 1].subject, list[i].subject)) {
            list[merged - 1].msgs += list[i].msgs;
            list[merged - 1].bytes += list[i].bytes;
        } else {
            list[merged++] = list[i];
        }
    }
    qsort(list, merged, sizeof(*list), by_msgs);
    return merged;
}

static void set_top(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    struct rb_top_subject *list =
        calloc((size_t)view->shard_count * RB_TOP_SUBJECTS_MAX + 1, sizeof(*list));
    if (list == NULL) {
        json->out->failed = true;
        return;
    }
    uint32_t count = merge_top(view, list);
    rb_json_out_key(json, "subjects");
    rb_json_out_array(json);
    for (uint32_t i = 0; i < count && i < TOP_SHOWN; i++) {
        rb_json_out_object(json);
        rb_json_out_set_string(json, "subject", list[i].subject);
        rb_json_out_set_uint(json, "msgs", list[i].msgs);
        rb_json_out_set_uint(json, "bytes", list[i].bytes);
        rb_json_out_object_end(json);
    }
    rb_json_out_array_end(json);
    free(list);
}

static void set_quantiles(struct rb_json_out *json, const char *key, const struct rb_histogram *h)
{
    if (h == NULL) {
        return;
    }
    rb_json_out_key(json, key);
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "p50", rb_histogram_quantile(h, 0.5));
    rb_json_out_set_uint(json, "p99", rb_histogram_quantile(h, 0.99));
    rb_json_out_set_uint(json, "p999", rb_histogram_quantile(h, 0.999));
    rb_json_out_set_uint(json, "count", rb_counter_get(&h->count));
    rb_json_out_object_end(json);
}

static void add_shard(const struct rb_monitor_shard *shard, struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "connections", shard->conns);
    rb_json_out_set_uint(json, "subscriptions", shard->subs);
    rb_json_out_set_uint(json, "in_msgs", shard->in_msgs);
    rb_json_out_set_uint(json, "out_msgs", shard->out_msgs);
    rb_json_out_set_uint(json, "in_bytes", shard->in_bytes);
    rb_json_out_set_uint(json, "out_bytes", shard->out_bytes);
    rb_json_out_set_uint(json, "slow_consumers", shard->slow_consumers);
    rb_json_out_set_uint(json, "memory_used", shard->memory_used_bytes);
    rb_json_out_set_uint(json, "memory_limit", shard->memory_limit_bytes);
    set_quantiles(json, "loop_ns", shard->turn_ns);
    set_quantiles(json, "delivery_ns", shard->delivery_ns);
    set_quantiles(json, "pending_bytes", shard->pending_bytes);
    rb_json_out_object_end(json);
}

bool rb_doc_dashboardz(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    rb_json_out_object(json);
    rb_doc_head(view, json);
    rb_json_out_set_text(json, "ringbus_version", view->ringbus_version);
    rb_json_out_set_bool(json, "accepting", view->accepting);
    rb_json_out_key(json, "shards");
    rb_json_out_array(json);
    for (uint32_t i = 0; i < view->shard_count; i++) {
        add_shard(&view->shards[i], json);
    }
    rb_json_out_array_end(json);
    set_top(view, json);
    rb_json_out_object_end(json);
    return true;
}
