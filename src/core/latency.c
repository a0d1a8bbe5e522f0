/* latency.c - sampling of service requests and the metric that follows.
 *
 * Times: `start` is when the request was published less the requestor's round trip; `service` what the responder
 * needed, its round trip taken off; `system` what this server added; `total` all of it. Round trips are those that pings
 * measured, so a figure that would come out negative is shown as 0.
 */
#include "core/latency.h"

#include "base/nuid.h"
#include "core/conn.h"
#include "proto/header.h"
#include "proto/json.h"
#include "ringbus/check.h"

#define METRIC_MAX 12288
#define INFO_MAX 4096

struct rb_latency {
    struct rb_account *exporter;
    uint64_t start_ns, start_wall_ns, requestor_rtt_ns;
    struct rb_slice subject, requestor, headers; /* behind the struct */
    size_t bytes;
};

/* Headers of tracing systems: which were given, and whether they ask for a sample. */

static bool hex_odd(struct rb_slice text)
{
    if (text.len == 0 || text.len > 2) {
        return false;
    }
    uint8_t c = text.ptr[text.len - 1];
    int digit = c >= '0' && c <= '9'
                    ? c - '0'
                    : ((c | 32) >= 'a' && (c | 32) <= 'f' ? (c | 32) - 'a' + 10 : -1);
    return digit >= 0 && (digit & 1) == 1;
}

/* Field `index` of `text` cut at `by`; *ret_count gets the number of fields. */
static struct rb_slice field(struct rb_slice text, uint8_t by, uint32_t index, uint32_t *ret_count)
{
    struct rb_slice found = { NULL, 0 };
    uint32_t count = 0;
    size_t begin = 0;
    for (size_t i = 0; i <= text.len; i++) {
        if (i == text.len || text.ptr[i] == by) {
            if (count == index) {
                found = rb_slice_of(text.ptr + begin, i - begin);
            }
            count++;
            begin = i + 1;
        }
    }
    *ret_count = count;
    return found;
}

static bool uber_samples(struct rb_slice value)
{
    uint32_t count;
    struct rb_slice flags = field(value, ':', 3, &count);
    return count == 4 && hex_odd(flags);
}

static bool b3_samples(struct rb_slice value)
{
    uint32_t count;
    struct rb_slice first = field(value, '-', 0, &count), third = field(value, '-', 2, &count);
    return !(count > 2 && rb_slice_equal(third, RB_S("0"))) &&
           !(count == 1 && rb_slice_equal(first, RB_S("0")));
}

static bool context_samples(struct rb_slice value)
{
    uint32_t count;
    struct rb_slice flags = field(value, '-', 3, &count);
    return count == 4 && flags.len == 2 && hex_odd(flags);
}

static void put_header(struct rb_writer *out, struct rb_slice block, const char *name)
{
    struct rb_slice value = rb_header_get(block, rb_slice_text(name));
    if (value.ptr == NULL) {
        return;
    }
    rb_write_u8(out, rb_writer_len(out) == 0 ? '{' : ',');
    rb_json_string(out, rb_slice_text(name));
    rb_write_slice(out, RB_S(":["));
    rb_json_string(out, value);
    rb_write_u8(out, ']');
}

/* True when the request's headers ask for a sample; `out` gets them as the members of a JSON object, still open. */
static bool headers_sample(struct rb_slice block, struct rb_writer *out)
{
    struct rb_slice value;
    if ((value = rb_header_get(block, RB_S("Uber-Trace-Id"))).ptr != NULL) {
        put_header(out, block, "Uber-Trace-Id");
        return uber_samples(value);
    }
    value = rb_header_get(block, RB_S("X-B3-Sampled"));
    if (rb_slice_equal(value, RB_S("0"))) {
        return false;
    }
    if (rb_slice_equal(value, RB_S("1")) ||
        rb_header_get(block, RB_S("X-B3-TraceId")).ptr != NULL) {
        put_header(out, block, "X-B3-Sampled");
        put_header(out, block, "X-B3-TraceId");
        put_header(out, block, "X-B3-ParentSpanId");
        put_header(out, block, "X-B3-SpanId");
        return true;
    }
    if ((value = rb_header_get(block, RB_S("B3"))).ptr != NULL) {
        put_header(out, block, "B3");
        return b3_samples(value);
    }
    if ((value = rb_header_get(block, RB_S("Traceparent"))).ptr != NULL) {
        put_header(out, block, "Traceparent");
        put_header(out, block, "Tracestate");
        return context_samples(value);
    }
    return false;
}

static bool sampled(struct rb_core *core, const struct rb_export *exported, struct rb_slice block,
                    struct rb_writer *out)
{
    if (exported == NULL || exported->latency_subject.len == 0 || exported->latency_sampling < 0) {
        return false;
    }
    int32_t percent = exported->latency_sampling;
    if (percent >= 100 || (percent > 0 && (int32_t)rb_env_below(core->env, 100) < percent)) {
        return true;
    }
    return block.len > 0 && headers_sample(block, out);
}

/* One measurement */

static struct rb_slice keep(uint8_t **at, struct rb_slice text)
{
    uint8_t *copy = *at;
    if (text.len > 0) {
        memcpy(copy, text.ptr, text.len);
    }
    *at += text.len;
    return rb_slice_of(copy, text.len);
}

struct rb_latency *rb_latency_begin(struct rb_core *core, const struct rb_service_import *service,
                                    struct rb_account *exporter, const struct rb_conn *from,
                                    struct rb_slice payload, uint32_t header_len)
{
    uint8_t headers[INFO_MAX], info[INFO_MAX];
    struct rb_writer out = rb_writer_over(headers, sizeof(headers));
    if (!sampled(core, service->exported, rb_slice_of(payload.ptr, header_len), &out)) {
        return NULL;
    }
    if (rb_writer_len(&out) > 0) {
        rb_write_u8(&out, '}');
    }
    size_t headers_len = out.ok ? rb_writer_len(&out) : 0;
    size_t info_len =
        from == NULL ? 0 : rb_conn_client_info(from, service->policy->share, info, sizeof(info));
    struct rb_slice subject = service->exported->latency_subject;
    size_t bytes = sizeof(struct rb_latency) + subject.len + info_len + headers_len;
    struct rb_latency *latency = rb_alloc(core->budget, bytes);
    if (latency == NULL) {
        return NULL;
    }
    uint8_t *at = (uint8_t *)(latency + 1);
    latency->bytes = bytes;
    latency->exporter = exporter;
    latency->start_ns = core->now_ns;
    latency->start_wall_ns = core->env->wall_ns(core->env->ctx);
    latency->requestor_rtt_ns = from == NULL ? 0 : from->rtt_ns;
    latency->subject = keep(&at, subject);
    latency->requestor = keep(&at, rb_slice_of(info, info_len));
    latency->headers = keep(&at, rb_slice_of(headers, headers_len));
    return latency;
}

void rb_latency_free(struct rb_core *core, struct rb_latency *latency)
{
    if (latency != NULL) {
        rb_free(core->budget, latency, latency->bytes);
    }
}

struct figures {
    uint64_t service_ns, system_ns, total_ns;
};

static void put_object(struct rb_writer *out, struct rb_slice name, struct rb_slice json)
{
    if (json.len > 0) {
        rb_write_slice(out, name);
        rb_write_slice(out, json);
    }
}

static void publish_metric(struct rb_core *core, struct rb_latency *latency, int status,
                           const char *description, struct rb_slice responder,
                           const struct figures *figures)
{
    uint8_t text[METRIC_MAX];
    char id[RB_NUID_LEN];
    rb_nuid(core->env, id);
    struct rb_writer out = rb_writer_over(text, sizeof(text));
    rb_json_text(&out, RB_S("{\"type\":"), RB_S("io.nats.server.metric.v1.service_latency"));
    rb_json_text(&out, RB_S(",\"id\":"), rb_slice_of(id, RB_NUID_LEN));
    rb_json_time(&out, RB_S(",\"timestamp\":"), core->env->wall_ns(core->env->ctx));
    rb_json_number(&out, RB_S(",\"status\":"), (uint64_t)status);
    rb_json_optional(&out, RB_S(",\"description\":"), rb_slice_text(description));
    put_object(&out, RB_S(",\"requestor\":"), latency->requestor);
    put_object(&out, RB_S(",\"responder\":"), responder);
    put_object(&out, RB_S(",\"header\":"), latency->headers);
    rb_json_time(&out, RB_S(",\"start\":"), latency->start_wall_ns - latency->requestor_rtt_ns);
    rb_json_number(&out, RB_S(",\"service\":"), figures->service_ns);
    rb_json_number(&out, RB_S(",\"system\":"), figures->system_ns);
    rb_json_number(&out, RB_S(",\"total\":"), figures->total_ns);
    rb_write_u8(&out, '}');
    if (out.ok) {
        (void)rb_account_publish(latency->exporter, latency->subject, RB_S(""), 0,
                                 rb_slice_of(text, rb_writer_len(&out)));
    }
    rb_latency_free(core, latency);
}

void rb_latency_failed(struct rb_core *core, struct rb_latency *latency, int status,
                       const char *description)
{
    struct figures none = { 0 };
    publish_metric(core, latency, status, description, RB_S(""), &none);
}

/* The number behind "rtt": in a client info document. */
static uint64_t rtt_of(struct rb_slice info)
{
    static const char key[] = "\"rtt\":";
    uint64_t value = 0;
    for (size_t i = 0; i + sizeof(key) - 1 <= info.len; i++) {
        if (memcmp(info.ptr + i, key, sizeof(key) - 1) != 0) {
            continue;
        }
        for (i += sizeof(key) - 1; i < info.len && info.ptr[i] >= '0' && info.ptr[i] <= '9'; i++) {
            value = value * 10 + (uint64_t)(info.ptr[i] - '0');
        }
        break;
    }
    return value;
}

void rb_latency_answered(struct rb_core *core, struct rb_latency *latency,
                         struct rb_slice responder, bool wanted)
{
    if (!wanted) {
        rb_latency_failed(core, latency, 408, "Request Timeout");
        return;
    }
    uint64_t now_ns = rb_env_now(core->env);
    uint64_t passed_ns = now_ns - latency->start_ns, rtt_ns = rtt_of(responder);
    struct figures figures = { .service_ns = passed_ns > rtt_ns ? passed_ns - rtt_ns : 0,
                               .system_ns = rtt_ns > 0 ? now_ns - core->now_ns : 0 };
    figures.total_ns = latency->requestor_rtt_ns + passed_ns + figures.system_ns;
    publish_metric(core, latency, 200, "", responder, &figures);
}
