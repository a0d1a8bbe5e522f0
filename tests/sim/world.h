/* world.h - one simulated node, its clients, and what they may expect (docs/testing.md).
 *
 *   main.c --seed--> workload.c: a plan, then actions --> client.c: sessions over the sim net,
 *                        |                                  every byte checked against the model
 *                        `--quiet--> cluster.c: drain --> checker.c: what is missing, interest
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "ringbus/env.h"
#include "ringbus/log.h"
#include "ringbus/slice.h"
#include "server/account_ids.h"
#include "server/config.h"
#include "server/mailbox.h"
#include "server/shard.h"
#include "transport/sim/sim.h"
#include "wire.h"

#define SIM_QUEUES 3
#define SIM_TEXT_MAX 200
#define SIM_SUBJECTS_MAX 40
#define SIM_PATTERNS_MAX 40
#define SIM_PATTERN_INBOX UINT32_MAX /* the session's own "id.N.*": only no-responders replies */
#define SIM_PLAIN UINT32_MAX         /* not in a queue group */
#define SIM_BODY_MAX 131072
#define SIM_HEADER_MAX 256
#define SIM_READ_BYTES 65536

/** What one seed does; drawn before anything runs. */
struct sim_plan {
    struct rb_config config;
    struct rb_sim_net_options net;
    uint32_t shard_count, client_count, action_count, quiet_every;
    uint32_t body_max;
    uint32_t cork_permille, stall_permille, churn_permille, jump_permille, crime_permille;
    uint32_t starve_permille, steps_max;
    bool log_all;
};

/** Subjects and patterns of the seed; match[pattern][subject]. */
struct sim_subjects {
    char literal[SIM_SUBJECTS_MAX][SIM_TEXT_MAX];
    bool odd[SIM_SUBJECTS_MAX]; /* not valid in pedantic mode */
    char pattern[SIM_PATTERNS_MAX][SIM_TEXT_MAX];
    bool match[SIM_PATTERNS_MAX][SIM_SUBJECTS_MAX];
    uint32_t literal_count, pattern_count;
};

struct sim_publication {
    uint32_t publisher, number; /* session index, 1.. */
    uint32_t subject, header_len, body_len;
    bool reply;
    uint64_t stamp;                          /* not later than it was handed to the net */
    uint32_t delivered_count, refused_count; /* MSGs anywhere; 503s */
    uint32_t queue_count[SIM_QUEUES];
};

struct sim_subscription {
    uint32_t pattern, queue;
    uint32_t created_op, ended_op, max_op; /* of the session; 0: not yet */
    uint64_t established;                  /* stamp of the PONG that followed; 0: not yet */
    bool ended, ended_confirmed, max_confirmed;
    uint32_t max, delivered;
    uint32_t *last; /* [publisher]: the greatest number that came */
    uint32_t last_cap;
    uint32_t *got; /* publications of this epoch */
    uint32_t got_count, got_cap;
};

enum sim_answer { SIM_OK, SIM_PONG, SIM_BAD_SUBJECT, SIM_BAD_PUBLISH, SIM_LAST_WORDS };
struct sim_expect {
    enum sim_answer answer;
    uint32_t op, pub_count; /* of a PING: what it confirms */
};

/** One connection of a client, from connect to end; a reconnect is a new session. */
struct sim_session {
    struct sim_world *world;
    uint32_t index;
    struct sim_wire wire;
    bool open, stalled;
    bool connect_sent, verbose, pedantic, echo, headers, no_responders, reconnected;
    uint32_t protocol;
    const char *sid_prefix;
    uint64_t stalled_ns, stall_longest_ns;
    bool dying; /* did something that must end the connection */
    uint64_t dying_ns;
    const char *last_words; /* the -ERR it should hear; NULL: silence */
    bool heard_last_words, heard_stale, heard_info, info_due, ponged;
    struct sim_expect *expects;
    uint32_t expect_head, expect_count, expect_cap;
    uint32_t op_count, epoch_op;
    uint32_t *pubs; /* [number - 1]: index in the world */
    uint32_t pub_count, pub_cap, pub_confirmed;
    struct sim_subscription *subs; /* [sid - 1] */
    uint32_t sub_count, sub_cap;
};

struct sim_world;

/** For the summary: proof that the sweep reaches what it is meant to reach. */
struct sim_totals {
    uint64_t publications, deliveries, refusals, slow, stale, faults, sessions, quiets, jumps;
    uint64_t crimes;
    uint64_t acct_seeds, crossed, answers, denied, refused_logins, reloads;
    uint64_t again; /* turns in which a repeated CONNECT waited for mail room */
    uint64_t tight; /* turns that ended with a mail ring nearly full */
    uint64_t over_pending, over_deadline; /* slow consumers, as the server's log says */
};

/** What kind of clients a seed has: of the plain simulation, or of accounts (acct.h). */
struct sim_clients {
    void (*flush)(struct sim_world *w);       /* everybody says what he has to say */
    bool (*read)(struct sim_world *w);        /* everybody hears what came; true: something did */
    void (*end)(struct sim_world *w);         /* nobody stalls any more */
    void (*check_ended)(struct sim_world *w); /* the node stopped: nobody may still be connected */
    void (*check_empty)(struct sim_world *w); /* nobody is connected: what must be left */
    const struct rb_policy *(*policy)(struct sim_world *w); /* NULL: the configuration's own */
};
extern const struct sim_clients sim_plain_clients;

struct acct_world;

struct sim_world {
    const struct sim_clients *clients;
    struct acct_world *acct; /* NULL: the plain simulation */
    bool lazy_work;          /* helper jobs come back late */
    uint64_t seed;
    bool trace, failed, stopping;
    char failure[1024];
    struct rb_env draw;
    struct sim_plan plan;
    struct sim_subjects subjects;
    struct sim_totals totals;
    uint64_t digest; /* of all bytes and their times: equal runs have equal digests */
    /* the node */
    struct rb_sim_net *net;
    struct rb_log log;
    struct rb_mail mail;
    struct rb_node_shared shared;
    struct rb_account_table accounts;
    struct rb_account_ids ids;
    struct rb_work *work;
    struct rb_env envs[RB_SHARDS_MAX];
    struct rb_budget budgets[RB_SHARDS_MAX];
    struct rb_transport *transports[RB_SHARDS_MAX];
    struct rb_shard *shards[RB_SHARDS_MAX];
    uint32_t starved; /* a shard that gets no turn until the next drain; UINT32_MAX: none */
    /* the model */
    uint64_t stamp;
    struct sim_session **sessions;
    uint32_t session_count, session_cap;
    struct sim_publication *pubs;
    uint32_t pub_count, pub_cap, epoch_pub;
    bool group_unstable[SIM_QUEUES];   /* a member went, or may go, in this epoch */
    bool group_disordered[SIM_QUEUES]; /* somebody heard a publisher out of order */
    uint8_t *scratch;
};

/* main.c */
/** Keeps the first failure; everybody stops when `failed` is set. */
__attribute__((format(printf, 2, 3))) void sim_fail(struct sim_world *w, const char *format, ...);
__attribute__((format(printf, 2, 3))) void sim_trace(struct sim_world *w, const char *format, ...);
/** Grows `*items` so that `need` items fit; new ones are zeroed. */
void *sim_grow(void *items, uint32_t *cap, uint32_t need, size_t item_bytes);
uint32_t sim_below(struct sim_world *w, uint32_t bound);
bool sim_chance(struct sim_world *w, uint32_t permille);

/* cluster.c */
bool sim_node_start(struct sim_world *w);
/** One turn of shard `index`. */
bool sim_turn(struct sim_world *w, uint32_t index);
/** Every shard once, in random order. */
bool sim_turn_all(struct sim_world *w);
/** Until nothing moves any more: clients have read all, the net is empty, the shards idle. */
void sim_drain(struct sim_world *w);
/** Lets `ns` pass, with everybody awake who is not stalled. */
void sim_pass_time(struct sim_world *w, uint64_t ns);
/** Stops the shards, checks what must be left of them, frees everything of the node. */
void sim_node_stop(struct sim_world *w);

/* client.c */
struct sim_session *sim_session_open(struct sim_world *w);
void sim_session_connect(struct sim_session *s);
void sim_session_sub(struct sim_session *s, uint32_t pattern, uint32_t queue, uint32_t max);
/** A SUB with the sid of a subscription that stands: to be ignored. */
void sim_session_sub_again(struct sim_session *s, uint32_t sub, uint32_t pattern);
void sim_session_sub_invalid(struct sim_session *s);
/** max 0: now. */
void sim_session_unsub(struct sim_session *s, uint32_t sub, uint32_t max);
struct sim_publication *sim_session_pub(struct sim_session *s, uint32_t subject,
                                        uint32_t header_len, uint32_t body_len, bool reply);
void sim_session_ping(struct sim_session *s);
/** Breaks the protocol in one of several ways; the server must end the connection. */
void sim_session_crime(struct sim_session *s);
void sim_session_flush(struct sim_session *s);
/** Reads at most `cap` bytes and checks them; true if something came or the end was seen. */
bool sim_session_read(struct sim_session *s, size_t cap);
void sim_session_stall(struct sim_session *s, bool stalled);
void sim_session_close(struct sim_session *s, bool reset);
void sim_sessions_free(struct sim_world *w);
/** The subscription stands as far as the model knows. */
bool sim_sub_live(const struct sim_session *s, const struct sim_subscription *sub);
const char *sim_sub_text(const struct sim_session *s, const struct sim_subscription *sub,
                         char out[SIM_TEXT_MAX]);

/* checker.c */
bool sim_match(const char *pattern, const char *subject);
/** Server ended `s`: was it allowed to? */
void sim_check_end(struct sim_session *s);
/** After a drain; begins the next epoch. */
void sim_check_quiet(struct sim_world *w);
void sim_check_empty(struct sim_world *w);

/* workload.c */
void sim_plan_draw(struct sim_world *w);
void sim_workload_run(struct sim_world *w);

extern const char *const sim_queue_names[SIM_QUEUES];
