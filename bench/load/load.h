/* load.h - ringbus_load: what the scenarios share (bench/README.md says what is measured and why).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define RB_LOAD_SUBJECT "bench.data"
#define RB_LOAD_READ_BYTES (256 * 1024) /* one read; fits a core's second-level cache */

/** What lies between the protocol and the socket. */
enum rb_wire { RB_WIRE_PLAIN, RB_WIRE_TLS, RB_WIRE_WS, RB_WIRE_WS_DEFLATE };

/** Who a connection says it is; user NULL: nobody. */
struct rb_login {
    const char *user, *pass;
};

struct rb_tls_context;

/** What the command line asked for. Times in ns. */
struct rb_load {
    const char *host;
    uint16_t port;
    pid_t server_pid;     /* 0: only `startup`, which starts its own */
    const char *label;    /* goes into every line of output */
    const char *scenario; /* the one that runs */
    /* What its name says (variant.c); `shape` is what remains of the name. */
    const char *shape;
    enum rb_wire wire;
    struct rb_tls_context *tls;
    struct rb_login publisher, receiver; /* publisher: also everybody who is neither */
    bool numbered_users;                 /* connections of many are u00000, u00001, ... */
    const char *receive_subject;
    uint64_t measure_ns;  /* how long messages are published */
    uint64_t warmup_ns;   /* the same before the clock starts */
    uint64_t deadline_ns; /* of the whole scenario, on the monotonic clock */
    uint32_t receive_threads;
    bool quick;            /* fewer samples, shorter rests; for a look, not for a result */
    char *const *command;  /* of `startup` and `js_restart`; NULL-terminated */
    uint64_t count_given;  /* -n; 0: not given */
    uint64_t count;        /* of stored messages or consumers; js_ scenarios have defaults */
    const char *directory; /* where the server stores; NULL: the disk is not measured */
    uint32_t limit_s;      /* of the scenario */
};

/** Reads the scenario's name into the fields above; makes the TLS context. */
void rb_load_choose_variant(struct rb_load *load, const char *name);
/** Publish at full speed to a shape of receivers, named by `load->shape`: false when it names
 * none. */
bool rb_load_flow(const struct rb_load *load);
/** Request and reply at a low rate: percentiles of the round trip. */
void rb_load_latency(const struct rb_load *load);
/** Resident memory of an idle connection. */
void rb_load_mem_conns(const struct rb_load *load);
/** Resident memory of a subscription. */
void rb_load_mem_subs(const struct rb_load *load);
/** Connections that come and go, and the PINGs of one that stays. */
void rb_load_storm(const struct rb_load *load);
/** Many connections: opening, a PING to each, a message to each. */
void rb_load_conns(const struct rb_load *load);
/** From fork to INFO, several times. */
void rb_load_startup(const struct rb_load *load);
/* JetStream: js_flow.c, js_scale.c */
void rb_load_js_pub(const struct rb_load *load);
void rb_load_js_pull(const struct rb_load *load);
void rb_load_js_ordered(const struct rb_load *load);
void rb_load_js_filter(const struct rb_load *load);
void rb_load_js_kv_get(const struct rb_load *load);
void rb_load_js_kv_put(const struct rb_load *load);
void rb_load_js_depth(const struct rb_load *load);
void rb_load_js_mem_subjects(const struct rb_load *load);
void rb_load_js_idle_consumers(const struct rb_load *load);
void rb_load_js_restart(const struct rb_load *load);

/** Runs load->command; it ends with this process. */
pid_t rb_load_start_server(const struct rb_load *load);
/** SIGTERM, later SIGKILL; waits. */
void rb_load_stop_server(pid_t pid);
/** Until INFO comes. */
void rb_load_await_info(const struct rb_load *load, pid_t pid);

/**
 * Prints {"ok":false,"error":...} for the running scenario and ends the process with 1, from any
 * thread: a benchmark that saw something wrong has no number to give.
 */
_Noreturn void rb_load_die(const char *format, ...) __attribute__((format(printf, 1, 2)));
/** Opens a line of output: {"server":...,"scenario":...,"ok":true - the caller prints the rest. */
void rb_load_print_head(const struct rb_load *load);
/** Dies when the scenario's time is over. */
void rb_load_check_deadline(const struct rb_load *load);
