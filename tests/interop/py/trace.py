#!/usr/bin/env python3
"""Message tracing: the events of a message, compared with nats-server's (expected/trace.json).

  trace.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]

What differs by nature is blanked: times, the server, client numbers, sizes of documents, and the random part of "_R_."
subjects. Events about receivers have no order in either server and are sorted.
"""

import gzip
import json
import re
import socket
import sys
import time

import compare
import natsclient
import wire
from checks import expect

RESPONSE = re.compile(r"_R_\.[0-9A-Za-z]+(\.[0-9A-Za-z]+)*")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[-+]\d\d:\d\d)")
SHARDS = "shards: 4"
ACCOUNTS = """
accounts {
  A { users: [{ user: a, password: a }]
      exports: [{ service: "open.>", allow_trace: true }, { service: "shut.>" }, { stream: "news.>" }] }
  B { users: [{ user: b, password: b }]
      imports: [{ service: { account: A, subject: "open.*.req" }, to: "my.*.req" }
                { service: { account: A, subject: "shut.req" } }
                { stream: { account: A, subject: "news.>" }, prefix: "far", allow_trace: true } ]
      exports: [{ service: "my.*.req", allow_trace: true }] }
  C { users: [{ user: c, password: c }]
      imports: [{ service: { account: B, subject: "my.x.req" }, to: "chain" }
                { stream: { account: A, subject: "news.>" } }] }
}
"""


class Peer(natsclient.Client):
    """A client whose messages are kept as documents."""

    def __init__(self, s, name, user=None, **fields):
        super().__init__(s.address)
        login = {"user": user, "pass": user} if user else {}
        self.seen = []
        self.connect(name=name, headers=True, no_responders=True, **login, **fields)

    def __exit__(self, *about):
        """Once the server has closed its end too it has forgotten the subscriptions, which the next trace would show."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(65536):
                pass
        except OSError:
            pass  # it was closed already
        super().__exit__(*about)

    def subscribe(self, *subjects):
        for sid, subject in enumerate(subjects, 1):
            self.send(b"SUB %s %d\r\n" % (subject.encode(), sid))
        self.seen += self.settle()
        return self

    def settle(self):
        """Messages up to a PONG."""
        self.send(b"PING\r\n")
        self.receive_until(lambda stream: b"PONG\r\n" in wire.split(stream))
        stream, self.stream = self.stream, b""
        return [plain(m) for m in wire.split(stream) if m and m not in (b"PONG\r\n", b"PING\r\n")]

    def publish(self, subject, headers, reply="", body=b"hello"):
        block = b"NATS/1.0\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"
        words = [subject, reply, str(len(block)), str(len(block) + len(body))]
        self.send(b"HPUB " + " ".join(w for w in words if w).encode() + b"\r\n" + block + body +
                  b"\r\n")
        return self.settle()

    def documents(self, count, seconds=3.0):
        """All that comes until there are `count` messages, and a moment longer."""
        limit = time.monotonic() + seconds
        while True:
            self.seen += self.settle()
            if len(self.seen) >= count or time.monotonic() > limit:
                break
            time.sleep(0.01)
        time.sleep(0.05)
        self.seen += self.settle()
        seen, self.seen = self.seen, []
        return seen


def mask(text):
    return RESPONSE.sub("_R_.*", text)


def trace_document(body):
    """A trace with its varying values blanked; keys stay in their order. What happened to the receivers has no order of its
    own, but what happened in another account comes after the step into it."""
    document = json.loads(body)
    server = document["server"]
    for key in ("name", "host", "id", "ver", "seq", "time", "feature_flags", "flags", "jetstream"):
        expect(key in server, "no %s in %r" % (key, server))
    document["server"] = "*"
    entered = set()
    for event in document["events"]:
        expect(TIME.fullmatch(event["ts"]), "no time: %r" % event)
        event["ts"] = "*"
        if "cid" in event:
            expect(event["cid"] > 0, "no client: %r" % event)
            event["cid"] = "*"
        if event["type"] in ("si", "se"):
            entered.add(event["acc"])
        elif event["type"] == "eg" and "acc" in event:
            expect(event["acc"] in entered, "an account before the step into it: %r" % document)
    begin = [event for event in document["events"] if event["type"] in ("in", "sm")]
    rest = document["events"][len(begin):]
    document["events"] = begin + sorted(rest, key=json.dumps)
    expect(begin[0]["type"] == "in" and all(event["type"] in ("si", "se", "eg") for event in rest),
           "events of another kind or order: %r" % document)
    return mask(json.dumps(document))


def plain(message):
    """A message as text, sizes left out; -ERR as it is."""
    match = wire.HMSG.match(message) or wire.MSG.match(message)
    if not match:
        return message.decode("latin-1")
    verb, subject, sid, reply = (part.decode() if part else "" for part in match.groups()[:4])
    payload = message[match.end():-2]
    header_len = int(match.group(5)) if verb == "HMSG" else 0
    header, body = payload[:header_len], payload[header_len:]
    lines = header.decode("latin-1").split("\r\n")
    lines = ["Nats-Request-Info: *" if line.startswith("Nats-Request-Info:") else line
             for line in lines if line]
    if "Content-Encoding: gzip" in lines:
        body = gzip.decompress(body)
    if body.startswith(b'{"server":'):
        body = trace_document(body).encode()
    text = body.decode("latin-1")
    return mask(" ".join([verb, subject, sid, reply]) + " " + json.dumps(sorted(lines)) + " " +
                text)


def dest(*more):
    return [b"Nats-Trace-Dest: trace", *more]


ONLY = b"Nats-Trace-Only: true"


@compare.scenario(own=SHARDS)
def plain_subscribers(s):
    with Peer(s, "watch") as watch, Peer(s, "one") as one, Peer(s, "two") as two, \
            Peer(s, "pub") as pub:
        watch.subscribe("trace")
        one.subscribe("foo.>", "foo.*", "bar")
        two.subscribe("foo.bar")
        return {"pub": pub.publish("foo.bar", dest()), "trace": watch.documents(1),
                "one": one.documents(2), "two": two.documents(1)}


@compare.scenario(own=SHARDS)
def queue_group(s):
    peers = [Peer(s, "member") for _ in range(6)]
    with Peer(s, "watch") as watch, Peer(s, "pub") as pub:
        watch.subscribe("trace")
        for peer in peers:
            peer.send(b"SUB foo q1 1\r\nSUB * q2 2\r\n")
            peer.settle()
        pub.publish("foo", dest())
        traces = watch.documents(1)
        got = sorted(m for peer in peers for m in peer.documents(0))
        pub.publish("foo", dest(ONLY))
        return {"trace": traces, "got": got, "only": watch.documents(1),
                "then": sorted(m for peer in peers for m in peer.documents(0))}


@compare.scenario(own=SHARDS)
def many_receivers(s):
    peers = [Peer(s, "receiver") for _ in range(16)]
    with Peer(s, "watch") as watch, Peer(s, "pub") as pub:
        watch.subscribe("trace")
        for peer in peers:
            peer.subscribe("foo")
            peer.send(b"SUB foo q 2\r\n")
            peer.settle()
        result = {}
        for what, headers in (("deliver", dest()), ("only", dest(ONLY))):
            for turn in range(3):
                pub.publish("foo", headers)
                result["%s %d" % (what, turn)] = watch.documents(1)
            result[what] = sorted(m for peer in peers for m in peer.documents(0))
        return result


@compare.scenario(own=SHARDS)
def no_interest(s):
    with Peer(s, "watch") as watch, Peer(s, "pub") as pub:
        watch.subscribe("trace")
        pub.subscribe("answer")
        return {"pub": pub.publish("nobody", dest()), "trace": watch.documents(1),
                "request": pub.publish("nobody", dest(), reply="answer"),
                "trace 2": watch.documents(1),
                "only": pub.publish("nobody", dest(ONLY), reply="answer"),
                "trace 3": watch.documents(1)}


@compare.scenario(own=SHARDS)
def only(s):
    with Peer(s, "watch") as watch, Peer(s, "one") as one, Peer(s, "pub") as pub:
        watch.subscribe("trace")
        one.subscribe("foo")
        result = {}
        for value in (b"1", b"true", b"on", b"TRUE", b"On", b"yes", b"0", b"2", b""):
            pub.publish("foo", dest(b"Nats-Trace-Only: " + value))
            result[value.decode()] = [watch.documents(1), one.documents(0)]
        pub.publish("foo", [ONLY])
        result["no destination"] = [watch.documents(0), one.documents(1)]
        pub.subscribe("answer")
        result["request"] = pub.publish("foo", dest(ONLY), reply="answer")
        return result


@compare.scenario()
def receivers_that_do_not_get_it(s):
    with Peer(s, "watch") as watch, Peer(s, "quiet", echo=False) as quiet, Peer(s, "pub") as pub:
        watch.subscribe("trace")
        quiet.subscribe("foo")
        pub.send(b"SUB foo 1\r\nUNSUB 1 2\r\n")
        pub.settle()
        return {"quiet": quiet.publish("foo", dest()), "no echo": watch.documents(1),
                "again": pub.publish("foo", dest()), "second": watch.documents(1),
                "gone": pub.publish("foo", dest()), "third": watch.documents(1)}


@compare.scenario("""mappings: { foo: bar, "w.*": "x.{{wildcard(1)}}.y" }""", own=SHARDS)
def mapping(s):
    with Peer(s, "watch") as watch, Peer(s, "one") as one, Peer(s, "pub") as pub:
        watch.subscribe("trace")
        one.subscribe("bar", "x.>")
        pub.publish("foo", dest())
        first = watch.documents(1)
        pub.publish("w.7", dest(ONLY))
        second = watch.documents(1)
        watch.subscribe("x.to.y")
        pub.publish("bar", [b"Nats-Trace-Dest: w.to"])
        return {"foo": first, "w": second, "destination": watch.documents(0),
                "one": one.documents(2)}


@compare.scenario("""authorization { users: [
  { user: all, password: all }
  { user: u, password: u, permissions: { publish: { deny: ["no.>", "secret.>"] }, subscribe: { deny: "foo.no" } } } ] }""")
def permissions(s):
    with Peer(s, "watch", "all") as watch, Peer(s, "user", "u") as user, \
            Peer(s, "pub", "all") as pub:
        watch.subscribe("trace", "secret.>", "ok", "no.>")
        user.subscribe("foo.*")
        steps = {}

        def step(name, who, *args, **fields):
            steps[name] = [who.publish(*args, **fields), watch.documents(1, 0.5)]

        step("subject", user, "no.way", dest())
        step("destination", user, "ok", [b"Nats-Trace-Dest: secret.x"])
        step("destination only", user, "ok", [b"Nats-Trace-Dest: secret.x", ONLY])
        step("reply", user, "ok", dest(), reply="_R_.x.y")
        step("reserved", user, "_GR_.x.y", dest())
        step("reserved destination", user, "ok", [b"Nats-Trace-Dest: _GR_.x"])
        step("raft destination", user, "ok", [b"Nats-Trace-Dest: $NRG.x"])
        step("denied delivery", pub, "foo.no", dest())
        step("delivery", pub, "foo.yes", dest())
        steps["user"] = user.documents(1)
        return steps


@compare.scenario(own=SHARDS)
def disabled(s):
    with Peer(s, "watch") as watch, Peer(s, "one") as one, Peer(s, "pub") as pub:
        watch.subscribe("trace", "trace.>")
        one.subscribe("foo")
        steps = {}
        for name, headers in (
                ("disabled", [b"Nats-Trace-Dest: trace disabled"]),
                ("disabled only", [b"Nats-Trace-Dest: trace disabled", ONLY]),
                ("disabled second", dest(b"Nats-Trace-Dest: trace disabled")),
                ("origin", dest(b"Nats-Trace-Origin-Account: X")),
                ("origin only", dest(b"Nats-Trace-Origin-Account: X", ONLY)),
                ("wildcard", [b"Nats-Trace-Dest: trace.*"]),
                ("full wildcard", [b"Nats-Trace-Dest: trace.>", ONLY]),
                ("empty token", [b"Nats-Trace-Dest: trace..x"]),
                ("blank inside", [b"Nats-Trace-Dest: trace x"]),
                ("empty", [b"Nats-Trace-Dest:"]),
                ("empty only", [b"Nats-Trace-Dest:", ONLY]),
                ("lower case", [b"nats-trace-dest: trace"]),
                ("blank before the colon", [b"Nats-Trace-Dest : trace"]),
                ("blanks", [b"Nats-Trace-Dest:  \ttrace\t "]),
                ("no blank", [b"Nats-Trace-Dest:trace"]),
                ("two", dest(b"Nats-Trace-Dest: trace.b")),
                ("behind a line without colon", [b"odd", b"Nats-Trace-Dest: trace"]),
                ("behind a key without value", [b"odd:", b"Nats-Trace-Dest: trace"])):
            steps[name] = [pub.publish("foo", headers), watch.documents(0), one.documents(0)]
            if "Nats-Trace-Dest" in str(headers) and not steps[name][1]:
                steps[name][1] = watch.documents(1, 0.1)
        return steps


@compare.scenario(own=SHARDS)
def headers_in_the_document(s):
    with Peer(s, "watch") as watch, Peer(s, "pub \u00fc<&>") as pub:
        watch.subscribe("trace")
        pub.publish("foo", dest(b"b: 2", b"B: 1", b"a: 1", b"a:2", b"a: ", b"a:  3  ", b"ab: x",
                                b"html: <a>&", b"bad: \xff\xfe", b"quote: \"\\\x01\t.",
                                b"long: " + 3000 * b"x", b"colon: a:b:c",
                                b"uni: \xe2\x80\xa8 \xc3\xbc"))
        first = watch.documents(1)
        pub.publish("foo", dest(), body=b"")
        return {"first": first, "second": watch.documents(1)}


@compare.scenario(own=SHARDS)
def encodings(s):
    with Peer(s, "watch") as watch, Peer(s, "pub") as pub:
        watch.subscribe("trace")
        result = {}
        for value in (b"gzip", b"GZIP, deflate", b"br"):
            pub.publish("foo", dest(b"Accept-Encoding: " + value))
            result[value.decode()] = watch.documents(1)
        return result


@compare.scenario("max_payload: 1000")
def too_big(s):
    with Peer(s, "watch") as watch, Peer(s, "one") as one:
        watch.subscribe("trace")
        one.subscribe("foo")
        result = {}
        for name, headers in (("traced", dest()), ("only", dest(ONLY)), ("not", [b"a: b"])):
            with Peer(s, "pub") as pub:
                block = b"NATS/1.0\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"
                pub.send(b"HPUB foo answer %d 5000\r\n" % len(block) + block)
                pub.receive_until(lambda stream: b"Violation'" in stream)
                result[name] = [watch.documents(name != "not"), one.documents(0)]
        return result


PARENT = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-"


@compare.scenario("""accounts {
  A { users: [{ user: a, password: a }], msg_trace: { dest: trace, sampling: "100%" } }
  B { users: [{ user: b, password: b }] } }""", own=SHARDS)
def traceparent(s):
    with Peer(s, "watch", "a") as watch, Peer(s, "pub", "a") as pub, Peer(s, "pub", "b") as other, \
            Peer(s, "one", "b") as one:
        watch.subscribe("trace", "foo")
        one.subscribe("foo")
        result = {}
        for name in (b"traceparent", b"Traceparent", b"TRACEPARENT"):
            pub.publish("foo", [name + b": " + PARENT + b"01"])
            result[name.decode()] = watch.documents(2)
        for flags in (b"00", b"03", b"7f", b"81", b"ff", b"0x", b"1", b"001", b"+1", b"_1"):
            pub.publish("foo", [b"traceparent: " + PARENT + flags])
            result[flags.decode()] = watch.documents(1, 0.1)
        pub.publish("foo", [b"traceparent: " + PARENT + b"01", ONLY])
        result["only"] = watch.documents(2)
        pub.publish("foo", [b"traceparent: " + PARENT + b"01", b"Nats-Trace-Dest: other", ONLY])
        result["both"] = watch.documents(0, 0.1)
        pub.publish("foo", [b"traceparent: x-y-01"])
        result["short"] = watch.documents(1)
        other.publish("foo", [b"traceparent: " + PARENT + b"01"])
        result["no destination"] = one.documents(1)
        return result


@compare.scenario("""accounts { A { users: [{ user: a, password: a }], msg_trace: { dest: trace, sampling: 30 } } }""",
                  own=SHARDS)
def sampling(s):
    """About a third is traced; the others say that they are not."""
    with Peer(s, "watch", "a") as watch, Peer(s, "one", "a") as one, Peer(s, "pub", "a") as pub:
        watch.subscribe("trace")
        one.subscribe("foo")
        for _ in range(400):
            pub.publish("foo", [b"traceparent: " + PARENT + b"01"])
        traced, got = watch.documents(0), one.documents(400)
        told = sum("trace disabled" in message for message in got)
        return {"some": 60 < len(traced) < 200, "all": len(got), "sum": len(traced) + told}


def crossing(s, user, subject, *headers, reply=""):
    with Peer(s, "watch", user) as watch, Peer(s, "far", "a") as far, Peer(s, "near", "b") as near, \
            Peer(s, "third", "c") as third, Peer(s, "pub", user) as pub:
        watch.subscribe("trace")
        far.subscribe("open.>", "shut.>", "news.>", "trace")
        near.subscribe("far.news.>", "my.>")
        near.send(b"SUB far.news.* q 9\r\n")
        third.subscribe("news.>")
        third.settle(), near.settle()
        pub.subscribe("answer")
        said = pub.publish(subject, list(headers), reply=reply)
        return {"pub": said, "trace": watch.documents(1, 0.5), "far": far.documents(0),
                "near": near.documents(0), "third": third.documents(0)}


@compare.scenario(ACCOUNTS, own=SHARDS)
def service_import(s):
    return {"deliver": crossing(s, "b", "my.x.req", *dest()),
            "request": crossing(s, "b", "my.x.req", *dest(), reply="answer"),
            "only": crossing(s, "b", "my.x.req", *dest(ONLY), reply="answer")}


@compare.scenario(ACCOUNTS, own=SHARDS)
def service_import_without_allow_trace(s):
    return {"deliver": crossing(s, "b", "shut.req", *dest()),
            "request": crossing(s, "b", "shut.req", *dest(), reply="answer"),
            "only": crossing(s, "b", "shut.req", *dest(ONLY), reply="answer"),
            "only without reply": crossing(s, "b", "shut.req", *dest(ONLY))}


@compare.scenario(ACCOUNTS, own=SHARDS)
def service_import_chain(s):
    return {"request": crossing(s, "c", "chain", *dest(), reply="answer"),
            "only": crossing(s, "c", "chain", *dest(ONLY), reply="answer")}


@compare.scenario(ACCOUNTS, own=SHARDS)
def service_import_without_responder(s):
    with Peer(s, "watch", "b") as watch, Peer(s, "pub", "b") as pub:
        watch.subscribe("trace")
        pub.subscribe("answer")
        return {"pub": pub.publish("my.x.req", dest(), reply="answer"),
                "trace": watch.documents(1),
                "only": pub.publish("shut.req", dest(ONLY), reply="answer"),
                "trace 2": watch.documents(1)}


@compare.scenario(ACCOUNTS, own=SHARDS)
def stream_import(s):
    return {"deliver": crossing(s, "a", "news.x", *dest()),
            "only": crossing(s, "a", "news.x", *dest(ONLY))}


@compare.scenario(ACCOUNTS, own=SHARDS)
def stream_import_alone(s):
    """Nobody but an importer, whose import does not allow it."""
    result = {}
    for name, headers in (("deliver", dest()), ("only", dest(ONLY))):
        with Peer(s, "watch", "a") as watch, Peer(s, "third", "c") as third, \
                Peer(s, "pub", "a") as pub:
            watch.subscribe("trace")
            third.subscribe("news.x")
            pub.subscribe("answer")
            result[name] = [pub.publish("news.x", headers, reply="answer"), watch.documents(1),
                            third.documents(0)]
    return result


@compare.scenario(ACCOUNTS, own=SHARDS)
def traced_answer(s):
    """The responder asks for a trace of its answer."""
    result = {}
    for name, headers in (("deliver", dest()), ("only", dest(ONLY))):
        with Peer(s, "watch", "a") as watch, Peer(s, "far", "a") as far, Peer(s, "pub", "b") as pub:
            watch.subscribe("trace")
            far.send(b"SUB open.> 1\r\n")
            far.settle()
            pub.subscribe("answer")
            pub.send(b"PUB my.x.req answer 0\r\n\r\n")
            pub.settle()
            far.receive_until(lambda stream: b"open.x.req" in stream)
            reply = re.search(rb"_R_\S+", far.stream).group().decode()
            far.settle()
            far.publish(reply, headers)
            result[name] = [watch.documents(1), pub.documents(0)]
    return result


if __name__ == "__main__":
    sys.exit(compare.main("trace", __doc__))
