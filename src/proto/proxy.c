/* proxy.c - the PROXY protocol header in front of a client's bytes, versions 1 and 2.
 *
 *   v1   PROXY TCP4|TCP6 <source ip> <destination ip> <source port> <destination port> CRLF
 *        PROXY UNKNOWN <anything> CRLF                       at most 107 bytes with its CRLF
 *   v2   signature (12)  version|command (1)  family|transport (1)  length (2)  <length bytes>
 *        INET:  source ip 4,  destination ip 4,  source port 2, destination port 2, extensions
 *        INET6: source ip 16, destination ip 16, source port 2, destination port 2, extensions
 *
 * 1. The bytes come from strangers: nothing is read behind `in`, and a header is never longer than
 *    RB_PROXY_BYTES_MAX, so that this is all a caller has to keep before it knows who is there.
 * 2. A verdict is given as soon as the bytes allow one: a first byte that fits neither version is
 *    the client's own, a wrong byte behind the first six is a bad header. More bytes never change a
 *    verdict (tests/fuzz/fuzz_proxy.c).
 * 3. Only the source address is used; the destination is still checked, because a header that is
 *    half right was not written by a proxy.
 * 4. IPv4 inside IPv6 becomes IPv4: the client is an IPv4 client, whatever socket its proxy has.
 */
#include "proto/proxy.h"

#include <arpa/inet.h>
#include <netinet/in.h>

#define V1_PREFIX RB_S("PROXY ")
#define V1_BYTES_MAX 107
#define V1_FIELDS 5
#define V2_SIGNATURE RB_S("\r\n\r\n\0\r\nQUIT\n")
#define V2_FIXED_BYTES 16
#define V2_INET_BYTES 12
#define V2_INET6_BYTES 36

enum { V2_LOCAL = 0, V2_PROXY = 1 };
enum { V2_UNSPEC = 0x0, V2_INET = 0x1, V2_INET6 = 0x2 };
enum { V2_STREAM = 0x1 };

_Static_assert(V1_BYTES_MAX <= RB_PROXY_BYTES_MAX, "a v1 line fits what a caller keeps");

static enum rb_proxy_result bad(const char **ret_why, const char *why)
{
    *ret_why = why;
    return RB_PROXY_BAD;
}

/* Whether `in` begins with `magic`, or could once more bytes come. */
static bool may_start(struct rb_slice in, struct rb_slice magic)
{
    size_t len = in.len < magic.len ? in.len : magic.len;
    return len == 0 || memcmp(in.ptr, magic.ptr, len) == 0;
}

static struct rb_addr addr_of(uint8_t family, const uint8_t *ip, uint16_t port)
{
    static const uint8_t mapped[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    struct rb_addr addr = { .family = family, .port = port };
    if (family == 6 && memcmp(ip, mapped, sizeof(mapped)) == 0) {
        addr.family = 4;
        ip += sizeof(mapped);
    }
    memcpy(addr.ip, ip, addr.family == 4 ? 4 : 16);
    return addr;
}

static bool is_blank(uint8_t c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

/* Splits at blanks, in any number, into at most V1_FIELDS; V1_FIELDS + 1 when there are more. */
static size_t split_fields(struct rb_slice line, struct rb_slice fields[V1_FIELDS])
{
    size_t count = 0, at = 0;
    while (true) {
        while (at < line.len && is_blank(line.ptr[at])) {
            at++;
        }
        if (at == line.len) {
            return count;
        }
        if (count == V1_FIELDS) {
            return V1_FIELDS + 1;
        }
        size_t start = at;
        while (at < line.len && !is_blank(line.ptr[at])) {
            at++;
        }
        fields[count++] = rb_slice_of(line.ptr + start, at - start);
    }
}

/* `ip` has room for either family. A NUL inside the text would end it early for inet_pton(). */
static bool parse_ip(struct rb_slice text, int family, uint8_t ip[16])
{
    char copy[INET6_ADDRSTRLEN];
    if (text.len >= sizeof(copy) || memchr(text.ptr, '\0', text.len) != NULL) {
        return false;
    }
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    return inet_pton(family, copy, ip) == 1;
}

static bool parse_port(struct rb_slice text, uint16_t *ret_port)
{
    uint32_t port = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return false;
        }
        port = port * 10 + (uint32_t)(text.ptr[i] - '0');
        if (port > UINT16_MAX) {
            return false;
        }
    }
    *ret_port = (uint16_t)port;
    return text.len != 0;
}

/* `line` is what stands between "PROXY " and CRLF. */
static enum rb_proxy_result parse_v1_line(struct rb_slice line, bool *ret_has_addr,
                                          struct rb_addr *ret_addr, const char **ret_why)
{
    struct rb_slice fields[V1_FIELDS];
    size_t count = split_fields(line, fields);
    if (count > 0 && rb_slice_equal(fields[0], RB_S("UNKNOWN"))) {
        *ret_has_addr = false;
        return RB_PROXY_DONE;
    }
    if (count != V1_FIELDS) {
        return bad(ret_why, "version 1 line does not have five fields");
    }
    bool four = rb_slice_equal(fields[0], RB_S("TCP4"));
    if (!four && !rb_slice_equal(fields[0], RB_S("TCP6"))) {
        return bad(ret_why, "protocol is not TCP4, TCP6 or UNKNOWN");
    }
    uint8_t source[16], destination[16];
    uint16_t source_port, destination_port;
    int family = four ? AF_INET : AF_INET6;
    if (!parse_ip(fields[1], family, source) || !parse_ip(fields[2], family, destination)) {
        return bad(ret_why, four ? "not an IPv4 address" : "not an IPv6 address");
    }
    if (!parse_port(fields[3], &source_port) || !parse_port(fields[4], &destination_port)) {
        return bad(ret_why, "not a port");
    }
    *ret_has_addr = true;
    *ret_addr = addr_of(four ? 4 : 6, source, source_port);
    return RB_PROXY_DONE;
}

static enum rb_proxy_result parse_v1(struct rb_slice in, size_t *ret_len, bool *ret_has_addr,
                                     struct rb_addr *ret_addr, const char **ret_why)
{
    size_t limit = in.len < V1_BYTES_MAX ? in.len : V1_BYTES_MAX;
    for (size_t at = V1_PREFIX.len; at + 1 < limit; at++) {
        if (in.ptr[at] == '\r' && in.ptr[at + 1] == '\n') {
            struct rb_slice line = rb_slice_of(in.ptr + V1_PREFIX.len, at - V1_PREFIX.len);
            enum rb_proxy_result result = parse_v1_line(line, ret_has_addr, ret_addr, ret_why);
            if (result == RB_PROXY_DONE) {
                *ret_len = at + 2;
            }
            return result;
        }
    }
    return limit < V1_BYTES_MAX ? RB_PROXY_MORE : bad(ret_why, "version 1 line is too long");
}

static uint16_t read_be16(const uint8_t *at)
{
    return (uint16_t)(at[0] << 8 | at[1]);
}

/* What the fixed part says, before the addresses have come: DONE when all of it makes sense. */
static enum rb_proxy_result check_v2_fixed(const uint8_t *fixed, const char **ret_why)
{
    uint8_t version = fixed[12] >> 4, command = fixed[12] & 0x0f;
    uint8_t family = fixed[13] >> 4, transport = fixed[13] & 0x0f;
    uint16_t len = read_be16(fixed + 14);
    if (version != 2) {
        return bad(ret_why, "unknown version");
    }
    if (command != V2_LOCAL && command != V2_PROXY) {
        return bad(ret_why, "unknown command");
    }
    if (len > RB_PROXY_BYTES_MAX - V2_FIXED_BYTES) {
        return bad(ret_why, "header is too long");
    }
    if (command == V2_LOCAL) {
        return RB_PROXY_DONE;
    }
    if (transport != V2_STREAM) {
        return bad(ret_why, "transport is not a stream");
    }
    if (family > V2_INET6) {
        return bad(ret_why, "unsupported address family");
    }
    if ((family == V2_INET && len < V2_INET_BYTES) ||
        (family == V2_INET6 && len < V2_INET6_BYTES)) {
        return bad(ret_why, "addresses are cut short");
    }
    return RB_PROXY_DONE;
}

static enum rb_proxy_result parse_v2(struct rb_slice in, size_t *ret_len, bool *ret_has_addr,
                                     struct rb_addr *ret_addr, const char **ret_why)
{
    if (!may_start(in, V2_SIGNATURE)) {
        return bad(ret_why, "invalid signature");
    }
    if (in.len < V2_FIXED_BYTES) {
        return RB_PROXY_MORE;
    }
    enum rb_proxy_result result = check_v2_fixed(in.ptr, ret_why);
    if (result != RB_PROXY_DONE) {
        return result;
    }
    size_t len = V2_FIXED_BYTES + (size_t)read_be16(in.ptr + 14);
    if (in.len < len) {
        return RB_PROXY_MORE;
    }
    uint8_t command = in.ptr[12] & 0x0f, family = in.ptr[13] >> 4;
    const uint8_t *body = in.ptr + V2_FIXED_BYTES;
    *ret_len = len;
    *ret_has_addr = command == V2_PROXY && family != V2_UNSPEC;
    if (*ret_has_addr && family == V2_INET) {
        *ret_addr = addr_of(4, body, read_be16(body + 8));
    } else if (*ret_has_addr) {
        *ret_addr = addr_of(6, body, read_be16(body + 32));
    }
    return RB_PROXY_DONE;
}

enum rb_proxy_result rb_proxy_parse(struct rb_slice in, size_t *ret_len, bool *ret_has_addr,
                                    struct rb_addr *ret_addr, const char **ret_why)
{
    struct rb_slice signature_start = rb_slice_of(V2_SIGNATURE.ptr, RB_PROXY_DECIDE_BYTES);
    bool first = may_start(in, V1_PREFIX);
    if (!first && !may_start(in, signature_start)) {
        return RB_PROXY_NONE;
    }
    if (in.len < RB_PROXY_DECIDE_BYTES) {
        return RB_PROXY_MORE;
    }
    return first ? parse_v1(in, ret_len, ret_has_addr, ret_addr, ret_why)
                 : parse_v2(in, ret_len, ret_has_addr, ret_addr, ret_why);
}
