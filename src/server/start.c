/* start.c - the order of things at start, reload and end.
 *
 *   pid file -> node made -> what it is -> JetStream begins -> threads -> monitor -> JetStream is recovered -> listeners -> where it
 *   listens -> ports file -> ready
 */
#include "server/start.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/files.h"
#include "server/logout.h"
#include "server/monitor.h"
#include "server/shard.h"
#include "server/source.h"
#include "tls/tls.h"

#define PAYLOAD_WISE (8u * 1024 * 1024)
#define PROGRAM_MAX 64
#define PORTS_MAX 4

struct rb_running {
    struct rb_start_options options;
    struct rb_node *node;
    struct rb_log *log;
    struct rb_monitor *monitor;
    struct rb_monitor_source source;
    char program[PROGRAM_MAX];
    char ports_path[RB_PORTS_PATH_MAX];
    /* Of a reload under way: */
    char next_ports_path[RB_PORTS_PATH_MAX];
    struct rb_tls_context *next_tls;
};

/* Files */

static enum rb_err write_pid(const struct rb_config *config, char error[RB_NODE_ERROR_MAX])
{
    char why[RB_NODE_ERROR_MAX - 64];
    if (config->pid_file[0] == '\0') {
        return RB_OK;
    }
    enum rb_err err = rb_pid_file_write(config->pid_file, why, sizeof(why));
    if (err != RB_OK) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "Could not write pidfile: %s", why);
    }
    return err;
}

static size_t list_ports(struct rb_running *running, const struct rb_config *config,
                         struct rb_port ports[PORTS_MAX])
{
    size_t count = 0;
    const struct rb_addr *ws = rb_node_ws_addr(running->node);
    const struct rb_tls_config *tls = &config->lists->tls;
    struct rb_addr client = *rb_node_addr(running->node);
    static const uint8_t any[4];
    bool both = client.family == 4 && memcmp(client.ip, any, sizeof(any)) == 0;
    ports[count++] = (struct rb_port){ .kind = RB_PORT_NATS,
                                       .tls = tls->set && !config->allow_non_tls,
                                       .addr = client,
                                       .both = both };
    uint16_t monitor = rb_running_monitor_port(running);
    if (monitor != 0) {
        struct rb_addr addr = { .family = 4, .ip = { 127, 0, 0, 1 }, .port = monitor };
        ports[count++] = (struct rb_port){ .kind = RB_PORT_MONITORING,
                                           .tls = config->https_port != 0,
                                           .addr = addr };
    }
    if (ws->port != 0) {
        both = ws->family == 4 && memcmp(ws->ip, any, sizeof(any)) == 0;
        ports[count++] = (struct rb_port){ .kind = RB_PORT_WEBSOCKET,
                                           .tls = config->lists->websocket_tls.set,
                                           .addr = *ws,
                                           .both = both };
    }
    return count;
}

static enum rb_err write_ports(struct rb_running *running, const struct rb_config *config,
                               char path[RB_PORTS_PATH_MAX], char error[RB_NODE_ERROR_MAX])
{
    struct rb_port ports[PORTS_MAX];
    char why[RB_NODE_ERROR_MAX - 64];
    path[0] = '\0';
    if (config->ports_file_dir[0] == '\0') {
        return RB_OK;
    }
    size_t count = list_ports(running, config, ports);
    enum rb_err err = rb_ports_file_write(config->ports_file_dir, running->program, ports, count,
                                          path, why, sizeof(why));
    if (err != RB_OK) {
        path[0] = '\0';
        (void)snprintf(error, RB_NODE_ERROR_MAX, "Error writing ports file: %s", why);
    }
    return err;
}

/* Reload */

/* The clients' certificate, without asking for one: browsers and scrapers have none. NULL: no https. */
static enum rb_err monitor_tls(const struct rb_config *config, struct rb_tls_context **ret_tls,
                               char error[RB_NODE_ERROR_MAX])
{
    *ret_tls = NULL;
    if (config->https_port == 0 || !config->lists->tls.set) {
        return RB_OK;
    }
    struct rb_tls_options tls;
    rb_config_tls_options(&config->lists->tls, &tls);
    tls.verify = false;
    tls.pinned_count = 0;
    return rb_tls_context_create(&tls, ret_tls, error, RB_NODE_ERROR_MAX);
}

static void undo_files(struct rb_running *running, const struct rb_config *wanted, bool pid)
{
    if (pid) {
        (void)unlink(wanted->pid_file);
    }
    rb_ports_file_remove(running->next_ports_path);
    running->next_ports_path[0] = '\0';
    rb_tls_context_release(running->next_tls);
    running->next_tls = NULL;
}

static enum rb_err prepare(void *ctx, const struct rb_config *before,
                           const struct rb_config *wanted, const struct rb_config_changes *changes,
                           char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_running *running = ctx;
    bool pid = strcmp(before->pid_file, wanted->pid_file) != 0 && wanted->pid_file[0] != '\0';
    bool ports = strcmp(before->ports_file_dir, wanted->ports_file_dir) != 0;
    running->next_ports_path[0] = '\0';
    enum rb_err err = pid ? write_pid(wanted, error) : RB_OK;
    if (err != RB_OK) {
        return err;
    }
    if (ports) {
        err = write_ports(running, wanted, running->next_ports_path, error);
    }
    if (err == RB_OK && running->monitor != NULL) {
        err = monitor_tls(wanted, &running->next_tls, error);
    }
    if (err == RB_OK && (changes->what & RB_CHANGE_LOG) != 0 && running->options.logout != NULL) {
        err = rb_logout_switch(running->options.logout, wanted, error, RB_CONFIG_ERROR_MAX);
    }
    if (err != RB_OK) {
        undo_files(running, wanted, pid);
    }
    return err;
}

static void applied(void *ctx, const struct rb_config *before, const struct rb_config *now,
                    const struct rb_config_changes *changes)
{
    struct rb_running *running = ctx;
    if (running->next_tls != NULL) {
        rb_monitor_set_tls(running->monitor, running->next_tls);
        rb_tls_context_release(running->next_tls);
        running->next_tls = NULL;
    }
    if (strcmp(before->pid_file, now->pid_file) != 0 && before->pid_file[0] != '\0') {
        (void)unlink(before->pid_file);
    }
    if (strcmp(before->ports_file_dir, now->ports_file_dir) != 0) {
        rb_ports_file_remove(running->ports_path);
        memcpy(running->ports_path, running->next_ports_path, sizeof(running->ports_path));
        running->next_ports_path[0] = '\0';
    }
}

static enum rb_err load(void *ctx, const struct rb_config *before, struct rb_config *ret_config,
                        char error[RB_CONFIG_ERROR_MAX])
{
    struct rb_running *running = ctx;
    return running->options.load(running->options.ctx, before, ret_config, error);
}

static void ended(void *ctx)
{
    struct rb_running *running = ctx;
    if (running->options.ended != NULL) {
        running->options.ended(running->options.ctx);
    }
}

/* Lines */

static void log_name(struct rb_running *running, const struct rb_config *config)
{
    struct rb_log *log = running->log;
    rb_log_inf(log, "  Name:     %s", rb_node_name(running->node));
    rb_log_inf(log, "  ID:       %s", rb_node_id(running->node));
    rb_log_inf(log, "  Shards:   %u, transport %s", rb_node_shard_count(running->node),
               rb_node_transport(running->node));
    if (config->policy->plain_passwords) {
        rb_log_wrn(log, "Plaintext passwords detected, use nkeys or bcrypt");
    }
    if (config->config_file[0] != '\0') {
        rb_log_inf(log, "Using configuration file: %s (%s)", config->config_file,
                   config->config_digest);
    }
    if (config->max_payload > PAYLOAD_WISE) {
        rb_log_wrn(log, "Maximum payloads over 8.00 MB are generally discouraged and could lead to "
                        "poor performance");
    }
}

static void log_listeners(struct rb_running *running, const struct rb_config *config)
{
    struct rb_log *log = running->log;
    char addr[RB_ADDR_TEXT_MAX];
    const struct rb_addr *ws = rb_node_ws_addr(running->node);
    if (ws->port != 0) {
        bool tls = config->lists->websocket_tls.set;
        rb_log_inf(log, "Listening for websocket clients on %s://%s", tls ? "wss" : "ws",
                   rb_addr_format(ws, addr));
        if (!tls) {
            rb_log_wrn(log, "Websocket not configured with TLS. DO NOT USE IN PRODUCTION!");
        }
    }
    if (config->unix_socket[0] != '\0') {
        rb_log_inf(log, "Listening for client connections on unix:%s", config->unix_socket);
    }
    rb_log_inf(log, "Listening for client connections on %s",
               rb_addr_format(rb_node_addr(running->node), addr));
    if (config->proxy_protocol) {
        rb_log_inf(log, "PROXY protocol enabled for client connections");
    }
    if (config->lists->tls.set) {
        rb_log_inf(log, "TLS %s for client connections",
                   config->allow_non_tls ? "available" : "required");
        if (config->lists->tls.handshake_first &&
            config->lists->tls.handshake_first_fallback_ns == 0) {
            rb_log_wrn(log, "Clients that are not using \"TLS Handshake First\" option will fail "
                            "to connect");
        }
    }
}

/* Start and end */

static enum rb_err check_monitor(const struct rb_config *config, char error[RB_NODE_ERROR_MAX])
{
    if (config->http_port == 0 || config->https_port == 0) {
        return RB_OK;
    }
    (void)snprintf(error, RB_NODE_ERROR_MAX,
                   "Can't start monitoring: can't specify both HTTP (%d) and HTTPs (%d) ports",
                   config->http_port, config->https_port);
    return RB_ERR_INVALID;
}

static enum rb_err start_monitor(struct rb_running *running, const struct rb_config *config,
                                 char error[RB_NODE_ERROR_MAX])
{
    char why[RB_MONITOR_ERROR_MAX];
    struct rb_tls_context *tls;
    bool secure = config->https_port != 0;
    if (config->http_port == 0 && !secure) {
        return RB_OK;
    }
    struct rb_monitor_options options = { .log = running->log,
                                          .asked_host = config->http_host,
                                          .port = secure ? config->https_port : config->http_port,
                                          .base_path = config->http_base_path };
    enum rb_err err = rb_node_source(running->node, &running->source);
    if (err == RB_OK) {
        options.source = running->source;
        err = rb_monitor_factory(&options.factory);
    }
    if (err != RB_OK) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "Can't start monitoring: %s", rb_err_text(err));
        return err;
    }
    err = monitor_tls(config, &tls, error);
    if (err != RB_OK) {
        options.factory.release(options.factory.ctx);
        return err;
    }
    options.tls = tls;
    err = rb_monitor_start(&options, &running->monitor, why);
    rb_tls_context_release(tls);
    if (err == RB_ERR_IN_USE && running->options.monitor_optional) {
        rb_log_wrn(running->log, "Can't start monitoring: %s", why);
        return RB_OK;
    }
    if (err != RB_OK) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "Can't start monitoring: %s", why);
        return err;
    }
    return RB_OK;
}

static void stop_monitor(struct rb_running *running)
{
    rb_monitor_stop(running->monitor);
    running->monitor = NULL;
    rb_node_source_free(&running->source);
}

/* Before the listeners: /healthz says that the server is not ready while JetStream recovers. */
static enum rb_err up(void *ctx, char error[RB_NODE_ERROR_MAX])
{
    struct rb_running *running = ctx;
    return start_monitor(running, running->options.config, error);
}

static enum rb_err open_node(struct rb_running *running, const struct rb_config *config,
                             char error[RB_NODE_ERROR_MAX])
{
    log_name(running, config);
    enum rb_err err = check_monitor(config, error);
    if (err == RB_OK) {
        err = rb_node_open(running->node, error); /* and the monitor, see up() */
    }
    if (err == RB_OK) {
        log_listeners(running, config);
        err = write_ports(running, config, running->ports_path, error);
    }
    if (err == RB_OK) {
        rb_log_inf(running->log, "Server is ready");
    }
    return err;
}

static enum rb_err start_node(struct rb_running *running, char error[RB_NODE_ERROR_MAX])
{
    const struct rb_start_options *options = &running->options;
    struct rb_node_options node = { .config = options->config,
                                    .log = options->log,
                                    .hook = options->hook,
                                    .in_process = options->in_process,
                                    .host = { .ctx = running,
                                              .load = options->load == NULL ? NULL : load,
                                              .prepare = prepare,
                                              .applied = applied,
                                              .up = up,
                                              .ended = ended } };
    enum rb_err err = rb_node_create(&node, &running->node, error);
    if (err != RB_OK) {
        return err;
    }
    err = open_node(running, options->config, error);
    if (err != RB_OK) {
        rb_node_settle(running->node);
        rb_ports_file_remove(running->ports_path);
        stop_monitor(running);
        rb_node_stop(running->node);
    }
    return err;
}

enum rb_err rb_running_start(const struct rb_start_options *options,
                             struct rb_running **ret_running, char error[RB_NODE_ERROR_MAX])
{
    struct rb_running *running = calloc(1, sizeof(*running));
    if (running == NULL) {
        (void)snprintf(error, RB_NODE_ERROR_MAX, "%s", rb_err_text(RB_ERR_MEMORY));
        return RB_ERR_MEMORY;
    }
    running->options = *options;
    running->log = options->log;
    (void)snprintf(running->program, sizeof(running->program), "%s", options->program);
    rb_log_inf(running->log, "Starting nats-server");
    rb_log_inf(running->log, "  Version:  " RB_NATS_VERSION " (ringbus " RB_VERSION ")");
    enum rb_err err = write_pid(options->config, error);
    if (err == RB_OK) {
        err = start_node(running, error);
    }
    if (err != RB_OK) {
        free(running);
        return err;
    }
    running->options.config = NULL; /* the caller may give it up now */
    *ret_running = running;
    return RB_OK;
}

void rb_running_stop(struct rb_running *running)
{
    rb_log_inf(running->log, "Initiating Shutdown...");
    rb_node_settle(running->node);
    stop_monitor(running);
    rb_node_stop(running->node);
    rb_ports_file_remove(running->ports_path);
    rb_log_inf(running->log, "Server Exiting..");
    free(running);
}

struct rb_node *rb_running_node(struct rb_running *running)
{
    return running->node;
}

void rb_running_reopen_log(struct rb_running *running)
{
    char why[RB_NODE_ERROR_MAX];
    enum rb_err err = running->options.logout == NULL
                          ? RB_ERR_UNSUPPORTED
                          : rb_logout_reopen(running->options.logout, why, sizeof(why));
    if (err == RB_OK) {
        rb_log_inf(running->log, "File log re-opened");
    } else if (err == RB_ERR_UNSUPPORTED) {
        rb_log_inf(running->log, "File log re-open ignored, not a file logger");
    } else {
        rb_log_err(running->log, "File log re-open failed, the old file stays in use: %s", why);
    }
}

uint16_t rb_running_monitor_port(const struct rb_running *running)
{
    return running->monitor == NULL ? 0 : rb_monitor_port(running->monitor);
}
