/* errors.c - the table of errors, in order of err_code without holes. Its numbers are the protocol: clients match on them. */
#include "js/errors.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "js/doc.h"
#include "ringbus/check.h"

#define FIRST_CODE 10002

/* A {placeholder} stands for what the caller says; a text has at most two. */
static const struct {
    uint16_t status;
    const char *text;
} errors[] = {
    [10002 - FIRST_CODE] = { 400, "resource limits exceeded for account" },
    [10003 - FIRST_CODE] = { 400, "bad request" },
    [10004 - FIRST_CODE] = { 503, "incomplete results" },
    [10005 - FIRST_CODE] = { 400, "{err}" },
    [10006 - FIRST_CODE] = { 500, "JetStream not in clustered mode" },
    [10007 - FIRST_CODE] = { 500, "JetStream cluster not assigned to this server" },
    [10008 - FIRST_CODE] = { 503, "JetStream system temporarily unavailable" },
    [10009 - FIRST_CODE] = { 500, "JetStream cluster can not handle request" },
    [10010 - FIRST_CODE] = { 503, "JetStream clustering support required" },
    [10011 - FIRST_CODE] = { 400, "tags placement not supported for operation" },
    [10012 - FIRST_CODE] = { 500, "{err}" },
    [10013 - FIRST_CODE] = { 400, "consumer name already in use" },
    [10014 - FIRST_CODE] = { 404, "consumer not found" },
    [10015 - FIRST_CODE] = { 400, "deliver subject not valid" },
    [10016 -
        FIRST_CODE] = { 400, "consumer expected to be durable but no durable name set in subject" },
    [10017 -
        FIRST_CODE] = { 400, "consumer name in subject does not match durable name in request" },
    [10018 -
        FIRST_CODE] = { 400, "consumer expected to be durable but a durable name was not set" },
    [10019 - FIRST_CODE] = { 400, "consumer expected to be ephemeral but detected a durable name "
                                  "set in subject" },
    [10020 -
        FIRST_CODE] = { 400,
                        "consumer expected to be ephemeral but a durable name was set in request" },
    [10021 -
        FIRST_CODE] = { 400,
                        "stream external api prefix {prefix} must not overlap with {subject}" },
    [10022 - FIRST_CODE] = { 400, "stream external delivery prefix {prefix} overlaps with stream "
                                  "subject {subject}" },
    [10023 - FIRST_CODE] = { 503, "insufficient resources" },
    [10024 -
        FIRST_CODE] = { 400,
                        "stream external delivery prefix {prefix} must not contain wildcards" },
    [10025 - FIRST_CODE] = { 400, "invalid JSON: {err}" },
    [10026 - FIRST_CODE] = { 400, "maximum consumers limit reached" },
    [10027 - FIRST_CODE] = { 400, "maximum number of streams reached" },
    [10028 - FIRST_CODE] = { 500, "insufficient memory resources available" },
    [10029 - FIRST_CODE] = { 500, "{err}" },
    [10030 - FIRST_CODE] = { 400, "stream mirror must have max message size >= source" },
    [10031 - FIRST_CODE] = { 400, "stream mirrors can not also contain other sources" },
    [10032 -
        FIRST_CODE] = { 400,
                        "stream mirrors can not have both start seq and start time configured" },
    [10033 - FIRST_CODE] = { 400, "stream mirrors can not contain filtered subjects" },
    [10034 - FIRST_CODE] = { 400, "stream mirrors can not contain subjects" },
    [10035 - FIRST_CODE] = { 503, "account not found" },
    [10036 - FIRST_CODE] = { 503, "not currently supported in clustered mode" },
    [10037 - FIRST_CODE] = { 404, "no message found" },
    [10038 - FIRST_CODE] = { 400, "expected an empty request payload" },
    [10039 - FIRST_CODE] = { 503, "JetStream not enabled for account" },
    [10040 - FIRST_CODE] = { 400, "peer not a member" },
    [10041 - FIRST_CODE] = { 500, "{err}" },
    [10042 -
        FIRST_CODE] = { 500, "JetStream unable to subscribe to restore snapshot {subject}: {err}" },
    [10043 - FIRST_CODE] = { 400, "sequence {seq} not found" },
    [10044 - FIRST_CODE] = { 400, "server is not a member of the cluster" },
    [10045 - FIRST_CODE] = { 500, "{err}" },
    [10046 - FIRST_CODE] = { 400, "stream source must have max message size >= target" },
    [10047 - FIRST_CODE] = { 500, "insufficient storage resources available" },
    [10048 - FIRST_CODE] = { 500, "{err}" },
    [10049 - FIRST_CODE] = { 500, "{err}" },
    [10050 - FIRST_CODE] = { 500, "{err}" },
    [10051 - FIRST_CODE] = { 500, "{err}" },
    [10052 - FIRST_CODE] = { 500, "{err}" },
    [10053 - FIRST_CODE] = { 500, "{err}" },
    [10054 - FIRST_CODE] = { 400, "message size exceeds maximum allowed" },
    [10055 - FIRST_CODE] = { 400, "stream mirror configuration can not be updated" },
    [10056 - FIRST_CODE] = { 400, "stream name in subject does not match request" },
    [10057 - FIRST_CODE] = { 500, "{err}" },
    [10058 - FIRST_CODE] = { 400, "stream name already in use with a different configuration" },
    [10059 - FIRST_CODE] = { 404, "stream not found" },
    [10060 - FIRST_CODE] = { 400, "expected stream does not match" },
    [10061 - FIRST_CODE] = { 400, "Replicas configuration can not be updated" },
    [10062 - FIRST_CODE] = { 500, "restore failed: {err}" },
    [10063 - FIRST_CODE] = { 503, "expected stream sequence does not match" },
    [10064 - FIRST_CODE] = { 500, "snapshot failed: {err}" },
    [10065 - FIRST_CODE] = { 400, "subjects overlap with an existing stream" },
    [10066 - FIRST_CODE] = { 500, "{err}" },
    [10067 - FIRST_CODE] = { 500, "{err}" },
    [10068 - FIRST_CODE] = { 404, "template not found" },
    [10069 - FIRST_CODE] = { 500, "{err}" },
    [10070 - FIRST_CODE] = { 400, "wrong last msg ID: {id}" },
    [10071 - FIRST_CODE] = { 400, "wrong last sequence: {seq}" },
    [10072 - FIRST_CODE] = { 500, "JetStream unable to open temp storage for restore" },
    [10073 - FIRST_CODE] = { 400, "template name in subject does not match request" },
    [10074 - FIRST_CODE] = { 500, "replicas > 1 not supported in non-clustered mode" },
    [10075 - FIRST_CODE] = { 503, "peer remap failed" },
    [10076 - FIRST_CODE] = { 503, "JetStream not enabled" },
    [10077 - FIRST_CODE] = { 503, "{err}" },
    [10078 - FIRST_CODE] = { 400, "consumer config required" },
    [10079 - FIRST_CODE] = { 400, "consumer deliver subject has wildcards" },
    [10080 - FIRST_CODE] = { 400, "consumer in push mode can not set max waiting" },
    [10081 - FIRST_CODE] = { 400, "consumer deliver subject forms a cycle" },
    [10082 - FIRST_CODE] = { 400, "consumer requires ack policy for max ack pending" },
    [10083 - FIRST_CODE] = { 400, "consumer idle heartbeat needs to be >= 100ms" },
    [10084 -
        FIRST_CODE] = { 400,
                        "consumer in pull mode requires explicit ack policy on workqueue stream" },
    [10085 - FIRST_CODE] = { 400, "consumer in pull mode requires a durable name" },
    [10086 - FIRST_CODE] = { 400, "consumer in pull mode can not have rate limit set" },
    [10087 - FIRST_CODE] = { 400, "consumer max waiting needs to be positive" },
    [10088 - FIRST_CODE] = { 400, "consumer idle heartbeat requires a push based consumer" },
    [10089 - FIRST_CODE] = { 400, "consumer flow control requires a push based consumer" },
    [10090 - FIRST_CODE] = { 400, "consumer direct requires a push based consumer" },
    [10091 - FIRST_CODE] = { 400, "consumer direct requires an ephemeral consumer" },
    [10092 - FIRST_CODE] = { 400, "consumer direct on a mapped consumer" },
    [10093 -
        FIRST_CODE] = { 400,
                        "consumer filter subject is not a valid subset of the interest subjects" },
    [10094 - FIRST_CODE] = { 400, "{err}" },
    [10095 - FIRST_CODE] = { 400, "failed to parse consumer sampling configuration: {err}" },
    [10096 - FIRST_CODE] = { 500, "stream not valid" },
    [10097 - FIRST_CODE] = { 400, "header size exceeds maximum allowed of 64k" },
    [10098 - FIRST_CODE] = { 400, "workqueue stream requires explicit ack" },
    [10099 -
        FIRST_CODE] = { 400, "multiple non-filtered consumers not allowed on workqueue stream" },
    [10100 - FIRST_CODE] = { 400, "filtered consumer not unique on workqueue stream" },
    [10101 - FIRST_CODE] = { 400, "consumer must be deliver all on workqueue stream" },
    [10102 - FIRST_CODE] = { 400, "consumer name is too long, maximum allowed is {max}" },
    [10103 - FIRST_CODE] = { 400, "durable name can not contain '.', '*', '>'" },
    [10104 - FIRST_CODE] = { 500, "error creating store for consumer: {err}" },
    [10105 - FIRST_CODE] = { 400, "consumer already exists and is still active" },
    [10106 - FIRST_CODE] = { 400, "consumer replacement durable config not the same" },
    [10107 - FIRST_CODE] = { 400, "consumer description is too long, maximum allowed is {max}" },
    [10108 - FIRST_CODE] = { 400, "consumer with flow control also needs heartbeats" },
    [10109 - FIRST_CODE] = { 400, "invalid operation on sealed stream" },
    [10110 - FIRST_CODE] = { 500, "{err}" },
    [10111 - FIRST_CODE] = { 500, "{err}" },
    [10112 - FIRST_CODE] = { 400, "invalid push consumer deliver subject" },
    [10113 - FIRST_CODE] = { 400, "account requires a stream config to have max bytes set" },
    [10114 - FIRST_CODE] = { 400, "consumer max request batch needs to be > 0" },
    [10115 - FIRST_CODE] = { 400, "consumer max request expires needs to be >= 1ms" },
    [10116 - FIRST_CODE] = { 400, "max deliver is required to be > length of backoff values" },
    [10117 - FIRST_CODE] = { 500, "subject details would exceed maximum allowed" },
    [10118 - FIRST_CODE] = { 500, "stream is offline" },
    [10119 - FIRST_CODE] = { 500, "consumer is offline" },
    [10120 - FIRST_CODE] = { 400, "no JetStream default or applicable tiered limit present" },
    [10121 - FIRST_CODE] = { 400, "consumer max ack pending exceeds system limit of {limit}" },
    [10122 - FIRST_CODE] = { 400, "stream max bytes exceeds account limit max stream bytes" },
    [10123 - FIRST_CODE] = { 400, "can not move and scale a stream in a single update" },
    [10124 - FIRST_CODE] = { 400, "stream move already in progress" },
    [10125 - FIRST_CODE] = { 400, "consumer max request batch exceeds server limit of {limit}" },
    [10126 - FIRST_CODE] = { 400, "consumer config replica count exceeds parent stream" },
    [10127 - FIRST_CODE] = { 400, "Consumer name can not contain path separators" },
    [10128 - FIRST_CODE] = { 400, "Stream name can not contain path separators" },
    [10129 - FIRST_CODE] = { 400, "stream reconfiguration not in progress" },
    [10130 - FIRST_CODE] = { 400, "stream name already in use, cannot restore" },
    [10131 - FIRST_CODE] = { 400, "Consumer create request did not match filtered subject from "
                                  "create subject" },
    [10132 -
        FIRST_CODE] = { 400, "Consumer Durable and Name have to be equal if both are provided" },
    [10133 - FIRST_CODE] = { 400, "replicas count cannot be negative" },
    [10134 - FIRST_CODE] = { 400, "consumer config replicas must match interest retention stream's "
                                  "replicas" },
    [10135 - FIRST_CODE] = { 400, "consumer metadata exceeds maximum size of {limit}" },
    [10136 -
        FIRST_CODE] = { 400,
                        "consumer cannot have both FilterSubject and FilterSubjects specified" },
    [10137 -
        FIRST_CODE] = { 400,
                        "consumer with multiple subject filters cannot use subject based API" },
    [10138 - FIRST_CODE] = { 400, "consumer subject filters cannot overlap" },
    [10139 - FIRST_CODE] = { 400, "consumer filter in FilterSubjects cannot be empty" },
    [10140 - FIRST_CODE] = { 400, "duplicate source configuration detected" },
    [10141 - FIRST_CODE] = { 400, "sourced stream name is invalid" },
    [10142 - FIRST_CODE] = { 400, "mirrored stream name is invalid" },
    [10143 - FIRST_CODE] = { 400, "stream mirrors can not have first sequence configured" },
    [10144 - FIRST_CODE] = { 400, "source with multiple subject transforms cannot also have a "
                                  "single subject filter" },
    [10145 - FIRST_CODE] = { 400, "source transform source: {err}" },
    [10146 - FIRST_CODE] = { 400, "source transform: {err}" },
    [10147 - FIRST_CODE] = { 400, "source filters can not overlap" },
    [10148 - FIRST_CODE] = { 400, "consumer already exists" },
    [10149 - FIRST_CODE] = { 400, "consumer does not exist" },
    [10150 - FIRST_CODE] = { 400, "mirror with multiple subject transforms cannot also have a "
                                  "single subject filter" },
    [10151 - FIRST_CODE] = { 400, "mirror transform source: {err}" },
    [10152 - FIRST_CODE] = { 400, "mirror subject filters can not overlap" },
    [10153 - FIRST_CODE] = { 400, "consumer inactive threshold exceeds system limit of {limit}" },
    [10154 - FIRST_CODE] = { 400, "mirror transform: {err}" },
    [10155 - FIRST_CODE] = { 400, "stream transform source: {err}" },
    [10156 - FIRST_CODE] = { 400, "stream transform: {err}" },
    [10157 - FIRST_CODE] = { 400, "pedantic mode: {err}" },
    [10158 - FIRST_CODE] = { 409, "duplicate message id is in process" },
    [10159 -
        FIRST_CODE] = { 400,
                        "Setting PriorityPolicy requires at least one PriorityGroup to be set" },
    [10160 - FIRST_CODE] = { 400, "Provided priority group does not exist for this consumer" },
    [10161 - FIRST_CODE] = { 400, "Group name cannot be an empty string" },
    [10162 - FIRST_CODE] = { 400, "Valid priority group name must match A-Z, a-z, 0-9, -_/=)+ and "
                                  "may not exceed 16 characters" },
    [10163 - FIRST_CODE] = { 503, "expected last sequence per subject temporarily unavailable" },
    [10164 - FIRST_CODE] = { 400, "wrong last sequence" },
    [10165 - FIRST_CODE] = { 400, "invalid per-message TTL" },
    [10166 - FIRST_CODE] = { 400, "per-message TTL is disabled" },
    [10167 - FIRST_CODE] = { 429, "too many requests" },
    [10168 - FIRST_CODE] = { 400, "message counters is disabled" },
    [10169 - FIRST_CODE] = { 400, "message counter increment is missing" },
    [10170 - FIRST_CODE] = { 400, "message counter has payload" },
    [10171 - FIRST_CODE] = { 400, "message counter increment is invalid" },
    [10172 - FIRST_CODE] = { 400, "message counter is broken" },
    [10173 - FIRST_CODE] = { 400, "stream mirrors can not also calculate counters" },
    [10174 - FIRST_CODE] = { 400, "atomic publish is disabled" },
    [10175 - FIRST_CODE] = { 400, "atomic publish sequence is missing" },
    [10176 - FIRST_CODE] = { 400, "atomic publish batch is incomplete" },
    [10177 - FIRST_CODE] = { 400, "atomic publish unsupported header used: {header}" },
    [10178 - FIRST_CODE] = { 400, "priority groups can not be used with push consumers" },
    [10179 - FIRST_CODE] = { 400, "atomic publish batch ID is invalid" },
    [10180 - FIRST_CODE] = { 412, "min last sequence" },
    [10181 - FIRST_CODE] = { 400, "consumer ack policy invalid" },
    [10182 - FIRST_CODE] = { 400, "consumer replay policy invalid" },
    [10183 - FIRST_CODE] = { 400, "consumer ack wait needs to be positive" },
    [10184 - FIRST_CODE] = { 400, "consumer backoff needs to be positive" },
    [10185 - FIRST_CODE] = { 412, "JetStream minimum api level required" },
    [10186 - FIRST_CODE] = { 400, "stream mirrors can not also schedule messages" },
    [10187 - FIRST_CODE] = { 400, "stream source can not also schedule messages" },
    [10188 - FIRST_CODE] = { 400, "message schedules is disabled" },
    [10189 - FIRST_CODE] = { 400, "message schedules pattern is invalid" },
    [10190 - FIRST_CODE] = { 400, "message schedules target is invalid" },
    [10191 - FIRST_CODE] = { 400, "message schedules invalid per-message TTL" },
    [10192 - FIRST_CODE] = { 400, "message schedules invalid rollup" },
    [10193 - FIRST_CODE] = { 400, "missing sequence for expected last sequence per subject" },
    [10194 - FIRST_CODE] = { 500, "stream is offline: {err}" },
    [10195 - FIRST_CODE] = { 500, "consumer is offline: {err}" },
    [10196 - FIRST_CODE] = { 400, "consumer can not have priority groups when policy is none" },
    [10197 - FIRST_CODE] = { 400, "PinnedTTL cannot be set when PriorityPolicy is none" },
    [10198 - FIRST_CODE] = { 400, "stream mirrors can not also use atomic publishing" },
    [10199 - FIRST_CODE] = { 400, "atomic publish batch is too large: {size}" },
    [10200 - FIRST_CODE] = { 400, "atomic publish batch commit is invalid" },
    [10201 - FIRST_CODE] = { 400, "atomic publish batch contains duplicate message id" },
    [10202 - FIRST_CODE] = { 400, "cluster member change is in progress" },
    [10203 - FIRST_CODE] = { 400, "message schedules source is invalid" },
    [10204 - FIRST_CODE] = { 400, "invalid reset: {err}" },
    [10205 - FIRST_CODE] = { 400, "batch publish is disabled" },
    [10206 - FIRST_CODE] = { 400, "batch publish pattern is invalid" },
    [10207 - FIRST_CODE] = { 400, "batch publish ID is invalid" },
    [10208 - FIRST_CODE] = { 400, "batch publish ID unknown" },
    [10209 - FIRST_CODE] = { 400, "stream mirrors can not also use batch publishing" },
    [10210 - FIRST_CODE] = { 429, "atomic publish too many inflight" },
    [10211 - FIRST_CODE] = { 429, "batch publish too many inflight" },
    [10212 - FIRST_CODE] = { 400, "message schedules invalid scheduler" },
    [10213 - FIRST_CODE] = { 400, "stream mirror consumer config is invalid" },
    [10214 - FIRST_CODE] = { 400, "stream mirror consumer requires flow control ack policy" },
    [10215 - FIRST_CODE] = { 400, "stream source consumer config is invalid" },
    [10216 - FIRST_CODE] = { 400, "duplicate stream source consumer detected" },
    [10217 - FIRST_CODE] = { 400, "stream source consumer requires flow control ack policy" },
    [10218 - FIRST_CODE] = { 400, "flow control ack policy requires a push based consumer" },
    [10219 - FIRST_CODE] = { 400, "flow control ack policy requires flow control" },
    [10220 - FIRST_CODE] = { 400, "flow control ack policy requires max ack pending" },
    [10221 - FIRST_CODE] = { 400, "flow control ack policy requires unset ack wait" },
    [10222 - FIRST_CODE] = { 400, "flow control ack policy requires unset max deliver" },
    [10223 - FIRST_CODE] = { 400, "message schedules time zone is invalid" },
    [10224 - FIRST_CODE] = { 400, "JetStream system rescue not applied: {err}" },
    [10225 - FIRST_CODE] = { 400, "consumer's stream identity does not match: {msg}" },
    [10226 - FIRST_CODE] = { 400, "stream reconfiguration already in progress" },
    [10227 - FIRST_CODE] = { 400, "message stream source header is not allowed" },
};

static void put(struct rb_js_error *error, size_t *len, const char *text, size_t text_len)
{
    size_t room = sizeof(error->text) - 1 - *len;
    size_t taken = text_len < room ? text_len : room;
    memcpy(error->text + *len, text, taken);
    *len += taken;
}

void rb_js_error_set_two(struct rb_js_error *error, uint16_t code, const char *first,
                         const char *second)
{
    rb_assert(code >= FIRST_CODE && code < FIRST_CODE + sizeof(errors) / sizeof(errors[0]));
    error->code = code;
    error->status = errors[code - FIRST_CODE].status;
    const char *details[] = { first, second }, *at = errors[code - FIRST_CODE].text;
    size_t len = 0;
    for (int i = 0; i < 2 && details[i] != NULL; i++) {
        const char *open = strchr(at, '{');
        if (open == NULL) {
            break;
        }
        put(error, &len, at, (size_t)(open - at));
        put(error, &len, details[i], strlen(details[i]));
        at = strchr(open, '}') + 1;
    }
    put(error, &len, at, strlen(at));
    error->text[len] = '\0';
}

void rb_js_error_set(struct rb_js_error *error, uint16_t code, const char *detail)
{
    rb_js_error_set_two(error, code, detail, NULL);
}

void rb_js_error_format(struct rb_js_error *error, uint16_t code, const char *format, ...)
{
    char detail[RB_JS_ERROR_TEXT_MAX];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(detail, sizeof(detail), format, args);
    va_end(args);
    rb_js_error_set(error, code, detail);
}

void rb_js_error_write(struct rb_out *out, const struct rb_js_error *error)
{
    rb_out_printf(out, "{\"code\":%u", error->status);
    if (error->code != 0) {
        rb_out_printf(out, ",\"err_code\":%u", error->code);
    }
    if (error->text[0] != '\0') {
        rb_out_put(out, RB_S(",\"description\":"));
        rb_out_string(out, rb_slice_text(error->text));
    }
    rb_out_put(out, RB_S("}"));
}
