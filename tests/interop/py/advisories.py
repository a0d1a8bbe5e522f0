#!/usr/bin/env python3
"""What nats-server's security advisories were about, tried on a server (docs/advisories.md).

  advisories.py --server PATH [--only TEXT]

Each check starts its own server and names the advisories it belongs to. A check whose configuration
ringbus refuses as not supported yet is skipped with that reason, so it runs as soon as it can.
What raw exchanges can show is in exchanges/10-advisories.txt. The last line printed is
"advisories: N passed, N failed, N skipped".
"""

import base64
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib

import server as servers
import wire
from checks import Skipped, expect, run_checks
from process import Client
from server import Server, ServerError

MIB = 1024 * 1024
NOT_YET = re.compile(r"[^\n]*not supported by ringbus yet[^\n]*")
HUGE = 9223372036854775807


# --- helpers -------------------------------------------------------------------------------------

class Running(Server):
    """A server that runs already when the context is entered."""

    def __enter__(self):
        return self


def start(binary, config=None, args=None):
    """A running server; Skipped when ringbus says that it lacks something."""
    try:
        return Running(binary, config=config, args=args).start()
    except ServerError as error:
        missing = NOT_YET.search(str(error))
        if missing:
            raise Skipped(missing.group(0).strip()) from error
        raise


def start_or_log(binary, config):
    """A server, or None and the log of one that did not become ready."""
    try:
        return start(binary, config), None
    except ServerError as error:
        return None, str(error)


def listener(server, words):
    """(host, port) that the log names behind `words`."""
    found = re.search(re.escape(words) + r" (?:\w+://)?(\S+):(\d+)", server.log())
    expect(found is not None, "no %r in the log" % words)
    return (found.group(1).strip("[]"), int(found.group(2)))


def monitor(server):
    return listener(server, "Starting http monitor on")


def websocket(server):
    return listener(server, "Listening for websocket clients on")


def login(server, user, more=""):
    return Client(server.address, '{"verbose":false,"headers":true,"user":"%s","pass":"%s"%s}'
                  % (user, user, more))


def collect(client):
    """Everything the server sent up to the answer to a PING of ours, as messages."""
    client.send(b"PING\r\n")
    while b"PONG\r\n" not in wire.split(client.buffer):
        client.fill()
    messages = wire.split(client.buffer)
    at = messages.index(b"PONG\r\n")
    client.buffer = b"".join(messages[at + 1:])
    return messages[:at]


def hpub(subject, headers, payload=b"x", reply=""):
    block = b"NATS/1.0\r\n" + b"".join(h + b"\r\n" for h in headers) + b"\r\n"
    head = "HPUB %s %s%d %d\r\n" % (subject, reply + " " if reply else "", len(block),
                                    len(block) + len(payload))
    return head.encode() + block + payload + b"\r\n"


def alive(server):
    expect(server.process.poll() is None, "the server ended:\n" + server.log()[-2000:])


class Growth:
    """How much more memory the process has resident at its peak than at the begin, while inside.

    It is sampled too, because not every kernel keeps the peak (VmHWM).
    """

    def __init__(self, server):
        self.server, self.begin, self.peak = server, server.rss_bytes(), 0
        self._done = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self):
        self._sampler.start()
        return self

    def __exit__(self, *unused):
        self._done.set()
        self._sampler.join()

    def _look(self):
        try:
            self.peak = max(self.peak, self.server.rss_bytes())
            with open("/proc/%d/status" % self.server.pid, encoding="ascii") as file:
                found = re.search(r"VmHWM:\s+(\d+)", file.read())
            self.peak = max(self.peak, int(found.group(1)) * 1024 if found else 0)
        except (OSError, IndexError, ValueError):
            pass  # it is gone; alive() says so

    def _sample(self):
        while not self._done.wait(0.005):
            self._look()

    def check(self, most):
        self._look()
        grown = self.peak - self.begin
        expect(grown < most, "the server grew by %d MiB" % (grown // MIB))


def fetch(address, path):
    """(status, body) of a monitor page."""
    http_conn = http.client.HTTPConnection(address[0], address[1], timeout=10)
    try:
        http_conn.request("GET", path)
        answer = http_conn.getresponse()
        return answer.status, answer.read()
    finally:
        http_conn.close()


class WebSocket:
    """A raw WebSocket connection: frames as they are told, right or wrong."""

    def __init__(self, address, path="/", deflate=False, seconds=10.0):
        self.sock = servers.connect(address, seconds)
        lines = ["GET %s HTTP/1.1" % path, "Host: x", "Upgrade: websocket",
                 "Connection: Upgrade", "Sec-WebSocket-Version: 13",
                 "Sec-WebSocket-Key: " + base64.b64encode(bytes(16)).decode()]
        if deflate:
            lines.append("Sec-WebSocket-Extensions: permessage-deflate; "
                         "server_no_context_takeover; client_no_context_takeover")
        self.sock.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
        self.answer = b""
        while b"\r\n\r\n" not in self.answer:
            data = self.sock.recv(65536)
            if not data:
                break
            self.answer += data
        self.status = int(self.answer.split(b" ", 2)[1]) if self.answer else 0

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.sock.close()

    @staticmethod
    def header(length, opcode=2, fin=True, compressed=False, form=None):
        """The bytes before the payload; `form` 126 or 127 forces that length's encoding."""
        first = (0x80 if fin else 0) | (0x40 if compressed else 0) | opcode
        if form == 127 or length > 0xffff:
            return struct.pack("!BBQ", first, 0x80 | 127, length) + bytes(4)
        if form == 126 or length > 125:
            return struct.pack("!BBH", first, 0x80 | 126, length) + bytes(4)
        return struct.pack("!BB", first, 0x80 | length) + bytes(4)  # the mask is zero

    def send(self, payload, **how):
        self.sock.sendall(self.header(len(payload), **how) + payload)

    def closed_within(self, seconds):
        """Whether the server ends the connection; what it sends before is dropped."""
        limit = time.monotonic() + seconds
        while time.monotonic() < limit:
            self.sock.settimeout(max(0.05, limit - time.monotonic()))
            try:
                if not self.sock.recv(65536):
                    return True
            except socket.timeout:
                return False
            except OSError:
                return True
        return False


def deflate(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[:-4]


WS_LOGIN = """
authorization { user: u, password: u, timeout: 20 }
websocket { listen: "127.0.0.1:-1", no_tls: true, compression: true }
"""


# --- WebSocket -----------------------------------------------------------------------------------

def websocket_frame_lengths(binary):
    """2026-03: a frame length with its top bit set, and other lengths that cannot be."""
    frames = {
        "top bit": WebSocket.header(1 << 63, form=127),
        "all bits": WebSocket.header((1 << 64) - 1, form=127),
        "all bits, not final": WebSocket.header((1 << 64) - 1, form=127, fin=False),
        "all bits, ping": WebSocket.header((1 << 64) - 1, opcode=9, form=127),
        "top bit, compressed": WebSocket.header(1 << 63, form=127, compressed=True),
        "long ping": WebSocket.header(126, opcode=9, form=126),
        "ping in pieces": WebSocket.header(1, opcode=9, fin=False),
        "close of one byte": WebSocket.header(1, opcode=8) + b"x",
        "continuation of nothing": WebSocket.header(1, opcode=0) + b"x",
        "unknown opcode": WebSocket.header(1, opcode=3) + b"x",
    }
    with start(binary, WS_LOGIN) as server:
        for name, frame in frames.items():
            with WebSocket(websocket(server)) as ws:
                expect(ws.status == 101, "no upgrade: %r" % ws.answer[:200])
                ws.sock.sendall(frame + b"x" * 64)
                expect(ws.closed_within(5), "%s: the connection stays open" % name)
            alive(server)
        with Growth(server) as growth, WebSocket(websocket(server)) as ws:  # huge, no overflow
            ws.sock.sendall(WebSocket.header(1 << 62, form=127) + b"x" * 64)
            ws.closed_within(1)
            growth.check(100 * MIB)
        alive(server)


def websocket_compression_bomb(binary):
    """2026-02: 256 MiB out of a frame of 256 KiB, before CONNECT."""
    bombs = {"blanks": deflate(b" " * (256 * MIB)),
             "one long PUB": deflate(b"PUB a 268435456\r\n" + bytes(256 * MIB))}
    with start(binary, WS_LOGIN) as server, Growth(server) as growth:
        for name, bomb in bombs.items():
            for _ in range(3):
                with WebSocket(websocket(server), deflate=True) as ws:
                    expect(b"permessage-deflate" in ws.answer, "compression was not agreed")
                    ws.send(bomb, compressed=True)
                    expect(ws.closed_within(10), "%s: the connection stays open" % name)
            alive(server)
        growth.check(100 * MIB)


def websocket_endless_message(binary):
    """2026-11: a message that never ends, before CONNECT; what is compressed is kept until FIN."""
    piece = os.urandom(65536)
    with start(binary, WS_LOGIN) as server, Growth(server) as growth:
        for compressed in (True, False):
            sent = 0
            with WebSocket(websocket(server), deflate=True) as ws:
                try:
                    ws.send(piece, compressed=compressed, fin=False)
                    while sent < 192 * MIB:
                        ws.send(piece, opcode=0, fin=False)
                        sent += len(piece)
                except OSError:
                    pass
                expect(sent < 192 * MIB, "the server took 192 MiB (compressed: %s)" % compressed)
            alive(server)
        growth.check(128 * MIB)


def websocket_mqtt_path(binary):
    """2026-27: the MQTT path of a server without MQTT."""
    with start(binary, WS_LOGIN) as server:
        for path in ("/mqtt", "/x/mqtt", "/mqtt?x", "/leafnode"):
            with WebSocket(websocket(server), path=path) as ws:
                expect(ws.status != 101 or not path.endswith("/mqtt"), "%s was upgraded" % path)
                try:
                    ws.send(b"\x10\x0c\x00\x04MQTT\x04\x02\x00\x3c\x00\x00")
                except OSError:
                    pass
                ws.closed_within(0.5)
            alive(server)
        with WebSocket(websocket(server)) as ws:
            expect(ws.status == 101, "no upgrade afterwards")


# --- the monitor and the log ---------------------------------------------------------------------

PAGES = ["/", "/varz", "/connz", "/connz?auth=1&subs=detail&state=any", "/routez", "/gatewayz",
         "/leafz", "/subsz?subs=1", "/accountz", "/accstatz?unused=1", "/jsz?config=1", "/healthz",
         "/debug/vars", "/stacksz", "/ipqueuesz?all=1", "/raftz"]
SECRET = "s3cretPassw0rd"


def expect_no_secret(text, where):
    expect(SECRET not in text and "othersecret" not in text, "a secret shows in " + where)


def secrets_stay_secret(binary):
    """2026-14, 2026-05: secrets of the command line, of CONNECT and of the file, on every page."""
    cases = {
        "flags": (None, ["--user", "ann", "--pass", SECRET, "-m", "-1", "-DV"], "ann"),
        "file": ("http: '127.0.0.1:-1'\ndebug: true\ntrace: true\n"
                 "authorization { users: [{ user: ann, password: %s }] }\n" % SECRET, [], "ann"),
        "token": ("http: '127.0.0.1:-1'\ndebug: true\ntrace: true\n"
                  "authorization { token: %s }\n" % SECRET, [], None),
    }
    for name, (config, args, user) in cases.items():
        fields = '"user":"%s","pass":"%s"' if user else '%.0s"auth_token":"%s"'
        proof = '{"verbose":false,' + fields + "}"
        with start(binary, config, args) as server:
            with Client(server.address, proof % (user, SECRET)) as client:
                client.flush()
                for other in ("othersecret", SECRET + "x"):
                    with Client(server.address, proof % (user, other)) as wrong:
                        expect(b"Authorization" in wrong.line(), "%s: not refused" % name)
                for page in PAGES:
                    status, body = fetch(monitor(server), page)
                    expect(status in (200, 404), "%s: %s says %d" % (name, page, status))
                    expect_no_secret(body.decode("utf-8", "replace"), "%s (%s)" % (page, name))
            expect_no_secret(server.log(), "the log (%s)" % name)


def connz_pagination(binary):
    """2026-28: offsets and limits whose sum overflows, over HTTP and as a system request."""
    config = """
http: '127.0.0.1:-1'
accounts { A { users: [{ user: a, password: a }] }, SYS { users: [{ user: s, password: s }] } }
system_account: SYS
"""
    with start(binary, config) as server, login(server, "a") as client:
        client.flush()
        pairs = [(HUGE, HUGE), (1, HUGE), (HUGE, 1), (HUGE, -1), (-1, HUGE), (-HUGE - 1, -1)]
        for offset, limit in pairs:
            for page in ("/connz", "/subsz", "/jsz"):
                status, body = fetch(monitor(server),
                                     "%s?subs=1&offset=%d&limit=%d" % (page, offset, limit))
                expect(status in (200, 400) and body, "%s says %d" % (page, status))
            alive(server)
        fetch(monitor(server), "/connz?offset=99999999999999999999&limit=99999999999999999999")
        alive(server)
        client.send(b"SUB answer 1\r\n")
        for offset, limit in pairs:
            body = json.dumps({"offset": offset, "limit": limit}).encode()
            client.send(b"PUB $SYS.REQ.ACCOUNT.PING.CONNZ answer %d\r\n%s\r\n" % (len(body), body))
        collect(client)
        time.sleep(0.3)
        alive(server)
        round_trip_as(server, "a")


def round_trip_as(server, user):
    with login(server, user) as client:
        client.send(b"SUB t 1\r\nPUB t 1\r\nx\r\n")
        expect(b"MSG t 1 1\r\nx\r\n" in collect(client), "no message comes back")


# --- accounts and permissions --------------------------------------------------------------------

def request_info_is_ours(binary):
    """2026-08, 2026-09: a client's own Nats-Request-Info never reaches the service."""
    config = """
accounts {
  S { users: [{ user: s, password: s }], exports: [{ service: svc }] }
  A { users: [{ user: a, password: a }]
      imports: [{ service: { account: S, subject: svc }, share: true }] }
}
"""
    forged = b'{"acc":"ADMIN","user":"boss","name":"boss","host":"6.6.6.6"}'
    spoofs = [
        [b"Nats-Request-Info: " + forged],
        [b"Nats-Request-Info:" + forged],
        [b"A: b", b"Nats-Request-Info: " + forged, b"C: d"],
        [b"Nats-Request-Info: " + forged, b"Nats-Request-Info: " + forged],
        [b"Nats-Request-Info:"],
        [b"Nats-Request-Info: {"],
        [b"X: Nats-Request-Info: " + forged[:1]],
    ]
    with start(binary, config) as server, login(server, "s") as service, \
            login(server, "a") as client:
        service.send(b"SUB svc 1\r\n")
        service.flush()
        for headers in spoofs:
            client.send(hpub("svc", headers, reply="r"))
            client.flush()
            got = collect(service)
            expect(len(got) == 1 and got[0].startswith(b"HMSG svc "), "the request: %r" % got)
            infos = re.findall(rb"(?m)^Nats-Request-Info: *(.*?)\r$", got[0])
            expect(infos, "no identity of the server's: %r" % got[0])
            first = json.loads(infos[0])
            expect(first.get("acc") == "A" and first.get("user") == "a",
                   "%r is delivered as %r" % (headers, infos[0]))


def trace_destination(binary):
    """2026-15, 2026-20: a trace goes nowhere its sender may not publish."""
    config = """
authorization { users: [
  { user: root, password: root }
  { user: u, password: u, permissions: { publish: { allow: ["open", "trace.ok"] } } } ] }
"""
    with start(binary, config) as server, login(server, "root") as root, login(server, "u") as user:
        root.send(b"SUB secret.> 1\r\nSUB open 2\r\nSUB $SYS.> 3\r\nSUB _INBOX.> 4\r\n")
        root.flush()
        for dest in (b"secret.x", b"$SYS.REQ.x", b"_INBOX.victim", b"secret.>", b"secret..x"):
            for headers in ([b"Nats-Trace-Dest: " + dest],
                            [b"Nats-Trace-Dest: " + dest, b"Nats-Trace-Only: true"],
                            [b"nats-trace-dest: " + dest],
                            [b"Nats-Trace-Dest: trace.ok", b"Nats-Trace-Dest: " + dest]):
                user.send(hpub("open", headers))
                collect(user)
        time.sleep(0.3)
        bad = [m for m in collect(root) if m.startswith((b"MSG", b"HMSG")) and b" open 2 " not in m]
        expect(not bad, "a trace came to a forbidden subject: %r" % bad[:2])


def system_events_stay_home(binary):
    """Accounts that reach $SYS: who comes and goes is told to the system account only."""
    config = """
accounts { A { users: [{ user: a, password: a }] }, SYS { users: [{ user: s, password: s }] } }
system_account: SYS
"""
    with start(binary, config) as server, login(server, "a") as tenant, \
            login(server, "s") as system:
        for client in (tenant, system):
            client.send(b"SUB > 1\r\nSUB $SYS.> 2\r\n")
            client.flush()
        for _ in range(3):
            login(server, "a").sock.close()
        time.sleep(0.5)
        told = [m for m in collect(system) if b"$SYS.ACCOUNT.A.CONNECT" in m]
        expect(told, "the system account hears nothing either, so this proves nothing")
        expect(not collect(tenant), "a tenant hears system events")
        tenant.send(b"SUB answer 3\r\nPUB $SYS.REQ.SERVER.PING answer 0\r\n\r\n"
                    b"PUB $SYS.REQ.SERVER.PING.VARZ answer 0\r\n\r\n"
                    b"PUB $SYS.REQ.ACCOUNT.SYS.CONNZ answer 0\r\n\r\n")
        time.sleep(0.3)
        answers = [m for m in collect(tenant) if m.startswith(b"MSG answer")]
        expect(not answers, "a tenant's system request is answered: %r" % answers[:1])


def import_loops(binary):
    """Imports that lead back to where they began: refused at the start, or harmless."""
    service = """
accounts {
  A { exports: [{ service: a }], imports: [{ service: { account: %s, subject: %s }, to: a }] }
  B { exports: [{ service: b }], imports: [{ service: { account: A, subject: a }, to: b }] }
}
"""
    stream = """
accounts {
  A { exports: [{ stream: "a.>" }]
      imports: [{ stream: { account: B, subject: "b.>" }, to: "a.>" }] }
  B { exports: [{ stream: "b.>" }]
      imports: [{ stream: { account: A, subject: "a.>" }, to: "b.>" }] }
}
"""
    for config in (service % ("B", "b"), stream):
        server, log = start_or_log(binary, config)
        if server is not None:
            server.stop()
        expect(server is None, "the server starts with it")
        expect("cycle" in log or "loop" in log, "the reason is not named:\n" + log[-500:])
    itself = """
accounts { A { users: [{ user: a, password: a }], exports: [{ service: a }]
               imports: [{ service: { account: A, subject: a } }] } }
"""
    server, _ = start_or_log(binary, itself)
    if server is None:
        return
    with server, login(server, "a") as client:
        client.send(b"SUB r 1\r\nPUB a r 1\r\nx\r\n")
        collect(client)
        spent = server.cpu_seconds()
        time.sleep(0.5)
        expect(server.cpu_seconds() - spent < 0.2, "a request goes round and round")
        round_trip_as(server, "a")


# --- proofs of identity --------------------------------------------------------------------------

def base32_key(prefix, key):
    """An nkey in its text form: prefix, key, CRC-16, base 32."""
    raw, crc = bytes([prefix]) + key, 0
    for byte in raw:
        crc ^= byte << 8
        for _ in range(8):
            crc = (crc << 1 ^ 0x1021 if crc & 0x8000 else crc << 1) & 0xffff
    return base64.b32encode(raw + struct.pack("<H", crc)).decode().rstrip("=")


def jwt(issuer):
    """A user JWT that `issuer` did not sign."""
    def part(data):
        return base64.urlsafe_b64encode(json.dumps(data).encode()).decode().rstrip("=")
    claims = {"jti": "x", "iat": 1, "iss": issuer, "sub": base32_key(20 << 3, bytes(32)),
              "name": "x", "nats": {"type": "user", "version": 2}}
    head = part({"typ": "JWT", "alg": "ed25519-nkey"}) + "." + part(claims)
    return head + "." + base64.urlsafe_b64encode(bytes(64)).decode().rstrip("=")


def malformed_keys(binary):
    """2026-23: keys and signatures of a wrong length, before authentication and in the file."""
    good = base32_key(20 << 3, bytes(range(32)))
    short = base32_key(20 << 3, bytes(31))
    config = "authorization { timeout: 5, users: [{ nkey: %s }] }\n"
    fields = []
    empty, other = base32_key(20 << 3, b""), base32_key(0, bytes(32))
    for key in (good, short, empty, other, "U", "", "U" * 4000):
        for size in (0, 1, 63, 64, 65):
            sig = base64.urlsafe_b64encode(bytes(size)).decode().rstrip("=")
            fields.append({"nkey": key, "sig": sig})
    fields += [{"nkey": good, "sig": "*"}, {"jwt": "x"}, {"jwt": ".."},
               {"jwt": jwt(base32_key(0, bytes(32))), "sig": "AA"},
               {"jwt": jwt(base32_key(0, bytes(5))), "sig": "AA"}, {"jwt": jwt("A"), "sig": "AA"}]
    for key in (good[:-1], good[:-1] + ("B" if good[-1] == "A" else "A"), "U"):
        server, log = start_or_log(binary, config % key)
        if server is not None:
            server.stop()
        expect(server is None, "the server starts with the nkey %s" % key)
        expect("nkey" in log, "the reason is not named:\n" + log[-500:])
    for key in (good, short):  # nats-server takes a short key that is well-formed otherwise
        server, _ = start_or_log(binary, config % key)
        if server is not None:
            with server:
                try_keys(server, fields)


def try_keys(server, fields):
    for field in fields:
        with Client(server.address, json.dumps(dict(field, verbose=False))) as client:
            client.send(b"PING\r\n")
            try:
                line = client.line()
            except OSError:
                line = b""
            expect(line != b"PONG", "%r is let in" % field)
        alive(server)


# --- TLS -----------------------------------------------------------------------------------------

NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


class Certificates:
    """Authorities and certificates in a directory of their own, made with the openssl program."""

    def __init__(self):
        if shutil.which("openssl") is None:
            raise Skipped("the openssl program is not installed")
        self.directory = tempfile.mkdtemp(prefix="advisories-")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        shutil.rmtree(self.directory, ignore_errors=True)

    def path(self, name):
        return os.path.join(self.directory, name)

    def openssl(self, *args):
        done = subprocess.run(["openssl", *args], cwd=self.directory, capture_output=True,
                              check=False, timeout=30)
        expect(done.returncode == 0, "openssl: " + done.stderr.decode("utf-8", "replace"))

    def authority(self, name):
        self.openssl("req", "-x509", *NEW_KEY, "-keyout", name + ".key", "-out", name + ".pem",
                     "-days", "2", "-subj", "/CN=" + name,
                     "-addext", "keyUsage=critical,keyCertSign")

    def issue(self, name, authority, subject, extra=""):
        with open(self.path(name + ".ext"), "w", encoding="ascii") as file:
            file.write("extendedKeyUsage=serverAuth,clientAuth\n" + extra)
        self.openssl("req", "-new", *NEW_KEY, "-keyout", name + ".key", "-out", name + ".csr",
                     "-subj", subject)
        self.openssl("x509", "-req", "-in", name + ".csr", "-CA", authority + ".pem", "-CAkey",
                     authority + ".key", "-CAcreateserial", "-days", "2", "-out", name + ".pem",
                     "-extfile", name + ".ext")

    def tls_block(self, server, authority, verify="verify"):
        return 'tls { cert_file: "%s", key_file: "%s", ca_file: "%s", %s: true }' % (
            self.path(server + ".pem"), self.path(server + ".key"), self.path(authority + ".pem"),
            verify)

    def context(self, client=None):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        if client:
            context.load_cert_chain(self.path(client + ".pem"), self.path(client + ".key"))
        return context


def tls_login(address, context, session=None):
    """The answer to CONNECT and PING over TLS, and the session; None when the handshake fails."""
    sock = servers.connect(address)
    while not sock.recv(1, socket.MSG_PEEK):
        pass
    line = b""
    while not line.endswith(b"\r\n"):
        line += sock.recv(1)
    try:
        with context.wrap_socket(sock, session=session) as tls:
            tls.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
            answer = b""
            while b"\r\n" not in answer:
                data = tls.recv(4096)
                if not data:
                    break
                answer += data
            return answer, tls.session
    except OSError:
        return None, None


def subject_names(binary):
    """2026-13: a certificate's subject is a user only when all of it is the same."""
    with Certificates() as certs:
        certs.authority("ca")
        certs.issue("server", "ca", "/CN=server", "subjectAltName=IP:127.0.0.1\n")
        subjects = {  # users: CN=x,OU=b,OU=a and CN=twice,OU=c,OU=c
            "/OU=a/OU=b/CN=x": True,
            "/OU=c/OU=c/CN=twice": True,
            "/OU=c/OU=d/CN=twice": False,
            "/OU=d/OU=c/CN=twice": False,
            "/OU=c/CN=twice": False,
            "/OU=a/OU=a/CN=x": False,
            "/OU=b/OU=b/CN=x": False,
            "/OU=a/CN=x": False,
            "/OU=a/OU=b/OU=c/CN=x": False,
            "/OU=a/OU=b/CN=x/CN=x": False,
            "/OU=a/OU=b/CN=y": False,
            "/CN=CN=x,OU=b,OU=a": False,
            "/CN=x": False,
        }
        config = certs.tls_block("server", "ca", "verify_and_map") + """
authorization { users: [
  { user: "CN=x,OU=b,OU=a" }, { user: "CN=twice,OU=c,OU=c" } ] }
"""
        with start(binary, config) as server:
            for at, (subject, wanted) in enumerate(subjects.items()):
                name = "client%d" % at
                certs.issue(name, "ca", subject)
                answer, _ = tls_login(server.address, certs.context(name))
                got = answer is not None and answer.startswith(b"PONG")
                expect(got == wanted, "%s is %s: %r" % (
                    subject, "let in" if got else "refused", answer))
            alive(server)


def certificate_user_needs_one(binary):
    """A user that only a certificate names is nobody without one, on a listener that maps none."""
    with Certificates() as certs:
        certs.authority("ca")
        certs.issue("server", "ca", "/CN=server", "subjectAltName=IP:127.0.0.1\n")
        certs.issue("client", "ca", "/CN=x")
        config = certs.tls_block("server", "ca", "verify_and_map") + """
authorization { users: [{ user: "CN=x" }, { user: plain, password: plain }] }
websocket { listen: "127.0.0.1:-1", no_tls: true }
"""
        with start(binary, config) as server:
            answer, _ = tls_login(server.address, certs.context("client"))
            expect(answer and answer.startswith(b"PONG"), "with the certificate: %r" % answer)
            for fields, wanted in (({"user": "CN=x"}, False), ({"user": "CN=x", "pass": ""}, False),
                                   ({"user": "plain", "pass": "plain"}, True), ({}, False)):
                with WebSocket(websocket(server)) as ws:
                    line = json.dumps(dict(fields, verbose=False)).encode()
                    ws.send(b"CONNECT " + line + b"\r\nPING\r\n")
                    got, data = b"", b"-"
                    while data and b"PONG\r\n" not in got and b"-ERR" not in got:
                        data = ws.sock.recv(65536)
                        got += data
                    expect((b"PONG\r\n" in got) == wanted, "%r: %r" % (fields, got[-100:]))


def sessions_do_not_cross(binary):
    """2026-01: a TLS session of one listener is no proof on another, with other authorities."""
    with Certificates() as certs:
        for authority in ("one", "two"):
            certs.authority(authority)
        certs.issue("server", "one", "/CN=server", "subjectAltName=IP:127.0.0.1\n")
        certs.issue("client", "one", "/CN=client")
        config = "%s\nwebsocket { listen: '127.0.0.1:-1', %s }\n" % (
            certs.tls_block("server", "one"), certs.tls_block("server", "two"))
        for version in (ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3):
            with start(binary, config) as server:
                context = certs.context("client")
                context.maximum_version = version
                answer, session = tls_login(server.address, context)
                expect(answer and answer.startswith(b"PONG"), "the first listener: %r" % answer)
                expect(session is not None, "no session to take along")
                sock = servers.connect(websocket(server))
                try:
                    with context.wrap_socket(sock, session=session) as tls:
                        tls.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\n"
                                    b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
                        got = tls.recv(4096)
                except OSError:
                    got = b""
                expect(not got.startswith(b"HTTP/1.1 101"), "the other listener took the session")
                alive(server)


# --- the program ---------------------------------------------------------------------------------

CHECKS = [websocket_frame_lengths, websocket_compression_bomb, websocket_endless_message,
          websocket_mqtt_path, secrets_stay_secret, connz_pagination, request_info_is_ours,
          trace_destination, system_events_stay_home, import_loops, malformed_keys, subject_names,
          certificate_user_needs_one, sessions_do_not_cross]


def cases(binary):
    return [(check.__name__, lambda check=check: check(binary)) for check in CHECKS]


if __name__ == "__main__":
    sys.exit(run_checks("advisories", __doc__, cases))
