/* services.c - the queue and the thread of services.h, and the way of an answer back to its shard. */
#include "server/services.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#include "core/account.h"
#include "ringbus/check.h"
#include "server/node.h"
#include "server/shard.h"
#include "server/source.h"

struct rb_services {
    struct rb_answerer answerer;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    pthread_t thread;
    bool running, stopping;
    struct rb_request *head, *tail;
    uint32_t count;
};

/* Requests */

struct rb_request *rb_request_create(struct rb_slice account, struct rb_slice reply,
                                     struct rb_slice body)
{
    size_t bytes = account.len + reply.len + body.len;
    struct rb_request *request = calloc(1, sizeof(*request) + bytes);
    if (request == NULL) {
        return NULL;
    }
    struct rb_writer out = rb_writer_over(request + 1, bytes);
    const struct rb_slice from[] = { account, reply, body };
    struct rb_slice *into[] = { &request->account, &request->reply, &request->body };
    for (int i = 0; i < 3; i++) {
        *into[i] = rb_slice_of(out.at, from[i].len);
        rb_write_slice(&out, from[i]);
    }
    return request;
}

void rb_request_free(struct rb_request *request)
{
    free(request);
}

enum rb_encoding rb_request_encoding(struct rb_slice headers)
{
    return rb_header_encoding(headers.len == 0 ? headers
                                               : rb_header_get(headers, RB_S("Accept-Encoding")));
}

/* Answers */

/* On its way to a shard; headers and body behind it. */
struct reply_task {
    struct rb_task task;
    uint32_t account, header_len;
    size_t subject_len, payload_len;
    uint8_t bytes[]; /* subject, then payload */
};

static void publish_reply(struct rb_shard *shard, struct rb_task *task)
{
    struct reply_task *reply = RB_CONTAINER(task, struct reply_task, task);
    struct rb_account *account = rb_account_get(rb_shard_core(shard), reply->account);
    if (account != NULL) {
        (void)rb_account_publish(
            account, rb_slice_of(reply->bytes, reply->subject_len), RB_S(""), reply->header_len,
            rb_slice_of(reply->bytes + reply->subject_len, reply->payload_len));
    }
    free(reply);
}

bool rb_gzip(struct rb_slice in, struct rb_text *out)
{
    z_stream z = { 0 };
    if (in.len > UINT32_MAX || deflateInit2(&z, Z_DEFAULT_COMPRESSION, Z_DEFLATED, 15 + 16, 8,
                                            Z_DEFAULT_STRATEGY) != Z_OK) {
        return false;
    }
    bool done = false;
    if (rb_text_reserve(out, deflateBound(&z, in.len))) {
        z.next_in = (uint8_t *)(uintptr_t)in.ptr;
        z.avail_in = (uInt)in.len;
        z.next_out = (uint8_t *)out->ptr;
        z.avail_out = (uInt)(out->cap - 1);
        done = deflate(&z, Z_FINISH) == Z_STREAM_END;
        out->len = z.total_out;
    }
    (void)deflateEnd(&z);
    return done;
}

static void send_answer(struct rb_services *services, const struct rb_request *request,
                        struct rb_slice body)
{
    struct rb_text packed;
    struct rb_slice headers = { NULL, 0 };
    rb_text_init(&packed, RB_ANSWER_BYTES_MAX);
    enum rb_encoding encoding = request->encoding;
    if (encoding == RB_ENCODING_GZIP && rb_gzip(body, &packed)) {
        body = rb_slice_of(packed.ptr, packed.len);
        headers = RB_S("NATS/1.0\r\nContent-Encoding: gzip\r\n\r\n");
    } else if (encoding != RB_ENCODING_NONE) {
        headers = RB_S("NATS/1.0\r\nContent-Encoding: identity\r\n\r\n");
    }
    struct reply_task *reply = malloc(sizeof(*reply) + request->reply.len + headers.len + body.len);
    if (reply != NULL) {
        *reply = (struct reply_task){ .task = { .run = publish_reply },
                                      .account = request->reply_account,
                                      .header_len = (uint32_t)headers.len,
                                      .subject_len = request->reply.len,
                                      .payload_len = headers.len + body.len };
        struct rb_writer out =
            rb_writer_over(reply->bytes, request->reply.len + headers.len + body.len);
        rb_write_slice(&out, request->reply);
        rb_write_slice(&out, headers);
        rb_write_slice(&out, body);
        if (!rb_node_post(services->answerer.node, request->home, &reply->task)) {
            free(reply);
        }
    }
    rb_text_deinit(&packed);
}

/* The thread */

static struct rb_request *take_request(struct rb_services *services)
{
    pthread_mutex_lock(&services->lock);
    while (services->head == NULL && !services->stopping) {
        pthread_cond_wait(&services->changed, &services->lock);
    }
    struct rb_request *request = services->stopping ? NULL : services->head;
    if (request != NULL) {
        services->head = request->next;
        services->count--;
    }
    pthread_mutex_unlock(&services->lock);
    return request;
}

static void *services_main(void *arg)
{
    struct rb_services *services = arg;
    (void)pthread_setname_np(pthread_self(), "services");
    for (struct rb_request *request; (request = take_request(services)) != NULL;) {
        struct rb_text text;
        rb_text_init(&text, RB_ANSWER_BYTES_MAX);
        if (rb_services_answer(&services->answerer, request, &text)) {
            send_answer(services, request, rb_slice_of(text.ptr, text.len));
        }
        rb_text_deinit(&text);
        rb_request_free(request);
    }
    return NULL;
}

bool rb_services_submit(struct rb_services *services, struct rb_request *request)
{
    pthread_mutex_lock(&services->lock);
    bool accepted = !services->stopping && services->count < RB_SERVICES_QUEUE_MAX;
    if (accepted && !services->running) {
        accepted = services->running =
            pthread_create(&services->thread, NULL, services_main, services) == 0;
    }
    if (accepted) {
        request->next = NULL;
        if (services->head == NULL) {
            services->head = request;
        } else {
            services->tail->next = request;
        }
        services->tail = request;
        services->count++;
        pthread_cond_signal(&services->changed);
    }
    pthread_mutex_unlock(&services->lock);
    return accepted;
}

enum rb_err rb_services_create(struct rb_node *node, struct rb_services **ret_services)
{
    struct rb_services *services = calloc(1, sizeof(*services));
    if (services == NULL) {
        return RB_ERR_MEMORY;
    }
    services->answerer.node = node;
    enum rb_err err = rb_node_source(node, &services->answerer.source);
    if (err != RB_OK) {
        free(services);
        return err;
    }
    (void)pthread_mutex_init(&services->lock, NULL);
    (void)pthread_cond_init(&services->changed, NULL);
    *ret_services = services;
    return RB_OK;
}

void rb_services_stop(struct rb_services *services)
{
    pthread_mutex_lock(&services->lock);
    services->stopping = true;
    bool running = services->running;
    services->running = false;
    pthread_cond_signal(&services->changed);
    pthread_mutex_unlock(&services->lock);
    if (running) {
        (void)pthread_join(services->thread, NULL);
    }
}

void rb_services_destroy(struct rb_services *services)
{
    if (services == NULL) {
        return;
    }
    rb_services_stop(services);
    while (services->head != NULL) {
        struct rb_request *next = services->head->next;
        rb_request_free(services->head);
        services->head = next;
    }
    rb_node_source_free(&services->answerer.source);
    (void)pthread_mutex_destroy(&services->lock);
    (void)pthread_cond_destroy(&services->changed);
    free(services);
}
