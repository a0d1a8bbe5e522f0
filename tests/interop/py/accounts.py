#!/usr/bin/env python3
"""What crosses accounts, where bytes alone do not tell: request info, latency, shares; compared with nats-server.

  accounts.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import json
import os
import re
import subprocess
import sys
import tempfile
import time

import compare
import wire
from compare import scenario


def user(s, who, **fields):
    c = s.client()
    c.connect(user=who, headers=True, no_responders=True, **{"pass": who}, **fields)
    return c


def stable(value, key=""):
    """A document without what differs by nature."""
    if isinstance(value, dict):
        return {name: stable(one, name) for name, one in value.items()}
    if isinstance(value, list):
        return [stable(one, key) for one in value]
    if key in ("server", "id", "timestamp", "start", "jwt", "ver") or key in ("cid", "id", "rtt", "system", "service", "total", "server_id") and isinstance(value, (int, float)):
        return "*"
    if key == "header" or key == "server_id":
        return value
    return value


def deliveries(c, count, seconds=2.0):
    """[subject, reply there?, headers, body] of the next messages."""
    c.receive_until(lambda stream: sum(map(wire.is_delivery, wire.split(stream)[:-1])) >= count, seconds)
    messages = [one for one in wire.split(c.stream) if wire.is_delivery(one)]
    result = []
    for message in messages:
        head, _, rest = message.partition(b"\r\n")
        parts = head.decode().split()
        rest = rest[:-2]
        size = int(parts[-2]) if parts[0] == "HMSG" else 0
        fields = {}
        for line in rest[:size].decode().split("\r\n")[1:]:
            if line:
                name, _, value = line.partition(":")
                fields[name] = value.strip()
        status = rest[:size].decode().split("\r\n")[0] if size else ""
        result.append([parts[1], status, fields, rest[size:].decode("latin-1"), parts])
    c.last = result
    c.stream = b""
    return [[re.sub(r"_R_\..*", "_R_.*", one[0]), one[1], one[2], one[3]] for one in result]


def reply_of(c):
    parts = c.last[-1][4]
    fixed = 5 if parts[0] == "HMSG" else 4
    return parts[3].encode() if len(parts) > fixed else b"nobody"


SERVICES = """accounts {
  A { users: [{ user: a, password: a }], exports: [{ service: "svc.*" }, { service: "open" }] }
  B { users: [{ user: b, password: b }], imports: [
    { service: { account: A, subject: "svc.x" }, to: "shared", share: true },
    { service: { account: A, subject: "svc.y" }, to: "private", share: false },
    { service: { account: A, subject: "open" } } ] }
}"""


@scenario(SERVICES)
def request_info(s):
    result = {}
    with user(s, "a") as a, user(s, "b", name="me", lang="c", version="9") as b:
        a.send(b"SUB > 1\r\n")
        a.ping()
        b.send(b"SUB inbox 1\r\n")
        b.ping()
        for name, data in (("shared", b"PUB shared inbox 1\r\nq\r\n"), ("private", b"PUB private inbox 1\r\nq\r\n"),
                           ("open", b"PUB open inbox 1\r\nq\r\n"), ("no reply", b"PUB shared 1\r\nq\r\n"),
                           ("headers", b"HPUB shared inbox 18 19\r\nNATS/1.0\r\nA: b\r\n\r\nq\r\n"),
                           ("own info", b"HPUB shared inbox 34 35\r\nNATS/1.0\r\nNats-Request-Info: x\r\n\r\n\r\nq\r\n")):
            b.send(data)
            got = deliveries(a, 1)
            for one in got:
                info = one[2].get("Nats-Request-Info")
                if info and info.startswith("{"):
                    one[2]["Nats-Request-Info"] = stable(json.loads(info))
            result[name] = got
    return result


@scenario(SERVICES)
def request_info_and_old_clients(s):
    """A responder without headers does not see it."""
    with s.client() as a, user(s, "b") as b:
        a.connect(user="a", **{"pass": "a"})
        a.send(b"SUB svc.* 1\r\n")
        a.ping()
        b.send(b"PUB shared inbox 1\r\nq\r\n")
        return deliveries(a, 1)


LATENCY = """accounts {
  A { users: [{ user: a, password: a }], exports: [
    { service: "all", latency: { sampling: 100%, subject: "lat.all" } },
    { service: "none", latency: { sampling: 1%, subject: "lat.none" } },
    { service: "head", latency: { sampling: headers, subject: "lat.head" } },
    { service: "late", threshold: "300ms", latency: { sampling: 100, subject: "lat.late" } },
    { service: "lost", latency: { subject: "lat.lost" } } ] }
  B { users: [{ user: b, password: b }], imports: [
    { service: { account: A, subject: "all" }, share: true }, { service: { account: A, subject: "head" } },
    { service: { account: A, subject: "late" } }, { service: { account: A, subject: "lost" } } ] }
}"""


def metric(c, seconds=2.0):
    """The latency messages that came."""
    documents = []
    for one in deliveries(c, 1, seconds):
        document = stable(json.loads(one[3]))
        documents.append([one[0], one[2], document])
    return documents


def request(a, b, data, answer=b"PUB %s 1\r\nr\r\n", count=1):
    b.send(data)
    got = deliveries(a, count)
    if answer:
        a.send(answer % reply_of(a))
        a.ping()
    return len(got)


@scenario(LATENCY)
def latency(s):
    result = {}
    with user(s, "a", name="responder") as a, user(s, "a") as watch, user(s, "b", name="requestor") as b:
        a.send(b"SUB all 1\r\nSUB head 2\r\nSUB late 3\r\n")
        a.ping()
        watch.send(b"SUB lat.> 1\r\n")
        watch.ping()
        b.send(b"SUB inbox 1\r\n")
        b.ping()
        result["answered"] = [request(a, b, b"PUB all inbox 1\r\nq\r\n"), metric(watch)]
        for name, head in (("uber-trace-id", b"Uber-Trace-Id: 1:2:3:1"), ("not sampled", b"Uber-Trace-Id: 1:2:3:0"),
                           ("b3", b"B3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90"),
                           ("b3 denied", b"B3: 0"), ("x-b3", b"X-B3-Sampled: 1"),
                           ("traceparent", b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"),
                           ("traceparent off", b"Traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00"),
                           ("other", b"X: 1")):
            block = b"NATS/1.0\r\n" + head + b"\r\n\r\n"
            data = b"HPUB head inbox %d %d\r\n" % (len(block), len(block) + 1) + block + b"q\r\n"
            result[name] = [request(a, b, data), metric(watch, 0.25)]
        result["no answer in time"] = [request(a, b, b"PUB late inbox 1\r\nq\r\n", None), metric(watch, 2.0)]
        b.send(b"PUB lost inbox 1\r\nq\r\n")
        result["nobody there"] = [metric(watch), deliveries(b, 1)[-1:]]
        b.send(b"PUB all 1\r\nq\r\n")
        result["no reply"] = [metric(watch, 0.5), len(deliveries(a, 1))]
        b.send(b"PUB all inbox 1\r\nq\r\n")
        deliveries(a, 1)
        b.send(b"UNSUB 1\r\n")
        b.ping()
        a.send(b"PUB %s 1\r\nr\r\n" % reply_of(a))
        a.ping()
        result["nobody waits any more"] = metric(watch, 0.5)
    return result


WEIGHTS = """accounts { A { users: [{ user: a, password: a }], mappings: {
  "half": [ { destination: "one", weight: 50% }, { destination: "two", weight: 50% } ],
  "some": [ { destination: "three", weight: 20% } ],
  "lossy": [ { destination: "kept", weight: 60% }, { destination: "lossy", weight: 20% } ]
} } }"""


@scenario(WEIGHTS)
def weights(s):
    """Shares of 4000 messages, within what chance allows (six sigma)."""
    counts = {}
    with user(s, "a", pedantic=False) as c:
        c.send(b"SUB > 1\r\n")
        for _ in range(4):
            c.send(b"PUB half 0\r\n\r\nPUB some 0\r\n\r\nPUB lossy 0\r\n\r\n" * 1000)
            c.receive_until(lambda stream: False, 0.15)
        for message in wire.split(c.stream):
            if wire.is_delivery(message):
                name = message.split(b" ")[1].decode()
                counts[name] = counts.get(name, 0) + 1
    want = {"one": 2000, "two": 2000, "three": 800, "some": 3200, "kept": 2400, "lossy": 800}
    return {"near": all(abs(counts.get(name, 0) - count) < 200 for name, count in want.items()) or counts,
            "names": sorted(counts)}


@scenario(SERVICES.replace('{ service: "open" }', '{ service: "open", response: stream }'))
def queue_responders(s):
    """Requests over an import are shared by a queue group on several connections."""
    workers = [user(s, "a") for _ in range(4)]
    with user(s, "b") as b:
        for c in workers:
            c.send(b"SUB open q 1\r\n")
            c.ping()
        b.send(b"SUB inbox 1\r\n")
        b.send(b"PUB open inbox 1\r\nq\r\n" * 400)
        b.ping()
        counts = []
        for c in workers:
            c.receive_until(lambda stream: False, 0.2)
            counts.append(sum(map(wire.is_delivery, wire.split(c.stream))))
            c.sock.close()
        return {"all": sum(counts), "shared": all(40 < count < 180 for count in counts) or counts}


@scenario("""accounts { A { users: [{ user: a, password: a }], exports: [{ stream: "s" }] }
B { users: [{ user: b, password: b }], imports: [{ stream: { account: A, subject: "s" } }] } }""")
def queue_subscribers(s):
    """A queue group of the importer on several connections gets each message once."""
    workers = [user(s, "b") for _ in range(4)]
    with user(s, "a") as a:
        for c in workers:
            c.send(b"SUB s q 1\r\n")
            c.ping()
        a.send(b"PUB s 1\r\nm\r\n" * 400)
        a.ping()
        counts = []
        for c in workers:
            c.receive_until(lambda stream: False, 0.2)
            counts.append(sum(map(wire.is_delivery, wire.split(c.stream))))
            c.sock.close()
        return {"all": sum(counts), "shared": all(40 < count < 180 for count in counts) or counts}


@scenario(SERVICES)
def many_requests(s):
    """Each of 2000 answers finds the request it belongs to."""
    with user(s, "a") as a, user(s, "b") as b:
        a.send(b"SUB svc.x 1\r\n")
        a.ping()
        b.send(b"SUB inbox.* 1\r\n")
        b.ping()
        b.send(b"".join(b"PUB shared inbox.%d %d\r\n%d\r\n" % (i, len(str(i)), i) for i in range(2000)))
        deliveries(a, 2000, 3)
        requests = a.last
        out = b""
        for one in reversed(requests):
            body = one[3].encode()
            out += b"PUB %s %d\r\n%s\r\n" % (one[4][3].encode(), len(body), body)
        a.send(out)
        deliveries(b, 2000, 3)
        right = sum(one[0] == "inbox." + one[3] for one in b.last)
        return [len(requests), len(b.last), right]


BAD = {
    "private": 'accounts { A { users: [{user: a, password: a}], exports: [{ stream: "s", accounts: [C] }] }, B { imports: [{ stream: { account: A, subject: "s" } }] }, C {} }',
    "private service": 'accounts { A { exports: [{ service: "s", accounts: [C] }] }, B { imports: [{ service: { account: A, subject: "s" } }] }, C {} }',
    "not exported": 'accounts { A { exports: [{ stream: "s" }] }, B { imports: [{ stream: { account: A, subject: "t" } }] } }',
    "wider": 'accounts { A { exports: [{ stream: "s.a" }] }, B { imports: [{ stream: { account: A, subject: "s.*" } }] } }',
    "stream as a service": 'accounts { A { exports: [{ stream: "s" }] }, B { imports: [{ service: { account: A, subject: "s" } }] } }',
    "no such account": 'accounts { B { imports: [{ stream: { account: X, subject: "s" } }] } }',
    "a cycle": 'accounts { A { exports: [{ service: "x" }], imports: [{ service: { account: B, subject: "x" } }] }, B { exports: [{ service: "x" }], imports: [{ service: { account: A, subject: "x" } }] } }',
    "wrong token": 'accounts { A { exports: [{ stream: "s.*", account_token_position: 2 }] }, B { imports: [{ stream: { account: A, subject: "s.C" } }] } }',
    "position without a wildcard": 'accounts { A { exports: [{ stream: "s.x", account_token_position: 2 }] } }',
}


@scenario()
def refused_files(s):
    """Whether such a file is refused, with -t."""
    result = {}
    for name, text in BAD.items():
        with tempfile.NamedTemporaryFile("w", suffix=".conf") as file:
            file.write(text + "\n")
            file.flush()
            done = subprocess.run([s.server.binary, "-t", "-c", file.name], capture_output=True, timeout=10, check=False)
            said = (done.stdout + done.stderr).decode()
            said = re.sub(r"^\S+: ", "", said.strip().split("\n")[0]).replace(file.name, "FILE").replace(os.path.basename(file.name), "FILE")
            result[name] = [done.returncode, re.sub(r" \(?sha256.*", "", said)]
    return result


@scenario("accounts { A { users: [{ user: a, password: a }] }, SYS { users: [{ user: b, password: b }] } }\nsystem_account: SYS")
def system_account(s):
    with user(s, "a") as a, user(s, "b", protocol=1) as sys_user:
        info = sys_user.connect(user="b", protocol=1, **{"pass": "b"})
        a.send(b"SUB $SYS.> 1\r\nSUB inbox 2\r\n")
        a.ping()
        sys_user.send(b"PUB $SYS.test 1\r\nx\r\n")
        sys_user.ping()
        a.send(b"PUB $SYS.REQ.SERVER.PING inbox 0\r\n\r\n")
        time.sleep(0.2)
        return {"info": info, "outside": [one[:2] for one in deliveries(a, 1, 0.3)]}


if __name__ == "__main__":
    sys.exit(compare.main("accounts", __doc__))
