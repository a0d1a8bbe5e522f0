#!/usr/bin/env python3
"""The $JS.API of one node, compared with nats-server: every subject, its documents and its errors.

  js_api.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import json
import sys
import time

import jetstream
from jetstream import masked, scenario

# Records that ringbus refuses on purpose so far.
REFUSED = (
    "*/*compression s2*",
)

# Records in which ringbus is another on purpose.
DIFFERS = {
    # nats-server finds out when the name is too long for a directory.
    "consumer_subjects/long name": {
        "type": "io.nats.jetstream.api.v1.consumer_create_response",
        "error": {"code": 400, "err_code": 10102, "description": "consumer name is too long, maximum allowed is 255"}},
    # nats-server forgets when something was acknowledged last.
    "after_restart/Q":
        {"ack_floor": {"consumer_seq": 4, "last_active": "<last_active>", "stream_seq": 4}, "num_ack_pending": 0, "num_pending": 6},
    # In nats-server a message comes back that its subject's limit had removed.
    "after_restart/S":
        {"cluster": {"leader": "one"},
         "config": {"allow_direct": True,
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
                    "max_msgs_per_subject": 3,
                    "metadata": {"_nats.level": "5", "_nats.req.level": "0", "_nats.ver": "<_nats.ver>", "a": "b"},
                    "mirror_direct": False,
                    "name": "S",
                    "num_replicas": 1,
                    "retention": "limits",
                    "sealed": False,
                    "storage": "file",
                    "subjects": ["s.>"]},
         "created": "<created>",
         "limit": 100000,
         "offset": 0,
         "state": {"bytes": 380,
                   "consumer_count": 2,
                   "deleted": [8],
                   "first_seq": 5,
                   "first_ts": "<first_ts>",
                   "last_seq": 10,
                   "last_ts": "<last_ts>",
                   "messages": 5,
                   "num_deleted": 1,
                   "num_subjects": 2,
                   "subjects": {"s.0": 3, "s.1": 2}},
         "total": 2,
         "ts": "<ts>",
         "type": "io.nats.jetstream.api.v1.stream_info_response"},
}

MS = 1_000_000
S = 1_000_000_000


@scenario()
def plumbing(js, rec):
    rec("info, no body", js.api("INFO"))
    rec("info, body", js.api("INFO", "{}"))
    rec("info, text", js.api("INFO", "what?"))
    rec("unknown subject", js.silent("NOPE"))
    rec("unknown stream verb", js.silent("STREAM.NOPE.S"))
    rec("create without name token", js.silent("STREAM.CREATE"))
    rec("create with two tokens", js.silent("STREAM.CREATE.A.B", {"name": "A"}))
    rec("level too high", js.api("INFO", headers={"Nats-Required-Api-Level": "99"}))
    rec("level as text", js.api("INFO", headers={"Nats-Required-Api-Level": "x"}))
    rec("level 0", js.api("INFO", headers={"Nats-Required-Api-Level": "0"}))
    rec("level at create", js.api("STREAM.CREATE.S", {"name": "S"}, headers={"Nats-Required-Api-Level": "100"}))
    rec("direct get of no stream", js.api("DIRECT.GET.S", {"seq": 1}))
    rec("next of no stream", js.api("CONSUMER.MSG.NEXT.S.C"))
    rec("reset of no stream", js.silent("CONSUMER.RESET.S.C"))
    js.publish("$JS.API.STREAM.CREATE.QUIET", json.dumps({"name": "QUIET"}))
    jetstream.wait_for(lambda: js.raw("STREAM.NAMES")["total"] == 1)
    rec("create without reply took effect", js.api("STREAM.NAMES"))
    rec("request info does not harm", js.api("INFO", headers={"Nats-Request-Info": "{}"})["type"])
    rec("system requests of users: step down", js.silent("META.LEADER.STEPDOWN"))
    rec("system requests of users: remove", js.silent("SERVER.REMOVE", {"peer": "x"}))
    rec("system requests of users: purge", js.silent("ACCOUNT.PURGE.$G"))
    rec("domain that is not", js.api("INFO", prefix="$JS.hub.API."))


@scenario()
def bad_json(js, rec):
    js.stream("S")
    js.consumer("S", "C")
    bodies = (("empty", ""), ("text", "what?"), ("number", "7"), ("array", "[]"), ("object", "{}"), ("cut", '{"name":"S"'),
              ("unknown field", '{"nope":1}'), ("wrong type", '{"offset":"a","name":7,"seq":"x","config":1}'),
              ("trailing", "{} x"), ("null", "null"))
    for subject in ("STREAM.CREATE.S", "STREAM.UPDATE.S", "STREAM.NAMES", "STREAM.LIST", "STREAM.INFO.S", "STREAM.PURGE.S",
                    "STREAM.MSG.GET.S", "STREAM.MSG.DELETE.S", "CONSUMER.CREATE.S", "CONSUMER.CREATE.S.C",
                    "CONSUMER.DURABLE.CREATE.S.C", "CONSUMER.NAMES.S", "CONSUMER.LIST.S", "CONSUMER.INFO.S.C",
                    "CONSUMER.PAUSE.S.C", "CONSUMER.UNPIN.S.C", "CONSUMER.RESET.S.C", "STREAM.SNAPSHOT.S", "STREAM.RESTORE.X"):
        for label, body in bodies:
            answer = js.api(subject, body)
            if isinstance(answer, dict) and "error" not in answer:
                answer = "no error: " + answer.get("type", "?")
            rec("%s, %s" % (subject, label), answer)


@scenario()
def unknown_things(js, rec):
    for subject in ("STREAM.INFO.X", "STREAM.UPDATE.X", "STREAM.DELETE.X", "STREAM.PURGE.X", "STREAM.MSG.GET.X",
                    "STREAM.MSG.DELETE.X", "STREAM.SNAPSHOT.X", "STREAM.LEADER.STEPDOWN.X", "STREAM.PEER.REMOVE.X",
                    "CONSUMER.CREATE.X.C", "CONSUMER.DURABLE.CREATE.X.C", "CONSUMER.CREATE.X", "CONSUMER.NAMES.X",
                    "CONSUMER.LIST.X", "CONSUMER.INFO.X.C", "CONSUMER.DELETE.X.C", "CONSUMER.PAUSE.X.C",
                    "CONSUMER.LEADER.STEPDOWN.X.C"):
        body = {"STREAM.UPDATE.X": {"name": "X"}, "STREAM.MSG.GET.X": {"seq": 1}, "STREAM.MSG.DELETE.X": {"seq": 1},
                "STREAM.SNAPSHOT.X": {"deliver_subject": "d"}, "STREAM.PEER.REMOVE.X": {"peer": "p"},
                "CONSUMER.CREATE.X.C": {"stream_name": "X", "config": {"name": "C"}},
                "CONSUMER.DURABLE.CREATE.X.C": {"stream_name": "X", "config": {"durable_name": "C"}},
                "CONSUMER.CREATE.X": {"stream_name": "X", "config": {}}, "CONSUMER.UNPIN.X.C": {"group": "A"}}.get(subject, b"")
        rec(subject, js.api(subject, body, seconds=2))
    js.stream("S")
    for subject in ("CONSUMER.INFO.S.C", "CONSUMER.DELETE.S.C", "CONSUMER.PAUSE.S.C", "CONSUMER.MSG.NEXT.S.C",
                    "STREAM.LEADER.STEPDOWN.S", "CONSUMER.LEADER.STEPDOWN.S.C"):
        rec("S: " + subject, js.api(subject, seconds=2))
    rec("S: unpin", js.api("CONSUMER.UNPIN.S.C", {"group": "A"}))
    rec("S: peer remove", js.api("STREAM.PEER.REMOVE.S", {"peer": "p"}))
    rec("S: cancel move", js.api("STREAM.CANCEL_MOVE.S", seconds=1))
    rec("S: reset", js.silent("CONSUMER.RESET.S.C"))
    for subject in ("STREAM.DELETE.S", "CONSUMER.INFO.S.C", "CONSUMER.DELETE.S.C"):
        for label, body in (("text", "x"), ("object with member", '{"a":1}'), ("array", "[1]"), ("blank", " ")):
            rec("%s with %s" % (subject, label), js.api(subject, body))


# Stream configurations: label, fields. One after the other, removed again when it was made; their names differ, because
# nats-server removes the files of a deleted stream later, and a new one of that name may meet them. Records say S.
STREAMS = (
    ("no subjects", {}),
    ("no subjects, empty list", {"subjects": []}),
    ("one subject", {"subjects": ["foo"]}),
    ("wildcards", {"subjects": ["foo.*", "bar.>"]}),
    ("two that overlap", {"subjects": ["foo.*", "foo.bar"]}),
    ("two that are the same", {"subjects": ["foo", "foo"]}),
    ("two that cross", {"subjects": ["foo.*.x", "foo.y.*"]}),
    ("empty subject", {"subjects": [""]}),
    ("bad subject: dots", {"subjects": ["foo..bar"]}),
    ("bad subject: blank", {"subjects": ["foo bar"]}),
    ("bad subject: > inside", {"subjects": ["foo.>.bar"]}),
    ("everything", {"subjects": [">"]}),
    ("everything without ack", {"subjects": [">"], "no_ack": True}),
    ("api", {"subjects": ["$JS.API.>"]}),
    ("api without ack", {"subjects": ["$JS.API.>"], "no_ack": True}),
    ("acks", {"subjects": ["$JS.ACK.>"]}),
    ("events", {"subjects": ["$JS.EVENT.>"]}),
    ("system", {"subjects": ["$SYS.>"]}),
    ("system account", {"subjects": ["$SYS.ACCOUNT.>"]}),
    ("first token wild", {"subjects": ["*"]}),
    ("first token wild and more", {"subjects": ["*.>"]}),
    ("description", {"description": "what it is for", "metadata": {"a": "b", "c": ""}}),
    ("description too long", {"description": "d" * 4097}),
    ("metadata too long", {"metadata": {"k": "v" * 131072}}),
    ("metadata of the server", {"metadata": {"_nats.level": "9", "_nats.other": "x"}}),
    ("retention interest", {"retention": "interest"}),
    ("retention workqueue", {"retention": "workqueue"}),
    ("retention unknown", {"retention": "forever"}),
    ("retention number", {"retention": 1}),
    ("storage memory", {"storage": "memory"}),
    ("storage unknown", {"storage": "tape"}),
    ("discard new", {"discard": "new"}),
    ("discard capitals", {"discard": "NEW"}),
    ("discard unknown", {"discard": "some"}),
    ("discard new per subject alone", {"discard_new_per_subject": True}),
    ("discard new per subject without limit", {"discard": "new", "discard_new_per_subject": True}),
    ("discard new per subject", {"discard": "new", "discard_new_per_subject": True, "max_msgs_per_subject": 1}),
    ("limits negative", {"max_msgs": -7, "max_bytes": -7, "max_msgs_per_subject": -7, "max_msg_size": -7, "max_consumers": -7}),
    ("limits", {"max_msgs": 7, "max_bytes": 7000, "max_msgs_per_subject": 2, "max_msg_size": 70, "max_consumers": 3}),
    ("max msg size too large", {"max_msg_size": 1 << 33}),
    ("max age", {"max_age": S}),
    ("max age negative", {"max_age": -1}),
    ("max age small", {"max_age": 99 * MS}),
    ("max age smallest", {"max_age": 100 * MS}),
    ("duplicate window", {"duplicate_window": 30 * S}),
    ("duplicate window negative", {"duplicate_window": -1}),
    ("duplicate window small", {"duplicate_window": MS}),
    ("duplicate window above age", {"duplicate_window": 30 * S, "max_age": 20 * S}),
    ("duplicate window follows age", {"max_age": 20 * S}),
    ("replicas 0", {"num_replicas": 0}),
    ("replicas -1", {"num_replicas": -1}),
    ("replicas 3", {"num_replicas": 3}),
    ("replicas 6", {"num_replicas": 6}),
    ("no ack", {"no_ack": True}),
    ("compression s2", {"compression": "s2"}),
    ("compression s2 in memory", {"compression": "s2", "storage": "memory"}),
    ("compression none", {"compression": "none"}),
    ("compression unknown", {"compression": "zip"}),
    ("first seq", {"first_seq": 100}),
    ("first seq negative", {"first_seq": -1}),
    ("placement", {"placement": {"cluster": "C"}}),
    ("placement tags", {"placement": {"tags": ["a"]}}),
    ("placement empty", {"placement": {}}),
    ("placement preferred", {"placement": {"preferred": "one"}}),
    ("sealed", {"sealed": True}),
    ("mirror direct without mirror", {"mirror_direct": True}),
    ("allow direct", {"allow_direct": True}),
    ("deny both", {"deny_delete": True, "deny_purge": True}),
    ("rollup", {"allow_rollup_hdrs": True}),
    ("rollup without purge", {"allow_rollup_hdrs": True, "deny_purge": True}),
    ("ttl", {"allow_msg_ttl": True}),
    ("marker ttl", {"subject_delete_marker_ttl": 60 * S}),
    ("marker ttl small", {"subject_delete_marker_ttl": 10 * MS}),
    ("marker ttl negative", {"subject_delete_marker_ttl": -1}),
    ("marker ttl without purge", {"subject_delete_marker_ttl": S, "deny_purge": True}),
    ("atomic", {"allow_atomic": True}),
    ("batched", {"allow_batched": True}),
    ("counter", {"allow_msg_counter": True}),
    ("counter with discard new", {"allow_msg_counter": True, "discard": "new"}),
    ("counter with ttl", {"allow_msg_counter": True, "allow_msg_ttl": True}),
    ("counter with workqueue", {"allow_msg_counter": True, "retention": "workqueue"}),
    ("schedules", {"allow_msg_schedules": True}),
    ("schedules with discard new", {"allow_msg_schedules": True, "discard": "new"}),
    ("persist async", {"persist_mode": "async"}),
    ("persist async in memory", {"persist_mode": "async", "storage": "memory"}),
    ("persist async with atomic", {"persist_mode": "async", "allow_atomic": True}),
    ("persist unknown", {"persist_mode": "later"}),
    ("persist default", {"persist_mode": "default"}),
    ("consumer limits", {"consumer_limits": {"inactive_threshold": S, "max_ack_pending": 5}}),
    ("transform", {"subjects": ["a.*"], "subject_transform": {"src": "a.*", "dest": "b.$1"}}),
    ("transform without source", {"subjects": ["a.*"], "subject_transform": {"dest": "b.>"}}),
    ("transform with bad source", {"subjects": ["a.*"], "subject_transform": {"src": "a..", "dest": "b.>"}}),
    ("transform with bad destination", {"subjects": ["a.*"], "subject_transform": {"src": "a.*", "dest": "b.$2"}}),
    ("republish", {"subjects": ["a.*"], "republish": {"src": "a.*", "dest": "r.$1"}}),
    ("republish headers only", {"subjects": ["a.*"], "republish": {"src": ">", "dest": "r.>", "headers_only": True}}),
    ("republish without source", {"subjects": ["a.*"], "republish": {"dest": "r.>"}}),
    ("republish in a circle", {"subjects": ["a.*"], "republish": {"src": "a.*", "dest": "a.b"}}),
    ("republish that cannot be", {"subjects": ["a.*"], "republish": {"src": "a.*", "dest": "r.$3"}}),
    ("mirror", {"mirror": {"name": "ORIGIN"}}),
    ("mirror with subjects", {"mirror": {"name": "ORIGIN"}, "subjects": ["x"]}),
    ("mirror with sources", {"mirror": {"name": "ORIGIN"}, "sources": [{"name": "O"}]}),
    ("mirror with first seq", {"mirror": {"name": "ORIGIN"}, "first_seq": 9}),
    ("mirror with bad name", {"mirror": {"name": "a.b"}}),
    ("mirror with filter and transforms", {"mirror": {"name": "O", "filter_subject": "a", "subject_transforms":
                                                      [{"src": "a", "dest": "b"}]}}),
    ("source", {"sources": [{"name": "O"}]}),
    ("source twice", {"sources": [{"name": "O"}, {"name": "O"}]}),
    ("source with bad name", {"sources": [{"name": "a b"}]}),
    ("source with external api", {"sources": [{"name": "O", "external": {"api": "$JS.API.x", "deliver": ""}}]}),
    ("unknown field", {"template_owner": "x"}),
    ("wrong type", {"max_msgs": "seven"}),
    ("wrong type inside", {"subjects": "foo"}),
    ("float", {"max_msgs": 1.5}),
    ("pedantic, plain", {"pedantic": True}),
    ("pedantic, limits", {"pedantic": True, "max_msgs": -7}),
    ("pedantic, bytes", {"pedantic": True, "max_bytes": -7}),
    ("pedantic, per subject", {"pedantic": True, "max_msgs_per_subject": -7}),
    ("pedantic, size", {"pedantic": True, "max_msg_size": -7}),
    ("pedantic, consumers", {"pedantic": True, "max_consumers": -7}),
    ("pedantic, window", {"pedantic": True, "duplicate_window": 30 * S, "max_age": 20 * S}),
    ("pedantic, age below the default window", {"pedantic": True, "max_age": 20 * S}),
    ("pedantic, marker", {"pedantic": True, "subject_delete_marker_ttl": S}),
    ("pedantic, marker with ttl", {"pedantic": True, "subject_delete_marker_ttl": S, "allow_msg_ttl": True}),
    ("pedantic, republish", {"pedantic": True, "subjects": ["a.*"], "republish": {"dest": "r.>"}}),
)


def renamed(answer, name, to):
    return json.loads(json.dumps(answer).replace(name, to))


@scenario()
def stream_configs(js, rec):
    for number, (label, fields) in enumerate(STREAMS):
        name = "S%03d" % number
        answer = js.api("STREAM.CREATE." + name, {"name": name, **fields})
        made = isinstance(answer, dict) and "error" not in answer
        if made and label == "events":
            answer.pop("state")  # the advisory of its own creation is in it, or comes a moment later
        rec(label, renamed(answer, name, "S"))
        if made:
            js.api("STREAM.DELETE." + name)


@scenario()
def stream_names(js, rec):
    for label, subject, name in (("none", "S", ""), ("other", "S", "T"), ("blank", "S", "a b"), ("dot", "S", "a.b"),
                                 ("star", "S", "*"), ("slash in both", "a/b", "a/b"), ("backslash in both", "a\\b", "a\\b"),
                                 ("long", "n" * 256, "n" * 256), ("longest", "n" * 255, "n" * 255), ("star in subject", "*", "*"),
                                 ("more in subject", ">", ">"), ("unicode", "\u00e4\u20ac", "\u00e4\u20ac")):
        answer = js.api("STREAM.CREATE." + subject, {"name": name, "subjects": ["x"]}, seconds=1)
        rec(label, answer)
        if isinstance(answer, dict) and "config" in answer:
            rec(label + ", delete", js.api("STREAM.DELETE." + subject))


@scenario()
def stream_life(js, rec):
    config = {"name": "S", "subjects": ["s.>"]}
    rec("create", js.api("STREAM.CREATE.S", config))
    rec("again", js.api("STREAM.CREATE.S", config))
    rec("again with defaults written out", js.api("STREAM.CREATE.S", {**config, "max_msgs": -1, "num_replicas": 1,
                                                                      "retention": "limits", "storage": "file"}))
    rec("again, other", js.api("STREAM.CREATE.S", {**config, "max_msgs": 5}))
    rec("again, other metadata", js.api("STREAM.CREATE.S", {**config, "metadata": {"a": "b"}}))
    rec("overlap", js.api("STREAM.CREATE.T", {"name": "T", "subjects": ["s.x"]}))
    rec("overlap of wildcards", js.api("STREAM.CREATE.T", {"name": "T", "subjects": ["*.x"]}))
    for i in range(5):
        js.store("s.%d" % (i % 2), "message %d" % i)
    js.api("STREAM.MSG.DELETE.S", {"seq": 3})
    rec("info", js.api("STREAM.INFO.S"))
    rec("info with details", js.api("STREAM.INFO.S", {"deleted_details": True}))
    rec("info with subjects", js.api("STREAM.INFO.S", {"subjects_filter": ">"}))
    rec("info with some subjects", js.api("STREAM.INFO.S", {"subjects_filter": "s.1"}))
    rec("info with no subjects", js.api("STREAM.INFO.S", {"subjects_filter": "t.>"}))
    rec("info with a page", js.api("STREAM.INFO.S", {"subjects_filter": ">", "offset": 1}))
    rec("info beyond the page", js.api("STREAM.INFO.S", {"subjects_filter": ">", "offset": 10}))
    rec("info with offset alone", js.api("STREAM.INFO.S", {"offset": 3}))
    rec("account", js.api("INFO"))
    rec("delete", js.api("STREAM.DELETE.S"))
    rec("delete again", js.api("STREAM.DELETE.S"))
    rec("account afterwards", {key: js.api("INFO")[key] for key in ("streams", "storage", "consumers")})


@scenario()
def names_and_lists(js, rec):
    rec("names, none", js.api("STREAM.NAMES"))
    rec("list, none", js.api("STREAM.LIST"))
    for name, subjects in (("B", ["b.>", "shared.b"]), ("A", ["a.*"]), ("C", ["c"]), ("a", ["lower.*.x"])):
        js.stream(name, subjects=subjects)
    rec("names", js.api("STREAM.NAMES"))
    rec("list", js.api("STREAM.LIST"))
    for subject in ("b.x", "b.>", "*.b", ">", "c", "c.d", "lower.>", "lower.1.x", "nothing", "", "bad..", "a.*"):
        rec("names of %r" % subject, js.api("STREAM.NAMES", {"subject": subject}))
    rec("list of one", js.api("STREAM.LIST", {"subject": "shared.b"}))
    for offset in (1, 3, 4, 40, -1):
        rec("names from %d" % offset, js.api("STREAM.NAMES", {"offset": offset}))
        answer = js.api("STREAM.LIST", {"offset": offset})
        answer["streams"] = [one["config"]["name"] for one in answer["streams"] or []]
        rec("list from %d" % offset, answer)
    rec("consumer names, none", js.api("CONSUMER.NAMES.A"))
    rec("consumer list, none", js.api("CONSUMER.LIST.A"))
    for name in ("z", "m", "a"):
        js.consumer("A", name)
    js.raw("CONSUMER.CREATE.A", {"stream_name": "A", "config": {"name": "eph", "deliver_subject": "d", "inactive_threshold": 60 * S}})
    rec("consumer names", js.api("CONSUMER.NAMES.A"))
    rec("consumer list", js.api("CONSUMER.LIST.A"))
    for offset in (1, 4, 40, -1):
        rec("consumer names from %d" % offset, js.api("CONSUMER.NAMES.A", {"offset": offset}))
    rec("consumer names with subject", js.api("CONSUMER.NAMES.A", {"subject": "x"}))


# Updates of a stream: label, how it is made, what is changed.
UPDATES = (
    ("nothing", {}, {}),
    ("name", {}, {"name": "T"}),
    ("subjects", {}, {"subjects": ["other", "more.>"]}),
    ("subjects that overlap another", {}, {"subjects": ["taken.x"]}),
    ("description", {}, {"description": "d"}),
    ("retention to interest", {}, {"retention": "interest"}),
    ("retention to limits", {"retention": "interest"}, {"retention": "limits"}),
    ("retention to workqueue", {}, {"retention": "workqueue"}),
    ("retention from workqueue", {"retention": "workqueue"}, {"retention": "limits"}),
    ("storage", {}, {"storage": "memory"}),
    ("limits", {}, {"max_msgs": 3, "max_bytes": 1000, "max_msgs_per_subject": 2, "max_msg_size": 100, "max_consumers": 2}),
    ("limits off", {"max_msgs": 3, "max_bytes": 1000}, {"max_msgs": -1, "max_bytes": -1}),
    ("max age", {}, {"max_age": 60 * S}),
    ("max age bad", {}, {"max_age": 1}),
    ("window", {}, {"duplicate_window": 10 * S}),
    ("window above age", {"max_age": 60 * S, "duplicate_window": 10 * S}, {"duplicate_window": 100 * S}),
    ("discard", {}, {"discard": "new"}),
    ("discard per subject", {"max_msgs_per_subject": 2, "discard": "new"}, {"discard_new_per_subject": True}),
    ("replicas", {}, {"num_replicas": 3}),
    ("no ack", {}, {"no_ack": True}),
    ("first seq", {}, {"first_seq": 50}),
    ("allow direct", {}, {"allow_direct": True}),
    ("deny delete", {}, {"deny_delete": True}),
    ("deny delete off", {"deny_delete": True}, {"deny_delete": False}),
    ("deny purge", {}, {"deny_purge": True}),
    ("deny purge off", {"deny_purge": True}, {"deny_purge": False}),
    ("rollup on", {}, {"allow_rollup_hdrs": True}),
    ("rollup off", {"allow_rollup_hdrs": True}, {"allow_rollup_hdrs": False}),
    ("seal", {"max_age": 60 * S, "allow_rollup_hdrs": True}, {"sealed": True}),
    ("ttl on", {}, {"allow_msg_ttl": True}),
    ("ttl off", {"allow_msg_ttl": True}, {"allow_msg_ttl": False}),
    ("marker on", {}, {"subject_delete_marker_ttl": 5 * S}),
    ("marker off", {"subject_delete_marker_ttl": 5 * S}, {"subject_delete_marker_ttl": 0, "allow_msg_ttl": True,
                                                          "allow_rollup_hdrs": True}),
    ("atomic on", {}, {"allow_atomic": True}),
    ("atomic off", {"allow_atomic": True}, {"allow_atomic": False}),
    ("counter on", {}, {"allow_msg_counter": True}),
    ("schedules on", {}, {"allow_msg_schedules": True}),
    ("batched on", {}, {"allow_batched": True}),
    ("persist async", {}, {"persist_mode": "async"}),
    ("compression s2", {}, {"compression": "s2"}),
    ("transform on", {"subjects": ["a.*"]}, {"subject_transform": {"src": "a.*", "dest": "b.$1"}}),
    ("transform off", {"subjects": ["a.*"], "subject_transform": {"src": "a.*", "dest": "b.$1"}}, {"subject_transform": None}),
    ("republish on", {"subjects": ["a.*"]}, {"republish": {"src": "a.*", "dest": "b.$1"}}),
    ("metadata", {"metadata": {"a": "b"}}, {"metadata": {"c": "d"}}),
    ("consumer limits", {}, {"consumer_limits": {"max_ack_pending": 10}}),
    ("mirror on", {}, {"mirror": {"name": "O"}, "subjects": None}),
    ("source on", {}, {"sources": [{"name": "TAKEN"}]}),
    ("unknown field", {}, {"nope": 1}),
    ("pedantic", {}, {"pedantic": True, "max_msgs": -9}),
)


@scenario()
def stream_updates(js, rec):
    js.stream("TAKEN", subjects=["taken.>"])
    for number, (label, made, changed) in enumerate(UPDATES):
        name = "S%03d" % number
        config = {"name": name, "subjects": ["s.>"], **made}
        js.raw("STREAM.CREATE." + name, config)
        for i in range(4):
            js.store(config["subjects"][0].replace(">", "x").replace("*", "x"), "m%d" % i)
        update = {**config, **changed}
        answer = js.api("STREAM.UPDATE." + name, {key: value for key, value in update.items() if value is not None})
        rec(label, renamed(answer, name, "S"))
        js.raw("STREAM.DELETE." + name)
    js.stream("S")
    js.stream("SEALED")
    rec("seal one", js.api("STREAM.UPDATE.SEALED", {"name": "SEALED", "subjects": ["sealed.>"], "sealed": True}))
    rec("publish to a sealed one", js.store("sealed.x", "m"))
    rec("unseal", js.api("STREAM.UPDATE.SEALED", {"name": "SEALED", "subjects": ["sealed.>"]}))
    rec("purge a sealed one", js.api("STREAM.PURGE.SEALED"))
    rec("delete from a sealed one", js.api("STREAM.MSG.DELETE.SEALED", {"seq": 1}))
    rec("delete a sealed one", js.api("STREAM.DELETE.SEALED"))
    js.consumer("S", "C", max_ack_pending=100, inactive_threshold=100 * S)
    rec("consumer limits below a consumer", js.api("STREAM.UPDATE.S", {
        "name": "S", "subjects": ["s.>"], "consumer_limits": {"max_ack_pending": 10, "inactive_threshold": S}}))


@scenario()
def message_get(js, rec):
    js.stream("S", allow_direct=True)
    for i in range(6):
        js.store("s.%d" % (i % 3), "message %d" % i, {"A": "b", "Number": i} if i % 2 else None)
    js.api("STREAM.MSG.DELETE.S", {"seq": 2})
    for label, body in (
            ("seq", {"seq": 4}), ("seq deleted", {"seq": 2}), ("seq beyond", {"seq": 99}), ("seq 0", {"seq": 0}),
            ("last", {"last_by_subj": "s.0"}), ("last wild", {"last_by_subj": "s.*"}), ("last of none", {"last_by_subj": "t"}),
            ("last bad", {"last_by_subj": "s.."}), ("next", {"next_by_subj": "s.1"}), ("next from", {"next_by_subj": "s.0", "seq": 2}),
            ("next wild", {"next_by_subj": "s.>", "seq": 5}), ("next of none", {"next_by_subj": "t", "seq": 1}),
            ("next beyond", {"next_by_subj": "s.>", "seq": 50}),
            ("time", {"start_time": "2001-01-01T00:00:00Z"}), ("time beyond", {"start_time": "2060-01-01T00:00:00Z"}),
            ("time and next", {"start_time": "2001-01-01T00:00:00Z", "next_by_subj": "s.2"}),
            ("time bad", {"start_time": "yesterday"}),
            ("time and seq", {"start_time": "2001-01-01T00:00:00Z", "seq": 1}),
            ("seq and last", {"seq": 1, "last_by_subj": "s.0"}), ("last and next", {"last_by_subj": "s.0", "next_by_subj": "s.0"}),
            ("time and last", {"start_time": "2001-01-01T00:00:00Z", "last_by_subj": "s.0"}),
            ("batch", {"seq": 1, "batch": 2}), ("max bytes", {"seq": 1, "max_bytes": 2}), ("multi", {"multi_last": ["s.*"]}),
            ("no headers", {"seq": 4, "no_hdr": True}), ("nothing", {}), ("seq negative", {"seq": -1}), ("unknown", {"sequence": 1})):
        rec(label, js.api("STREAM.MSG.GET.S", body))


@scenario()
def message_delete(js, rec):
    js.stream("S")
    js.stream("KEPT", deny_delete=True, deny_purge=True)
    for i in range(8):
        js.store("s.x", "message %d" % i)
    js.store("kept.x", "m")
    rec("one", js.api("STREAM.MSG.DELETE.S", {"seq": 3}))
    rec("the same", js.api("STREAM.MSG.DELETE.S", {"seq": 3}))
    rec("without erase", js.api("STREAM.MSG.DELETE.S", {"seq": 5, "no_erase": True}))
    rec("beyond", js.api("STREAM.MSG.DELETE.S", {"seq": 99}))
    rec("zero", js.api("STREAM.MSG.DELETE.S", {"seq": 0}))
    rec("nothing", js.api("STREAM.MSG.DELETE.S", {}))
    rec("no body", js.api("STREAM.MSG.DELETE.S"))
    rec("negative", js.api("STREAM.MSG.DELETE.S", {"seq": -1}))
    rec("denied", js.api("STREAM.MSG.DELETE.KEPT", {"seq": 1}))
    rec("purge denied", js.api("STREAM.PURGE.KEPT"))
    rec("state", js.state("S"))
    rec("first", js.api("STREAM.MSG.DELETE.S", {"seq": 1}))
    rec("second", js.api("STREAM.MSG.DELETE.S", {"seq": 2}))
    rec("state, first moves over the gap", js.state("S"))
    rec("last", js.api("STREAM.MSG.DELETE.S", {"seq": 8}))
    rec("state, last stays", js.state("S"))
    for seq in (4, 6, 7):
        js.api("STREAM.MSG.DELETE.S", {"seq": seq})
    rec("state, empty", js.state("S"))
    rec("next one", js.store("s.x", "after"))
    rec("state, one", js.state("S"))


@scenario()
def purge(js, rec):
    made = 0
    for storage in ("file", "memory"):
        for label, body in (("no body", b""), ("empty", {}), ("filter", {"filter": "s.1"}), ("filter wild", {"filter": "s.*"}),
                            ("filter of none", {"filter": "t"}), ("seq", {"seq": 5}), ("seq 1", {"seq": 1}), ("seq 0", {"seq": 0}),
                            ("seq beyond", {"seq": 50}), ("seq next", {"seq": 11}), ("keep", {"keep": 3}), ("keep 0", {"keep": 0}),
                            ("keep more", {"keep": 30}), ("filter and keep", {"filter": "s.0", "keep": 1}),
                            ("filter and seq", {"filter": "s.0", "seq": 8}), ("keep and seq", {"keep": 1, "seq": 5}),
                            ("filter and seq beyond", {"filter": "s.0", "seq": 80}), ("unknown", {"name": "x"}),
                            ("filter bad", {"filter": "s.."})):
            made += 1
            name = "S%d" % made
            js.stream(name, storage=storage, subjects=["s.>"])
            for i in range(10):
                js.store("s.%d" % (i % 3), "message %d" % i)
            rec("%s: %s" % (storage, label), js.api("STREAM.PURGE." + name, body))
            rec("%s: %s, state" % (storage, label), js.state(name))
            js.raw("STREAM.DELETE." + name)


# Consumer configurations on a limits stream: label, fields.
CONSUMERS = (
    ("plain", {}),
    ("ack none", {"ack_policy": "none"}),
    ("ack all", {"ack_policy": "all"}),
    ("ack default", {"ack_policy": None}),
    ("ack unknown", {"ack_policy": "some"}),
    ("ack flow_control policy", {"ack_policy": "flow_control"}),
    ("ack flow_control policy, complete", {"ack_policy": "flow_control", "deliver_subject": "d", "flow_control": True,
                                           "idle_heartbeat": S, "max_ack_pending": 10}),
    ("ack flow_control policy, ack wait", {"ack_policy": "flow_control", "deliver_subject": "d", "flow_control": True,
                                           "idle_heartbeat": S, "max_ack_pending": 10, "ack_wait": S}),
    ("description", {"description": "d", "metadata": {"a": "b"}}),
    ("description too long", {"description": "d" * 4097}),
    ("metadata too long", {"metadata": {"k": "v" * 131072}}),
    ("ack wait", {"ack_wait": 5 * S}),
    ("ack wait negative", {"ack_wait": -1}),
    ("max deliver", {"max_deliver": 3}),
    ("max deliver negative", {"max_deliver": -9}),
    ("backoff", {"backoff": [S, 2 * S], "max_deliver": 3}),
    ("backoff overrules ack wait", {"backoff": [S, 2 * S], "max_deliver": 3, "ack_wait": 9 * S}),
    ("backoff longer than max deliver", {"backoff": [S, 2 * S, 3 * S], "max_deliver": 2}),
    ("backoff as long as max deliver", {"backoff": [S, 2 * S], "max_deliver": 2}),
    ("backoff without max deliver", {"backoff": [S, 2 * S]}),
    ("backoff negative", {"backoff": [-1], "max_deliver": 3}),
    ("filter", {"filter_subject": "s.x"}),
    ("filter outside", {"filter_subject": "t.x"}),
    ("filter bad", {"filter_subject": "s..x"}),
    ("filters", {"filter_subjects": ["s.x", "s.y"]}),
    ("filters of one", {"filter_subjects": ["s.x"]}),
    ("filters that overlap", {"filter_subjects": ["s.x", "s.*"]}),
    ("filters that are the same", {"filter_subjects": ["s.x", "s.x"]}),
    ("filters with an empty one", {"filter_subjects": ["s.x", ""]}),
    ("filters and filter", {"filter_subjects": ["s.x"], "filter_subject": "s.y"}),
    ("filters bad", {"filter_subjects": ["s..x", "s.y"]}),
    ("filters empty", {"filter_subjects": []}),
    ("deliver last", {"deliver_policy": "last"}),
    ("deliver new", {"deliver_policy": "new"}),
    ("deliver unknown", {"deliver_policy": "some"}),
    ("deliver by sequence", {"deliver_policy": "by_start_sequence", "opt_start_seq": 3}),
    ("deliver by sequence, beyond", {"deliver_policy": "by_start_sequence", "opt_start_seq": 300}),
    ("deliver by sequence, none", {"deliver_policy": "by_start_sequence"}),
    ("deliver by sequence and time", {"deliver_policy": "by_start_sequence", "opt_start_seq": 3,
                                      "opt_start_time": "2001-01-01T00:00:00Z"}),
    ("deliver by time", {"deliver_policy": "by_start_time", "opt_start_time": "2001-01-01T00:00:00Z"}),
    ("deliver by time, none", {"deliver_policy": "by_start_time"}),
    ("deliver by time and sequence", {"deliver_policy": "by_start_time", "opt_start_time": "2001-01-01T00:00:00Z",
                                      "opt_start_seq": 3}),
    ("deliver by time, future", {"deliver_policy": "by_start_time", "opt_start_time": "2060-01-01T00:00:00Z"}),
    ("deliver all and sequence", {"opt_start_seq": 3}),
    ("deliver all and time", {"opt_start_time": "2001-01-01T00:00:00Z"}),
    ("deliver last and sequence", {"deliver_policy": "last", "opt_start_seq": 3}),
    ("deliver last and time", {"deliver_policy": "last", "opt_start_time": "2001-01-01T00:00:00Z"}),
    ("deliver new and sequence", {"deliver_policy": "new", "opt_start_seq": 3}),
    ("deliver new and time", {"deliver_policy": "new", "opt_start_time": "2001-01-01T00:00:00Z"}),
    ("deliver last per subject", {"deliver_policy": "last_per_subject", "filter_subject": "s.*"}),
    ("deliver last per subject, no filter", {"deliver_policy": "last_per_subject"}),
    ("deliver last per subject, filters", {"deliver_policy": "last_per_subject", "filter_subjects": ["s.0", "s.1"]}),
    ("deliver last per subject and sequence", {"deliver_policy": "last_per_subject", "filter_subject": "s.*", "opt_start_seq": 1}),
    ("replay original", {"replay_policy": "original"}),
    ("replay unknown", {"replay_policy": "backwards"}),
    ("rate limit on pull", {"rate_limit_bps": 1000}),
    ("rate limit on push", {"rate_limit_bps": 1000, "deliver_subject": "d"}),
    ("sample", {"sample_freq": "50%"}),
    ("sample plain", {"sample_freq": "100"}),
    ("sample bad", {"sample_freq": "often"}),
    ("sample above", {"sample_freq": "101"}),
    ("max waiting", {"max_waiting": 7}),
    ("max waiting negative", {"max_waiting": -7}),
    ("max waiting on push", {"max_waiting": 7, "deliver_subject": "d"}),
    ("max ack pending", {"max_ack_pending": 7}),
    ("max ack pending negative", {"max_ack_pending": -7}),
    ("max ack pending without acks, pull", {"max_ack_pending": 7, "ack_policy": "none"}),
    ("max ack pending without acks, push", {"max_ack_pending": 7, "ack_policy": "none", "deliver_subject": "d"}),
    ("push", {"deliver_subject": "d"}),
    ("push with group", {"deliver_subject": "d", "deliver_group": "g"}),
    ("group on pull", {"deliver_group": "g"}),
    ("push to wildcards", {"deliver_subject": "d.*"}),
    ("push to bad subject", {"deliver_subject": "d.."}),
    ("push with blank", {"deliver_subject": "d d"}),
    ("push in a circle", {"deliver_subject": "s.x"}),
    ("heartbeat on pull", {"idle_heartbeat": S}),
    ("heartbeat on push", {"idle_heartbeat": S, "deliver_subject": "d"}),
    ("heartbeat small", {"idle_heartbeat": MS, "deliver_subject": "d"}),
    ("flow control on pull", {"flow_control": True}),
    ("flow control without heartbeat", {"flow_control": True, "deliver_subject": "d"}),
    ("flow control", {"flow_control": True, "deliver_subject": "d", "idle_heartbeat": S}),
    ("headers only", {"headers_only": True}),
    ("max batch", {"max_batch": 5}),
    ("max batch negative", {"max_batch": -5}),
    ("max expires", {"max_expires": S}),
    ("max expires small", {"max_expires": 1000}),
    ("max expires negative", {"max_expires": -5}),
    ("max bytes", {"max_bytes": 100}),
    ("max bytes negative", {"max_bytes": -5}),
    ("inactive threshold", {"inactive_threshold": 60 * S}),
    ("inactive threshold negative", {"inactive_threshold": -60}),
    ("replicas 1", {"num_replicas": 1}),
    ("replicas 3", {"num_replicas": 3}),
    ("replicas -1", {"num_replicas": -1}),
    ("memory", {"mem_storage": True}),
    ("direct on pull", {"direct": True}),
    ("direct durable", {"direct": True, "deliver_subject": "d"}),
    ("pause", {"pause_until": "2060-01-01T00:00:00Z"}),
    ("pause past", {"pause_until": "2001-01-01T00:00:00Z"}),
    ("priority overflow", {"priority_policy": "overflow", "priority_groups": ["A"]}),
    ("priority pinned", {"priority_policy": "pinned_client", "priority_groups": ["A"]}),
    ("priority pinned with timeout", {"priority_policy": "pinned_client", "priority_groups": ["A"], "priority_timeout": S}),
    ("priority prioritized", {"priority_policy": "prioritized", "priority_groups": ["A"]}),
    ("priority without group", {"priority_policy": "overflow"}),
    ("priority with empty group", {"priority_policy": "overflow", "priority_groups": [""]}),
    ("priority with bad group", {"priority_policy": "overflow", "priority_groups": ["a b"]}),
    ("priority with long group", {"priority_policy": "overflow", "priority_groups": ["a" * 17]}),
    ("priority with two groups", {"priority_policy": "overflow", "priority_groups": ["A", "B"]}),
    ("priority on push", {"priority_policy": "overflow", "priority_groups": ["A"], "deliver_subject": "d"}),
    ("priority unknown", {"priority_policy": "some", "priority_groups": ["A"]}),
    ("groups without policy", {"priority_groups": ["A"]}),
    ("timeout without policy", {"priority_timeout": S}),
    ("timeout negative", {"priority_timeout": -1, "priority_policy": "pinned_client", "priority_groups": ["A"]}),
    ("unknown field", {"nope": 1}),
    ("wrong type", {"max_deliver": "three"}),
    ("name differs", {"name": "D"}),
    ("name same", {"name": "C"}),
    ("durable differs", {"durable_name": "D"}),
)


def consumer_config(fields):
    config = {"durable_name": "C", "ack_policy": "explicit", **fields}
    return {key: value for key, value in config.items() if value is not None}


@scenario()
def consumer_configs(js, rec):
    js.stream("S")
    for i in range(6):
        js.store("s.%d" % (i % 3), "message %d" % i)
    for label, fields in CONSUMERS:
        answer = js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": consumer_config(fields)})
        rec(label, answer)
        if isinstance(answer, dict) and "error" not in answer:
            js.api("CONSUMER.DELETE.S.C")


@scenario()
def consumer_pedantic(js, rec):
    js.stream("S", consumer_limits={"max_ack_pending": 10, "inactive_threshold": 50 * S})
    for label, fields in (("plain", {}), ("all set", {"max_ack_pending": 5, "inactive_threshold": S}),
                          ("threshold only", {"inactive_threshold": S}), ("pending only", {"max_ack_pending": 5}),
                          ("pending above", {"max_ack_pending": 50, "inactive_threshold": S}),
                          ("threshold above", {"max_ack_pending": 5, "inactive_threshold": 500 * S}),
                          ("max deliver", {"max_deliver": -7}), ("max waiting", {"max_waiting": -7}),
                          ("max ack pending", {"max_ack_pending": -7}), ("max batch", {"max_batch": -7}),
                          ("max expires", {"max_expires": -7}), ("max bytes", {"max_bytes": -7}),
                          ("heartbeat", {"idle_heartbeat": -7}), ("inactive", {"inactive_threshold": -7}),
                          ("priority timeout", {"priority_timeout": -7}),
                          ("backoff", {"backoff": [S], "ack_wait": 5 * S, "max_deliver": 2})):
        for pedantic in (True, False):
            answer = js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": consumer_config(fields), "pedantic": pedantic})
            rec("%s%s" % (label, ", pedantic" if pedantic else ""), answer)
            if isinstance(answer, dict) and "error" not in answer:
                js.api("CONSUMER.DELETE.S.C")


@scenario()
def consumer_subjects(js, rec):
    js.stream("S")
    for label, subject, config, more in (
            ("old ephemeral", "CREATE.S", {"deliver_subject": "d"}, {}),
            ("old ephemeral pull", "CREATE.S", {"ack_policy": "explicit"}, {}),
            ("old ephemeral with durable", "CREATE.S", {"durable_name": "C"}, {}),
            ("old ephemeral with name", "CREATE.S", {"name": "N"}, {}),
            ("old durable", "DURABLE.CREATE.S.C", {"durable_name": "C"}, {}),
            ("old durable without name", "DURABLE.CREATE.S.C", {}, {}),
            ("old durable, other name", "DURABLE.CREATE.S.C", {"durable_name": "D"}, {}),
            ("old durable, no token", "DURABLE.CREATE.S", {"durable_name": "C"}, {}),
            ("new durable", "CREATE.S.C", {"durable_name": "C"}, {}),
            ("new by name", "CREATE.S.C", {"name": "C"}, {}),
            ("new without name", "CREATE.S.C", {}, {}),
            ("new, other name", "CREATE.S.C", {"name": "D"}, {}),
            ("new, two names", "CREATE.S.C", {"name": "C", "durable_name": "D"}, {}),
            ("with filter", "CREATE.S.C.s.x", {"name": "C", "filter_subject": "s.x"}, {}),
            ("with filter of many tokens", "CREATE.S.C.s.x.y.z", {"name": "C", "filter_subject": "s.x.y.z"}, {}),
            ("with other filter", "CREATE.S.C.s.x", {"name": "C", "filter_subject": "s.y"}, {}),
            ("with filter in the subject alone", "CREATE.S.C.s.x", {"name": "C"}, {}),
            ("with filters", "CREATE.S.C.s.x", {"name": "C", "filter_subjects": ["s.x"]}, {}),
            ("with wildcard", "CREATE.S.C.s.>", {"name": "C", "filter_subject": "s.>"}, {}),
            ("path in name", "CREATE.S.a/b", {"name": "a/b"}, {}),
            ("path in durable", "DURABLE.CREATE.S.a\\b", {"durable_name": "a\\b"}, {}),
            ("long name", "CREATE.S." + "n" * 256, {"name": "n" * 256}, {}),
            ("other stream", "CREATE.S.C", {"name": "C"}, {"stream_name": "T"}),
            ("no stream", "CREATE.S.C", {"name": "C"}, {"stream_name": ""}),
            ("action create", "CREATE.S.C", {"name": "C"}, {"action": "create"}),
            ("action update of none", "CREATE.S.C", {"name": "C"}, {"action": "update"}),
            ("action unknown", "CREATE.S.C", {"name": "C"}, {"action": "remake"}),
            ("action empty", "CREATE.S.C", {"name": "C"}, {"action": ""})):
        answer = js.raw("CONSUMER." + subject, {"stream_name": "S", "config": config, **more}, seconds=2)
        if isinstance(answer, dict) and "name" in answer:
            js.api("CONSUMER.DELETE.S." + answer["name"])
            if len(answer["name"]) == 8 and answer["name"] not in json.dumps(config):
                answer["name"] = answer["config"]["name"] = "<8 characters>"
        rec(label, masked(answer))


CONSUMER_UPDATES = (
    ("nothing", {}, {}), ("description", {}, {"description": "d"}), ("ack wait", {}, {"ack_wait": 9 * S}),
    ("ack policy", {}, {"ack_policy": "all"}), ("max deliver", {}, {"max_deliver": 9}), ("backoff", {}, {"backoff": [S, 2 * S]}),
    ("backoff bad", {"max_deliver": 2}, {"backoff": [S, 2 * S, 3 * S]}),
    ("filter", {}, {"filter_subject": "s.1"}), ("filter to filters", {"filter_subject": "s.1"},
                                                {"filter_subject": None, "filter_subjects": ["s.1", "s.2"]}),
    ("filter off", {"filter_subject": "s.1"}, {"filter_subject": None}),
    ("deliver policy", {}, {"deliver_policy": "new"}),
    ("start sequence", {"deliver_policy": "by_start_sequence", "opt_start_seq": 2}, {"opt_start_seq": 3}),
    ("start time", {"deliver_policy": "by_start_time", "opt_start_time": "2001-01-01T00:00:00Z"},
     {"opt_start_time": "2002-01-01T00:00:00Z"}),
    ("replay", {}, {"replay_policy": "original"}), ("max waiting", {}, {"max_waiting": 3}),
    ("max ack pending", {}, {"max_ack_pending": 3}), ("sample", {}, {"sample_freq": "10"}),
    ("headers only", {}, {"headers_only": True}), ("max batch", {}, {"max_batch": 3}), ("max bytes", {}, {"max_bytes": 30}),
    ("max expires", {}, {"max_expires": S}), ("inactive", {}, {"inactive_threshold": 10 * S}), ("memory", {}, {"mem_storage": True}),
    ("metadata", {"metadata": {"a": "b"}}, {"metadata": {"c": "d"}}), ("replicas", {}, {"num_replicas": 1}),
    ("pull to push", {}, {"deliver_subject": "d"}), ("push to pull", {"deliver_subject": "d"}, {"deliver_subject": None}),
    ("deliver subject", {"deliver_subject": "d"}, {"deliver_subject": "e"}),
    ("deliver group", {"deliver_subject": "d"}, {"deliver_group": "g"}),
    ("heartbeat", {"deliver_subject": "d"}, {"idle_heartbeat": S}),
    ("flow control", {"deliver_subject": "d", "idle_heartbeat": S}, {"flow_control": True}),
    ("rate limit", {"deliver_subject": "d"}, {"rate_limit_bps": 5000}),
    ("priority", {}, {"priority_policy": "overflow", "priority_groups": ["A"]}),
    ("priority off", {"priority_policy": "overflow", "priority_groups": ["A"]}, {"priority_policy": None, "priority_groups": None}),
    ("pause in update", {}, {"pause_until": "2060-01-01T00:00:00Z"}),
    ("durable to name", {}, {"durable_name": None, "name": "C"}),
)


@scenario()
def consumer_updates(js, rec):
    js.stream("S")
    for i in range(6):
        js.store("s.%d" % (i % 3), "message %d" % i)
    for label, made, changed in CONSUMER_UPDATES:
        config = consumer_config(made)
        js.raw("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": config})
        for action in ("update", "create", ""):
            rec("%s, action %r" % (label, action), js.api("CONSUMER.CREATE.S.C", {
                "stream_name": "S", "config": consumer_config({**made, **changed}), "action": action}))
        js.raw("CONSUMER.DELETE.S.C")


@scenario()
def consumer_retention(js, rec):
    """What work queue and interest streams ask of their consumers."""
    js.stream("W", retention="workqueue")
    js.stream("I", retention="interest")
    for stream in ("W", "I"):
        for label, config in (("ack none, pull", {"ack_policy": "none"}), ("ack none, push", {"ack_policy": "none", "deliver_subject": "d"}),
                              ("ack all", {"ack_policy": "all"}), ("deliver new", {"deliver_policy": "new"}),
                              ("deliver last", {"deliver_policy": "last"}), ("replicas", {"num_replicas": 2}), ("plain", {})):
            answer = js.api("CONSUMER.CREATE.%s.C" % stream, {"stream_name": stream, "config": consumer_config(config)})
            rec("%s: %s" % (stream, label), answer)
            js.api("CONSUMER.DELETE.%s.C" % stream)
    js.consumer("W", "one", filter_subject="w.a.>")
    for label, config in (("no filter", {}), ("overlap", {"filter_subject": "w.*.x"}), ("apart", {"filter_subject": "w.b.>"}),
                          ("many, overlap", {"filter_subjects": ["w.c", "w.a.b"]}), ("many, apart", {"filter_subjects": ["w.d", "w.e"]})):
        name = label.replace(" ", "_").replace(",", "")
        rec("W second: " + label, js.api("CONSUMER.CREATE.W." + name, {
            "stream_name": "W", "config": {"durable_name": name, "ack_policy": "explicit", **config}}))
    js.stream("W2", retention="workqueue")
    js.consumer("W2", "all")
    rec("W2: second without filter", js.api("CONSUMER.CREATE.W2.b", {"stream_name": "W2", "config": {
        "durable_name": "b", "ack_policy": "explicit"}}))
    rec("W2: second with filter", js.api("CONSUMER.CREATE.W2.b", {"stream_name": "W2", "config": {
        "durable_name": "b", "ack_policy": "explicit", "filter_subject": "w2.x"}}))
    js.stream("M", max_consumers=1)
    js.consumer("M", "a")
    rec("one too many", js.api("CONSUMER.CREATE.M.b", {"stream_name": "M", "config": {"durable_name": "b"}}))
    rec("the same again", js.api("CONSUMER.CREATE.M.a", {"stream_name": "M", "config": {
        "durable_name": "a", "ack_policy": "explicit"}}))


@scenario()
def many_consumers(js, rec):
    """A stream that says nothing about it takes 1,000 consumers."""
    for name, config in (("S", {}), ("T", {"max_consumers": 1001})):
        js.stream(name, storage="memory", **config)
        made, refused = 0, []
        for first in range(0, 1002, 50):
            inboxes = [js.inbox() for _ in range(first, min(first + 50, 1002))]
            for number, inbox in enumerate(inboxes, first):
                consumer = {"name": "C%d" % number, "mem_storage": True, "inactive_threshold": 3600 * S}
                js.publish("$JS.API.CONSUMER.CREATE.%s.C%d" % (name, number),
                           json.dumps({"stream_name": name, "config": consumer}), None, inbox)
            for inbox in inboxes:
                answer = json.loads(js.take(lambda one, to=inbox: isinstance(one, jetstream.Message) and one.subject == to).body)
                refused += [answer["error"]] if "error" in answer else []
                made += "error" not in answer
        rec(name, (made, refused))
        answer = js.api("CONSUMER.NAMES." + name)
        rec(name + ", names", (len(answer["consumers"]), answer["total"], answer["limit"]))
        answer = js.api("CONSUMER.LIST." + name, {"offset": 900})
        rec(name + ", list", (len(answer["consumers"]), answer["total"], answer["limit"], answer["offset"]))


@scenario()
def consumer_life(js, rec):
    js.stream("S")
    for i in range(4):
        js.store("s.x", "message %d" % i)
    rec("create", js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": consumer_config({})}))
    rec("info", js.api("CONSUMER.INFO.S.C"))
    js.fetch("S", "C", {"batch": 2, "expires": S}, 2)
    rec("info after two", js.api("CONSUMER.INFO.S.C"))
    rec("pause", js.api("CONSUMER.PAUSE.S.C", {"pause_until": "2060-01-01T00:00:00Z"}))
    rec("info, paused", js.api("CONSUMER.INFO.S.C"))
    rec("resume", js.api("CONSUMER.PAUSE.S.C", {}))
    rec("pause into the past", js.api("CONSUMER.PAUSE.S.C", {"pause_until": "2001-01-01T00:00:00Z"}))
    rec("resume again", js.api("CONSUMER.PAUSE.S.C"))
    rec("unpin without priority", js.api("CONSUMER.UNPIN.S.C", {"group": "A"}))
    rec("unpin without group", js.api("CONSUMER.UNPIN.S.C", {}))
    rec("reset", js.api("CONSUMER.RESET.S.C", {}))
    rec("reset to 3", js.api("CONSUMER.RESET.S.C", {"seq": 3}))
    rec("info after reset", js.api("CONSUMER.INFO.S.C"))
    rec("reset beyond", js.api("CONSUMER.RESET.S.C", {"seq": 300}))
    js.consumer("S", "N", deliver_policy="new")
    rec("reset of new", js.api("CONSUMER.RESET.S.N", {"seq": 1}))
    rec("reset of new to its floor", js.api("CONSUMER.RESET.S.N"))
    js.consumer("S", "F", deliver_policy="by_start_sequence", opt_start_seq=3)
    rec("reset below start", js.api("CONSUMER.RESET.S.F", {"seq": 2}))
    rec("reset at start", js.api("CONSUMER.RESET.S.F", {"seq": 3}))
    rec("delete", js.api("CONSUMER.DELETE.S.C"))
    rec("delete again", js.api("CONSUMER.DELETE.S.C"))
    rec("account", js.api("INFO"))


@scenario("strict: false")
def lenient(js, rec):
    rec("create", js.api("STREAM.CREATE.S", {"name": "S", "nope": 1}))
    rec("names", js.api("STREAM.NAMES", {"nope": 1}))
    rec("consumer", js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "nope": 1, "config": {"durable_name": "C", "what": 2}}))
    rec("wrong type", js.api("STREAM.NAMES", {"offset": "x"}))


@scenario("domain: hub")
def domain(js, rec):
    rec("info", js.api("INFO"))
    rec("info by domain", js.api("INFO", prefix="$JS.hub.API."))
    rec("create", js.api("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"], "allow_direct": True}))
    rec("stream info by domain", js.api("STREAM.INFO.S", prefix="$JS.hub.API."))
    rec("publish", js.store("s.x", "m", {"Nats-Msg-Id": "a"}))
    rec("publish again", js.store("s.x", "m", {"Nats-Msg-Id": "a"}))
    rec("consumer by domain", js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": consumer_config({})},
                                     prefix="$JS.hub.API."))
    rec("next by domain", [one.record(True) for one in js.collect(js.begin("S", "C", "1", None, "$JS.hub.API."), 1)])
    rec("direct by domain", js.request("$JS.hub.API.DIRECT.GET.S.s.x").record())
    rec("other domain", js.api("INFO", prefix="$JS.spoke.API."))


@scenario("max_mem: 1MB, max_file: 1MB")
def server_limits(js, rec):
    rec("file, too much", js.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 2_000_000}))
    rec("memory, too much", js.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 2_000_000, "storage": "memory"}))
    rec("half", js.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 600_000}))
    rec("second half", js.api("STREAM.CREATE.T", {"name": "T", "max_bytes": 600_000}))
    rec("info", js.api("INFO"))
    rec("update to all", js.api("STREAM.UPDATE.S", {"name": "S", "max_bytes": 1_040_000}))
    rec("update above", js.api("STREAM.UPDATE.S", {"name": "S", "max_bytes": 1_100_000}))
    js.raw("STREAM.DELETE.S")
    js.stream("M", storage="memory")
    body = "x" * 200_000
    rec("fill memory", [js.store("m.x", body) for _ in range(7)])
    rec("memory state", js.state("M"))
    js.stream("F")
    rec("fill file", [js.store("f.x", body) for _ in range(7)])


@scenario("limits { max_ack_pending: 50, max_request_batch: 20, duplicate_window: 10s }")
def server_asset_limits(js, rec):
    rec("window lowered", js.api("STREAM.CREATE.S", {"name": "S"})["config"])
    rec("window above", js.api("STREAM.CREATE.T", {"name": "T", "duplicate_window": 20 * S}))
    rec("window, pedantic", js.api("STREAM.CREATE.T", {"name": "T", "pedantic": True}))
    rec("pending lowered", js.api("CONSUMER.CREATE.S.C", {"stream_name": "S", "config": consumer_config({})}))
    rec("pending above", js.api("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": consumer_config({
        "durable_name": "D", "max_ack_pending": 60})}))
    rec("batch above", js.api("CONSUMER.CREATE.S.D", {"stream_name": "S", "config": consumer_config({
        "durable_name": "D", "max_batch": 60})}))
    rec("batch, pedantic", js.api("CONSUMER.CREATE.S.D", {"stream_name": "S", "pedantic": True, "config": consumer_config({
        "durable_name": "D"})}))


ACCOUNTS = """accounts {
  A { users: [{ user: a, password: a }], jetstream: { max_mem: 1MB, max_file: 1MB, max_streams: 2, max_consumers: 2,
      max_ack_pending: 100 } }
  B { users: [{ user: b, password: b }], jetstream: { max_bytes_required: true, memory_max_stream_bytes: 1000,
      disk_max_stream_bytes: 2000 } }
  N { users: [{ user: n, password: n }] }
  $SYS { users: [{ user: sys, password: sys }] }
}
no_auth_user: a
"""


@scenario("", ACCOUNTS)
def accounts(js, rec, running):
    rec("A: info", js.api("INFO"))
    rec("A: one", js.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 500_000}))
    rec("A: reservation", js.api("STREAM.CREATE.T", {"name": "T", "max_bytes": 600_000}))
    rec("A: memory reservation", js.api("STREAM.CREATE.T", {"name": "T", "max_bytes": 1_100_000, "storage": "memory"}))
    rec("A: two", js.api("STREAM.CREATE.T", {"name": "T"}))
    rec("A: three", js.api("STREAM.CREATE.U", {"name": "U"}))
    rec("A: reserved", js.api("INFO"))
    rec("A: max consumers above", js.api("STREAM.UPDATE.T", {"name": "T", "max_consumers": 9}))
    for name in ("x", "y", "z"):
        rec("A: consumer " + name, js.api("CONSUMER.CREATE.S." + name, {"stream_name": "S", "config": {
            "durable_name": name, "ack_policy": "explicit"}}))
    rec("A: pending above", js.api("CONSUMER.CREATE.T.p", {"stream_name": "T", "config": {
        "durable_name": "p", "ack_policy": "explicit", "max_ack_pending": 101}}))
    body = "x" * 150_000
    rec("A: fill", [js.store("T", body) for _ in range(8)])
    with jetstream.Js(running, user="b", **{"pass": "b"}) as b:
        rec("B: info", b.api("INFO"))
        rec("B: names, its own", b.api("STREAM.NAMES"))
        rec("B: no bytes", b.api("STREAM.CREATE.S", {"name": "S"}))
        rec("B: too much on disk", b.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 2001}))
        rec("B: too much in memory", b.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 1001, "storage": "memory"}))
        rec("B: enough", b.api("STREAM.CREATE.S", {"name": "S", "max_bytes": 1000, "storage": "memory"}))
        rec("B: update without", b.api("STREAM.UPDATE.S", {"name": "S", "storage": "memory"}))
    with jetstream.Js(running, user="n", **{"pass": "n"}) as n:
        rec("N: info", n.api("INFO", seconds=2))
        rec("N: create", n.api("STREAM.CREATE.S", {"name": "S"}, seconds=2))
        rec("N: names", n.api("STREAM.NAMES", seconds=2))
        rec("N: direct", n.api("DIRECT.GET.S", {"seq": 1}, seconds=2))
    with jetstream.Js(running, user="sys", **{"pass": "sys"}) as admin:
        rec("SYS: info", admin.api("INFO", seconds=2))
        rec("SYS: names", admin.api("STREAM.NAMES", seconds=2))
        rec("SYS: step down", admin.api("META.LEADER.STEPDOWN", seconds=2))
        rec("SYS: remove", admin.api("SERVER.REMOVE", {"peer": "x"}, seconds=2))
        rec("SYS: purge of none", admin.api("ACCOUNT.PURGE.NOPE", seconds=2))
        rec("SYS: purge", admin.api("ACCOUNT.PURGE.A", seconds=2))
        jetstream.wait_for(lambda: js.raw("STREAM.NAMES")["total"] == 0)
        rec("A: names after the purge", js.api("STREAM.NAMES"))


@scenario()
def after_restart(js, rec, running):
    """What streams and consumers look like on the other side of SIGKILL."""
    js.stream("S", max_msgs_per_subject=3, metadata={"a": "b"}, allow_direct=True)
    js.stream("M", storage="memory")
    js.stream("W", retention="workqueue")
    js.stream("GONE")
    for i in range(10):
        js.store("s.%d" % (i % 2), "message %d" % i, {"Nats-Msg-Id": "id%d" % i})
        js.store("w.x", "work %d" % i)
    js.store("m.x", "memory")
    js.raw("STREAM.DELETE.GONE")
    js.raw("STREAM.MSG.DELETE.S", {"seq": 8})
    js.consumer("S", "C", filter_subject="s.1", max_deliver=5)
    js.consumer("W", "Q")
    js.consumer("S", "P", pause_until="2060-01-01T00:00:00Z")
    for one in js.fetch("W", "Q", {"batch": 4, "expires": S}, 4):
        js.request(one.reply, "+ACK")
    for one in js.fetch("S", "C", {"batch": 2, "expires": S}, 2)[:1]:
        js.request(one.reply, "+ACK")
    time.sleep(0.3)
    jetstream.restart(running)
    with jetstream.Js(running) as again:
        rec("names", again.api("STREAM.NAMES"))
        rec("S", again.api("STREAM.INFO.S", {"deleted_details": True, "subjects_filter": ">"}))
        rec("W", again.state("W"))
        rec("C", again.api("CONSUMER.INFO.S.C")["config"])
        rec("P", again.api("CONSUMER.INFO.S.P"))
        rec("Q", {key: again.about("W", "Q")[key] for key in ("ack_floor", "num_ack_pending", "num_pending")})
        rec("duplicate", again.store("s.1", "again", {"Nats-Msg-Id": "id9"}))
        rec("next", again.store("s.1", "new"))
        rec("messages", [again.message("S", seq) for seq in range(4, 13)])


if __name__ == "__main__":
    sys.exit(jetstream.main("js_api", __doc__, REFUSED, DIFFERS))
