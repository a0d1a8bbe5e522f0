/* variant.c - what the beginning of a scenario's name says: who the clients are, and what lies
 * between them and the protocol. bench/run.sh configures the servers to match. */
#include <stdio.h>
#include <string.h>

#include "load.h"
#include "tls/tls.h"

#define NOBODY                                                                                     \
    {                                                                                              \
        NULL, NULL                                                                                 \
    }

static const struct variant {
    const char *prefix, *shape; /* shape NULL: what follows the prefix */
    enum rb_wire wire;
    struct rb_login publisher, receiver;
    const char *receive_subject;
    bool numbered_users;
} variants[] = {
    { "tls_handshakes_", "storm", RB_WIRE_TLS, NOBODY, NOBODY, NULL, false },
    { "tls_", NULL, RB_WIRE_TLS, NOBODY, NOBODY, NULL, false },
    { "mem_tls_conns", "mem_conns", RB_WIRE_TLS, NOBODY, NOBODY, NULL, false },
    { "mem_users_conns", "mem_conns", RB_WIRE_PLAIN, NOBODY, NOBODY, NULL, true },
    { "ws_deflate_", NULL, RB_WIRE_WS_DEFLATE, NOBODY, NOBODY, NULL, false },
    { "ws_", NULL, RB_WIRE_WS, NOBODY, NOBODY, NULL, false },
    { "user_", NULL, RB_WIRE_PLAIN, { "bench", "p" }, { "bench", "p" }, NULL, false },
    { "import_",
      NULL,
      RB_WIRE_PLAIN,
      { "a", "p" },
      { "b", "p" },
      "from.a." RB_LOAD_SUBJECT,
      false },
    { "mapping_", NULL, RB_WIRE_PLAIN, NOBODY, NOBODY, NULL, false },
    { "service_rr", "latency", RB_WIRE_PLAIN, { "b", "p" }, { "a", "p" }, NULL, false },
    { "login_bcrypt", "storm", RB_WIRE_PLAIN, { "quick", "p" }, { "slow", "p" }, NULL, false },
    { "login_plain", "storm", RB_WIRE_PLAIN, { "quick", "p" }, { "quick", "p" }, NULL, false },
};

static const struct variant *find(const char *name)
{
    for (size_t i = 0; i < sizeof(variants) / sizeof(variants[0]); i++) {
        if (strncmp(name, variants[i].prefix, strlen(variants[i].prefix)) == 0) {
            return &variants[i];
        }
    }
    return NULL;
}

void rb_load_choose_variant(struct rb_load *load, const char *name)
{
    static const struct variant plain = { .prefix = "" };
    const struct variant *variant = find(name);
    variant = variant == NULL ? &plain : variant;
    load->scenario = name;
    load->shape = variant->shape != NULL ? variant->shape : name + strlen(variant->prefix);
    load->wire = variant->wire;
    load->publisher = variant->publisher;
    load->receiver = variant->receiver;
    load->numbered_users = variant->numbered_users;
    load->receive_subject =
        variant->receive_subject != NULL ? variant->receive_subject : RB_LOAD_SUBJECT;
    if (load->wire == RB_WIRE_TLS && load->tls == NULL) {
        char error[256];
        struct rb_tls_options options = { .client = true, .insecure = true };
        if (rb_tls_context_create(&options, &load->tls, error, sizeof(error)) != RB_OK) {
            rb_load_die("TLS: %s", error);
        }
    }
}
