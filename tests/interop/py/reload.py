#!/usr/bin/env python3
"""SIGHUP: what happens to connections, log, files and certificates; compared with the real nats-server.

  reload.py --server PATH [--only TEXT]

Each case starts a server, connects a client, replaces the configuration and sends SIGHUP. Where nats-server is installed
the same is done to it, and what the client saw must be the same, but for the differences that the table names. The last line
printed is "reload: N passed, N failed, N skipped".
"""

import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import process
import server as servers
from checks import Failed, Skipped, expect, no_oracle, run_checks
from process import Client
from server import Server

LISTEN = 'listen: "127.0.0.1:-1"\n'


class Running:
    """A server with a configuration file that can be replaced."""

    def __init__(self, binary, text, args=()):
        self.directory = tempfile.mkdtemp(prefix="reload-")
        self.path = os.path.join(self.directory, "server.conf")
        self.write(text)
        self.server = Server(binary, ["-c", self.path, *args], base_args=())
        self.count = 0

    def __enter__(self):
        self.server.start()
        return self

    def __exit__(self, *unused):
        self.server.stop()
        shutil.rmtree(self.directory, ignore_errors=True)

    def write(self, text):
        with open(self.path, "w", encoding="utf-8") as file:
            file.write(LISTEN + text)

    def lines(self):
        """What was logged, without the head of the lines."""
        return [re.sub(r"^\[\d+\] (\S+ \S+ )?", "", line) for line in self.server.log().splitlines()]

    def reload(self, text=None):
        """True when it was done; the line that says so."""
        if text is not None:
            self.write(text)
        self.server.process.send_signal(signal.SIGHUP)
        self.count += 1

        def over():
            return [line for line in self.lines() if "Reloaded server configuration" in line or
                    "Failed to reload" in line]
        limit = time.monotonic() + 10
        while len(over()) < self.count and time.monotonic() < limit:
            time.sleep(0.01)
        expect(len(over()) >= self.count, "no word of the reload in:\n" + self.server.log())
        return "Reloaded" in over()[-1], over()[-1]


def seen_by(client, seconds=0.4):
    """What a client is sent from now on until PONG, its end, or silence: names of operations and errors."""
    seen = []
    client.sock.settimeout(seconds)
    try:
        client.send(b"PING\r\n")
        while True:
            line = client.line()
            seen.append(line.decode().split(" ")[0] if line.startswith((b"INFO", b"PONG"))
                        else line.decode())
    except socket.timeout:
        pass
    except OSError:
        seen.append("closed")
    return seen


ONE = 'authorization { user: a, password: b }'
USERS = 'authorization { users [ {user: a, password: b}, {user: x, password: y} ] }'
AS_A = '{"verbose":false,"user":"a","pass":"b"}'
NOBODY = '{"verbose":false}'
TOKEN = '{"verbose":false,"auth_token":"t"}'
VIOLATION = "-ERR 'Authorization Violation'"
ACCOUNTS = "accounts {\n A { users [ {user: %s, password: b} ] }\n B { users [ {user: %s, password: b} ] }\n}"

# name, before, after, CONNECT, what ringbus' client sees, what nats-server's sees when that is another thing.
CASES = (
    ("a login is required now", "", ONE, NOBODY, [VIOLATION, "closed"], None),
    ("users are required now", "", USERS, NOBODY, [VIOLATION, "closed"], None),
    ("nothing changes for a user", USERS, USERS + "\nmax_payload: 2000", AS_A, ["PONG"], None),
    # nats-server closes all clients of the single user at each reload
    ("nothing changes for the single user", ONE, ONE, AS_A, ["PONG"], ["closed"]),
    ("another password of the single user", ONE, ONE.replace("b }", "c }"), AS_A,
     ["closed"], None),
    ("the single user becomes one of several", ONE, USERS, AS_A, ["PONG"], None),
    ("another token", "authorization { token: t }", "authorization { token: u }", TOKEN,
     [VIOLATION, "closed"], None),
    ("no token any more", "authorization { token: t }", "", TOKEN, ["PONG"], None),
    ("another password", USERS, USERS.replace("password: b", "password: c"), AS_A,
     [VIOLATION, "closed"], None),
    ("the user is gone", USERS, USERS.replace("user: a", "user: c"), AS_A, ["closed"], None),
    ("no users any more", USERS, "", AS_A, ["closed"], None),
    ("the user moves to another account", ACCOUNTS % ("a", "c"), ACCOUNTS % ("c", "a"), AS_A,
     ["closed"], None),
    ("the subscription is forbidden", USERS,
     USERS.replace("password: b", 'password: b, permissions: {subscribe: "x"}'), AS_A,
     ['-ERR \'Permissions Violation for Subscription to "foo" (sid "1")\'', "PONG"], None),
    ("a smaller max_payload", "", "max_payload: 10", NOBODY, ["PONG"], None),
    ("no connections", "", "max_connections: 0", NOBODY,
     ["-ERR 'maximum connections exceeded'", "closed"], None),
    # nats-server tells only in a cluster
    ("client_advertise", "", 'client_advertise: "h.example:99"', '{"verbose":false,"protocol":1}',
     ["INFO", "PONG"], ["PONG"]),
)


def outcome(binary, before, after, connect):
    with Running(binary, before) as running:
        with Client(running.server.address, connect) as client:
            client.send(b"SUB foo 1\r\n")
            client.flush()
            if "protocol" in connect:
                client.sock.settimeout(2)
                expect(client.line().startswith(b"INFO"), "no INFO after the first PONG")
            done, line = running.reload(after)
            expect(done, line)
            return seen_by(client)


def check_case(binary, oracle, case):
    _, before, after, connect, wanted, other = case
    seen = outcome(binary, before, after, connect)
    expect(seen == wanted, "the client saw %r instead of %r" % (seen, wanted))
    if oracle is not None:
        seen = outcome(oracle, before, after, connect)
        expect(seen == (other or wanted), "nats-server's client saw %r" % seen)


REFUSED = (
    ("max_pending: 1000000\nmax_payload: 1000", "max_pending: 2000000\nmax_payload: 1000"),
    ("", "max_subs: 5"), ("", 'server_name: "n"'), ("", "http_port: -1"),
    ("", 'lame_duck_duration: "40s"'), ("", "no_header_support: true"),
)


def check_refused(binary, oracle):
    """One change that cannot be made refuses all; the words are nats-server's."""
    for before, after in REFUSED:
        with Running(binary, before) as running:
            done, line = running.reload(after + "\ndebug: true")
            expect(not done, "%r was accepted" % after)
            expect(not any("Reloaded: debug" in text for text in running.lines()), "half was done")
            with Client(running.server.address) as client:
                client.flush()
        if oracle is not None:
            with Running(oracle, before) as running:
                _, other = running.reload(after + "\ndebug: true")
                wanted = re.sub(r"(old|new)=.*", r"\1", other)
                expect(re.sub(r"(old|new)=.*", r"\1", line) == wanted, "%r is not %r" % (line, other))


def check_bad_file(binary, oracle):
    with Running(binary, "") as running:
        done, line = running.reload("nonsense: 1")
        expect(not done and "unknown field" in line, line)
        os.unlink(running.path)
        done, line = running.reload()
        expect(not done and "no such file" in line, line)
        done, _ = running.reload("")
        expect(done, "a good file after bad ones")
    with Server(binary) as server: # no file at all
        server.process.send_signal(signal.SIGHUP)
        expect(server.wait_line(lambda text: "can only reload config when a file is provided" in text, 5),
               server.log())


def check_log_and_files(binary, oracle):
    with Running(binary, "") as running:
        one, two, pid, ports = (os.path.join(running.directory, name)
                                for name in ("one.log", "two.log", "pid", "ports"))
        os.mkdir(ports)
        running.write('debug: true\npid_file: "%s"\nports_file_dir: "%s"\n' % (pid, ports))
        done, line = running.reload()
        expect(done, line)
        expect("[INF] Reloaded: debug = true" in running.lines(), running.server.log())
        with open(pid, encoding="ascii") as file:
            expect(file.read() == str(running.server.pid), "the pid file")
        expect(len(os.listdir(ports)) == 1, "no ports file")
        with Client(running.server.address) as client:
            client.flush()
        expect(running.server.wait_line(lambda text: "[DBG]" in text, 5), "no debug lines")
        running.write('log_file: "%s"\n' % one)
        running.server.process.send_signal(signal.SIGHUP)
        text = process.wait_for(one, lambda text: "Reloaded server configuration" in text)
        expect("Reloaded: log_file = " + one in text, "the new log holds %r" % text)
        expect(not os.path.exists(pid) and os.listdir(ports) == [], "old files stay")
        running.write('log_file: "%s"\n' % os.path.join(running.directory, "no", "where"))
        running.server.process.send_signal(signal.SIGHUP)
        text = process.wait_for(one, lambda text: "Failed to reload" in text)
        expect("no/where" in text, "the old log says %r" % text)
        running.write('log_file: "%s"\n' % two)
        running.server.process.send_signal(signal.SIGHUP)
        process.wait_for(two, lambda text: "Reloaded server configuration" in text)


def certificate(directory, name):
    cert, key = (os.path.join(directory, name + end) for end in (".pem", ".key"))
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
                    "-nodes", "-keyout", key, "-out", cert, "-days", "30", "-subj", "/CN=" + name,
                    "-addext", "subjectAltName=IP:127.0.0.1"], check=True, capture_output=True)
    return cert, key


def served_by(address):
    """The certificate's bytes."""
    with socket.create_connection(address, 5) as sock:
        sock.recv(4096)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(sock) as secure:
            return secure.getpeercert(binary_form=True)


def check_certificates(binary, oracle):
    if shutil.which("openssl") is None:
        raise Skipped("openssl is not installed")
    with tempfile.TemporaryDirectory() as directory:
        cert, key = certificate(directory, "one")
        text = 'tls { cert_file: "%s", key_file: "%s" }\n' % (cert, key)
        with Running(binary, text) as running:
            first = served_by(running.server.address)
            other = certificate(directory, "two")
            os.replace(other[0], cert)
            os.replace(other[1], key)
            done, line = running.reload() # the same names, other bytes
            expect(done, line)
            second = served_by(running.server.address)
            expect(first != second, "the old certificate is still served")
            with open(key, "w", encoding="ascii") as file:
                file.write("no key")
            done, line = running.reload()
            expect(not done, "a broken key was taken: " + line)
            expect(served_by(running.server.address) == second, "the reload that failed changed it")
            done, line = running.reload("")
            expect(done, line)
            with Client(running.server.address) as client:
                expect("tls_required" not in client.info, "TLS is still required")
                client.flush()


def check_max_connections(binary, oracle):
    with Running(binary, "") as running:
        clients = [Client(running.server.address) for _ in range(20)]
        for client in clients:
            client.flush()
        done, line = running.reload("max_connections: 8")
        expect(done, line)
        seen = [seen_by(client, 0.2) for client in clients]
        closed = [one for one in seen if one != ["PONG"]]
        expect(len(closed) == 12, "%d of 20 were closed" % len(closed))
        expect(all(one == ["-ERR 'maximum connections exceeded'", "closed"] for one in closed), repr(closed))
        for client in clients:
            client.sock.close()


def check_load_time(binary, oracle):
    with Running(binary, 'http: "127.0.0.1:-1"\n') as running:
        found = re.search(r"Starting http monitor on 127\.0\.0\.1:(\d+)", running.server.log())
        expect(found, "no monitor")

        def varz():
            with urllib.request.urlopen("http://127.0.0.1:%s/varz" % found.group(1), timeout=5) as answer:
                return json.load(answer)
        before = varz()
        done, line = running.reload('http: "127.0.0.1:-1"\nmax_payload: 5000\n')
        expect(done, line)
        after = varz()
        expect(before["config_load_time"] != after["config_load_time"], "config_load_time stays")
        expect(after["max_payload"] == 5000, "max_payload is %r" % after["max_payload"])


FLOW = """
shards: 2
accounts {
  EXP { users [ {user: e, password: p} ]
    exports [ {stream: "s.>"}, {service: "req"} ] }
  IMP { users [ {user: i, password: p} ]
    imports [ {stream: {account: EXP, subject: "s.>"}, prefix: "in"}, {service: {account: EXP, subject: "req"}, to: "ask"} ]
    mappings { "old.*": "new.$1" } }
  %s
}
"""


def check_flow(binary, oracle):
    """Messages through imports and mappings while reloads come: none is lost, none comes twice."""
    if not servers.is_ringbus(binary):
        raise Skipped("shards are ringbus' own")
    with Running(binary, FLOW % "") as running:
        def login(user):
            return Client(running.server.address, '{"verbose":false,"user":"%s","pass":"p"}' % user)
        subs = [login("i") for _ in range(4)]
        pubs = [login("e") for _ in range(2)]
        for client in subs:
            client.send(b"SUB in.s.> 1\r\n")
            client.flush()
        responder, asker, mapper = login("e"), login("i"), login("i")
        responder.send(b"SUB req 1\r\n")
        responder.flush()
        asker.send(b"SUB answer 1\r\nSUB new.* 2\r\n")
        asker.flush()
        count, stop, failures = 300, threading.Event(), []

        def publish(number, client):
            for i in range(count):
                client.send(b"PUB s.%d 4\r\n%04d\r\n" % (number, i))
                time.sleep(0.002)
            client.flush()

        def ask():
            try:
                while not stop.is_set():
                    asker.send(b"PUB ask answer 1\r\nx\r\n")
                    line = responder.line()
                    expect(line.startswith(b"MSG req "), "the responder got %r" % line)
                    size = int(line.split()[-1])
                    while len(responder.buffer) < size + 2:
                        responder.fill()
                    responder.buffer = responder.buffer[size + 2:]
                    responder.send(b"PUB %s 2\r\nok\r\n" % line.split()[3])
                    expect(asker.message() == b"ok", "no answer")
                    mapper.send(b"PUB old.1 1\r\nm\r\n")
                    expect(asker.message() == b"m", "no mapped message")
            except (Failed, OSError) as error:
                failures.append(error)
        threads = [threading.Thread(target=publish, args=pair) for pair in enumerate(pubs)]
        threads.append(threading.Thread(target=ask))
        for thread in threads:
            thread.start()
        for i in range(15):
            # accounts come and go, an import changes; the ones in use stay as they are
            extra = "" if i % 3 == 0 else "X%d { users [ {user: x, password: y} ]" % i + (
                " }" if i % 3 == 1 else ' \n imports [ {stream: {account: EXP, subject: "s.1"}} ] }')
            done, line = running.reload(FLOW % extra)
            expect(done, line)
            time.sleep(0.02)
        for thread in threads[:2]:
            thread.join()
        stop.set()
        threads[2].join(10)
        expect(not failures and not threads[2].is_alive(), "requests: %r" % failures)
        for client in subs:
            got = {0: [], 1: []}
            for _ in range(2 * count):
                line = client.control()
                size = int(line.rsplit(b" ", 1)[1])
                while len(client.buffer) < size + 2:
                    client.fill()
                got[int(line.split()[1].rsplit(b".", 1)[1])].append(int(client.buffer[:size]))
                client.buffer = client.buffer[size + 2:]
            for number in got:
                expect(got[number] == list(range(count)), "lost or out of order: %r" % got[number][:50])
            client.flush()


def check_import_changes(binary, oracle):
    """A reload that takes an import away, and one that brings it back."""
    with_import = FLOW.replace("shards: 2\n", "") % ""
    without = with_import.replace('{stream: {account: EXP, subject: "s.>"}, prefix: "in"}, ', "")
    for one in filter(None, (binary, oracle)):
        with Running(one, with_import) as running:
            def login(user):
                return Client(running.server.address, '{"verbose":false,"user":"%s","pass":"p"}' % user)
            sub, pub = login("i"), login("e")
            sub.send(b"SUB in.s.> 1\r\n")
            sub.flush()
            for text, heard in ((without, False), (with_import, True), (with_import, True)):
                done, line = running.reload(text)
                expect(done, line)
                pub.send(b"PUB s.1 2\r\nhi\r\n")
                pub.flush()
                sub.send(b"PING\r\n")
                line = sub.control()
                expect(line.startswith(b"MSG in.s.1 1 2") == heard, "%s: %r" % (one, line))
                if heard:
                    expect(sub.line() == b"hi" and sub.control() == b"PONG", "the rest of the message")


TRACED = """
%s
accounts {
  EXP { users [ {user: e, password: p} ], %s
    exports [ {stream: "s.>"}, {service: "req"%s} ] }
  IMP { users [ {user: i, password: p} ]
    imports [ {stream: {account: EXP, subject: "s.>"}%s}, {service: {account: EXP, subject: "req"}} ] }
}
"""
TRACE_ALLOWED = ", allow_trace: true"
PARENT = "traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def traces_of(client, subject):
    """(where to, which events) of what a message on `subject` and, before it, one with a traceparent are told."""
    def publish(to, field):
        header = ("NATS/1.0\r\n%s\r\n\r\n" % field).encode()
        client.send(b"HPUB %s %d %d\r\n%s\r\n" % (to.encode(), len(header), len(header), header))
    publish("nobody", PARENT)
    publish(subject, "Nats-Trace-Dest: trace.asked")
    seen = []
    while not seen or seen[-1][0] != "trace.asked":
        to, document = client.delivery()
        seen.append((to, [event["type"] for event in json.loads(document)["events"]]))
    return seen


def check_tracing(binary, oracle):
    """msg_trace of an account, allow_trace of an export and of an import are in force from the reload on."""
    steps = ((("", "", ""), [("trace.asked", ["in", "se"])], [("trace.asked", ["in", "si"])]),
             (("msg_trace: trace.one", "", TRACE_ALLOWED),
              [("trace.one", ["in"]), ("trace.asked", ["in", "se", "eg"])], [("trace.asked", ["in", "si"])]),
             (("msg_trace: trace.two", TRACE_ALLOWED, TRACE_ALLOWED),
              [("trace.two", ["in"]), ("trace.asked", ["in", "se", "eg"])], [("trace.asked", ["in", "si", "eg"])]),
             (("", TRACE_ALLOWED, ""), [("trace.asked", ["in", "se"])], [("trace.asked", ["in", "si", "eg"])]),
             (("", "", ""), [("trace.asked", ["in", "se"])], [("trace.asked", ["in", "si"])]))
    for one in filter(None, (binary, oracle)):
        first = "shards: 3" if one == binary and servers.is_ringbus(one) else ""
        with Running(one, TRACED % (first, *steps[0][0])) as running:
            def login(user, *subjects):
                client = Client(running.server.address,
                                '{"verbose":false,"headers":true,"user":"%s","pass":"p"}' % user)
                for sid, subject in enumerate(subjects):
                    client.send(b"SUB %s %d\r\n" % (subject.encode(), sid))
                client.flush()
                return client
            with login("e", "trace.>") as exporter, login("i", "trace.>") as importer, \
                    login("e", "req"), login("i", "s.1"):
                for parts, stream, service in steps:
                    done, line = running.reload(TRACED % (first, *parts))
                    expect(done, line)
                    got = traces_of(exporter, "s.1"), traces_of(importer, "req")
                    expect(got == (stream, service), "%s with %s: %s" % (one, parts, got))


CHECKS = tuple((case[0], lambda binary, oracle, case=case: check_case(binary, oracle, case))
               for case in CASES) + (
    ("what cannot be changed", check_refused),
    ("bad files", check_bad_file),
    ("log, pid file, ports file", check_log_and_files),
    ("certificates", check_certificates),
    ("max_connections lowered", check_max_connections),
    ("config_load_time", check_load_time),
    ("messages go on", check_flow),
    ("imports come and go", check_import_changes),
    ("message tracing", check_tracing),
)


def cases(binary):
    oracle = servers.find_oracle()
    if oracle is None:
        yield "comparison", no_oracle
    for name, check in CHECKS:
        yield name, lambda check=check: check(binary, oracle)


if __name__ == "__main__":
    sys.exit(run_checks("reload", __doc__, cases))
