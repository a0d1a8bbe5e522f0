/* driver.c - drivers of one node behind one set of calls.
 *
 * 1. io_uring is tried once, before any shard starts, on the thread that starts the node: all shards have the same driver.
 * 2. Everything of a shard is made and unmade on the shard's own thread, because an io_uring with SINGLE_ISSUER belongs to
 *    the thread that made it.
 * 3. With pipes a shard's transport is a mux: the base, then the pipes. Without, it is the base itself.
 */
#include "server/driver.h"

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "ringbus/ring.h"
#include "storage/disk/choose.h"
#include "storage/disk/uring.h"
#include "transport/epoll/epoll.h"
#include "transport/mux/mux.h"
#include "transport/pipe/pipe.h"
#include "transport/uring/uring.h"

#define RING_ENTRIES 4096
#define PROBE_ENTRIES 8
#define PROBE_BUFFERS 2
#define RING_DISKS_MAX                                                                             \
    14 /* kinds of completions that are left for disks; further ones have helper threads */

struct home {
    struct rb_driver *driver;
    uint32_t index;
    struct rb_ring *ring;
    struct rb_transport *transport; /* what the shard uses */
    struct rb_pipes *pipes;
    struct rb_disk **disks;
    uint32_t disk_count;
};

struct rb_driver {
    struct rb_uring_group *uring; /* NULL: epoll */
    struct rb_epoll_group *epoll;
    bool with_pipes;
    uint32_t count;
    _Atomic uint32_t next_home;
    struct home homes[];
};

/* Invariant 1 */
static enum rb_err probe_uring(char why[RB_DRIVER_WHY_MAX])
{
    struct rb_uring_group *group = NULL;
    struct rb_transport *transport = NULL;
    struct rb_ring *ring;
    struct rb_ring_options options = { .entries = PROBE_ENTRIES };
    enum rb_err err = rb_ring_create(&options, &ring, why);
    if (err != RB_OK) {
        return err;
    }
    err = rb_uring_group_create(1, &group);
    if (err == RB_OK) {
        struct rb_uring_options uring = { .ring = ring,
                                          .group = group,
                                          .recv_buffers = PROBE_BUFFERS };
        err = rb_uring_transport_create(&uring, &transport);
    }
    if (err == RB_OK) {
        rb_transport_destroy(transport);
    } else {
        (void)snprintf(why, RB_DRIVER_WHY_MAX, "io_uring: %s", rb_err_text(err));
    }
    rb_uring_group_destroy(group);
    rb_ring_destroy(ring);
    return err;
}

static enum rb_err make_group(struct rb_driver *driver, const struct rb_driver_options *options,
                              char why[RB_DRIVER_WHY_MAX])
{
    if (strcmp(options->transport, "epoll") == 0) {
        return rb_epoll_group_create(options->shard_count, &driver->epoll);
    }
    if (strcmp(options->transport, "uring") != 0) {
        (void)snprintf(why, RB_DRIVER_WHY_MAX, "transport \"%.32s\" is not known",
                       options->transport);
        return RB_ERR_UNSUPPORTED;
    }
    enum rb_err err = probe_uring(why);
    if (err == RB_ERR_UNSUPPORTED) {
        rb_log_wrn(options->log, "io_uring cannot be used (%s): clients are served with epoll",
                   why);
        why[0] = '\0';
        return rb_epoll_group_create(options->shard_count, &driver->epoll);
    }
    return err == RB_OK ? rb_uring_group_create(options->shard_count, &driver->uring) : err;
}

enum rb_err rb_driver_create(const struct rb_driver_options *options, struct rb_driver **ret_driver,
                             char why[RB_DRIVER_WHY_MAX])
{
    why[0] = '\0';
    uint32_t count = options->shard_count;
    struct rb_driver *driver = calloc(1, sizeof(*driver) + count * sizeof(driver->homes[0]));
    if (driver == NULL) {
        return RB_ERR_MEMORY;
    }
    driver->with_pipes = options->pipes;
    driver->count = count;
    for (uint32_t i = 0; i < count; i++) {
        driver->homes[i] = (struct home){ .driver = driver, .index = i };
    }
    enum rb_err err = make_group(driver, options, why);
    if (err != RB_OK) {
        free(driver);
        return err;
    }
    *ret_driver = driver;
    return RB_OK;
}

void rb_driver_destroy(struct rb_driver *driver)
{
    if (driver == NULL) {
        return;
    }
    for (uint32_t i = 0; i < driver->count; i++) {
        if (driver->homes[i].pipes != NULL) {
            rb_pipes_release(driver->homes[i].pipes);
        }
    }
    rb_uring_group_destroy(driver->uring);
    rb_epoll_group_destroy(driver->epoll);
    free(driver);
}

const char *rb_driver_name(const struct rb_driver *driver)
{
    return driver->uring != NULL ? "uring" : "epoll";
}

void rb_driver_wake(struct rb_driver *driver, uint32_t shard)
{
    if (driver->uring != NULL) {
        rb_uring_group_wake(driver->uring, shard);
    } else {
        rb_epoll_group_wake(driver->epoll, shard);
    }
}

static enum rb_err open_base(struct home *home, struct rb_budget *budget,
                             struct rb_transport **ret_transport, char why[RB_DRIVER_WHY_MAX])
{
    struct rb_driver *driver = home->driver;
    if (driver->uring == NULL) {
        struct rb_epoll_options options = { .group = driver->epoll,
                                            .index = home->index,
                                            .budget = budget };
        return rb_epoll_transport_create(&options, ret_transport);
    }
    struct rb_ring_options ring_options = { .entries = RING_ENTRIES };
    enum rb_err err = rb_ring_create(&ring_options, &home->ring, why);
    if (err != RB_OK) {
        return err;
    }
    struct rb_uring_options options = {
        .ring = home->ring, .group = driver->uring, .index = home->index, .budget = budget
    };
    return rb_uring_transport_create(&options, ret_transport);
}

static void wake_home(void *ctx)
{
    struct home *home = ctx;
    rb_driver_wake(home->driver, home->index);
}

/* Takes `base`, also when it fails. */
static enum rb_err open_mux(struct home *home, struct rb_budget *budget, struct rb_transport *base,
                            struct rb_transport **ret_transport)
{
    struct rb_pipes_options options = { .budget = budget, .wake = wake_home, .wake_ctx = home };
    enum rb_err err = rb_pipes_create(&options, &home->pipes);
    if (err != RB_OK) {
        rb_transport_destroy(base);
        return err;
    }
    struct rb_mux_member members[2] = { { .t = base }, rb_pipes_member(home->pipes) };
    struct rb_mux_options mux = { .members = members, .member_count = 2 };
    err = rb_mux_create(&mux, ret_transport);
    if (err != RB_OK) {
        rb_transport_destroy(members[1].t);
        rb_transport_destroy(base);
    }
    return err;
}

enum rb_err rb_driver_open(struct rb_driver *driver, uint32_t shard, struct rb_budget *budget,
                           struct rb_transport **ret_transport, char why[RB_DRIVER_WHY_MAX])
{
    struct home *home = &driver->homes[shard];
    struct rb_transport *base;
    why[0] = '\0';
    enum rb_err err = open_base(home, budget, &base, why);
    if (err == RB_OK && driver->with_pipes) {
        err = open_mux(home, budget, base, &base);
    }
    if (err != RB_OK) {
        if (why[0] == '\0') {
            (void)snprintf(why, RB_DRIVER_WHY_MAX, "transport %s: %s", rb_driver_name(driver),
                           rb_err_text(err));
        }
        return err;
    }
    home->transport = base;
    *ret_transport = base;
    return RB_OK;
}

enum rb_err rb_driver_open_disk(struct rb_driver *driver, uint32_t shard, const char *path,
                                struct rb_disk **ret_disk, char why[RB_DRIVER_WHY_MAX])
{
    struct home *home = &driver->homes[shard];
    struct rb_disk **disks =
        realloc(home->disks, (home->disk_count + 1) * sizeof(struct rb_disk *));
    if (disks == NULL) {
        (void)snprintf(why, RB_DRIVER_WHY_MAX, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    home->disks = disks;
    struct rb_disk_options options = {
        .path = path,
        .ring = home->disk_count < RING_DISKS_MAX ? home->ring : NULL,
        .ring_shared = true,
        .ring_kind = (uint8_t)(RB_URING_DISK_KIND + home->disk_count),
        .wake = wake_home,
        .wake_ctx = home,
    };
    enum rb_err err = rb_disk_choose(&options, ret_disk, why);
    if (err == RB_OK) {
        disks[home->disk_count++] = *ret_disk;
    }
    return err;
}

void rb_driver_close(struct rb_driver *driver, uint32_t shard)
{
    struct home *home = &driver->homes[shard];
    if (home->transport != NULL) {
        rb_transport_destroy(home->transport);
        home->transport = NULL;
    }
    while (home->disk_count > 0) { /* behind the transport, which polls their ring */
        rb_disk_destroy(home->disks[--home->disk_count]);
    }
    free(home->disks);
    home->disks = NULL;
    if (home->ring != NULL) {
        rb_ring_destroy(home->ring);
        home->ring = NULL;
    }
}

enum rb_err rb_driver_connect(struct rb_driver *driver, struct rb_pipe **ret_pipe)
{
    if (!driver->with_pipes) {
        return RB_ERR_UNSUPPORTED;
    }
    uint32_t index = atomic_fetch_add_explicit(&driver->next_home, 1, memory_order_relaxed);
    return rb_pipe_connect(driver->homes[index % driver->count].pipes, ret_pipe);
}
