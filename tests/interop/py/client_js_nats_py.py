"""nats-py for js_clients.py: streams, consumers, key-value and object stores. Runs in an environment that has it."""

import asyncio
import hashlib
import json
import os
import sys

sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
import nats  # noqa: E402 pylint: disable=wrong-import-position
from nats.js import api  # noqa: E402 pylint: disable=wrong-import-position


def rec(label, value):
    print(json.dumps([label, value]))


async def failing(label, work):
    try:
        rec(label, "no error: %r" % (await work,))
    except Exception as error:  # pylint: disable=broad-except # which one it is, is the record
        code = getattr(error, "err_code", None)
        rec(label, [type(error).__name__, code, getattr(error, "description", None)])


async def streams(js):
    info = await js.add_stream(name="ORDERS", subjects=["orders.*"], max_msgs_per_subject=50)
    rec("add stream", [info.config.name, info.config.subjects, info.config.retention, info.config.max_msgs_per_subject,
                       info.config.duplicate_window, info.state.messages])
    await failing("add another with overlap", js.add_stream(name="OTHER", subjects=["orders.x"]))
    for i in range(20):
        ack = await js.publish("orders.%d" % (i % 4), b"order %d" % i, headers={"Nats-Msg-Id": "o%d" % i})
        if i == 19:
            rec("publish", [ack.stream, ack.seq, ack.duplicate])
    ack = await js.publish("orders.0", b"order 0", headers={"Nats-Msg-Id": "o0"})
    rec("publish a duplicate", [ack.stream, ack.seq, ack.duplicate])
    await failing("publish to nobody", js.publish("nobody.there", b"x", timeout=2))
    await failing("publish to another stream", js.publish("orders.1", b"x", stream="WRONG"))
    message = await js.get_msg("ORDERS", 3)
    rec("get message", [message.subject, message.seq, message.data.decode(), message.headers])
    message = await js.get_last_msg("ORDERS", "orders.1")
    rec("get last", [message.subject, message.seq])
    rec("delete message", await js.delete_msg("ORDERS", 3))
    await failing("get deleted", js.get_msg("ORDERS", 3))
    rec("purge", await js.purge_stream("ORDERS", subject="orders.3", keep=1))
    info = await js.stream_info("ORDERS", subjects_filter=">")
    rec("info", [info.state.messages, info.state.first_seq, info.state.last_seq, info.state.subjects])
    rec("find by subject", await js.find_stream_name_by_subject("orders.7"))
    await failing("find by unknown subject", js.find_stream_name_by_subject("other.7"))
    info = await js.update_stream(name="ORDERS", subjects=["orders.*", "more.*"], max_msgs_per_subject=50)
    rec("update", info.config.subjects)
    account = await js.account_info()
    rec("account", [account.streams, account.consumers, account.memory, account.storage > 0])


async def consumers(js):
    pull = await js.pull_subscribe("orders.*", "worker")
    got = await pull.fetch(5, timeout=5)
    rec("fetch", [[one.subject, one.data.decode(), one.metadata.sequence.stream, one.metadata.num_delivered,
                   one.metadata.num_pending] for one in got])
    await got[0].ack()
    await got[1].ack_sync()
    await got[2].nak()
    await got[3].term()
    await got[4].in_progress()
    await asyncio.sleep(0.2)
    info = await pull.consumer_info()
    rec("info", [info.num_pending, info.num_ack_pending, info.ack_floor.stream_seq, info.delivered.consumer_seq])
    again = await pull.fetch(1, timeout=5)
    rec("redelivered", [[one.data.decode(), one.metadata.num_delivered] for one in again])
    while True:
        try:
            for one in await pull.fetch(10, timeout=0.5):
                await one.ack()
        except asyncio.TimeoutError:
            break
    rec("drained", (await pull.consumer_info()).num_pending)
    seen, done = [], asyncio.Event()

    async def take(message):
        seen.append([message.subject, message.data.decode()])
        if len(seen) == 5:
            done.set()

    push = await js.subscribe("orders.0", cb=take, durable="pusher", config=api.ConsumerConfig(deliver_policy=api.DeliverPolicy.ALL))
    await asyncio.wait_for(done.wait(), 5)
    rec("push", seen)
    await push.unsubscribe()
    ordered = await js.subscribe("orders.*", ordered_consumer=True)
    rec("ordered", [(await ordered.next_msg(timeout=5)).metadata.sequence.stream for _ in range(10)])
    await ordered.unsubscribe()
    names = sorted(one.name for one in await js.consumers_info("ORDERS") if one.config.durable_name)
    rec("names", names)
    await failing("unknown consumer", js.consumer_info("ORDERS", "nobody"))
    rec("delete", await js.delete_consumer("ORDERS", "worker"))


async def keys(js):
    kv = await js.create_key_value(bucket="conf", history=5)
    rec("put", [await kv.put("a", b"1"), await kv.put("b.c", b"2"), await kv.put("a", b"3")])
    entry = await kv.get("a")
    rec("get", [entry.value.decode(), entry.revision, entry.operation])
    rec("get revision", (await kv.get("a", revision=1)).value.decode())
    await failing("get unknown", kv.get("nobody"))
    await failing("create over", kv.create("a", b"x"))
    rec("create", await kv.create("new", b"x"))
    rec("update", await kv.update("a", b"4", last=3))
    await failing("update stale", kv.update("a", b"5", last=3))
    rec("delete", await kv.delete("b.c"))
    await failing("get deleted", kv.get("b.c"))
    rec("create over deleted", await kv.create("b.c", b"again"))
    rec("history", [[one.value.decode() if one.value else None, one.revision] for one in await kv.history("a")])
    rec("keys", sorted(await kv.keys()))
    watcher = await kv.watchall()
    seen = []
    while True:
        one = await watcher.updates(timeout=5)
        if one is None:
            break
        seen.append([one.key, one.value.decode() if one.value else None, one.revision])
    rec("watch", sorted(seen))
    await kv.put("live", b"now")
    one = await watcher.updates(timeout=5)
    rec("watch, live", [one.key, one.value.decode(), one.revision])
    await watcher.stop()
    rec("purge", await kv.purge("a"))
    rec("history after purge", [[one.operation, one.revision] for one in await kv.history("a")])
    await kv.purge_deletes(olderthan=-1)
    status = await kv.status()
    rec("status", [status.bucket, status.values, status.history])
    rec("delete bucket", await js.delete_key_value("conf"))
    await failing("deleted bucket", js.key_value("conf"))


async def objects(js):
    store = await js.create_object_store(bucket="files")
    data = b"".join(hashlib.sha256(b"%d" % i).digest() for i in range(20000))
    info = await store.put("large", data)
    rec("put", [info.name, info.size, info.chunks, info.digest, info.deleted])
    got = await store.get("large")
    rec("get", [len(got.data), got.data == data, got.info.digest == info.digest])
    await store.put("small", b"tiny")
    await store.put("small", b"tiny again")
    rec("get small", (await store.get("small")).data.decode())
    rec("list", sorted([one.name, one.size] for one in await store.list()))
    await store.delete("large")
    await failing("get deleted", store.get("large"))
    status = await store.status()
    rec("status", [status.bucket, status.sealed, status.size < 1000])
    await store.seal()
    await failing("put into sealed", store.put("late", b"x"))
    rec("delete store", await js.delete_object_store("files"))


async def main(host, port):
    conn = await nats.connect("nats://%s:%s" % (host, port), allow_reconnect=False)
    js = conn.jetstream(timeout=5)
    for part in (streams, consumers, keys, objects):
        prefix = part.__name__
        globals()["rec"] = lambda label, value, prefix=prefix: print(json.dumps(["%s: %s" % (prefix, label), value], default=str))
        await part(js)
    await conn.close()


asyncio.run(main(*sys.argv[1:3]))
