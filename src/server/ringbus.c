/* ringbus.c - the embedding interface.
 *
 *   rb_server_start --thread--> starter: configuration -> rb_running_start --> done
 *        `--waits, at most start_timeout--'                    `--given up meanwhile: undoes all by itself
 *
 * 1. The starter exists so that a start that hangs (a name server, a dead file server) does not hang the program. Whoever is
 *    last, it or its caller, frees the server.
 * 2. All threads of a server come from the starter and take no signals: those are the program's.
 * 3. Callbacks pass a gate. It is closed when a start was given up; whoever closes it waits for those that are inside.
 */
#include "ringbus/ringbus.h"

#include <errno.h>
#include <ftw.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "auth/custom.h"
#include "server/jetstream.h"
#include "server/logout.h"
#include "server/shard.h"
#include "server/start.h"
#include "server/switches.h"
#include "transport/pipe/pipe.h"

#define START_TIMEOUT_NS INT64_C(5000000000)
#define GATE_WAIT_NS 1000000
#define URL_MAX (RB_ADDR_TEXT_MAX + 16)

struct gate {
    _Atomic bool closed;
    _Atomic uint32_t inside_count;
};

struct rb_server {
    struct rb_server_options options; /* texts are copies */
    struct rb_running *running;
    struct rb_node *node;
    struct rb_log log;
    struct rb_logout *logout;
    struct rb_auth_hook hook;
    struct gate gate;
    pthread_mutex_t lock; /* of the start */
    pthread_cond_t changed;
    bool started, given_up;
    char error[RB_CONFIG_ERROR_MAX];
    char url[URL_MAX], ws_url[URL_MAX], monitor_url[URL_MAX];
    char temporary[RB_CONFIG_TEXT_MAX]; /* a store of our own; empty: none */
};

/* Invariant 3 */

static bool enter(struct gate *gate)
{
    atomic_fetch_add(&gate->inside_count, 1);
    if (atomic_load(&gate->closed)) {
        atomic_fetch_sub(&gate->inside_count, 1);
        return false;
    }
    return true;
}

static void leave(struct gate *gate)
{
    atomic_fetch_sub(&gate->inside_count, 1);
}

static void close_gate(struct gate *gate)
{
    atomic_store(&gate->closed, true);
    while (atomic_load(&gate->inside_count) > 0) {
        const struct timespec pause = { .tv_nsec = GATE_WAIT_NS };
        (void)nanosleep(&pause, NULL);
    }
}

static void pass_log(void *ctx, enum rb_log_level level, const char *line)
{
    struct rb_server *server = ctx;
    if (server->options.log != NULL && enter(&server->gate)) {
        server->options.log(server->options.log_ctx, (int)level, line);
        leave(&server->gate);
    }
}

static void pass_decide(void *ctx, const struct rb_auth_offer *offer, struct rb_auth_ticket *ticket)
{
    struct rb_server *server = ctx;
    if (enter(&server->gate)) { /* else the ticket is neither answered nor kept: a refusal */
        server->options.decide(server->options.decide_ctx, offer, ticket);
        leave(&server->gate);
    }
}

/* Options */

static bool copy_text(const char **text)
{
    if (*text != NULL) {
        *text = strdup(*text);
        return *text != NULL;
    }
    return true;
}

static void free_texts(struct rb_server_options *options)
{
    free((void *)(uintptr_t)options->config_text);
    free((void *)(uintptr_t)options->host);
    free((void *)(uintptr_t)options->server_name);
    free((void *)(uintptr_t)options->unix_socket);
    free((void *)(uintptr_t)options->store_dir);
}

/* As much of the program's struct as both versions know; what only a newer one knows must not be used. */
static bool read_options(const struct rb_server_options *given, struct rb_server_options *options,
                         const char **ret_error)
{
    *options = (struct rb_server_options)RB_SERVER_OPTIONS_INIT;
    if (given == NULL) {
        return true;
    }
    size_t bytes = given->struct_bytes;
    if (bytes < sizeof(given->struct_bytes)) {
        *ret_error = "options: struct_bytes is not set; begin with RB_SERVER_OPTIONS_INIT";
        return false;
    }
    for (size_t i = sizeof(*options); i < bytes; i++) {
        if (((const unsigned char *)given)[i] != 0) {
            *ret_error = "options: the program was compiled for a newer version of the library";
            return false;
        }
    }
    memcpy(options, given, bytes < sizeof(*options) ? bytes : sizeof(*options));
    return true;
}

static bool set_text(char *to, size_t cap, const char *text, const char *what, char *error)
{
    if (text != NULL && strlen(text) >= cap) {
        (void)snprintf(error, RB_CONFIG_ERROR_MAX, "options: %s is longer than %zu bytes", what,
                       cap - 1);
        return false;
    }
    if (text != NULL) {
        (void)snprintf(to, cap, "%s", text);
    }
    return true;
}

static struct rb_log_opts switches(void)
{
    return rb_log_opts(getenv(RB_SWITCH_DEBUG), getenv(RB_SWITCH_MONITOR));
}

static enum rb_err override(const struct rb_server_options *options, struct rb_config *config,
                            char error[RB_CONFIG_ERROR_MAX])
{
    if (!set_text(config->host, sizeof(config->host), options->host, "host", error) ||
        !set_text(config->server_name, sizeof(config->server_name), options->server_name,
                  "server_name", error) ||
        !set_text(config->unix_socket, sizeof(config->unix_socket), options->unix_socket,
                  "unix_socket", error)) {
        return RB_ERR_INVALID;
    }
    if (options->jetstream < RB_JETSTREAM_DEFAULT || options->jetstream > RB_JETSTREAM_OFF) {
        (void)snprintf(error, RB_CONFIG_ERROR_MAX, "options: jetstream %d is no choice",
                       (int)options->jetstream);
        return RB_ERR_INVALID;
    }
    if (!set_text(config->jetstream.store_dir, sizeof(config->jetstream.store_dir),
                  options->store_dir, "store_dir", error)) {
        return RB_ERR_INVALID;
    }
    config->jetstream.enabled = options->jetstream == RB_JETSTREAM_ON ||
                                (options->jetstream == RB_JETSTREAM_DEFAULT &&
                                 (config->jetstream.enabled || options->config_text == NULL));
    config->port = options->port != 0 ? options->port : config->port;
    config->shards = options->shards != 0 ? options->shards : config->shards;
    if (options->monitor_port != 0) {
        config->http_port = options->monitor_port;
        config->https_port = 0;
    }
    struct rb_log_opts opts = switches();
    rb_log_opts_apply(&opts, config);
    return rb_config_check(config, error);
}

/* A sealed configuration, to be given back also after a failure. */
static enum rb_err load(const struct rb_server_options *options, const char *text,
                        struct rb_config *config, char error[RB_CONFIG_ERROR_MAX])
{
    enum rb_err err = RB_OK;
    rb_config_defaults(config);
    error[0] = '\0';
    if (text != NULL) {
        err = rb_config_load_text(config, "config", rb_slice_text(text), error);
    }
    if (err == RB_OK && config->policy == NULL) {
        err = rb_config_seal(config, error);
    }
    return err == RB_OK ? override(options, config, error) : err;
}

/* Every server has one of its own, since several of a process, or of a machine, must not meet in it. */
static enum rb_err need_store(struct rb_server *server, struct rb_config *config)
{
    const char *tmp = getenv("TMPDIR");
    if (!config->jetstream.enabled || config->jetstream.store_dir[0] != '\0') {
        return RB_OK;
    }
    if (server->temporary[0] == '\0') {
        int len = snprintf(server->temporary, sizeof(server->temporary), "%s/ringbus-XXXXXX",
                           tmp == NULL || tmp[0] == '\0' ? "/tmp" : tmp);
        if ((size_t)len >= sizeof(server->temporary) || mkdtemp(server->temporary) == NULL) {
            (void)snprintf(server->error, sizeof(server->error),
                           "Can't start JetStream: %s: cannot make a directory for its store",
                           tmp == NULL || tmp[0] == '\0' ? "/tmp" : tmp);
            server->temporary[0] = '\0';
            return RB_ERR_IO;
        }
    }
    (void)snprintf(config->jetstream.store_dir, sizeof(config->jetstream.store_dir), "%s",
                   server->temporary);
    config->jetstream.temporary = true;
    return RB_OK;
}

static int remove_one(const char *path, const struct stat *found, int type, struct FTW *at)
{
    (void)remove(path);
    return 0;
}

static void remove_store(struct rb_server *server)
{
    if (server->temporary[0] != '\0') {
        (void)nftw(server->temporary, remove_one, 16, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
    }
}

static enum rb_err load_again(void *ctx, const struct rb_config *running,
                              struct rb_config *ret_config, char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_server *server = ctx;
    enum rb_err err = load(&server->options, server->options.config_text, ret_config, error);
    if (err == RB_OK) {
        err = need_store(server, ret_config);
    }
    if (err != RB_OK) {
        rb_config_deinit(ret_config);
    }
    return err;
}

/* Start */

static void make_url(char *url, const char *scheme, struct rb_addr addr)
{
    static const uint8_t zero[16];
    if (memcmp(addr.ip, zero, addr.family == 6 ? 16 : 4) == 0) {
        addr = (struct rb_addr){ .family = 4, .ip = { 127, 0, 0, 1 }, .port = addr.port };
    }
    char text[RB_ADDR_TEXT_MAX];
    (void)snprintf(url, URL_MAX, "%s://%s", scheme, rb_addr_format(&addr, text));
}

static void make_urls(struct rb_server *server, const struct rb_config *config)
{
    const struct rb_addr *ws = rb_node_ws_addr(server->node);
    bool tls = config->lists->tls.set && !config->allow_non_tls;
    make_url(server->url, tls ? "tls" : "nats", *rb_node_addr(server->node));
    if (ws->port != 0) {
        make_url(server->ws_url, config->lists->websocket_tls.set ? "wss" : "ws", *ws);
    }
    struct rb_addr monitor = { .family = 4, .port = rb_running_monitor_port(server->running) };
    if (monitor.port != 0) {
        make_url(server->monitor_url, config->https_port != 0 ? "https" : "http", monitor);
    }
}

static bool names_log(const struct rb_config *config)
{
    return config->log_file[0] != '\0' || config->syslog || config->remote_syslog[0] != '\0';
}

/* The callback takes the log; without one, what the configuration names; else it is silent. */
static enum rb_err open_log(struct rb_server *server, const struct rb_config *config)
{
    struct rb_log *log = &server->log;
    if (server->options.log == NULL && names_log(config)) {
        return rb_logout_open(config, "ringbus", log, &server->logout, server->error,
                              sizeof(server->error));
    }
    rb_log_init(log);
    log->fd = -1;
    log->debug = config->debug;
    log->trace = config->trace;
    if (server->options.log != NULL) {
        log->sink = pass_log;
        log->sink_ctx = server;
    }
    if (names_log(config)) {
        rb_log_wrn(log, "the configuration names a log, but the program takes the log lines: it is "
                        "not opened");
    }
    return RB_OK;
}

static bool start(struct rb_server *server)
{
    struct rb_config config;
    enum rb_err err = load(&server->options, server->options.config_text, &config, server->error);
    if (err == RB_OK) {
        err = need_store(server, &config);
    }
    if (err == RB_OK) {
        err = open_log(server, &config);
    }
    if (err == RB_OK) {
        if (server->error[0] != '\0') { /* warnings */
            rb_log_wrn(&server->log, "%s", server->error);
            server->error[0] = '\0';
        }
        server->hook = (struct rb_auth_hook){ .decide = pass_decide, .ctx = server };
        struct rb_start_options options = { .config = &config,
                                            .log = &server->log,
                                            .logout = server->logout,
                                            .program = "ringbus",
                                            .hook = server->options.decide == NULL ? NULL
                                                                                   : &server->hook,
                                            .in_process = server->options.in_process,
                                            .monitor_optional = switches().monitor,
                                            .ctx = server,
                                            .load = load_again };
        err = rb_running_start(&options, &server->running, server->error);
    }
    if (err == RB_OK) {
        server->node = rb_running_node(server->running);
        make_urls(server, &config);
    } else if (server->error[0] == '\0') {
        (void)snprintf(server->error, sizeof(server->error), "%s", rb_err_text(err));
    }
    rb_config_deinit(&config);
    return err == RB_OK;
}

static void free_server(struct rb_server *server)
{
    if (server->running != NULL) {
        rb_running_stop(server->running);
    }
    remove_store(server);
    rb_logout_close(server->logout);
    (void)pthread_mutex_destroy(&server->lock);
    (void)pthread_cond_destroy(&server->changed);
    free_texts(&server->options);
    free(server);
}

static void *starter(void *arg)
{
    struct rb_server *server = arg;
    (void)pthread_setname_np(pthread_self(), "ringbus-start");
    (void)start(server);
    pthread_mutex_lock(&server->lock);
    server->started = true;
    bool given_up = server->given_up;
    pthread_cond_signal(&server->changed);
    pthread_mutex_unlock(&server->lock);
    if (given_up) {
        free_server(server);
    }
    return NULL;
}

static struct rb_server *make_server(const struct rb_server_options *options)
{
    struct rb_server *server = calloc(1, sizeof(*server));
    struct rb_server_options copy = *options;
    copy.config_text = copy.host = copy.server_name = copy.unix_socket = copy.store_dir = NULL;
    if (server == NULL) {
        return NULL;
    }
    pthread_condattr_t attr;
    (void)pthread_condattr_init(&attr);
    (void)pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    (void)pthread_cond_init(&server->changed, &attr);
    (void)pthread_condattr_destroy(&attr);
    (void)pthread_mutex_init(&server->lock, NULL);
    server->options = copy;
    const char *const *from[] = { &options->config_text, &options->host, &options->server_name,
                                  &options->unix_socket, &options->store_dir };
    const char **to[] = { &server->options.config_text, &server->options.host,
                          &server->options.server_name, &server->options.unix_socket,
                          &server->options.store_dir };
    for (int i = 0; i < 5; i++) {
        *to[i] = *from[i];
        if (!copy_text(to[i])) {
            free_server(server);
            return NULL;
        }
    }
    return server;
}

/* Invariant 2 */
static bool run_starter(struct rb_server *server, pthread_t *ret_thread)
{
    sigset_t all, before;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    bool runs = pthread_create(ret_thread, NULL, starter, server) == 0;
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return runs;
}

/* False: it took too long, and the starter has it now. */
static bool wait_for_start(struct rb_server *server, pthread_t thread)
{
    int64_t timeout_ns = server->options.start_timeout_ns;
    timeout_ns = timeout_ns == 0 ? START_TIMEOUT_NS : timeout_ns;
    struct timespec until;
    (void)clock_gettime(CLOCK_MONOTONIC, &until);
    int64_t ns = until.tv_nsec + timeout_ns % 1000000000;
    until.tv_sec += timeout_ns / 1000000000 + ns / 1000000000;
    until.tv_nsec = ns % 1000000000;
    int wait = 0;
    pthread_mutex_lock(&server->lock);
    while (!server->started && wait != ETIMEDOUT) {
        wait = timeout_ns < 0 ? pthread_cond_wait(&server->changed, &server->lock)
                              : pthread_cond_timedwait(&server->changed, &server->lock, &until);
    }
    bool started = server->started;
    if (!started) {
        close_gate(&server->gate);
        server->given_up = true;
        (void)pthread_detach(thread);
    }
    pthread_mutex_unlock(&server->lock);
    if (started) {
        (void)pthread_join(thread, NULL);
    }
    return started;
}

static struct rb_server *fail(char *error, size_t error_cap, const char *text)
{
    if (error_cap > 0) {
        (void)snprintf(error, error_cap, "%s", text);
    }
    return NULL;
}

struct rb_server *rb_server_start(const struct rb_server_options *given, char *error,
                                  size_t error_cap)
{
    struct rb_server_options options;
    const char *text;
    if (!read_options(given, &options, &text)) {
        return fail(error, error_cap, text);
    }
    struct rb_server *server = make_server(&options);
    if (server == NULL) {
        return fail(error, error_cap, rb_err_text(RB_ERR_MEMORY));
    }
    pthread_t thread;
    if (!run_starter(server, &thread)) {
        free_server(server);
        return fail(error, error_cap, "cannot start a thread");
    }
    if (!wait_for_start(server, thread)) {
        return fail(error, error_cap, "the server did not start in time");
    }
    if (server->running == NULL) {
        (void)fail(error, error_cap, server->error);
        free_server(server);
        return NULL;
    }
    return server;
}

void rb_server_stop(struct rb_server *server)
{
    if (server != NULL) {
        free_server(server);
    }
}

/* What a server is */

const char *rb_server_client_url(const struct rb_server *server)
{
    return server->url;
}

uint16_t rb_server_port(const struct rb_server *server)
{
    return rb_node_addr(server->node)->port;
}

const char *rb_server_websocket_url(const struct rb_server *server)
{
    return server->ws_url[0] == '\0' ? NULL : server->ws_url;
}

const char *rb_server_monitor_url(const struct rb_server *server)
{
    return server->monitor_url[0] == '\0' ? NULL : server->monitor_url;
}

const char *rb_server_store_directory(const struct rb_server *server)
{
    const struct rb_jetstream *jetstream = rb_node_shared(server->node)->jetstream;
    return jetstream == NULL ? NULL : rb_jetstream_directory(jetstream);
}

const char *rb_server_id(const struct rb_server *server)
{
    return rb_node_id(server->node);
}

const char *rb_server_name(const struct rb_server *server)
{
    return rb_node_name(server->node);
}

const char *rb_server_transport(const struct rb_server *server)
{
    return rb_node_transport(server->node);
}

const char *rb_server_version(void)
{
    return RB_VERSION;
}

void rb_server_metrics(const struct rb_server *server, struct rb_server_metrics *metrics,
                       size_t metrics_bytes)
{
    struct rb_node_stats stats;
    rb_node_stats(server->node, &stats);
    struct rb_server_metrics now = { .connections = stats.conns,
                                     .connections_total = stats.conns_total,
                                     .subscriptions = stats.subs,
                                     .in_messages = stats.in_msgs,
                                     .in_bytes = stats.in_bytes,
                                     .out_messages = stats.out_msgs,
                                     .out_bytes = stats.out_bytes,
                                     .slow_consumers = stats.slow_consumers,
                                     .stale_connections = stats.stale_conns };
    memset(metrics, 0, metrics_bytes);
    memcpy(metrics, &now, metrics_bytes < sizeof(now) ? metrics_bytes : sizeof(now));
}

/* Life */

bool rb_server_reload(struct rb_server *server, const char *config_text, char *error,
                      size_t error_cap)
{
    char text[RB_CONFIG_ERROR_MAX];
    enum rb_err err;
    if (config_text == NULL) {
        err = rb_node_reload_again(server->node, text);
    } else {
        struct rb_config config;
        err = load(&server->options, config_text, &config, text);
        if (err == RB_OK) {
            err = need_store(server, &config);
        }
        if (err == RB_OK) {
            err = rb_node_reload(server->node, &config, text);
        }
        rb_config_deinit(&config);
    }
    if (err != RB_OK && error_cap > 0) {
        (void)snprintf(error, error_cap, "%s", text);
    }
    return err == RB_OK;
}

bool rb_server_lame_duck(struct rb_server *server)
{
    return rb_node_lame_duck(server->node);
}

bool rb_server_wait(struct rb_server *server, int64_t timeout_ns)
{
    return rb_node_wait(server->node, timeout_ns) == RB_OK;
}

/* Connections inside the process: a struct rb_connection is a pipe under another name. */

static struct rb_pipe *pipe_of(struct rb_connection *connection)
{
    return (struct rb_pipe *)connection;
}

static enum rb_io io_of(enum rb_err err)
{
    switch (err) {
    case RB_OK:
        return RB_IO_OK;
    case RB_ERR_TIMEOUT:
        return RB_IO_TIMEOUT;
    case RB_ERR_FULL:
        return RB_IO_FULL;
    case RB_ERR_UNSUPPORTED:
        return RB_IO_OFF;
    case RB_ERR_MEMORY:
        return RB_IO_NO_MEMORY;
    default:
        return RB_IO_CLOSED;
    }
}

enum rb_io rb_server_connect(struct rb_server *server, struct rb_connection **connection)
{
    struct rb_pipe *pipe;
    enum rb_err err = rb_node_connect(server->node, &pipe);
    if (err == RB_OK) {
        *connection = (struct rb_connection *)pipe;
    }
    return err == RB_ERR_CANCELED || err == RB_ERR_RESET ? RB_IO_OFF : io_of(err);
}

enum rb_io rb_connection_write(struct rb_connection *connection, const void *bytes, size_t len,
                               int64_t timeout_ns, size_t *written)
{
    return io_of(rb_pipe_write(pipe_of(connection), bytes, len, timeout_ns, written));
}

enum rb_io rb_connection_read(struct rb_connection *connection, void *bytes, size_t cap,
                              int64_t timeout_ns, size_t *read_bytes)
{
    return io_of(rb_pipe_read(pipe_of(connection), bytes, cap, timeout_ns, read_bytes));
}

int rb_connection_fd(struct rb_connection *connection)
{
    return rb_pipe_fd(pipe_of(connection));
}

void rb_connection_shutdown(struct rb_connection *connection)
{
    rb_pipe_shutdown(pipe_of(connection));
}

void rb_connection_close(struct rb_connection *connection)
{
    if (connection != NULL) {
        rb_pipe_close(pipe_of(connection));
    }
}
