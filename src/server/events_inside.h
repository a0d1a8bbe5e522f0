/* events_inside.h - what events.c and events_services.c share. */
#pragma once

#include "server/events.h"
#include "server/events_docs.h"
#include "server/monitor.h"
#include "server/services.h"
#include "server/shard.h"

/** One subject the server listens to. */
struct rb_service {
    struct rb_special special;
    struct rb_events *events;
    uint8_t kind; /* enum rb_request_kind */
    uint8_t doc;  /* enum rb_monitor_doc */
    bool own;     /* answers about the requestor's own account */
};

/** Services that every account has (imports of nats-server). */
#define RB_IMPORTED_SERVICES 4
/** Services of the system account. */
#define RB_SYSTEM_SERVICES_MAX 64

struct rb_events {
    struct rb_shard *shard;
    struct rb_core *core;
    struct rb_node_shared *shared;
    struct rb_timer statsz_timer, accounts_timer;
    uint64_t statsz_interval_ns, statsz_last_ns;
    struct rb_process_usage usage;
    enum rb_err err; /* of an account that came up */
    /* Services */
    struct rb_account *system; /* where the system services listen; NULL: nowhere */
    struct rb_service services[RB_SYSTEM_SERVICES_MAX];
    uint32_t service_count;
    struct rb_service (**imported)[RB_IMPORTED_SERVICES]; /* by account id; NULL: none */
    uint32_t imported_cap;
};

/** Makes the account's services, and the system's if it is the system account. */
enum rb_err rb_events_serve(struct rb_events *events, struct rb_account *account);
void rb_events_free_services(struct rb_events *events);
/** Publishes a STATSZ document; nobody listens: nothing. */
void rb_events_statsz(struct rb_events *events, struct rb_account *account,
                      struct rb_slice subject);
/** The next broadcast of STATSZ goes out at once. */
void rb_events_broadcast(struct rb_events *events);
/** Publishes a finished text in `account` and frees it. */
void rb_events_send(struct rb_account *account, struct rb_slice subject, struct rb_text *text);
