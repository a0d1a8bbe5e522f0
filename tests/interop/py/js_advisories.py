#!/usr/bin/env python3
"""Advisories and metrics of JetStream, compared with nats-server: subjects, order of what happened, documents.

  js_advisories.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import json
import sys
import time

import jetstream
from jetstream import Js, masked, scenario, wait_for

# Records that ringbus refuses on purpose so far.
REFUSED = ()

S = 1_000_000_000
MS = 1_000_000


def heard(js, sid, count, rest=0.3):
    """[subject, document] of what came; documents inside of documents are read as well."""
    found = []
    for one in js.collect(sid, count, 4, rest):
        document = json.loads(one.body)
        for member in ("request", "response"):
            if document.get(member, "").startswith("{"):
                document[member] = json.loads(document[member])
        found.append([one.subject, masked(document)])
    return found


@scenario()
def life(js, rec):
    sid = js.subscribe("$JS.EVENT.ADVISORY.STREAM.>")
    consumers = js.subscribe("$JS.EVENT.ADVISORY.CONSUMER.>")
    js.stream("S")
    rec("created", heard(js, sid, 1))
    js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
    rec("created again", heard(js, sid, 0))
    js.raw("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs": 9})
    rec("updated", heard(js, sid, 1))
    js.raw("STREAM.UPDATE.S", {"name": "S", "subjects": ["s.>"], "max_msgs": 9})
    rec("updated to the same", heard(js, sid, 0, 0.5))
    js.raw("STREAM.CREATE.S", {"name": "S", "subjects": ["t.>"]})
    rec("refused", heard(js, sid, 0))
    js.consumer("S", "C")
    rec("consumer created", heard(js, consumers, 1))
    js.consumer("S", "C", max_deliver=7)
    rec("consumer updated", heard(js, consumers, 0, 0.5))
    js.raw("CONSUMER.PAUSE.S.C", {"pause_until": "2060-01-01T00:00:00Z"})
    rec("paused", heard(js, consumers, 1))
    js.raw("CONSUMER.PAUSE.S.C", {})
    rec("resumed", heard(js, consumers, 1))
    js.raw("CONSUMER.DELETE.S.C")
    rec("consumer deleted", heard(js, consumers, 1))
    js.consumer("S", "D")
    heard(js, consumers, 1)
    js.raw("STREAM.PURGE.S")
    rec("purged", heard(js, sid, 0))
    js.raw("STREAM.DELETE.S")
    rec("deleted", heard(js, sid, 1))
    rec("consumers of a deleted stream", heard(js, consumers, 1, 0.5))


@scenario()
def audit(js, rec):
    sid = js.subscribe("$JS.EVENT.ADVISORY.API")
    for label, subject, body in (("info", "INFO", ""), ("create", "STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]}),
                                 ("error", "STREAM.INFO.X", ""), ("text", "STREAM.NAMES", "what?"),
                                 ("names", "STREAM.NAMES", {"subject": "s.x"}), ("list", "STREAM.LIST", ""),
                                 ("stream info", "STREAM.INFO.S", ""), ("delete message", "STREAM.MSG.DELETE.S", {"seq": 7}),
                                 ("get message", "STREAM.MSG.GET.S", {"seq": 7}),
                                 ("consumer", "CONSUMER.CREATE.S.C", {"stream_name": "S", "config": {"durable_name": "C"}}),
                                 ("consumer info", "CONSUMER.INFO.S.C", ""), ("consumer names", "CONSUMER.NAMES.S", ""),
                                 ("pause", "CONSUMER.PAUSE.S.C", {}), ("consumer delete", "CONSUMER.DELETE.S.C", ""),
                                 ("purge", "STREAM.PURGE.S", ""), ("delete", "STREAM.DELETE.S", "")):
        js.raw(subject, body)
        rec(label, heard(js, sid, 1, 0.15))


@scenario()
def samples(js, rec):
    js.stream("S")
    for i in range(6):
        js.store("s.x", "m")
    js.consumer("S", "C", sample_freq="100%")
    js.consumer("S", "N", sample_freq="0")
    js.consumer("S", "A", sample_freq="100", ack_policy="all")
    sid = js.subscribe("$JS.EVENT.METRIC.>")
    got = js.fetch("S", "C", {"batch": 5, "expires": S}, 5)
    js.request(got[0].reply, "+ACK")
    rec("ack", heard(js, sid, 1))
    js.request(got[1].reply, "+TERM")
    rec("term", heard(js, sid, 0))
    js.request(got[2].reply, "-NAK")
    rec("nak", heard(js, sid, 0))
    again = js.fetch("S", "C", {"batch": 1, "expires": S})
    js.request(again[0].reply, "+ACK")
    rec("second delivery", heard(js, sid, 1))
    js.publish(got[3].reply, "+NXT", None, js.inbox())
    rec("next", heard(js, sid, 1))
    js.request(got[0].reply, "+ACK")
    rec("acked again", heard(js, sid, 0))
    js.request(js.fetch("S", "N")[0].reply, "+ACK")
    rec("not sampled", heard(js, sid, 0))
    js.request(js.fetch("S", "A", {"batch": 3, "expires": S}, 3)[2].reply, "+ACK")
    rec("ack all", heard(js, sid, 0))


@scenario()
def deliveries(js, rec):
    js.stream("S")
    for i in range(4):
        js.store("s.x", "m")
    js.consumer("S", "C", max_deliver=1, ack_wait=300 * MS)
    js.consumer("S", "D")
    sid = js.subscribe("$JS.EVENT.ADVISORY.CONSUMER.>")
    js.fetch("S", "C", {"batch": 2, "expires": S}, 2)
    rec("max deliver", sorted(heard(js, sid, 2), key=json.dumps))
    got = js.fetch("S", "D", {"batch": 4, "expires": S}, 4)
    js.request(got[0].reply, "-NAK")
    rec("nak", heard(js, sid, 1))
    js.request(got[1].reply, '-NAK {"delay": 1000000000}')
    rec("nak with delay", heard(js, sid, 1))
    js.request(got[2].reply, "+TERM")
    rec("term", heard(js, sid, 1))
    js.request(got[3].reply, "+TERM  because  ")
    rec("term with reason", heard(js, sid, 1))


@scenario("domain: hub")
def with_domain(js, rec):
    sid = js.subscribe("$JS.EVENT.>")
    js.stream("S")
    rec("create", sorted(heard(js, sid, 2), key=json.dumps))


@scenario("", """accounts { A { jetstream: enabled, users: [{ user: a, password: a }] }, B { jetstream: enabled, users: [{ user: b, password: b }] }
    $SYS { users: [{ user: sys, password: sys }] } }
no_auth_user: a
""")
def across_accounts(js, rec, running):
    with Js(running, user="b", **{"pass": "b"}) as b, Js(running, user="sys", **{"pass": "sys"}) as admin:
        mine, theirs, system = js.subscribe("$JS.EVENT.>"), b.subscribe("$JS.EVENT.>"), admin.subscribe("$JS.EVENT.>")
        js.stream("S")
        rec("mine", sorted(heard(js, mine, 2), key=json.dumps))
        rec("of another account", heard(b, theirs, 0))
        rec("of the system account", [one[0] for one in heard(admin, system, 0)])


@scenario()
def audit_without_listener(js, rec):
    js.stream("S")
    js.raw("STREAM.INFO.S")
    time.sleep(0.1)
    sid = js.subscribe("$JS.EVENT.>")
    rec("nothing from before", heard(js, sid, 0))
    js.stream("KEEP", subjects=["$JS.EVENT.ADVISORY.>"])
    js.raw("STREAM.INFO.S")
    rec("kept in a stream", wait_for(lambda: js.raw("STREAM.INFO.KEEP")["state"]["messages"] > 0))


if __name__ == "__main__":
    sys.exit(jetstream.main("js_advisories", __doc__, REFUSED))
