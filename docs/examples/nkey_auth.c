/* nkey_auth.c - a program with a NATS server inside that lets in who owns one of a few nkeys, and nobody else.
 *
 *   cc nkey_auth.c $(pkg-config --cflags --libs ringbus) -o nkey_auth
 *   ./nkey_auth UABC... UXYZ...          (public keys; `nk -gen user` makes pairs)
 *   nats --server URL --nkey SEED_FILE pub hello world
 */
#include <ringbus/ringbus.h>
#include <stdio.h>
#include <string.h>

struct keys {
    char **allowed;
    int count;
};

/* The server has sent the client a nonce, and the client has signed it. rb_auth_offer_signed checks the signature, so that a
 * key that is on the list is not enough: the client must own it. */
static void decide(void *ctx, const struct rb_auth_offer *offer, struct rb_auth_ticket *ticket)
{
    const struct keys *keys = ctx;
    for (int i = 0; i < keys->count; i++) {
        if (strcmp(offer->nkey, keys->allowed[i]) == 0 && rb_auth_offer_signed(offer)) {
            struct rb_auth_grant grant = { .user = offer->nkey };
            (void)rb_auth_ticket_accept(ticket, &grant);
            return;
        }
    }
    (void)rb_auth_ticket_refuse(ticket, offer->nkey[0] == '\0' ? "no nkey" : "nkey not allowed");
}

int main(int argc, char **argv)
{
    struct keys keys = { .allowed = argv + 1, .count = argc - 1 };
    struct rb_server_options options = RB_SERVER_OPTIONS_INIT;
    options.host = "127.0.0.1";
    options.port = -1; /* any free one */
    options.decide = decide;
    options.decide_ctx = &keys;
    char error[256];
    struct rb_server *server = rb_server_start(&options, error, sizeof(error));
    if (server == NULL) {
        (void)fprintf(stderr, "%s\n", error);
        return 1;
    }
    (void)printf("%s\n", rb_server_client_url(server));
    (void)fflush(stdout);
    while (getchar() != EOF) { /* until standard input ends */
    }
    rb_server_stop(server);
    return 0;
}
