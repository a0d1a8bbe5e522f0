/* args.c - the command line, by the rules of Go's flag package.
 *
 * 1. One dash or two; "-x v" or "-x=v"; a boolean takes its value only with "="; parsing stops at the first word
 *    that is no flag, or after "--".
 * 2. Every flag of nats-server is known. One that ringbus does not support yet is parsed like the others and then
 *    refused by its name, so that nothing that was asked for is silently left out.
 * 3. Flags are kept aside while they are parsed, and laid over the file's values after it was read.
 */
#include "server/config.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ringbus/bounds.h"
#include "ringbus/check.h"

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
    FLAG_DEBUG_TRACE,
    FLAG_LOGTIME,
    FLAG_LOGTIME_UTC,
    FLAG_MAX_TRACED,
    FLAG_USER,
    FLAG_PASS,
    FLAG_AUTH,
    FLAG_SHARDS,
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
    { "VV", FLAG_TRACE, KIND_BOOL }, /* adds the system account's traffic, of which there is none */
    { "DV", FLAG_DEBUG_TRACE, KIND_BOOL },
    { "DVV", FLAG_DEBUG_TRACE, KIND_BOOL },
    { "T", FLAG_LOGTIME, KIND_BOOL },
    { "logtime", FLAG_LOGTIME, KIND_BOOL },
    { "logtime_utc", FLAG_LOGTIME_UTC, KIND_BOOL },
    { "max_traced_msg_len", FLAG_MAX_TRACED, KIND_INT },
    { "user", FLAG_USER, KIND_TEXT },
    { "pass", FLAG_PASS, KIND_TEXT },
    { "auth", FLAG_AUTH, KIND_TEXT },
    { "shards", FLAG_SHARDS, KIND_INT },
    { "m", FLAG_UNSUPPORTED, KIND_INT },
    { "http_port", FLAG_UNSUPPORTED, KIND_INT },
    { "ms", FLAG_UNSUPPORTED, KIND_INT },
    { "https_port", FLAG_UNSUPPORTED, KIND_INT },
    { "ports_file_dir", FLAG_UNSUPPORTED, KIND_TEXT },
    { "log_size_limit", FLAG_UNSUPPORTED, KIND_INT },
    { "s", FLAG_UNSUPPORTED, KIND_BOOL },
    { "syslog", FLAG_UNSUPPORTED, KIND_BOOL },
    { "r", FLAG_UNSUPPORTED, KIND_TEXT },
    { "remote_syslog", FLAG_UNSUPPORTED, KIND_TEXT },
    { "tls", FLAG_UNSUPPORTED, KIND_BOOL },
    { "tlsverify", FLAG_UNSUPPORTED, KIND_BOOL },
    { "tlscert", FLAG_UNSUPPORTED, KIND_TEXT },
    { "tlskey", FLAG_UNSUPPORTED, KIND_TEXT },
    { "tlscacert", FLAG_UNSUPPORTED, KIND_TEXT },
    { "help_tls", FLAG_UNSUPPORTED, KIND_BOOL },
    { "routes", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster_listen", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster_name", FLAG_UNSUPPORTED, KIND_TEXT },
    { "cluster_advertise", FLAG_UNSUPPORTED, KIND_TEXT },
    { "no_advertise", FLAG_UNSUPPORTED, KIND_BOOL },
    { "connect_retries", FLAG_UNSUPPORTED, KIND_INT },
    { "js", FLAG_UNSUPPORTED, KIND_BOOL },
    { "jetstream", FLAG_UNSUPPORTED, KIND_BOOL },
    { "sd", FLAG_UNSUPPORTED, KIND_TEXT },
    { "store_dir", FLAG_UNSUPPORTED, KIND_TEXT },
    { "profile", FLAG_UNSUPPORTED, KIND_INT },
    { "sl", FLAG_UNSUPPORTED, KIND_TEXT },
    { "signal", FLAG_UNSUPPORTED, KIND_TEXT },
};

/** What was given for a flag; the last one counts. */
struct given {
    bool present, truth;
    int64_t number;
    const char *text;
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
    "\n"
    "Logging Options:\n"
    "    -l, --log <file>                 Log to a file (default: standard error)\n"
    "    -T, --logtime                    Time in log lines (default: true; off with -T=false)\n"
    "        --logtime_utc                Time in UTC instead of local time\n"
    "    -D, --debug                      Debug output\n"
    "    -V, --trace                      Trace the protocol (-VV does the same)\n"
    "    -DV                              Debug output and trace (-DVV does the same)\n"
    "        --max_traced_msg_len <len>   Cut payloads in the trace (default: whole)\n"
    "\n"
    "Authorization Options:\n"
    "        --user <user>                User that clients must give\n"
    "        --pass <password>            Password that clients must give\n"
    "        --auth <token>               Token that clients must give\n"
    "\n"
    "Common Options:\n"
    "    -h, --help                       Show this text\n"
    "    -v, --version                    Show the version\n"
    "\n"
    "Other flags of nats-server are known but not supported yet: they are refused by name.\n";

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

static bool parse_bool(const char *text, bool *ret_value)
{
    static const char *const yes[] = { "1", "t", "T", "TRUE", "true", "True" };
    static const char *const no[] = { "0", "f", "F", "FALSE", "false", "False" };
    for (size_t i = 0; i < sizeof(yes) / sizeof(yes[0]); i++) {
        if (strcmp(text, yes[i]) == 0 || strcmp(text, no[i]) == 0) {
            *ret_value = strcmp(text, yes[i]) == 0;
            return true;
        }
    }
    return false;
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
    if (spelling->kind == KIND_BOOL && value != NULL && !parse_bool(value, &given.truth)) {
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

static bool lay_numbers(struct args *args, struct rb_config *config)
{
    const struct given *port = &args->given[FLAG_PORT], *shards = &args->given[FLAG_SHARDS];
    const struct given *traced = &args->given[FLAG_MAX_TRACED];
    if (port->present && port->number != 0) { /* 0 is "not given", as in nats-server */
        if (port->number < -1 || port->number > UINT16_MAX) {
            (void)fail(args, "port %lld is not between -1 and 65535", (long long)port->number);
            return false;
        }
        config->port = (int32_t)port->number;
    }
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
    return true;
}

static void lay_switches(const struct args *args, struct rb_config *config)
{
    const struct given *given = args->given;
    config->debug = given[FLAG_DEBUG].present ? given[FLAG_DEBUG].truth : config->debug;
    config->trace = given[FLAG_TRACE].present ? given[FLAG_TRACE].truth : config->trace;
    if (given[FLAG_DEBUG_TRACE].present) {
        config->debug = config->trace = given[FLAG_DEBUG_TRACE].truth;
    }
    config->logtime = given[FLAG_LOGTIME].present ? given[FLAG_LOGTIME].truth : config->logtime;
    config->logtime_utc =
        given[FLAG_LOGTIME_UTC].present ? given[FLAG_LOGTIME_UTC].truth : config->logtime_utc;
}

static bool lay_flags(struct args *args, struct rb_config *config)
{
    lay_switches(args, config);
    return lay_numbers(args, config) &&
           lay_text(args, FLAG_HOST, "addr", config->host, sizeof(config->host)) &&
           lay_text(args, FLAG_NAME, "name", config->server_name, sizeof(config->server_name)) &&
           lay_text(args, FLAG_ADVERTISE, "client_advertise", config->client_advertise,
                    sizeof(config->client_advertise)) &&
           lay_text(args, FLAG_PID, "pid", config->pid_file, sizeof(config->pid_file)) &&
           lay_text(args, FLAG_LOG, "log", config->log_file, sizeof(config->log_file)) &&
           lay_text(args, FLAG_USER, "user", config->user, sizeof(config->user)) &&
           lay_text(args, FLAG_PASS, "pass", config->pass, sizeof(config->pass)) &&
           lay_text(args, FLAG_AUTH, "auth", config->token, sizeof(config->token));
}

/** Reads the file, lays the flags over it, checks. */
static enum rb_args_action configure(struct args *args, struct rb_config *ret_config)
{
    static const char empty[] = "";
    const struct given *file = &args->given[FLAG_CONFIG];
    const char *path = file->present ? file->text : empty;
    struct rb_config config = *ret_config;
    char error[RB_CONFIG_ERROR_MAX] = "";
    bool check_only = is_set(args, FLAG_CHECK);
    if (check_only && path[0] == 0) {
        return fail(args, "must specify [-c, --config] option to check configuration file syntax");
    }
    if (path[0] != 0 && rb_config_load_file(&config, path, error) != RB_OK) {
        return fail(args, "%s", error);
    }
    if (check_only && error[0] != 0) { /* a warning */
        return fail(args, "%s", error);
    }
    snprintf(args->output, args->output_cap, "%s%s", error, error[0] != 0 ? "\n" : "");
    if (!lay_flags(args, &config)) {
        return RB_ARGS_EXIT_FAIL;
    }
    if (rb_config_check(&config, error) != RB_OK) {
        return fail(args, "%s", error);
    }
    *ret_config = config;
    if (!check_only) {
        return RB_ARGS_RUN;
    }
    int len = snprintf(args->output, args->output_cap, "%s: configuration file %s is valid (%s)\n",
                       args->program, path, config.config_digest);
    rb_assert(len >= 0 && (size_t)len + 1 < args->output_cap);
    args->output[len + 1] = 0; /* nothing for stdout */
    return RB_ARGS_CHECKED;
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
    if (args.word != NULL) {
        return fail(&args, "unrecognized command: \"%.128s\"", word);
    }
    if (args.unsupported != NULL) {
        return fail(&args, "flag -%s is not supported by ringbus yet", args.unsupported);
    }
    return configure(&args, config);
}
