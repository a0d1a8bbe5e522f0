/*
 * jetstream.c - the C client library (nats.c) on JetStream, for py/js_clients.py.
 *
 *   jetstream HOST PORT
 *
 * Prints ["label", "value"] for each thing it saw: streams, publishes, pull and push consumers, key-value. What differs
 * from run to run is not printed. Ends with 1 when a call that must succeed did not.
 */
#include <nats/nats.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WAIT_MS 5000

static natsConnection *conn;
static jsCtx *js;

/* One record; texts are ours or the server's errors, so quotes are all that needs care. */
__attribute__((format(printf, 2, 3))) static void rec(const char *label, const char *format, ...)
{
    char text[2048];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    for (char *c = text; *c != '\0'; c++) {
        *c = *c == '"' || *c == '\\' ? '\'' : *c;
    }
    printf("[\"%s\",\"%s\"]\n", label, text);
    fflush(stdout);
}

static void must(natsStatus status, const char *what)
{
    if (status != NATS_OK) {
        fprintf(stderr, "%s: %s: %s\n", what, natsStatus_GetText(status),
                nats_GetLastError(&status));
        exit(1);
    }
}

static void failing(const char *label, natsStatus status, jsErrCode code)
{
    rec(label, "%s, %d", natsStatus_GetText(status), (int)code);
}

static void publish(const char *label, const char *subject, const char *body, jsPubOptions *options)
{
    jsPubAck *ack = NULL;
    jsErrCode code = 0;
    natsStatus status = js_Publish(&ack, js, subject, body, (int)strlen(body), options, &code);
    if (status == NATS_OK) {
        rec(label, "%s %llu%s", ack->Stream, (unsigned long long)ack->Sequence,
            ack->Duplicate ? " duplicate" : "");
    } else {
        failing(label, status, code);
    }
    jsPubAck_Destroy(ack);
}

static void streams(void)
{
    jsStreamConfig config;
    jsStreamInfo *info = NULL;
    jsErrCode code = 0;
    const char *subjects[] = { "orders.*" };
    must(jsStreamConfig_Init(&config), "config");
    config.Name = "ORDERS";
    config.Subjects = subjects;
    config.SubjectsLen = 1;
    config.MaxMsgsPerSubject = 50;
    config.AllowDirect = true;
    must(js_AddStream(&info, js, &config, NULL, &code), "add stream");
    rec("add stream", "%s %s %lld %llu", info->Config->Name, info->Config->Subjects[0],
        (long long)info->Config->MaxMsgsPerSubject, (unsigned long long)info->State.Msgs);
    jsStreamInfo_Destroy(info);
    config.Name = "OTHER";
    failing("add with overlap", js_AddStream(NULL, js, &config, NULL, &code), code);
    for (int i = 0; i < 20; i++) {
        char subject[32], body[32], id[32];
        snprintf(subject, sizeof(subject), "orders.%d", i % 4);
        snprintf(body, sizeof(body), "order %d", i);
        snprintf(id, sizeof(id), "o%d", i);
        jsPubOptions options;
        must(jsPubOptions_Init(&options), "options");
        options.MsgId = id;
        publish(id, subject, body, &options);
    }
    jsPubOptions options;
    must(jsPubOptions_Init(&options), "options");
    options.MsgId = "o0";
    publish("publish a duplicate", "orders.0", "order 0", &options);
    must(jsPubOptions_Init(&options), "options");
    options.ExpectStream = "WRONG";
    publish("expect another stream", "orders.0", "x", &options);
    must(jsPubOptions_Init(&options), "options");
    options.ExpectLastSeq = 3;
    publish("expect another sequence", "orders.0", "x", &options);
    must(jsPubOptions_Init(&options), "options");
    options.ExpectNoMessage = true;
    publish("expect no message", "orders.0", "x", &options);
    publish("publish to nobody", "nobody.there", "x", NULL);

    natsMsg *msg = NULL;
    must(js_GetMsg(&msg, js, "ORDERS", 3, NULL, &code), "get");
    rec("get", "%s %.*s", natsMsg_GetSubject(msg), natsMsg_GetDataLength(msg),
        natsMsg_GetData(msg));
    natsMsg_Destroy(msg);
    must(js_GetLastMsg(&msg, js, "ORDERS", "orders.1", NULL, &code), "get last");
    rec("get last", "%s %.*s", natsMsg_GetSubject(msg), natsMsg_GetDataLength(msg),
        natsMsg_GetData(msg));
    natsMsg_Destroy(msg);
    jsDirectGetMsgOptions direct;
    must(jsDirectGetMsgOptions_Init(&direct), "direct");
    direct.LastBySubject = "orders.2";
    must(js_DirectGetMsg(&msg, js, "ORDERS", NULL, &direct), "direct get");
    rec("direct get", "%s %llu %.*s", natsMsg_GetSubject(msg),
        (unsigned long long)natsMsg_GetSequence(msg), natsMsg_GetDataLength(msg),
        natsMsg_GetData(msg));
    natsMsg_Destroy(msg);
    must(js_DeleteMsg(js, "ORDERS", 3, NULL, &code), "delete");
    failing("get deleted", js_GetMsg(&msg, js, "ORDERS", 3, NULL, &code), code);
    jsOptions purge;
    must(jsOptions_Init(&purge), "options");
    purge.Stream.Purge.Subject = "orders.3";
    purge.Stream.Purge.Keep = 1;
    must(js_PurgeStream(js, "ORDERS", &purge, &code), "purge");
    must(js_GetStreamInfo(&info, js, "ORDERS", NULL, &code), "info");
    rec("info", "%llu %llu %llu %llu", (unsigned long long)info->State.Msgs,
        (unsigned long long)info->State.FirstSeq, (unsigned long long)info->State.LastSeq,
        (unsigned long long)info->State.NumSubjects);
    jsStreamInfo_Destroy(info);
    config.Name = "ORDERS";
    config.Description = "more";
    must(js_UpdateStream(&info, js, &config, NULL, &code), "update");
    rec("update", "%s", info->Config->Description);
    jsStreamInfo_Destroy(info);
    failing("info of unknown", js_GetStreamInfo(&info, js, "NOBODY", NULL, &code), code);
    jsAccountInfo *account = NULL;
    must(js_GetAccountInfo(&account, js, NULL, &code), "account");
    rec("account", "%lld %lld %lld", (long long)account->Streams, (long long)account->Consumers,
        (long long)account->Limits.MaxStreams);
    jsAccountInfo_Destroy(account);
}

static void async_publishes(void)
{
    for (int i = 0; i < 500; i++) {
        must(js_PublishAsync(js, "orders.async", "some", 4, NULL), "publish async");
    }
    jsPubOptions options;
    must(jsPubOptions_Init(&options), "options");
    options.MaxWait = WAIT_MS;
    must(js_PublishAsyncComplete(js, &options), "async complete");
    jsStreamInfo *info = NULL;
    must(js_GetStreamInfo(&info, js, "ORDERS", NULL, NULL), "info");
    rec("async", "%llu", (unsigned long long)info->State.LastSeq); /* 50 are kept */
    jsStreamInfo_Destroy(info);
}

static void pull(void)
{
    natsSubscription *sub = NULL;
    natsMsgList list = { 0 };
    jsErrCode code = 0;
    must(js_PullSubscribe(&sub, js, "orders.*", "worker", NULL, NULL, &code), "pull subscribe");
    must(natsSubscription_Fetch(&list, sub, 5, WAIT_MS, &code), "fetch");
    for (int i = 0; i < list.Count; i++) {
        jsMsgMetaData *meta = NULL;
        char label[32];
        snprintf(label, sizeof(label), "fetch %d", i);
        must(natsMsg_GetMetaData(&meta, list.Msgs[i]), "metadata");
        rec(label, "%s %.*s %llu %llu %llu", natsMsg_GetSubject(list.Msgs[i]),
            natsMsg_GetDataLength(list.Msgs[i]), natsMsg_GetData(list.Msgs[i]),
            (unsigned long long)meta->Sequence.Stream, (unsigned long long)meta->NumDelivered,
            (unsigned long long)meta->NumPending);
        jsMsgMetaData_Destroy(meta);
    }
    must(natsMsg_Ack(list.Msgs[0], NULL), "ack");
    must(natsMsg_AckSync(list.Msgs[1], NULL, &code), "ack sync");
    must(natsMsg_Nak(list.Msgs[2], NULL), "nak");
    must(natsMsg_Term(list.Msgs[3], NULL), "term");
    must(natsMsg_InProgress(list.Msgs[4], NULL), "in progress");
    natsMsgList_Destroy(&list);
    must(natsConnection_Flush(conn), "flush");
    must(natsSubscription_Fetch(&list, sub, 1, WAIT_MS, &code), "fetch again");
    rec("redelivered", "%.*s", natsMsg_GetDataLength(list.Msgs[0]), natsMsg_GetData(list.Msgs[0]));
    must(natsMsg_AckSync(list.Msgs[0], NULL, &code), "ack");
    natsMsgList_Destroy(&list);
    jsConsumerInfo *info = NULL;
    must(js_GetConsumerInfo(&info, js, "ORDERS", "worker", NULL, &code), "consumer info");
    rec("consumer info", "%llu %lld %llu", (unsigned long long)info->NumPending,
        (long long)info->NumAckPending, (unsigned long long)info->AckFloor.Stream);
    jsConsumerInfo_Destroy(info);
    uint64_t total = 0;
    while (natsSubscription_Fetch(&list, sub, 20, 500, &code) == NATS_OK) {
        for (int i = 0; i < list.Count; i++) {
            must(natsMsg_Ack(list.Msgs[i], NULL), "ack");
        }
        total += (uint64_t)list.Count;
        natsMsgList_Destroy(&list);
    }
    rec("drained", "%llu", (unsigned long long)total);
    natsSubscription_Destroy(sub);
    failing("unknown consumer", js_GetConsumerInfo(&info, js, "ORDERS", "nobody", NULL, &code),
            code);
    must(js_DeleteConsumer(js, "ORDERS", "worker", NULL, &code), "delete consumer");
}

static void push(void)
{
    natsSubscription *sub = NULL;
    jsSubOptions options;
    jsErrCode code = 0;
    must(jsSubOptions_Init(&options), "options");
    options.Ordered = true;
    must(js_SubscribeSync(&sub, js, "orders.async", NULL, &options, &code), "ordered");
    for (int i = 0; i < 50; i++) {
        natsMsg *msg = NULL;
        jsMsgMetaData *meta = NULL;
        must(natsSubscription_NextMsg(&msg, sub, WAIT_MS), "next");
        must(natsMsg_GetMetaData(&meta, msg), "metadata");
        if (i == 0 || i == 49) {
            rec(i == 0 ? "ordered, first" : "ordered, last", "%llu %llu %llu",
                (unsigned long long)meta->Sequence.Stream,
                (unsigned long long)meta->Sequence.Consumer, (unsigned long long)meta->NumPending);
        }
        jsMsgMetaData_Destroy(meta);
        natsMsg_Destroy(msg);
    }
    natsSubscription_Destroy(sub);
    must(jsSubOptions_Init(&options), "options");
    options.Config.Durable = "pusher";
    options.Config.Heartbeat = 1000000000;
    options.Config.FlowControl = true;
    must(js_SubscribeSync(&sub, js, "orders.1", NULL, &options, &code), "push");
    for (int i = 0; i < 5; i++) {
        natsMsg *msg = NULL;
        char label[32];
        snprintf(label, sizeof(label), "push %d", i);
        must(natsSubscription_NextMsg(&msg, sub, WAIT_MS), "next");
        rec(label, "%.*s", natsMsg_GetDataLength(msg), natsMsg_GetData(msg));
        must(natsMsg_AckSync(msg, NULL, &code), "ack");
        natsMsg_Destroy(msg);
    }
    jsConsumerInfo *info = NULL;
    must(natsSubscription_GetConsumerInfo(&info, sub, NULL, &code), "info");
    rec("push info", "%llu %lld %d", (unsigned long long)info->NumPending,
        (long long)info->NumAckPending, info->PushBound);
    jsConsumerInfo_Destroy(info);
    must(natsSubscription_Unsubscribe(sub), "unsubscribe");
    natsSubscription_Destroy(sub);
}

static void entry(const char *label, natsStatus status, kvEntry *one)
{
    if (status == NATS_OK) {
        rec(label, "%s %s %llu", kvEntry_Key(one), kvEntry_ValueString(one),
            (unsigned long long)kvEntry_Revision(one));
    } else {
        rec(label, "%s", natsStatus_GetText(status));
    }
    kvEntry_Destroy(one);
}

static void keys(void)
{
    kvStore *kv = NULL;
    kvConfig config;
    kvEntry *one = NULL;
    uint64_t revision = 0;
    must(kvConfig_Init(&config), "config");
    config.Bucket = "conf";
    config.History = 5;
    must(js_CreateKeyValue(&kv, js, &config), "create bucket");
    must(kvStore_PutString(&revision, kv, "a", "1"), "put");
    must(kvStore_PutString(&revision, kv, "b.c", "2"), "put");
    must(kvStore_PutString(&revision, kv, "a", "3"), "put");
    rec("put", "%llu", (unsigned long long)revision);
    natsStatus status = kvStore_Get(&one, kv, "a");
    entry("kv get", status, one);
    one = NULL;
    status = kvStore_GetRevision(&one, kv, "a", 1);
    entry("kv get revision", status, one);
    one = NULL;
    status = kvStore_Get(&one, kv, "nobody");
    entry("kv get unknown", status, NULL);
    rec("kv create over", "%s", natsStatus_GetText(kvStore_CreateString(&revision, kv, "a", "x")));
    must(kvStore_CreateString(&revision, kv, "new", "x"), "create");
    must(kvStore_UpdateString(&revision, kv, "a", "4", 3), "update");
    rec("kv update", "%llu", (unsigned long long)revision);
    rec("kv update stale", "%s",
        natsStatus_GetText(kvStore_UpdateString(&revision, kv, "a", "5", 3)));
    must(kvStore_Delete(kv, "b.c"), "delete");
    status = kvStore_Get(&one, kv, "b.c");
    entry("kv get deleted", status, NULL);
    must(kvStore_CreateString(&revision, kv, "b.c", "again"), "create over deleted");
    kvEntryList history = { 0 };
    must(kvStore_History(&history, kv, "a", NULL), "history");
    for (int i = 0; i < history.Count; i++) {
        char label[32];
        snprintf(label, sizeof(label), "kv history %d", i);
        rec(label, "%s %llu", kvEntry_ValueString(history.Entries[i]),
            (unsigned long long)kvEntry_Revision(history.Entries[i]));
    }
    kvEntryList_Destroy(&history);
    kvKeysList list = { 0 };
    must(kvStore_Keys(&list, kv, NULL), "keys");
    rec("kv keys", "%d", list.Count);
    kvKeysList_Destroy(&list);
    kvWatcher *watcher = NULL;
    must(kvStore_WatchAll(&watcher, kv, NULL), "watch");
    for (int i = 0;; i++) {
        char label[32];
        snprintf(label, sizeof(label), "kv watch %d", i);
        must(kvWatcher_Next(&one, watcher, WAIT_MS), "watch next");
        if (one == NULL) {
            break; /* all that was there */
        }
        entry(label, NATS_OK, one);
    }
    must(kvStore_PutString(&revision, kv, "live", "now"), "put");
    must(kvWatcher_Next(&one, watcher, WAIT_MS), "watch live");
    entry("kv watch, live", NATS_OK, one);
    kvWatcher_Destroy(watcher);
    must(kvStore_Purge(kv, "a", NULL), "purge");
    one = NULL;
    status = kvStore_Get(&one, kv, "a");
    entry("kv get purged", status, NULL);
    kvStatus *bucket = NULL;
    must(kvStore_Status(&bucket, kv), "status");
    rec("kv status", "%s %llu %lld", kvStatus_Bucket(bucket),
        (unsigned long long)kvStatus_Values(bucket), (long long)kvStatus_History(bucket));
    kvStatus_Destroy(bucket);
    kvStore_Destroy(kv);
    must(js_DeleteKeyValue(js, "conf"), "delete bucket");
}

int main(int argc, char **argv)
{
    char url[128];
    if (argc != 3) {
        fprintf(stderr, "usage: jetstream HOST PORT\n");
        return 2;
    }
    snprintf(url, sizeof(url), "nats://%s:%s", argv[1], argv[2]);
    must(natsConnection_ConnectTo(&conn, url), "connect");
    jsOptions options;
    must(jsOptions_Init(&options), "options");
    options.Wait = WAIT_MS;
    must(natsConnection_JetStream(&js, conn, &options), "jetstream");
    streams();
    async_publishes();
    pull();
    push();
    keys();
    must(js_DeleteStream(js, "ORDERS", NULL, NULL), "delete stream");
    jsCtx_Destroy(js);
    natsConnection_Destroy(conn);
    nats_Close();
    return 0;
}
