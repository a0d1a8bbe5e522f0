/* background.c - 100,000 subscriptions that never match, 1,000 changes a second.
 *
 * 1. None of the subjects matches RB_LOAD_SUBJECT, so the number of deliveries stays what the
 *    scenario says.
 * 2. One in 100 begins with a wildcard and one in 12 contains one, so matching cannot end at a
 *    table of literals.
 * 3. What changes are siblings of the measured subject ("bench.<n>"): a match cache that is dropped
 *    by neighbourhood or wholesale has to be rebuilt 1,000 times a second, one that is dropped by
 *    subject does not.
 */
#include "background.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "net.h"
#include "probe.h"

#define FILL_CONNS 10
#define FILL_SUBS_PER_CONN 10000
#define CHANGES_PER_SECOND 1000
#define CHANGE_TICK_NS 1000000u
#define CHANGE_LIVE 100 /* subscriptions of the changing connection at any time */

struct rb_background {
    const struct rb_load *load;
    struct rb_client fill[FILL_CONNS];
    struct rb_client change;
    pthread_t thread;
    atomic_bool stopping;
    _Atomic uint64_t changes;
};

static int print_fill(char *line, size_t cap, uint32_t conn, uint32_t sub)
{
    if (sub % 100 == 0) {
        return snprintf(line, cap, "SUB *.fill%u.s%u %u\r\n", conn, sub, sub + 1);
    }
    if (sub % 20 == 1) {
        return snprintf(line, cap, "SUB fill.c%u.*.s%u %u\r\n", conn, sub, sub + 1);
    }
    if (sub % 50 == 2) {
        return snprintf(line, cap, "SUB fill.c%u.s%u.> %u\r\n", conn, sub, sub + 1);
    }
    return snprintf(line, cap, "SUB fill.c%u.s%u %u\r\n", conn, sub, sub + 1);
}

static void fill(const struct rb_load *load, struct rb_client *client, uint32_t conn)
{
    char text[16384];
    size_t len = 0;
    rb_client_open(load, client);
    for (uint32_t sub = 0; sub < FILL_SUBS_PER_CONN; sub++) {
        len += (size_t)print_fill(text + len, sizeof(text) - len, conn, sub);
        if (len > sizeof(text) - 128 || sub == FILL_SUBS_PER_CONN - 1) {
            rb_client_write(client, text, len);
            len = 0;
        }
    }
    rb_client_sync(load, client);
}

static int print_change(char *line, size_t cap, uint64_t change)
{
    if (change >= CHANGE_LIVE && change % 2 == 1) {
        unsigned long long oldest = (change - CHANGE_LIVE) / 2;
        return snprintf(line, cap, "UNSUB %llu\r\n", oldest);
    }
    unsigned long long sid = change < CHANGE_LIVE ? change : (change + CHANGE_LIVE) / 2;
    const char *format = sid % 50 == 1   ? "SUB bench.*.n%llu %llu\r\n"
                         : sid % 10 == 2 ? "SUB bench.n%llu.* %llu\r\n"
                                         : "SUB bench.n%llu %llu\r\n";
    return snprintf(line, cap, format, sid, sid);
}

static void *change_main(void *arg)
{
    struct rb_background *b = arg;
    char line[128];
    uint64_t start_ns = rb_probe_now_ns();
    uint64_t tick_ns = start_ns;
    uint64_t change = 0;
    while (!atomic_load_explicit(&b->stopping, memory_order_relaxed)) {
        tick_ns += CHANGE_TICK_NS;
        rb_probe_sleep_until(tick_ns);
        uint64_t due = (rb_probe_now_ns() - start_ns) / (1000000000u / CHANGES_PER_SECOND);
        for (; change < due; change++) {
            rb_client_write(&b->change, line, (size_t)print_change(line, sizeof(line), change));
        }
        atomic_store_explicit(&b->changes, change, memory_order_relaxed);
    }
    return NULL;
}

struct rb_background *rb_background_start(const struct rb_load *load)
{
    struct rb_background *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        rb_load_die("no memory");
    }
    b->load = load;
    for (uint32_t i = 0; i < FILL_CONNS; i++) {
        fill(load, &b->fill[i], i);
    }
    rb_client_open(load, &b->change);
    if (pthread_create(&b->thread, NULL, change_main, b) != 0) {
        rb_load_die("no thread");
    }
    return b;
}

uint64_t rb_background_changes(const struct rb_background *background)
{
    return atomic_load_explicit(&background->changes, memory_order_relaxed);
}

void rb_background_stop(struct rb_background *background)
{
    atomic_store(&background->stopping, true);
    pthread_join(background->thread, NULL);
    rb_client_sync(background->load, &background->change);
    rb_client_close(&background->change);
    for (uint32_t i = 0; i < FILL_CONNS; i++) {
        rb_client_sync(background->load, &background->fill[i]);
        rb_client_close(&background->fill[i]);
    }
    free(background);
}
