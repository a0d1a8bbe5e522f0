/* config_check.c - rules between options, checked after the command line was laid over the file. */
#include "server/config.h"

#include <ctype.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "ringbus/bounds.h"
#include "server/config_load.h"

/** False, with the text in `error`. */
__attribute__((format(printf, 2, 3))) static bool refuse(char *error, const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(error, RB_CONFIG_ERROR_MAX, format, args);
    va_end(args);
    return false;
}

bool rb_config_transport_known(const char *name)
{
    return strcmp(name, "uring") == 0 || strcmp(name, "epoll") == 0;
}

static bool is_port(int32_t port)
{
    return port >= -1 && port <= UINT16_MAX;
}

static bool check_address(const struct rb_config *config, char *error)
{
    const int32_t ports[] = { config->port, config->http_port, config->https_port,
                              config->ws_port };
    struct sockaddr_un local;
    for (size_t i = 0; i < sizeof(ports) / sizeof(ports[0]); i++) {
        if (!is_port(ports[i])) {
            return refuse(error, "port %d is not between -1 and 65535", ports[i]);
        }
    }
    if (strchr(config->server_name, ' ') != NULL) {
        return refuse(error, "server name cannot contain spaces");
    }
    if (config->client_advertise[0] != 0 && !rb_config_is_advertisable(config->client_advertise)) {
        return refuse(error, "client_advertise \"%s\" is not host:port", config->client_advertise);
    }
    if (strlen(config->unix_socket) >= sizeof(local.sun_path)) {
        return refuse(error, "unix_socket is longer than %zu bytes", sizeof(local.sun_path) - 1);
    }
    return true;
}

static bool check_monitor(const struct rb_config *config, char *error)
{
    if (config->http_port != 0 && config->https_port != 0) {
        return refuse(error, "can't specify both HTTP (%d) and HTTPs (%d) ports", config->http_port,
                      config->https_port);
    }
    if (config->https_port != 0 && (config->lists == NULL || !config->lists->tls.set)) {
        return refuse(error, "TLS cert and key required for HTTPS");
    }
    return true;
}

static bool check_limits(const struct rb_config *config, char *error)
{
    char grace[RB_DURATION_TEXT_MAX], duration[RB_DURATION_TEXT_MAX];
    if (config->max_payload > config->max_pending_bytes) {
        return refuse(error, "max_payload (%u) cannot be higher than max_pending (%" PRIu64 ")",
                      config->max_payload, config->max_pending_bytes);
    }
    if (config->lame_duck_grace_ns >= config->lame_duck_duration_ns) {
        return refuse(
            error,
            "lame duck grace period (%s) should be strictly lower than lame duck duration (%s)",
            rb_config_show_duration((int64_t)config->lame_duck_grace_ns, grace),
            rb_config_show_duration((int64_t)config->lame_duck_duration_ns, duration));
    }
    if (config->shards > RB_SHARDS_MAX) {
        return refuse(error, "shards %u is not between 1 and %d", config->shards, RB_SHARDS_MAX);
    }
    if (!rb_config_transport_known(config->transport)) {
        return refuse(error, "transport \"%s\" is not supported by ringbus yet", config->transport);
    }
    return true;
}

static bool check_syslog(const struct rb_config *config, char *error)
{
    const char *target = config->remote_syslog;
    size_t scheme = strcspn(target, ":");
    if (target[0] == 0) {
        return true;
    }
    bool known =
        (scheme == 3 && (strncmp(target, "udp", 3) == 0 || strncmp(target, "tcp", 3) == 0)) ||
        (scheme == 4 && strncmp(target, "unix", 4) == 0);
    if (!known || strncmp(target + scheme, "://", 3) != 0 || target[scheme + 3] == 0) {
        return refuse(error,
                      "remote_syslog \"%s\" is not udp://host:port, tcp://host:port or "
                      "unix:///path",
                      target);
    }
    return true;
}

/** An absolute http or https URL with a host. */
static bool check_origin(const char *origin, char *error)
{
    const char *host = strstr(origin, "://");
    if (strchr(origin, ':') == NULL) {
        return refuse(
            error, "unable to parse allowed origin: parse \"%s\": invalid URI for request", origin);
    }
    bool http = strncasecmp(origin, "http://", 7) == 0 || strncasecmp(origin, "https://", 8) == 0;
    if (!http || host == NULL || host[3] == 0 || host[3] == '/') {
        return refuse(error,
                      "unable to parse allowed origin \"%s\": allowed origins must be absolute "
                      "URLs with http or https scheme",
                      origin);
    }
    return true;
}

static bool check_websocket(const struct rb_config *config, char *error)
{
    const struct rb_config_lists *lists = config->lists;
    const struct rb_policy *policy = config->policy;
    if (!config->ws_set || config->ws_port == 0) {
        return true;
    }
    if (!config->ws_no_tls && (lists == NULL || !lists->websocket_tls.set)) {
        return refuse(error, "websocket requires TLS configuration");
    }
    for (uint32_t i = 0; lists != NULL && i < lists->ws_origin_count; i++) {
        if (!check_origin(lists->ws_origins[i], error)) {
            return false;
        }
    }
    if (policy != NULL && policy->user_count > 0 && policy->websocket_login.user.len > 0) {
        return refuse(error, "websocket authentication username not compatible with presence of "
                             "users/nkeys");
    }
    if (policy != NULL && policy->user_count > 0 && policy->websocket_login.token.len > 0) {
        return refuse(error, "websocket authentication token not compatible with presence of "
                             "users/nkeys");
    }
    if (config->ws_advertise[0] != 0 && !rb_config_is_advertisable(config->ws_advertise)) {
        return refuse(error, "websocket advertise \"%s\" is not host:port", config->ws_advertise);
    }
    return true;
}

static bool check_jetstream(const struct rb_config *config, char *error)
{
    const struct rb_policy *policy = config->policy;
    if (!rb_config_domain_valid(config->jetstream.domain)) {
        return refuse(error, "invalid domain name: may not contain ., * or >");
    }
    if (policy != NULL && policy->system_account >= 0 &&
        policy->accounts[policy->system_account].jetstream != NULL && config->jetstream.enabled) {
        return refuse(error, "jetstream can not be enabled on the system account");
    }
    return true;
}

enum rb_err rb_config_check(const struct rb_config *config, char error[RB_CONFIG_ERROR_MAX])
{
    error[0] = 0;
    bool fine = check_limits(config, error) && check_address(config, error) &&
                check_monitor(config, error) && check_syslog(config, error) &&
                check_websocket(config, error) && check_jetstream(config, error);
    return fine ? RB_OK : RB_ERR_INVALID;
}
