/* republish.c - a stored message sent on, with where it is stored in its headers. */
#include "js/publish.h"
#include "proto/subject.h"

static void put_header(struct rb_out *out, const char *name, struct rb_slice value)
{
    rb_out_put(out, rb_slice_text(name));
    rb_out_put(out, RB_S(": "));
    rb_out_put(out, value);
    rb_out_put(out, RB_S("\r\n"));
}

static void put_number(struct rb_out *out, const char *name, uint64_t value)
{
    uint8_t digits[20];
    put_header(out, name, rb_slice_of(digits, rb_format_decimal(digits, value)));
}

/* As rb_out_time writes it, without the quotes. */
static void put_time(struct rb_out *out, const char *name, uint64_t time_ns)
{
    struct rb_out quoted;
    rb_out_init(&quoted, out->budget);
    rb_out_time(&quoted, (int64_t)time_ns);
    if (quoted.len > 2) {
        put_header(out, name, rb_slice_of(quoted.bytes + 1, quoted.len - 2));
    }
    rb_out_deinit(&quoted);
}

void rb_js_republish(struct rb_js_stream *stream, const struct rb_message *message,
                     uint64_t last_seq)
{
    struct rb_js *js = stream->account->js;
    const struct rb_js_republish *config = stream->config->republish;
    uint8_t subject[RB_MSGSTORE_SUBJECT_MAX];
    size_t len = rb_transform_apply(stream->inside->republish, message->subject,
                                    rb_env_random(js->env), subject, sizeof(subject));
    struct rb_slice to = rb_slice_of(subject, len);
    if (len == 0 || !rb_subject_valid_literal(to)) {
        return;
    }
    struct rb_out out;
    rb_out_init(&out, js->budget);
    if (message->header_len > 2) { /* without the empty line at its end */
        rb_out_put(&out, rb_slice_of(message->payload.ptr, message->header_len - 2));
    } else {
        rb_out_put(&out, RB_S("NATS/1.0\r\n"));
    }
    put_header(&out, "Nats-Stream", stream->name);
    put_header(&out, "Nats-Subject", message->subject);
    put_number(&out, "Nats-Sequence", message->seq);
    put_time(&out, "Nats-Time-Stamp", message->time_ns);
    put_number(&out, "Nats-Last-Sequence", last_seq);
    size_t body = message->payload.len - message->header_len;
    if (config->headers_only) {
        put_number(&out, "Nats-Msg-Size", body);
    }
    rb_out_put(&out, RB_S("\r\n"));
    uint32_t header_len = (uint32_t)out.len;
    if (!config->headers_only) {
        rb_out_put(&out, rb_slice_of(message->payload.ptr + message->header_len, body));
    }
    if (!out.failed) {
        (void)rb_js_send(stream->account, to, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0),
                         header_len, rb_out_slice(&out));
    }
    rb_out_deinit(&out);
}
