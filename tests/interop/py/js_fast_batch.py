#!/usr/bin/env python3
"""Fast batches, compared with nats-server: flow acks, gaps, errors, duplicates, pings, both ends, limits.

  js_fast_batch.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import sys
import time

import jetstream
from jetstream import masked, scenario

FIRST, NEXT, LAST, END, PING = range(5)


class Fast:
    """One publisher of a batch. What is told comes back with the number and operation that it answers."""

    def __init__(self, js, batch, gap="fail", flow=10):
        self.js, self.batch, self.gap, self.flow = js, batch, gap, flow
        self.prefix = "_INBOX.f%d" % js.sids
        self.sid = js.subscribe(self.prefix + ".>")

    def reply(self, seq, operation):
        return "%s.%s.%s.%s.%s.%s.$FI" % (self.prefix, self.batch, self.flow, self.gap, seq, operation)

    def send(self, seq, operation=None, subject="s.x", headers=None, body=None):
        if operation is None:
            operation = FIRST if seq == 1 else NEXT
        self.js.publish(subject, "message %s" % seq if body is None else body, headers, self.reply(seq, operation))

    def said(self):
        """Everything that was told so far: a message of another publisher is stored behind what was sent."""
        self.js.store("s.sync", "behind")
        return [masked([one.subject[len(self.prefix) + 1:], one.body.decode()]) for one in self.js.collect(self.sid, 5000, 0.02)]

    def ask(self, *arguments, **more):
        self.send(*arguments, **more)
        return self.said()


@scenario()
def ends(js, rec):
    js.stream("S", allow_batched=True)
    a = Fast(js, "a")
    rec("first", a.ask(1))
    rec("second", a.ask(2))
    rec("last", a.ask(3, LAST))
    rec("too late", a.ask(4))
    rec("stored", [js.message("S", seq) for seq in (1, 3, 5)])
    b = Fast(js, "b")
    b.send(1)
    b.send(2)
    rec("end", b.ask(3, END))
    rec("end again", b.ask(3, END))
    rec("one alone", Fast(js, "c").ask(1, LAST))
    rec("the same id again", Fast(js, "a").ask(1, LAST))
    rec("end alone", Fast(js, "d").ask(1, END))
    e = Fast(js, "e")
    for seq in range(1, 6):
        e.send(seq, LAST if seq == 5 else None)
    rec("all at once", e.said())
    rec("other subjects", Fast(js, "f").ask(1, LAST, subject="s.other"))
    js.publish("s.x", "m", None, "_INBOX.nobody.g.10.fail.1.2.$FI")
    js.store("s.sync", "behind")
    rec("nobody listens", js.state("S")["last_seq"] > 0)
    rec("state", js.state("S"))


@scenario()
def flow(js, rec):
    js.stream("S", allow_batched=True)
    for size in ("1", "3", "10", "0", "-1", "x", "70000"):
        fast = Fast(js, "size" + size, flow=size)
        answers = [fast.ask(1), fast.ask(2), fast.ask(3), fast.ask(4, END)]
        rec("flow " + size, answers)
    slow = Fast(js, "slow", flow=4)
    rec("of one", [slow.ask(seq) for seq in range(1, 11)])
    other = Fast(js, "other", flow=4)
    rec("second of two", [other.ask(seq) for seq in range(1, 12)])
    third = Fast(js, "third", flow=600)
    rec("third of three", [third.ask(seq) for seq in range(1, 9)])
    rec("ends", [one.ask(99, END) for one in (slow, other, third)])


@scenario()
def pings(js, rec):
    js.stream("S", allow_batched=True)
    rec("unknown", Fast(js, "u").ask(1, PING))
    a = Fast(js, "a", flow=2)
    a.ask(1)
    rec("after one", a.ask(1, PING))
    a.ask(2)
    rec("after two", a.ask(2, PING))
    rec("old", a.ask(1, PING))
    rec("ahead", a.ask(5, PING))
    rec("ended", a.ask(3))
    b = Fast(js, "b", "ok", flow=2)
    b.ask(1)
    rec("ahead, gaps are good", b.ask(6, PING))
    rec("goes on", b.ask(7))
    rec("ahead by one", b.ask(8, PING))
    rec("end", b.ask(9, END))


@scenario()
def gaps(js, rec):
    js.stream("S", allow_batched=True)
    for mode in ("fail", "ok"):
        a = Fast(js, "ahead" + mode, mode)
        a.send(1)
        a.send(2)
        rec(mode + ", ahead", a.ask(5))
        rec(mode + ", then", a.ask(6))
        rec(mode + ", last", a.ask(7, LAST))
        b = Fast(js, "back" + mode, mode)
        b.send(1)
        b.send(2)
        rec(mode + ", back", b.ask(2))
        rec(mode + ", after back", b.ask(3))
        c = Fast(js, "last" + mode, mode)
        c.send(1)
        rec(mode + ", last with a gap", c.ask(4, LAST))
        d = Fast(js, "end" + mode, mode)
        d.send(1)
        rec(mode + ", end with a gap", d.ask(4, END))
        e = Fast(js, "start" + mode, mode)
        rec(mode + ", begins at 2", e.ask(2))
        f = Fast(js, "once" + mode, mode)
        for seq in (1, 2, 3, 5, 6, 7):
            f.send(seq)
        # What comes between the gap and the end that is on its way is passed over, or too late already.
        rec(mode + ", all at once", [one for one in f.ask(8, END) if mode == "ok" or "10208" not in one[1]])
        g = Fast(js, "first" + mode, mode)
        g.send(1)
        rec(mode + ", first again", g.ask(1))
    rec("state", js.state("S"))


@scenario()
def refused(js, rec):
    js.stream("S", allow_batched=True, max_msg_size=300, allow_rollup_hdrs=False)
    for mode in ("fail", "ok"):
        for label, headers in (
                ("stream", {"Nats-Expected-Stream": "T"}),
                ("last seq", {"Nats-Expected-Last-Sequence": "7777"}),
                ("subject seq", {"Nats-Expected-Last-Subject-Sequence": "7777"}),
                ("ttl", {"Nats-TTL": "5"}),
                ("rollup", {"Nats-Rollup": "sub"}),
                ("counter", {"Nats-Incr": "1"}),
                ("schedule", {"Nats-Schedule": "@at x"}),
                ("source", {"Nats-Stream-Source": "x"}),
                ("level", {"Nats-Required-Api-Level": "99"}),
                ("level text", {"Nats-Required-Api-Level": "x"}),
                ("level met", {"Nats-Required-Api-Level": "1"}),
                ("size", {"Padding": "p" * 300})):
            name = "%s %s" % (mode, label)
            a = Fast(js, name.replace(" ", "-") + "1", mode)
            rec(name + ", first", [a.ask(1, headers=headers), a.ask(2), a.ask(3, END)])
            b = Fast(js, name.replace(" ", "-") + "2", mode)
            rec(name + ", second", [b.ask(1), b.ask(2, headers=headers), b.ask(3), b.ask(4, END)])
            c = Fast(js, name.replace(" ", "-") + "3", mode)
            rec(name + ", last", [c.ask(1), c.ask(2), c.ask(3, LAST, headers=headers)])
            d = Fast(js, name.replace(" ", "-") + "4", mode)
            rec(name + ", alone", d.ask(1, LAST, headers=headers))
            e = Fast(js, name.replace(" ", "-") + "5", mode)
            if label in ("level", "level text", "size"):
                continue # ringbus refuses these when they arrive, maybe before it answers what came before them
            for seq in range(1, 6):
                e.send(seq, headers=headers if seq == 3 else None)
            rec(name + ", all at once", e.ask(6, END))
    rec("state", js.state("S"))
    rec("level is not kept", js.api("STREAM.MSG.GET.S", {"last_by_subj": "s.x"}))


@scenario()
def duplicates(js, rec):
    js.stream("S", allow_batched=True)
    js.store("s.x", "before", {"Nats-Msg-Id": "known"})
    known = {"Nats-Msg-Id": "known"}
    for mode in ("fail", "ok"):
        for size in (1, 10):
            name = "%s %d" % (mode, size)
            key = name.replace(" ", "-")
            a = Fast(js, key + "1", mode, size)
            rec(name + ", first", [a.ask(1, headers=known), a.ask(2), a.ask(3, END)])
            b = Fast(js, key + "2", mode, size)
            rec(name + ", second", [b.ask(1), b.ask(2, headers=known), b.ask(3, END)])
            c = Fast(js, key + "3", mode, size)
            rec(name + ", last", [c.ask(1), c.ask(2, LAST, headers=known)])
            d = Fast(js, key + "4", mode, size)
            rec(name + ", alone", d.ask(1, LAST, headers=known))
            e = Fast(js, key + "5", mode, size)
            for seq in (1, 2, 3, 4):
                e.send(seq, headers={"Nats-Msg-Id": key + str(seq // 3)})
            rec(name + ", of the batch", [e.said()[-1:] if size == 1 else e.said(), e.ask(5, END)])
    rec("state", js.state("S"))


@scenario()
def subjects(js, rec):
    js.stream("S", allow_batched=True)
    js.stream("OFF")
    sid = js.subscribe("_INBOX.p.>")
    for reply in ("_INBOX.p.a.10.fail.1.0.$FI", "_INBOX.p.a.10.fail.1.1.$FI", "_INBOX.p.a.10.fail.2.0.$FI", "_INBOX.p.a.10.fail.0.0.$FI",
                  "_INBOX.p.a.10.fail.1.5.$FI", "_INBOX.p.a.10.fail.1.-1.$FI", "_INBOX.p.a.10.fail.1.x.$FI",
                  "_INBOX.p.a.10.maybe.1.0.$FI", "_INBOX.p.a.10.fail.x.0.$FI", "_INBOX.p.a.10.fail.18446744073709551615.1.$FI",
                  "_INBOX.p.10.fail.1.0.$FI", "_INBOX.p.fail.1.0.$FI", "_INBOX.p.1.0.$FI", "_INBOX.p.$FI", "_INBOX.p.a.10.fail.1.0.FI",
                  "_INBOX.p." + "i" * 64 + ".10.fail.1.2.$FI", "_INBOX.p." + "i" * 65 + ".10.fail.1.2.$FI"):
        js.publish("s.x", "m", None, reply)
        js.store("s.sync", "behind")
        rec(reply, [[one.subject, one.body.decode()] for one in js.collect(sid, 10, 0.02)])
    js.publish("off.x", "m", None, "_INBOX.p.a.10.fail.1.0.$FI")
    js.publish("off.x", "m", None, "_INBOX.p.a.$FI")
    rec("off", [one.body.decode() for one in js.collect(sid, 2)])
    rec("off, last seq", js.state("OFF")["last_seq"])


@scenario()
def streams(js, rec):
    rec("config", js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True}))
    rec("mirror", js.api("STREAM.CREATE.M", {"name": "M", "mirror": {"name": "S"}, "allow_batched": True}))
    rec("both kinds", js.api("STREAM.CREATE.B", {"name": "B", "subjects": ["b.>"], "allow_batched": True, "allow_atomic": True}))
    rec("async", js.api("STREAM.CREATE.A", {"name": "A", "subjects": ["a.>"], "allow_batched": True, "persist_mode": "async"}))
    a = Fast(js, "a")
    a.ask(1)
    rec("off", js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"]}))
    rec("after that", a.ask(2))
    rec("on", js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True})["config"])
    rec("forgotten", a.ask(2))
    b = Fast(js, "b")
    b.ask(1)
    rec("sealed", js.api("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True, "sealed": True})["config"])
    rec("into a sealed one", b.ask(2))


@scenario()
def kinds(js, rec):
    """Memory, counters, interest, transforms, limits that refuse, no_ack."""
    js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True, "storage": "memory", "discard": "new", "max_msgs": 5})
    a = Fast(js, "a", "ok", 1)
    rec("full", [a.ask(seq) for seq in (1, 2, 3, 4)] + [a.ask(5, END)])
    js.api("STREAM.DELETE.S")
    js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True, "retention": "interest"})
    b = Fast(js, "b", flow=1)
    rec("interest", [b.ask(1), b.ask(2), b.ask(3, LAST)])
    js.api("STREAM.DELETE.S")
    js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True, "subject_transform": {"src": "s.x", "dest": "s.y"}})
    c = Fast(js, "c")
    rec("transform", [c.ask(1, LAST), js.message("S", 1)])
    js.api("STREAM.DELETE.S")
    js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True, "allow_msg_counter": True})
    d = Fast(js, "d", flow=1)
    one = {"Nats-Incr": "3"}
    rec("counter", [d.ask(1, headers=one, body=""), d.ask(2, headers=one, body=""), d.ask(3, body=""), js.message("S", 2)])
    js.api("STREAM.DELETE.S")
    js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_batched": True, "no_ack": True})
    sid = js.subscribe("_INBOX.n.>")
    answers = []
    for seq, operation in ((1, 0), (2, 1), (7, 4), (1, 4)):
        js.publish("s.x", "m", None, "_INBOX.n.e.1.ok.%d.%d.$FI" % (seq, operation))
        answers.append([one.body.decode() for one in js.collect(sid, 4, 0.5)])
    js.publish("s.x", "m", None, "_INBOX.n.e.1.ok.8.3.$FI")
    answers.append([one.body.decode() for one in js.collect(sid, 1)])
    rec("no acks", answers)


@scenario("limits { batch { max_inflight_per_stream: 2, timeout: 1s } }")
def configured_limits(js, rec):
    js.stream("S", allow_batched=True)
    a, b, c = Fast(js, "a"), Fast(js, "b"), Fast(js, "c")
    rec("two", [a.ask(1), b.ask(1)])
    rec("third", c.ask(1))
    rec("one ends", a.ask(2, END))
    rec("room again", c.ask(1))
    time.sleep(0.7)
    c.send(2)
    time.sleep(0.7)
    rec("silent too long", b.ask(2))
    rec("not silent", c.ask(3, LAST))


@scenario("limits { batch { max_inflight_total: 1 } }")
def configured_total(js, rec):
    js.stream("S", allow_batched=True)
    js.stream("T", allow_batched=True)
    a, b = Fast(js, "a"), Fast(js, "b")
    rec("one", a.ask(1))
    rec("in another stream", b.ask(1, subject="t.x"))
    rec("ends", a.ask(2, LAST))
    rec("now", b.ask(1, subject="t.x"))


if __name__ == "__main__":
    sys.exit(jetstream.main("js_fast_batch", __doc__, ()))
