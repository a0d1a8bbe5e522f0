/* home_state.c - what the log keeps for all streams together, as states of the home group: which group ids were given out, and
 * whose files are still to be removed. The opposite, guessing from the directory what is not needed, would remove the files of a
 * stream whose record in the log was damaged. */
#include <stdio.h>
#include <string.h>

#include "js/saved.h"
#include "js/stream_inside.h"
#include "ringbus/check.h"

#define IDS_AHEAD 64u /* put down as used with one write */

struct rb_js_home_writes {
    struct rb_list writes, orphans;
    uint32_t offline_count; /* decisions on their way */
    bool decided, damaged, ids_waiting;
    uint64_t ids_until; /* what the write on its way says */
};
enum home_kind { IDS, DROPPING, DROPPED, OFFLINE };
struct home_write {
    struct rb_list link;
    struct rb_wal_write write;
    enum home_kind kind;
};
/** Files of a group that is not there any more. */
struct orphan {
    struct rb_list link;
    struct rb_js_store_owner owner;
    struct rb_msgstore *store;
    uint64_t group;
};

static struct rb_js_home_writes *home_of(struct rb_js *js)
{
    if (js->home_writes == NULL) {
        js->home_writes = rb_alloc(js->budget, sizeof(*js->home_writes));
        if (js->home_writes != NULL) {
            rb_list_init(&js->home_writes->writes);
            rb_list_init(&js->home_writes->orphans);
        }
    }
    return js->home_writes;
}

static enum rb_err write_state(struct rb_js *js, enum home_kind kind, uint64_t group, uint8_t type,
                               uint64_t key, struct rb_slice body)
{
    struct rb_js_home_writes *home = home_of(js);
    struct home_write *own = rb_alloc(js->budget, sizeof(*own));
    if (home == NULL || own == NULL) {
        rb_free(js->budget, own, sizeof(*own));
        return RB_ERR_MEMORY;
    }
    own->write = (struct rb_wal_write){ .owner = own, .tag = RB_JS_WRITE_HOME };
    own->kind = kind;
    enum rb_err err = kind == DROPPED
                          ? rb_wal_remove_state(js->log, &own->write, group, type, key)
                          : rb_wal_put_state(js->log, &own->write, group, type, key, body);
    if (err != RB_OK) {
        rb_free(js->budget, own, sizeof(*own));
        return err;
    }
    rb_list_append(&home->writes, &own->link);
    return RB_OK;
}

enum rb_err rb_js_recover_next_group(struct rb_js *js, uint64_t *ret_group)
{
    if (js->next_group >= js->reserved_group) {
        uint8_t body[8];
        struct rb_writer writer = rb_writer_over(body, sizeof(body));
        uint64_t until = js->next_group + IDS_AHEAD;
        rb_write_u64(&writer, until);
        /* The log is in order: this is durable before anything that uses one of the ids. */
        enum rb_err err = write_state(js, IDS, RB_JS_HOME_GROUP, RB_JS_STATE_NEXT, 0,
                                      rb_slice_of(body, sizeof(body)));
        if (err != RB_OK) {
            return err;
        }
        js->reserved_group = until;
    }
    *ret_group = js->next_group++;
    return RB_OK;
}

enum rb_err rb_js_recover_dropping(struct rb_js *js, uint64_t group)
{
    return write_state(js, DROPPING, RB_JS_HOME_GROUP, RB_JS_STATE_DROPPING, group, RB_S("d"));
}

void rb_js_recover_dropped(struct rb_js *js, uint64_t group)
{
    enum rb_err err = write_state(js, DROPPED, RB_JS_HOME_GROUP, RB_JS_STATE_DROPPING, group,
                                  rb_slice_of(NULL, 0));
    if (err != RB_OK) { /* the next start looks for the files again, and finds none */
        rb_log_dbg(js->text_log, "JetStream group %llu: end not put down: %s",
                   (unsigned long long)group, rb_err_text(err));
    }
}

static void look_decided(struct rb_js *js)
{
    struct rb_js_home_writes *home = js->home_writes;
    if (home->decided && home->offline_count == 0) {
        home->decided = false;
        rb_wal_damage_handled(js->log);
    }
}

void rb_js_recover_put_offline(struct rb_js *js, uint64_t group, const char *why)
{
    enum rb_err err = write_state(js, OFFLINE, group, RB_JS_STATE_OFFLINE, 0, rb_slice_text(why));
    if (err == RB_OK) {
        js->home_writes->offline_count++;
    } else { /* then the damage is named again by the next start, which decides anew */
        rb_log_err(js->text_log, "JetStream: what became of group %llu was not put down: %s",
                   (unsigned long long)group, rb_err_text(err));
        if (js->home_writes != NULL) {
            js->home_writes->damaged = true;
        }
    }
}

void rb_js_recover_decided(struct rb_js *js)
{
    struct rb_js_home_writes *home = home_of(js);
    if (home != NULL && !home->damaged) {
        home->decided = true;
        look_decided(js);
    }
}

void rb_js_recover_home_written(struct rb_js *js, struct rb_wal_write *write)
{
    struct home_write *own = write->owner;
    struct rb_js_home_writes *home = js->home_writes;
    if (own->kind == OFFLINE) {
        home->offline_count--;
        home->damaged |= write->err != RB_OK;
        home->decided &= !home->damaged;
        look_decided(js);
    }
    rb_list_remove(&own->link);
    rb_free(js->budget, own, sizeof(*own));
}

enum rb_err rb_js_recover_remove_files(struct rb_js *js, uint64_t group)
{
    struct rb_js_home_writes *home = home_of(js);
    struct orphan *orphan = rb_alloc(js->budget, sizeof(*orphan));
    if (home == NULL || orphan == NULL) {
        rb_free(js->budget, orphan, sizeof(*orphan));
        return RB_ERR_MEMORY;
    }
    orphan->group = group;
    char directory[RB_JS_DIRECTORY_MAX];
    rb_js_stream_directory(group, directory);
    struct rb_msgstore_options options = { .owner = &orphan->owner, .directory = directory };
    enum rb_err err = rb_msgstore_open(js->store_home, &options, &orphan->store);
    if (err != RB_OK) {
        rb_free(js->budget, orphan, sizeof(*orphan));
        return err;
    }
    rb_list_append(&home->orphans, &orphan->link);
    return RB_OK;
}

void rb_js_recover_orphan(struct rb_js *js, struct rb_js_store_owner *owner,
                          const struct rb_msgstore_event *event)
{
    struct orphan *orphan = RB_CONTAINER(owner, struct orphan, owner);
    if (event->kind == RB_MSGSTORE_OPENED) {
        rb_msgstore_destroy(orphan->store);
    } else if (event->kind == RB_MSGSTORE_CLOSED) {
        rb_js_recover_dropped(js, orphan->group);
        rb_list_remove(&orphan->link);
        rb_free(js->budget, orphan, sizeof(*orphan));
    }
}

bool rb_js_home_idle(const struct rb_js *js)
{
    return js->home_writes == NULL ||
           (rb_list_empty(&js->home_writes->writes) && rb_list_empty(&js->home_writes->orphans));
}

void rb_js_home_deinit(struct rb_js *js)
{
    struct rb_js_home_writes *home = js->home_writes;
    if (home == NULL) {
        return;
    }
    for (struct rb_list *link; (link = rb_list_pop(&home->writes)) != NULL;) {
        rb_free(js->budget, RB_CONTAINER(link, struct home_write, link), sizeof(struct home_write));
    }
    for (struct rb_list *link; (link = rb_list_pop(&home->orphans)) != NULL;) {
        rb_free(js->budget, RB_CONTAINER(link, struct orphan, link), sizeof(struct orphan));
    }
    rb_free(js->budget, home, sizeof(*home));
    js->home_writes = NULL;
}
