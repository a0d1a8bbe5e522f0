#!/usr/bin/env python3
"""Consumers, compared with nats-server: pull statuses, acknowledgements, redelivery, push, flow control, priority groups.

  js_consumer.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import hashlib
import json
import sys
import time

import jetstream
from jetstream import Js, masked, scenario, wait_for

# Records that ringbus refuses on purpose so far.
REFUSED = ()

# Records in which ringbus is another on purpose.
DIFFERS = {
    # When something was acked last is known after a restart, too.
    "after_restart/floor": {"consumer_seq": 2, "stream_seq": 2, "last_active": "<last_active>"},
}

S = 1_000_000_000
MS = 1_000_000


def filled(js, count=10, name="S", subjects=2, **config):
    js.stream(name, **config)
    for i in range(count):
        js.store("%s.%d" % (name.lower(), i % subjects), "message %d" % (i + 1))


def records(messages):
    return [one.record(True) for one in messages]


@scenario()
def pull(js, rec):
    filled(js)
    js.consumer("S", "C")
    rec("no body", records(js.fetch("S", "C")))
    rec("number", records(js.fetch("S", "C", "2", 2)))
    rec("text", records(js.fetch("S", "C", "what?", 1)))
    rec("batch 0", records(js.fetch("S", "C", {"batch": 0, "no_wait": True}, 2, rest=0.3)))
    rec("object", records(js.fetch("S", "C", {"batch": 2, "expires": S}, 2)))
    rec("info", js.about("S", "C"))
    rec("batch beyond the end, expires", records(js.fetch("S", "C", {"batch": 20, "expires": 300 * MS}, 20, 1)))
    rec("nothing, no wait", records(js.fetch("S", "C", {"batch": 2, "no_wait": True})))
    rec("nothing, expires", records(js.fetch("S", "C", {"batch": 2, "expires": 200 * MS})))
    rec("nothing, no wait and expires", records(js.fetch("S", "C", {"batch": 2, "no_wait": True, "expires": 200 * MS})))
    rec("nothing, heartbeat", records(js.fetch("S", "C", {"batch": 2, "expires": 500 * MS, "idle_heartbeat": 200 * MS}, 3, 1.5)))
    waits = js.begin("S", "C", {"batch": 2, "expires": 5 * S})
    rec("waiting", wait_for(lambda: js.raw("CONSUMER.INFO.S.C")["num_waiting"] == 1) and js.about("S", "C"))
    js.store("s.1", "late")
    rec("arrives", records(js.collect(waits, 1)))
    js.unsubscribe(waits)
    js.store("s.1", "after the interest went")
    rec("still undelivered", [js.raw("CONSUMER.INFO.S.C")[key] for key in ("num_pending", "num_ack_pending")])
    rec("unknown consumer", [one.record() for one in js.fetch("S", "X")])
    rec("level", records(js.fetch("S", "C", "1", headers={"Nats-Required-Api-Level": "99"})))


@scenario()
def pull_refusals(js, rec):
    filled(js)
    js.consumer("S", "C", max_batch=5, max_expires=S, max_bytes=200, max_waiting=2)
    js.consumer("S", "PUSH", deliver_subject="push")
    for label, body in (("cut json", '{"batch":1'), ("wrong type", '{"batch":"x"}'), ("unknown field", '{"batch":1,"nope":2}'),
                        ("heartbeat too large", {"batch": 1, "expires": S, "idle_heartbeat": 600 * MS}),
                        ("heartbeat without expires", {"batch": 1, "idle_heartbeat": 100 * MS}),
                        ("heartbeat half", {"batch": 1, "expires": S, "idle_heartbeat": 500 * MS}),
                        ("batch", {"batch": 6, "expires": S}), ("expires", {"batch": 1, "expires": 2 * S}),
                        ("bytes", {"batch": 1, "expires": S, "max_bytes": 201}), ("negative batch", {"batch": -1, "expires": S}),
                        ("negative expires", {"batch": 1, "expires": -S}), ("group without priority", {"batch": 1, "group": "A"}),
                        ("min pending", {"batch": 1, "min_pending": 1}), ("min ack pending", {"batch": 1, "min_ack_pending": 1}),
                        ("id", {"batch": 1, "id": "x"}), ("priority", {"batch": 1, "priority": 3}),
                        ("priority above 9", {"batch": 1, "priority": 12}), ("negative priority", {"batch": 1, "priority": -1}),
                        ("negative expires, no wait", {"batch": 1, "expires": -S, "no_wait": True}),
                        ("array", "[]"), ("blank", " "), ("large number", "99"), ("negative number", "-1")):
        js.raw("CONSUMER.DELETE.S.C") # each begins anew: what one of them takes is no matter to the next
        js.consumer("S", "C", max_batch=5, max_expires=S, max_bytes=200, max_waiting=2)
        rec(label, records(js.fetch("S", "C", body, 1, 2)))
    rec("push consumer", records(js.fetch("S", "PUSH")))
    js.consumer("S", "E", deliver_policy="new", max_waiting=2)
    sids = [js.begin("S", "E", {"batch": 1, "expires": 3 * S}) for _ in range(2)]
    rec("one too many", records(js.fetch("S", "E", {"batch": 1, "expires": S})))
    rec("one too many, with heartbeat", records(js.fetch("S", "E", {"batch": 1, "expires": S, "idle_heartbeat": 200 * MS}, 1, 0.5)))
    rec("waiting", js.raw("CONSUMER.INFO.S.E")["num_waiting"])
    js.raw("CONSUMER.DELETE.S.E")
    rec("deleted", [records(js.collect(sid, 1)) for sid in sids])


@scenario()
def pull_bytes(js, rec):
    filled(js, 10, subjects=1)
    js.consumer("S", "C", ack_policy="none")
    rec("one does not fit", records(js.fetch("S", "C", {"batch": 2, "max_bytes": 10, "expires": S}, 1, 2)))
    rec("some fit", [one.status or one.body.decode() for one in
                     js.fetch("S", "C", {"batch": 10, "max_bytes": 150, "expires": S}, 4, 1.5, 0.2)])
    rec("all of the batch", [one.record() for one in js.fetch("S", "C", {"batch": 1, "max_bytes": 1000, "expires": S}, 2, 1.5, 0.2)])
    rec("info", js.about("S", "C"))


@scenario()
def pull_no_wait(js, rec):
    filled(js, 3)
    js.consumer("S", "C")
    rec("more than there is", [one.status or one.body.decode() for one in js.fetch("S", "C", {"batch": 5, "no_wait": True}, 4)])
    js.consumer("S", "D")
    rec("more than there is, expires", [one.status or one.body.decode() for one in js.fetch(
        "S", "D", {"batch": 5, "no_wait": True, "expires": 300 * MS}, 4, 2)])
    js.consumer("S", "P", max_ack_pending=1)
    rec("at max ack pending", [one.status or one.body.decode() for one in js.fetch(
        "S", "P", {"batch": 3, "no_wait": True, "expires": 300 * MS}, 2, 2)])
    js.consumer("S", "Q")
    sid = js.begin("S", "Q", {"batch": 50, "expires": 2 * S})
    js.collect(sid, 3)
    js.store("s.0", "fourth")
    js.collect(sid, 1)
    rec("requests are before", records(js.fetch("S", "Q", {"batch": 1, "no_wait": True}, 1, 2)))


@scenario()
def round_robin(js, rec):
    filled(js, 0)
    js.consumer("S", "C", ack_policy="none")
    first = js.begin("S", "C", {"batch": 3, "expires": 5 * S})
    second = js.begin("S", "C", {"batch": 2, "expires": 5 * S})
    wait_for(lambda: js.raw("CONSUMER.INFO.S.C")["num_waiting"] == 2)
    for i in range(5):
        js.store("s.x", str(i))
    rec("first", [one.body.decode() for one in js.collect(first, 3)])
    rec("second", [one.body.decode() for one in js.collect(second, 2)])
    rec("waiting", js.raw("CONSUMER.INFO.S.C")["num_waiting"])


def account_hash(name):
    """How ack subjects of the new form name an account."""
    digits = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    return "".join(digits[byte % 62] for byte in hashlib.sha256(name.encode()).digest()[:8])


@scenario()
def acks(js, rec):
    filled(js, 12, subjects=1)
    js.consumer("S", "C", ack_wait=30 * S)
    sid = js.subscribe("$JS.EVENT.ADVISORY.CONSUMER.>")
    got = js.fetch("S", "C", {"batch": 12, "expires": S}, 12)
    rec("replies", [masked(one.reply) for one in got])

    def answer(label, message, payload, headers=None, reply=None):
        reply = js.request(message.reply if reply is None else reply, payload, headers, 0.5)
        rec(label, (None if reply is None else reply.record(), js.about("S", "C")["ack_floor"],
                    js.about("S", "C")["num_ack_pending"]))

    answer("+ACK", got[0], "+ACK")
    answer("empty", got[1], "")
    answer("+OK", got[2], "+OK")
    answer("unknown word", got[3], "hello")
    answer("+ACK with more", got[3], "+ACK thanks")
    answer("+WPI", got[3], "+WPI")
    answer("+TERM", got[4], "+TERM")
    answer("+TERM with a reason", got[5], "+TERM it is broken")
    answer("again", got[0], "+ACK")
    answer("with headers", got[3], "+ACK", {"A": "b"})
    answer("out of order", got[7], "+ACK")
    answer("of the gap", got[6], "+ACK")
    answer("-NAK with delay", got[8], '-NAK {"delay": 60000000000}')
    answer("-NAK with text", got[9], "-NAK 60s")
    answer("-NAK with nonsense", got[10], "-NAK whatever")
    rec("redelivered", records(js.fetch("S", "C", {"batch": 1, "expires": S})))
    answer("-NAK", got[11], "-NAK")
    rec("redelivered at once", records(js.fetch("S", "C", {"batch": 1, "expires": S})))
    parts = got[0].reply.split(".")
    for label, reply in (("beyond what was delivered", ".".join(parts[:4] + ["1", "500", "500"] + parts[7:])),
                         ("sequence 0", ".".join(parts[:4] + ["1", "0", "0"] + parts[7:])),
                         ("too few tokens", "$JS.ACK.S.C.1.1"), ("text for a number", ".".join(parts[:5] + ["x"] + parts[6:])),
                         ("of an unknown consumer", "$JS.ACK.S.X." + ".".join(parts[4:])),
                         ("new form, another account", "$JS.ACK._.ABCDEFGH.S.C." + ".".join(parts[4:])),
                         ("new form", "$JS.ACK._.%s.S.C." % account_hash("$G") + ".".join(parts[4:])),
                         ("new form with more", "$JS.ACK._.%s.S.C." % account_hash("$G") + ".".join(parts[4:]) + ".x.y"),
                         ("new form, sequence 9", "$JS.ACK._.%s.S.C.1.9.9." % account_hash("$G") + ".".join(parts[7:])),
                         ("new form, another domain", "$JS.ACK.hub.%s.S.C." % account_hash("$G") + ".".join(parts[4:]))):
        answer(label, got[0], "+ACK", None, reply)
    rec("+NXT", records(js_next(js, got[8].reply, "+NXT")))
    js.store("s.x", "13")
    js.store("s.x", "14")
    rec("+NXT with batch", records(js_next(js, got[9].reply, '+NXT {"batch": 2}', 2)))
    rec("info", js.about("S", "C"))
    advisories = sorted(js.collect(sid, 99, 0.5), key=lambda one: one.body.split(b"timestamp")[-1])
    rec("advisories", [(one.subject, masked(json.loads(one.body))) for one in advisories])


def js_next(js, reply, payload, count=1):
    inbox = "_INBOX.next." + payload[4:].strip(' {"}:').replace('"', "").replace(": ", "_").replace(" ", "_") + "x"
    sid = js.subscribe(inbox)
    js.publish(reply, payload, None, inbox)
    return js.collect(sid, count, 1.0)


@scenario()
def ack_all(js, rec):
    filled(js, 10)
    js.consumer("S", "C", ack_policy="all")
    js.consumer("S", "N", ack_policy="none")
    got = js.fetch("S", "C", {"batch": 8, "expires": S}, 8)
    rec("5", (js.request(got[4].reply, "+ACK").record(), js.about("S", "C")))
    rec("3 after 5", js.about("S", "C") if js.request(got[2].reply, "+ACK") else None)
    rec("8", js.about("S", "C") if js.request(got[7].reply, "+ACK") else None)
    rec("nak of acked", (js.request(got[1].reply, "-NAK", seconds=0.5) is not None, js.about("S", "C")["num_ack_pending"]))
    none = js.fetch("S", "N", {"batch": 3, "expires": S}, 3)
    rec("none, replies", [masked(one.reply) for one in none])
    rec("none, ack", js.request(none[0].reply, "+ACK", seconds=0.5) and "answered")
    rec("none, info", js.about("S", "N"))


@scenario()
def redelivery(js, rec):
    filled(js, 4, subjects=1)
    js.consumer("S", "C", ack_wait=300 * MS, max_deliver=2)
    sid = js.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MAX_DELIVERIES.>")
    first = js.fetch("S", "C", {"batch": 2, "expires": S}, 2)
    rec("first", records(first))
    again = js.fetch("S", "C", {"batch": 4, "expires": 2 * S}, 4)
    rec("again", sorted(masked(one.reply) for one in again))
    wait_for(lambda: js.raw("CONSUMER.INFO.S.C")["num_ack_pending"] == 0)
    rest = js.fetch("S", "C", {"batch": 4, "expires": 1500 * MS}, 4, 2.5)
    rec("the rest", sorted(masked(one.reply) or one.status for one in rest))
    found = js.collect(sid, 4, 3.0)
    rec("advisories", sorted(json.dumps(masked(json.loads(one.body)), sort_keys=True) for one in found))
    rec("info", js.about("S", "C"))
    rec("stream", js.state("S"))


@scenario()
def backoff(js, rec):
    filled(js, 1)
    js.consumer("S", "C", backoff=[200 * MS, 600 * MS], max_deliver=4)
    times = []
    start = time.monotonic()
    for _ in range(4):
        js.fetch("S", "C", {"batch": 1, "expires": 4 * S})
        times.append(time.monotonic() - start)
    gaps = [b - a for a, b in zip(times, times[1:])]
    rec("gaps are 0.2, 0.6, 0.6 s", [0.1 < gaps[0] < 0.5, 0.5 < gaps[1] < 1.1, 0.5 < gaps[2] < 1.1])
    rec("no more", [one.status for one in js.fetch("S", "C", {"batch": 1, "expires": 1000 * MS}, 1, 2)])


@scenario()
def working(js, rec):
    """+WPI keeps it; a NAK with delay comes when it is due."""
    filled(js, 2, subjects=1)
    js.consumer("S", "C", ack_wait=500 * MS)
    one = js.fetch("S", "C")[0]
    for _ in range(5):
        time.sleep(0.2)
        js.request(one.reply, "+WPI")
    rec("not redelivered", [masked(two.reply) or two.status for two in js.fetch("S", "C", {"batch": 2, "expires": 200 * MS}, 2, 1)])
    js.request(one.reply, "+ACK")
    start = time.monotonic()
    js.request(js.fetch("S", "C", {"batch": 1, "expires": 2 * S})[0].reply, '-NAK {"delay": 900000000}')
    got = js.fetch("S", "C", {"batch": 1, "expires": 4 * S})
    rec("delayed", (masked(got[0].reply), 0.5 < time.monotonic() - start < 2.5))


@scenario()
def max_ack_pending(js, rec):
    filled(js, 10, subjects=1)
    js.consumer("S", "C", max_ack_pending=3)
    sid = js.begin("S", "C", {"batch": 10, "expires": 10 * S})
    first = js.collect(sid, 3, rest=0.3)
    rec("three", [one.body.decode() for one in first])
    rec("info", js.about("S", "C"))
    js.request(first[1].reply, "+ACK")
    rec("one more", [one.body.decode() for one in js.collect(sid, 1, rest=0.3)])
    js.request(first[0].reply, "-NAK")
    rec("redelivery is not held", [one.body.decode() for one in js.collect(sid, 1, rest=0.3)])
    js.raw("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C", "ack_policy": "explicit", "max_ack_pending": 5}})
    rec("raised", [one.body.decode() for one in js.collect(sid, 2, rest=0.3)])


@scenario()
def start_positions(js, rec):
    filled(js, 9, subjects=3)
    js.raw("STREAM.MSG.DELETE.S", {"seq": 1})
    js.raw("STREAM.MSG.DELETE.S", {"seq": 5})
    when = js.raw("STREAM.MSG.GET.S", {"seq": 4})["message"]["time"]
    number = 0
    for label, config in (("all", {}), ("last", {"deliver_policy": "last"}), ("new", {"deliver_policy": "new"}),
                          ("sequence 5", {"deliver_policy": "by_start_sequence", "opt_start_seq": 5}),
                          ("sequence 1", {"deliver_policy": "by_start_sequence", "opt_start_seq": 1}),
                          ("sequence 50", {"deliver_policy": "by_start_sequence", "opt_start_seq": 50}),
                          ("time of 4", {"deliver_policy": "by_start_time", "opt_start_time": when}),
                          ("time past", {"deliver_policy": "by_start_time", "opt_start_time": "2001-01-01T00:00:00Z"}),
                          ("time future", {"deliver_policy": "by_start_time", "opt_start_time": "2060-01-01T00:00:00Z"}),
                          ("last per subject", {"deliver_policy": "last_per_subject", "filter_subject": "s.>"}),
                          ("last per subject of some", {"deliver_policy": "last_per_subject", "filter_subjects": ["s.0", "s.2"]}),
                          ("last of filter", {"deliver_policy": "last", "filter_subject": "s.1"}),
                          ("last of filters", {"deliver_policy": "last", "filter_subjects": ["s.0", "s.1"]}),
                          ("last of none", {"deliver_policy": "last", "filter_subject": "s.none"}),
                          ("filter", {"filter_subject": "s.1"}), ("filters", {"filter_subjects": ["s.0", "s.2"]}),
                          ("filter wild", {"filter_subject": "*.0"}), ("filter of none", {"filter_subject": "s.none"}),
                          ("sequence of filter", {"deliver_policy": "by_start_sequence", "opt_start_seq": 3, "filter_subject": "s.0"}),
                          ("time of filter", {"deliver_policy": "by_start_time", "opt_start_time": when, "filter_subject": "s.2"})):
        number += 1
        name = "C%d" % number
        made = js.consumer("S", name, ack_policy="none", **config)
        rec(label + ", created", masked({key: made[key] for key in ("delivered", "ack_floor", "num_pending")}))
        rec(label, [one.status or masked(one.reply).replace(name, "C") for one in js.fetch("S", name, {"batch": 9, "no_wait": True}, 10, 2, 0.15)])
    js.stream("E")
    for policy in ("all", "last", "new"):
        made = js.consumer("E", policy, deliver_policy=policy)
        rec("empty, " + policy, masked({key: made[key] for key in ("delivered", "ack_floor", "num_pending")}))


@scenario()
def pending_counts(js, rec):
    filled(js, 10, subjects=3)
    for name, config in (("ALL", {}), ("F", {"filter_subject": "s.1"}), ("M", {"filter_subjects": ["s.0", "s.2"]}),
                         ("L", {"deliver_policy": "last_per_subject", "filter_subject": "s.*"})):
        js.consumer("S", name, **config)

    def counts():
        return {name: js.raw("CONSUMER.INFO.S." + name)["num_pending"] for name in ("ALL", "F", "M", "L")}

    rec("at first", counts())
    for name in ("ALL", "F", "M", "L"):
        js.fetch("S", name, {"batch": 2, "expires": S}, 2)
    rec("two delivered", counts())
    js.store("s.1", "more")
    rec("one more of s.1", counts())
    js.raw("STREAM.MSG.DELETE.S", {"seq": 8})
    rec("8 deleted", counts())
    js.raw("STREAM.MSG.DELETE.S", {"seq": 1})
    rec("1 deleted", (counts(), {name: js.raw("CONSUMER.INFO.S." + name)["num_ack_pending"] for name in ("ALL", "F", "M", "L")}))
    js.raw("STREAM.PURGE.S", {"filter": "s.2"})
    rec("s.2 purged", wait_for(lambda: js.raw("CONSUMER.INFO.S.M")["num_pending"] < 4) and counts())
    js.raw("STREAM.PURGE.S", {"seq": 7})
    rec("purged below 7", [js.about("S", name) for name in ("ALL", "F", "M")])
    js.raw("STREAM.PURGE.S")
    rec("purged", [js.about("S", name) for name in ("ALL", "F", "M", "L")])
    js.store("s.0", "again")
    rec("one again", counts())


@scenario()
def push(js, rec):
    filled(js, 3)
    js.consumer("S", "C", deliver_subject="push.c")
    rec("nobody", js.about("S", "C"))
    sid = js.subscribe("push.c")
    got = js.collect(sid, 3)
    rec("delivered", records(got))
    rec("bound", js.about("S", "C"))
    js.request(got[0].reply, "+ACK")
    js.store("s.x", "live")
    rec("live", records(js.collect(sid, 1)))
    js.unsubscribe(sid)
    rec("unbound", wait_for(lambda: "push_bound" not in js.raw("CONSUMER.INFO.S.C")))
    js.store("s.x", "while away")
    sid = js.subscribe("push.c")
    rec("after coming back", records(js.collect(sid, 1)))
    js.consumer("S", "G", deliver_subject="push.g", deliver_group="workers", ack_policy="none")
    plain = js.subscribe("push.g")
    rec("plain subscriber of a group", [records(js.collect(plain, 1, 0.4)), "push_bound" in js.raw("CONSUMER.INFO.S.G")])
    js.unsubscribe(plain)
    one, two = js.subscribe("push.g", "workers"), js.subscribe("push.g", "workers")
    found = js.collect("push.none", 0) + [message for message in [js.take(
        lambda message: isinstance(message, jetstream.Message) and message.sid in (one, two), 2) for _ in range(5)] if message]
    rec("group gets each once", sorted(message.body.decode() for message in found))
    js.consumer("S", "H", deliver_subject="push.h", headers_only=True, ack_policy="none")
    heads = js.subscribe("push.h")
    js.store("s.x", "12 bytes now", {"A": "b"})
    rec("headers only", records(js.collect(heads, 6)))


@scenario()
def push_heartbeat(js, rec):
    filled(js, 2)
    js.consumer("S", "C", deliver_subject="push.c", idle_heartbeat=300 * MS, ack_policy="none")
    sid = js.subscribe("push.c")
    rec("messages, then heartbeats", records(js.collect(sid, 4, 3)))
    js.raw("STREAM.MSG.DELETE.S", {"seq": 2})
    js.store("s.x", "third")
    rec("third", records(js.collect(sid, 2, 3)))


@scenario()
def flow_control(js, rec):
    js.stream("S", storage="memory")
    for i in range(100):
        js.store("s.x", "x" * 65536)
    js.consumer("S", "C", deliver_subject="push.c", idle_heartbeat=300 * MS, flow_control=True, ack_policy="none")
    sid = js.subscribe("push.c")
    count, requests, stalled, beats = 0, [], [], 0
    sizes = []
    while count < 100:
        one = js.take(lambda one: isinstance(one, jetstream.Message) and one.sid == sid, 4)
        if one is None:
            break
        if one.status == "100 FlowControl Request":
            requests.append(one)
            sizes.append(count)
            if len(requests) == 1:
                time.sleep(0.9) # not answered: it must stop, and say so
                more = js.collect(sid, 200, 0.1, 0.3)
                count += sum(1 for each in more if each.body)
                stalled = [each.record() for each in more if each.header("Nats-Consumer-Stalled")][:1]
                rec("stopped while it waits", count < 60)
            js.publish(one.reply, "")
        elif one.status:
            beats += 1
        else:
            count += 1
    rec("all came", count)
    rec("requests", (masked(requests[0].record()), len(requests) >= 2))
    rec("first request after", sizes[0])
    rec("stalled", stalled)


@scenario()
def flow_control_policy(js, rec):
    filled(js, 6, subjects=1)
    answer = js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {
        "durable_name": "C", "ack_policy": "flow_control", "deliver_subject": "push.c", "idle_heartbeat": S, "flow_control": True,
        "max_ack_pending": 3}})
    rec("create", answer)
    sid = js.subscribe("push.c")
    got = js.collect(sid, 4, 3)
    rec("three and a request", [one.status or one.body.decode() for one in got])
    if len(got) == 4:
        js.publish(got[3].reply, "", {"Nats-Last-Consumer": "3", "Nats-Last-Stream": "3"})
        rec("then", [one.status or one.body.decode() for one in js.collect(sid, 3, 3)])
        wait_for(lambda: js.raw("CONSUMER.INFO.S.C")["ack_floor"]["stream_seq"] == 3) # ringbus: once it is on disk
        rec("info", js.about("S", "C"))


@scenario()
def rate_and_replay(js, rec):
    filled(js, 0)
    for i in range(3):
        js.store("s.x", "x" * 1000)
        time.sleep(0.3)
    js.consumer("S", "R", deliver_subject="push.r", rate_limit_bps=8 * 4000, ack_policy="none")
    js.consumer("S", "O", deliver_subject="push.o", replay_policy="original", ack_policy="none")
    start = time.monotonic()
    sid = js.subscribe("push.o")
    rec("original", [len(one.body) for one in js.collect(sid, 3)])
    rec("original takes its time", 0.45 < time.monotonic() - start < 1.5)
    sid = js.subscribe("push.r")
    rec("limited", len(js.collect(sid, 3)))


@scenario()
def inactivity(js, rec):
    js.stream("S")
    js.consumer("S", "D")
    answer = js.raw("CONSUMER.CREATE.S.E", {"stream_name": "S", "config": {"name": "E", "ack_policy": "explicit",
                                                                           "inactive_threshold": 500 * MS}})
    rec("created", masked(answer))
    js.raw("CONSUMER.CREATE.S.P", {"stream_name": "S", "config": {"name": "P", "deliver_subject": "push.p", "inactive_threshold": 500 * MS}})
    js.raw("CONSUMER.CREATE.S.B", {"stream_name": "S", "config": {"name": "B", "deliver_subject": "push.b", "inactive_threshold": 500 * MS}})
    js.subscribe("push.b")
    sid = js.subscribe("$JS.EVENT.ADVISORY.CONSUMER.DELETED.>")
    wait_for(lambda: js.raw("CONSUMER.NAMES.S")["total"] == 2, 6)
    rec("left", js.api("CONSUMER.NAMES.S"))
    rec("advisories", sorted(json.dumps(masked(json.loads(one.body)), sort_keys=True) for one in js.collect(sid, 2, 1)))
    rec("default threshold", js.api("CONSUMER.CREATE.S.X", {"stream_name": "S", "config": {"name": "X"}})["config"])


@scenario()
def pause(js, rec):
    filled(js, 3)
    js.consumer("S", "C")
    rec("pause", js.api("CONSUMER.PAUSE.S.C", {"pause_until": "2060-01-01T00:00:00Z"}))
    rec("paused, pull", records(js.fetch("S", "C", {"batch": 1, "expires": 300 * MS}, 1, 2)))
    rec("paused, no wait", records(js.fetch("S", "C", {"batch": 1, "no_wait": True}, 1, 1)))
    rec("paused, heartbeats", records(js.fetch("S", "C", {"batch": 1, "expires": 600 * MS, "idle_heartbeat": 250 * MS}, 3, 2)))
    js.raw("CONSUMER.PAUSE.S.C", {}) # a pull that waits already may not notice in nats-server
    rec("resumed", records(js.fetch("S", "C", {"batch": 1, "expires": 5 * S})))
    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    js.raw("CONSUMER.PAUSE.S.C", {"pause_until": soon})
    rec("resumes alone", records(js.fetch("S", "C", {"batch": 1, "expires": 8 * S}, 1, 9)))
    js.consumer("S", "H", deliver_subject="push.h", idle_heartbeat=200 * MS, ack_policy="none", pause_until="2060-01-01T00:00:00Z")
    sid = js.subscribe("push.h")
    rec("push, paused", records(js.collect(sid, 2, 2)))


@scenario()
def gone_messages(js, rec):
    """What is deleted while it waits for an ack."""
    filled(js, 6, subjects=1)
    js.consumer("S", "C", ack_wait=400 * MS)
    sid = js.subscribe("$JS.EVENT.ADVISORY.CONSUMER.MSG_TERMINATED.>")
    js.fetch("S", "C", {"batch": 4, "expires": S}, 4)
    js.raw("STREAM.MSG.DELETE.S", {"seq": 3})
    js.raw("STREAM.PURGE.S", {"seq": 2})
    got = js.fetch("S", "C", {"batch": 4, "expires": 2 * S}, 4)
    rec("left", sorted(one.body.decode() for one in got))
    rec("advisories", sorted(json.dumps(masked(json.loads(one.body)), sort_keys=True) for one in js.collect(sid, 2, 1.5)))
    rec("info", {key: js.about("S", "C")[key] for key in ("num_pending",)})


@scenario()
def overflow(js, rec):
    filled(js, 10)
    js.consumer("S", "C", priority_policy="overflow", priority_groups=["A"])
    for label, body in (("no group", {"batch": 1, "no_wait": True}), ("other group", {"batch": 1, "no_wait": True, "group": "B"}),
                        ("plain", {"batch": 1, "no_wait": True, "group": "A"}),
                        ("min pending met", {"batch": 1, "expires": 300 * MS, "group": "A", "min_pending": 5}),
                        ("min pending not met", {"batch": 1, "expires": 300 * MS, "group": "A", "min_pending": 50}),
                        ("min ack pending met", {"batch": 1, "expires": 300 * MS, "group": "A", "min_ack_pending": 1}),
                        ("min ack pending not met", {"batch": 1, "expires": 300 * MS, "group": "A", "min_ack_pending": 50}),
                        ("id", {"batch": 1, "no_wait": True, "group": "A", "id": "x"}),
                        ("priority", {"batch": 1, "no_wait": True, "group": "A", "priority": 2}),
                        ("priority too high", {"batch": 1, "no_wait": True, "group": "A", "priority": 12})):
        rec(label, records(js.fetch("S", "C", body, 1, 2)))
    rec("info", js.about("S", "C"))


@scenario()
def pinned(js, rec):
    filled(js, 20)
    events = js.subscribe("$JS.EVENT.ADVISORY.CONSUMER.*.S.C")
    js.consumer("S", "C", priority_policy="pinned_client", priority_groups=["A"], priority_timeout=2 * S)
    rec("info, unpinned", js.about("S", "C"))
    first = js.fetch("S", "C", {"batch": 2, "expires": S, "group": "A"}, 2)
    rec("first is pinned", records(first))
    pin = first[0].header("Nats-Pin-Id")
    rec("info, pinned", js.about("S", "C"))
    rec("without id waits", records(js.fetch("S", "C", {"batch": 1, "expires": 300 * MS, "group": "A"}, 1, 1)))
    rec("wrong id", records(js.fetch("S", "C", {"batch": 1, "expires": S, "group": "A", "id": "wrong"}, 1, 1)))
    rec("right id", records(js.fetch("S", "C", {"batch": 1, "expires": S, "group": "A", "id": pin}, 1, 1)))
    rec("min pending", records(js.fetch("S", "C", {"batch": 1, "expires": S, "group": "A", "min_pending": 1}, 1, 1)))
    sid = js.begin("S", "C", {"batch": 1, "expires": 3 * S, "group": "A"})
    rec("unpin", js.api("CONSUMER.UNPIN.S.C", {"group": "A"}))
    second = js.collect(sid, 1)
    rec("next is pinned", [second[0].header("Nats-Pin-Id") not in (None, pin), second[0].body.decode()])
    rec("stale id", records(js.fetch("S", "C", {"batch": 1, "expires": S, "group": "A", "id": pin}, 1, 1)))
    rec("unpin of another group", js.api("CONSUMER.UNPIN.S.C", {"group": "B"}))
    start = time.monotonic()
    third = js.fetch("S", "C", {"batch": 1, "expires": 5 * S, "group": "A"}, 1)
    rec("after the timeout", (0.8 < time.monotonic() - start < 4, third[0].header("Nats-Pin-Id") is not None))
    rec("advisories", [masked(json.loads(one.body)) for one in js.collect(events, 9, 0.5)])


@scenario()
def prioritized(js, rec):
    filled(js, 0)
    js.consumer("S", "C", priority_policy="prioritized", priority_groups=["A"], ack_policy="none")
    sids = {}
    for label, priority in (("five", 5), ("one", 1), ("nine", 9), ("one again", 1), ("none", None)):
        body = {"batch": 1, "expires": 5 * S, "group": "A"}
        if priority is not None:
            body["priority"] = priority
        sids[js.begin("S", "C", body)] = label
    wait_for(lambda: js.raw("CONSUMER.INFO.S.C")["num_waiting"] == 5)
    order = []
    for i in range(5):
        js.store("s.x", "m%d" % i)
        one = js.take(lambda one: isinstance(one, jetstream.Message) and one.sid in sids, 2)
        order.append(sids[one.sid])
    rec("order", order)
    rec("out of range", records(js.fetch("S", "C", {"batch": 1, "no_wait": True, "group": "A", "priority": 10}, 1, 1)))
    rec("negative", records(js.fetch("S", "C", {"batch": 1, "no_wait": True, "group": "A", "priority": -1}, 1, 1)))


@scenario()
def updates_that_matter(js, rec):
    filled(js, 10)
    js.consumer("S", "C", filter_subject="s.0")
    rec("one", [one.body.decode() for one in js.fetch("S", "C", {"batch": 1, "expires": S})])
    js.consumer("S", "C", filter_subject="s.1")
    rec("info after", js.about("S", "C"))
    rec("two", [one.body.decode() for one in js.fetch("S", "C", {"batch": 3, "expires": S}, 3)])
    js.consumer("S", "C")
    rec("info unfiltered", js.about("S", "C"))
    rec("three", [one.body.decode() for one in js.fetch("S", "C", {"batch": 3, "expires": S}, 3)])
    js.consumer("S", "W", ack_wait=30 * S)
    js.fetch("S", "W", {"batch": 1, "expires": S})
    js.consumer("S", "W", ack_wait=300 * MS)
    rec("shorter ack wait", sorted(masked(one.reply) for one in js.fetch("S", "W", {"batch": 2, "expires": 2 * S}, 2)))
    js.consumer("S", "D", deliver_subject="push.d")
    old = js.subscribe("push.d")
    js.collect(old, 10)
    rec("deliver subject in use", js.api("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": {
        "durable_name": "D", "ack_policy": "explicit", "deliver_subject": "push.e"}}))
    js.unsubscribe(old)
    wait_for(lambda: "push_bound" not in js.raw("CONSUMER.INFO.S.D"))
    js.consumer("S", "D", deliver_subject="push.e")
    new = js.subscribe("push.e")
    js.store("s.x", "elsewhere")
    rec("new deliver subject", [one.body.decode() for one in js.collect(new, 1)])


@scenario()
def reset(js, rec):
    filled(js, 6, subjects=1)
    js.consumer("S", "C")
    for one in js.fetch("S", "C", {"batch": 4, "expires": S}, 4)[:2]:
        js.request(one.reply, "+ACK")
    rec("reset", js.api("CONSUMER.RESET.S.C"))
    rec("again from the floor", records(js.fetch("S", "C", {"batch": 2, "expires": S}, 2)))
    rec("reset to 5", js.api("CONSUMER.RESET.S.C", {"seq": 5}))
    rec("from 5", records(js.fetch("S", "C", {"batch": 2, "expires": S}, 2)))
    rec("reset to 1", js.api("CONSUMER.RESET.S.C", {"seq": 1}))
    rec("from 1", records(js.fetch("S", "C", {"batch": 1, "expires": S})))


@scenario()
def after_restart(js, rec, running):
    """Confirmed acks hold over SIGTERM; what was not acked comes again."""
    filled(js, 8, subjects=1)
    js.consumer("S", "C", ack_wait=S)
    js.consumer("S", "P", deliver_subject="push.p", ack_policy="all")
    got = js.fetch("S", "C", {"batch": 5, "expires": S}, 5)
    for one in (got[0], got[1], got[3]):
        js.request(one.reply, "+ACK")
    time.sleep(0.5)
    jetstream.restart(running, 15)
    with Js(running) as again:
        rec("floor", again.about("S", "C")["ack_floor"])
        found = again.fetch("S", "C", {"batch": 5, "expires": 4 * S}, 5)
        rec("not acked, and new", sorted(one.body.decode() for one in found))
        rec("times delivered", sorted(masked(one.reply).split(".")[4] for one in found))
        sid = again.subscribe("push.p")
        rec("push", [one.body.decode() for one in again.collect(sid, 8)])


@scenario()
def wildcard_listener(js, rec):
    """A wildcard alone is no interest in nats-server; beside a plain subscription it hears what that one does."""
    filled(js, 2)
    wild = js.subscribe("some.>")
    js.consumer("S", "C", deliver_subject="some.deep.subject")
    rec("wildcard alone", (records(js.collect(wild, 2, 0.8)), "push_bound" in js.raw("CONSUMER.INFO.S.C")))
    plain = js.subscribe("some.deep.subject")
    got = js.collect(plain, 2)
    rec("plain", records(got))
    rec("wildcard", records(js.collect(wild, 2)))
    if got:
        js.publish(got[0].reply, "")
    rec("acked without a reply", wait_for(lambda: js.raw("CONSUMER.INFO.S.C")["ack_floor"]["stream_seq"] == 1))


if __name__ == "__main__":
    sys.exit(jetstream.main("js_consumer", __doc__, REFUSED, DIFFERS))
