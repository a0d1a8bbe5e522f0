/* test_transport_epoll.c - the suites over epoll. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "socket_suite.h"
#include "transport/epoll/epoll.h"

static void *create_group(uint32_t member_count)
{
    struct rb_epoll_group *group = NULL;
    assert_int_equal(rb_epoll_group_create(member_count, &group), RB_OK);
    return group;
}

static void destroy_group(void *group)
{
    rb_epoll_group_destroy(group);
}

static void wake_group(void *group, uint32_t index)
{
    rb_epoll_group_wake(group, index);
}

static void open_member(struct socket_member *member, void *group, uint32_t index,
                        uint32_t recv_buffers)
{
    *member = (struct socket_member){ 0 };
    struct rb_epoll_options options = {
        .group = group, .index = index, .budget = &member->budget, .recv_buffers = recv_buffers
    };
    assert_int_equal(rb_epoll_transport_create(&options, &member->t), RB_OK);
}

static void shut_member(struct socket_member *member)
{
    rb_transport_destroy(member->t);
}

static const struct socket_driver epoll_driver = { .name = "epoll: sockets",
                                                   .group_create = create_group,
                                                   .group_destroy = destroy_group,
                                                   .group_wake = wake_group,
                                                   .member_open = open_member,
                                                   .member_shut = shut_member };

static void open_pair(struct suite_world *ret_world)
{
    socket_pair_open(&epoll_driver, ret_world);
}

static const struct suite_driver epoll_suite = { .name = "epoll: the contract",
                                                 .open = open_pair,
                                                 .shut = socket_pair_shut };

int main(void)
{
    int failed_count = suite_run(&epoll_suite);
    return failed_count + socket_suite_run(&epoll_driver);
}
