/* transport_suite.h - the contract of transport.h as tests, for any driver that shows both ends. */
#pragma once

#include "ringbus/transport.h"

/** Two transports that reach each other; the suite listens on one and connects from the other. */
struct suite_world {
    struct rb_transport *server, *client;
    struct rb_addr
        listen_addr; /* what the server listens on; what it reports as bound is connected to */
    int64_t poll_timeout_ns; /* of each poll */
    void *ctx;               /* the driver's own */
};

/** What a driver does not have; cases about it are left out. */
enum {
    SUITE_NO_LISTENERS = 1, /* nor addresses: connections come another way */
    SUITE_NO_DRAIN = 2,     /* after the peer's close, sends fail at once */
};

struct suite_driver {
    const char *name;
    uint32_t without;
    uint32_t
        crowd_count; /* of connections in the big case; 0: 2000, as the limit of descriptors allows */
    /** Fills the world; fails the running test when it cannot. */
    void (*open)(struct suite_world *ret_world);
    /** Called before each round of polls: lets time pass. May be NULL. */
    void (*step)(struct suite_world *world);
    /** Destroys both transports. Connections may be open. */
    void (*shut)(struct suite_world *world);
};

/** Runs every case as one cmocka group; returns the number of failed ones. */
int suite_run(const struct suite_driver *driver);
