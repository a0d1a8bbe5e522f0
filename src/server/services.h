/* services.h - answers to system requests that need the whole node: one thread that asks the shards.
 *
 *   shard: request --submit--> [queue, bounded] --> service thread: asks shards, writes the document
 *   shard <--task: publish the answer ---------------'
 *
 * The thread starts with the first request. A shard that submits never waits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/header.h"
#include "ringbus/errors.h"
#include "ringbus/slice.h"
#include "server/docs.h"
#include "server/text.h"

struct rb_node;
struct rb_services;

#define RB_SERVICES_QUEUE_MAX 256
#define RB_REQUEST_BODY_MAX 65536
#define RB_ANSWER_BYTES_MAX (64u * 1024 * 1024)

enum rb_request_kind {
    RB_REQUEST_IDZ, /* these four are answered on the shard */
    RB_REQUEST_STATSZ,
    RB_REQUEST_CONNS,
    RB_REQUEST_USER,
    RB_REQUEST_DOC, /* the rest by the service thread */
    RB_REQUEST_PROFILEZ,
    RB_REQUEST_ACCOUNT_DOC, /* limited to the account that the subject names */
    RB_REQUEST_ACCOUNT_INFO,
    RB_REQUEST_STATZ, /* of accounts */
    RB_REQUEST_NSUBS,
    RB_REQUEST_SUBSCRIBERS,
    RB_REQUEST_RELOAD,
    RB_REQUEST_KICK,
    RB_REQUEST_LDM,
};

/** One request. Made with rb_request_create; texts lie behind the struct. */
struct rb_request {
    struct rb_request *next; /* the services' */
    enum rb_request_kind kind;
    enum rb_monitor_doc doc;
    enum rb_encoding encoding;
    uint32_t home;           /* the shard that publishes the answer */
    uint32_t reply_account;  /* id, in which it does */
    uint32_t target_account; /* id, of SUBSCRIBERS */
    struct rb_slice account; /* name that limits the answer; empty: none */
    struct rb_slice reply, body;
};

/** NULL: memory refused. Copies the texts. */
struct rb_request *rb_request_create(struct rb_slice account, struct rb_slice reply,
                                     struct rb_slice body);
void rb_request_free(struct rb_request *request);
/** A gzip stream of `in`. False: no memory, or above the text's limit. */
bool rb_gzip(struct rb_slice in, struct rb_text *out);
/** What "Accept-Encoding" gets (rb_header_encoding). */
enum rb_encoding rb_request_encoding(struct rb_slice headers);

RB_MUST_CHECK enum rb_err rb_services_create(struct rb_node *node,
                                             struct rb_services **ret_services);
/** Any thread. False: the queue is full, or the node stops; `request` stays the caller's. */
bool rb_services_submit(struct rb_services *services, struct rb_request *request);
/** Ends the thread; what waits is dropped. The shards still run. */
void rb_services_stop(struct rb_services *services);
/** After the shards have ended. NULL is allowed. */
void rb_services_destroy(struct rb_services *services);

/** What the answers are made from (services_answer.c). */
struct rb_answerer {
    struct rb_node *node;
    struct rb_monitor_source source;
    struct rb_process_usage usage;
};
/** The answer's text; false: there is none (not meant for this server, or filtered). Thread: the services'. */
bool rb_services_answer(struct rb_answerer *answerer, const struct rb_request *request,
                        struct rb_text *out);
