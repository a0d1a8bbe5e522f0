#!/usr/bin/env python3
"""Snapshot and restore, compared with nats-server: the exchange, its refusals, and that what was saved comes back. Where
nats-server is installed, archives also cross over: each server restores what the other one saved.

  js_snapshot.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import base64
import hashlib
import json
import re
import sys
import time

import jetstream
import server as servers
from jetstream import Js, masked, scenario

# Records that ringbus refuses on purpose so far.
REFUSED = ()

# Records in which ringbus is another on purpose.
DIFFERS = {
    # An empty stream begins at 0 when it is new; in nats-server at 1 once it was restored.
    "variants/empty, restored": 
        {"config": {"allow_direct": False,
                    "allow_msg_ttl": False,
                    "allow_rollup_hdrs": False,
                    "compression": "none",
                    "consumer_limits": {},
                    "deny_delete": False,
                    "deny_purge": False,
                    "discard": "old",
                    "duplicate_window": 120000000000,
                    "max_age": 0,
                    "max_bytes": -1,
                    "max_consumers": -1,
                    "max_msg_size": -1,
                    "max_msgs": -1,
                    "max_msgs_per_subject": -1,
                    "metadata": {"_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "<_nats.ver>"},
                    "mirror_direct": False,
                    "name": "EMPTY",
                    "num_replicas": 1,
                    "retention": "limits",
                    "sealed": False,
                    "storage": "file",
                    "subjects": ["empty.>"]},
         "created": "<created>",
         "state": {"bytes": 0,
                   "consumer_count": 0,
                   "first_seq": 0,
                   "first_ts": "0001-01-01T00:00:00Z",
                   "last_seq": 0,
                   "last_ts": "0001-01-01T00:00:00Z",
                   "messages": 0},
         "ts": "<ts>",
         "type": "io.nats.jetstream.api.v1.stream_create_response"},
}

S = 1_000_000_000


def fill(js, name="S", **config):
    js.stream(name, **config)
    for i in range(50):
        noise = base64.b64encode(hashlib.sha512(b"%d" % i).digest()).decode() # so that it does not compress away
        js.store("%s.%d" % (name.lower(), i % 5), "message %d " % (i + 1) + noise * 4, {"A": "b"} if i % 7 == 0 else None)
    for seq in (1, 2, 10, 11, 50):
        js.raw("STREAM.MSG.DELETE." + name, {"seq": seq})
    js.consumer(name, "C", filter_subject="%s.1" % name.lower())
    js.consumer(name, "D")
    got = js.fetch(name, "D", {"batch": 6, "expires": S}, 6)
    for one in got[:3]:
        js.request(one.reply, "+ACK")
    time.sleep(0.3)


def remove(js, stream):
    """And waits a moment: nats-server removes its files in the background, and a restore may meet them."""
    js.raw("STREAM.DELETE." + stream)
    time.sleep(0.6)


def save(js, stream, **options):
    """(answer, archive, the status at its end, shapes of replies)"""
    sid = js.subscribe("save.here")
    answer = js.raw("STREAM.SNAPSHOT." + stream, {"deliver_subject": "save.here", **options})
    data, shapes, status = b"", set(), None
    if "error" in answer:
        return answer, data, status, shapes
    while True:
        one = js.take(lambda one: isinstance(one, jetstream.Message) and one.sid == sid, 6)
        if one is None:
            status = "nothing more came"
            break
        if not one.body:
            status = one.status
            break
        data += one.body
        if one.reply:
            shapes.add(re.sub(r"\d+$", "<n>", re.sub(r"\.\d+\.", ".<len>.", masked(one.reply))))
            js.publish(one.reply, "")
    js.unsubscribe(sid)
    return answer, data, status, shapes


def restore(js, stream, answer, archive, size=64 * 1024):
    request = {"config": dict(answer["config"], name=stream), "state": answer["state"]}
    begun = js.raw("STREAM.RESTORE." + stream, request)
    if "error" in begun:
        return masked(begun)
    for at in range(0, len(archive), size):
        reply = js.request(begun["deliver_subject"], archive[at:at + size])
        if reply is None or reply.body:
            return "chunk: %r" % (reply and reply.record())
    last = js.request(begun["deliver_subject"], "", seconds=10)
    return masked(json.loads(last.body)) if last else "nothing came at the end"


@scenario()
def round_trip(js, rec):
    fill(js)
    before = js.raw("STREAM.INFO.S", {"deleted_details": True, "subjects_filter": ">"})
    consumers = {name: js.about("S", name) for name in "CD"}
    answer, archive, status, shapes = save(js, "S")
    rec("answer", masked(answer))
    rec("end", status)
    rec("acks", sorted(shapes))
    rec("there is one", restore(js, "S", answer, archive))
    remove(js, "S")
    rec("restored", restore(js, "S", answer, archive))
    after = js.raw("STREAM.INFO.S", {"deleted_details": True, "subjects_filter": ">"})
    rec("same state", after["state"] == before["state"])
    rec("same config", masked(after["config"]) == masked(before["config"]))
    rec("state", masked(after["state"]))
    rec("consumers", {name: js.about("S", name) for name in "CD"})
    rec("consumers are as they were", {name: {key: js.about("S", name)[key] == consumers[name][key] for key in (
        "ack_floor", "num_pending", "num_ack_pending")} for name in "CD"})
    rec("messages", [js.message("S", seq) for seq in (3, 8, 9, 10, 12, 49)])
    rec("next", js.store("s.x", "after"))


@scenario()
def variants(js, rec):
    fill(js)
    js.stream("EMPTY")
    js.stream("M", storage="memory")
    for i in range(5):
        js.store("m.x", "m%d" % i)
    for label, stream, options in (("without consumers", "S", {"no_consumers": True}), ("small chunks", "S", {"chunk_size": 1024}),
                                   ("tiny chunks", "S", {"chunk_size": 1}), ("small window", "S", {"window_size": 2048, "chunk_size": 1024}),
                                   ("checked", "S", {"jsck": True}), ("empty", "EMPTY", {}), ("memory", "M", {})):
        answer, archive, status, shapes = save(js, stream, **options)
        rec(label, (masked(answer), status, len(archive) > 0, sorted(shapes)))
        if "error" in answer:
            continue
        again = js.raw("STREAM.INFO." + stream)["config"]
        remove(js, stream)
        rec(label + ", restored", restore(js, stream, answer, archive))
        rec(label + ", consumers", js.api("CONSUMER.NAMES." + stream).get("consumers"))
        rec(label + ", same config", masked(js.raw("STREAM.INFO." + stream).get("config")) == masked(again))


@scenario()
def refusals(js, rec):
    fill(js)
    for label, body in (("no body", ""), ("no subject", {}), ("empty subject", {"deliver_subject": ""}),
                        ("wild subject", {"deliver_subject": "a.*"}), ("bad subject", {"deliver_subject": "a..b"}),
                        ("unknown field", {"deliver_subject": "d", "nope": 1})):
        rec(label, js.api("STREAM.SNAPSHOT.S", body))
    rec("unknown stream", js.api("STREAM.SNAPSHOT.X", {"deliver_subject": "d"}))
    answer, archive, _, _ = save(js, "S")
    config, state = answer["config"], answer["state"]
    for label, stream, body in (("no body", "T", ""), ("no config", "T", {}), ("other name", "T", {"config": config, "state": state}),
                                ("exists", "S", {"config": config, "state": state}),
                                ("bad config", "T", {"config": dict(config, name="T", retention="forever"), "state": state}),
                                ("overlap", "T", {"config": dict(config, name="T"), "state": state})):
        rec("restore: " + label, js.api("STREAM.RESTORE." + stream, body))
    remove(js, "S")
    damaged = bytearray(archive)
    damaged[len(damaged) // 2] ^= 0xff
    result = restore(js, "S", answer, bytes(damaged))
    rec("damaged", result if isinstance(result, str) else (result["error"]["err_code"], result["error"]["description"].split(":")[0]))
    result = restore(js, "S", answer, archive[:len(archive) // 2])
    rec("cut", result if isinstance(result, str) else (result["error"]["err_code"], result["error"]["description"].split(":")[0]))
    result = restore(js, "S", answer, b"no archive at all")
    rec("nonsense", result if isinstance(result, str) else (result["error"]["err_code"], result["error"]["description"].split(":")[0]))
    time.sleep(1) # nats-server removes what it began in the background
    rec("nothing is left of them", js.api("STREAM.NAMES"))
    rec("and it can still be restored", restore(js, "S", answer, archive).get("state"))


@scenario()
def nobody_listens(js, rec):
    fill(js)
    sid = js.subscribe("$JS.EVENT.ADVISORY.STREAM.SNAPSHOT_COMPLETE.>")
    rec("answer", js.api("STREAM.SNAPSHOT.S", {"deliver_subject": "nobody.there"}))
    rec("the stream serves on", js.store("s.x", "m"))
    rec("complete", [one.subject for one in js.collect(sid, 1, 5)])


@scenario()
def advisories(js, rec):
    fill(js)
    sid = js.subscribe("$JS.EVENT.ADVISORY.STREAM.>")
    answer, archive, _, _ = save(js, "S")
    rec("snapshot", [(one.subject, masked(json.loads(one.body))) for one in js.collect(sid, 2, 3, 0.3)])
    remove(js, "S")
    js.collect(sid, 1)
    restore(js, "S", answer, archive)
    found = []
    for one in js.collect(sid, 3, 3, 0.3):
        document = masked(json.loads(one.body))
        if "bytes" in document:
            document["bytes"] = document["bytes"] == len(archive)
        found.append((one.subject, document))
    rec("restore", sorted(found, key=json.dumps))


@scenario()
def crossing(js, rec, running):
    """What the server under test saved is restored by nats-server, and the other way."""
    fill(js)
    oracle = servers.find_oracle()
    answer, archive, _, _ = save(js, "S")
    state = masked(js.raw("STREAM.INFO.S", {"deleted_details": True, "subjects_filter": ">"})["state"])
    results = {"to nats-server": state, "back": state}
    if oracle:
        config = jetstream.CONFIG.replace("STORE", jetstream.compare.CONFIG_WORDS["STORE"]({"certs": running.certs})) % ("", "")
        with servers.Server(oracle, config=config) as other, Js(jetstream.compare.Running(other, False, running.certs, None)) as far:
            there = restore(far, "S", answer, archive)
            results["to nats-server"] = masked(far.raw("STREAM.INFO.S", {"deleted_details": True, "subjects_filter": ">"})["state"]) \
                if isinstance(there, dict) and "error" not in there else there
            answer, archive, _, _ = save(far, "S")
        remove(js, "S")
        back = restore(js, "S", answer, archive)
        results["back"] = masked(js.raw("STREAM.INFO.S", {"deleted_details": True, "subjects_filter": ">"})["state"]) \
            if isinstance(back, dict) and "error" not in back else back
    rec("messages", [js.message("S", seq) for seq in (3, 8, 49)])
    for label, result in results.items():
        rec(label, result)


if __name__ == "__main__":
    sys.exit(jetstream.main("js_snapshot", __doc__, REFUSED, DIFFERS))
