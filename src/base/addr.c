/* addr.c - end points as text and back (the rb_addr part of transport.h).
 *
 * 1. Literals never reach the resolver; neither does anything that only the old inet_aton() would
 *    take for one ("127.1", "0x7f.0.0.1") or that holds a colon.
 * 2. Of a name's addresses the first IPv4 one is used, the first IPv6 one when there is no other:
 *    clients of a host named "localhost" expect 127.0.0.1.
 * 3. IPv4 addresses inside IPv6 (::ffff:1.2.3.4, how a dual-stack listener sees IPv4 peers) print
 *    as IPv4.
 */
#include "ringbus/transport.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <net/if.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define HOST_BYTES_MAX 255 /* RFC 1035, 2.3.4 */

static bool is_mapped(const struct rb_addr *addr)
{
    static const uint8_t prefix[12] = { 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff };
    return addr->family == 6 && memcmp(addr->ip, prefix, sizeof(prefix)) == 0;
}

const char *rb_addr_format_ip(const struct rb_addr *addr, char out[RB_ADDR_TEXT_MAX])
{
    if (addr->family == 4 || is_mapped(addr)) {
        const uint8_t *ip = addr->family == 4 ? addr->ip : addr->ip + 12;
        snprintf(out, RB_ADDR_TEXT_MAX, "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
    } else if (addr->family == 6 && inet_ntop(AF_INET6, addr->ip, out, RB_ADDR_TEXT_MAX) != NULL) {
        if (addr->scope != 0) {
            size_t len = strlen(out);
            snprintf(out + len, RB_ADDR_TEXT_MAX - len, "%%%u", addr->scope);
        }
    } else {
        snprintf(out, RB_ADDR_TEXT_MAX, "pipe");
    }
    return out;
}

const char *rb_addr_format(const struct rb_addr *addr, char out[RB_ADDR_TEXT_MAX])
{
    bool brackets = addr->family == 6 && !is_mapped(addr);
    char ip[RB_ADDR_TEXT_MAX];
    rb_addr_format_ip(addr, ip);
    if (addr->family == 0 && addr->port == 0) {
        memcpy(out, ip, sizeof(ip)); /* there is no port to show */
        return out;
    }
    snprintf(out, RB_ADDR_TEXT_MAX, brackets ? "[%.55s]:%u" : "%.57s:%u", ip, addr->port);
    return out;
}

/* "%eth0" or "%2" behind an IPv6 literal; `zone` is what follows the sign. */
static bool parse_zone(const char *zone, uint32_t *ret_scope)
{
    char *end;
    if (isdigit((unsigned char)zone[0])) {
        unsigned long number = strtoul(zone, &end, 10);
        if (*end != '\0' || number == 0 || number > UINT32_MAX) {
            return false;
        }
        *ret_scope = (uint32_t)number;
        return true;
    }
    unsigned index = if_nametoindex(zone);
    *ret_scope = index;
    return index != 0;
}

/* `text` is cut at its zone. */
static bool parse_ipv6(char *text, struct rb_addr *ret_addr)
{
    struct rb_addr addr = { .family = 6 };
    char *zone = strchr(text, '%');
    if (zone != NULL) {
        *zone = '\0';
        if (!parse_zone(zone + 1, &addr.scope)) {
            return false;
        }
    }
    if (inet_pton(AF_INET6, text, addr.ip) != 1) {
        return false;
    }
    *ret_addr = addr;
    return true;
}

/* True when the last label is a number: then the text is a bad IPv4 literal, not a name (invariant
 * 1). */
static bool ends_in_number(const char *host)
{
    size_t len = strlen(host);
    if (len > 0 && host[len - 1] == '.') {
        len--;
    }
    size_t start = len;
    while (start > 0 && host[start - 1] != '.') {
        start--;
    }
    const char *label = host + start;
    size_t label_len = len - start;
    if (label_len >= 2 && label[0] == '0' && (label[1] == 'x' || label[1] == 'X')) {
        return true;
    }
    for (size_t i = 0; i < label_len; i++) {
        if (!isdigit((unsigned char)label[i])) {
            return false;
        }
    }
    return true;
}

static enum rb_err resolve_name(const char *host, struct rb_addr *ret_addr)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM };
    struct addrinfo *found = NULL;
    int failure = getaddrinfo(host, NULL, &hints, &found);
    if (failure != 0) {
        return failure == EAI_MEMORY ? RB_ERR_MEMORY : RB_ERR_ADDRESS;
    }
    struct rb_addr addr = { .family = 0 };
    for (const struct addrinfo *at = found; at != NULL && addr.family != 4; at = at->ai_next) {
        if (at->ai_family == AF_INET) {
            struct sockaddr_in in;
            memcpy(&in, at->ai_addr, sizeof(in));
            addr = (struct rb_addr){ .family = 4 };
            memcpy(addr.ip, &in.sin_addr, 4);
        } else if (at->ai_family == AF_INET6 && addr.family == 0) {
            struct sockaddr_in6 in6;
            memcpy(&in6, at->ai_addr, sizeof(in6));
            addr = (struct rb_addr){ .family = 6, .scope = in6.sin6_scope_id };
            memcpy(addr.ip, &in6.sin6_addr, 16);
        }
    }
    freeaddrinfo(found);
    if (addr.family == 0) {
        return RB_ERR_ADDRESS;
    }
    *ret_addr = addr;
    return RB_OK;
}

static enum rb_err parse_host(const char *host, struct rb_addr *ret_addr)
{
    struct rb_addr addr = { .family = 4 };
    if (host[0] == '\0' || inet_pton(AF_INET, host, addr.ip) == 1) {
        *ret_addr = addr;
        return RB_OK;
    }
    size_t len = strlen(host);
    if (len > HOST_BYTES_MAX) {
        return RB_ERR_ADDRESS;
    }
    bool brackets = host[0] == '[';
    if (brackets || strchr(host, ':') != NULL) {
        char text[HOST_BYTES_MAX + 1];
        memcpy(text, host + brackets, len + 1 - brackets);
        size_t text_len = len - brackets;
        if (brackets) {
            if (text_len == 0 || text[text_len - 1] != ']') {
                return RB_ERR_ADDRESS;
            }
            text[text_len - 1] = '\0';
        }
        return parse_ipv6(text, ret_addr) ? RB_OK : RB_ERR_ADDRESS;
    }
    return ends_in_number(host) ? RB_ERR_ADDRESS : resolve_name(host, ret_addr);
}

enum rb_err rb_addr_parse(const char *host, uint16_t port, struct rb_addr *ret_addr)
{
    struct rb_addr addr;
    enum rb_err err = parse_host(host == NULL ? "" : host, &addr);
    if (err != RB_OK) {
        return err;
    }
    addr.port = port;
    *ret_addr = addr;
    return RB_OK;
}
