/* transfer.c - the frame around snapshots and restores. */
#include "js/transfer.h"

#include <inttypes.h>

#include "core/account.h"

bool rb_js_transfer_open(struct rb_js_transfer *transfer, struct rb_slice subject,
                         rb_special_take take)
{
    struct rb_js_api *api = transfer->api;
    if (api->transfer_count >= RB_JS_TRANSFERS_MAX) {
        return false;
    }
    transfer->special.take = take;
    transfer->special.ctx = transfer;
    if (rb_account_listen(api->account->account, subject, &transfer->special) != RB_OK) {
        return false;
    }
    transfer->listening = true;
    transfer->account = api->account;
    transfer->begun_ns = api->account->js->wall_ns;
    rb_timer_init(&transfer->timed.timer, RB_JS_TIMER_API);
    rb_list_append(&api->transfers, &transfer->link);
    api->transfer_count++;
    return true;
}

void rb_js_transfer_close(struct rb_js_transfer *transfer)
{
    struct rb_js_api *api = transfer->api;
    if (transfer->listening) {
        rb_account_unlisten(api->account->account, &transfer->special);
        rb_wheel_disarm(&api->account->js->wheel, &transfer->timed.timer);
        rb_list_remove(&transfer->link);
        api->transfer_count--;
        transfer->listening = false;
    }
}

void rb_js_transfer_arm(struct rb_js_transfer *transfer, uint64_t after_ns)
{
    struct rb_js *js = transfer->account->js;
    rb_wheel_arm(&js->wheel, &transfer->timed.timer, js->now_ns + after_ns);
}

void rb_js_transfer_advise(struct rb_js_transfer *transfer, enum rb_js_transfer_event event,
                           uint64_t bytes, const char *error)
{
    struct rb_js *js = transfer->account->js;
    struct rb_out members;
    rb_out_init(&members, js->budget);
    rb_out_put(&members, RB_S("\"stream\":"));
    rb_out_string(&members, transfer->name);
    if (event == RB_JS_SNAPSHOT_CREATE) {
        const struct rb_js_info_options options = { .cluster = false };
        rb_out_put(&members, RB_S(",\"state\":"));
        rb_js_write_state(&members, transfer->stream, &options);
    } else if (event != RB_JS_RESTORE_CREATE) {
        rb_out_put(&members, RB_S(",\"start\":"));
        rb_out_time(&members, (int64_t)transfer->begun_ns);
        rb_out_put(&members, RB_S(",\"end\":"));
        rb_out_time(&members, (int64_t)js->wall_ns);
        if (event == RB_JS_RESTORE_COMPLETE) {
            rb_out_printf(&members, ",\"bytes\":%" PRIu64, bytes);
        }
    }
    if (transfer->client.len > 0) {
        rb_out_put(&members, RB_S(",\"client\":"));
        rb_out_put(&members, transfer->client);
    }
    if (error != NULL) {
        rb_out_put(&members, RB_S(",\"error\":"));
        rb_out_string(&members, rb_slice_text(error));
    }
    rb_js_advise_transfer(transfer->account, event, transfer->name, &members);
    rb_out_deinit(&members);
}

void rb_js_transfers_end(struct rb_js_api *api, const struct rb_js_stream *stream)
{
    for (struct rb_list *at = api->transfers.next, *next; at != &api->transfers; at = next) {
        struct rb_js_transfer *transfer = RB_CONTAINER(at, struct rb_js_transfer, link);
        next = at->next;
        if (stream == NULL || transfer->stream == stream) {
            transfer->end(transfer);
        }
    }
}
