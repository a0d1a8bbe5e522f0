/* acct.h - the simulation of accounts: credentials, permissions, imports, reloads (docs/testing.md).
 *
 *   acct_policy.c: policies of a seed, as the model sees them, and as the server takes them
 *   acct_model.c:  what follows from a policy: who is who, who may, where a message goes
 *   acct_client.c: sessions over the sim net: what they say, and the answers they may get
 *   acct_hear.c:   messages, judged by the model
 *   acct_check.c:  what must be true at quiet points
 *   acct_run.c:    actions, reloads, quiet points
 *
 * Nothing here asks the server's code what is right: matching, permissions and imports are written once more, slowly.
 */
#pragma once

#include "auth/nkey.h"
#include "auth/policy.h"
#include "world.h"

#define ACCT_MAX 8 /* "$G", "$SYS", and up to six more */
#define ACCT_TEXT 160
#define ACCT_USERS 10
#define ACCT_NKEYS 3 /* of the users, the first ones prove themselves with a key */
#define ACCT_POLICIES 24
#define ACCT_ENTRIES 5
#define ACCT_LINKS 4
#define ACCT_POINTS 48
#define ACCT_CHOICES 24
#define ACCT_CHAIN 8
#define ACCT_LOGINS 24
#define ACCT_PLAIN UINT32_MAX

struct acct_list {
    bool set;
    uint32_t count;
    struct {
        char subject[ACCT_TEXT], queue[16];
    } entries[ACCT_ENTRIES];
};

struct acct_perms {
    bool present; /* false: everything is permitted */
    struct acct_list pub_allow, pub_deny, sub_allow, sub_deny;
    bool responses;
    int64_t responses_max, responses_ttl_ns;
};

struct acct_user {
    bool exists, hashed;
    uint32_t secret; /* number of the password */
    uint32_t account;
    struct acct_perms perms;
};

struct acct_export {
    bool service, restricted;
    char subject[ACCT_TEXT];
    enum rb_response_type response;
    int64_t threshold_ns;
    uint32_t importer; /* who may, when restricted */
};

struct acct_import {
    bool service, share;
    uint32_t from, exported; /* account; index of its export */
    char subject[ACCT_TEXT], to[ACCT_TEXT], prefix[24];
};

struct acct_mapping {
    char source[ACCT_TEXT];
    uint32_t target_count;
    struct {
        char subject[ACCT_TEXT];
        uint32_t weight;
    } targets[3];
};

struct acct_account {
    bool exists;
    uint32_t export_count, import_count, mapping_count;
    struct acct_export exports[2 * ACCT_LINKS];
    struct acct_import imports[2 * ACCT_LINKS];
    struct acct_mapping mappings[2];
};

enum acct_login { ACCT_OPEN, ACCT_BY_USERS, ACCT_BY_TOKEN, ACCT_BY_SINGLE };

struct acct_policy {
    enum acct_login login;
    uint32_t secret; /* of the token or the single user */
    int32_t no_auth_user;
    struct acct_account accounts[ACCT_MAX];
    struct acct_user users[ACCT_USERS];
    const struct rb_core_settings *settings; /* what was made of it */
};

/** What a client shows. */
enum acct_proof { ACCT_NOTHING, ACCT_USER, ACCT_NKEY, ACCT_TOKEN };
struct acct_creds {
    enum acct_proof proof;
    uint32_t user,
        secret; /* user ACCT_USERS: nobody's name; secret: of password, token; nkey: 0 signs rightly */
};

struct acct_verdict {
    bool accepted;
    uint32_t account;
    int32_t user;                   /* -1: none */
    const struct acct_perms *perms; /* NULL: everything */
};

/** A place in an account where a message comes past. */
struct acct_point {
    uint32_t account,
        parent;      /* parent: the point whose import led here; UINT32_MAX: the publisher's */
    uint32_t import; /* of the parent's account */
    char subject[ACCT_TEXT];
    bool opaque; /* the last token of an "_R_" subject is not known */
};
struct acct_points {
    uint32_t count;
    bool dropped; /* a mapping sends it nowhere */
    struct acct_point at[ACCT_POINTS];
};

/** Decisions of weighted mappings, enumerated: begin with zeroes, go on while acct_choices_next says so. */
struct acct_choices {
    uint32_t used, at[ACCT_CHOICES], options[ACCT_CHOICES];
};

/* acct_model.c */
bool acct_match(const char *pattern, const char *subject);
struct acct_verdict acct_judge(const struct acct_policy *p, const struct acct_creds *creds);
/** A connection that was `old` stays what it is after the reload. */
bool acct_same_identity(const struct acct_policy *before, struct acct_verdict old,
                        const struct acct_policy *after, struct acct_verdict now);
bool acct_may_publish(const struct acct_perms *perms, const char *subject);
/** The answer to SUB. */
bool acct_may_subscribe(const struct acct_perms *perms, const char *pattern, const char *queue);
/** A message on `subject` may go to a subscription with that queue. */
bool acct_may_hear(const struct acct_perms *perms, const char *subject, const char *queue);
/** From the exporter's subject to the importer's, or for services the other way; false: does not apply. */
bool acct_import_subject(const struct acct_import *import, const char *subject,
                         char out[ACCT_TEXT]);
/** Everywhere a message published on `subject` in `account` comes past, imports of services followed. */
void acct_spread(const struct acct_policy *p, uint32_t account, const char *subject, bool map,
                 struct acct_choices *choices, struct acct_points *points);
bool acct_choices_next(struct acct_choices *choices);
/** How many copies a subscription of `account` on `pattern` gets at these points; `heard`: only those on that subject. */
uint32_t acct_copies(const struct acct_policy *p, const struct acct_points *points,
                     uint32_t account, const char *pattern, const struct acct_perms *perms,
                     const char *queue, const char *heard);
/** The importer's pattern for an import of a stream, or of a service. */
void acct_import_local(const struct acct_import *import, char out[ACCT_TEXT]);
bool acct_overlap(const char *a, const char *b);

/* acct_policy.c */
struct acct_world;
void acct_policy_draw(struct sim_world *w, struct acct_policy *p);
/** A change of `p`, as a reload brings it. */
void acct_policy_change(struct sim_world *w, struct acct_policy *p);
struct rb_policy *acct_policy_build(struct sim_world *w, const struct acct_policy *p);
extern const char *const acct_names[ACCT_MAX];
extern const char *const acct_queues[3];
void acct_draw_subject(struct sim_world *w, char out[ACCT_TEXT], bool pattern);
const char *acct_secret_text(uint32_t secret, char out[32]);

/* ---- sessions ---- */

struct acct_pub {
    uint32_t session, number, login; /* number counts from 1; login: of the session's */
    char subject[ACCT_TEXT];
    char reply[48]; /* empty: none */
    uint32_t body_len, header_len;
    uint32_t policy_first, policy_last; /* that may have judged it; last: when it was confirmed */
    uint32_t account;                   /* UINT32_MAX: not sure */
    uint64_t stamp, said_ns;
    uint32_t leg; /* it answers this leg; UINT32_MAX: an ordinary one */
    uint32_t answer, use_number, answer_copies; /* of the session's answers; which use of it */
    bool answer_settled,
        other_login; /* the message that brought the reply was heard under another login */
    bool confirmed, denied, late, silent;
    uint32_t delivered, refused; /* messages anywhere; 503 */
    uint32_t root_delivered;     /* at the end of a response's way */
    uint32_t queue_count[3];
};

/** A request's way into one exporter, known by its "_R_" reply. */
struct acct_leg {
    char token[48];
    uint32_t pub;
    bool vague;           /* more ways than there is room for */
    uint32_t chain_count; /* more than one: it is not known which way it took */
    struct acct_chain {
        uint32_t len, at[ACCT_CHAIN]; /* accounts, from the exporter's back to the requestor's */
        bool single, chunked;
        int64_t threshold_ns; /* the shortest */
    } chains[4];
    uint64_t active_ns;             /* an answer was last seen to be on its way */
    uint32_t pending;               /* answers said and not confirmed */
    uint32_t said, confirmed, came; /* answers; came: distinct ones that reached the requestor */
    bool ended;                     /* chunked: an empty one was said */
    bool right_account; /* one of them in the account that the token is worth something in */
};

enum acct_sub_state { ACCT_ASKED, ACCT_LIVE, ACCT_REFUSED, ACCT_REMOVED, ACCT_ENDED };
struct acct_sub {
    char pattern[ACCT_TEXT];
    uint32_t queue, login;
    enum acct_sub_state state;
    bool ending; /* UNSUB, or CONNECT, was said; ACCT_ENDED once that is confirmed */
    uint64_t established;
    uint32_t max, delivered;
    bool max_confirmed;
    uint32_t policy_first;
    uint32_t *last;
    uint32_t last_cap;
    uint32_t *got, *got_copies;
    uint32_t got_count, got_cap, copies_cap;
};

enum acct_op { ACCT_OP_CONNECT, ACCT_OP_PUB, ACCT_OP_SUB, ACCT_OP_UNSUB, ACCT_OP_PING };
struct acct_expect {
    enum acct_op op;
    bool verbose;
    uint32_t index; /* publication, subscription, login */
    bool limit;     /* UNSUB with a maximum */
    uint32_t policy_first;
};

/** A reply subject that was delivered and may be answered. */
struct acct_answer {
    char reply[48];
    uint32_t login;
    uint32_t leg; /* UINT32_MAX: the publisher's own subject, in the same account */
    uint32_t pub, copies, uses;
    uint64_t first_said_ns, heard_ns;
};

/** How a session may end; the -ERR it may hear last. */
enum {
    ACCT_DOOM_AUTH = 1,
    ACCT_DOOM_CONNS = 2,
    ACCT_DOOM_PAYLOAD = 4,
    ACCT_DOOM_SILENT = 8,
    ACCT_DOOM_TIMEOUT = 16,
};

struct acct_session {
    struct sim_world *w;
    uint32_t index;
    struct sim_wire wire;
    bool open, stalled, was_stalled, connect_sent, connect_confirmed;
    bool spoke, bound; /* said anything; an operation of it was answered */
    bool verbose, echo, headers, no_responders;
    uint32_t protocol;
    const char *sid_prefix;
    bool judged[ACCT_LOGINS];              /* that CONNECT showed something */
    struct acct_creds logins[ACCT_LOGINS]; /* what each CONNECT showed; [0]: before the first */
    uint32_t login, login_confirmed;  /* the last one said; the last one known to be carried out */
    uint32_t login_floor;             /* that was so at the last quiet point */
    uint32_t login_first, login_last; /* policies that may have judged the last CONNECT */
    char nonce[24];
    bool heard_info, heard_doom, must_die;
    uint32_t doom;
    struct acct_expect *expects;
    uint32_t expect_head, expect_count, expect_cap;
    uint32_t *pubs, pub_count, pub_cap;
    struct acct_sub *subs;
    uint32_t sub_count, sub_cap;
    struct acct_answer *answers;
    uint32_t answer_count, answer_cap;
};

struct acct_world {
    struct rb_nkey keys[ACCT_NKEYS];
    char key_text[ACCT_NKEYS][RB_NKEY_PUBLIC_LEN + 1];
    struct acct_policy policies[ACCT_POLICIES];
    uint32_t policy_done, policy_new; /* on every shard; on at least one */
    uint32_t floor;                   /* the oldest whose traces may still be on their way */
    uint32_t reload_pub; /* publications before this one were said before the last reload ended */
    bool shard_new[RB_SHARDS_MAX];
    const struct rb_policy *base; /* keeps the configuration's lists alive */
    bool reload_in_epoch, moved;  /* moved: some reload let connections change their account */
    int64_t max_conns[ACCT_MAX], max_subs[ACCT_MAX], max_payload[ACCT_MAX]; /* -1: none */
    bool uses_sub_limits, uses_nkeys, mappings, explicit_answers;
    bool login_changes; /* a reload may ask for something else: a token, a user, nothing */
    uint32_t reload_permille, lazy_permille, big_permille, burst;
    uint64_t stamp;
    struct acct_session **sessions;
    uint32_t session_count, session_cap;
    struct acct_pub *pubs;
    uint32_t pub_count, pub_cap, epoch_pub;
    struct acct_leg *legs;
    uint32_t leg_count, leg_cap;
    bool group_unstable; /* a member went in this epoch */
    char literals[16][ACCT_TEXT];
    uint32_t literal_count;
    uint32_t members_gone[ACCT_MAX]; /* sessions that ended in this epoch, by possible account */
    uint64_t answered, denied_pubs, denied_subs, crossed, refused_logins, reloads, doomed;
};

static inline struct acct_world *acct_of(const struct sim_world *w)
{
    return w->acct;
}

/** A message as its line tells it; `payload` lies in the session's input. */
struct acct_heard {
    bool header;
    char subject[ACCT_TEXT], reply[ACCT_TEXT];
    uint32_t sid, header_len, total_len;
    struct rb_slice line, payload;
};

/* acct_hear.c */
void acct_hear_message(struct acct_session *s, const struct acct_heard *heard);
/** All points of a publication under `p`. For answers, of the way back. */
void acct_pub_points(struct sim_world *w, const struct acct_pub *pub, uint32_t p,
                     struct acct_choices *choices, struct acct_points *points);
/** A maximum that is known to the server ends the subscription. */
void acct_sub_count_down(struct acct_sub *sub);

/* acct_client.c */
struct acct_answer *acct_find_answer(struct acct_session *s, const char *subject);
struct acct_session *acct_session_open(struct sim_world *w);
void acct_session_connect(struct acct_session *s, const struct acct_creds *creds);
void acct_session_sub(struct acct_session *s, const char *pattern, uint32_t queue);
void acct_session_unsub(struct acct_session *s, uint32_t sub, uint32_t max);
/** `leg`: it answers that one. `empty`: no body, so that a chunked answer ends. Returns the publication's index. */
uint32_t acct_session_pub(struct acct_session *s, const char *subject, const char *reply,
                          uint32_t leg, uint32_t body_len, bool header);
void acct_session_ping(struct acct_session *s);
void acct_session_flush(struct acct_session *s);
bool acct_session_read(struct acct_session *s, size_t cap);
void acct_session_stall(struct acct_session *s, bool stalled);
void acct_session_close(struct acct_session *s, bool reset);
/** Its account may be this one, as long as nothing is quiet. */
bool acct_may_be_member(const struct acct_session *s, uint32_t account);
/** Bytes of a publication: header, then body. */
uint32_t acct_fill(const struct acct_pub *pub, uint8_t *out);
/** The session's identity under policy `p`, by what it showed in `login`. */
struct acct_verdict acct_session_judge(const struct acct_session *s, uint32_t login, uint32_t p);

const char *acct_queue_name(uint32_t queue);

/* acct_check.c */
/** After a drain, with no reload under way; begins the next epoch. */
void acct_check_quiet(struct sim_world *w);
void acct_check_empty(struct sim_world *w);
/** Sessions that may be members of `account` now, at most. */
uint32_t acct_members_most(struct acct_world *a, uint32_t account);

/* acct_run.c */
void acct_plan_draw(struct sim_world *w);
void acct_run(struct sim_world *w);
void acct_free(struct sim_world *w);
const struct rb_policy *acct_first_policy(struct sim_world *w);
extern const struct sim_clients acct_clients;
