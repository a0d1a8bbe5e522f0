/* ringbus.c - the embedding interface over a node. */
#include "ringbus/ringbus.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/config.h"
#include "server/node.h"
#include "server/switches.h"

struct rb_server {
    struct rb_node *node;
    void (*log)(void *ctx, int level, const char *message);
    void *log_ctx;
    char url[RB_ADDR_TEXT_MAX + 16];
};

static void pass_log(void *ctx, enum rb_log_level level, const char *message)
{
    struct rb_server *server = ctx;
    if (server->log != NULL) {
        server->log(server->log_ctx, (int)level, message);
    }
}

static void make_url(struct rb_server *server)
{
    struct rb_addr addr = *rb_node_addr(server->node);
    static const uint8_t zero[16];
    size_t len = addr.family == 6 ? 16 : 4;
    if (memcmp(addr.ip, zero, len) == 0) {
        addr = (struct rb_addr){ .family = 4, .ip = { 127, 0, 0, 1 }, .port = addr.port };
    }
    char text[RB_ADDR_TEXT_MAX];
    (void)snprintf(server->url, sizeof(server->url), "nats://%s", rb_addr_format(&addr, text));
}

static enum rb_err load(const struct rb_server_options *options, struct rb_config *config,
                        char error[RB_CONFIG_ERROR_MAX])
{
    rb_config_defaults(config);
    if (options->config_text != NULL) {
        enum rb_err err =
            rb_config_load_text(config, "config", rb_slice_text(options->config_text), error);
        if (err != RB_OK) {
            return err;
        }
    }
    if (config->policy == NULL) {
        enum rb_err err = rb_config_seal(config, error);
        if (err != RB_OK) {
            return err;
        }
    }
    if (options->port != 0) {
        config->port = options->port;
    }
    struct rb_log_opts opts = rb_log_opts(getenv(RB_SWITCH_DEBUG), getenv(RB_SWITCH_MONITOR));
    rb_log_opts_apply(&opts, config);
    return rb_config_check(config, error);
}

struct rb_server *rb_server_start(const struct rb_server_options *options, char *error,
                                  size_t error_cap)
{
    static const struct rb_server_options defaults;
    options = options == NULL ? &defaults : options;
    char text[RB_CONFIG_ERROR_MAX] = "";
    struct rb_server *server = calloc(1, sizeof(*server));
    struct rb_config *config = calloc(1, sizeof(*config));
    if (server == NULL || config == NULL) {
        (void)snprintf(text, sizeof(text), "%s", rb_err_text(RB_ERR_MEMORY));
    } else if (load(options, config, text) == RB_OK) {
        server->log = options->log;
        server->log_ctx = options->log_ctx;
        struct rb_log log;
        rb_log_init(&log);
        log.fd = -1;
        log.debug = config->debug;
        log.trace = config->trace;
        log.sink = pass_log;
        log.sink_ctx = server;
        struct rb_node_options node = { .config = config, .log = &log };
        if (rb_node_start(&node, &server->node, text) == RB_OK) {
            make_url(server);
        }
    }
    if (config != NULL) {
        rb_config_deinit(config);
    }
    free(config);
    if (server != NULL && server->node != NULL) {
        return server;
    }
    if (error_cap > 0) {
        (void)snprintf(error, error_cap, "%s", text);
    }
    free(server);
    return NULL;
}

const char *rb_server_client_url(const struct rb_server *server)
{
    return server->url;
}

uint16_t rb_server_port(const struct rb_server *server)
{
    return rb_node_addr(server->node)->port;
}

void rb_server_stop(struct rb_server *server)
{
    if (server != NULL) {
        rb_node_stop(server->node);
        free(server);
    }
}

const char *rb_server_version(void)
{
    return RB_VERSION;
}
