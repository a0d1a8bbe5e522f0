#!/usr/bin/env python3
"""Scheduled messages, compared with nats-server: rules, what is stored, what is produced and when, cancelling, restarts.

  js_schedules.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import re
import sys
import time

import jetstream
from jetstream import scenario, wait_for

# Records that ringbus refuses on purpose so far.
REFUSED = ()

S = 1_000_000_000
FAR = "@at 2060-01-01T00:00:00Z"


def last(js, subject, stream="C"):
    answer = js.raw("STREAM.MSG.GET." + stream, {"last_by_subj": subject})
    return js.message(stream, answer["message"]["seq"]) if "message" in answer else None


def when_there(js, subject, seconds=6):
    return wait_for(lambda: last(js, subject), seconds)


@scenario()
def rules(js, rec):
    js.stream("C", allow_msg_schedules=True, allow_msg_ttl=True)
    js.stream("N", allow_msg_schedules=True)
    js.stream("D", allow_rollup_hdrs=True)
    target = {"Nats-Schedule-Target": "c.target"}
    for label, headers in (
            ("at", {"Nats-Schedule": FAR, **target}),
            ("at, zone of its own", {"Nats-Schedule": "@at 2060-01-01T00:00:00+02:00", **target}),
            ("at, fraction", {"Nats-Schedule": "@at 2060-01-01T00:00:00.5Z", **target}),
            ("at, bad", {"Nats-Schedule": "@at soon", **target}),
            ("at, no time", {"Nats-Schedule": "@at", **target}),
            ("every", {"Nats-Schedule": "@every 1h", **target}),
            ("every, short", {"Nats-Schedule": "@every 500ms", **target}),
            ("every, bad", {"Nats-Schedule": "@every day", **target}),
            ("every, zero", {"Nats-Schedule": "@every 0s", **target}),
            ("cron", {"Nats-Schedule": "0 0 0 1 1 *", **target}),
            ("cron, names", {"Nats-Schedule": "0 0 0 1 JAN,feb MON-Fri", **target}),
            ("cron, steps", {"Nats-Schedule": "*/5 10-20/3 1/2 ? * *", **target}),
            ("cron, five fields", {"Nats-Schedule": "0 0 1 1 *", **target}),
            ("cron, seven fields", {"Nats-Schedule": "0 0 0 1 1 * 2060", **target}),
            ("cron, out of range", {"Nats-Schedule": "60 0 0 1 1 *", **target}),
            ("cron, sunday 7", {"Nats-Schedule": "0 0 0 * * 7", **target}),
            ("cron, backwards", {"Nats-Schedule": "30-10 0 0 1 1 *", **target}),
            ("cron, step 0", {"Nats-Schedule": "*/0 0 0 1 1 *", **target}),
            ("cron, never", {"Nats-Schedule": "0 0 0 30 2 *", **target}),
            ("cron, words", {"Nats-Schedule": "a b c d e f", **target}),
            ("hourly", {"Nats-Schedule": "@hourly", **target}),
            ("daily", {"Nats-Schedule": "@daily", **target}),
            ("yearly", {"Nats-Schedule": "@yearly", **target}),
            ("secondly", {"Nats-Schedule": "@secondly", **target}),
            ("words", {"Nats-Schedule": "soon", **target}),
            ("zone", {"Nats-Schedule": "@daily", "Nats-Schedule-Time-Zone": "Europe/Berlin", **target}),
            ("zone, unknown", {"Nats-Schedule": "@daily", "Nats-Schedule-Time-Zone": "Europe/Nowhere", **target}),
            ("zone, empty", {"Nats-Schedule": "@daily", "Nats-Schedule-Time-Zone": "", **target}),
            ("zone with at", {"Nats-Schedule": FAR, "Nats-Schedule-Time-Zone": "UTC", **target}),
            ("zone with every", {"Nats-Schedule": "@every 1h", "Nats-Schedule-Time-Zone": "UTC", **target}),
            ("no target", {"Nats-Schedule": FAR}),
            ("target is itself", {"Nats-Schedule": FAR, "Nats-Schedule-Target": "c.s"}),
            ("target outside", {"Nats-Schedule": FAR, "Nats-Schedule-Target": "d.target"}),
            ("target with wildcard", {"Nats-Schedule": FAR, "Nats-Schedule-Target": "c.*"}),
            ("source", {"Nats-Schedule": FAR, "Nats-Schedule-Source": "c.source", **target}),
            ("source is target", {"Nats-Schedule": FAR, "Nats-Schedule-Source": "c.target", **target}),
            ("source is itself", {"Nats-Schedule": FAR, "Nats-Schedule-Source": "c.s", **target}),
            ("source outside", {"Nats-Schedule": FAR, "Nats-Schedule-Source": "d.s", **target}),
            ("source with wildcard", {"Nats-Schedule": FAR, "Nats-Schedule-Source": "c.*", **target}),
            ("ttl", {"Nats-Schedule": FAR, "Nats-Schedule-TTL": "5m", **target}),
            ("ttl, bad", {"Nats-Schedule": FAR, "Nats-Schedule-TTL": "soon", **target}),
            ("rollup", {"Nats-Schedule": FAR, "Nats-Schedule-Rollup": "sub", **target}),
            ("rollup, all", {"Nats-Schedule": FAR, "Nats-Schedule-Rollup": "all", **target}),
            ("own rollup", {"Nats-Schedule": FAR, "Nats-Rollup": "sub", **target}),
            ("own rollup, all", {"Nats-Schedule": FAR, "Nats-Rollup": "all", **target}),
            ("pattern and target", {"Nats-Schedule": "soon"}),
            ("pattern and ttl", {"Nats-Schedule": "soon", "Nats-Schedule-TTL": "soon", **target}),
            ("ttl and rollup", {"Nats-Schedule": FAR, "Nats-Schedule-TTL": "soon", "Nats-Schedule-Rollup": "x", **target}),
            ("rollup and target", {"Nats-Schedule": FAR, "Nats-Schedule-Rollup": "x"}),
            ("target and source", {"Nats-Schedule": FAR, "Nats-Schedule-Target": "d.x", "Nats-Schedule-Source": "c.*"}),
            ("next of none", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "c.none"}),
            ("next, other value", {"Nats-Schedule-Next": "later", "Nats-Scheduler": "c.s"}),
            ("next without scheduler", {"Nats-Schedule-Next": "purge"}),
            ("next of itself", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "c.s"}),
            ("scheduler alone", {"Nats-Scheduler": "c.s"}),
            ("target alone", target),
            ("expected", {"Nats-Schedule": FAR, "Nats-Expected-Last-Sequence": "999", **target}),
    ):
        rec(label, js.store("c.s", "m", headers))
    rec("no ttl", js.store("n.s", "m", {"Nats-Schedule": FAR, "Nats-Schedule-Target": "n.t", "Nats-Schedule-TTL": "5m"}))
    rec("off", js.store("d.s", "m", {"Nats-Schedule": FAR, "Nats-Schedule-Target": "d.t"}))
    rec("off, next", js.store("d.s", "m", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "d.x"}))
    rec("stored", last(js, "c.s"))
    rec("one on each subject", js.state("C")["messages"])
    for label, config in (("discard new", {"discard": "new"}), ("pedantic", {"pedantic": True}), ("deny purge", {"deny_purge": True})):
        answer = js.api("STREAM.CREATE.X", {"name": "X", "subjects": ["x.>"], "allow_msg_schedules": True, **config})
        rec("stream: " + label, answer.get("error") or answer["config"])
        js.raw("STREAM.DELETE.X")
    rec("turned off", js.api("STREAM.UPDATE.C", {"name": "C", "subjects": ["c.>"], "allow_msg_ttl": True})["error"])


@scenario()
def once(js, rec):
    js.stream("C", allow_msg_schedules=True, allow_msg_ttl=True)
    headers = {"Nats-Schedule": "@at 2001-01-01T00:00:00Z", "Nats-Schedule-Target": "c.t", "Other": "x", "Nats-Msg-Id": "id"}
    rec("publish", js.store("c.s", "body", headers))
    rec("produced", when_there(js, "c.t"))
    wait_for(lambda: last(js, "c.s") is None)
    rec("schedule", last(js, "c.s"))
    rec("state", js.state("C"))
    js.store("c.ttl", "body", {"Nats-Schedule": "@at 2001-01-01T00:00:00Z", "Nats-Schedule-Target": "c.t2", "Nats-Schedule-TTL": "5m",
                               "Nats-Schedule-Rollup": "sub"})
    rec("with ttl and rollup", when_there(js, "c.t2"))
    js.store("c.source", "of the source", {"A": "b", "Nats-Msg-Id": "s"})
    js.store("c.by", "own", {"Nats-Schedule": "@at 2001-01-01T00:00:00Z", "Nats-Schedule-Target": "c.t3", "Nats-Schedule-Source": "c.source",
                             "Own": "x"})
    rec("of a source", when_there(js, "c.t3"))
    js.store("c.by2", "own", {"Nats-Schedule": "@at 2001-01-01T00:00:00Z", "Nats-Schedule-Target": "c.t4", "Nats-Schedule-Source": "c.none"})
    time.sleep(1.5)
    rec("of a source without messages", last(js, "c.t4"))
    rec("its schedule", last(js, "c.by2") is not None)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    js.store("c.soon", "body", {"Nats-Schedule": "@at " + at, "Nats-Schedule-Target": "c.t5"})
    time.sleep(0.5)
    rec("not yet", last(js, "c.t5"))
    rec("then", when_there(js, "c.t5") is not None)


@scenario()
def repeated(js, rec):
    js.stream("C", allow_msg_schedules=True, allow_msg_ttl=True)
    js.store("c.e", "every", {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "c.t"})
    js.store("c.c", "cron", {"Nats-Schedule": "* * * * * *", "Nats-Schedule-Target": "c.u", "Nats-Schedule-Time-Zone": "Asia/Tokyo"})
    wait_for(lambda: js.raw("STREAM.INFO.C", {"subjects_filter": "c.t"})["state"].get("subjects", {}).get("c.t", 0) >= 2, 8)
    wait_for(lambda: js.raw("STREAM.INFO.C", {"subjects_filter": "c.u"})["state"].get("subjects", {}).get("c.u", 0) >= 2, 8)
    found = [last(js, "c.t"), last(js, "c.u")]
    for one in found:
        one.pop("seq")
        one["hdrs"] = re.sub(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+09:00", "<in Tokyo>", one["hdrs"])
    rec("produced", found)
    rec("schedules stay", [last(js, subject)["data"] for subject in ("c.e", "c.c")])
    rec("cancel", "seq" in js.store("c.cancel", "", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "c.e"}))
    rec("cancelled", last(js, "c.e"))
    rec("cancelled again", "error" in js.store("c.cancel", "", {"Nats-Schedule-Next": "purge", "Nats-Scheduler": "c.e"}))
    js.raw("STREAM.PURGE.C", {"filter": "c.c"})
    time.sleep(0.3)
    before = js.state("C")["last_seq"]
    time.sleep(2.2)
    rec("no more", js.state("C")["last_seq"] - before)


@scenario()
def replaced(js, rec):
    js.stream("C", allow_msg_schedules=True)
    js.store("c.s", "first", {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "c.t"})
    js.store("c.s", "second", {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "c.u"})
    rec("as stored", last(js, "c.s"))
    rec("second", when_there(js, "c.u")["data"])
    rec("first", last(js, "c.t"))


@scenario()
def restarts(js, rec, running):
    js.stream("C", allow_msg_schedules=True)
    at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 3))
    js.store("c.s", "once", {"Nats-Schedule": "@at " + at, "Nats-Schedule-Target": "c.t"})
    js.store("c.e", "every", {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "c.u"})
    jetstream.restart(running, jetstream.signal.SIGTERM)
    with jetstream.Js(running) as js:
        rec("not yet", last(js, "c.t"))
        rec("once", when_there(js, "c.t", 8)["data"])
        rec("every", when_there(js, "c.u", 8)["data"])


if __name__ == "__main__":
    sys.exit(jetstream.main("js_schedules", __doc__, REFUSED))
