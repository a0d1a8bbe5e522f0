/* proxy.h - the PROXY protocol header, versions 1 and 2, in front of a client's bytes (client-protocol.md 20). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#include "ringbus/slice.h"
#include "ringbus/transport.h"

#define RB_PROXY_DECIDE_BYTES 6 /* so many bytes tell whether it is a header */
#define RB_PROXY_BYTES_MAX                                                                         \
    4096 /* the longest header; so much a caller keeps while MORE is wanted */

enum rb_proxy_result {
    RB_PROXY_NONE, /* not a PROXY header: the bytes are the client's own */
    RB_PROXY_MORE,
    RB_PROXY_DONE, /* *ret_len bytes were the header */
    RB_PROXY_BAD,  /* `*ret_why` says what is wrong (static text) */
};

/**
 * What `in`, a connection's bytes from the first on, says about a PROXY header in front of them.
 * LOCAL and UNKNOWN: DONE with *ret_has_addr false, the socket's own address stays.
 * Outputs: as the result says; with NONE and MORE none is set. More bytes never change a verdict.
 * Source:  the PROXY protocol's description by HAProxy; docs/protocol.md.
 */
enum rb_proxy_result rb_proxy_parse(struct rb_slice in, size_t *ret_len, bool *ret_has_addr,
                                    struct rb_addr *ret_addr, const char **ret_why);
