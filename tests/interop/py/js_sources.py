#!/usr/bin/env python3
"""Mirrors and sources, compared with nats-server: rules, what is stored, gaps, filters, starts, transforms, retention, promotion.

  js_sources.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import re
import sys
import time

import jetstream
from jetstream import scenario, wait_for

# Records that ringbus refuses on purpose so far.
REFUSED = ()

S = 1_000_000_000


def settle(js, name, messages, seconds=8):
    wait_for(lambda: js.raw("STREAM.INFO." + name).get("state", {}).get("messages") == messages, seconds)


def times_equal(js, one, other, seqs):
    return [js.raw("STREAM.MSG.GET." + one, {"seq": seq})["message"]["time"] ==
            js.raw("STREAM.MSG.GET." + other, {"seq": seq})["message"]["time"] for seq in seqs]


def stored(js, name, first, last):
    """The messages; what follows the fifth word of the source is the identity of a stream."""
    found = []
    for seq in range(first, last + 1):
        message = js.message(name, seq)
        if "hdrs" in message:
            message["hdrs"] = re.sub(r"(Nats-Stream-Source: (?:[^ ]+ ){4}[^ \r]+) \w+", r"\1 <identity>", message["hdrs"])
        found.append({key: message[key] for key in ("subject", "seq", "data", "hdrs") if key in message} or message)
    return found


def about(js, name):
    """Mirror and sources of the info."""
    info = js.api("STREAM.INFO." + name)
    return {key: info[key] for key in ("mirror", "sources") if key in info}


def create(js, name, **config):
    answer = js.api("STREAM.CREATE." + name, {"name": name, **config})
    return answer.get("error") or answer["config"]


@scenario()
def mirror_rules(js, rec):
    js.stream("O", max_msg_size=1000)
    for label, config in (
            ("first seq", {"mirror": {"name": "O"}, "first_seq": 5}),
            ("subjects", {"mirror": {"name": "O"}, "subjects": ["m.>"]}),
            ("sources", {"mirror": {"name": "O"}, "sources": [{"name": "P"}]}),
            ("counters", {"mirror": {"name": "O"}, "allow_msg_counter": True}),
            ("atomic", {"mirror": {"name": "O"}, "allow_atomic": True}),
            ("batched", {"mirror": {"name": "O"}, "allow_batched": True}),
            ("schedules", {"mirror": {"name": "O"}, "allow_msg_schedules": True}),
            ("filter and transforms", {"mirror": {"name": "O", "filter_subject": "o.x", "subject_transforms": [{"src": "o.>", "dest": "p.>"}]}}),
            ("bad transform source", {"mirror": {"name": "O", "subject_transforms": [{"src": "o..x", "dest": "p"}]}}),
            ("bad transform destination", {"mirror": {"name": "O", "subject_transforms": [{"src": "o.*", "dest": "p.{{wildcard(3)}}"}]}}),
            ("overlap", {"mirror": {"name": "O", "subject_transforms": [{"src": "o.*", "dest": "p.$1"}, {"src": "o.x", "dest": "q"}]}}),
            ("bad name", {"mirror": {"name": "O.x"}}),
            ("no name", {"mirror": {"name": ""}}),
            ("small", {"mirror": {"name": "O"}, "max_msg_size": 10}),
            ("marker", {"mirror": {"name": "O"}, "subject_delete_marker_ttl": 5 * S}),
            ("bad filter", {"mirror": {"name": "O", "filter_subject": "o..x"}}),
            ("itself", {"mirror": {"name": "M"}}),
            ("consumer with start", {"mirror": {"name": "O", "opt_start_seq": 5, "consumer": {"name": "C", "deliver_subject": "d"}}}),
            ("consumer with filter", {"mirror": {"name": "O", "filter_subject": "o.x", "consumer": {"name": "C", "deliver_subject": "d"}}}),
            ("consumer without name", {"mirror": {"name": "O", "consumer": {"deliver_subject": "d"}}}),
            ("consumer, bad name", {"mirror": {"name": "O", "consumer": {"name": "C.x", "deliver_subject": "d"}}}),
            ("consumer, wildcards", {"mirror": {"name": "O", "consumer": {"name": "C", "deliver_subject": "d.*"}}}),
            ("deliver prefix", {"mirror": {"name": "O", "external": {"api": "$JS.x.API", "deliver": "o.*"}}}),
            ("deliver overlaps", {"mirror": {"name": "O", "external": {"api": "$JS.x.API", "deliver": "m"}}}),
            ("api wildcard", {"mirror": {"name": "O", "external": {"api": "$JS.*.API", "deliver": ""}}}),
            ("api overlaps", {"mirror": {"name": "O", "external": {"api": "$JS.API", "deliver": ""}}}),
            ("mirror direct without", {"subjects": ["m.>"], "mirror_direct": True}),
            ("dedup window", {"mirror": {"name": "O"}, "duplicate_window": S}),
    ):
        rec(label, create(js, "M", **config))
        js.raw("STREAM.DELETE.M")
    js.stream("D", allow_direct=True)
    rec("direct of a direct origin", create(js, "M", mirror={"name": "D"}))
    js.raw("STREAM.DELETE.M")
    rec("direct, pedantic", create(js, "M", mirror={"name": "D"}, pedantic=True))
    js.raw("STREAM.DELETE.M")
    rec("plain", create(js, "M", mirror={"name": "O"}))
    rec("again", create(js, "M", mirror={"name": "O"}))
    rec("other origin", js.api("STREAM.UPDATE.M", {"name": "M", "mirror": {"name": "D"}}))
    rec("publish to its name", js.store("M", "m", seconds=jetstream.SILENCE))


@scenario()
def source_rules(js, rec):
    js.stream("O", max_msg_size=1000)
    for label, config in (
            ("no name", {"sources": [{"name": ""}]}),
            ("bad name", {"sources": [{"name": "O.x"}]}),
            ("twice", {"sources": [{"name": "O"}, {"name": "O"}]}),
            ("twice, other filter", {"sources": [{"name": "O", "filter_subject": "o.a"}, {"name": "O", "filter_subject": "o.b"}]}),
            ("twice, other start", {"sources": [{"name": "O", "opt_start_seq": 5}, {"name": "O"}]}),
            ("filter and transforms", {"sources": [{"name": "O", "filter_subject": "o.x", "subject_transforms": [{"src": "o.>", "dest": "p.>"}]}]}),
            ("bad transform source", {"sources": [{"name": "O", "subject_transforms": [{"src": "o..x", "dest": "p"}]}]}),
            ("bad transform destination", {"sources": [{"name": "O", "subject_transforms": [{"src": "o.*", "dest": "p.{{wildcard(3)}}"}]}]}),
            ("overlap", {"sources": [{"name": "O", "subject_transforms": [{"src": "o.*", "dest": "p.$1"}, {"src": "o.x", "dest": "q"}]}]}),
            ("small", {"sources": [{"name": "O"}], "max_msg_size": 10}),
            ("schedules", {"sources": [{"name": "O"}], "allow_msg_schedules": True}),
            ("bad filter", {"sources": [{"name": "O", "filter_subject": "o..x"}]}),
            ("itself", {"sources": [{"name": "M"}]}),
            ("consumer with start", {"sources": [{"name": "O", "opt_start_seq": 5, "consumer": {"name": "C", "deliver_subject": "d"}}]}),
            ("consumer without name", {"sources": [{"name": "O", "consumer": {"deliver_subject": "d"}}]}),
            ("consumer twice", {"sources": [{"name": "O", "consumer": {"name": "C", "deliver_subject": "d"}},
                                            {"name": "O", "consumer": {"name": "C", "deliver_subject": "d"}}]}),
            ("deliver prefix", {"sources": [{"name": "O", "external": {"api": "$JS.x.API", "deliver": "o.*"}}]}),
            ("deliver overlaps", {"sources": [{"name": "O", "external": {"api": "$JS.x.API", "deliver": "m"}}], "subjects": ["m.>"]}),
            ("api wildcard", {"sources": [{"name": "O", "external": {"api": "$JS.*.API", "deliver": ""}}]}),
            ("api overlaps", {"sources": [{"name": "O", "external": {"api": "$JS.API", "deliver": ""}}]}),
            ("with subjects", {"sources": [{"name": "O"}], "subjects": ["m.>"]}),
            ("missing origin", {"sources": [{"name": "NONE"}]}),
            ("transforms", {"sources": [{"name": "O", "subject_transforms": [{"src": "o.*", "dest": "p.$1"}, {"src": "o.x.y", "dest": ""}]}]}),
    ):
        rec(label, create(js, "M", **config))
        js.raw("STREAM.DELETE.M")
    create(js, "A", subjects=["a"], sources=[{"name": "B"}])
    rec("cycle", create(js, "B", subjects=["b"], sources=[{"name": "A"}]))
    rec("cycle by three", [create(js, "C", sources=[{"name": "A"}]).get("name"), create(js, "B", subjects=["b"], sources=[{"name": "C"}])])
    rec("cycle, other filters", create(js, "B", subjects=["b"], sources=[{"name": "A", "filter_subject": "none"}]).get("name", "refused"))


@scenario()
def mirrors(js, rec):
    js.stream("O", allow_direct=True)
    for i in range(5):
        js.store("o.%d" % (i % 2), "message %d" % i, {"Nats-Msg-Id": str(i), "Nats-Expected-Stream": "O", "Other": "x"})
    js.raw("STREAM.MSG.DELETE.O", {"seq": 3})
    create(js, "M", mirror={"name": "O"})
    settle(js, "M", 4)
    rec("state", js.state("M"))
    rec("stored", stored(js, "M", 1, 5))
    rec("times", times_equal(js, "M", "O", (1, 2, 4, 5)))
    rec("info", wait_for(lambda: about(js, "M")["mirror"].get("active") != -1) and about(js, "M"))
    rec("consumers of the origin", [js.raw("CONSUMER.NAMES.O")["total"], js.raw("STREAM.INFO.O")["state"]["consumer_count"]])
    js.store("o.9", "later")
    settle(js, "M", 5)
    rec("later", stored(js, "M", 6, 6))
    js.raw("STREAM.PURGE.O")
    js.store("o.9", "after the purge")
    settle(js, "M", 6)
    rec("purges are not followed", js.state("M"))
    js.consumer("M", "C")
    rec("consumer", [one.body.decode() for one in js.fetch("M", "C", {"batch": 3, "expires": S}, 3)])
    answer = js.request("$JS.API.DIRECT.GET.O", '{"seq":7}').record()
    answer["headers"] = answer["headers"][1:]  # a mirror that has caught up may answer as well, and says so in the first
    rec("direct get of the origin", answer)
    rec("direct get of the mirror", js.request("$JS.API.DIRECT.GET.M", '{"seq":7}').record())
    rec("purge of the mirror", js.api("STREAM.PURGE.M"))
    js.store("o.9", "after its own purge")
    settle(js, "M", 1)
    rec("after its own purge", js.state("M"))


@scenario()
def mirror_options(js, rec):
    js.stream("O")
    for i in range(10):
        js.store("o.%s" % "ab"[i % 2], "message %d" % i)
    create(js, "SEQ", mirror={"name": "O", "opt_start_seq": 4})
    create(js, "F", mirror={"name": "O", "filter_subject": "o.b"})
    create(js, "T", mirror={"name": "O", "subject_transforms": [{"src": "o.a", "dest": "t.a"}]})
    create(js, "T2", mirror={"name": "O", "subject_transforms": [{"src": "o.a", "dest": "t.a"}, {"src": "o.b", "dest": ""}]})
    create(js, "TIME", mirror={"name": "O", "opt_start_time": "2099-01-01T00:00:00Z"})
    create(js, "LIMIT", mirror={"name": "O"}, max_msgs=3)
    for name, count in (("SEQ", 7), ("F", 5), ("T", 5), ("T2", 10), ("LIMIT", 3)):
        settle(js, name, count)
        rec(name, js.state(name))
    rec("filtered", stored(js, "F", 2, 2))
    rec("transformed", stored(js, "T", 1, 1))
    rec("two transforms", stored(js, "T2", 1, 2))
    for name in ("F", "T", "T2", "SEQ", "TIME"):
        rec("info of " + name, about(js, name))
    js.store("o.a", "one more")
    settle(js, "SEQ", 8)
    rec("SEQ after", js.state("SEQ"))


@scenario()
def promotion(js, rec):
    js.stream("O")
    for i in range(3):
        js.store("o.x", "message %d" % i)
    create(js, "M", mirror={"name": "O"})
    settle(js, "M", 3)
    answer = js.api("STREAM.UPDATE.M", {"name": "M", "subjects": ["m.>"]})
    rec("promoted", answer.get("error") or answer["config"])
    rec("publish", js.store("m.x", "own"))
    js.store("o.x", "not any more")
    time.sleep(0.3)
    rec("state", js.state("M"))
    rec("info", about(js, "M"))
    rec("back", js.api("STREAM.UPDATE.M", {"name": "M", "mirror": {"name": "O"}}))


@scenario()
def sources(js, rec):
    js.stream("A")
    js.stream("B")
    for i in range(3):
        js.store("a.%d" % i, "a%d" % i, {"Nats-Msg-Id": "a%d" % i, "Nats-Expected-Stream": "A", "Nats-Batch-Other": "x"})
    create(js, "S", sources=[{"name": "A"}], subjects=["s.>"])
    settle(js, "S", 3)
    rec("from one", stored(js, "S", 1, 3))
    js.store("s.own", "own")
    answer = js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "sources": [{"name": "A"}, {"name": "B", "filter_subject": "b.x"}]})
    rec("one more", answer.get("error") or answer["config"])
    for i in range(2):
        js.store("b.x", "b%d" % i)
        js.store("b.y", "b%d" % i)
    settle(js, "S", 6)
    rec("from both", stored(js, "S", 4, 6))
    rec("info", wait_for(lambda: all(one["active"] != -1 for one in about(js, "S")["sources"])) and about(js, "S"))
    rec("state", js.state("S"))
    js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "sources": [{"name": "B", "filter_subject": "b.x"}]})
    js.store("a.9", "not any more")
    time.sleep(0.3)
    js.store("b.x", "still")
    settle(js, "S", 7)
    rec("without the first", stored(js, "S", 7, 7))
    js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "sources": [{"name": "A"}, {"name": "B", "filter_subject": "b.x"}]})
    settle(js, "S", 8)
    rec("first again", stored(js, "S", 8, 8))
    create(js, "CHAIN", sources=[{"name": "S"}])
    settle(js, "CHAIN", 8)
    rec("chain", stored(js, "CHAIN", 4, 5))
    rec("client's source header", js.store("s.x", "m", {"Nats-Stream-Source": "x"}))


@scenario()
def source_options(js, rec):
    js.stream("O")
    for i in range(10):
        js.store("o.%s" % "ab"[i % 2], "message %d" % i)
    create(js, "SEQ", sources=[{"name": "O", "opt_start_seq": 8}])
    create(js, "T", sources=[{"name": "O", "subject_transforms": [{"src": "o.a", "dest": "t.a"}]}])
    create(js, "T2", sources=[{"name": "O", "subject_transforms": [{"src": "o.a", "dest": "t.a"}, {"src": "o.b", "dest": "u.b"}]}])
    create(js, "D", sources=[{"name": "O"}], duplicate_window=60 * S)
    create(js, "LIMIT", sources=[{"name": "O"}], max_msgs=3)
    create(js, "ST", sources=[{"name": "O"}], subject_transform={"src": "o.>", "dest": "st.>"})
    for name, count in (("SEQ", 3), ("T", 5), ("T2", 10), ("D", 10), ("LIMIT", 3), ("ST", 10)):
        settle(js, name, count)
        rec(name, js.state(name))
    rec("started", stored(js, "SEQ", 1, 1))
    rec("transformed", stored(js, "T", 1, 1))
    rec("two transforms", stored(js, "T2", 1, 2))
    rec("stream's transform", stored(js, "ST", 1, 1))
    for name in ("SEQ", "T", "T2"):
        rec("info of " + name, about(js, name))
    js.store("o.a", "one", {"Nats-Msg-Id": "same"})
    settle(js, "D", 11)
    js.raw("STREAM.UPDATE.O", {"name": "O", "subjects": ["o.>"], "duplicate_window": S // 10})
    time.sleep(0.3)
    rec("duplicate at the origin's end", js.store("o.a", "two", {"Nats-Msg-Id": "same"}))
    js.store("o.a", "three")
    settle(js, "D", 12)
    rec("deduplicated", [js.state("D"), stored(js, "D", 12, 12)])


@scenario()
def discard_new(js, rec):
    js.stream("O")
    for i in range(5):
        js.store("o.x", "message %d" % i)
    create(js, "S", sources=[{"name": "O"}], discard="new", max_msgs=3)
    settle(js, "S", 3)
    time.sleep(0.5)
    rec("full", js.state("S"))
    js.raw("STREAM.MSG.DELETE.S", {"seq": 1})
    js.raw("STREAM.MSG.DELETE.S", {"seq": 2})
    wait_for(lambda: js.raw("STREAM.INFO.S")["state"]["last_seq"] == 5, 20)
    rec("nothing is lost", stored(js, "S", 4, 5))


@scenario()
def missing(js, rec):
    rec("mirror", create(js, "M", mirror={"name": "O"}))
    rec("source", create(js, "S", sources=[{"name": "O"}]))
    rec("info", [about(js, "M"), about(js, "S")])
    js.stream("O")
    js.store("o.x", "m")
    settle(js, "M", 1, 40)
    settle(js, "S", 1, 40)
    rec("appeared", [js.state("M"), js.state("S")])


@scenario()
def recreated(js, rec):
    js.stream("O")
    for i in range(3):
        js.store("o.x", "old %d" % i)
    create(js, "S", sources=[{"name": "O"}])
    settle(js, "S", 3)
    js.raw("STREAM.DELETE.O")
    js.stream("O")
    for i in range(2):
        js.store("o.x", "new %d" % i)
    settle(js, "S", 5, 40)
    rec("both", [one.get("data") for one in stored(js, "S", 1, 5)])


@scenario()
def restarts(js, rec, running):
    js.stream("O")
    create(js, "M", mirror={"name": "O"})
    create(js, "S", sources=[{"name": "O"}])
    for i in range(3):
        js.store("o.x", "message %d" % i)
    settle(js, "M", 3)
    settle(js, "S", 3)
    jetstream.restart(running, jetstream.signal.SIGTERM)
    with jetstream.Js(running) as js:
        for i in range(3, 5):
            js.store("o.x", "message %d" % i)
        settle(js, "M", 5, 40)
        settle(js, "S", 5, 40)
        time.sleep(0.3)
        rec("mirror", [js.state("M"), [one["data"] for one in stored(js, "M", 1, 5)]])
        rec("source", [js.state("S"), [one["data"] for one in stored(js, "S", 1, 5)]])


@scenario()
def queues(js, rec):
    """Origins that lose what was taken."""
    js.stream("W", retention="workqueue")
    js.stream("I", retention="interest")
    for i in range(3):
        js.store("w.x", "message %d" % i)
    create(js, "SW", sources=[{"name": "W"}])
    create(js, "SI", sources=[{"name": "I"}])
    settle(js, "SW", 3, 20)
    wait_for(lambda: js.raw("STREAM.INFO.I")["state"]["consumer_count"] > 0, 10)
    for i in range(3):
        js.store("i.x", "message %d" % i)
    settle(js, "SI", 3, 20)
    rec("copied", [[one.get("data") for one in stored(js, name, 1, 3)] for name in ("SW", "SI")])
    settle(js, "W", 0, 20)
    settle(js, "I", 0, 20)
    rec("work queue", js.state("W")["messages"])
    rec("interest", js.state("I")["messages"])
    rec("consumers", [js.raw("STREAM.INFO." + name)["state"]["consumer_count"] for name in "WI"])
    js.stream("L", retention="workqueue")
    create(js, "ML", mirror={"name": "L"})
    for i in range(3):
        js.store("l.x", "message %d" % i)
    settle(js, "ML", 3, 20)
    rec("mirrored", [one.get("data") for one in stored(js, "ML", 1, 3)])
    settle(js, "L", 0, 20)
    rec("mirrored work queue", js.state("L")["messages"])


@scenario()
def counters(js, rec):
    js.stream("A", allow_msg_counter=True)
    js.stream("B", allow_msg_counter=True)
    create(js, "SUM", sources=[{"name": "A", "subject_transforms": [{"src": "a.>", "dest": "sum.>"}]},
                               {"name": "B", "subject_transforms": [{"src": "b.>", "dest": "sum.>"}]}], allow_msg_counter=True)
    create(js, "PLAIN", sources=[{"name": "A"}])
    create(js, "MIRROR", mirror={"name": "A"})
    js.store("a.x", "", {"Nats-Incr": "5"})
    settle(js, "SUM", 1)
    js.store("b.x", "", {"Nats-Incr": "2"})
    settle(js, "SUM", 2)
    js.store("a.x", "", {"Nats-Incr": "-1"})
    settle(js, "SUM", 3)
    rec("sum", stored(js, "SUM", 1, 3))
    settle(js, "PLAIN", 2)
    rec("plain", stored(js, "PLAIN", 1, 2))
    settle(js, "MIRROR", 2)
    rec("mirror", stored(js, "MIRROR", 1, 2))


ACCOUNTS = """accounts {
  X: { jetstream: enabled, users: [{user: x, password: x}], exports: [
       {service: "$JS.API.CONSUMER.>"}, {stream: "deliver.>"}, {service: "$JS.FC.>"} ] }
  Y: { jetstream: enabled, users: [{user: y, password: y}], imports: [
       {service: {account: X, subject: "$JS.API.CONSUMER.>"}, to: "JS.X.API.CONSUMER.>"},
       {stream: {account: X, subject: "deliver.>"}}, {service: {account: X, subject: "$JS.FC.>"}} ] }
}
"""


@scenario(config=ACCOUNTS, login={"user": "x", "pass": "x"})
def external(js, rec, running):
    js.stream("O")
    for i in range(3):
        js.store("o.x", "message %d" % i)
    with jetstream.Js(running, user="y", **{"pass": "y"}) as other:
        outside = {"api": "JS.X.API", "deliver": "deliver"}
        rec("mirror", create(other, "M", mirror={"name": "O", "external": outside}))
        rec("source", create(other, "S", sources=[{"name": "O", "external": outside}]))
        settle(other, "M", 3, 30)
        settle(other, "S", 3, 30)
        rec("stored", [stored(other, name, 1, 3) for name in "MS"])
        js.store("o.x", "later")
        settle(other, "M", 4)
        settle(other, "S", 4)
        rec("state", [other.state(name) for name in "MS"])
        rec("info", [about(other, name) for name in "MS"])


if __name__ == "__main__":
    sys.exit(jetstream.main("js_sources", __doc__, REFUSED))
