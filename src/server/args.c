/* args.c - the command line, by the rules of Go's flag package.
 *
 * 1. One dash or two; "-x v" or "-x=v"; a boolean takes its value only with "="; parsing stops at the first word
 *    that is no flag, or after "--".
 * 2. Every flag of nats-server is known. One that ringbus does not support yet is parsed like the others and then
 *    refused by its name, so that nothing that was asked for is silently left out.
 * 3. Flags are kept aside while they are parsed, and laid over the file's values after it was read. They stay with
 *    the configuration, so that a reload lays them over the file again.
 */
#include "server/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"
#include "server/config_load.h"
#include "proto/gojson.h"

/** The release of nats-server whose behaviour is followed. */
#define COMPATIBLE_VERSION "2.15.1"

enum kind { KIND_BOOL, KIND_INT, KIND_TEXT };

enum flag {
    FLAG_HELP,
    FLAG_VERSION,
    FLAG_CHECK,
    FLAG_CONFIG,
    FLAG_HOST,
    FLAG_PORT,
    FLAG_NAME,
    FLAG_ADVERTISE,
    FLAG_PID,
    FLAG_LOG,
    FLAG_DEBUG,
    FLAG_TRACE,
    FLAG_TRACE_VERBOSE,
    FLAG_DEBUG_TRACE,
    FLAG_DEBUG_TRACE_VERBOSE,
    FLAG_LOGTIME,
    FLAG_LOGTIME_UTC,
    FLAG_MAX_TRACED,
    FLAG_USER,
    FLAG_PASS,
    FLAG_AUTH,
    FLAG_SHARDS,
    FLAG_HTTP_PORT,
    FLAG_HTTPS_PORT,
    FLAG_PORTS_DIR,
    FLAG_LOG_SIZE,
    FLAG_SYSLOG,
    FLAG_REMOTE_SYSLOG,
    FLAG_TLS,
    FLAG_TLS_VERIFY,
    FLAG_TLS_CERT,
    FLAG_TLS_KEY,
    FLAG_TLS_CA,
    FLAG_HELP_TLS,
    FLAG_SIGNAL,
    FLAG_JETSTREAM,
    FLAG_STORE_DIR,
    FLAG_COUNT,
    FLAG_UNSUPPORTED = FLAG_COUNT,
};

struct spelling {
    const char *name;
    enum flag flag;
    enum kind kind;
};

static const struct spelling spellings[] = {
    { "h", FLAG_HELP, KIND_BOOL },
    { "help", FLAG_HELP, KIND_BOOL },
    { "v", FLAG_VERSION, KIND_BOOL },
    { "version", FLAG_VERSION, KIND_BOOL },
    { "t", FLAG_CHECK, KIND_BOOL },
    { "c", FLAG_CONFIG, KIND_TEXT },
    { "config", FLAG_CONFIG, KIND_TEXT },
    { "a", FLAG_HOST, KIND_TEXT },
    { "addr", FLAG_HOST, KIND_TEXT },
    { "net", FLAG_HOST, KIND_TEXT },
    { "p", FLAG_PORT, KIND_INT },
    { "port", FLAG_PORT, KIND_INT },
    { "n", FLAG_NAME, KIND_TEXT },
    { "name", FLAG_NAME, KIND_TEXT },
    { "server_name", FLAG_NAME, KIND_TEXT },
    { "client_advertise", FLAG_ADVERTISE, KIND_TEXT },
    { "P", FLAG_PID, KIND_TEXT },
    { "pid", FLAG_PID, KIND_TEXT },
    { "l", FLAG_LOG, KIND_TEXT },
    { "log", FLAG_LOG, KIND_TEXT },
    { "D", FLAG_DEBUG, KIND_BOOL },
    { "debug", FLAG_DEBUG, KIND_BOOL },
    { "V", FLAG_TRACE, KIND_BOOL },
    { "trace", FLAG_TRACE, KIND_BOOL },
    { "VV", FLAG_TRACE_VERBOSE, KIND_BOOL },
    { "DV", FLAG_DEBUG_TRACE, KIND_BOOL },
    { "DVV", FLAG_DEBUG_TRACE_VERBOSE, KIND_BOOL },
    { "T", FLAG_LOGTIME, KIND_BOOL },
    { "logtime", FLAG_LOGTIME, KIND_BOOL },
    { "logtime_utc", FLAG_LOGTIME_UTC, KIND_BOOL },
    { "max_traced_msg_len", FLAG_MAX_TRACED, KIND_INT },
    { "user", FLAG_USER, KIND_TEXT },
    { "pass", FLAG_PASS, KIND_TEXT },
    { "auth", FLAG_AUTH, KIND_TEXT },
    { "shards", FLAG_SHARDS, KIND_INT },
    { "m", FLAG_HTTP_PORT, KIND_INT },
    { "http_port", FLAG_HTTP_PORT, KIND_INT },
    { "ms", FLAG_HTTPS_PORT, KIND_INT },
    { "https_port", FLAG_HTTPS_PORT, KIND_INT },
    { "ports_file_dir", FLAG_PORTS_DIR, KIND_TEXT },
    { "log_size_limit", FLAG_LOG_SIZE, KIND_INT },
    { "s", FLAG_SYSLOG, KIND_BOOL },
    { "syslog", FLAG_SYSLOG, KIND_BOOL },
    { "r", FLAG_REMOTE_SYSLOG, KIND_TEXT },
    { "remote_syslog", FLAG_REMOTE_SYSLOG, KIND_TEXT },
    { "tls", FLAG_TLS, KIND_BOOL },
    { "tlsverify", FLAG_TLS_VERIFY, KIND_BOOL },
    { "tlscert", FLAG_TLS_CERT, KIND_TEXT },
    { "tlskey", FLAG_TLS_KEY, KIND_TEXT },
    { "tlscacert", FLAG_TLS_CA, KIND_TEXT },
    { "help_tls", FLAG_HELP_TLS, KIND_BOOL },
    { "routes", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster_listen", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster_name", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster_advertise", FLAG_UNSUPPORTED, KIND_TEXT },
    { "no_advertise", FLAG_UNSUPPORTED, KIND_BOOL },
    { "connect_retries", FLAG_UNSUPPORTED, KIND_INT },
    { "js", FLAG_JETSTREAM, KIND_BOOL },
    { "jetstream", FLAG_JETSTREAM, KIND_BOOL },
    { "sd", FLAG_STORE_DIR, KIND_TEXT },
    { "store_dir", FLAG_STORE_DIR, KIND_TEXT },
    { "profile", FLAG_UNSUPPORTED, KIND_INT },
    { "sl", FLAG_SIGNAL, KIND_TEXT },
    { "signal", FLAG_SIGNAL, KIND_TEXT },
};

/** What was given for a flag; the last one counts. */
struct given {
    bool present, truth;
    int64_t number;
    const char *text;
};

/** The flags that a reload lays over the file again; texts in the policy's arena. */
struct rb_flags {
    struct given given[FLAG_COUNT];
};

struct args {
    const char *program;
    struct given given[FLAG_COUNT];
    const char *unsupported; /* the first such flag, as it was spelled */
    const char *word;        /* the first word that is no flag */
    char *output;
    size_t output_cap;
};

static const char usage_text[] =
    "Server Options:\n"
    "    -a, --addr, --net <host>         Address to listen on (default: 0.0.0.0)\n"
    "    -p, --port <port>                Port for clients, -1 for any free one (default: 4222)\n"
    "    -n, --name, --server_name <name> Name of the server (default: its id)\n"
    "        --client_advertise <host:port>  Address that clients are told instead of the real "
    "one\n"
    "        --shards <count>             Threads that serve clients, 1 to 64 (default: one per "
    "core)\n"
    "    -P, --pid <file>                 Write the process id to a file\n"
    "    -c, --config <file>              Configuration file\n"
    "    -t                               Check the configuration file and exit\n"
    "    -m, --http_port <port>           Port of the monitor, on the loopback addresses only\n"
    "    -ms, --https_port <port>         The same with TLS\n"
    "        --ports_file_dir <dir>       Write the ports in use to a file in this directory\n"
    "    -sl, --signal <cmd>[=<target>]   Send stop, quit, term, reopen, ldm or reload to a "
    "running\n"
    "                                     server: a pid, a pid file, or the first digits of a pid\n"
    "                                     and *; without a target the only one that runs\n"
    "\n"
    "Logging Options:\n"
    "    -l, --log <file>                 Log to a file (default: standard error)\n"
    "        --log_size_limit <bytes>     Start a new log file when this size is passed\n"
    "    -s, --syslog                     Log to syslog\n"
    "    -r, --remote_syslog <url>        Log to a syslog server (udp://host:514)\n"
    "    -T, --logtime                    Time in log lines (default: true; off with -T=false)\n"
    "        --logtime_utc                Time in UTC instead of local time\n"
    "    -D, --debug                      Debug output\n"
    "    -V, --trace                      Trace the protocol\n"
    "    -VV                              The same, with the system account's traffic\n"
    "    -DV                              Debug output and trace\n"
    "    -DVV                             Debug output and trace with the system account's\n"
    "        --max_traced_msg_len <len>   Cut payloads in the trace (default: whole)\n"
    "\n"
    "Authorization Options:\n"
    "        --user <user>                User that clients must give\n"
    "        --pass <password>            Password that clients must give\n"
    "        --auth <token>               Token that clients must give\n"
    "\n"
    "TLS Options:\n"
    "        --tls                        TLS for clients, with the next flags\n"
    "        --tlscert <file>             The server's certificate\n"
    "        --tlskey <file>              Its private key\n"
    "        --tlsverify                  Clients must show a certificate\n"
    "        --tlscacert <file>           Authorities that clients' certificates must come from\n"
    "        --help_tls                   What TLS needs\n"
    "\n"
    "JetStream Options:\n"
    "    -js, --jetstream                 Streams and consumers\n"
    "    -sd, --store_dir <dir>           Where they are kept (default: nats in the temporary "
    "directory)\n"
    "\n"
    "Common Options:\n"
    "    -h, --help                       Show this text\n"
    "    -v, --version                    Show the version\n"
    "\n"
    "Other flags of nats-server are known but not supported yet: they are refused by name.\n";

static const char tls_text[] =
    "TLS for clients is switched on by the tls block of the configuration file, for example\n"
    "\n"
    "    tls {\n"
    "        cert_file: \"server-cert.pem\"\n"
    "        key_file:  \"server-key.pem\"\n"
    "        ca_file:   \"ca.pem\"    # whose client certificates are accepted\n"
    "        verify:    true        # clients must show one\n"
    "        timeout:   2           # seconds for a handshake\n"
    "    }\n"
    "\n"
    "or by --tls with --tlscert and --tlskey, and --tlsverify with --tlscacert. All files are "
    "PEM.\n";

static void write_usage(const struct args *args, char *out, size_t cap)
{
    snprintf(out, cap, "\nUsage: %s [options]\n\n%s", args->program, usage_text);
}

/* ------------------------------------------------------------------ outcomes */

__attribute__((format(printf, 2, 3))) static enum rb_args_action fail(struct args *args,
                                                                      const char *format, ...)
{
    char what[RB_CONFIG_ERROR_MAX + 64];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof(what), format, list);
    va_end(list);
    snprintf(args->output, args->output_cap, "%s: %s\n", args->program, what);
    return RB_ARGS_EXIT_FAIL;
}

/** As Go: the complaint on stderr, the usage on stdout. */
__attribute__((format(printf, 2, 3))) static bool bad_flag(struct args *args, const char *format,
                                                           ...)
{
    char what[512];
    va_list list;
    va_start(list, format);
    vsnprintf(what, sizeof(what), format, list);
    va_end(list);
    size_t len = (size_t)snprintf(args->output, args->output_cap, "%s\n", what);
    rb_assert(len + 1 < args->output_cap);
    write_usage(args, args->output + len + 1, args->output_cap - len - 1);
    return false;
}

/* ------------------------------------------------------------------ flags */

static const struct spelling *find_spelling(const char *name, size_t len)
{
    for (size_t i = 0; i < sizeof(spellings) / sizeof(spellings[0]); i++) {
        if (strlen(spellings[i].name) == len && memcmp(spellings[i].name, name, len) == 0) {
            return &spellings[i];
        }
    }
    return NULL;
}

/** An integer of base 10, or as its prefix 0x, 0o, 0b or 0 says. NULL, or what is wrong with it. */
static const char *parse_int(const char *text, int64_t *ret_value)
{
    const char *digits = text + (*text == '-' || *text == '+');
    int base = 10;
    if (digits[0] == '0' && digits[1] != 0) {
        char mark = (char)(digits[1] | 0x20);
        base = mark == 'x' ? 16 : mark == 'b' ? 2 : 8;
        digits += mark == 'x' || mark == 'b' || mark == 'o' ? 2 : 1;
    }
    const char *allowed = base == 16 ? "0123456789abcdefABCDEF" : "0123456789";
    char *end = NULL;
    errno = 0;
    unsigned long long value = strtoull(digits, &end, base);
    if (*digits == 0 || strspn(digits, allowed) != strlen(digits) || *end != 0) {
        return "parse error";
    }
    bool negative = *text == '-';
    if (errno == ERANGE || value > (negative ? 1ull << 63 : (unsigned long long)INT64_MAX)) {
        return "value out of range";
    }
    *ret_value = negative ? (int64_t)(0 - value) : (int64_t)value;
    return NULL;
}

/** Stores one flag and its value (NULL for a boolean without one). */
static bool take_flag(struct args *args, const struct spelling *spelling, const char *value)
{
    struct given given = { .present = true, .truth = true, .text = value };
    if (spelling->kind == KIND_BOOL && value != NULL && !rb_go_bool(value, &given.truth)) {
        return bad_flag(args, "invalid boolean value \"%.128s\" for -%s: parse error", value,
                        spelling->name);
    }
    if (spelling->kind == KIND_INT) {
        const char *problem = parse_int(value, &given.number);
        if (problem != NULL) {
            return bad_flag(args, "invalid value \"%.128s\" for flag -%s: %s", value,
                            spelling->name, problem);
        }
    }
    if (spelling->flag == FLAG_UNSUPPORTED) {
        if (spelling->kind == KIND_BOOL && !given.truth) {
            return true; /* off is what it is */
        }
        args->unsupported = args->unsupported == NULL ? spelling->name : args->unsupported;
    } else {
        args->given[spelling->flag] = given;
    }
    return true;
}

/** Invariant 1. */
static bool parse_flags(struct args *args, int argc, char *const *argv)
{
    int at = 1;
    for (; at < argc; at++) {
        const char *arg = argv[at];
        if (arg[0] != '-' || arg[1] == 0) {
            break;
        }
        const char *name = arg + 1 + (arg[1] == '-');
        if (*name == 0) { /* "--" */
            at++;
            break;
        }
        if (*name == '-' || *name == '=') {
            return bad_flag(args, "bad flag syntax: %.128s", arg);
        }
        size_t len = strcspn(name, "=");
        const char *value = name[len] == '=' ? name + len + 1 : NULL;
        const struct spelling *spelling = find_spelling(name, len);
        if (spelling == NULL) {
            return bad_flag(args, "flag provided but not defined: -%.*s",
                            (int)(len < 128 ? len : 128), name);
        }
        if (spelling->kind != KIND_BOOL && value == NULL) {
            if (at + 1 == argc) {
                return bad_flag(args, "flag needs an argument: -%s", spelling->name);
            }
            value = argv[++at];
        }
        if (!take_flag(args, spelling, value)) {
            return false;
        }
    }
    args->word = at < argc ? argv[at] : NULL;
    return true;
}

static bool is_set(const struct args *args, enum flag flag)
{
    return args->given[flag].present && args->given[flag].truth;
}

/* ------------------------------------------------------------------ flags over the file */

static bool lay_text(struct args *args, enum flag flag, const char *name, char *out, size_t out_cap)
{
    const struct given *given = &args->given[flag];
    if (!given->present || given->text[0] == 0) {
        return true; /* an empty value is as good as none */
    }
    if (strlen(given->text) >= out_cap) {
        (void)fail(args, "value of flag -%s is longer than %zu bytes", name, out_cap - 1);
        return false;
    }
    snprintf(out, out_cap, "%s", given->text);
    return true;
}

/** A port; 0 is "not given", as in nats-server. */
static bool lay_port(struct args *args, enum flag flag, int32_t *port)
{
    const struct given *given = &args->given[flag];
    if (given->present && given->number != 0) {
        if (given->number < -1 || given->number > UINT16_MAX) {
            (void)fail(args, "port %lld is not between -1 and 65535", (long long)given->number);
            return false;
        }
        *port = (int32_t)given->number;
    }
    return true;
}

static bool lay_numbers(struct args *args, struct rb_config *config)
{
    const struct given *shards = &args->given[FLAG_SHARDS], *size = &args->given[FLAG_LOG_SIZE];
    const struct given *traced = &args->given[FLAG_MAX_TRACED];
    if (shards->present) {
        if (shards->number < 1 || shards->number > RB_SHARDS_MAX) {
            (void)fail(args, "shards %lld is not between 1 and %d", (long long)shards->number,
                       RB_SHARDS_MAX);
            return false;
        }
        config->shards = (uint32_t)shards->number;
    }
    if (traced->present && traced->number != 0) {
        if (traced->number > INT32_MAX) {
            (void)fail(args, "max_traced_msg_len %lld is too big", (long long)traced->number);
            return false;
        }
        config->max_traced_msg_bytes = traced->number < 0 ? 0 : (uint32_t)traced->number;
    }
    if (size->present && size->number != 0) {
        config->log_size_limit = size->number < 0 ? 0 : size->number;
    }
    return lay_port(args, FLAG_PORT, &config->port) &&
           lay_port(args, FLAG_HTTP_PORT, &config->http_port) &&
           lay_port(args, FLAG_HTTPS_PORT, &config->https_port);
}

static void lay_switch(const struct args *args, enum flag flag, bool *field)
{
    if (args->given[flag].present) {
        *field = args->given[flag].truth;
    }
}

static void lay_switches(const struct args *args, struct rb_config *config)
{
    lay_switch(args, FLAG_DEBUG, &config->debug);
    lay_switch(args, FLAG_TRACE, &config->trace);
    lay_switch(args, FLAG_TRACE_VERBOSE, &config->trace);
    lay_switch(args, FLAG_TRACE_VERBOSE, &config->trace_verbose);
    lay_switch(args, FLAG_DEBUG_TRACE, &config->debug);
    lay_switch(args, FLAG_DEBUG_TRACE, &config->trace);
    lay_switch(args, FLAG_DEBUG_TRACE_VERBOSE, &config->debug);
    lay_switch(args, FLAG_DEBUG_TRACE_VERBOSE, &config->trace);
    lay_switch(args, FLAG_DEBUG_TRACE_VERBOSE, &config->trace_verbose);
    lay_switch(args, FLAG_LOGTIME, &config->logtime);
    lay_switch(args, FLAG_LOGTIME_UTC, &config->logtime_utc);
    lay_switch(args, FLAG_SYSLOG, &config->syslog);
    lay_switch(args, FLAG_JETSTREAM, &config->jetstream.enabled);
}

/** A user given as a flag takes the place of the file's token, and the other way round. */
static bool lay_login(struct args *args, struct rb_config *config)
{
    const struct given *given = args->given;
    bool named = (given[FLAG_USER].present && given[FLAG_USER].text[0] != 0) ||
                 (given[FLAG_PASS].present && given[FLAG_PASS].text[0] != 0);
    bool token = given[FLAG_AUTH].present && given[FLAG_AUTH].text[0] != 0;
    if (named && !token) {
        config->token[0] = 0;
    } else if (token && !named) {
        config->user[0] = config->pass[0] = 0;
    }
    return lay_text(args, FLAG_USER, "user", config->user, sizeof(config->user)) &&
           lay_text(args, FLAG_PASS, "pass", config->pass, sizeof(config->pass)) &&
           lay_text(args, FLAG_AUTH, "auth", config->token, sizeof(config->token));
}

static bool lay_path(struct args *args, enum flag flag, struct rb_config *config,
                     const char **field)
{
    const struct given *given = &args->given[flag];
    if (given->present && given->text[0] != 0) {
        *field = rb_config_keep(config, given->text);
        if (*field == NULL) {
            (void)fail(args, "out of memory while reading the command line");
            return false;
        }
    }
    return true;
}

/** Any of the flags switches TLS on; "-tls=false" takes the file's away. */
static bool lay_tls(struct args *args, struct rb_config *config)
{
    static const enum flag flags[] = { FLAG_TLS, FLAG_TLS_VERIFY, FLAG_TLS_CERT, FLAG_TLS_KEY,
                                       FLAG_TLS_CA };
    struct rb_tls_config *tls = &rb_config_own_lists(config)->tls;
    char error[RB_CONFIG_ERROR_MAX];
    bool any = false;
    for (size_t i = 0; i < sizeof(flags) / sizeof(flags[0]); i++) {
        any |= args->given[flags[i]].present;
    }
    if (!any) {
        return true;
    }
    if (args->given[FLAG_TLS].present && !args->given[FLAG_TLS].truth) {
        *tls = (struct rb_tls_config){ 0 };
        return true;
    }
    tls->set = true;
    tls->timeout_ns = tls->timeout_ns == 0 ? RB_TLS_TIMEOUT_DEFAULT_NS : tls->timeout_ns;
    lay_switch(args, FLAG_TLS_VERIFY, &tls->verify);
    tls->verify |= tls->map;
    if (!lay_path(args, FLAG_TLS_CERT, config, &tls->cert_file) ||
        !lay_path(args, FLAG_TLS_KEY, config, &tls->key_file) ||
        !lay_path(args, FLAG_TLS_CA, config, &tls->ca_file)) {
        return false;
    }
    if (tls->cert_file != NULL) {
        tls->cert_count = 0; /* takes the place of the file's pairs */
    }
    if (tls->cert_count == 0 && (tls->cert_file == NULL || tls->key_file == NULL)) {
        (void)fail(args, "TLS Server %s must be present and valid",
                   tls->cert_file == NULL ? "certificate" : "private key");
        return false;
    }
    if (rb_config_tls_try(tls, error) != RB_OK) {
        (void)fail(args, "%s", error);
        return false;
    }
    return true;
}

static bool lay_flags(struct args *args, struct rb_config *config)
{
    lay_switches(args, config);
    return lay_numbers(args, config) && lay_login(args, config) && lay_tls(args, config) &&
           lay_text(args, FLAG_HOST, "addr", config->host, sizeof(config->host)) &&
           lay_text(args, FLAG_NAME, "name", config->server_name, sizeof(config->server_name)) &&
           lay_text(args, FLAG_ADVERTISE, "client_advertise", config->client_advertise,
                    sizeof(config->client_advertise)) &&
           lay_text(args, FLAG_PID, "pid", config->pid_file, sizeof(config->pid_file)) &&
           lay_text(args, FLAG_LOG, "log", config->log_file, sizeof(config->log_file)) &&
           lay_text(args, FLAG_REMOTE_SYSLOG, "remote_syslog", config->remote_syslog,
                    sizeof(config->remote_syslog)) &&
           lay_text(args, FLAG_STORE_DIR, "store_dir", config->jetstream.store_dir,
                    sizeof(config->jetstream.store_dir)) &&
           lay_text(args, FLAG_PORTS_DIR, "ports_file_dir", config->ports_file_dir,
                    sizeof(config->ports_file_dir));
}

/** Copies what was given into the configuration, for a reload. False: no memory. */
static bool keep_flags(const struct args *args, struct rb_config *config)
{
    struct rb_flags *flags = rb_arena_take(config->policy->arena, sizeof(*flags));
    if (flags == NULL) {
        return false;
    }
    for (size_t i = 0; i < FLAG_COUNT; i++) {
        flags->given[i] = args->given[i];
        if (args->given[i].text != NULL) {
            flags->given[i].text = rb_config_keep(config, args->given[i].text);
            if (flags->given[i].text == NULL) {
                return false;
            }
        }
    }
    rb_config_own_lists(config)->flags = flags;
    return true;
}

/** Lays the flags over *config, which was read but not sealed, keeps them, seals and checks. False: `output` says why. */
static bool finish(struct args *args, struct rb_config *config)
{
    char error[RB_CONFIG_ERROR_MAX];
    if (config->policy == NULL) {
        struct rb_config_lists *lists = NULL;
        config->policy = rb_config_draft(!config->no_system_account, &lists);
        config->lists = lists;
    }
    if (config->policy == NULL || !keep_flags(args, config)) {
        (void)fail(args, "out of memory while reading the command line");
        return false;
    }
    if (!lay_flags(args, config)) {
        return false;
    }
    if (rb_config_seal(config, error) != RB_OK || rb_config_check(config, error) != RB_OK) {
        (void)fail(args, "%s", error);
        return false;
    }
    return true;
}

/** Reads the file and finishes; *config is given back on failure. */
static enum rb_args_action configure_into(struct args *args, struct rb_config *config)
{
    static const char empty[] = "";
    const struct given *file = &args->given[FLAG_CONFIG];
    const char *path = file->present ? file->text : empty;
    char error[RB_CONFIG_ERROR_MAX] = "";
    bool check_only = is_set(args, FLAG_CHECK);
    if (check_only && path[0] == 0) {
        return fail(args, "must specify [-c, --config] option to check configuration file syntax");
    }
    if (path[0] != 0 && rb_config_read_file(config, path, error) != RB_OK) {
        return fail(args, "%s", error);
    }
    if (check_only && error[0] != 0) { /* a warning */
        return fail(args, "%s", error);
    }
    snprintf(args->output, args->output_cap, "%s%s", error, error[0] != 0 ? "\n" : "");
    if (!finish(args, config)) {
        return RB_ARGS_EXIT_FAIL;
    }
    if (!check_only) {
        return RB_ARGS_RUN;
    }
    int len = snprintf(args->output, args->output_cap, "%s: configuration file %s is valid (%s)\n",
                       args->program, path, config->config_digest);
    rb_assert(len >= 0 && (size_t)len + 1 < args->output_cap);
    args->output[len + 1] = 0; /* nothing for stdout */
    return RB_ARGS_CHECKED;
}

static enum rb_args_action configure(struct args *args, struct rb_config *ret_config)
{
    struct rb_config *config = malloc(sizeof(*config));
    if (config == NULL) {
        return fail(args, "out of memory while reading the command line");
    }
    rb_config_copy(config, ret_config);
    enum rb_args_action action = configure_into(args, config);
    if (action == RB_ARGS_RUN || action == RB_ARGS_CHECKED) {
        *ret_config = *config;
    } else {
        rb_config_deinit(config);
    }
    free(config);
    return action;
}

/** Reads the file of `running` into *config, which holds defaults, and lays the flags over it. */
static enum rb_err reload_into(const struct rb_config *running, struct rb_config *config,
                               char error[RB_CONFIG_ERROR_MAX])
{
    char output[RB_CONFIG_ERROR_MAX + 128] = "";
    struct args args = { .program = "", .output = output, .output_cap = sizeof(output) };
    if (running->lists != NULL && running->lists->flags != NULL) {
        memcpy(args.given, running->lists->flags->given, sizeof(args.given));
    }
    enum rb_err err = rb_config_read_file(config, running->config_file, error);
    if (err != RB_OK) {
        return err;
    }
    if (!finish(&args, config)) {
        size_t start = strspn(output, ": "); /* in place of the program's name */
        size_t len = strcspn(output + start, "\n");
        snprintf(error, RB_CONFIG_ERROR_MAX, "%.*s", (int)len, output + start);
        return RB_ERR_INVALID;
    }
    return RB_OK;
}

enum rb_err rb_config_reload(const struct rb_config *running, struct rb_config *ret_config,
                             char error[RB_CONFIG_ERROR_MAX])
{
    error[0] = 0;
    if (running->config_file[0] == 0) {
        snprintf(error, RB_CONFIG_ERROR_MAX,
                 "can only reload config when a file is provided using -c or --config");
        return RB_ERR_INVALID;
    }
    struct rb_config *config = malloc(sizeof(*config));
    if (config == NULL) {
        snprintf(error, RB_CONFIG_ERROR_MAX, "out of memory while reading the configuration");
        return RB_ERR_MEMORY;
    }
    rb_config_defaults(config);
    enum rb_err err = reload_into(running, config, error);
    if (err == RB_OK) {
        *ret_config = *config;
    } else {
        rb_config_deinit(config);
    }
    free(config);
    return err;
}

static enum rb_args_action show_version(struct args *args)
{
    if (strcmp(args->program, "nats-server") == 0) {
        snprintf(args->output, args->output_cap,
                 "nats-server: v" COMPATIBLE_VERSION "\nringbus: v" RB_VERSION "\n");
    } else {
        snprintf(args->output, args->output_cap,
                 "ringbus: v" RB_VERSION " (compatible with nats-server v" COMPATIBLE_VERSION
                 ")\n");
    }
    return RB_ARGS_EXIT_OK;
}

enum rb_args_action rb_args_parse(struct rb_config *config, int argc, char *const *argv,
                                  char *output, size_t output_cap)
{
    rb_assert(output_cap >= RB_ARGS_OUTPUT_MIN);
    const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;
    const char *base = slash != NULL ? slash + 1 : argc > 0 ? argv[0] : "";
    struct args args = { .program = strcmp(base, "nats-server") == 0 ? "nats-server" : "ringbus",
                         .output = output,
                         .output_cap = output_cap };
    output[0] = 0;
    if (!parse_flags(&args, argc, argv)) {
        return RB_ARGS_BAD_FLAG;
    }
    const char *word = args.word != NULL ? args.word : "";
    if (is_set(&args, FLAG_VERSION) || strcmp(word, "version") == 0) {
        return show_version(&args);
    }
    if (is_set(&args, FLAG_HELP) || strcmp(word, "help") == 0) {
        write_usage(&args, output, output_cap);
        return RB_ARGS_EXIT_OK;
    }
    if (is_set(&args, FLAG_HELP_TLS)) {
        snprintf(output, output_cap, "%s", tls_text);
        return RB_ARGS_EXIT_OK;
    }
    if (args.word != NULL) {
        return fail(&args, "unrecognized command: \"%.128s\"", word);
    }
    if (args.unsupported != NULL) {
        return fail(&args, "flag -%s is not supported by ringbus yet", args.unsupported);
    }
    const struct given *signal = &args.given[FLAG_SIGNAL];
    if (signal->present && signal->text[0] != 0) { /* before the file is read */
        snprintf(output, output_cap, "%s", signal->text);
        return RB_ARGS_SIGNAL;
    }
    return configure(&args, config);
}
