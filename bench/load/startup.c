/* startup.c - from fork to the first INFO: the server is started, asked until it answers, and
 * ended, several times.
 *
 * The child dies with this process (PR_SET_PDEATHSIG), so no way out of the benchmark leaves a
 * server behind.
 */
#include "load.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "net.h"
#include "probe.h"

#define ROUNDS 7
#define ROUNDS_QUICK 3
#define ASK_AGAIN_NS 200000u
#define STOP_MAX_NS 5000000000u

pid_t rb_load_start_server(const struct rb_load *load)
{
    pid_t parent = getpid();
    pid_t pid = fork();
    if (pid < 0) {
        rb_load_die("fork: %s", strerror(errno));
    }
    if (pid > 0) {
        return pid;
    }
    int null = open("/dev/null", O_RDWR);
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) != 0 || getppid() != parent || null < 0 ||
        dup2(null, 0) < 0 || dup2(null, 1) < 0 || dup2(null, 2) < 0) {
        _exit(126);
    }
    execvp(load->command[0], load->command);
    _exit(127);
}

void rb_load_stop_server(pid_t pid)
{
    uint64_t end_ns = rb_probe_now_ns() + STOP_MAX_NS;
    (void)kill(pid, SIGTERM);
    while (waitpid(pid, NULL, WNOHANG) == 0) {
        if (rb_probe_now_ns() > end_ns) {
            (void)kill(pid, SIGKILL);
        }
        rb_probe_sleep_until(rb_probe_now_ns() + 1000000u);
    }
}

/* Asks until INFO comes. The port must be this server's: a refused connection or a closed one
 * means not yet. */
void rb_load_await_info(const struct rb_load *load, pid_t pid)
{
    for (;;) {
        uint8_t byte = 0;
        int status = 0;
        int fd = rb_net_try_connect(load->host, load->port);
        bool told = false;
        while (fd >= 0 && !told && read(fd, &byte, 1) == 1) {
            told = byte == '\n';
        }
        if (fd >= 0) {
            close(fd);
        }
        if (told) {
            return;
        }
        if (waitpid(pid, &status, WNOHANG) != 0) {
            rb_load_die("the server ended while starting (status %d): %s", status,
                        load->command[0]);
        }
        rb_load_check_deadline(load);
        rb_probe_sleep_until(rb_probe_now_ns() + ASK_AGAIN_NS);
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a;
    uint64_t y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

void rb_load_startup(const struct rb_load *load)
{
    uint64_t times_ns[ROUNDS];
    uint32_t rounds = load->quick ? ROUNDS_QUICK : ROUNDS;
    uint64_t rss_bytes = 0;
    if (load->command == NULL || load->command[0] == NULL) {
        rb_load_die("startup needs the server's command after --");
    }
    for (uint32_t i = 0; i < rounds; i++) {
        int taken = rb_net_try_connect(load->host, load->port);
        if (taken >= 0) {
            rb_load_die("somebody else listens on port %u", load->port);
        }
        uint64_t start_ns = rb_probe_now_ns();
        pid_t pid = rb_load_start_server(load);
        rb_load_await_info(load, pid);
        times_ns[i] = rb_probe_now_ns() - start_ns;
        rss_bytes = rb_probe_rss_bytes(pid);
        rb_load_stop_server(pid);
    }
    qsort(times_ns, rounds, sizeof(times_ns[0]), compare);
    rb_load_print_head(load);
    printf(",\"rounds\":%u,\"startup_ms\":%.2f,\"startup_max_ms\":%.2f,\"rss_kib\":%llu}\n", rounds,
           (double)times_ns[rounds / 2] / 1e6, (double)times_ns[rounds - 1] / 1e6,
           (unsigned long long)rss_bytes / 1024);
}
