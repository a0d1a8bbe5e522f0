/* connect.h - the CONNECT and INFO documents. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/slice.h"

#define RB_CONNECT_TEXT_MAX 256  /* longest kept name, lang, version; longer ones are cut */
#define RB_CONNECT_DEPTH_MAX 128 /* nested objects and arrays */
#define RB_CONNECT_BYTES_MAX (1024 * 1024)

/** What a client asked for. Slices lie in memory owned by the rb_connect_doc. */
struct rb_connect {
    bool verbose, pedantic, echo, headers, no_responders, tls_required;
    bool has_account; /* an account, or new_account true, was given: obsolete, refused */
    int64_t protocol;
    struct rb_slice name, lang, version, auth_token, user, pass, nkey, sig, jwt, proxy_sig;
};

/** Verbose, pedantic and echo on, the rest off: what holds before CONNECT. */
void rb_connect_defaults(struct rb_connect *connect);

struct rb_connect_doc; /* the parsed JSON that the slices point into */
/**
 * Decodes over the values already in *connect. Keys match case-insensitively, unknown ones are
 * ignored, the last duplicate wins; null, for a field or as the whole document, keeps the value.
 * RB_ERR_INVALID: not an object, bad JSON, a field of the wrong type, or beyond the limits above;
 * then *connect is unchanged. The same when the allocator refuses.
 * Ownership: release *ret_doc with rb_connect_doc_free when the slices are no longer needed.
 */
RB_MUST_CHECK enum rb_err rb_connect_parse(struct rb_slice json, struct rb_connect *connect,
                                           struct rb_connect_doc **ret_doc);
/** `doc` may be NULL. */
void rb_connect_doc_free(struct rb_connect_doc *doc);

/** Fields of INFO; empty slices, zeros and false are left out where nats-server leaves them out. */
struct rb_info {
    struct rb_slice server_id, server_name, version, git_commit, runtime, host, nonce, cluster,
        domain, xkey;
    struct rb_slice ringbus_version; /* extra field "ringbus" */
    const struct rb_slice *connect_urls;
    uint32_t connect_url_count;
    uint16_t port;
    bool headers, auth_required, tls_required, tls_verify, tls_available, jetstream, ldm;
    bool connect_info, acc_is_sys;
    struct rb_slice remote_account; /* with connect_info */
    uint64_t client_id;
    struct rb_slice client_ip;
    uint32_t max_payload;
    uint32_t api_lvl;
};
/** "INFO {...} \r\n" in nats-server's field order. Returns the length, 0 if `cap` is too small. */
size_t rb_info_format(uint8_t *out, size_t cap, const struct rb_info *info);
