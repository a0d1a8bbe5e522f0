/* socket_suite.h - what a driver over kernel sockets must do beyond the contract: real peers that
 * reset and stall, several members, Unix-domain sockets, wakes from other threads, a short supply
 * of everything. */
#pragma once

#include "ringbus/mem.h"
#include "ringbus/transport.h"
#include "transport_suite.h"

/** One transport of a group and what it stands on. */
struct socket_member {
    struct rb_transport *t;
    struct rb_budget budget;
    void *ring; /* the driver's own, or NULL */
};

/** How the tests make and use a driver; they fail the running test when they cannot. */
struct socket_driver {
    const char *name;
    void *(*group_create)(uint32_t member_count);
    void (*group_destroy)(void *group);
    void (*group_wake)(void *group, uint32_t index);
    /** On the thread that uses it; `recv_buffers` 0: the driver's default. */
    void (*member_open)(struct socket_member *member, void *group, uint32_t index,
                        uint32_t recv_buffers);
    void (*member_shut)(struct socket_member *member); /* destroys t first */
};

/** Two groups of one member, on 127.0.0.1; for suite_driver.open and .shut. */
void socket_pair_open(const struct socket_driver *driver, struct suite_world *ret_world);
void socket_pair_shut(struct suite_world *world);

/** Runs every case as one cmocka group; returns the number of failed ones. */
int socket_suite_run(const struct socket_driver *driver);
