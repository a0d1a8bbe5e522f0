#!/usr/bin/env python3
"""Atomic batches, compared with nats-server: headers, limits, what is checked at commit, advisories.

  js_batch.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import json
import sys

import jetstream
from jetstream import masked, scenario, wait_for

S = 1_000_000_000
ID, SEQ, COMMIT = "Nats-Batch-Id", "Nats-Batch-Sequence", "Nats-Batch-Commit"


def send(js, batch, seq, subject="s.x", body="", commit=None, **more):
    headers = {ID: batch, SEQ: seq, **{name.replace("_", "-"): value for name, value in more.items()}}
    if commit is not None:
        headers[COMMIT] = commit
    return js.store(subject, body or "message %s" % seq, headers, 2)


@scenario()
def commits(js, rec):
    js.stream("S", allow_atomic=True)
    js.store("s.x", "before")
    rec("three", [send(js, "a", 1), send(js, "a", 2), send(js, "a", 3, commit="1")])
    rec("stored", [js.message("S", seq) for seq in range(1, 5)])
    rec("state", js.state("S"))
    rec("one alone", send(js, "b", 1, commit="1"))
    rec("not visible before commit", [send(js, "c", 1), send(js, "c", 2), js.state("S")["last_seq"],
                                      js.api("STREAM.MSG.GET.S", {"seq": 6})])
    rec("another publish between", js.store("s.y", "between"))
    rec("commit afterwards", send(js, "c", 3, commit="1"))
    rec("end of batch", [send(js, "d", 1), send(js, "d", 2), send(js, "d", 3, commit="eob")])
    rec("end of batch, last stored", js.message("S", js.raw("STREAM.INFO.S")["state"]["last_seq"]))
    rec("end of batch alone", send(js, "e", 1, commit="eob"))
    rec("bad commit", [send(js, "f", 1), send(js, "f", 2, commit="2")])
    rec("commit 0", send(js, "g", 1, commit="0"))
    rec("commit empty", send(js, "h", 1, commit=""))
    js.publish("s.x", "m", {ID: "quiet", SEQ: 1})
    js.publish("s.x", "m", {ID: "quiet", SEQ: 2})
    rec("members without reply", send(js, "quiet", 3, commit="1"))
    rec("the same id again", [send(js, "a", 1), send(js, "a", 2, commit="1")])
    rec("state at the end", js.state("S"))


@scenario()
def refusals(js, rec):
    js.stream("S", allow_atomic=True)
    js.stream("OFF")
    events = js.subscribe("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.>")
    rec("off", send(js, "a", 1, subject="off.x"))
    rec("starts at 2", send(js, "b", 2))
    rec("gap", [send(js, "c", 1), send(js, "c", 3), send(js, "c", 4, commit="1")])
    rec("repeat", [send(js, "r", 1), send(js, "r", 1), send(js, "r", 2, commit="1")])
    rec("commit of unknown", send(js, "d", 5, commit="1"))
    rec("long id", send(js, "i" * 65, 1))
    rec("longest id", send(js, "i" * 64, 1, commit="1"))
    rec("empty id", send(js, "", 1))
    rec("no sequence", js.store("s.x", "m", {ID: "e"}))
    rec("sequence text", send(js, "f", "x"))
    rec("sequence 0", send(js, "g", "0"))
    rec("sequence negative", send(js, "h", "-1"))
    rec("sequence without id", js.store("s.x", "m", {SEQ: "1"}))
    rec("level", send(js, "l", 1, Nats_Required_Api_Level="99"))
    rec("level in the middle", [send(js, "m", 1), send(js, "m", 2, Nats_Required_Api_Level="99"), send(js, "m", 3, commit="1")])
    for seq in range(1, 1001):
        js.publish("s.x", "m", {ID: "large", SEQ: seq})
    js.flush()
    rec("too large", send(js, "large", 1001, commit="1"))
    found = [masked(json.loads(one.body)) for one in js.collect(events, 9, 2, 0.3)]
    rec("advisories", found)
    rec("state", js.state("S"))


@scenario()
def checks_at_commit(js, rec):
    js.stream("S", allow_atomic=True, max_msg_size=300, allow_rollup_hdrs=True)
    js.store("s.x", "before", {"Nats-Msg-Id": "known"})
    for label, members in (
            ("expected stream", [{"Nats-Expected-Stream": "T"}]),
            ("expected last seq on first", [{"Nats-Expected-Last-Sequence": "1"}, {}]),
            ("expected last seq wrong", [{"Nats-Expected-Last-Sequence": "77"}, {}]),
            ("expected last seq on second", [{}, {"Nats-Expected-Last-Sequence": "2"}]),
            ("expected last id", [{"Nats-Expected-Last-Msg-Id": "known"}]),
            ("known id", [{"Nats-Msg-Id": "known"}]),
            ("same id twice", [{"Nats-Msg-Id": "n"}, {"Nats-Msg-Id": "n"}]),
            ("ids", [{"Nats-Msg-Id": "p"}, {"Nats-Msg-Id": "q"}]),
            ("size in the middle", [{}, {"Padding": "p" * 300}, {}]),
            ("subject 0", [{"Nats-Expected-Last-Subject-Sequence": "0", "subject": "s.new"}]),
            ("subject written in the batch", [{"subject": "s.w"}, {"subject": "s.w", "Nats-Expected-Last-Subject-Sequence": "0"}]),
            ("subject wrong", [{}, {"subject": "s.v", "Nats-Expected-Last-Subject-Sequence": "9"}]),
            ("rollup sub first", [{"Nats-Rollup": "sub", "subject": "s.x"}, {"subject": "s.z"}]),
            ("rollup sub of batch", [{"subject": "s.r"}, {"subject": "s.r", "Nats-Rollup": "sub"}]),
            ("rollup all first", [{"Nats-Rollup": "all"}, {"subject": "s.z"}]),
            ("rollup all second", [{}, {"Nats-Rollup": "all"}]),
            ("rollup bad", [{"Nats-Rollup": "some"}]),
            ("ttl where it is off", [{"Nats-TTL": "5"}]),
            ("other stream's subject", [{}, {"subject": "t.x"}])):
        answers = []
        for seq, fields in enumerate(members, 1):
            fields = dict(fields)
            subject = fields.pop("subject", "s.b")
            headers = {ID: label, SEQ: seq, **fields}
            if seq == len(members):
                headers[COMMIT] = "1"
            answers.append(js.store(subject, "m", headers, 1))
        rec(label, answers)
        rec(label + ", last seq", js.state("S")["last_seq"])


@scenario("limits { batch { max_inflight_per_stream: 2, max_msgs: 3, timeout: 1s } }")
def configured_limits(js, rec):
    js.stream("S", allow_atomic=True)
    events = js.subscribe("$JS.EVENT.ADVISORY.STREAM.BATCH_ABANDONED.>")
    rec("three of three", [send(js, "a", seq, commit="1" if seq == 3 else None) for seq in (1, 2, 3)])
    rec("four of three", [send(js, "b", seq, commit="1" if seq == 4 else None) for seq in (1, 2, 3, 4)])
    rec("two open", [send(js, "c", 1), send(js, "d", 1)])
    rec("third", send(js, "e", 1))
    rec("abandoned", sorted(json.dumps(masked(json.loads(one.body)), sort_keys=True) for one in js.collect(events, 3, 4, 0.3)))
    rec("after the timeout", send(js, "c", 2, commit="1"))
    rec("room again", send(js, "f", 1, commit="1"))


@scenario()
def delivered(js, rec, running):
    """Consumers hear of it at commit; a restart forgets what was not committed."""
    js.stream("S", allow_atomic=True)
    js.consumer("S", "C", ack_policy="none", deliver_subject="push")
    sid = js.subscribe("push")
    send(js, "a", 1)
    send(js, "a", 2)
    rec("before", len(js.collect(sid, 1, 0.4)))
    send(js, "a", 3, commit="1")
    rec("after", [one.body.decode() for one in js.collect(sid, 3)])
    send(js, "b", 1)
    js.raw("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "allow_atomic": False})
    rec("switched off in between", send(js, "b", 2, commit="1"))
    rec("last", wait_for(lambda: js.state("S")["last_seq"]))


@scenario()
def fast(js, rec):
    js.stream("S", allow_batched=True)
    sid = js.subscribe("_INBOX.fast.>")
    for seq in (1, 2):
        js.publish("s.x", "m%d" % seq, None, "_INBOX.fast.id.10.fail.%d.%d.$FI" % (seq, 0 if seq == 1 else 1))
    js.publish("s.x", "m3", None, "_INBOX.fast.id.10.fail.3.2.$FI")
    rec("answers", [masked(one.body.decode()) for one in js.collect(sid, 2, 2, 0.3)])
    rec("last", js.state("S")["last_seq"])


if __name__ == "__main__":
    sys.exit(jetstream.main("js_batch", __doc__, ()))
