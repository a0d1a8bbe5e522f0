/* wal_kill.c - a real log on a real disk: a child appends under load until it is killed, the parent looks whether everything
 * that was acknowledged is there.
 *
 *   wal_kill [--rounds N] [--directory PATH] [--seed N]
 * Odd rounds use io_uring where it works, even ones helper threads. Ends with "N passed, N failed": one per round. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "log_rig.h"
#include "ringbus/check.h"
#include "ringbus/ring.h"
#include "storage/disk/choose.h"

#define GROUPS 3
#define FLIGHT 64
#define BODY_MAX 6000
#define KEEP 200 /* entries that a group keeps */
#define STATE_TYPE 5

enum { REPORT_ENTRY, REPORT_PREFIX, REPORT_STATE };

struct report { /* child to parent, after the acknowledgement */
    uint32_t kind, group;
    uint64_t value;
};

struct acknowledged {
    uint64_t last[GROUPS], prefix[GROUPS], state[GROUPS];
};

struct place {
    struct rb_ring *ring;
    struct rb_disk *disk;
    struct rig rig;
};

static size_t body_of(uint8_t *out, uint32_t group, uint64_t index)
{
    size_t len = (group * 31 + index * 97) % (index % 10 == 0 ? BODY_MAX : 300);
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)(group * 7 + index * 13 + i);
    }
    return len;
}

static bool open_place(struct place *p, const char *path, bool uring)
{
    char why[128];
    struct rb_ring_options ring = { .entries = 64 };
    memset(p, 0, sizeof(*p));
    if (uring && rb_ring_create(&ring, &p->ring, why) != RB_OK) {
        p->ring = NULL;
    }
    struct rb_disk_options options = { .path = path, .ring = p->ring };
    if (rb_disk_choose(&options, &p->disk, why) != RB_OK) {
        fprintf(stderr, "wal_kill: %s\n", why);
        return false;
    }
    rig_init_disk(&p->rig, p->disk);
    p->rig.options.file_bytes = 1 << 20;
    p->rig.options.batch_bytes = 64 << 10;
    p->rig.options.files_max = 64;
    return rig_open(&p->rig) == RB_OK;
}

static void close_place(struct place *p)
{
    rig_close(&p->rig);
    rb_disk_destroy(p->disk);
    rb_ring_destroy(p->ring);
}

/* ---- the child ---- */

struct flight {
    struct rb_wal_write write;
    struct report report;
};

static int report_fd;

/* The parent knows of it before anything else is done. */
static void on_written(struct rig *rig, struct rb_wal_write *write_done, enum rb_err err)
{
    const struct flight *flight = (const struct flight *)write_done;
    if (err != RB_OK || write(report_fd, &flight->report, sizeof(flight->report)) !=
                            (ssize_t)sizeof(flight->report)) {
        _exit(3);
    }
}

static struct flight *free_flight(struct flight *flights)
{
    for (uint32_t i = 0; i < FLIGHT; i++) {
        if (!flights[i].write.in_flight) {
            return &flights[i];
        }
    }
    return NULL;
}

/* The next write of a group: an entry, now and then a state or the end of old entries. */
static enum rb_err write_next(struct rig *rig, struct flight *flight, uint32_t group)
{
    struct rb_wal_group_info info = { 0 };
    uint8_t body[BODY_MAX];
    (void)rb_wal_group(rig->log, group + 1, &info);
    uint64_t next = info.last + 1;
    if (next % 50 == 0 && info.base + KEEP < info.last) {
        flight->report = (struct report){ REPORT_PREFIX, group, info.last - KEEP };
        return rb_wal_drop_prefix(rig->log, &flight->write, group + 1, info.last - KEEP, 1);
    }
    if (next % 9 == 0 && rand() % 2 == 0) {
        flight->report = (struct report){ REPORT_STATE, group, next };
        return rb_wal_put_state(rig->log, &flight->write, group + 1, STATE_TYPE, 1,
                                rb_slice_of(&next, sizeof(next)));
    }
    flight->report = (struct report){ REPORT_ENTRY, group, next };
    size_t len = body_of(body, group, next);
    return rb_wal_append(rig->log, &flight->write, group + 1, 1, next, 0, rb_slice_of(body, len));
}

static void run_child(const char *path, bool uring, uint32_t seed)
{
    static struct place place;
    struct flight *flights = calloc(FLIGHT, sizeof(*flights));
    srand(seed);
    if (!open_place(&place, path, uring) || flights == NULL) {
        _exit(2);
    }
    place.rig.on_written = on_written;
    for (;;) {
        struct flight *flight = free_flight(flights);
        uint32_t burst = 1 + (uint32_t)rand() % 20;
        while (flight != NULL && burst-- > 0 &&
               write_next(&place.rig, flight, (uint32_t)rand() % GROUPS) == RB_OK) {
            flight = free_flight(flights);
        }
        rig_turn(&place.rig);
    }
}

/* ---- the parent ---- */

static void take_reports(int fd, struct acknowledged *a)
{
    struct report report;
    while (read(fd, &report, sizeof(report)) == (ssize_t)sizeof(report)) {
        uint64_t *what = report.kind == REPORT_ENTRY    ? a->last
                         : report.kind == REPORT_PREFIX ? a->prefix
                                                        : a->state;
        what[report.group] = report.value;
    }
}

static bool fail(const char *what, uint32_t group, uint64_t index)
{
    printf("group %u, index %llu: %s\n", group, (unsigned long long)index, what);
    return false;
}

static bool check_group(struct rig *rig, uint32_t group, struct acknowledged *a)
{
    uint8_t body[BODY_MAX], found[BODY_MAX];
    struct rb_wal_group_info info = { 0 };
    size_t len = 0;
    (void)rb_wal_group(rig->log, group + 1, &info);
    if (info.last < a->last[group]) {
        return fail("acknowledged entries are gone", group, a->last[group]);
    }
    if (info.base < a->prefix[group] || info.damaged || info.in_doubt) {
        return fail("what was dropped has come back, or damage", group, info.base);
    }
    for (uint64_t i = info.base + 1; i <= info.last; i++) {
        size_t want = body_of(body, group, i);
        if (rig_read(rig, RB_WAL_ENTRY, group + 1, 0, i, found, BODY_MAX, &len, NULL) != RB_OK ||
            len != want || memcmp(body, found, len) != 0) {
            return fail("an entry is not what was written", group, i);
        }
    }
    uint64_t state = 0;
    if (a->state[group] > 0 && (rig_read(rig, RB_WAL_STATE, group + 1, STATE_TYPE, 1,
                                         (uint8_t *)&state, sizeof(state), &len, NULL) != RB_OK ||
                                state < a->state[group])) {
        return fail("a state is older than acknowledged", group, state);
    }
    a->last[group] = info.last;
    a->prefix[group] = info.base;
    a->state[group] = state;
    return true;
}

static bool check(const char *path, bool uring, struct acknowledged *a)
{
    static struct place place;
    if (!open_place(&place, path, uring)) {
        return fail("the log does not open", 0, 0);
    }
    bool good = place.rig.damage_count == 0 || fail("damage is named", 0, 0);
    for (uint32_t group = 0; group < GROUPS && good; group++) {
        good = check_group(&place.rig, group, a);
    }
    close_place(&place);
    return good;
}

static bool run_round(const char *path, uint32_t round, uint32_t seed, struct acknowledged *a)
{
    int ends[2];
    bool uring = round % 2 == 1;
    fflush(stdout);
    if (pipe(ends) != 0) {
        return fail("no pipe", 0, 0);
    }
    pid_t pid = fork();
    if (pid == 0) {
        close(ends[0]);
        report_fd = ends[1];
        run_child(path, uring, seed + round);
    }
    close(ends[1]);
    struct timespec until = { .tv_nsec = 20000000 + (long)(rand() % 150) * 1000000 };
    /* the pipe must not fill up, so it is read while the child runs: by a second process that only waits and kills */
    pid_t killer = fork();
    if (killer == 0) {
        close(ends[0]);
        nanosleep(&until, NULL);
        kill(pid, SIGKILL);
        _exit(0);
    }
    uint64_t before = a->last[0] + a->last[1] + a->last[2];
    take_reports(ends[0], a);
    close(ends[0]);
    int status = 0;
    waitpid(killer, NULL, 0);
    waitpid(pid, &status, 0);
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL) {
        return fail("the child ended by itself", 0, (uint64_t)status);
    }
    uint64_t after = a->last[0] + a->last[1] + a->last[2];
    bool good = check(path, rand() % 2 == 0, a);
    printf("round %u (%s): %llu acknowledged before the kill, %s\n", round,
           uring ? "io_uring" : "threads", (unsigned long long)(after - before),
           good ? "all there" : "FAILED");
    return good;
}

int main(int argc, char **argv)
{
    uint32_t rounds = 20;
    uint32_t seed = (uint32_t)time(NULL);
    char path[256] = "wal-kill-XXXXXX";
    bool own = true;
    for (int i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--rounds") == 0) {
            rounds = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--seed") == 0) {
            seed = (uint32_t)strtoul(argv[i + 1], NULL, 10);
        } else if (strcmp(argv[i], "--directory") == 0) {
            snprintf(path, sizeof(path), "%s", argv[i + 1]);
            own = false;
        } else {
            fprintf(stderr, "usage: wal_kill [--rounds N] [--directory PATH] [--seed N]\n");
            return 2;
        }
    }
    if (own && mkdtemp(path) == NULL) {
        perror("wal_kill");
        return 2;
    }
    printf("seed %u\n", seed);
    srand(seed);
    struct acknowledged acknowledged = { 0 };
    uint32_t passed = 0;
    bool good = true;
    for (uint32_t round = 1; round <= rounds && good; round++) {
        good = run_round(path, round, seed, &acknowledged);
        passed += good;
    }
    char command[300];
    snprintf(command, sizeof(command), "rm -rf '%s'", path);
    if (good && own && system(command) != 0) {
        fprintf(stderr, "wal_kill: %s stays\n", path);
    }
    printf("%u passed, %d failed\n", passed, good ? 0 : 1);
    return good ? 0 : 1;
}
