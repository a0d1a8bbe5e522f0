/* send.c - messages of JetStream's own: answers, deliveries, statuses, advisories. */
#include <string.h>

#include "base/nuid.h"
#include "js/js.h"

#define STATUS_MAX 1024u

bool rb_js_send(struct rb_js_account *account, struct rb_slice to, struct rb_slice subject,
                struct rb_slice reply, uint32_t header_len, struct rb_slice payload)
{
    return rb_account_deliver(account->account, to, subject, reply, header_len, payload);
}

void rb_js_send_status(struct rb_js_account *account, struct rb_slice to, struct rb_slice reply,
                       struct rb_slice line, struct rb_slice fields)
{
    uint8_t bytes[STATUS_MAX];
    struct rb_writer writer = rb_writer_over(bytes, sizeof(bytes));
    rb_write_slice(&writer, RB_S("NATS/1.0 "));
    rb_write_slice(&writer, line);
    rb_write_slice(&writer, RB_S("\r\n"));
    rb_write_slice(&writer, fields);
    rb_write_slice(&writer, RB_S("\r\n"));
    size_t len = rb_writer_len(&writer);
    if (writer.ok) {
        (void)rb_js_send(account, to, rb_slice_of(NULL, 0), reply, (uint32_t)len,
                         rb_slice_of(bytes, len));
    }
}

static void advise(struct rb_js *js, struct rb_account *account, struct rb_slice subject,
                   struct rb_slice type, struct rb_slice members)
{
    char id[RB_NUID_LEN];
    if (!rb_account_wanted(account, subject)) {
        return;
    }
    struct rb_out out;
    rb_out_init(&out, js->budget);
    rb_nuid(js->env, id);
    rb_out_put(&out, RB_S("{\"type\":\""));
    rb_out_put(&out, type);
    rb_out_put(&out, RB_S("\",\"id\":\""));
    rb_out_put(&out, rb_slice_of(id, sizeof(id)));
    rb_out_put(&out, RB_S("\",\"timestamp\":"));
    rb_out_time(&out, (int64_t)js->wall_ns);
    rb_out_put(&out, RB_S(","));
    rb_out_put(&out, members);
    if (js->settings->domain.len > 0) {
        rb_out_put(&out, RB_S(",\"domain\":"));
        rb_out_string(&out, js->settings->domain);
    }
    rb_out_put(&out, RB_S("}"));
    if (!out.failed) {
        (void)rb_account_deliver(account, subject, rb_slice_of(NULL, 0), rb_slice_of(NULL, 0), 0,
                                 rb_out_slice(&out));
    }
    rb_out_deinit(&out);
}

void rb_js_advise(struct rb_js_account *account, struct rb_slice subject, struct rb_slice type,
                  struct rb_slice members)
{
    advise(account->js, account->account, subject, type, members);
}

void rb_js_advise_system(struct rb_js *js, struct rb_slice subject, struct rb_slice type,
                         struct rb_slice members)
{
    struct rb_account *system = rb_account_system(js->core);
    if (system != NULL) {
        advise(js, system, subject, type, members);
    }
}
