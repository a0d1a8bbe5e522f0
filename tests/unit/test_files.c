/* Pid file and ports file. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "server/files.h"

static char dir[64];

static int make_dir(void **state)
{
    (void)state;
    snprintf(dir, sizeof(dir), "/tmp/rb_test_files_XXXXXX");
    return mkdtemp(dir) == NULL ? -1 : 0;
}

static int remove_dir(void **state)
{
    (void)state;
    return rmdir(dir); /* fails when something was left behind */
}

static void read_back(const char *path, char out[65536])
{
    FILE *file = fopen(path, "r");
    assert_non_null(file);
    size_t len = fread(out, 1, 65535, file);
    out[len] = 0;
    assert_int_equal(fclose(file), 0);
}

static void the_pid_file(void **state)
{
    (void)state;
    char path[128], error[256], wanted[32];
    static char text[65536];
    struct stat info;
    snprintf(path, sizeof(path), "%s/pid", dir);
    for (int i = 0; i < 2; i++) { /* over an old one, too */
        assert_int_equal(rb_pid_file_write(path, error, sizeof(error)), RB_OK);
        read_back(path, text);
        snprintf(wanted, sizeof(wanted), "%ld", (long)getpid());
        assert_string_equal(text, wanted);
    }
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(unlink(path), 0);
    assert_int_equal(rb_pid_file_write("/no/such/pid", error, sizeof(error)), RB_ERR_IO);
    assert_string_equal(error, "open /no/such/pid: no such file or directory");
}

static struct rb_port port_at(enum rb_port_kind kind, const char *host, uint16_t number, bool tls)
{
    struct rb_port port = { .kind = kind, .tls = tls };
    assert_int_equal(rb_addr_parse(host, number, &port.addr), RB_OK);
    return port;
}

static void the_ports_file(void **state)
{
    (void)state;
    char path[RB_PORTS_PATH_MAX] = "", error[1400], wanted[128];
    static char text[65536];
    const struct rb_port ports[] = {
        port_at(RB_PORT_WEBSOCKET, "127.0.0.1", 3, true),
        port_at(RB_PORT_NATS, "127.0.0.1", 1, false),
        port_at(RB_PORT_NATS, "::1", 1, true),
        port_at(RB_PORT_MONITORING, "127.0.0.1", 2, false),
        port_at(RB_PORT_CLUSTER, "127.0.0.1", 4, false),
        port_at(RB_PORT_PROFILE, "127.0.0.1", 5, true),
    };
    assert_int_equal(rb_ports_file_write(dir, "ringbus", ports, sizeof(ports) / sizeof(ports[0]),
                                         path, error, sizeof(error)),
                     RB_OK);
    snprintf(wanted, sizeof(wanted), "%s/ringbus_%ld.ports", dir, (long)getpid());
    assert_string_equal(path, wanted);
    read_back(path, text);
    assert_string_equal(text, "{\"nats\":[\"nats://127.0.0.1:1\",\"tls://[::1]:1\"],"
                              "\"monitoring\":[\"http://127.0.0.1:2\"],"
                              "\"cluster\":[\"nats://127.0.0.1:4\"],"
                              "\"profile\":[\"https://127.0.0.1:5\"],"
                              "\"websocket\":[\"wss://127.0.0.1:3\"]}");
    rb_ports_file_remove(path);
    assert_int_equal(access(path, F_OK), -1);
    rb_ports_file_remove(path); /* gone already */
    rb_ports_file_remove("");
}

static void all_interfaces_are_written_as_each_of_them(void **state)
{
    (void)state;
    char path[RB_PORTS_PATH_MAX] = "", error[1400];
    static char text[65536];
    struct rb_port port = port_at(RB_PORT_NATS, "0.0.0.0", 4222, false);
    assert_int_equal(rb_ports_file_write(dir, "p", &port, 1, path, error, sizeof(error)), RB_OK);
    read_back(path, text);
    assert_non_null(strstr(text, "\"nats://127.0.0.1:4222\""));
    assert_null(strstr(text, "0.0.0.0"));
    assert_null(strstr(text, "[::1]")); /* does not take IPv6 */
    assert_int_equal(rb_ports_file_write(dir, "p", NULL, 0, path, error, sizeof(error)), RB_OK);
    read_back(path, text);
    assert_string_equal(text, "{}");
    rb_ports_file_remove(path);
    assert_int_equal(rb_ports_file_write("/no/such", "p", &port, 1, path, error, sizeof(error)),
                     RB_ERR_IO);
    assert_non_null(strstr(error, "no such file or directory"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_pid_file),
        cmocka_unit_test(the_ports_file),
        cmocka_unit_test(all_interfaces_are_written_as_each_of_them),
    };
    return cmocka_run_group_tests(tests, make_dir, remove_dir);
}
