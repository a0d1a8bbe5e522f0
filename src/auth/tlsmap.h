/* tlsmap.h - verify_and_map: from the names in a client's certificate to a user. */
#pragma once

#include "auth/auth.h"

/**
 * The first name of the certificate that is a user whom `type` (RB_TYPE_*) permits: e-mail addresses, DNS names, URIs, then the
 * subject: as a distinguished name whatever its order, as text with its domain components, as text. NULL when none.
 */
const struct rb_policy_user *rb_tlsmap_find(const struct rb_policy *policy,
                                            const struct rb_auth_cert *cert, uint32_t type);

#define RB_TLSMAP_TEXT_MAX 8192
/** A subject as nats-server writes it: known attributes only, in Go's fixed order, and the domain components. For tests. */
struct rb_tlsmap_subject {
    struct rb_slice text,
        with_domain; /* in `bytes`; with_domain is empty when there are no domain components */
    uint8_t bytes[2 * RB_TLSMAP_TEXT_MAX];
};
/** False: no certificate in `der`, or too long. */
bool rb_tlsmap_subject(struct rb_slice der, struct rb_tlsmap_subject *ret_subject);
