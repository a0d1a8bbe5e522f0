/* main.c - ringbus_load: arguments in, one line of JSON per scenario out. */
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load.h"
#include "net.h"
#include "probe.h"

#define LIMIT_SECONDS 60
#define JS_LIMIT_SECONDS 240

static const char usage_text[] =
    "usage: ringbus_load -p PORT -P PID [options] SCENARIO...\n"
    "       ringbus_load -p PORT [options] startup -- COMMAND [ARGUMENT...]\n"
    "       ringbus_load free-port\n"
    "\n"
    "Drives any NATS server on loopback and prints one line of JSON per scenario.\n"
    "\n"
    "  -a HOST     IPv4 address of the server (127.0.0.1)\n"
    "  -p PORT     its port\n"
    "  -P PID      its process, for CPU time and memory\n"
    "  -l LABEL    goes into the output as \"server\"\n"
    "  -d SECONDS  how long a flow is measured (1.0)\n"
    "  -w SECONDS  warm-up before that (0.3)\n"
    "  -t THREADS  receiving threads (1)\n"
    "  -n COUNT    stored messages, or consumers, of a js_ scenario (its own default)\n"
    "  -D DIR      where the server stores: the disk there is measured too\n"
    "  -q          quick: fewer samples and shorter rests\n"
    "\n"
    "Scenarios: pub<size> 1to1_<size> fan<n>_<size> queue<n>_<size> latency, each also with\n"
    "_churn; mem_conns mem_subs conns startup. Sizes are bytes, or end in k.\n"
    "tls_ ws_ ws_deflate_ user_ import_ mapping_ before a flow, mem_tls_conns mem_users_conns\n"
    "tls_handshakes_<any> login_bcrypt login_plain service_rr: the server must be configured as\n"
    "bench/run.sh does it.\n"
    "js_pub_file_<n> js_pub_always_<n> js_pub_lazy_<n> js_pub_memory_<n> (n in flight) js_pull "
    "js_pull_none\n"
    "js_ordered js_filter js_kv_get js_kv_put js_depth js_mem_subjects js_idle_consumers "
    "js_restart\n"
    "(as startup, with -- COMMAND).\n";

/* The scenario that runs; read by rb_load_die from any thread. */
static const struct rb_load *current;

/* "server":..., "scenario":...: labels and names are ours and hold nothing that needs escaping. */
static void print_names(void)
{
    const char *label = current != NULL ? current->label : "";
    const char *scenario = current != NULL && current->scenario != NULL ? current->scenario : "";
    printf("{\"server\":\"%s\",\"scenario\":\"%s\"", label, scenario);
}

void rb_load_print_head(const struct rb_load *load)
{
    print_names();
    printf(",\"ok\":true");
}

void rb_load_die(const char *format, ...)
{
    static atomic_flag dying = ATOMIC_FLAG_INIT;
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (atomic_flag_test_and_set(&dying)) {
        for (;;) {
            pause(); /* another thread was first; it ends the process */
        }
    }
    for (char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\' || (unsigned char)*c < ' ') {
            *c = '\'';
        }
    }
    print_names();
    printf(",\"ok\":false,\"error\":\"%s\"}\n", text);
    fflush(stdout);
    _exit(1);
}

void rb_load_check_deadline(const struct rb_load *load)
{
    if (rb_probe_now_ns() > load->deadline_ns) {
        rb_load_die("not finished after %u s", load->limit_s);
    }
}

/* How much is stored when -n does not say it: what ends in a minute or two, fill and all. */
static void choose_js(struct rb_load *load)
{
    static const struct {
        const char *name;
        uint64_t count, quick_count;
    } defaults[] = {
        { "js_pull", 200000, 20000 },    { "js_pull_none", 200000, 20000 },
        { "js_ordered", 200000, 20000 }, { "js_filter", 500000, 50000 },
        { "js_depth", 500000, 50000 },   { "js_mem_subjects", 500000, 50000 },
        { "js_restart", 500000, 50000 }, { "js_idle_consumers", 10000, 500 },
    };
    load->limit_s = strncmp(load->shape, "js_", 3) == 0 ? JS_LIMIT_SECONDS : LIMIT_SECONDS;
    load->count = load->count_given;
    for (size_t i = 0; load->count == 0 && i < sizeof(defaults) / sizeof(defaults[0]); i++) {
        if (strcmp(load->shape, defaults[i].name) == 0) {
            load->count = load->quick ? defaults[i].quick_count : defaults[i].count;
        }
    }
}

static void run_scenario(struct rb_load *load, const char *name)
{
    static const struct {
        const char *name;
        void (*run)(const struct rb_load *load);
    } scenarios[] = {
        { "latency", rb_load_latency },
        { "latency_churn", rb_load_latency },
        { "mem_conns", rb_load_mem_conns },
        { "mem_subs", rb_load_mem_subs },
        { "conns", rb_load_conns },
        { "startup", rb_load_startup },
        { "storm", rb_load_storm },
        { "js_pull", rb_load_js_pull },
        { "js_pull_none", rb_load_js_pull },
        { "js_ordered", rb_load_js_ordered },
        { "js_filter", rb_load_js_filter },
        { "js_kv_get", rb_load_js_kv_get },
        { "js_kv_put", rb_load_js_kv_put },
        { "js_depth", rb_load_js_depth },
        { "js_mem_subjects", rb_load_js_mem_subjects },
        { "js_idle_consumers", rb_load_js_idle_consumers },
        { "js_restart", rb_load_js_restart },
    };
    rb_load_choose_variant(load, name);
    choose_js(load);
    load->deadline_ns = rb_probe_now_ns() + load->limit_s * 1000000000ull;
    (void)alarm(load->limit_s + 10); /* in case a call hangs where no deadline is looked at */
    for (size_t i = 0; i < sizeof(scenarios) / sizeof(scenarios[0]); i++) {
        if (strcmp(load->shape, scenarios[i].name) == 0) {
            if (scenarios[i].run != rb_load_startup && scenarios[i].run != rb_load_js_restart &&
                load->server_pid == 0) {
                rb_load_die("-P PID is missing");
            }
            scenarios[i].run(load);
            fflush(stdout);
            return;
        }
    }
    if (load->server_pid == 0) {
        rb_load_die("-P PID is missing");
    }
    if (strncmp(load->shape, "js_pub_", 7) == 0) {
        rb_load_js_pub(load);
        fflush(stdout);
        return;
    }
    if (!rb_load_flow(load)) {
        rb_load_die("no such scenario");
    }
    fflush(stdout);
}

static uint64_t parse_seconds(const char *text)
{
    char *end = NULL;
    double seconds = strtod(text, &end);
    if (end == text || *end != '\0' || !(seconds > 0 && seconds <= 20)) {
        fprintf(stderr, "ringbus_load: not a time between 0 and 20 s: %s\n", text);
        exit(2);
    }
    return (uint64_t)(seconds * 1e9);
}

static uint32_t parse_number(const char *text, uint32_t max)
{
    char *end = NULL;
    unsigned long value = strtoul(text, &end, 10);
    if (end == text || *end != '\0' || value == 0 || value > max) {
        fprintf(stderr, "ringbus_load: not a number from 1 to %u: %s\n", max, text);
        exit(2);
    }
    return (uint32_t)value;
}

static void parse_args(struct rb_load *load, int argc, char **argv)
{
    int option;
    while ((option = getopt(argc, argv, "+a:p:P:l:d:w:t:n:D:qh")) != -1) {
        switch (option) {
        case 'a':
            load->host = optarg;
            break;
        case 'p':
            load->port = (uint16_t)parse_number(optarg, UINT16_MAX);
            break;
        case 'P':
            load->server_pid = (pid_t)parse_number(optarg, INT32_MAX);
            break;
        case 'l':
            load->label = optarg;
            break;
        case 'd':
            load->measure_ns = parse_seconds(optarg);
            break;
        case 'w':
            load->warmup_ns = parse_seconds(optarg);
            break;
        case 't':
            load->receive_threads = parse_number(optarg, 16);
            break;
        case 'n':
            load->count_given = parse_number(optarg, 100000000);
            break;
        case 'D':
            load->directory = optarg;
            break;
        case 'q':
            load->quick = true;
            break;
        case 'h':
            fputs(usage_text, stdout);
            exit(0);
        default:
            fputs(usage_text, stderr);
            exit(2);
        }
    }
}

int main(int argc, char **argv)
{
    struct rb_load load = { .host = "127.0.0.1",
                            .label = "server",
                            .measure_ns = 1000000000,
                            .warmup_ns = 300000000,
                            .receive_threads = 1 };
    parse_args(&load, argc, argv);
    (void)signal(SIGPIPE, SIG_IGN);
    current = &load;
    if (optind + 1 == argc && strcmp(argv[optind], "free-port") == 0) {
        printf("%u\n", rb_net_free_port());
        return 0;
    }
    if (optind >= argc || load.port == 0) {
        fputs(usage_text, stderr);
        return 2;
    }
    for (int i = optind; i < argc; i++) {
        if (strcmp(argv[i], "startup") == 0 || strcmp(argv[i], "js_restart") == 0) {
            bool separated = i + 1 < argc && strcmp(argv[i + 1], "--") == 0;
            load.command = argv + i + 1 + separated;
            run_scenario(&load, argv[i]);
            return 0;
        }
        run_scenario(&load, argv[i]);
    }
    return 0;
}
