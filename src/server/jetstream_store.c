/* jetstream_store.c - the store directory, its lock, the sizes of the server, and where accounts live. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "ringbus/bounds.h"
#include "server/jetstream_inside.h"
#include "server/monitor.h"
#include "server/shard.h"
#include "server/text.h"

#define DIRECTORY_MODE 0750
#define LOCK_MODE 0640
#define HOMES_MAX 1024

#define CACHE_BYTES_MIN (UINT64_C(8) << 20)
#define CACHE_BYTES_MAX (UINT64_C(64) << 20)

__attribute__((format(printf, 3, 4))) static enum rb_err refuse(char *error, enum rb_err err,
                                                                const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)vsnprintf(error, RB_JETSTREAM_ERROR_MAX, format, args);
    va_end(args);
    return err;
}

/* Directories */

/* As `mkdir -p`. */
static enum rb_err make_directories(const char *path, char *error)
{
    char part[PATH_MAX];
    struct stat found;
    if (strlen(path) >= sizeof(part)) {
        return refuse(error, RB_ERR_IO, "could not create storage directory - %s: too long", path);
    }
    for (const char *at = path;;) {
        at = strchr(at + 1, '/');
        size_t len = at == NULL ? strlen(path) : (size_t)(at - path);
        memcpy(part, path, len);
        part[len] = '\0';
        if (mkdir(part, DIRECTORY_MODE) != 0 && errno != EEXIST) {
            return refuse(error, RB_ERR_IO, "could not create storage directory - mkdir %s: %s",
                          part, strerror(errno));
        }
        if (at == NULL) {
            break;
        }
    }
    if (stat(path, &found) != 0 || !S_ISDIR(found.st_mode)) {
        return refuse(error, RB_ERR_IO, "storage directory is not a directory");
    }
    return RB_OK;
}

static enum rb_err set_directory(struct rb_jetstream *jetstream, char *error)
{
    const char *given = jetstream->options.config->jetstream.store_dir;
    char temporary[RB_CONFIG_TEXT_MAX * 4];
    if (given[0] == '\0') { /* the same after a restart */
        const char *tmp = getenv("TMPDIR");
        (void)snprintf(temporary, sizeof(temporary), "%s/nats",
                       tmp == NULL || tmp[0] == '\0' ? "/tmp" : tmp);
        given = temporary;
        rb_log_wrn(jetstream->options.log,
                   "Temporary storage directory used, data could be lost on system reboot");
    }
    size_t len = strlen(given);
    while (len > 1 && given[len - 1] == '/') {
        len--;
    }
    (void)snprintf(jetstream->directory, sizeof(jetstream->directory), "%.*s/jetstream", (int)len,
                   given);
    return make_directories(jetstream->directory, error);
}

static enum rb_err take_lock(struct rb_jetstream *jetstream, char *error)
{
    char path[sizeof(jetstream->directory) + 8];
    (void)snprintf(path, sizeof(path), "%s/lock", jetstream->directory);
    jetstream->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, LOCK_MODE);
    if (jetstream->lock_fd < 0) {
        return refuse(error, RB_ERR_IO, "open %s: %s", path, strerror(errno));
    }
    if (flock(jetstream->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return errno == EWOULDBLOCK
                   ? refuse(error, RB_ERR_IN_USE,
                            "storage directory \"%s\" is in use by another server",
                            jetstream->directory)
                   : refuse(error, RB_ERR_IO, "flock %s: %s", path, strerror(errno));
    }
    return RB_OK;
}

/* The number that is the whole of `name`; -1: it is not one. */
static int home_number(const char *name)
{
    int number = 0;
    for (const char *at = name; *at != '\0'; at++) {
        if (!isdigit((unsigned char)*at) || (at == name + 1 && name[0] == '0') ||
            number > HOMES_MAX) {
            return -1;
        }
        number = number * 10 + (*at - '0');
    }
    return name[0] == '\0' || number >= HOMES_MAX ? -1 : number;
}

/* Homes are as many as shards, and more when an earlier server had more of them. */
static enum rb_err find_homes(struct rb_jetstream *jetstream, char *error)
{
    DIR *directory = opendir(jetstream->directory);
    if (directory == NULL) {
        return refuse(error, RB_ERR_IO, "open %s: %s", jetstream->directory, strerror(errno));
    }
    jetstream->home_count = jetstream->options.shard_count;
    char foreign[NAME_MAX + 1] = "";
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
        int number = home_number(entry->d_name);
        if (number >= (int)jetstream->home_count) {
            jetstream->home_count = (uint32_t)number + 1;
        }
        if (number < 0 && entry->d_name[0] != '.' && strcmp(entry->d_name, "lock") != 0) {
            (void)snprintf(foreign, sizeof(foreign), "%s", entry->d_name);
        }
    }
    (void)closedir(directory);
    if (foreign[0] != '\0') {
        rb_log_wrn(jetstream->options.log,
                   "the storage directory holds \"%s\", which is not of ringbus: it is left alone "
                   "and not read (streams of nats-server move by backup and restore)",
                   foreign);
    }
    return RB_OK;
}

/* Sizes */

static int64_t memory_of_machine(void)
{
    return (int64_t)sysconf(_SC_PHYS_PAGES) * (int64_t)sysconf(_SC_PAGESIZE) / 4 * 3;
}

static int64_t free_on_disk(const char *directory)
{
    struct statvfs found;
    if (statvfs(directory, &found) != 0) {
        return -1;
    }
    return (int64_t)((uint64_t)found.f_bavail * (uint64_t)found.f_frsize / 4 * 3);
}

static void set_limits(struct rb_js_settings *settings, const struct rb_config_jetstream *config)
{
    settings->max_ack_pending = config->max_ack_pending;
    settings->max_request_batch = config->max_request_batch;
    settings->duplicate_window = config->duplicate_window_ns;
    settings->batch_inflight_per_stream =
        config->batch_inflight_per_stream > 0 ? (uint32_t)config->batch_inflight_per_stream : 0;
    settings->batch_inflight_total =
        config->batch_inflight_total > 0 ? (uint32_t)config->batch_inflight_total : 0;
    settings->batch_msgs = config->batch_msgs > 0 ? (uint32_t)config->batch_msgs : 0;
    settings->batch_timeout_ns =
        config->batch_timeout_ns > 0 ? (uint64_t)config->batch_timeout_ns : 0;
    settings->requests_max =
        config->request_queue_limit > 0 && config->request_queue_limit <= UINT32_MAX
            ? (uint32_t)config->request_queue_limit
            : 0;
    settings->queries_max = config->info_queue_limit > 0 && config->info_queue_limit <= UINT32_MAX
                                ? (uint32_t)config->info_queue_limit
                                : 0;
    settings->max_memory = config->max_memory >= 0 ? config->max_memory : settings->max_memory;
    settings->max_storage = config->max_storage >= 0 ? config->max_storage : settings->max_storage;
}

static void set_settings(struct rb_jetstream *jetstream)
{
    const struct rb_config_jetstream *config = &jetstream->options.config->jetstream;
    uint64_t cache = (uint64_t)memory_of_machine() / 16 / jetstream->home_count;
    jetstream->settings = (struct rb_js_settings){
        .max_memory = memory_of_machine(),
        .max_storage = free_on_disk(jetstream->directory),
        .domain = rb_slice_text(config->domain),
        .strict = !config->lenient,
        .lazy = config->lazy,
        .max_buffered_msgs = config->max_buffered_msgs,
        .max_buffered_bytes = config->max_buffered_bytes,
        .server_name = jetstream->options.server_name,
        .server_id = jetstream->options.server_id,
        .version = RB_S(RB_NATS_VERSION),
        .cache_bytes = cache < CACHE_BYTES_MIN   ? CACHE_BYTES_MIN
                       : cache > CACHE_BYTES_MAX ? CACHE_BYTES_MAX
                                                 : cache,
    };
    set_limits(&jetstream->settings, config);
}

void rb_jetstream_reload(struct rb_jetstream *jetstream, const struct rb_config *config)
{
    pthread_mutex_lock(&jetstream->lock);
    set_limits(&jetstream->settings, &config->jetstream);
    pthread_mutex_unlock(&jetstream->lock);
}

struct rb_js_settings rb_jetstream_settings(const struct rb_jetstream *jetstream)
{
    struct rb_jetstream *locked = (struct rb_jetstream *)(uintptr_t)jetstream;
    pthread_mutex_lock(&locked->lock);
    struct rb_js_settings settings = jetstream->settings;
    pthread_mutex_unlock(&locked->lock);
    return settings;
}

static uint64_t count_of(const _Atomic int64_t *counter)
{
    int64_t value = atomic_load(counter);
    return value < 0 ? 0 : (uint64_t)value;
}

void rb_jetstream_view(const struct rb_jetstream *jetstream, const struct rb_policy *policy,
                       struct rb_monitor_jetstream *ret_view)
{
    struct rb_js_settings settings = rb_jetstream_settings(jetstream);
    const struct rb_js_shared *shared = &jetstream->shared;
    uint64_t accounts = 0;
    for (uint32_t i = 0; i < policy->account_count; i++) {
        accounts += rb_policy_jetstream_of(policy, i) != NULL;
    }
    *ret_view = (struct rb_monitor_jetstream){
        .enabled = true,
        .directory = jetstream->directory,
        .max_memory = settings.max_memory,
        .max_storage = settings.max_storage,
        .memory = count_of(&shared->memory),
        .storage = count_of(&shared->storage),
        .reserved_memory = count_of(&shared->reserved_memory),
        .reserved_storage = count_of(&shared->reserved_storage),
        .api_total = atomic_load(&shared->api_total),
        .api_errors = atomic_load(&shared->api_errors),
        .accounts = accounts,
        .streams = count_of(&shared->streams),
        .consumers = count_of(&shared->consumers),
        .messages = count_of(&shared->messages),
    };
}

/* Where accounts live */

bool rb_jetstream_claim(struct rb_jetstream *jetstream, struct rb_slice name, uint32_t home,
                        bool found)
{
    bool recovered = atomic_load(&jetstream->recovered_count) == jetstream->options.shard_count;
    uint64_t hash = rb_slice_hash(name);
    pthread_mutex_lock(&jetstream->lock);
    struct claim **bucket = &jetstream->claims[hash % CLAIM_BUCKETS], *claim = *bucket;
    while (claim != NULL && !rb_slice_equal(rb_slice_of(claim->name, claim->name_len), name)) {
        claim = claim->next;
    }
    uint32_t chosen = (uint32_t)(hash % jetstream->options.shard_count);
    bool here = claim != NULL ? claim->home == home : found || (recovered && chosen == home);
    if (claim == NULL && here) {
        claim = malloc(sizeof(*claim) + name.len);
        if (claim != NULL) {
            *claim =
                (struct claim){ .next = *bucket, .home = home, .name_len = (uint32_t)name.len };
            memcpy(claim->name, name.ptr, name.len);
            *bucket = claim;
        }
        here = claim != NULL;
    }
    pthread_mutex_unlock(&jetstream->lock);
    return here;
}

/* Start and end */

static void log_block(const struct rb_jetstream *jetstream)
{
    struct rb_log *log = jetstream->options.log;
    const struct rb_config_jetstream *config = &jetstream->options.config->jetstream;
    char text[RB_BYTES_TEXT_MAX];
    rb_log_inf(log, "---------------- JETSTREAM ----------------");
    if (!config->lenient) {
        rb_log_inf(log, "  Strict:          true");
    }
    rb_log_inf(log, "  Max Memory:      %s", rb_text_bytes(jetstream->settings.max_memory, text));
    rb_log_inf(log, "  Max Storage:     %s", rb_text_bytes(jetstream->settings.max_storage, text));
    rb_log_inf(log, "  Store Directory: \"%s\"", jetstream->directory);
    if (config->domain[0] != '\0') {
        rb_log_inf(log, "  Domain:          %s", config->domain);
    }
    rb_log_inf(log, "  API Level:       %u", RB_JS_API_LEVEL);
    rb_log_inf(log, "-------------------------------------------");
    if (config->lazy) {
        rb_log_wrn(log, "sync_interval is a duration: messages are acknowledged before they are on "
                        "disk, and a crash of the machine may lose them");
    }
}

enum rb_err rb_jetstream_create(const struct rb_jetstream_options *options,
                                struct rb_jetstream **ret_jetstream,
                                char error[RB_JETSTREAM_ERROR_MAX])
{
    struct rb_jetstream *jetstream = calloc(1, sizeof(*jetstream));
    if (jetstream == NULL) {
        return refuse(error, RB_ERR_MEMORY, "%s", rb_err_text(RB_ERR_MEMORY));
    }
    jetstream->options = *options;
    jetstream->lock_fd = -1;
    (void)pthread_mutex_init(&jetstream->lock, NULL);
    rb_log_inf(options->log, "Starting JetStream");
    enum rb_err err = set_directory(jetstream, error);
    if (err == RB_OK) {
        err = take_lock(jetstream, error);
    }
    if (err == RB_OK) {
        err = find_homes(jetstream, error);
    }
    if (err != RB_OK) {
        rb_jetstream_destroy(jetstream);
        return err;
    }
    set_settings(jetstream);
    log_block(jetstream);
    *ret_jetstream = jetstream;
    return RB_OK;
}

void rb_jetstream_destroy(struct rb_jetstream *jetstream)
{
    if (jetstream == NULL) {
        return;
    }
    for (uint32_t i = 0; i < CLAIM_BUCKETS; i++) {
        while (jetstream->claims[i] != NULL) {
            struct claim *claim = jetstream->claims[i];
            jetstream->claims[i] = claim->next;
            free(claim);
        }
    }
    if (jetstream->lock_fd >= 0) {
        (void)close(jetstream->lock_fd); /* gives up the lock */
    }
    (void)pthread_mutex_destroy(&jetstream->lock);
    free(jetstream);
}

const char *rb_jetstream_directory(const struct rb_jetstream *jetstream)
{
    return jetstream->directory;
}

uint32_t rb_jetstream_home_count(const struct rb_jetstream *jetstream)
{
    return jetstream->home_count;
}

bool rb_jetstream_ready(const struct rb_jetstream *jetstream)
{
    return atomic_load(&jetstream->told_count) == jetstream->options.shard_count;
}

void rb_jetstream_fail(struct rb_jetstream *jetstream, const char *why)
{
    pthread_mutex_lock(&jetstream->lock);
    if (jetstream->failure[0] == '\0') {
        (void)snprintf(jetstream->failure, sizeof(jetstream->failure), "%s", why);
    }
    pthread_mutex_unlock(&jetstream->lock);
    atomic_store(&jetstream->failed, true);
}

bool rb_jetstream_failed(struct rb_jetstream *jetstream, char error[RB_JETSTREAM_ERROR_MAX])
{
    if (!atomic_load(&jetstream->failed)) {
        return false;
    }
    pthread_mutex_lock(&jetstream->lock);
    memcpy(error, jetstream->failure, sizeof(jetstream->failure));
    pthread_mutex_unlock(&jetstream->lock);
    return true;
}
