/* client.c - a client that believes nothing: it knows what it asked for and compares every byte.
 *
 * 1. Answers (+OK, PONG, -ERR) come in the order of the operations; `expects` is that order.
 * 2. A message names its publication, by its reply subject or by the first bytes of its body; line
 *    and payload are then built again from the publication and must be the same bytes.
 * 3. What a PONG confirms is what was sent before its PING: subscriptions stand, ended ones are
 *    silent, publications were routed.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "world.h"

const char *const sim_queue_names[SIM_QUEUES] = { "q", "workers", "a.b" };

/* ---- saying ---- */

static void say_text(struct sim_session *s, const char *text)
{
    sim_wire_say(&s->wire, text, strlen(text));
    sim_trace(s->world, "c%u says %.*s", s->index, (int)strcspn(text, "\r"), text);
}

static void expect(struct sim_session *s, enum sim_answer answer)
{
    s->expects = sim_grow(s->expects, &s->expect_cap, s->expect_count + 1, sizeof(*s->expects));
    s->expects[s->expect_count++] = (struct sim_expect){ answer, s->op_count, s->pub_count };
}

/** Counts an operation and the +OK that a verbose connection answers it with. */
static void operate(struct sim_session *s)
{
    s->op_count++;
    if (s->verbose) {
        expect(s, SIM_OK);
    }
}

struct sim_session *sim_session_open(struct sim_world *w)
{
    struct sim_session *s = calloc(1, sizeof(*s));
    w->sessions =
        sim_grow(w->sessions, &w->session_cap, w->session_count + 1, sizeof(*w->sessions));
    s->world = w;
    s->index = w->session_count;
    w->sessions[w->session_count++] = s;
    if (rb_sim_peer_connect(w->net, 0, w->shared.port, &s->wire.peer) != RB_OK) {
        sim_fail(w, "nobody listens on port %u", w->shared.port);
        return s;
    }
    s->open = true;
    s->verbose = s->pedantic = s->echo = true;
    s->sid_prefix = sim_chance(w, 700) ? "" : "sub-";
    w->totals.sessions++;
    sim_trace(w, "c%u opens", s->index);
    return s;
}

void sim_session_connect(struct sim_session *s)
{
    struct sim_world *w = s->world;
    char text[512];
    if (!s->connect_sent) {
        s->verbose = sim_chance(w, 250);
        s->pedantic = sim_chance(w, 250);
        s->echo = !sim_chance(w, 250);
        s->headers = sim_chance(w, 700);
        s->no_responders = s->headers && !w->plan.config.no_header_support && sim_chance(w, 600);
        s->protocol = sim_below(w, 2);
    } else {
        s->reconnected = true;
        for (uint32_t i = 0; i < s->sub_count; i++) {
            struct sim_subscription *sub = &s->subs[i];
            if (!sub->ended) {
                sub->ended = true;
                sub->ended_op = s->op_count + 1;
                if (sub->queue != SIM_PLAIN) {
                    w->group_unstable[sub->queue] = true;
                }
            }
        }
    }
    s->connect_sent = true;
    snprintf(text, sizeof(text),
             "CONNECT {\"verbose\":%s,\"pedantic\":%s,\"echo\":%s,\"headers\":%s,"
             "\"no_responders\":%s,\"protocol\":%u,\"name\":\"c%u\",\"lang\":\"sim\"}\r\n",
             sim_json_bool(s->verbose), sim_json_bool(s->pedantic), sim_json_bool(s->echo),
             sim_json_bool(s->headers), sim_json_bool(s->no_responders), s->protocol, s->index);
    s->headers = s->headers && !w->plan.config.no_header_support;
    say_text(s, text);
    operate(s);
}

const char *sim_sub_text(const struct sim_session *s, const struct sim_subscription *sub,
                         char out[SIM_TEXT_MAX])
{
    if (sub->pattern == SIM_PATTERN_INBOX) {
        snprintf(out, SIM_TEXT_MAX, "id.%u.*", s->index);
    } else {
        snprintf(out, SIM_TEXT_MAX, "%s", s->world->subjects.pattern[sub->pattern]);
    }
    return out;
}

void sim_session_sub(struct sim_session *s, uint32_t pattern, uint32_t queue, uint32_t max)
{
    char line[2 * SIM_TEXT_MAX], text[SIM_TEXT_MAX];
    s->subs = sim_grow(s->subs, &s->sub_cap, s->sub_count + 1, sizeof(*s->subs));
    struct sim_subscription *sub = &s->subs[s->sub_count++];
    sub->pattern = pattern;
    sub->queue = queue;
    sub->created_op = s->op_count + 1;
    snprintf(line, sizeof(line), "SUB %s %s%s%s%u\r\n", sim_sub_text(s, sub, text),
             queue == SIM_PLAIN ? "" : sim_queue_names[queue], queue == SIM_PLAIN ? "" : " ",
             s->sid_prefix, s->sub_count);
    say_text(s, line);
    operate(s);
    if (max > 0) {
        sim_session_unsub(s, s->sub_count - 1, max);
    }
}

void sim_session_sub_again(struct sim_session *s, uint32_t sub, uint32_t pattern)
{
    char line[2 * SIM_TEXT_MAX];
    snprintf(line, sizeof(line), "sub %s %s%u\r\n", s->world->subjects.pattern[pattern],
             s->sid_prefix, sub + 1);
    say_text(s, line);
    operate(s);
}

void sim_session_sub_invalid(struct sim_session *s)
{
    static const char *const invalid[] = { "a..b", ".a", "a.", ">.a", "a.>.b" };
    char line[64];
    snprintf(line, sizeof(line), "SUB %s none\r\n", invalid[sim_below(s->world, 5)]);
    say_text(s, line);
    s->op_count++;
    expect(s, SIM_BAD_SUBJECT);
}

void sim_session_unsub(struct sim_session *s, uint32_t index, uint32_t max)
{
    struct sim_subscription *sub = &s->subs[index];
    char line[64];
    if (max == 0) {
        snprintf(line, sizeof(line), "UNSUB %s%u\r\n", s->sid_prefix, index + 1);
        if (!sub->ended) {
            sub->ended = true;
            sub->ended_op = s->op_count + 1;
        }
    } else {
        snprintf(line, sizeof(line), "UNSUB %s%u %u\r\n", s->sid_prefix, index + 1, max);
        sub->max = max;
        sub->max_op = s->op_count + 1;
        sub->max_confirmed = false;
    }
    if (sub->queue != SIM_PLAIN) {
        s->world->group_unstable[sub->queue] = true;
    }
    say_text(s, line);
    operate(s);
}

void sim_session_ping(struct sim_session *s)
{
    say_text(s, sim_chance(s->world, 900) ? "PING\r\n" : "ping please\n");
    expect(s, SIM_PONG);
}

void sim_session_crime(struct sim_session *s)
{
    static const struct {
        const char *text, *answer;
    } crimes[] = {
        { "FOO\r\n", "Unknown Protocol Operation" },
        { "\r\n", "Unknown Protocol Operation" },
        { "PUB a 3\r\nabcde\r\n", "Unknown Protocol Operation" },
        { "PUB a 99999999\r\nzzz", "Maximum Payload Violation" },
        { "PUB a x\r\n", NULL },
        { "SUB a b c d\r\n", NULL },
        { "CONNECT {\"verbose\":1}\r\n", NULL },
        { "-ERR 'foo'\r\n", NULL },
    };
    uint32_t pick = sim_below(s->world, 8);
    say_text(s, crimes[pick].text);
    s->dying = true;
    s->dying_ns = rb_sim_net_now(s->world->net);
    s->last_words = crimes[pick].answer;
    expect(s, SIM_LAST_WORDS);
    for (uint32_t i = 0; i < s->sub_count; i++) {
        if (s->subs[i].queue != SIM_PLAIN) {
            s->world->group_unstable[s->subs[i].queue] = true;
        }
    }
    sim_session_flush(s);
}

/* ---- publications ---- */

/** The bytes of a payload follow from who published it and which it was. */
static void fill_body(uint8_t *out, uint32_t len, uint32_t publisher, uint32_t number)
{
    uint64_t state = ((uint64_t)publisher << 32 | number) * 0x9e3779b97f4a7c15u | 1;
    uint32_t at = 0;
    if (len >= 8) {
        memcpy(out, &publisher, 4);
        memcpy(out + 4, &number, 4);
        at = 8;
    }
    while (at < len) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        uint32_t part = len - at < 8 ? len - at : 8;
        memcpy(out + at, &state, part);
        at += part;
    }
}

static void fill_header(uint8_t *out, uint32_t len, uint32_t number)
{
    static const char begin[] = "NATS/1.0\r\nFill: ";
    memcpy(out, begin, sizeof(begin) - 1);
    memset(out + sizeof(begin) - 1, 'a' + (int)(number % 26), len - (sizeof(begin) - 1));
    memcpy(out + len - 4, "\r\n\r\n", 4);
}

static uint32_t fill_payload(const struct sim_publication *pub, uint8_t *out)
{
    if (pub->header_len > 0) {
        fill_header(out, pub->header_len, pub->number);
    }
    fill_body(out + pub->header_len, pub->body_len, pub->publisher, pub->number);
    return pub->header_len + pub->body_len;
}

static void format_reply(const struct sim_publication *pub, char out[40])
{
    out[0] = '\0';
    if (pub->reply) {
        snprintf(out, 40, "id.%u.%u ", pub->publisher, pub->number);
    }
}

struct sim_publication *sim_session_pub(struct sim_session *s, uint32_t subject,
                                        uint32_t header_len, uint32_t body_len, bool reply)
{
    struct sim_world *w = s->world;
    char line[2 * SIM_TEXT_MAX], reply_text[40];
    w->pubs = sim_grow(w->pubs, &w->pub_cap, w->pub_count + 1, sizeof(*w->pubs));
    s->pubs = sim_grow(s->pubs, &s->pub_cap, s->pub_count + 1, sizeof(*s->pubs));
    s->pubs[s->pub_count++] = w->pub_count;
    struct sim_publication *pub = &w->pubs[w->pub_count++];
    *pub = (struct sim_publication){
        .publisher = s->index,
        .number = s->pub_count,
        .subject = subject,
        .header_len = header_len,
        .body_len = body_len,
        .reply = reply || body_len < 8,
        .stamp = ++w->stamp,
    };
    format_reply(pub, reply_text);
    if (header_len > 0) {
        snprintf(line, sizeof(line), "HPUB %s %s%u %u\r\n", w->subjects.literal[subject],
                 reply_text, header_len, header_len + body_len);
    } else {
        snprintf(line, sizeof(line), "PUB %s %s%u\r\n", w->subjects.literal[subject], reply_text,
                 body_len);
    }
    say_text(s, line);
    sim_wire_say(&s->wire, w->scratch, fill_payload(pub, w->scratch));
    sim_wire_say(&s->wire, "\r\n", 2);
    if (s->pedantic && w->subjects.odd[subject]) {
        expect(s, SIM_BAD_PUBLISH);
    }
    operate(s);
    w->totals.publications++;
    return pub;
}

void sim_session_flush(struct sim_session *s)
{
    sim_wire_flush(&s->wire, s->open);
}

/* ---- hearing ---- */

static struct sim_expect *next_expect(struct sim_session *s)
{
    return s->expect_head < s->expect_count ? &s->expects[s->expect_head] : NULL;
}

static void hear_pong(struct sim_session *s)
{
    struct sim_world *w = s->world;
    struct sim_expect *e = next_expect(s);
    if (e == NULL || e->answer != SIM_PONG) {
        sim_fail(w, "c%u: PONG out of order", s->index);
        return;
    }
    s->expect_head++;
    s->pub_confirmed = e->pub_count;
    w->stamp++;
    for (uint32_t i = 0; i < s->sub_count; i++) {
        struct sim_subscription *sub = &s->subs[i];
        if (sub->established == 0 && sub->created_op <= e->op) {
            sub->established = w->stamp;
        }
        sub->ended_confirmed = sub->ended_confirmed || (sub->ended && sub->ended_op <= e->op);
        sub->max_confirmed = sub->max > 0 && sub->max_op <= e->op;
    }
    if (!s->ponged) {
        s->ponged = true;
        s->info_due = s->connect_sent && s->protocol == 1;
    }
}

static void hear_ok(struct sim_session *s)
{
    struct sim_expect *e = next_expect(s);
    if (e == NULL || e->answer != SIM_OK) {
        sim_fail(s->world, "c%u: +OK out of order", s->index);
        return;
    }
    s->expect_head++;
}

static void hear_info(struct sim_session *s, struct rb_slice line)
{
    struct sim_world *w = s->world;
    char limit[48];
    char *text = (char *)w->scratch;
    memcpy(text, line.ptr, line.len);
    text[line.len] = '\0';
    uint32_t max_payload = w->plan.config.max_payload;
    snprintf(limit, sizeof(limit), "\"max_payload\":%u", max_payload);
    bool welcome = strstr(text, "\"connect_info\":true") != NULL;
    if (strncmp(text, "INFO {", 6) != 0 || line.len < 10 ||
        memcmp(text + line.len - 4, "} \r\n", 4) != 0 || strstr(text, limit) == NULL) {
        sim_fail(w, "c%u: bad INFO: %s", s->index, text);
    } else if (welcome ? !(s->info_due || s->reconnected) : s->heard_info) {
        sim_fail(w, "c%u: INFO nobody asked for: %s", s->index, text);
    }
    s->heard_info = true;
    s->info_due = false;
}

/** -ERR 'text' */
static void hear_error(struct sim_session *s, struct rb_slice line)
{
    struct sim_world *w = s->world;
    struct sim_expect *e = next_expect(s);
    char expected[128];
    const char *text = NULL;
    if (e != NULL && e->answer == SIM_BAD_SUBJECT) {
        text = "Invalid Subject";
    } else if (e != NULL && e->answer == SIM_BAD_PUBLISH) {
        text = "Invalid Publish Subject";
    } else if (e != NULL && e->answer == SIM_LAST_WORDS && s->last_words != NULL) {
        text = s->last_words;
        s->heard_last_words = true;
    }
    if (text != NULL) {
        size_t len = (size_t)snprintf(expected, sizeof(expected), "-ERR '%s'\r\n", text);
        if (rb_slice_equal(line, rb_slice_of(expected, len))) {
            s->expect_head++;
            return;
        }
    }
    if (rb_slice_equal(line, RB_S("-ERR 'Stale Connection'\r\n"))) {
        s->heard_stale = true;
        return;
    }
    sim_fail(w, "c%u: unexpected %.*s", s->index, (int)line.len - 2, (const char *)line.ptr);
}

/* ---- messages ---- */

/** A message as its line tells it; slices lie in the session's input. */
struct heard {
    bool header;
    struct rb_slice line, subject, sid, reply, payload;
    uint32_t header_len, total_len;
};

static bool read_number(struct rb_slice text, uint32_t *ret_value)
{
    uint32_t value = 0;
    if (text.len == 0 || text.len > 9) {
        return false;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        value = value * 10 + (uint32_t)(text.ptr[i] - '0');
    }
    *ret_value = value;
    return true;
}

/** Splits at single blanks; 0 when there are more than `cap` words. */
static uint32_t split_words(struct rb_slice line, struct rb_slice *words, uint32_t cap)
{
    uint32_t count = 0;
    const uint8_t *at = line.ptr, *end = line.ptr + line.len - 2; /* CRLF */
    while (count < cap) {
        const uint8_t *blank = memchr(at, ' ', (size_t)(end - at));
        words[count++] = rb_slice_of(at, (size_t)((blank == NULL ? end : blank) - at));
        if (blank == NULL) {
            return count;
        }
        at = blank + 1;
    }
    return 0;
}

static bool parse_message(struct rb_slice line, struct heard *heard)
{
    struct rb_slice words[6];
    uint32_t count = split_words(line, words, 6);
    *heard = (struct heard){ .line = line, .header = line.ptr[0] == 'H' };
    uint32_t sizes = heard->header ? 2 : 1;
    if (count != 3 + sizes && count != 4 + sizes) {
        return false;
    }
    heard->subject = words[1];
    heard->sid = words[2];
    if (count == 4 + sizes) {
        heard->reply = words[3];
    }
    return (!heard->header || read_number(words[count - 2], &heard->header_len)) &&
           read_number(words[count - 1], &heard->total_len) &&
           heard->header_len <= heard->total_len;
}

/** "id.P.N" */
static bool parse_identity(struct rb_slice text, uint32_t *ret_publisher, uint32_t *ret_number)
{
    if (!rb_slice_starts(text, RB_S("id."))) {
        return false;
    }
    const uint8_t *begin = text.ptr + 3, *end = text.ptr + text.len;
    const uint8_t *dot = memchr(begin, '.', (size_t)(end - begin));
    return dot != NULL && read_number(rb_slice_of(begin, (size_t)(dot - begin)), ret_publisher) &&
           read_number(rb_slice_of(dot + 1, (size_t)(end - dot - 1)), ret_number);
}

static struct sim_publication *find_publication(struct sim_world *w, uint32_t publisher,
                                                uint32_t number)
{
    if (publisher >= w->session_count || number == 0 ||
        number > w->sessions[publisher]->pub_count) {
        return NULL;
    }
    return &w->pubs[w->sessions[publisher]->pubs[number - 1]];
}

static struct sim_subscription *find_sub(struct sim_session *s, struct rb_slice sid)
{
    struct rb_slice prefix = rb_slice_text(s->sid_prefix);
    uint32_t number;
    if (!rb_slice_starts(sid, prefix) ||
        !read_number(rb_slice_of(sid.ptr + prefix.len, sid.len - prefix.len), &number) ||
        number == 0 || number > s->sub_count) {
        return NULL;
    }
    return &s->subs[number - 1];
}

/** The reply that says nobody was there. */
static void hear_no_responders(struct sim_session *s, const struct heard *heard)
{
    struct sim_world *w = s->world;
    uint32_t publisher, number;
    char expected[2 * SIM_TEXT_MAX], text[SIM_TEXT_MAX], subject[SIM_TEXT_MAX];
    struct sim_subscription *sub = find_sub(s, heard->sid);
    struct sim_publication *pub =
        parse_identity(heard->subject, &publisher, &number) && publisher == s->index
            ? find_publication(w, publisher, number)
            : NULL;
    if (pub == NULL || sub == NULL || !s->no_responders || !pub->reply || sub->queue != SIM_PLAIN ||
        sub->ended_confirmed) {
        sim_fail(w, "c%u: 503 nobody asked for", s->index);
        return;
    }
    snprintf(subject, sizeof(subject), "id.%u.%u", publisher, number);
    if (!sim_match(sim_sub_text(s, sub, text), subject)) {
        sim_fail(w, "c%u: 503 for %s on %s", s->index, subject, text);
        return;
    }
    const char *wanted = w->subjects.literal[pub->subject];
    size_t total = 32 + strlen(wanted);
    size_t len = (size_t)snprintf(expected, sizeof(expected), "HMSG %s %.*s %zu %zu\r\n", subject,
                                  RB_S_ARG(heard->sid), total, total);
    size_t body =
        (size_t)snprintf(text, sizeof(text), "NATS/1.0 503\r\nNats-Subject: %s\r\n\r\n", wanted);
    if (!rb_slice_equal(heard->line, rb_slice_of(expected, len)) ||
        !rb_slice_equal(heard->payload, rb_slice_of(text, body))) {
        sim_fail(w, "c%u: malformed 503 for %s", s->index, wanted);
    }
    w->totals.refusals++;
    if (++pub->refused_count > 1 || pub->delivered_count > 0) {
        sim_fail(w, "c%u: %s refused %u times, delivered %u times", s->index, subject,
                 pub->refused_count, pub->delivered_count);
    }
}

/** Line and payload must be what the publication says (rule 2). */
static void compare_message(struct sim_session *s, const struct heard *heard,
                            const struct sim_publication *pub)
{
    struct sim_world *w = s->world;
    char expected[2 * SIM_TEXT_MAX], reply[40];
    const char *subject = w->subjects.literal[pub->subject];
    uint32_t total = fill_payload(pub, w->scratch);
    struct rb_slice payload = rb_slice_of(w->scratch, total);
    size_t len;
    format_reply(pub, reply);
    if (pub->header_len > 0 && s->headers) {
        len = (size_t)snprintf(expected, sizeof(expected), "HMSG %s %.*s %s%u %u\r\n", subject,
                               RB_S_ARG(heard->sid), reply, pub->header_len, total);
    } else {
        payload = rb_slice_of(w->scratch + pub->header_len, pub->body_len);
        len = (size_t)snprintf(expected, sizeof(expected), "MSG %s %.*s %s%u\r\n", subject,
                               RB_S_ARG(heard->sid), reply, pub->body_len);
    }
    if (!rb_slice_equal(heard->line, rb_slice_of(expected, len))) {
        sim_fail(w, "c%u: heard %.*s for %s", s->index, (int)heard->line.len - 2,
                 (const char *)heard->line.ptr, expected);
    } else if (!rb_slice_equal(heard->payload, payload)) {
        sim_fail(w, "c%u: payload of c%u #%u is not what was published", s->index, pub->publisher,
                 pub->number);
    }
}

static bool sub_matches(const struct sim_session *s, const struct sim_subscription *sub,
                        uint32_t subject)
{
    return sub->pattern != SIM_PATTERN_INBOX && s->world->subjects.match[sub->pattern][subject];
}

/** Order, doubles, ended subscriptions, limits, echo. */
static void check_delivery(struct sim_session *s, struct sim_subscription *sub,
                           struct sim_publication *pub)
{
    struct sim_world *w = s->world;
    uint32_t sid = (uint32_t)(sub - s->subs) + 1;
    sub->last = sim_grow(sub->last, &sub->last_cap, w->session_count, sizeof(*sub->last));
    if (!sub_matches(s, sub, pub->subject)) {
        sim_fail(w, "c%u sid %u: got %s, which its pattern does not match", s->index, sid,
                 w->subjects.literal[pub->subject]);
    } else if (sub->ended_confirmed) {
        sim_fail(w, "c%u sid %u: got c%u #%u after its UNSUB was confirmed", s->index, sid,
                 pub->publisher, pub->number);
    } else if (sub->max_confirmed && sub->delivered >= sub->max) {
        sim_fail(w, "c%u sid %u: delivery %u, more than max %u", s->index, sid, sub->delivered + 1,
                 sub->max);
    } else if (!s->echo && pub->publisher == s->index) {
        sim_fail(w, "c%u sid %u: got its own #%u without echo", s->index, sid, pub->number);
    } else if (pub->number <= sub->last[pub->publisher] && sub->queue == SIM_PLAIN) {
        sim_fail(w, "c%u sid %u: got c%u #%u after #%u", s->index, sid, pub->publisher, pub->number,
                 sub->last[pub->publisher]);
    } else if (pub->refused_count > 0) {
        sim_fail(w, "c%u sid %u: got c%u #%u, which was refused", s->index, sid, pub->publisher,
                 pub->number);
    } else if (sub->queue != SIM_PLAIN && ++pub->queue_count[sub->queue] > 1) {
        sim_fail(w, "c%u sid %u: c%u #%u came twice in queue %s", s->index, sid, pub->publisher,
                 pub->number, sim_queue_names[sub->queue]);
    }
    if (sub->queue != SIM_PLAIN && pub->number < sub->last[pub->publisher]) {
        w->group_disordered[sub->queue] = true; /* allowed when a member went; known when quiet */
    } else {
        sub->last[pub->publisher] = pub->number;
    }
    sub->delivered++;
    sub->got = sim_grow(sub->got, &sub->got_cap, sub->got_count + 1, sizeof(*sub->got));
    sub->got[sub->got_count++] = (uint32_t)(pub - w->pubs);
    pub->delivered_count++;
    w->totals.deliveries++;
}

static void hear_message(struct sim_session *s, const struct heard *heard)
{
    struct sim_world *w = s->world;
    uint32_t publisher = UINT32_MAX, number = 0;
    if (rb_slice_starts(heard->subject, RB_S("id."))) {
        hear_no_responders(s, heard);
        return;
    }
    if (heard->reply.ptr != NULL) {
        if (!parse_identity(heard->reply, &publisher, &number)) {
            publisher = UINT32_MAX;
        }
    } else if (heard->total_len - heard->header_len >= 8) {
        memcpy(&publisher, heard->payload.ptr + heard->header_len, 4);
        memcpy(&number, heard->payload.ptr + heard->header_len + 4, 4);
    }
    struct sim_publication *pub = find_publication(w, publisher, number);
    struct sim_subscription *sub = find_sub(s, heard->sid);
    if (pub == NULL || sub == NULL) {
        sim_fail(w, "c%u: message nobody published, or for no sid: %.*s", s->index,
                 (int)heard->line.len - 2, (const char *)heard->line.ptr);
        return;
    }
    sim_trace(w, "c%u hears %.*s (c%u #%u)", s->index, (int)heard->line.len - 2,
              (const char *)heard->line.ptr, publisher, number);
    compare_message(s, heard, pub);
    check_delivery(s, sub, pub);
}

/* ---- the stream ---- */

/** Handles the first line of `input`; returns its length with payload, 0 when it is not whole. */
static size_t hear_line(void *session, struct rb_slice input)
{
    struct sim_session *s = session;
    struct sim_world *w = s->world;
    struct rb_slice line;
    if (!sim_wire_line(w, s->index, input, &line)) {
        return 0;
    }
    bool message = rb_slice_starts(line, RB_S("MSG ")) || rb_slice_starts(line, RB_S("HMSG "));
    bool info = rb_slice_starts(line, RB_S("INFO "));
    struct heard heard;
    if (message) {
        if (!parse_message(line, &heard)) {
            sim_fail(w, "c%u: malformed line %.*s", s->index, RB_S_ARG(line));
            return line.len;
        }
        if (input.len < line.len + heard.total_len + 2) {
            return 0;
        }
        heard.payload = rb_slice_of(input.ptr + line.len, heard.total_len);
        if (memcmp(heard.payload.ptr + heard.total_len, "\r\n", 2) != 0) {
            sim_fail(w, "c%u: payload without CRLF", s->index);
        }
    }
    if (!info && (!s->heard_info || s->info_due)) {
        sim_fail(w, "c%u: INFO is due, heard %.*s", s->index, RB_S_ARG(line));
    }
    if (message) {
        hear_message(s, &heard);
        return line.len + heard.total_len + 2;
    }
    sim_trace(w, "c%u hears %.*s", s->index, (int)line.len - 2, (const char *)line.ptr);
    if (info) {
        hear_info(s, line);
    } else if (rb_slice_equal(line, RB_S("+OK\r\n"))) {
        hear_ok(s);
    } else if (rb_slice_equal(line, RB_S("PONG\r\n"))) {
        hear_pong(s);
    } else if (rb_slice_equal(line, RB_S("PING\r\n"))) {
        if (!s->dying) {
            say_text(s, "PONG\r\n");
            sim_session_flush(s);
        }
    } else if (rb_slice_starts(line, RB_S("-ERR '"))) {
        hear_error(s, line);
    } else {
        sim_fail(w, "c%u: unknown line %.*s", s->index, RB_S_ARG(line));
    }
    return line.len;
}

bool sim_session_read(struct sim_session *s, size_t cap)
{
    struct sim_world *w = s->world;
    if (!s->open || s->stalled) {
        return false;
    }
    size_t len = sim_wire_read(w, &s->wire, cap, hear_line, s);
    if (rb_sim_peer_ended(s->wire.peer)) {
        sim_check_end(s);
        sim_session_close(s, false);
        return true;
    }
    return len > 0;
}

void sim_session_stall(struct sim_session *s, bool stalled)
{
    uint64_t now_ns = rb_sim_net_now(s->world->net);
    if (s->stalled == stalled || !s->open) {
        return;
    }
    if (!stalled && now_ns - s->stalled_ns > s->stall_longest_ns) {
        s->stall_longest_ns = now_ns - s->stalled_ns;
    }
    s->stalled = stalled;
    s->stalled_ns = now_ns;
    rb_sim_peer_stall(s->wire.peer, stalled);
    sim_trace(s->world, "c%u %s", s->index, stalled ? "stalls" : "reads again");
}

void sim_session_close(struct sim_session *s, bool reset)
{
    if (!s->open) {
        return;
    }
    sim_trace(s->world, "c%u closes%s", s->index, reset ? " by reset" : "");
    s->open = false;
    rb_sim_peer_close(s->wire.peer, reset);
    for (uint32_t i = 0; i < s->sub_count; i++) {
        if (s->subs[i].queue != SIM_PLAIN) {
            s->world->group_unstable[s->subs[i].queue] = true;
        }
    }
}

bool sim_sub_live(const struct sim_session *s, const struct sim_subscription *sub)
{
    return s->open && !sub->ended && !(sub->max > 0 && sub->delivered >= sub->max);
}

static void flush_all(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->session_count; i++) {
        sim_session_flush(w->sessions[i]);
    }
}

static bool read_all(struct sim_world *w)
{
    bool work = false;
    for (uint32_t i = 0; i < w->session_count && !w->failed; i++) {
        work |= sim_session_read(w->sessions[i], SIM_READ_BYTES);
    }
    return work;
}

static void end_all(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->session_count; i++) {
        sim_session_stall(w->sessions[i], false);
    }
}

static void check_ended(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->session_count; i++) {
        if (w->sessions[i]->open && !w->failed) {
            sim_fail(w, "c%u: still open after the node stopped", i);
        }
    }
}

const struct sim_clients sim_plain_clients = {
    .flush = flush_all,
    .read = read_all,
    .end = end_all,
    .check_ended = check_ended,
    .check_empty = sim_check_empty,
};

void sim_sessions_free(struct sim_world *w)
{
    for (uint32_t i = 0; i < w->session_count; i++) {
        struct sim_session *s = w->sessions[i];
        for (uint32_t j = 0; j < s->sub_count; j++) {
            free(s->subs[j].last);
            free(s->subs[j].got);
        }
        free(s->subs);
        free(s->pubs);
        free(s->expects);
        sim_wire_free(&s->wire);
        free(s);
    }
    free(w->sessions);
    free(w->pubs);
}
