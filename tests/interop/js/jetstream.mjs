// The JavaScript client on JetStream, for py/js_clients.py: streams, consumers, key-value and object stores.
//
//   node jetstream.mjs HOST PORT
//
// Prints ["label", value] for each thing it saw. What differs from run to run is not printed.

import { createHash } from "node:crypto";

import { connect, millis, nanos } from "@nats-io/transport-node";
import { AckPolicy, DeliverPolicy, jetstream, jetstreamManager, RetentionPolicy, StorageType } from "@nats-io/jetstream";
import { Kvm } from "@nats-io/kv";
import { Objm } from "@nats-io/obj";

const text = new TextDecoder();
const bytes = new TextEncoder();

function rec(label, value) {
  console.log(JSON.stringify([label, value ?? null]));
}

async function failing(label, work) {
  try {
    rec(label, ["no error", await work()]);
  } catch (error) {
    rec(label, [error.constructor.name, error.code ?? null, error.message]);
  }
}

async function take(messages, count) {
  const found = [];
  for await (const message of messages) {
    found.push(message);
    if (found.length === count) {
      break;
    }
  }
  return found;
}

const conn = await connect({ servers: `${process.argv[2]}:${process.argv[3]}`, reconnect: false });
const jsm = await jetstreamManager(conn);
const js = jetstream(conn);

// --- streams

let info = await jsm.streams.add({ name: "ORDERS", subjects: ["orders.*"], max_msgs_per_subject: 50, allow_direct: true });
rec("add stream", [info.config.name, info.config.subjects, info.config.num_replicas, info.state.messages]);
await failing("add with overlap", () => jsm.streams.add({ name: "OTHER", subjects: ["orders.x"] }));
await failing("add with bad name", () => jsm.streams.add({ name: "a b" }));
for (let i = 0; i < 20; i++) {
  const ack = await js.publish(`orders.${i % 4}`, `order ${i}`, { msgID: `o${i}` });
  if (i === 19) {
    rec("publish", [ack.stream, ack.seq, ack.duplicate]);
  }
}
let ack = await js.publish("orders.0", "order 0", { msgID: "o0" });
rec("publish a duplicate", [ack.stream, ack.seq, ack.duplicate]);
await failing("publish to nobody", () => js.publish("nobody.there", "x", { timeout: 2000, retries: 0 }));
await failing("expect another stream", () => js.publish("orders.0", "x", { expect: { streamName: "WRONG" } }));
await failing("expect another sequence", () => js.publish("orders.0", "x", { expect: { lastSequence: 3 } }));
await failing("expect another subject sequence", () => js.publish("orders.0", "x", { expect: { lastSubjectSequence: 3 } }));
await failing("expect another id", () => js.publish("orders.0", "x", { expect: { lastMsgID: "never" } }));
let message = await jsm.streams.getMessage("ORDERS", { seq: 3 });
rec("get", [message.subject, message.seq, message.string()]);
message = await jsm.streams.getMessage("ORDERS", { last_by_subj: "orders.1" });
rec("get last", [message.subject, message.seq]);
message = await jsm.direct.getMessage("ORDERS", { seq: 4 });
rec("direct get", [message.subject, message.seq, message.string(), message.stream]);
message = await jsm.direct.getMessage("ORDERS", { next_by_subj: "orders.2", seq: 5 });
rec("direct get next", [message.subject, message.seq]);
rec("direct get of none", await jsm.direct.getMessage("ORDERS", { last_by_subj: "orders.none" }));
const batch = [];
for await (const one of await jsm.direct.getBatch("ORDERS", { seq: 3, batch: 4 })) {
  batch.push([one.seq, one.string()]);
}
rec("direct get batch", batch);
const last = [];
for await (const one of await jsm.direct.getLastMessagesFor("ORDERS", { multi_last: ["orders.1", "orders.2"] })) {
  last.push([one.seq, one.subject]);
}
rec("direct get last of many", last);
rec("delete message", await jsm.streams.deleteMessage("ORDERS", 3));
rec("get deleted", await jsm.streams.getMessage("ORDERS", { seq: 3 }));
rec("purge", await jsm.streams.purge("ORDERS", { filter: "orders.3", keep: 1 }));
info = await jsm.streams.info("ORDERS", { deleted_details: true, subjects_filter: ">" });
rec("info", [info.state.messages, info.state.first_seq, info.state.last_seq, info.state.deleted, info.state.subjects]);
info = await jsm.streams.update("ORDERS", { subjects: ["orders.*", "more.*"], description: "more" });
rec("update", [info.config.subjects, info.config.description]);
await failing("update what cannot be", () => jsm.streams.update("ORDERS", { storage: StorageType.Memory }));
rec("find", await jsm.streams.find("more.x"));
rec("names", await jsm.streams.names().next());
const account = await jsm.getAccountInfo();
rec("account", [account.streams, account.consumers, account.limits]);

// --- consumers

await jsm.consumers.add("ORDERS", { durable_name: "worker", ack_policy: AckPolicy.Explicit });
const worker = await js.consumers.get("ORDERS", "worker");
let got = await take(await worker.fetch({ max_messages: 5, expires: 5000 }), 5);
rec("fetch", got.map((m) => [m.subject, m.string(), m.seq, m.info.deliveryCount, m.info.pending]));
got[0].ack();
rec("ack ack", await got[1].ackAck());
got[2].nak();
got[3].term("broken");
got[4].working();
await conn.flush();
got = await take(await worker.fetch({ max_messages: 1, expires: 5000 }), 1);
rec("redelivered", got.map((m) => [m.string(), m.info.deliveryCount, m.redelivered]));
got[0].ack();
const next = await worker.next({ expires: 5000 });
rec("next", [next.string(), next.seq]);
next.ack();
got = await take(await worker.consume({ max_messages: 3 }), 6);
rec("consume", got.map((m) => m.seq));
for (const one of got) {
  await one.ackAck();
}
let consumer = await worker.info();
rec("consumer info", consumer.ack_floor.stream_seq); // what else was delivered depends on when the client asked for more
await jsm.consumers.add("ORDERS", { durable_name: "filtered", ack_policy: AckPolicy.None, filter_subjects: ["orders.0", "orders.2"] });
got = await take(await (await js.consumers.get("ORDERS", "filtered")).fetch({ max_messages: 6, expires: 5000 }), 6);
rec("filtered", got.map((m) => [m.subject, m.seq]));
const ordered = await js.consumers.get("ORDERS", { filter_subjects: ["orders.1"], deliver_policy: DeliverPolicy.All });
got = await take(await ordered.consume(), 4);
rec("ordered", got.map((m) => m.seq));
await failing("unknown consumer", () => js.consumers.get("ORDERS", "nobody"));
const pause = await jsm.consumers.pause("ORDERS", "worker", new Date("2060-01-01T00:00:00Z"));
rec("pause", [pause.paused, pause.pause_until]);
rec("resume", (await jsm.consumers.resume("ORDERS", "worker")).paused);
rec("delete consumer", await jsm.consumers.delete("ORDERS", "worker"));
await jsm.streams.add({ name: "WORK", subjects: ["work"], retention: RetentionPolicy.Workqueue, max_age: nanos(60000) });
await js.publish("work", "job");
await jsm.consumers.add("WORK", { durable_name: "w", ack_policy: AckPolicy.Explicit });
const job = await (await js.consumers.get("WORK", "w")).next({ expires: 5000 });
await job.ackAck();
info = await jsm.streams.info("WORK");
rec("work queue", [job.string(), info.state.messages, millis(info.config.max_age)]);

// --- key-value

const kvm = new Kvm(conn);
const kv = await kvm.create("conf", { history: 5 });
rec("put", [await kv.put("a", "1"), await kv.put("b.c", "2"), await kv.put("a", "3")]);
const shown = (e) => e && [e.key, e.string(), e.revision, e.operation, e.delta ?? null];
rec("kv get", shown(await kv.get("a")));
rec("kv get revision", shown(await kv.get("a", { revision: 1 })));
rec("kv get unknown", await kv.get("nobody"));
await failing("kv create over", () => kv.create("a", "x"));
rec("kv create", await kv.create("new", "x"));
rec("kv update", await kv.update("a", "4", 3));
await failing("kv update stale", () => kv.update("a", "5", 3));
await kv.delete("b.c");
rec("kv get deleted", shown(await kv.get("b.c")));
rec("kv create over deleted", await kv.create("b.c", "again"));
const history = [];
for await (const e of await kv.history({ key: "a" })) {
  history.push(shown(e));
}
rec("kv history", history);
const keys = [];
for await (const key of await kv.keys()) {
  keys.push(key);
}
rec("kv keys", keys.sort());
const watch = await kv.watch();
const seen = [];
setTimeout(() => kv.put("live", "now"), 300);
for await (const e of watch) {
  seen.push([e.key, e.string(), e.revision, e.isUpdate]);
  if (e.key === "live") {
    break;
  }
}
rec("kv watch", seen);
await kv.purge("a");
const purged = [];
for await (const e of await kv.history({ key: "a" })) {
  purged.push([e.operation, e.revision]);
}
rec("kv history after purge", purged);
const status = await kv.status();
rec("kv status", [status.bucket, status.values, status.history, status.replicas, status.ttl]);
rec("kv destroy", await kv.destroy());

// --- objects

const objm = new Objm(conn);
const objects = await objm.create("files", { description: "some" });
const data = new Uint8Array(700000);
for (let i = 0; i < data.length; i++) {
  data[i] = (i * 31 + (i >> 8)) & 0xff;
}
const put = await objects.putBlob({ name: "large" }, data);
rec("object put", [put.name, put.size, put.chunks, put.digest]);
const blob = await objects.getBlob("large");
rec("object get", [blob.length, createHash("sha256").update(blob).digest("hex") === createHash("sha256").update(data).digest("hex")]);
await objects.putBlob({ name: "small" }, bytes.encode("tiny"));
await objects.putBlob({ name: "small" }, bytes.encode("tiny again"));
rec("object replaced", text.decode(await objects.getBlob("small")));
rec("object list", (await objects.list()).map((o) => [o.name, o.size]).sort());
await objects.delete("large");
rec("object get deleted", await objects.getBlob("large"));
const sealed = await objects.seal();
rec("object seal", sealed.sealed);
await failing("object put into sealed", () => objects.putBlob({ name: "late" }, bytes.encode("x")));
rec("object destroy", await objects.destroy());

// --- what is left

for (const name of ["ORDERS", "WORK"]) {
  rec(`delete ${name}`, await jsm.streams.delete(name));
}
await failing("info of deleted", () => jsm.streams.info("ORDERS"));
await conn.close();
