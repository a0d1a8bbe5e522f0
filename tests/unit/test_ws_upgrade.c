/* test_ws_upgrade.c - which requests become a WebSocket, and what the others are told. */
#include "proto/ws.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include <cmocka.h>

#define KEY "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
#define VERSION "Sec-WebSocket-Version: 13\r\n"
#define UPGRADE "Upgrade: websocket\r\n"
#define CONNECTION "Connection: Upgrade\r\n"
#define ALL "Host: h:80\r\n" UPGRADE CONNECTION KEY VERSION

#define ACCEPTED                                                                                   \
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"            \
    "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
#define DEFLATE                                                                                    \
    "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover; "                   \
    "client_no_context_takeover\r\n"

static char response[2049];
static char text[20000];
static struct rb_http_request request;
static struct rb_ws_accept accept_info;

/* The request "line" with `headers`, under `options`; the outcome is in `accept_info` and `response`. */
static int ask(const char *line, const char *headers, const struct rb_ws_options *options)
{
    static const struct rb_ws_options plain = { .compression = false };
    size_t len = 0;
    snprintf(text, sizeof(text), "%s HTTP/1.1\r\n%s\r\n", line, headers);
    assert_int_equal(rb_http_parse(rb_slice_text(text), &request, &len), RB_HTTP_DONE);
    memset(&accept_info, 0xff, sizeof(accept_info));
    len = rb_ws_upgrade(&request, options == NULL ? &plain : options, false, (uint8_t *)response,
                        2048, &accept_info);
    response[len] = '\0';
    return accept_info.status;
}

static void assert_refused(const char *line, const char *headers, int status, const char *error)
{
    static const struct rb_ws_options options = { .compression = true };
    char wanted[512];
    const char *name = rb_http_status_text(status);
    assert_int_equal(ask(line, headers, &options), status);
    assert_string_equal(accept_info.error, error);
    snprintf(
        wanted, sizeof(wanted),
        "HTTP/1.1 %s\r\nContent-Type: text/plain; charset=utf-8\r\nSec-Websocket-Version: 13\r\n"
        "X-Content-Type-Options: nosniff\r\nConnection: close\r\nContent-Length: %zu\r\n\r\n%s\n",
        name, strlen(name + 4) + 1, name + 4);
    assert_string_equal(response, wanted);
    assert_false(accept_info.deflate || accept_info.no_masking || accept_info.browser);
}

/* RFC 6455 1.3 has the key and its answer. */
static void a_request_is_accepted(void **state)
{
    assert_int_equal(ask("GET /", ALL, NULL), 101);
    assert_string_equal(response, ACCEPTED "\r\n");
    assert_null(accept_info.error);
    assert_false(accept_info.deflate || accept_info.no_masking || accept_info.browser ||
                 accept_info.safari);
    assert_int_equal(accept_info.forwarded.len, 0);
    assert_int_equal(ask("GET /any/path?x=1", ALL, NULL), 101);
    assert_int_equal(ask("GET /mqtt/", ALL, NULL), 101);
}

static void refusals_come_in_order(void **state)
{
    static const char *const get = "GET /", *const post = "POST /";
    assert_refused("POST /mqtt", "", 404, "mqtt websocket endpoint not enabled");
    assert_refused("GET /a/leafnode", ALL, 404, "leafnode websocket endpoint not enabled");
    assert_refused(post, "", 405, "request method must be GET");
    assert_refused("get /", ALL, 405, "request method must be GET");
    assert_refused(get, "", 400, "'Host' missing in request");
    assert_refused(get, "Host:\r\n" UPGRADE CONNECTION KEY VERSION, 400,
                   "'Host' missing in request");
    assert_refused(get, "Host: h\r\n", 400, "invalid value for header 'Upgrade'");
    assert_refused(get, "Host: h\r\nUpgrade: websocket/13\r\n" CONNECTION KEY VERSION, 400,
                   "invalid value for header 'Upgrade'");
    assert_refused(get, "Host: h\r\nUpgrade: a websocket\r\n" CONNECTION KEY VERSION, 400,
                   "invalid value for header 'Upgrade'");
    assert_refused(get, "Host: h\r\n" UPGRADE, 400, "invalid value for header 'Connection'");
    assert_refused(get, "Host: h\r\n" UPGRADE "Connection: keep-alive\r\n" KEY VERSION, 400,
                   "invalid value for header 'Connection'");
    assert_refused(get, "Host: h\r\n" UPGRADE CONNECTION, 400, "key missing");
    assert_refused(get, "Host: h\r\n" UPGRADE CONNECTION KEY, 400, "invalid version");
    assert_refused(get, "Host: h\r\n" UPGRADE CONNECTION KEY "Sec-WebSocket-Version: 8\r\n", 400,
                   "invalid version");
    assert_refused(get, "Host: h\r\n" UPGRADE CONNECTION KEY "Sec-WebSocket-Version: 013\r\n", 400,
                   "invalid version");
}

static void keys_are_16_bytes(void **state)
{
    static const char *const bad[] = {
        "abc",
        "AAAAAAAAAAAAAAAAAAAA",       /* 15 bytes */
        "AAAAAAAAAAAAAAAAAAAAAAA=",   /* 17 */
        "AAAAAAAAAAAAAAAAAAAAAA==AA", /* more behind the end */
        "AAAAAAAAAAAAAAAAAAAA-A==",   /* the other alphabet */
        "AAAA AAAAAAAAAAAAAAAAA==",
        "AAAAAAAAAAAAAAAAAAAAAA=A",
    };
    char headers[256];
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        snprintf(headers, sizeof(headers),
                 "Host: h\r\n" UPGRADE CONNECTION "Sec-WebSocket-Key: %s\r\n" VERSION, bad[i]);
        assert_refused("GET /", headers, 400, "invalid websocket key");
    }
    ask("GET /",
        "Host: h\r\n" UPGRADE CONNECTION "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAB==\r\n" VERSION,
        NULL);
    assert_int_equal(accept_info.status, 101);
    assert_non_null(strstr(response, "Sec-WebSocket-Accept: NRJrplgTSmBqvVaQhF+6peBS1S8=\r\n"));
}

static void lists_and_case_are_understood(void **state)
{
    assert_int_equal(ask("GET /",
                         "Host: h\r\nupgrade: foo\r\nUPGRADE: h2c, WebSocket\r\n"
                         "Connection: keep-alive, upgrade\r\n" KEY
                         "Sec-WebSocket-Version: 8\r\nSec-WebSocket-Version: 13, 7\r\n",
                         NULL),
                     101);
}

static void bytes_behind_the_request_are_refused(void **state)
{
    struct rb_ws_options options = { .compression = true };
    ask("GET /", ALL, &options);
    size_t len = rb_ws_upgrade(&request, &options, true, (uint8_t *)response, 2048, &accept_info);
    response[len] = '\0';
    assert_int_equal(accept_info.status, 400);
    assert_string_equal(accept_info.error, "client sent data before handshake is complete");
    assert_non_null(strstr(response, "400 Bad Request"));
    ask("POST /", ALL, &options); /* what was wrong before is what counts */
    rb_ws_upgrade(&request, &options, true, (uint8_t *)response, 2048, &accept_info);
    assert_int_equal(accept_info.status, 405);
}

static void assert_deflate(const char *extensions, bool compression, bool wanted)
{
    char headers[512];
    struct rb_ws_options options = { .compression = compression };
    snprintf(headers, sizeof(headers), ALL "%s", extensions);
    assert_int_equal(ask("GET /", headers, &options), 101);
    assert_int_equal(accept_info.deflate, wanted);
    assert_string_equal(response, wanted ? ACCEPTED DEFLATE "\r\n" : ACCEPTED "\r\n");
}

#define EXT "Sec-WebSocket-Extensions: "
static void compression_is_negotiated(void **state)
{
    assert_deflate(EXT "permessage-deflate\r\n", true, true);
    assert_deflate(EXT "permessage-deflate\r\n", false, false);
    assert_deflate("", true, false);
    assert_deflate(EXT "permessage-deflate; client_max_window_bits\r\n", true, true);
    assert_deflate(EXT "foo , PerMessage-Deflate ;x=y\r\n", true, true);
    assert_deflate(EXT "foo\r\n" EXT "permessage-deflate\r\n", true, true);
    assert_deflate(EXT "x-permessage-deflate\r\n", true, false);
    assert_deflate(EXT "foo; permessage-deflate\r\n", true, false);
    assert_deflate(EXT ",;,\r\n", true, false);
    /* A smaller window cannot be promised; the next offer may do without. */
    assert_deflate(EXT "permessage-deflate; server_max_window_bits=10\r\n", true, false);
    assert_deflate(EXT "permessage-deflate; server_max_window_bits=10, permessage-deflate\r\n",
                   true, true);
}

static void masking_can_be_waived(void **state)
{
    assert_int_equal(ask("GET /", ALL "Nats-No-Masking: true\r\n", NULL), 101);
    assert_true(accept_info.no_masking);
    assert_string_equal(response, ACCEPTED "Nats-No-Masking: true\r\n\r\n");
    assert_int_equal(ask("GET /", ALL "Nats-No-Masking: True\r\n", NULL), 101);
    assert_false(accept_info.no_masking);
    assert_string_equal(response, ACCEPTED "\r\n");
}

static void configured_headers_come_last(void **state)
{
    struct rb_ws_options options = { .compression = true, .headers = RB_S("A: b\r\nC: d\r\n") };
    assert_int_equal(
        ask("GET /", ALL EXT "permessage-deflate\r\nNats-No-Masking: true\r\n", &options), 101);
    assert_string_equal(response, ACCEPTED DEFLATE "Nats-No-Masking: true\r\nA: b\r\nC: d\r\n\r\n");
}

#define AGENT "User-Agent: "
static void browsers_are_known(void **state)
{
    ask("GET /", ALL AGENT "Mozilla/5.0 (X11) Gecko/20100101 Firefox/115.0\r\n", NULL);
    assert_true(accept_info.browser && !accept_info.safari);
    ask("GET /", ALL AGENT "Mozilla/5.0 AppleWebKit/605 Version/17.0 Safari/605\r\n", NULL);
    assert_true(accept_info.browser && accept_info.safari);
    ask("GET /", ALL AGENT "Mozilla/5.0 AppleWebKit/537 Chrome/120 Safari/537\r\n", NULL);
    assert_true(accept_info.browser && !accept_info.safari);
    ask("GET /", ALL AGENT "curl Mozilla/5.0 Version/1 Safari/1\r\n", NULL);
    assert_false(accept_info.browser || accept_info.safari);
}

static void assert_forwarded(const char *header, const char *wanted)
{
    char headers[512];
    snprintf(headers, sizeof(headers), ALL "%s", header);
    assert_int_equal(ask("GET /", headers, NULL), 101);
    assert_int_equal(accept_info.forwarded.len, strlen(wanted));
    assert_memory_equal(accept_info.forwarded.ptr == NULL ? (const uint8_t *)""
                                                          : accept_info.forwarded.ptr,
                        wanted, strlen(wanted));
}

#define FORWARDED "X-Forwarded-For:"
static void forwarded_addresses_are_read(void **state)
{
    assert_forwarded("", "");
    assert_forwarded(FORWARDED "1.2.3.4\r\n", "1.2.3.4");
    assert_forwarded(FORWARDED " 1.2.3.4 , 5.6.7.8\r\n", "1.2.3.4");
    assert_forwarded(FORWARDED " 2001:db8::1\r\n", "2001:db8::1");
    assert_forwarded(FORWARDED " 1.2.3.4\r\n" FORWARDED " 5.6.7.8\r\n", "1.2.3.4");
    assert_forwarded(FORWARDED " unknown, 1.2.3.4\r\n", "");
    assert_forwarded(FORWARDED " 1.2.3.4:80\r\n", "");
    assert_forwarded(FORWARDED " 1.2.3\r\n", "");
    assert_forwarded(FORWARDED "\r\n", "");
    assert_forwarded(FORWARDED " 0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000\r\n", "");
}

static int ask_origin(const char *host, const char *origin, const struct rb_ws_options *options)
{
    char headers[512];
    snprintf(headers, sizeof(headers),
             "Host: %s\r\n" UPGRADE CONNECTION KEY VERSION "Origin: %s\r\n", host, origin);
    return ask("GET /", headers, options);
}

/* The outcomes of nats-server 2.15.2, but for a user in the origin, which it lets pass. */
static void same_origin_compares_scheme_host_port(void **state)
{
    static const struct {
        const char *host, *origin;
        int plain, tls;
    } cases[] = {
        { "h:1", "http://h:1", 101, 403 },
        { "H:1", "HTTP://h:1", 101, 403 },
        { "h:1", "https://h:1", 403, 101 },
        { "h", "http://h", 101, 403 },
        { "h", "http://h:80", 101, 403 },
        { "h:80", "http://h", 101, 403 },
        { "h", "https://h", 403, 101 },
        { "h:443", "https://h", 403, 101 },
        { "h:1", "http://h", 403, 403 },
        { "h:1", "http://g:1", 403, 403 },
        { "h:80", "ws://h", 403, 403 },
        { "h:80", "null", 403, 403 },
        { "h:80", "h", 403, 403 },
        { "h:80", "h:80", 403, 403 },
        { "h:80", "://h", 403, 403 },
        { "h:80", "http://h:", 403, 403 },
        { "h:80", "http://h:x", 403, 403 },
        { "h:80", "http://h:65616", 403, 403 },
        { "h:80", "http://h:000080", 403, 403 },
        { "h:80", "http://[h", 403, 403 },
        { "h:80", "http://h h", 403, 403 },
        { "h:80", "http://x@h", 403, 403 },
        { "h:80", "http://%68", 403, 403 },
        { "h:80", "http://h\\.evil", 403, 403 },
        { "h:80", "http://", 403, 403 },
        { "h:80", "http://h/path?q", 101, 403 },
        { "h:80", "", 101, 101 },
        { "[::1]:5", "http://[::1]:5", 101, 403 },
        { "[::1]", "http://[::1]", 101, 403 },
        { "[::1]5", "http://[::1]:5", 403, 403 },
        { "::1", "http://[::1]", 403, 403 },
        { "a:b:c", "http://a", 403, 403 },
        { ":9", "http://own:9", 101, 403 }, /* no host in Host: our own */
        { ":9", "http://:9", 403, 403 },
    };
    struct rb_ws_options options = { .same_origin = true, .host = RB_S("own:9") };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        for (int tls = 0; tls < 2; tls++) {
            options.tls = tls == 1;
            int wanted = options.tls ? cases[i].tls : cases[i].plain;
            if (ask_origin(cases[i].host, cases[i].origin, &options) != wanted) {
                fail_msg("%s from %s: %d", cases[i].host, cases[i].origin, accept_info.status);
            }
            assert_true(wanted == 101 ||
                        strncmp(accept_info.error, "origin not allowed: ", 20) == 0);
        }
    }
    options.tls = false;
    ask_origin("h:1", "http://h", &options);
    assert_string_equal(accept_info.error, "origin not allowed: not same origin");
    options.host = rb_slice_of(NULL, 0);
    assert_int_equal(ask_origin(":9", "http://own:9", &options), 403);
}

static void other_places_of_an_origin(void **state)
{
    struct rb_ws_options options = { .same_origin = true };
    assert_int_equal(ask("GET /", ALL, &options), 101); /* no browser */
    assert_int_equal(ask("GET /", ALL "Sec-WebSocket-Origin: http://b\r\n", &options), 403);
    assert_int_equal(
        ask("GET /", ALL "Origin: http://h\r\nSec-WebSocket-Origin: http://b\r\n", &options), 101);
    assert_int_equal(ask("GET http://zed:9/", ALL "Origin: http://zed:9\r\n", &options), 101);
    assert_int_equal(ask("GET http://zed:9/", ALL "Origin: http://h\r\n", &options), 403);
}

static void allowed_origins_are_a_list(void **state)
{
    const struct rb_slice list[] = { RB_S("not an origin"), RB_S("http://a.example.com"),
                                     RB_S("https://b.example.com:8443"),
                                     RB_S("https://b.example.com") };
    struct rb_ws_options options = { .origins = list, .origin_count = 4 };
    assert_int_equal(ask_origin("h", "http://a.example.com", &options), 101);
    assert_int_equal(ask_origin("h", "http://a.example.com:80", &options), 101);
    assert_int_equal(ask_origin("h", "HTTP://A.example.COM", &options), 101);
    assert_int_equal(ask_origin("h", "https://b.example.com:8443", &options), 101);
    assert_int_equal(ask_origin("h", "https://b.example.com", &options), 101);
    assert_int_equal(ask_origin("h", "", &options), 101);
    assert_int_equal(ask_origin("h", "http://a.example.com:81", &options), 403);
    assert_string_equal(accept_info.error, "origin not allowed: not in the allowed list");
    assert_int_equal(ask_origin("h", "https://a.example.com", &options), 403);
    assert_int_equal(ask_origin("h", "http://xa.example.com", &options), 403);
    assert_int_equal(ask_origin("h", "not an origin", &options), 403);
    options.same_origin = true; /* then both must hold */
    assert_int_equal(ask_origin("h", "http://a.example.com", &options), 403);
    assert_int_equal(ask_origin("h", "http://h", &options), 403);
    assert_int_equal(ask_origin("a.example.com", "http://a.example.com", &options), 101);
    options = (struct rb_ws_options){ .origin_count = 0 };
    assert_int_equal(ask_origin("h", "anything", &options), 101);
}

/* The longest response there is fits what the header promises. */
static void responses_fit_2048_bytes(void **state)
{
    static char extra[9000];
    static uint8_t out[2048 + sizeof(extra)];
    memset(extra, 'x', sizeof(extra));
    struct rb_ws_options options = { .compression = true,
                                     .headers = rb_slice_of(extra, sizeof(extra)) };
    ask("GET /", ALL EXT "permessage-deflate\r\nNats-No-Masking: true\r\n",
        &(struct rb_ws_options){ .compression = true });
    size_t len = rb_ws_upgrade(&request, &options, false, out, sizeof(out), &accept_info);
    assert_true(len > sizeof(extra) && len <= sizeof(out));
    for (int status = 400; status < 600; status++) {
        assert_in_range(rb_ws_refuse(status, out, 2048), 1, 2048);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_request_is_accepted),
        cmocka_unit_test(refusals_come_in_order),
        cmocka_unit_test(keys_are_16_bytes),
        cmocka_unit_test(lists_and_case_are_understood),
        cmocka_unit_test(bytes_behind_the_request_are_refused),
        cmocka_unit_test(compression_is_negotiated),
        cmocka_unit_test(masking_can_be_waived),
        cmocka_unit_test(configured_headers_come_last),
        cmocka_unit_test(browsers_are_known),
        cmocka_unit_test(forwarded_addresses_are_read),
        cmocka_unit_test(same_origin_compares_scheme_host_port),
        cmocka_unit_test(other_places_of_an_origin),
        cmocka_unit_test(allowed_origins_are_a_list),
        cmocka_unit_test(responses_fit_2048_bytes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
