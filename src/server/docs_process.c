/* docs_process.c - the process: its CPU and memory, /stacksz, /debug/vars, and the root page. */
#include <ctype.h>
#include <dirent.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/docs.h"

#define NS_PER_S UINT64_C(1000000000)
#define STAT_BYTES 1024
#define THREADS_MAX 1024

/* Reads a small file of /proc; false when it is not there. */
static bool read_file(const char *path, char out[STAT_BYTES])
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return false;
    }
    ssize_t len = read(fd, out, STAT_BYTES - 1);
    (void)close(fd);
    out[len > 0 ? len : 0] = '\0';
    return len > 0;
}

/* What /proc/<pid>/stat holds; fields count from 1 as in proc(5). */
struct stat_line {
    char state;
    char name[64];
    unsigned long long field[53];
};

static bool parse_stat(char *text, struct stat_line *line)
{
    char *open = strchr(text, '('), *close = strrchr(text, ')');
    if (open == NULL || close == NULL || close < open) {
        return false;
    }
    memset(line, 0, sizeof(*line));
    (void)snprintf(line->name, sizeof(line->name), "%.*s", (int)(close - open - 1), open + 1);
    char *at = close + 1;
    while (*at == ' ') {
        at++;
    }
    line->state = *at;
    for (size_t i = 4; i < sizeof(line->field) / sizeof(line->field[0]); i++) {
        at = strchr(at, ' ');
        if (at == NULL) {
            break;
        }
        line->field[i] = strtoull(++at, NULL, 10);
    }
    return true;
}

enum { STAT_UTIME = 14, STAT_STIME = 15, STAT_START = 22, STAT_RSS = 24 };

void rb_process_usage_read(struct rb_process_usage *usage, uint64_t now_ns)
{
    char text[STAT_BYTES];
    struct stat_line line;
    if (!read_file("/proc/self/stat", text) || !parse_stat(text, &line)) {
        return;
    }
    uint64_t ticks = line.field[STAT_UTIME] + line.field[STAT_STIME];
    double per_second = (double)sysconf(_SC_CLK_TCK);
    usage->rss_bytes = line.field[STAT_RSS] * (uint64_t)sysconf(_SC_PAGESIZE);
    double seconds;
    if (usage->at_ns == 0) {
        char uptime[STAT_BYTES];
        double up = read_file("/proc/uptime", uptime) ? strtod(uptime, NULL) : 0;
        seconds = up - (double)line.field[STAT_START] / per_second;
    } else if (now_ns < usage->at_ns + NS_PER_S) {
        return;
    } else {
        seconds = (double)(now_ns - usage->at_ns) / 1e9;
    }
    double percent =
        seconds > 0 ? (double)(ticks - usage->ticks) / per_second / seconds * 100.0 : 0;
    usage->cpu_percent = (double)(uint64_t)(percent * 10 + 0.5) / 10; /* tenths, as top shows it */
    usage->ticks = ticks;
    usage->at_ns = now_ns;
}

/* /stacksz: threads instead of goroutines */

void rb_page_stacksz(struct rb_text *out)
{
    DIR *dir = opendir("/proc/self/task");
    if (dir == NULL) {
        rb_text_puts(out, "threads are not known: /proc is not mounted\n");
        return;
    }
    struct dirent *entry;
    for (uint32_t count = 0; count < THREADS_MAX && (entry = readdir(dir)) != NULL;) {
        char path[96], text[STAT_BYTES];
        struct stat_line line;
        (void)snprintf(path, sizeof(path), "/proc/self/task/%.20s/stat", entry->d_name);
        if (!isdigit((unsigned char)entry->d_name[0]) || !read_file(path, text) ||
            !parse_stat(text, &line)) {
            continue;
        }
        double per_second = (double)sysconf(_SC_CLK_TCK);
        rb_text_printf(out, "thread %s [%c] %s user %.2fs system %.2fs\n", entry->d_name,
                       line.state, line.name, (double)line.field[STAT_UTIME] / per_second,
                       (double)line.field[STAT_STIME] / per_second);
        count++;
    }
    (void)closedir(dir);
}

/* /debug/vars */

bool rb_doc_expvarz(const struct rb_monitor_view *view, struct rb_json_out *json)
{
    char name[STAT_BYTES];
    /* The program only: its arguments may hold a password, and in an embedding program they are not ours to show. */
    if (!read_file("/proc/self/cmdline", name)) {
        name[0] = '\0';
    }
    struct mallinfo2 heap = mallinfo2();
    rb_json_out_object(json);
    rb_json_out_key(json, "cmdline");
    rb_json_out_array(json);
    rb_json_out_string(json, rb_slice_text(name));
    rb_json_out_array_end(json);
    rb_json_out_key(json, "memstats");
    rb_json_out_object(json);
    rb_json_out_set_uint(json, "Alloc", heap.uordblks + heap.hblkhd);
    rb_json_out_set_uint(json, "Sys", view->rss_bytes);
    rb_json_out_set_uint(json, "HeapAlloc", heap.uordblks + heap.hblkhd);
    rb_json_out_set_uint(json, "HeapSys", heap.arena + heap.hblkhd);
    rb_json_out_set_uint(json, "HeapIdle", heap.fordblks);
    rb_json_out_set_uint(json, "HeapInuse", heap.uordblks + heap.hblkhd);
    rb_json_out_object_end(json);
    rb_json_out_object_end(json);
    return true;
}

/* The root page */

static const struct {
    const char *path, *label;
} links[] = {
    { "dashboard", "Dashboard" }, { "varz", "General" },      { "jsz", "JetStream" },
    { "connz", "Connections" },   { "accountz", "Accounts" }, { "accstatz", "Account Stats" },
    { "subsz", "Subscriptions" }, { "routez", "Routes" },     { "leafz", "LeafNodes" },
    { "gatewayz", "Gateways" },   { "raftz", "Raft Groups" }, { "healthz", "Health Probe" },
    { "metrics", "Prometheus" },  { "debug/vars", "Expvar" },
};

void rb_page_root(const struct rb_monitor_view *view, const char *base_path, struct rb_text *out)
{
    /* Relative to the page's own path: "/base" is not a folder for a browser. */
    const char *last = strrchr(base_path, '/');
    const char *folder = last == NULL ? "" : last + 1;
    rb_text_puts(out, "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
                      "<title>ringbus</title>\n<style>\n"
                      ":root { color-scheme: light dark }\n"
                      "body { font-family: system-ui, sans-serif; margin: 2rem }\n"
                      "a { display: block; padding: .2rem 0 }\n"
                      "small { opacity: .6; font-family: monospace }\n"
                      "</style>\n</head>\n<body>\n<h1>ringbus</h1>\n");
    rb_text_printf(out, "<p>v%s, as nats-server %s</p>\n", view->ringbus_version, view->version);
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        rb_text_printf(out, "<a href=\"./%s%s%s\">%s <small>/%s</small></a>\n", folder,
                       folder[0] == '\0' ? "" : "/", links[i].path, links[i].label, links[i].path);
    }
    rb_text_puts(out, "</body>\n</html>\n");
}
