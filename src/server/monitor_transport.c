/* monitor_transport.c - the monitor's transport: epoll, alone in its group. The kernel's sockets whatever carries client
 * traffic, also where io_uring is refused, and no ring's memory for a few requests a minute. */
#include <stdlib.h>
#include <string.h>

#include "server/monitor.h"
#include "transport/epoll/epoll.h"

#define RECV_BUFFERS 4

struct home {
    struct rb_epoll_group *group;
    struct rb_transport *transport;
};

static enum rb_err create(void *ctx, struct rb_budget *budget, struct rb_transport **ret_transport)
{
    struct home *home = ctx;
    struct rb_epoll_options options = { .group = home->group,
                                        .budget = budget,
                                        .recv_buffers = RECV_BUFFERS };
    enum rb_err err = rb_epoll_transport_create(&options, &home->transport);
    if (err != RB_OK) {
        home->transport = NULL;
        return err;
    }
    *ret_transport = home->transport;
    return RB_OK;
}

static void wake(void *ctx)
{
    struct home *home = ctx;
    rb_epoll_group_wake(home->group, 0);
}

static void destroy(void *ctx)
{
    struct home *home = ctx;
    if (home->transport != NULL) {
        rb_transport_destroy(home->transport);
        home->transport = NULL;
    }
}

static void release(void *ctx)
{
    struct home *home = ctx;
    rb_epoll_group_destroy(home->group);
    free(home);
}

enum rb_err rb_monitor_factory(struct rb_transport_factory *ret_factory)
{
    struct home *home = calloc(1, sizeof(*home));
    if (home == NULL) {
        return RB_ERR_MEMORY;
    }
    enum rb_err err = rb_epoll_group_create(1, &home->group);
    if (err != RB_OK) {
        free(home);
        return err;
    }
    *ret_factory = (struct rb_transport_factory){
        .ctx = home, .create = create, .wake = wake, .destroy = destroy, .release = release
    };
    return RB_OK;
}
