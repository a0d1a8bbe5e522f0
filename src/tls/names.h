/* names.h - what Go calls suites, curves and alerts, and what OpenSSL calls them (docs/tls.md). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"

/** A suite that `cipher_suites` takes only beside `allow_insecure_cipher_suites`. */
bool rb_tls_suite_insecure(const char *name);
/** Go's name of the suite with this number on the wire; NULL: none of Go's. */
const char *rb_tls_suite_name(uint16_t id);

#define RB_TLS_LIST_CAP 1024

struct rb_tls_suite_lists {
    char older[RB_TLS_LIST_CAP]; /* for TLS 1.2, in OpenSSL's syntax; "": nothing for TLS 1.2 */
    bool narrowed;               /* names were given */
};

/**
 * Makes OpenSSL's list of the suites for TLS 1.2, in Go's order of preference whatever the order of
 * `names`. RB_ERR_INVALID: a name is unknown or out of OpenSSL's reach, `error` says which.
 */
RB_MUST_CHECK enum rb_err rb_tls_suites(const char *const *names, uint32_t count,
                                        struct rb_tls_suite_lists *ret_lists, char *error,
                                        size_t error_cap);
/** The same for curves. */
RB_MUST_CHECK enum rb_err rb_tls_curves(const char *const *names, uint32_t count,
                                        char ret_list[RB_TLS_LIST_CAP], char *error,
                                        size_t error_cap);

/** Go's text of an alert, without "tls: "; NULL: not one that Go knows. */
const char *rb_tls_alert_text(unsigned alert);
