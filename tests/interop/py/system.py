#!/usr/bin/env python3
"""The system account, compared with the real nats-server: every event and every request service.

  system.py --server PATH [--only TEXT]

The same steps run against both servers; what comes back is compared: headers, keys, their order, the types of
values, and the texts that do not vary by nature. Without nats-server the comparisons are skipped, without the
`nats` tool its commands. The last line printed is "system: N passed, N failed, N skipped".
"""

import contextlib
import gzip
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time

import server as servers
from checks import Skipped, expect, run_checks
from server import Server, ServerError

CONFIG = """
server_name: one
server_tags: ["az:1", "east"]
server_metadata: { rack: "7" }
accounts {
  $SYS { users: [{user: admin, password: pw}] }
  A { users: [
      {user: a, password: a}
      {user: p, password: p, permissions: {
        publish: {allow: ["foo", "$SYS.REQ.>"], deny: ["bar"]}
        subscribe: {allow: [">"], deny: ["baz q"]}
        allow_responses: {max: 3, ttl: "5s"} }}
    ] }
  B { users: [{user: b, password: b}] }
}
"""
CONNECT = ('CONNECT {"verbose":false,"headers":true,"no_responders":true,"protocol":1,"user":"%s",'
           '"pass":"%s","name":"probe","lang":"py","version":"1.0"}\r\nPING\r\n')

# Values of these keys differ from run to run or from server to server; only their type is compared.
VARYING = {"id", "server_id", "ver", "version", "go", "time", "timestamp", "start", "stop", "now", "uptime",
           "idle", "last_activity", "rtt", "port", "config_load_time", "config_digest", "update_time", "sid",
           "git_commit", "feature_flags"}
# Lists and objects that name what only one of the servers has inside.
OPAQUE = {"feature_flags", "memstats", "cmdline", "subscriptions_list", "accounts", "sublist_stats"}
# Members of documents that ringbus does not have: imports that nats-server gives every account, switches between its
# own versions.
ABSENT = {"imports", "feature_flags"}
REQUEST_SECONDS = 2.0
SILENCE_SECONDS = 0.3


class Conn:
    """A client that understands MSG and HMSG."""

    def __init__(self, address, user, password):
        self.sock = socket.create_connection(address, 5)
        self.buffer = b""
        self.count = 0
        self.info = json.loads(self.line()[len(b"INFO "):])
        self.send(CONNECT % (user, password))
        while self.line() != b"PONG":
            pass

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        """Reads to the end first: bytes left unread would make the close a reset."""
        try:
            self.sock.shutdown(socket.SHUT_WR)
            while self.sock.recv(1 << 18):
                pass
        except OSError:
            pass
        self.sock.close()

    def send(self, text):
        self.sock.sendall(text.encode())

    def fill(self):
        data = self.sock.recv(1 << 18)
        if not data:
            raise ConnectionError("closed by the server")
        self.buffer += data

    def line(self):
        while b"\r\n" not in self.buffer:
            self.fill()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def message(self, seconds):
        """(subject, headers, payload) of the next message; None when none comes in time."""
        self.sock.settimeout(seconds)
        try:
            while True:
                line = self.line()
                if line == b"PING":
                    self.send("PONG\r\n")
                if not line.startswith((b"MSG ", b"HMSG ")):
                    continue
                parts = line.split(b" ")
                size, head = int(parts[-1]), int(parts[-2]) if parts[0] == b"HMSG" else 0
                while len(self.buffer) < size + 2:
                    self.fill()
                data, self.buffer = self.buffer[:size], self.buffer[size + 2:]
                return parts[1].decode(), data[:head], data[head:]
        except (socket.timeout, TimeoutError):
            return None
        finally:
            self.sock.settimeout(5)

    def subscribe(self, subject):
        self.send("SUB %s 1\r\nPING\r\n" % subject)
        while self.line() != b"PONG":
            pass

    def request(self, subject, body="", headers="", silent=False):
        """(headers, payload) of the answer, or None."""
        self.count += 1
        inbox = "_INBOX.system.%d" % self.count
        self.send("SUB %s i%d\r\nUNSUB i%d 1\r\n" % (inbox, self.count, self.count))
        if headers:
            head = "NATS/1.0\r\n%s\r\n\r\n" % headers
            self.send("HPUB %s %s %d %d\r\n%s%s\r\n"
                      % (subject, inbox, len(head), len(head) + len(body), head, body))
        else:
            self.send("PUB %s %s %d\r\n%s\r\n" % (subject, inbox, len(body), body))
        while True:
            found = self.message(SILENCE_SECONDS if silent else REQUEST_SECONDS)
            if found is None or found[0] == inbox:
                return found and found[1:]


# --- comparable forms ----------------------------------------------------------------------------

def shape(value, key=None, inner=False):
    """The value without what varies; objects as lists of (key, value), so that their order counts."""
    inner = inner or key == "data"
    if key in OPAQUE:
        return "..."
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return [(name, shape(item, name, inner)) for name, item in value
                if not (inner and name in ABSENT)]
    if isinstance(value, list):
        items = sorted({repr(shape(item, None, inner)) for item in value})
        return ["list", items]
    if isinstance(value, bool) or value is None:
        return value
    if isinstance(value, (int, float)):
        return "number"
    return "text" if key in VARYING else value


def document(payload, server_id):
    text = payload.decode().replace(server_id, "ID")
    try:
        return shape(json.loads(text, object_pairs_hook=lambda pairs: pairs or ["{}"]))
    except ValueError:
        return text


def compare(label, ours, theirs):
    expect(ours == theirs, "%s differs:\n  nats-server: %r\n  ringbus:     %r" % (label, theirs, ours))


# --- scenarios: each yields (label, comparable) ---------------------------------------------------

def server_id_of(conn):
    return conn.info["server_id"]


def events(server):
    """Connect, disconnect, refused login, accounts' connections."""
    with Conn(server.address, "admin", "pw") as system:
        sid = server_id_of(system)
        system.subscribe("$SYS.ACCOUNT.>")
        system.send("SUB $SYS.SERVER.ACCOUNT.> 2\r\nSUB $SYS.SERVER.*.CLIENT.AUTH.ERR 3\r\nPING\r\n")
        with Conn(server.address, "a", "a") as client:
            client.send("PUB x 3\r\nabc\r\nPING\r\n")
            client.line()
        try:
            Conn(server.address, "a", "wrong")
        except ConnectionError:
            pass
        found = []
        while True:
            message = system.message(1.0)
            if message is None:
                break
            if ".$SYS." in message[0]:
                continue  # our own: nats-server tells of it before or after we listen
            found.append((message[0].replace(sid, "ID"), document(message[2], sid)))
        # Events of different connections may cross.
        for subject in sorted({subject for subject, _ in found}):
            yield subject, [doc for name, doc in found if name == subject]
        mine = [subject for subject, _ in found if ".A." in subject]
        yield "order", mine


def statsz(server):
    with Conn(server.address, "admin", "pw") as system:
        sid = server_id_of(system)
        system.subscribe("$SYS.SERVER.*.STATSZ")
        yield "heartbeat", [system.message(11)[0].replace(sid, "ID")]
        system.send("PUB $SYS.REQ.SERVER.PING 0\r\n\r\n")  # no reply: broadcast now
        message = system.message(2)
        yield "broadcast", message and document(message[2], sid)


def requests(server):
    names = ("IDZ STATSZ VARZ SUBSZ CONNZ ROUTEZ GATEWAYZ LEAFZ ACCOUNTZ JSZ HEALTHZ PROFILEZ EXPVARZ "
             "RAFTZ").split()
    with Conn(server.address, "admin", "pw") as system, Conn(server.address, "a", "a") as client:
        client.subscribe("orders")
        sid = server_id_of(system)
        for name in names:
            for target in ("PING", sid):
                head, payload = system.request("$SYS.REQ.SERVER.%s.%s" % (target, name))
                found = document(payload, sid)
                if name == "EXPVARZ":
                    found = sorted(found[1][1])
                yield "%s.%s" % (target.replace(sid, "ID"), name), (head, found)
        head, payload = system.request("$SYS.REQ.SERVER.PING")
        yield "PING", (head, document(payload, sid))
        for account in ("A", "nope", "PING"):
            for name in "SUBSZ CONNZ LEAFZ JSZ INFO STATZ CONNS".split():
                silent = account != "A" and name in ("STATZ", "CONNS")
                answer = system.request("$SYS.REQ.ACCOUNT.%s.%s" % (account, name), silent=silent)
                found = answer and document(answer[1], sid)
                yield "ACCOUNT.%s.%s" % (account, name), found


def options(server):
    bodies = [("STATSZ", body) for body in (
        "null", "{", "x", "[]", "1", '"a"', " ", "tru", '{"a":}', '{"a" 1}', '{"a":1,}', '{"a":"\\x"}',
        '{"server_name":1}', '{"tags":"a"}', '{"tags":[1]}', '{"exact_match":1}', '{"server_name":"one"} x',
        '{"server_name":"on"}', '{"server_name":"on","exact_match":true}', '{"SERVER_NAME":"one"}',
        '{"tags":["EAST"]}', '{"tags":["east","west"]}', '{"host":"127"}', '{"cluster":"c"}', '{"domain":"d"}')]
    bodies += [("CONNZ", body) for body in (
        "{", "[]", '{"server_name":1}', '{"limit":"a"}', '{"cid":-1}', '{"sort":"zz"}', '{"sort":1}',
        '{"limit":1}', '{"acc":"A"}', '{"user":"admin","auth":true}', '{"state":1}')]
    bodies += [("SUBSZ", '{"subscriptions":1}'), ("ACCOUNTZ", '{"account":"nope"}'),
               ("ACCOUNTZ", '{"account":"A"}'), ("PROFILEZ", '{"name":"zzz"}')]
    with Conn(server.address, "admin", "pw") as system:
        sid = server_id_of(system)
        for name, body in bodies:
            answer = system.request("$SYS.REQ.SERVER.PING." + name, body, silent=True)
            yield "%s %s" % (name, body), answer and (answer[0], document(answer[1], sid))


def commands(server):
    with Conn(server.address, "admin", "pw") as system:
        sid = server_id_of(system)
        for name in ("KICK", "LDM"):
            for body in ("", "{", '{"cid":999}', '{"cid":"a"}', '{"cid":999,"server_name":"zz"}'):
                answer = system.request("$SYS.REQ.SERVER.%s.%s" % (sid, name), body, silent=True)
                yield "%s %s" % (name, body), answer and document(answer[1], sid)
        with Conn(server.address, "a", "a") as client:
            body = '{"cid":%d}' % client.info["client_id"]
            client.send("PING\r\n")
            time.sleep(0.2)
            answer = system.request("$SYS.REQ.SERVER.%s.LDM" % sid, body)
            yield "LDM", document(answer[1], sid)
            client.send("PING\r\n")  # nats-server sends the INFO along with something else
            while True:
                line = client.line()
                if line.startswith(b"INFO ") and b'"ldm":true' in line:
                    break
            answer = system.request("$SYS.REQ.SERVER.%s.KICK" % sid, body)
            yield "KICK", document(answer[1], sid)
            try:
                while True:
                    client.line()
            except ConnectionError:
                pass


def imported(server):
    with Conn(server.address, "a", "a") as a, Conn(server.address, "p", "p") as p, \
            Conn(server.address, "b", "b"), Conn(server.address, "admin", "pw") as system:
        sid = server_id_of(a)
        for who, conn in (("a", a), ("p", p), ("admin", system)):
            answer = conn.request("$SYS.REQ.USER.INFO")
            yield "USER.INFO of " + who, document(answer[1], sid)
        for subject in ("$SYS.REQ.ACCOUNT.PING.CONNZ", "$SYS.REQ.SERVER.PING.CONNZ",
                        "$SYS.REQ.ACCOUNT.PING.STATZ"):
            for body in ("", '{"acc":"B","accounts":["B"]}', "{", '{"server_name":"zz"}'):
                answer = a.request(subject, body, silent=True)
                yield "%s %s" % (subject, body), answer and document(answer[1], sid)
        for subject in ("$SYS.REQ.SERVER.PING", "$SYS.REQ.ACCOUNT.A.CONNZ", "$SYS.REQ.SERVER.PING.VARZ",
                        "$SYS.REQ.USER.A.INFO", "$SYS.DEBUG.SUBSCRIBERS", "$SYS.REQ.SERVER.%s.KICK" % sid):
            yield subject.replace(sid, "ID"), a.request(subject)[0].replace(sid.encode(), b"ID")


def counted(server):
    with Conn(server.address, "a", "a") as a, Conn(server.address, "p", "p") as p, \
            Conn(server.address, "admin", "pw") as system:
        for conn in (a, p):
            conn.subscribe("orders.eu")
            conn.send("SUB orders.* workers 2\r\nPING\r\n")
            conn.line()
        for body in ('{"acc":"A","subject":"orders.eu"}', '{"acc":"A","subject":"orders.>"}',
                     '{"acc":"A","subject":"orders.us"}',
                     '{"acc":"A","subject":"orders.eu","queue":"d29ya2Vycw=="}', '{"acc":"nope","subject":"a"}',
                     "", "{"):
            yield "NSUBS " + body, system.request("$SYS.REQ.ACCOUNT.NSUBS", body, silent=True)
        for body in ("", "orders.eu", "_INBOX.none", "a b"):
            yield "SUBSCRIBERS " + body, system.request("$SYS.DEBUG.SUBSCRIBERS", body)


def encodings(server):
    with Conn(server.address, "admin", "pw") as system:
        sid = server_id_of(system)
        for name in ("IDZ", "STATSZ", "LEAFZ"):
            for encoding in ("gzip", "br", "x, GZIP"):
                head, payload = system.request("$SYS.REQ.SERVER.PING." + name,
                                               headers="Accept-Encoding: " + encoding)
                if b"gzip" in head:
                    payload = gzip.decompress(payload)
                yield "%s %s" % (name, encoding), (head, document(payload, sid))


def shutdown(server):
    system = Conn(server.address, "admin", "pw")
    sid = server_id_of(system)
    system.subscribe("$SYS.SERVER.>")
    server.stop()
    while True:
        message = system.message(3)
        if message is None or "SHUTDOWN" in message[0]:
            break
    yield "SHUTDOWN", message and (message[0].replace(sid, "ID"), document(message[2], sid))
    system.sock.close()


SCENARIOS = [("events", events), ("statsz", statsz), ("requests", requests), ("options", options),
             ("commands", commands), ("imported", imported), ("counted", counted), ("encodings", encodings),
             ("shutdown", shutdown)]


@contextlib.contextmanager
def start(binary):
    """A running server, ended afterwards."""
    config = CONFIG + ("shards: 3\n" if servers.is_ringbus(binary) else "")
    server = Server(binary, config=config)
    try:
        server.start()
    except ServerError as error:
        missing = re.search(r"[^\n]*not supported by ringbus yet[^\n]*", str(error))
        if missing:
            raise Skipped(missing.group(0).strip()) from error
        raise
    try:
        yield server
    finally:
        server.stop()


def scenario(steps, binary):
    oracle = servers.find_oracle()
    if oracle is None:
        raise Skipped("nats-server is not installed")
    results = []
    for path in (binary, oracle):
        with start(path) as server:
            results.append(list(steps(server)))
    ours, theirs = dict(results[0]), dict(results[1])
    for label, wanted in theirs.items():
        compare(label, ours.get(label), wanted)
    expect(list(ours) == list(theirs), "more than nats-server says: %s" % sorted(set(ours) - set(theirs)))


# --- the nats tool -------------------------------------------------------------------------------

COMMANDS = [
    ("server list", "one"), ("server ping", "one"), ("server info", "one"),
    ("server report connections", "Connections"), ("server report accounts", "Account"),
    ("server report cpu", "one"), ("server report mem", "one"), ("server report health", "ok (200)"),
    ("server report routes", "Cluster Report"), ("server report gateways", "one"),
    ("server report leafnodes", "Leafnode Report"),
    ("server request variables", "server_id"), ("server request connections", "num_connections"),
    ("server request subscriptions", "num_subscriptions"), ("server request accounts", "accounts"),
    ("server request jetstream-health", "status"), ("server request jetstream", "disabled"),
    ("server request leafnodes", "leafnodes"), ("server request routes", "num_routes"),
    ("server request gateways", "outbound_gateways"), ("server request ipqueue", "server"),
    ("server request raft", "server"),
    ("server account info A", "Account information"), ("account info", "$SYS"),
    ("account report connections", "Connections"), ("account report statistics", "Statistics"),
    ("server check connection", "OK"), ("server check server --name one", "OK"), ("rtt", "127.0.0.1"),
]


def find_cli():
    found = shutil.which("nats") or os.path.expanduser("~/go/bin/nats")
    if not os.access(found, os.X_OK):
        raise Skipped("the nats tool is not installed")
    return found


def cli(binary):
    tool = find_cli()
    with start(binary) as server, Conn(server.address, "a", "a"):
        base = [tool, "-s", "nats://admin:pw@127.0.0.1:%d" % server.port]
        for line, wanted in COMMANDS:
            done = subprocess.run(base + line.split(), capture_output=True, timeout=20, check=False,
                                  stdin=subprocess.DEVNULL, env=dict(os.environ, HOME="/nonexistent"))
            text = (done.stdout + done.stderr).decode("utf-8", "replace")
            expect(done.returncode == 0, "nats %s ended with %d: %s" % (line, done.returncode, text[-400:]))
            expect(wanted in text, "nats %s: %r is not in %s" % (line, wanted, text[:600]))


def cli_events(binary):
    tool = find_cli()
    with start(binary) as server:
        watch = subprocess.Popen([tool, "-s", "nats://admin:pw@127.0.0.1:%d" % server.port, "events", "--all"],
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                 env=dict(os.environ, HOME="/nonexistent"))
        try:
            time.sleep(1.0)
            with Conn(server.address, "a", "a"):
                pass
            time.sleep(1.0)
        finally:
            watch.terminate()
        text = watch.communicate(timeout=10)[0].decode("utf-8", "replace")
        for wanted in ("Client Connection", "Client Disconnect"):
            expect(wanted in text, "nats events did not show %r: %s" % (wanted, text[:800]))


CHECKS = [("compare " + name, lambda binary, steps=steps: scenario(steps, binary))
          for name, steps in SCENARIOS] + [("nats tool", cli), ("nats events", cli_events)]


def cases(binary):
    return [(name, lambda check=check: check(binary)) for name, check in CHECKS]


if __name__ == "__main__":
    sys.exit(run_checks("system", __doc__, cases))
