/* signal_target.c - finding the process that "--signal" means.
 *
 * 1. A process is ours by the base name of its executable; where that may not be read, by its command name.
 * 2. Without a target there must be exactly one; a prefix with "*" sends to all that fit.
 */
#include "server/signal_target.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PIDS_MAX 1024
#define PID_DIGITS_MAX 10

struct pids {
    long items[PIDS_MAX];
    size_t count;
};

__attribute__((format(printf, 3, 4))) static bool refuse(char *error, size_t cap,
                                                         const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, cap, format, args);
    va_end(args);
    return false;
}

static int send_signal(void *ctx, long pid, int number)
{
    return kill((pid_t)pid, number) == 0 ? 0 : errno;
}

struct rb_signal_world rb_signal_world(void)
{
    return (
        struct rb_signal_world){ .proc = "/proc", .own_pid = (long)getpid(), .send = send_signal };
}

static int number_of(const char *name, size_t len)
{
    static const struct {
        const char *name;
        int number;
    } commands[] = {
        { "stop", SIGKILL },   { "quit", SIGINT }, { "term", SIGTERM },
        { "reopen", SIGUSR1 }, { "ldm", SIGUSR2 }, { "reload", SIGHUP },
    };
    for (size_t i = 0; i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strlen(commands[i].name) == len && memcmp(commands[i].name, name, len) == 0) {
            return commands[i].number;
        }
    }
    return -1;
}

/** A positive decimal number. */
static bool parse_pid(const char *text, long *ret_pid)
{
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > PID_DIGITS_MAX || text[digits] != 0) {
        return false;
    }
    *ret_pid = strtol(text, NULL, 10);
    return *ret_pid > 0 && *ret_pid <= 0x7fffffff;
}

/** The first line of a small file, without blanks at its ends. */
static bool read_line(const char *path, char *out, size_t cap)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return false;
    }
    ssize_t len = read(fd, out, cap - 1);
    (void)close(fd);
    if (len <= 0) {
        return false;
    }
    out[len] = 0;
    size_t start = strspn(out, " \t\r\n");
    size_t end = strcspn(out + start, "\r\n");
    while (end > 0 && isblank((unsigned char)out[start + end - 1])) {
        end--;
    }
    memmove(out, out + start, end);
    out[end] = 0;
    return true;
}

static bool is_name(const char *name, size_t len)
{
    static const char *const names[] = { "ringbus", "nats-server" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) {
            return true;
        }
    }
    return false;
}

/** Invariant 1. */
static bool is_server(const char *proc, const char *pid)
{
    static const char deleted[] = " (deleted)";
    char path[512], target[4096];
    snprintf(path, sizeof(path), "%.200s/%.32s/exe", proc, pid);
    ssize_t len = readlink(path, target, sizeof(target) - 1);
    if (len > 0) {
        target[len] = 0;
        size_t tail = sizeof(deleted) - 1;
        if ((size_t)len > tail && strcmp(target + len - tail, deleted) == 0) {
            target[(size_t)len - tail] = 0;
        }
        const char *slash = strrchr(target, '/');
        const char *base = slash == NULL ? target : slash + 1;
        return is_name(base, strlen(base));
    }
    snprintf(path, sizeof(path), "%.200s/%.32s/comm", proc, pid);
    return read_line(path, target, sizeof(target)) && is_name(target, strlen(target));
}

static int compare_pids(const void *a, const void *b)
{
    long left = *(const long *)a, right = *(const long *)b;
    return (left > right) - (left < right);
}

/** Servers whose pid begins with `prefix`, in order. False: the list of processes can not be read. */
static bool find_servers(const struct rb_signal_world *world, const char *prefix, struct pids *pids)
{
    DIR *dir = opendir(world->proc);
    if (dir == NULL) {
        return false;
    }
    for (struct dirent *entry; pids->count < PIDS_MAX && (entry = readdir(dir)) != NULL;) {
        long pid;
        if (parse_pid(entry->d_name, &pid) && pid != world->own_pid &&
            strncmp(entry->d_name, prefix, strlen(prefix)) == 0 &&
            is_server(world->proc, entry->d_name)) {
            pids->items[pids->count++] = pid;
        }
    }
    closedir(dir);
    qsort(pids->items, pids->count, sizeof(pids->items[0]), compare_pids);
    return true;
}

/** Fills `pids` with whom the target means. */
static bool resolve(const struct rb_signal_world *world, const char *target, struct pids *pids,
                    char *error, size_t cap)
{
    char line[64], prefix[PID_DIGITS_MAX + 1] = "";
    size_t digits = strspn(target, "0123456789");
    bool by_prefix = target[digits] == '*' && target[digits + 1] == 0 && digits <= PID_DIGITS_MAX;
    if (target[0] == 0 || by_prefix) {
        snprintf(prefix, sizeof(prefix), "%.*s", (int)digits, target);
        if (!find_servers(world, prefix, pids)) {
            return refuse(error, cap, "unable to resolve pid, try providing one");
        }
        return true;
    }
    if (parse_pid(target, &pids->items[0])) {
        pids->count = 1;
        return true;
    }
    if (read_line(target, line, sizeof(line)) && parse_pid(line, &pids->items[0])) {
        pids->count = 1;
        return true;
    }
    return refuse(error, cap, "invalid pid: %.512s", target);
}

static bool say_many(const struct pids *pids, char *error, size_t cap)
{
    size_t len = (size_t)snprintf(error, cap, "multiple nats-server processes running:");
    for (size_t i = 0; i < pids->count && len + 24 < cap; i++) {
        len += (size_t)snprintf(error + len, cap - len, "\n%ld", pids->items[i]);
    }
    return false;
}

static bool send_all(const struct rb_signal_world *world, const struct pids *pids, int number,
                     const char *name, size_t name_len, char *error, size_t cap)
{
    size_t len = 0;
    error[0] = 0;
    for (size_t i = 0; i < pids->count; i++) {
        int failed = world->send(world->ctx, pids->items[i], number);
        if (failed != 0 && len + 128 < cap) {
            len += (size_t)snprintf(error + len, cap - len, "\nsignal \"%.*s\" %ld: %s",
                                    (int)name_len, name, pids->items[i],
                                    failed == ESRCH   ? "no such process"
                                    : failed == EPERM ? "operation not permitted"
                                                      : strerror(failed));
        }
    }
    return len == 0;
}

bool rb_signal_run(const struct rb_signal_world *world, const char *command, char *error,
                   size_t error_cap)
{
    size_t name_len = strcspn(command, "=");
    const char *target = command[name_len] == '=' ? command + name_len + 1 : "";
    const char *more = strchr(target, '=');
    if (more != NULL) {
        return refuse(error, error_cap, "invalid signal parameters: [%.256s]", more + 1);
    }
    struct pids pids = { .count = 0 };
    if (!resolve(world, target, &pids, error, error_cap)) {
        return false;
    }
    if (target[0] == 0 && pids.count == 0) {
        return refuse(error, error_cap, "no nats-server processes running");
    }
    if (target[0] == 0 && pids.count > 1) {
        return say_many(&pids, error, error_cap);
    }
    int number = number_of(command, name_len);
    if (number < 0) {
        return refuse(error, error_cap, "unknown signal \"%.*s\"",
                      (int)(name_len < 64 ? name_len : 64), command);
    }
    return send_all(world, &pids, number, command, name_len, error, error_cap);
}
