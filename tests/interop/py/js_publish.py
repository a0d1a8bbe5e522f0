#!/usr/bin/env python3
"""Publishing into streams, compared with nats-server: order of checks, bytes of acknowledgements, limits, dedup, rollup, TTL, markers.

  js_publish.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import json
import sys
import time

import jetstream
from jetstream import scenario, wait_for

# Records that ringbus refuses on purpose so far.
REFUSED = ()

# Records in which ringbus is another on purpose.
DIFFERS = {
    # What is only traced is told everything that would be wrong with it.
    "traced/ttl, only":
        [[{'acc': '$G', 'kind': 0, 'name': 'probe', 'subj': 's.x', 'type': 'in'},
          {'error': 'invalid per-message TTL (10165)', 'stream': 'S', 'subject': 's.x', 'type': 'js'}],
         {'body': '{"error":{"code":400,"err_code":10165,"description":"invalid per-message '
                  'TTL"},"stream":"S","seq":0}'}],
}

S = 1_000_000_000
MS = 1_000_000


@scenario()
def acknowledgements(js, rec):
    js.stream("S")
    js.stream("Q", no_ack=True)
    js.stream("M", storage="memory")
    rec("plain", js.store("s.x", "m"))
    rec("empty", js.store("s.x"))
    rec("headers", js.store("s.x", "m", {"A": "b"}))
    rec("no colon in headers", js.store("s.x", "m", b"NATS/1.0\r\nnonsense\r\n\r\n"))
    rec("memory", js.store("m.x", "m"))
    rec("no ack", js.store("q.x", "m", seconds=jetstream.SILENCE))
    rec("no ack, error", js.store("q.x", "m", {"Nats-Expected-Stream": "X"}, seconds=jetstream.SILENCE))
    rec("no ack, stored", js.state("Q"))
    rec("no stream", js.store("t.x", "m"))
    js.publish("s.x", "without reply")
    js.flush()
    wait_for(lambda: js.raw("STREAM.INFO.S")["state"]["messages"] == 5)
    rec("state", js.state("S"))
    rec("stored", [js.message("S", seq) for seq in range(1, 6)])
    rec("reply to another stream", js.store("s.x", "m"))
    sid = js.subscribe("m.reply")
    js.publish("s.x", "m", None, "m.reply")
    rec("acknowledged into a stream", [one.record(True) for one in js.collect(sid, 1)])
    rec("acknowledgement is stored", js.message("M", 2))
    watch = js.subscribe("s.>")
    rec("acknowledged with a listener", js.store("s.x", "m"))
    rec("heard", [one.body.decode() for one in js.collect(watch, 1)])


@scenario()
def sizes(js, rec):
    js.stream("S", max_msg_size=100)
    js.stream("L", storage="memory")
    rec("exact", js.store("s.x", "x" * 100))
    rec("one more", js.store("s.x", "x" * 101))
    rec("headers count", js.store("s.x", "x" * 90, {"Header": "value"}))
    rec("state", js.state("S"))
    for storage, name in (("file", "F"), ("memory", "M")):
        js.stream(name, storage=storage)
        subject = name.lower() + "."
        for label, body, headers in (("one byte", "x", None), ("empty", "", None), ("headers", "x", {"A": "b"}),
                                     ("headers alone", "", {"A": "b"}), ("thousand", "x" * 1000, {"A": "b" * 500})):
            js.store(subject + "subject", body, headers)
            rec("%s: %s" % (storage, label), js.state(name)["bytes"])
        rec("%s: long subject" % storage, js.store(subject + "t" * 200, "m"))
        rec("%s: bytes" % storage, js.state(name))
    rec("large", js.store("l.x", "x" * 1_000_000))
    rec("many headers", js.store("l.x", "m", {"H": "h" * 70_000}))
    rec("many headers, in file", js.store("f.x", "m", {"H": "h" * 70_000}))
    rec("headers that just fit", js.store("f.x", "m", {"H": "h" * (65535 - len("NATS/1.0\r\nH: \r\n\r\n"))}))


@scenario()
def expectations(js, rec):
    js.stream("S")
    js.stream("E")
    rec("stream", js.store("s.x", "m", {"Nats-Expected-Stream": "S"}))
    rec("other stream", js.store("s.x", "m", {"Nats-Expected-Stream": "T"}))
    rec("empty stream name", js.store("s.x", "m", {"Nats-Expected-Stream": ""}))
    rec("last seq 0 of empty", js.store("e.x", "m", {"Nats-Expected-Last-Sequence": "0"}))
    rec("last seq 0 of full", js.store("e.x", "m", {"Nats-Expected-Last-Sequence": "0"}))
    rec("last seq", js.store("s.x", "m", {"Nats-Expected-Last-Sequence": "2"}))
    rec("last seq wrong", js.store("s.x", "m", {"Nats-Expected-Last-Sequence": "1"}))
    rec("last seq text", js.store("s.x", "m", {"Nats-Expected-Last-Sequence": "x"}))
    rec("last seq negative", js.store("s.x", "m", {"Nats-Expected-Last-Sequence": "-1"}))
    rec("last seq empty", js.store("s.x", "m", {"Nats-Expected-Last-Sequence": ""}))
    rec("subject 0 of new", js.store("s.new", "m", {"Nats-Expected-Last-Subject-Sequence": "0"}))
    rec("subject 0 of old", js.store("s.new", "m", {"Nats-Expected-Last-Subject-Sequence": "0"}))
    last = js.raw("STREAM.INFO.S")["state"]["last_seq"]
    rec("subject right", js.store("s.new", "m", {"Nats-Expected-Last-Subject-Sequence": str(last)}))
    rec("subject wrong", js.store("s.new", "m", {"Nats-Expected-Last-Subject-Sequence": str(last)}))
    rec("subject text", js.store("s.new", "m", {"Nats-Expected-Last-Subject-Sequence": "x"}))
    rec("subject beyond", js.store("s.new", "m", {"Nats-Expected-Last-Subject-Sequence": "1000"}))
    last = js.raw("STREAM.INFO.S")["state"]["last_seq"]
    override = "Nats-Expected-Last-Subject-Sequence-Subject"
    rec("of another subject", js.store("s.other", "m", {"Nats-Expected-Last-Subject-Sequence": str(last), override: "s.new"}))
    rec("of another subject, wrong", js.store("s.other", "m", {"Nats-Expected-Last-Subject-Sequence": "1", override: "s.new"}))
    last = js.raw("STREAM.INFO.S")["state"]["last_seq"]
    rec("of wildcards", js.store("s.other", "m", {"Nats-Expected-Last-Subject-Sequence": str(last), override: "s.>"}))
    rec("of none", js.store("s.other", "m", {"Nats-Expected-Last-Subject-Sequence": "0", override: "s.none.*"}))
    rec("of bad", js.store("s.other", "m", {"Nats-Expected-Last-Subject-Sequence": "0", override: "s..none"}))
    rec("override alone", js.store("s.other", "m", {override: "s.new"}))
    rec("after purge of subject", (js.raw("STREAM.PURGE.S", {"filter": "s.new"})["purged"],
                                   js.store("s.new", "m", {"Nats-Expected-Last-Subject-Sequence": "0"})))
    rec("last id of none", js.store("s.x", "m", {"Nats-Expected-Last-Msg-Id": "a"}))
    rec("with id", js.store("s.x", "m", {"Nats-Msg-Id": "a"}))
    rec("last id", js.store("s.x", "m", {"Nats-Expected-Last-Msg-Id": "a", "Nats-Msg-Id": "b"}))
    rec("last id wrong", js.store("s.x", "m", {"Nats-Expected-Last-Msg-Id": "a"}))
    rec("no id in between", js.store("s.x", "m"))
    rec("last id after one without", js.store("s.x", "m", {"Nats-Expected-Last-Msg-Id": "b"}))
    rec("all at once", js.store("s.y", "m", {
        "Nats-Expected-Stream": "S", "Nats-Expected-Last-Subject-Sequence": "0", "Nats-Msg-Id": "c",
        "Nats-Expected-Last-Sequence": str(js.raw("STREAM.INFO.S")["state"]["last_seq"])}))
    rec("state", js.state("S"))


@scenario()
def check_order(js, rec):
    """Two things are wrong: which one is named?"""
    js.stream("S", max_msg_size=300)
    js.store("s.x", "m", {"Nats-Msg-Id": "dup"})
    wrong = {
        "stream": {"Nats-Expected-Stream": "T"},
        "ttl": {"Nats-TTL": "5"},
        "subject seq": {"Nats-Expected-Last-Subject-Sequence": "99"},
        "last seq": {"Nats-Expected-Last-Sequence": "99"},
        "duplicate": {"Nats-Msg-Id": "dup"},
        "last id": {"Nats-Expected-Last-Msg-Id": "other"},
        "rollup": {"Nats-Rollup": "sub"},
        "size": {"Padding": "p" * 300},
        "counter": {"Nats-Incr": "1"},
        "override alone": {"Nats-Expected-Last-Subject-Sequence-Subject": "s.x"},
        "batch": {"Nats-Batch-Id": "b", "Nats-Batch-Sequence": "1"},
        "bad ttl": {"Nats-TTL": "soon"},
    }
    names = list(wrong)
    for first, one in enumerate(names):
        rec(one, js.store("s.x", "m", wrong[one]))
        for two in names[first + 1:]:
            if set(wrong[one]) & set(wrong[two]):
                continue
            rec("%s + %s" % (one, two), js.store("s.x", "m", {**wrong[two], **wrong[one]}))
    js.stream("TTL", allow_msg_ttl=True, max_msg_size=300, subjects=["ttl.>"])
    for one in ("size", "rollup", "duplicate", "last seq"):
        rec("bad ttl where allowed + " + one, js.store("ttl.x", "m", {"Nats-TTL": "soon", **wrong[one]}))
    rec("state", js.state("S"))


@scenario()
def limits(js, rec):
    for storage in ("file", "memory"):
        js.stream("MSGS", storage=storage, max_msgs=3)
        js.stream("BYTES", storage=storage, max_bytes=200)
        js.stream("EACH", storage=storage, max_msgs_per_subject=2)
        js.stream("BOTH", storage=storage, max_msgs_per_subject=2, max_msgs=3)
        for i in range(6):
            for name in ("msgs", "bytes", "each", "both"):
                js.store("%s.%d" % (name, i % 2), "message %d" % i)
        for name in ("MSGS", "BYTES", "EACH", "BOTH"):
            rec("%s: %s" % (storage, name), js.state(name))
        rec("%s: larger than all" % storage, js.store("bytes.x", "x" * 300))
        rec("%s: larger than all, state" % storage, js.state("BYTES"))
        rec("%s: lowered" % storage, js.api("STREAM.UPDATE.EACH", {"name": "EACH", "subjects": ["each.>"], "storage": storage,
                                                                   "max_msgs_per_subject": 1})["state"])
        for name in ("MSGS", "BYTES", "EACH", "BOTH"):
            js.raw("STREAM.DELETE." + name)


@scenario()
def discard_new(js, rec):
    for storage in ("file", "memory"):
        js.stream("MSGS", storage=storage, max_msgs=3, discard="new")
        js.stream("BYTES", storage=storage, max_bytes=200, discard="new")
        js.stream("EACH", storage=storage, max_msgs_per_subject=2, discard="new")
        js.stream("STRICT", storage=storage, max_msgs_per_subject=2, discard="new", discard_new_per_subject=True,
                  allow_rollup_hdrs=True)
        js.stream("MIX", storage=storage, max_msgs=4, max_msgs_per_subject=2, discard="new", allow_rollup_hdrs=True)
        for name in ("msgs", "bytes", "each", "strict", "mix"):
            rec("%s: %s" % (storage, name), [js.store("%s.%d" % (name, i % 2), "message %d" % i) for i in range(7)])
            rec("%s: %s, state" % (storage, name), js.state(name.upper()))
        rec("%s: strict, rollup at the limit" % storage, js.store("strict.0", "", {"Nats-Rollup": "sub"}))
        rec("%s: strict, state" % storage + " after", js.state("STRICT"))
        rec("%s: mix, other subject" % storage, js.store("mix.2", "m"))
        rec("%s: mix, rollup" % storage, js.store("mix.0", "m", {"Nats-Rollup": "sub"}))
        rec("%s: mix, rollup of all" % storage, js.store("mix.3", "m", {"Nats-Rollup": "all"}))
        rec("%s: room again" % storage, (js.raw("STREAM.MSG.DELETE.MSGS", {"seq": 1})["success"], js.store("msgs.9", "m")))
        rec("%s: a duplicate of none" % storage, [js.store("msgs.9", "m", {"Nats-Msg-Id": "x"}) for _ in range(2)])
        for name in ("MSGS", "BYTES", "EACH", "STRICT", "MIX"):
            js.raw("STREAM.DELETE." + name)


@scenario()
def deduplication(js, rec):
    js.stream("S", duplicate_window=1 * S)
    js.stream("OFF", duplicate_window=0, max_age=0)
    js.stream("I", retention="interest")
    rec("first", js.store("s.x", "m", {"Nats-Msg-Id": "a"}))
    rec("second", js.store("s.x", "m", {"Nats-Msg-Id": "a"}))
    rec("other subject", js.store("s.y", "m", {"Nats-Msg-Id": "a"}))
    rec("other id", js.store("s.x", "m", {"Nats-Msg-Id": "b"}))
    rec("empty id", [js.store("s.x", "m", {"Nats-Msg-Id": ""}) for _ in range(2)])
    rec("long id", [js.store("s.x", "m", {"Nats-Msg-Id": "i" * 5000}) for _ in range(2)])
    rec("case of the header", [js.store("s.x", "m", {"nats-msg-id": "c"}) for _ in range(2)])
    rec("blanks around", [js.store("s.x", "m", b"NATS/1.0\r\nNats-Msg-Id:   d  \r\n\r\n") for _ in range(2)])
    rec("deleted and again", (js.raw("STREAM.MSG.DELETE.S", {"seq": 1})["success"], js.store("s.x", "m", {"Nats-Msg-Id": "a"})))
    rec("purged and again", (js.raw("STREAM.PURGE.S")["success"], js.store("s.x", "m", {"Nats-Msg-Id": "a"})))
    time.sleep(1.6)
    rec("after the window", js.store("s.x", "m", {"Nats-Msg-Id": "a"}))
    rec("state", js.state("S"))
    rec("without interest", [js.store("i.x", "m", {"Nats-Msg-Id": "z"}) for _ in range(2)])
    rec("rejected is not remembered", [js.store("s.x", "m", {"Nats-Msg-Id": "r", "Nats-Expected-Last-Sequence": "1"}),
                                       js.store("s.x", "m", {"Nats-Msg-Id": "r"})])


@scenario()
def rollup(js, rec):
    js.stream("S", allow_rollup_hdrs=True)
    js.stream("D")
    for i in range(6):
        js.store("s.%d" % (i % 2), "message %d" % i)
    rec("not allowed", js.store("d.x", "m", {"Nats-Rollup": "sub"}))
    rec("bad value", js.store("s.0", "m", {"Nats-Rollup": "some"}))
    rec("empty value", js.store("s.0", "m", {"Nats-Rollup": ""}))
    rec("subject", js.store("s.0", "rolled", {"Nats-Rollup": "sub"}))
    rec("state", js.state("S"))
    rec("capitals", js.store("s.1", "rolled", {"Nats-Rollup": "SUB"}))
    rec("state 2", js.state("S"))
    rec("of new subject", js.store("s.9", "rolled", {"Nats-Rollup": "sub"}))
    rec("all", js.store("s.0", "alone", {"Nats-Rollup": "all"}))
    rec("state 3", js.state("S"))
    rec("stored", js.message("S", js.raw("STREAM.INFO.S")["state"]["last_seq"]))


@scenario()
def age(js, rec):
    js.stream("A", max_age=S)
    js.stream("M", max_age=S, storage="memory")
    js.stream("K", max_age=S, allow_msg_ttl=True)
    for i in range(3):
        js.store("a.%d" % i, "m")
        js.store("m.%d" % i, "m")
    js.store("k.keep", "m", {"Nats-TTL": "never"})
    js.store("k.go", "m")
    rec("before", [js.state(name)["messages"] for name in "AMK"])
    wait_for(lambda: all(js.raw("STREAM.INFO." + name)["state"]["messages"] == left
                         for name, left in (("A", 0), ("M", 0), ("K", 1))), 5)
    for name in "AMK":
        rec("after, " + name, js.state(name))
    rec("next", js.store("a.x", "m"))
    rec("lowered by update", js.api("STREAM.UPDATE.K", {"name": "K", "subjects": ["k.>"], "max_age": 5 * S, "allow_msg_ttl": True})[
        "config"]["max_age"])


@scenario()
def ttl(js, rec):
    js.stream("S", allow_msg_ttl=True)
    js.stream("OFF")
    for value in ("1", "0", "5s", "1500ms", "1h", "never", "NEVER", "-1", "500ms", "soon", "", "1.5", "99999999999", "-5s", " 7 ", "+7"):
        rec("value %r" % value, js.store("s.x", "m", {"Nats-TTL": value}))
        rec("value %r where it is off" % value, js.store("off.x", "m", {"Nats-TTL": value}))
    rec("stored headers", [js.message("S", seq).get("hdrs") for seq in range(1, 9)])
    js.stream("T", allow_msg_ttl=True)
    js.store("t.a", "m", {"Nats-TTL": "1"})
    js.store("t.b", "m", {"Nats-TTL": "1"})
    js.store("t.c", "m", {"Nats-TTL": "60"})
    js.store("t.d", "m")
    wait_for(lambda: js.raw("STREAM.INFO.T")["state"]["messages"] == 2, 5)
    rec("after a second", js.state("T"))
    rec("gone", js.api("STREAM.MSG.GET.T", {"seq": 1}))


@scenario()
def markers(js, rec):
    for storage, name in (("file", "F"), ("memory", "M")):
        subject = name.lower()
        js.stream(name, storage=storage, subject_delete_marker_ttl=60 * S, max_msgs_per_subject=3)
        rec("%s: ttl is raised" % storage, js.store(subject + ".raised", "m", {"Nats-TTL": "1"}))
        rec("%s: ttl as stored" % storage, js.message(name, 1))
    js.stream("ONE", subject_delete_marker_ttl=60 * S, max_msgs_per_subject=1)
    for subject, headers in (("one.a", {"Nats-TTL": "1"}), ("one.b", {"Nats-TTL": "1", "KV-Operation": "PURGE"}),
                             ("one.c", {"Nats-TTL": "1", "KV-Operation": "DEL"}),
                             ("one.d", {"Nats-TTL": "1", "Nats-Marker-Reason": "MaxAge"})):
        rec("publish " + subject, js.store(subject, "m", headers))
        time.sleep(0.05)
    js.stream("AGE", subject_delete_marker_ttl=60 * S, max_age=S)
    js.store("age.x", "m")
    js.store("age.x", "m")
    wait_for(lambda: js.raw("STREAM.INFO.ONE")["state"]["last_seq"] >= 6 and js.raw("STREAM.INFO.AGE")["state"]["last_seq"] >= 3, 6)
    time.sleep(0.5)
    rec("state", js.state("ONE"))
    rec("left", sorted(str(js.raw("STREAM.MSG.GET.ONE", {"seq": seq}).get("message", {}).get("subject")) for seq in range(5, 9)))
    rec("marker", js.api("STREAM.MSG.GET.ONE", {"last_by_subj": "one.a"})["message"]["hdrs"])
    rec("marker by age", js.message("AGE", 3))
    rec("marker by age, state", js.state("AGE"))
    rec("publish over a marker", js.store("one.a", "m", {"Nats-Expected-Last-Subject-Sequence": "0"}))


@scenario()
def retention(js, rec):
    js.stream("I", retention="interest")
    js.stream("W", retention="workqueue")
    rec("interest, nobody", js.store("i.x", "m"))
    rec("interest, nobody, state", js.state("I"))
    js.consumer("I", "C", filter_subject="i.a")
    rec("interest, other filter", [js.store("i.b", "m"), js.state("I")])
    rec("interest, matching", [js.store("i.a", "m"), js.state("I")])
    js.consumer("I", "D")
    rec("interest, two", [js.store("i.a", "m"), js.store("i.b", "m")])
    for consumer in "CD":
        for one in js.fetch("I", consumer, {"batch": 5, "no_wait": True}, 5, 1):
            js.request(one.reply, "+ACK") if one.reply else None
        rec("interest, %s acked" % consumer, js.state("I"))
    rec("work, nobody", [js.store("w.x", "m"), js.state("W")])
    js.consumer("W", "Q")
    one = js.fetch("W", "Q")[0]
    rec("work, delivered", js.state("W"))
    js.request(one.reply, "+ACK")
    rec("work, acked", js.state("W"))
    js.store("w.x", "m")
    js.request(js.fetch("W", "Q")[0].reply, "+TERM")
    rec("work, terminated", js.state("W"))
    js.store("i.b", "m")
    js.raw("CONSUMER.DELETE.I.D")
    rec("interest, consumer gone", wait_for(lambda: js.raw("STREAM.INFO.I")["state"]["messages"] == 0) and js.state("I"))
    js.stream("L")
    js.consumer("L", "C")
    for _ in range(4):
        js.store("l.x", "m")
    for one in js.fetch("L", "C", {"batch": 2, "expires": S}, 2):
        js.request(one.reply, "+ACK")
    rec("limits to interest", js.api("STREAM.UPDATE.L", {"name": "L", "subjects": ["l.>"], "retention": "interest"})["state"])
    rec("limits to interest, state", wait_for(lambda: js.raw("STREAM.INFO.L")["state"]["messages"] == 2) and js.state("L"))


@scenario()
def transforms(js, rec):
    js.stream("T", subjects=["in.*.*"], subject_transform={"src": "in.*.*", "dest": "out.$2.$1"})
    rec("publish", js.store("in.a.b", "m"))
    rec("stored", js.message("T", 1))
    rec("expected of the new subject", js.store("in.a.b", "m", {"Nats-Expected-Last-Subject-Sequence": "1"}))
    js.stream("P", subjects=["p.>"], subject_transform={"src": "p.x.*", "dest": "q.{{wildcard(1)}}"})
    rec("outside of the source", js.store("p.y.z", "m"))
    rec("inside of the source", js.store("p.x.z", "m"))
    rec("subjects", js.api("STREAM.INFO.P", {"subjects_filter": ">"})["state"])


@scenario()
def republish(js, rec):
    js.stream("R", subjects=["r.*"], republish={"src": "r.*", "dest": "again.$1"})
    js.stream("H", subjects=["h.*"], republish={"src": ">", "dest": "heads.>", "headers_only": True})
    js.stream("P", subjects=["p.>"], republish={"src": "p.x.*", "dest": "some.$1"})
    sid, heads, some = js.subscribe("again.*"), js.subscribe("heads.>"), js.subscribe("some.>")
    js.store("r.a", "one", {"A": "b", "Nats-Msg-Id": "1"})
    js.store("r.a", "two")
    js.store("r.a", "one", {"Nats-Msg-Id": "1"})
    js.store("r.a", "refused", {"Nats-Expected-Last-Sequence": "77"})
    js.store("r.b", "")
    js.store("h.a", "seven bytes", {"A": "b"})
    js.store("p.y.z", "not")
    js.store("p.x.z", "yes")
    rec("whole", [one.record(True) for one in js.collect(sid, 3, rest=0.2)])
    rec("heads", [one.record(True) for one in js.collect(heads, 1, rest=0.2)])
    rec("some", [one.record(True) for one in js.collect(some, 1, rest=0.2)])


@scenario()
def counters(js, rec):
    js.stream("C", allow_msg_counter=True)
    for label, body, headers in (("first", "", {"Nats-Incr": "5"}), ("plus", "", {"Nats-Incr": "+2"}), ("minus", "", {"Nats-Incr": "-10"}),
                                 ("large", "", {"Nats-Incr": "9" * 40}), ("text", "", {"Nats-Incr": "x"}), ("no header", "", None),
                                 ("body", "m", {"Nats-Incr": "1"}), ("rollup", "", {"Nats-Incr": "1", "Nats-Rollup": "sub"}),
                                 ("expected", "", {"Nats-Incr": "1", "Nats-Expected-Last-Sequence": "1"})):
        rec(label, js.store("c.x", body, headers))
    rec("stored", js.message("C", 3))


@scenario()
def schedules(js, rec):
    js.stream("C", allow_msg_schedules=True, allow_msg_ttl=True)
    for label, headers in (("no target", {"Nats-Schedule": "@at 2060-01-01T00:00:00Z"}),
                           ("at", {"Nats-Schedule": "@at 2060-01-01T00:00:00Z", "Nats-Schedule-Target": "c.target"}),
                           ("bad", {"Nats-Schedule": "@soon", "Nats-Schedule-Target": "c.target"}),
                           ("target outside", {"Nats-Schedule": "@every 5s", "Nats-Schedule-Target": "d.target"}),
                           ("every", {"Nats-Schedule": "@every 3600s", "Nats-Schedule-Target": "c.target"})):
        rec(label, js.store("c." + label.replace(" ", "_"), "m", headers))
    js.store("c.now", "fired", {"Nats-Schedule": "@at 2001-01-01T00:00:00Z", "Nats-Schedule-Target": "c.fired"})
    rec("fired", wait_for(lambda: "message" in js.raw("STREAM.MSG.GET.C", {"last_by_subj": "c.fired"}), 3))


@scenario()
def traced(js, rec):
    """What a trace says of streams, that a message which is only traced is not stored, and that what is stored is traced no more."""
    js.stream("S", max_msg_size=150, duplicate_window=60 * S)
    js.stream("I", retention="interest")
    js.stream("NA", no_ack=True)
    js.stream("T", subject_transform={"src": "t.*", "dest": "tt.{{wildcard(1)}}"})
    js.consumer("S", "P", deliver_subject="push", ack_policy="none")
    push, told = js.subscribe("push"), js.subscribe("told")
    for label, subject, body, headers in (
            ("stored", "s.x", "m", {}), ("size", "s.x", "m" * 200, {}), ("last sequence", "s.x", "m", {"Nats-Expected-Last-Sequence": "9"}),
            ("last of subject", "s.x", "m", {"Nats-Expected-Last-Subject-Sequence": "9"}), ("id", "s.x", "m", {"Nats-Msg-Id": "a"}),
            ("id again", "s.x", "m", {"Nats-Msg-Id": "a"}), ("ttl", "s.x", "m", {"Nats-TTL": "x"}),
            ("roll-up", "s.x", "m", {"Nats-Rollup": "sub"}), ("nobody", "i.x", "m", {}), ("no ack", "na.x", "m", {}),
            ("transformed", "t.x", "m", {})):
        for only in ({}, {"Nats-Trace-Only": "true"}):
            inbox = js.inbox()
            js.publish(subject, body, {"Nats-Trace-Dest": "told", **headers, **only}, inbox)
            trace = js.collect(told, 1)
            js.flush()
            answer = js.take(lambda one, to=inbox: isinstance(one, jetstream.Message) and one.subject == to,
                             0.2 if only or label == "no ack" else 2)
            events = [{key: value for key, value in one.items() if key not in ("ts", "cid")}
                      for one in json.loads(trace[0].body)["events"]]
            rec(label + (", only" if only else ""), (events, answer and answer.record()))
    rec("pushed", [one.record() for one in js.collect(push, 2, rest=0.3)])
    rec("request", js.request("$JS.API.DIRECT.GET.S", json.dumps({"seq": 1}), {"Nats-Trace-Dest": "told"}).record())
    rec("request, only", js.request("$JS.API.DIRECT.GET.S", json.dumps({"seq": 1}), {
        "Nats-Trace-Dest": "told", "Nats-Trace-Only": "1"}, 0.3) is not None)
    rec("last", [js.state(name)["last_seq"] for name in ("S", "I", "NA", "T")])


if __name__ == "__main__":
    sys.exit(jetstream.main("js_publish", __doc__, REFUSED, DIFFERS))
