/* test_transport_sim.c - the contract suite over the simulated network: calm, and with short writes,
 * cut deliveries and uneven delays. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>

#include <cmocka.h>

#include "transport/sim/sim.h"
#include "transport_suite.h"

#define MS 1000000ull

struct nodes {
    struct rb_sim_net *net;
    struct rb_budget budget;
};

static void open_nodes(struct suite_world *ret_world, const struct rb_sim_net_options *options)
{
    struct nodes *nodes = calloc(1, sizeof(*nodes));
    assert_non_null(nodes);
    assert_int_equal(rb_sim_net_create(options, &nodes->net), RB_OK);
    struct suite_world world = { .listen_addr = rb_sim_addr(0, 4222), .ctx = nodes };
    assert_int_equal(rb_sim_transport_create(nodes->net, 0, 0, &nodes->budget, &world.server),
                     RB_OK);
    assert_int_equal(rb_sim_transport_create(nodes->net, 1, 0, &nodes->budget, &world.client),
                     RB_OK);
    *ret_world = world;
}

static void open_calm(struct suite_world *ret_world)
{
    const struct rb_sim_net_options calm = { .seed = 1,
                                             .delay_min_ns = MS,
                                             .delay_max_ns = MS,
                                             .window_bytes = 1 << 20,
                                             .recv_bytes_max = 32768 };
    open_nodes(ret_world, &calm);
}

static void open_rough(struct suite_world *ret_world)
{
    const struct rb_sim_net_options rough = { .seed = 7,
                                              .delay_min_ns = 1000,
                                              .delay_max_ns = 3 * MS,
                                              .split_permille = 200,
                                              .short_write_permille = 200,
                                              .window_bytes = 1 << 20,
                                              .recv_bytes_max = 32768 };
    open_nodes(ret_world, &rough);
}

static void step(struct suite_world *world)
{
    struct nodes *nodes = world->ctx;
    (void)rb_sim_net_advance(nodes->net, MS);
}

static void shut_nodes(struct suite_world *world)
{
    struct nodes *nodes = world->ctx;
    rb_transport_destroy(world->server);
    rb_transport_destroy(world->client);
    assert_int_equal(nodes->budget.used_bytes, 0);
    rb_sim_net_destroy(nodes->net);
    free(nodes);
}

int main(void)
{
    const struct suite_driver calm = { .name = "sim: the contract",
                                       .crowd_count = 300,
                                       .open = open_calm,
                                       .step = step,
                                       .shut = shut_nodes };
    const struct suite_driver rough = { .name = "sim: the contract in rough weather",
                                        .crowd_count = 300,
                                        .open = open_rough,
                                        .step = step,
                                        .shut = shut_nodes };
    int failed_count = suite_run(&calm);
    return failed_count + suite_run(&rough);
}
