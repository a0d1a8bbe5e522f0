#!/usr/bin/env python3
"""Direct get, compared with nats-server: every selector, batches, last of many subjects, statuses.

  js_direct.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import json
import sys

import jetstream
from jetstream import scenario, wait_for

# Records that ringbus refuses on purpose so far.
REFUSED = ()

OLD, FUTURE = "2001-01-01T00:00:00Z", "2060-01-01T00:00:00Z"


def get(js, stream, body=b"", subject=""):
    """All that came for a direct get: one answer, or a batch up to its end."""
    inbox = js.inbox()
    text = json.dumps(body) if isinstance(body, dict) else body
    js.publish("$JS.API.DIRECT.GET." + stream + subject, text, None, inbox)
    many = isinstance(body, dict) and ("batch" in body or "multi_last" in body)
    found = []
    while True:
        one = js.take(lambda one: isinstance(one, jetstream.Message) and one.subject == inbox, 3)
        if one is None:
            return found + ["nothing came"]
        found.append(one.record())
        if not many or one.status:
            return found


def fill(js):
    js.stream("S", allow_direct=True)
    for i in range(12):
        js.store("s.%d" % (i % 4), "message %d" % (i + 1), {"A": "b", "Number": i} if i % 3 == 0 else None)
    for seq in (2, 5, 6):
        js.raw("STREAM.MSG.DELETE.S", {"seq": seq})


@scenario()
def single(js, rec):
    fill(js)
    when = js.raw("STREAM.MSG.GET.S", {"seq": 7})["message"]["time"]
    for label, body in (
            ("no body", b""), ("empty object", {}), ("text", "what?"), ("cut", '{"seq":'), ("unknown field", {"seq": 3, "nope": 1}),
            ("seq", {"seq": 3}), ("seq with headers", {"seq": 4}), ("deleted", {"seq": 2}), ("seq 0", {"seq": 0}),
            ("beyond", {"seq": 100}), ("negative", {"seq": -1}), ("last", {"last_by_subj": "s.1"}), ("last wild", {"last_by_subj": "s.*"}),
            ("last of none", {"last_by_subj": "s.none"}), ("last bad", {"last_by_subj": "s.."}), ("next", {"next_by_subj": "s.1"}),
            ("next from", {"next_by_subj": "s.1", "seq": 7}), ("next from beyond", {"next_by_subj": "s.1", "seq": 11}),
            ("next wild", {"next_by_subj": "s.>", "seq": 5}), ("next of none", {"next_by_subj": "s.none"}),
            ("time", {"start_time": when}), ("time past", {"start_time": OLD}), ("time future", {"start_time": FUTURE}),
            ("time and next", {"start_time": when, "next_by_subj": "s.0"}), ("time bad", {"start_time": "noon"}),
            ("no headers", {"seq": 4, "no_hdr": True}), ("no headers, last", {"last_by_subj": "s.1", "no_hdr": True}),
            ("seq and last", {"seq": 3, "last_by_subj": "s.1"}), ("seq and time", {"seq": 3, "start_time": OLD}),
            ("time and last", {"start_time": OLD, "last_by_subj": "s.1"}), ("last and next", {"last_by_subj": "s.1", "next_by_subj": "s.1"}),
            ("max bytes alone", {"max_bytes": 10}), ("no headers alone", {"no_hdr": True}), ("wrong type", {"seq": "x"}),
            ("up to alone", {"up_to_seq": 5})):
        rec(label, get(js, "S", body))
    for label, subject, body in (("s.1", ".s.1", b""), ("none", ".s.none", b""), ("wild", ".s.*", b""), ("all", ".>", b""),
                                 ("no headers", ".s.0", {"no_hdr": True}), ("with seq", ".s.0", {"seq": 1}),
                                 ("with last", ".s.0", {"last_by_subj": "s.0"}), ("with text", ".s.0", "what?"),
                                 ("with empty object", ".s.0", {}), ("with max bytes", ".s.0", {"max_bytes": 5})):
        rec("by subject: " + label, get(js, "S", body, subject))
    rec("level", js.request("$JS.API.DIRECT.GET.S", '{"seq":3}', {"Nats-Required-Api-Level": "99"}).record())
    rec("level by subject", js.request("$JS.API.DIRECT.GET.S.s.1", "", {"Nats-Required-Api-Level": "99"}).record())


@scenario()
def switched(js, rec):
    js.stream("OFF")
    js.store("off.x", "m")
    rec("off", js.request("$JS.API.DIRECT.GET.OFF", '{"seq":1}').record())
    js.raw("STREAM.UPDATE.OFF", {"name": "OFF", "subjects": ["off.>"], "allow_direct": True})
    rec("on", get(js, "OFF", {"seq": 1}))
    js.raw("STREAM.UPDATE.OFF", {"name": "OFF", "subjects": ["off.>"], "allow_direct": False})
    rec("off again", js.request("$JS.API.DIRECT.GET.OFF", '{"seq":1}').record())
    js.stream("E", allow_direct=True)
    rec("empty stream, seq", get(js, "E", {"seq": 1}))
    rec("empty stream, last", get(js, "E", b"", ".e.x"))
    rec("empty stream, batch", get(js, "E", {"seq": 1, "batch": 2}))
    rec("empty stream, multi", get(js, "E", {"multi_last": ["e.>"]}))
    js.raw("STREAM.DELETE.E")
    rec("gone", js.request("$JS.API.DIRECT.GET.E", '{"seq":1}').record())


@scenario()
def batches(js, rec):
    fill(js)
    when = js.raw("STREAM.MSG.GET.S", {"seq": 7})["message"]["time"]
    for label, body in (
            ("of 3", {"seq": 1, "batch": 3}), ("of 1", {"seq": 3, "batch": 1}), ("over deleted", {"seq": 2, "batch": 3}),
            ("beyond the end", {"seq": 10, "batch": 50}), ("behind the end", {"seq": 50, "batch": 5}), ("no seq", {"batch": 3}),
            ("next", {"seq": 1, "batch": 2, "next_by_subj": "s.0"}), ("next wild", {"seq": 4, "batch": 20, "next_by_subj": "s.*"}),
            ("next of none", {"seq": 1, "batch": 2, "next_by_subj": "s.none"}), ("time", {"start_time": when, "batch": 2}),
            ("time future", {"start_time": FUTURE, "batch": 2}), ("time and next", {"start_time": when, "batch": 9, "next_by_subj": "s.3"}),
            ("max bytes", {"seq": 1, "batch": 20, "max_bytes": 100}), ("max bytes small", {"seq": 1, "batch": 20, "max_bytes": 1}),
            ("no headers", {"seq": 1, "batch": 2, "no_hdr": True}), ("last", {"last_by_subj": "s.1", "batch": 2}),
            ("batch 0", {"seq": 3, "batch": 0, "next_by_subj": "s.2"}), ("up to", {"seq": 1, "batch": 20, "up_to_seq": 4})):
        rec(label, get(js, "S", body))


@scenario()
def multi(js, rec):
    fill(js)
    when = js.raw("STREAM.MSG.GET.S", {"seq": 7})["message"]["time"]
    for label, body in (
            ("all", {"multi_last": ["s.>"]}), ("two", {"multi_last": ["s.0", "s.2"]}), ("twice the same", {"multi_last": ["s.0", "s.0"]}),
            ("overlapping", {"multi_last": ["s.0", "s.*"]}), ("none", {"multi_last": ["s.none"]}), ("empty list", {"multi_last": []}),
            ("up to seq", {"multi_last": ["s.>"], "up_to_seq": 4}), ("up to 1", {"multi_last": ["s.>"], "up_to_seq": 1}),
            ("up to beyond", {"multi_last": ["s.>"], "up_to_seq": 100}), ("up to time", {"multi_last": ["s.>"], "up_to_time": when}),
            ("up to old", {"multi_last": ["s.>"], "up_to_time": OLD}), ("up to both", {"multi_last": ["s.>"], "up_to_seq": 4,
                                                                                    "up_to_time": FUTURE}),
            ("batch", {"multi_last": ["s.>"], "batch": 2}), ("batch, next page", {"multi_last": ["s.>"], "batch": 2, "seq": 11,
                                                                                "up_to_seq": 12}),
            ("from seq", {"multi_last": ["s.>"], "seq": 11}), ("max bytes", {"multi_last": ["s.>"], "max_bytes": 100}),
            ("and last", {"multi_last": ["s.>"], "last_by_subj": "s.0"}), ("and next", {"multi_last": ["s.>"], "next_by_subj": "s.0"}),
            ("no headers", {"multi_last": ["s.0"], "no_hdr": True}), ("bad", {"multi_last": ["s.."]})):
        rec(label, get(js, "S", body))
    js.stream("MANY", storage="memory", allow_direct=True)
    for i in range(1100):
        js.publish("many.%d" % i, "m")
    wait_for(lambda: js.raw("STREAM.INFO.MANY")["state"]["messages"] == 1100)
    rec("too many", get(js, "MANY", {"multi_last": ["many.>"]}))
    page = get(js, "MANY", {"multi_last": ["many.>"], "batch": 100})
    rec("too many, by pages", (len(page), page[0], page[-1]))


@scenario("", """accounts { A { jetstream: enabled, users: [{ user: a, password: a }, { user: r, password: r, permissions: {
    publish: ["$JS.API.DIRECT.GET.S.s.1", "$JS.API.DIRECT.GET.OTHER"] } }] } }
no_auth_user: a
""")
def permissions(js, rec, running):
    """The subject form lets permissions choose who may read what."""
    fill(js)
    with jetstream.Js(running, user="r", **{"pass": "r"}) as reader:
        rec("allowed", get(reader, "S", b"", ".s.1"))
        inbox = reader.inbox()
        reader.publish("$JS.API.DIRECT.GET.S.s.2", "", None, inbox)
        error = reader.take(lambda one: isinstance(one, bytes) and one.startswith(b"-ERR"), 3)
        rec("not allowed", error and error.decode())


if __name__ == "__main__":
    sys.exit(jetstream.main("js_direct", __doc__, REFUSED))
