/* monitor.c - the monitor's thread, its listeners, and which path gives which page.
 *
 * 1. It listens on 127.0.0.1 and ::1 through the kernel and nowhere else: there is no login.
 * 2. Pages are made on this thread, one at a time; shards are only asked for snapshots.
 * 3. The transport lives on the thread; only its factory's wake() is called from outside.
 */
#include "server/monitor.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/check.h"
#include "server/docs.h"
#include "server/http_server.h"
#include "tls/tls.h"

#define PORT_TRIES 16 /* for a free port that both addresses have */
#define PATH_MAX_BYTES 512

struct rb_monitor {
    struct rb_monitor_options options;
    char host[RB_CONFIG_TEXT_MAX], base[RB_CONFIG_TEXT_MAX];
    struct rb_env env;
    struct rb_budget budget;
    struct rb_transport *transport;
    struct rb_http_server *server;
    struct rb_process_usage usage;
    struct rb_counter requests[RB_PAGE_COUNTED];
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct rb_tls_context *tls; /* under the lock; NULL: http. It never changes between the two */
    bool ready;                 /* under the lock */
    enum rb_err err;            /* of starting; with `error` valid once ready */
    char error[RB_MONITOR_ERROR_MAX];
    uint16_t port;
    bool ipv6, secure;
    _Atomic bool stopping;
};

/* Pages */

struct page {
    enum rb_page page;
    int doc; /* enum rb_monitor_doc; -1: not a JSON document */
    uint32_t indent;
};

static const struct page pages[] = {
    { RB_PAGE_ROOT, -1, 0 },
    { RB_PAGE_VARZ, RB_DOC_VARZ, 2 },
    { RB_PAGE_CONNZ, RB_DOC_CONNZ, 2 },
    { RB_PAGE_ROUTEZ, RB_DOC_ROUTEZ, 2 },
    { RB_PAGE_GATEWAYZ, RB_DOC_GATEWAYZ, 2 },
    { RB_PAGE_LEAFZ, RB_DOC_LEAFZ, 2 },
    { RB_PAGE_SUBSZ, RB_DOC_SUBSZ, 2 },
    { RB_PAGE_ACCOUNTZ, RB_DOC_ACCOUNTZ, 2 },
    { RB_PAGE_ACCSTATZ, RB_DOC_ACCSTATZ, 2 },
    { RB_PAGE_JSZ, RB_DOC_JSZ, 2 },
    { RB_PAGE_HEALTHZ, RB_DOC_HEALTHZ, 0 },
    { RB_PAGE_IPQUEUESZ, RB_DOC_IPQUEUESZ, 3 },
    { RB_PAGE_RAFTZ, RB_DOC_RAFTZ, 3 },
    { RB_PAGE_DEBUG_VARS, RB_DOC_EXPVARZ, 2 },
    { RB_PAGE_DASHBOARDZ, RB_DOC_DASHBOARDZ, 2 },
    { RB_PAGE_DASHBOARD, -1, 0 },
    { RB_PAGE_METRICS, -1, 0 },
    { RB_PAGE_STACKSZ, -1, 0 },
};

/* The page at `path`, or NULL. */
static const struct page *find_page(const struct rb_monitor *monitor, const char *path)
{
    size_t base_len = strlen(monitor->base); /* "" or "/base" */
    if (strncmp(path, monitor->base, base_len) != 0) {
        return NULL;
    }
    const char *rest = path + base_len;
    if (strcmp(rest, base_len == 0 ? "/" : "") == 0) {
        return &pages[0];
    }
    if (strcmp(rest, "/subscriptionsz") == 0) {
        rest = rb_page_path(RB_PAGE_SUBSZ);
    }
    for (size_t i = 1; i < sizeof(pages) / sizeof(pages[0]); i++) {
        if (strcmp(rest, rb_page_path(pages[i].page)) == 0) {
            return &pages[i];
        }
    }
    return NULL;
}

static void plain(struct rb_http_response *response, int status, const char *text)
{
    response->status = status;
    response->content_type = "text/plain; charset=utf-8";
    response->any_origin = false;
    rb_text_puts(&response->body, text);
}

/* A view with the facts that the monitor itself adds. */
static bool open_view(struct rb_monitor *monitor, struct rb_monitor_view *view,
                      uint64_t counts[RB_PAGE_COUNTED], struct rb_http_response *response)
{
    *view = (struct rb_monitor_view){ 0 };
    if (monitor->options.source.open(monitor->options.source.ctx, view) != RB_OK) {
        plain(response, 503, "the server is not ready");
        return false;
    }
    rb_process_usage_read(&monitor->usage, rb_env_now(&monitor->env));
    view->cpu_percent = monitor->usage.cpu_percent;
    view->rss_bytes = monitor->usage.rss_bytes;
    view->http_port = monitor->secure ? 0 : monitor->port;
    view->https_port = monitor->secure ? monitor->port : 0;
    rb_monitor_requests(monitor, counts);
    view->http_requests = counts;
    return true;
}

static bool collect(struct rb_monitor *monitor, struct rb_monitor_view *view,
                    const struct rb_snapshot_request *request, struct rb_http_response *response)
{
    const struct rb_monitor_source *source = &monitor->options.source;
    enum rb_err err = source->collect(source->ctx, request, &view->snapshot);
    if (err == RB_OK && view->snapshot->incomplete) {
        err = RB_ERR_MEMORY;
    }
    if (err != RB_OK) {
        char text[128];
        (void)snprintf(text, sizeof(text), "the shards could not be asked: %s", rb_err_text(err));
        plain(response, 503, text);
    }
    return err == RB_OK;
}

static void log_health(struct rb_monitor *monitor, const struct rb_doc_options *options,
                       const struct rb_doc_error *error)
{
    if (options->js_enabled) {
        rb_log_wrn(monitor->options.log, "Healthcheck: js-enabled deprecated, use js-enabled-only");
    }
    if (error->status != 200) {
        rb_log_wrn(monitor->options.log, "Healthcheck failed: \"%s\"", error->text);
    }
}

static void serve_doc(struct rb_monitor *monitor, const struct page *page, struct rb_slice query,
                      struct rb_monitor_view *view, struct rb_http_response *response)
{
    enum rb_monitor_doc kind = (enum rb_monitor_doc)page->doc;
    struct rb_doc_options options;
    struct rb_doc_error error;
    struct rb_snapshot_request wanted;
    if (!rb_doc_from_query(kind, query, &options, &error)) {
        plain(response, error.status, error.text);
        return;
    }
    if (rb_doc_plan(kind, view, &options, &wanted) && !collect(monitor, view, &wanted, response)) {
        return;
    }
    struct rb_json_out json;
    rb_json_out_init(&json, &response->body, page->indent);
    response->content_type = "application/json";
    response->any_origin = true;
    if (!rb_doc_build(kind, view, &options, false, &json, &error)) {
        plain(response, error.status, error.text);
        return;
    }
    response->status = error.status;
    if (kind == RB_DOC_HEALTHZ) {
        log_health(monitor, &options, &error);
    } else if (kind == RB_DOC_EXPVARZ) {
        response->content_type = "application/json; charset=utf-8";
        response->any_origin = false;
    }
}

static void serve_page(struct rb_monitor *monitor, const struct page *page,
                       struct rb_monitor_view *view, struct rb_http_response *response)
{
    struct rb_slice html;
    switch (page->page) {
    case RB_PAGE_ROOT:
        response->content_type = "text/html; charset=utf-8";
        rb_page_root(view, monitor->base, &response->body);
        break;
    case RB_PAGE_DASHBOARD:
        response->content_type = "text/html; charset=utf-8";
        html = rb_page_dashboard();
        rb_text_slice(&response->body, html);
        break;
    case RB_PAGE_STACKSZ:
        response->content_type = "application/json"; /* as nats-server says of its text */
        response->any_origin = true;
        rb_page_stacksz(&response->body);
        break;
    case RB_PAGE_METRICS: {
        struct rb_snapshot_request wanted = { .conns = RB_CONNS_OPEN,
                                              .conn_account = -1,
                                              .accounts = true,
                                              .sub_account = -1,
                                              .js = view->jetstream.enabled,
                                              .js_streams = true,
                                              .js_consumers = true };
        if (collect(monitor, view, &wanted, response)) {
            response->content_type = "text/plain; version=0.0.4; charset=utf-8";
            rb_page_metrics(view, &response->body);
        }
        break;
    }
    default:
        break;
    }
}

static void handle(void *ctx, const struct rb_http_request *request,
                   struct rb_http_response *response)
{
    struct rb_monitor *monitor = ctx;
    char path[PATH_MAX_BYTES];
    const struct page *page = NULL;
    if (rb_http_unescape(request->path, path, sizeof(path))) {
        page = find_page(monitor, path);
    }
    if (page == NULL) {
        plain(response, 404, "404 page not found\n");
        response->no_sniff = true;
        return;
    }
    if (page->page < RB_PAGE_COUNTED) {
        rb_counter_add(&monitor->requests[page->page], 1);
    }
    struct rb_monitor_view view;
    uint64_t counts[RB_PAGE_COUNTED];
    if (!open_view(monitor, &view, counts, response)) {
        return;
    }
    if (page->doc >= 0) {
        serve_doc(monitor, page, request->query, &view, response);
    } else {
        serve_page(monitor, page, &view, response);
    }
    monitor->options.source.close(monitor->options.source.ctx, &view);
}

/* TLS */

static struct rb_tls_context *current_tls(void *ctx)
{
    struct rb_monitor *monitor = ctx;
    pthread_mutex_lock(&monitor->lock);
    struct rb_tls_context *tls = monitor->tls == NULL ? NULL : rb_tls_context_hold(monitor->tls);
    pthread_mutex_unlock(&monitor->lock);
    return tls;
}

void rb_monitor_set_tls(struct rb_monitor *monitor, struct rb_tls_context *tls)
{
    rb_assert(monitor->secure && tls != NULL);
    pthread_mutex_lock(&monitor->lock);
    struct rb_tls_context *before = monitor->tls;
    monitor->tls = rb_tls_context_hold(tls);
    pthread_mutex_unlock(&monitor->lock);
    rb_tls_context_release(before);
}

/* Listening */

static const struct rb_addr loopback4 = { .family = 4, .ip = { 127, 0, 0, 1 } };
static const struct rb_addr loopback6 = { .family = 6, .ip = { [15] = 1 } };

static enum rb_err listen_on(struct rb_monitor *monitor, struct rb_addr addr, uint16_t port,
                             uint16_t *ret_port)
{
    struct rb_addr bound;
    addr.port = port;
    enum rb_err err = rb_http_server_listen(monitor->server, &addr, &bound);
    if (err == RB_OK) {
        *ret_port = bound.port;
    }
    return err;
}

/* 127.0.0.1 first, then ::1 on the same port. A machine without IPv6 has only the first. */
static enum rb_err listen_both(struct rb_monitor *monitor)
{
    uint16_t asked = monitor->options.port < 0 ? 0 : (uint16_t)monitor->options.port;
    enum rb_err err = listen_on(monitor, loopback4, asked, &monitor->port);
    if (err != RB_OK) {
        return err;
    }
    uint16_t port6;
    err = listen_on(monitor, loopback6, monitor->port, &port6);
    monitor->ipv6 = err == RB_OK;
    return err == RB_ERR_IN_USE || err == RB_ERR_LIMIT ? err : RB_OK;
}

static bool is_loopback_name(const char *host)
{
    static const char *const names[] = { "", "127.0.0.1", "::1", "[::1]", "localhost" };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(host, names[i]) == 0) {
            return true;
        }
    }
    return false;
}

static void say_where(struct rb_monitor *monitor)
{
    const char *scheme = monitor->secure ? "https" : "http";
    const char *both = monitor->ipv6 ? "127.0.0.1 and ::1" : "127.0.0.1";
    if (!is_loopback_name(monitor->host)) {
        bool colons = strchr(monitor->host, ':') != NULL && monitor->host[0] != '[';
        rb_log_wrn(monitor->options.log,
                   "%s monitor was asked to listen on %s%s%s:%u, it listens on %s only, because it "
                   "has no login",
                   scheme, colons ? "[" : "", monitor->host, colons ? "]" : "", monitor->port,
                   both);
    }
    rb_log_inf(monitor->options.log, "Starting %s monitor on 127.0.0.1:%u", scheme, monitor->port);
}

/* The thread */

static enum rb_err start_up(struct rb_monitor *monitor)
{
    const struct rb_transport_factory *factory = &monitor->options.factory;
    enum rb_err err = factory->create(factory->ctx, &monitor->budget, &monitor->transport);
    if (err != RB_OK) {
        (void)snprintf(monitor->error, sizeof(monitor->error), "http monitor: %s",
                       rb_err_text(err));
        return err;
    }
    struct rb_http_options options = { .transport = monitor->transport,
                                       .env = &monitor->env,
                                       .budget = &monitor->budget,
                                       .handler = handle,
                                       .tls = monitor->secure ? current_tls : NULL,
                                       .ctx = monitor };
    err = rb_http_server_create(&options, &monitor->server);
    if (err == RB_OK) {
        err = listen_both(monitor);
    }
    if (err != RB_OK) {
        (void)snprintf(monitor->error, sizeof(monitor->error),
                       "can't listen to the monitor port: listen tcp 127.0.0.1:%d: bind: %s",
                       monitor->options.port < 0 ? 0 : monitor->options.port,
                       err == RB_ERR_IN_USE ? "address already in use" : rb_err_text(err));
    }
    return err;
}

static void tear_down(struct rb_monitor *monitor)
{
    monitor->options.factory.destroy(monitor->options.factory.ctx);
    if (monitor->server != NULL) {
        rb_http_server_destroy(monitor->server);
        monitor->server = NULL;
    }
    monitor->transport = NULL;
}

static void announce(struct rb_monitor *monitor, enum rb_err err)
{
    pthread_mutex_lock(&monitor->lock);
    monitor->err = err;
    monitor->ready = true;
    pthread_cond_broadcast(&monitor->changed);
    pthread_mutex_unlock(&monitor->lock);
}

static void *monitor_main(void *arg)
{
    struct rb_monitor *monitor = arg;
    (void)pthread_setname_np(pthread_self(), "monitor");
    enum rb_err err = start_up(monitor);
    /* A random port may be taken on ::1: try another. */
    for (int tries = 1; err == RB_ERR_IN_USE && monitor->options.port < 0 && tries < PORT_TRIES;
         tries++) {
        tear_down(monitor);
        err = start_up(monitor);
    }
    if (err == RB_OK) {
        say_where(monitor);
        announce(monitor, RB_OK);
        while (!atomic_load(&monitor->stopping)) {
            rb_http_server_turn(monitor->server, -1);
        }
        tear_down(monitor);
    } else {
        tear_down(monitor);
        announce(monitor, err);
    }
    return NULL;
}

/* Start and stop */

static void free_monitor(struct rb_monitor *monitor)
{
    monitor->options.factory.release(monitor->options.factory.ctx);
    rb_tls_context_release(monitor->tls);
    (void)pthread_mutex_destroy(&monitor->lock);
    (void)pthread_cond_destroy(&monitor->changed);
    free(monitor);
}

static bool copy_texts(struct rb_monitor *monitor, const struct rb_monitor_options *options)
{
    const char *host = options->asked_host == NULL ? "" : options->asked_host;
    const char *base = options->base_path == NULL ? "" : options->base_path;
    size_t base_len = strlen(base);
    while (base_len > 0 && base[base_len - 1] == '/') {
        base_len--;
    }
    if (strlen(host) >= sizeof(monitor->host) || base_len >= sizeof(monitor->base)) {
        return false;
    }
    (void)snprintf(monitor->host, sizeof(monitor->host), "%s", host);
    (void)snprintf(monitor->base, sizeof(monitor->base), "%.*s", (int)base_len, base);
    monitor->options.asked_host = monitor->host;
    monitor->options.base_path = monitor->base;
    return true;
}

enum rb_err rb_monitor_start(const struct rb_monitor_options *options,
                             struct rb_monitor **ret_monitor, char error[RB_MONITOR_ERROR_MAX])
{
    struct rb_monitor *monitor = calloc(1, sizeof(*monitor));
    if (monitor == NULL) {
        options->factory.release(options->factory.ctx);
        (void)snprintf(error, RB_MONITOR_ERROR_MAX, "http monitor: out of memory");
        return RB_ERR_MEMORY;
    }
    monitor->options = *options;
    monitor->secure = options->tls != NULL;
    monitor->tls = monitor->secure ? rb_tls_context_hold(options->tls) : NULL;
    rb_env_init_system(&monitor->env);
    (void)pthread_mutex_init(&monitor->lock, NULL);
    (void)pthread_cond_init(&monitor->changed, NULL);
    enum rb_err err = RB_OK;
    if (!copy_texts(monitor, options)) {
        (void)snprintf(error, RB_MONITOR_ERROR_MAX, "http monitor: host or base path is too long");
        err = RB_ERR_INVALID;
    } else if (pthread_create(&monitor->thread, NULL, monitor_main, monitor) != 0) {
        (void)snprintf(error, RB_MONITOR_ERROR_MAX, "http monitor: cannot start its thread");
        err = RB_ERR_LIMIT;
    }
    if (err != RB_OK) {
        free_monitor(monitor);
        return err;
    }
    pthread_mutex_lock(&monitor->lock);
    while (!monitor->ready) {
        pthread_cond_wait(&monitor->changed, &monitor->lock);
    }
    err = monitor->err;
    pthread_mutex_unlock(&monitor->lock);
    if (err != RB_OK) {
        (void)pthread_join(monitor->thread, NULL);
        (void)snprintf(error, RB_MONITOR_ERROR_MAX, "%s", monitor->error);
        free_monitor(monitor);
        return err;
    }
    *ret_monitor = monitor;
    return RB_OK;
}

uint16_t rb_monitor_port(const struct rb_monitor *monitor)
{
    return monitor->port;
}

void rb_monitor_requests(const struct rb_monitor *monitor, uint64_t ret_counts[RB_PAGE_COUNTED])
{
    for (uint32_t i = 0; i < RB_PAGE_COUNTED; i++) {
        ret_counts[i] = rb_counter_get(&monitor->requests[i]);
    }
}

void rb_monitor_stop(struct rb_monitor *monitor)
{
    if (monitor == NULL) {
        return;
    }
    atomic_store(&monitor->stopping, true);
    monitor->options.factory.wake(monitor->options.factory.ctx);
    (void)pthread_join(monitor->thread, NULL);
    free_monitor(monitor);
}
