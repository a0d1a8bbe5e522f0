/* login.c - nats.c for py/clients.py: login DOCUMENT. Prints the reply, "refused: WHY" or "skip: WHY".
 *
 * The document is flat JSON that our own script writes, so finding a key and reading to the next quote is enough.
 */
#include <nats/nats.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 5000
#define TEXT_MAX 512

static const char *document;

/* The text or number behind a key; NULL when there is none. */
static const char *field(const char *name, char out[TEXT_MAX])
{
    char key[64];
    snprintf(key, sizeof(key), "\"%s\": ", name);
    const char *at = strstr(document, key);
    if (at == NULL) {
        return NULL;
    }
    at += strlen(key);
    at += *at == '"';
    size_t len = strcspn(at, "\",}");
    snprintf(out, TEXT_MAX, "%.*s", (int)len, at);
    return out;
}

static natsStatus sign_nonce(char **ret_error, unsigned char **ret_sig, int *ret_len,
                             const char *nonce, void *closure)
{
    return nats_Sign(closure, nonce, ret_sig, ret_len);
}

static natsStatus set_options(natsOptions *options)
{
    char user[TEXT_MAX], pass[TEXT_MAX], key[TEXT_MAX], file[TEXT_MAX], url[2 * TEXT_MAX + 16];
    static char seed[TEXT_MAX];
    char host[TEXT_MAX], port[TEXT_MAX];
    if (field("host", host) == NULL || field("port", port) == NULL) {
        return NATS_INVALID_ARG;
    }
    snprintf(url, sizeof(url), "nats://%s:%s", host, port);
    natsStatus status = natsOptions_SetURL(options, url);
    if (status == NATS_OK && field("user", user) != NULL) {
        status = natsOptions_SetUserInfo(options, user, field("pass", pass));
    }
    if (status == NATS_OK && field("token", user) != NULL) {
        status = natsOptions_SetToken(options, user);
    }
    if (status == NATS_OK && field("seed", seed) != NULL) {
        status = natsOptions_SetNKey(options, field("nkey", key), sign_nonce, seed);
    }
    if (status == NATS_OK && field("ca", file) != NULL) {
        status = natsOptions_SetSecure(options, true);
        if (status == NATS_OK) {
            status = natsOptions_LoadCATrustedCertificates(options, file);
        }
        if (status == NATS_OK) {
            status = natsOptions_SetExpectedHostname(options, "localhost");
        }
    }
    if (status == NATS_OK && field("cert", file) != NULL) {
        status = natsOptions_LoadCertificatesChain(options, file, field("key", key));
    }
    if (status == NATS_OK) {
        status = natsOptions_SetAllowReconnect(options, false);
    }
    return status;
}

int main(int argc, char **argv)
{
    natsOptions *options = NULL;
    natsConnection *conn = NULL;
    natsMsg *reply = NULL;
    if (argc != 2) {
        return 2;
    }
    document = argv[1];
    if (strstr(document, "\"ws\"") != NULL) {
        puts("skip: nats.c speaks no WebSocket");
        return 0;
    }
    natsStatus status = natsOptions_Create(&options);
    if (status == NATS_OK) {
        status = set_options(options);
    }
    if (status == NATS_OK) {
        status = natsConnection_Connect(&conn, options);
    }
    if (status == NATS_OK) {
        status = natsConnection_RequestString(&reply, conn, "ask", "ping", WAIT_MS);
    }
    if (status == NATS_OK) {
        printf("%.*s\n", natsMsg_GetDataLength(reply), natsMsg_GetData(reply));
    } else {
        const char *detail = nats_GetLastError(NULL);
        printf("refused: %s %s\n", natsStatus_GetText(status), detail == NULL ? "" : detail);
    }
    natsMsg_Destroy(reply);
    natsConnection_Destroy(conn);
    natsOptions_Destroy(options);
    nats_Close();
    return 0;
}
