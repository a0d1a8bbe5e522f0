#!/usr/bin/env python3
"""WebSocket, compared with nats-server.

  websocket.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import json
import socket
import struct
import sys
import time

import compare
import natsclient
import wire
import wsclient
from compare import scenario
from wsclient import BINARY, CLOSE, CONTINUE, PING, PONG, TEXT, frame

PLAIN = "websocket { listen: \"127.0.0.1:-1\", no_tls: true%s }\n"
HELLO = b'CONNECT {"verbose":false,"pedantic":false%s}\r\nPING\r\n'
BROWSER = {"User-Agent": "Mozilla/5.0 (X11; Linux) Gecko/1 Firefox/1"}
SAFARI = {"User-Agent": "Mozilla/5.0 (Macintosh) AppleWebKit/605 Version/17 Safari/605"}


def text(data):
    return wire.normal(data).decode("latin-1")


def connect(s, **request):
    """Upgraded, its INFO read and normal in .first."""
    ws = wsclient.connect(s.websocket_port, timeout=3.0, **request)
    ws.first = text(ws.receive_until(b"\r\n"))
    return ws


def login(ws, fields=""):
    ws.send(HELLO % fields.encode())
    said = until_pong(ws)
    if "protocol" in fields and "INFO" not in said and "closed" not in said:
        said += text(ws.receive_until(b"\r\n"))
    return said


def until_pong(ws):
    """All up to PONG, or what ended the connection."""
    data = b""
    try:
        while b"PONG\r\n" not in wire.split(data):
            data += ws.receive().data
    except wsclient.ClosedError as closed:
        return "%s [closed %s %s]" % (text(data), closed.code, closed.reason)
    except TimeoutError:
        return text(data) + " [nothing more]"
    return text(data)


def refused(s, raw=None, **request):
    """What an upgrade is answered with."""
    ws = wsclient.Client(s.websocket_port, timeout=3.0)
    try:
        if raw is None:
            ws.upgrade(**request)
        else:
            ws.raw(raw)
            ws.read_response()
            if ws.status != 101:
                length = int(ws.headers.get("content-length", 0))
                raise wsclient.RefusedError(ws.status, ws.headers, ws._take(length))
        headers = {name: value for name, value in ws.headers.items()
                   if name not in ("sec-websocket-accept", "date")}
        return ["upgraded", headers]
    except wsclient.RefusedError as error:
        return [error.status]
    except wsclient.ClosedError:
        return ["closed"]
    except TimeoutError:
        return ["nothing"]
    finally:
        ws.abort()


@scenario(PLAIN % "")
def upgrade(s):
    """What is asked of a request."""
    changes = {
        "plain": {}, "other path": {"path": "/any/thing?x=1"}, "POST": {"method": "POST"},
        "no Host": {"headers": {"Host": None}}, "no Upgrade": {"headers": {"Upgrade": None}},
        "other Upgrade": {"headers": {"Upgrade": "h2c"}},
        "two Upgrades": {"headers": {"Upgrade": "h2c, WebSocket"}},
        "no Connection": {"headers": {"Connection": None}},
        "keep-alive": {"headers": {"Connection": "keep-alive"}},
        "keep-alive, Upgrade": {"headers": {"Connection": "keep-alive, upgrade"}},
        "no key": {"headers": {"Sec-WebSocket-Key": None}},
        "short key": {"headers": {"Sec-WebSocket-Key": "abc"}},
        "no base64": {"headers": {"Sec-WebSocket-Key": "!" * 24}},
        "version 8": {"headers": {"Sec-WebSocket-Version": "8"}},
        "no version": {"headers": {"Sec-WebSocket-Version": None}},
        "an origin": {"headers": {"Origin": "http://other.example.org"}},
        "compression asked": {"deflate": True},
        "no masking": {"no_masking": True},
        "protocol": {"headers": {"Sec-WebSocket-Protocol": "nats"}},
        "mqtt": {"path": "/mqtt"},
    }
    result = {name: refused(s, **change) for name, change in changes.items()}
    for name, raw in (("no HTTP", b"CONNECT {}\r\nPING\r\n\r\n"), ("HTTP/1.0", b"GET / HTTP/1.0\r\n\r\n"),
                      ("lower case", b"get / HTTP/1.1\r\nHost: x\r\n\r\n")):
        result[name] = refused(s, raw=raw)[:1]
    return result


@scenario(PLAIN % "")
def session(s):
    with connect(s) as ws:
        result = {"info": ws.first, "connect": login(ws, ',"protocol":1')}
        ws.send(b"SUB a 1\r\nPUB a 5\r\nhello\r\nPING\r\n")
        result["echo"] = until_pong(ws)
    with connect(s) as ws, s.client() as tcp:
        login(ws)
        tcp.connect()
        tcp.send(b"SUB from.ws 1\r\n")
        tcp.ping()
        ws.send(b"SUB from.tcp 2\r\nPING\r\n")
        until_pong(ws)
        tcp.send(b"PUB from.tcp 3\r\ntcp\r\n")
        result["to ws"] = text(ws.receive_until(b"tcp\r\n"))
        ws.send(b"PUB from.ws 2\r\nws\r\n")
        tcp.receive_until(lambda stream: b"ws\r\n" in stream)
        result["to tcp"] = tcp.take()
    return result


@scenario(PLAIN % "")
def frames(s):
    """Commands cut anyhow into frames."""
    result = {}
    with connect(s) as ws:
        login(ws)
        whole = b"SUB a 1\r\nPUB a 5\r\nhello\r\nPUB a 300\r\n" + b"x" * 300 + b"\r\nPING\r\n"
        for size in (1, 3, 50, 1000):
            for at in range(0, len(whole), size):
                ws.send(whole[at:at + size])
            result["messages of %d" % size] = until_pong(ws)
            ws.send(b"UNSUB 1\r\n")
        ws.send(whole, fragments=7)
        result["fragments"] = until_pong(ws)
        ws.send(b"UNSUB 1\r\n")
        ws.send_text(whole.decode())
        result["text"] = until_pong(ws)
        ws.send(b"UNSUB 1\r\n")
        ws.raw(b"".join(frame(BINARY if at == 0 else CONTINUE, whole[at:at + 20],
                              fin=at + 20 >= len(whole)) + frame(PING, b"p%d" % at)
                        for at in range(0, len(whole), 20)))
        result["pings between"] = until_pong(ws)
        ws.send(b"PING\r\n")
        until_pong(ws)
        result["pongs"] = len(ws.pongs)
        ws.send(b"")
        ws.send(b"PING\r\n")
        result["empty"] = until_pong(ws)
        ws.raw(frame(BINARY, b"PING\r\n", form=2) + frame(BINARY, b"PING\r\n", form=8))
        result["long forms"] = until_pong(ws)
    return result


@scenario(PLAIN % "")
def no_masking(s):
    with connect(s, no_masking=True) as ws:
        return [ws.headers.get("nats-no-masking"), ws.mask, login(ws), big(ws, 70000)]


def big(ws, size):
    ws.send(b"SUB big 9\r\nPUB big %d\r\n" % size + b"b" * size + b"\r\nUNSUB 9\r\nPING\r\n")
    data = ws.receive_until(b"PONG\r\n")
    return data == b"MSG big 9 %d\r\n" % size + b"b" * size + b"\r\nPONG\r\n"


@scenario(PLAIN % ", compression: true")
def compression(s):
    result = {}
    with connect(s, deflate=True) as ws:
        result["extension"] = ws.headers.get("sec-websocket-extensions")
        result["connect"] = login(ws)
        for size in (0, 10, 64, 65, 1000, 100000):
            body = b"c" * size
            ws.send(b"SUB a 1\r\nPUB a %d\r\n" % size + body + b"\r\nUNSUB 1\r\nPING\r\n",
                    fragments=3 if size == 1000 else 1)
            data, shapes = b"", []
            while not data.endswith(b"PONG\r\n"):
                message = ws.receive()
                data += message.data
                shapes.append(message.compressed)
            result["payload %d" % size] = [
                data == b"MSG a 1 %d\r\n" % size + body + b"\r\nPONG\r\n", any(shapes)]
        ws.send(b"PING\r\n", compress=False)
        result["plain among compressed"] = until_pong(ws)
    with connect(s) as ws:
        result["not asked for"] = [ws.headers.get("sec-websocket-extensions"), login(ws),
                                   big(ws, 5000)]
    for name, offer in (("bare", "permessage-deflate"), ("other", "x-webkit-deflate-frame"),
                        ("several", "foo, permessage-deflate; client_max_window_bits, bar"),
                        ("upper case", "PERMESSAGE-DEFLATE; SERVER_NO_CONTEXT_TAKEOVER; "
                                       "CLIENT_NO_CONTEXT_TAKEOVER")):
        with wsclient.connect(s.websocket_port, deflate=offer) as ws:
            result[name] = ws.headers.get("sec-websocket-extensions")
    return result


@scenario(PLAIN % ", compression: true")
def compressed_rubbish(s):
    result = {}
    for name, data in (("no deflate", b"\xff" * 40), ("cut", wsclient.deflate(b"PING\r\n" * 50)[:20])):
        with connect(s, deflate=True) as ws:
            login(ws)
            ws.send_frame(BINARY, data, rsv=4)
            ws.send_frame(BINARY, b"PING\r\n")
            result[name] = "PONG" not in until_pong(ws)
    with connect(s, deflate=True) as ws:
        login(ws)
        ws.send(b"PUB a 99000000\r\n" + b"\0" * 12000000)
        result["a bomb"] = ws.receive_close(5)
    return result


def closes(s, data):
    """The close frame, and whether that was the end."""
    with connect(s) as ws:
        login(ws)
        ws.raw(data)
        return [*ws.receive_close(1.0), ws.at_end()]


@scenario(PLAIN % "", differs=True)
def broken_frames(s):
    """nats-server has the same words, but often ends the connection before its close frame got out."""
    cases = {
        "not masked": frame(BINARY, b"PING\r\n", mask=False),
        "rsv1": frame(BINARY, b"PING\r\n", rsv=4), "rsv2": frame(BINARY, b"PING\r\n", rsv=2),
        "rsv3": frame(BINARY, b"PING\r\n", rsv=1),
        "opcode 3": frame(3, b"x"), "opcode 11": frame(11, b"x"),
        "continuation of nothing": frame(CONTINUE, b"x"),
        "message in a message": frame(BINARY, b"x", fin=False) + frame(BINARY, b"y"),
        "long ping": frame(PING, b"x" * 126), "ping in parts": frame(PING, b"x", fin=False),
        "long close": frame(CLOSE, struct.pack(">H", 1000) + b"x" * 124),
        "unknown command": frame(BINARY, b"HELLO\r\n"),
        "payload too large": frame(BINARY, b"PUB a 2000000\r\n"),
        "line too long": frame(BINARY, b"PUB " + b"a" * 5000),
        "huge length": bytes([0x82, 0xff]) + struct.pack(">Q", 1 << 63) + b"1234",
    }
    return {name: closes(s, data) for name, data in cases.items()}


@scenario(PLAIN % "", differs=True)
def close_frames(s):
    """As above: nats-server's answer is the same where it comes."""
    cases = {"1000": struct.pack(">H", 1000) + b"bye", "1001": struct.pack(">H", 1001),
             "3000": struct.pack(">H", 3000), "4999": struct.pack(">H", 4999),
             "999": struct.pack(">H", 999), "1005": struct.pack(">H", 1005),
             "5000": struct.pack(">H", 5000), "none": b"", "one byte": b"\x03",
             "no UTF-8": struct.pack(">H", 1000) + b"\xff\xfe"}
    return {name: closes(s, frame(CLOSE, body)) for name, body in cases.items()}


@scenario(PLAIN % "")
def control_frames(s):
    result = {}
    with connect(s) as ws:
        login(ws)
        for name, body in (("ping", b"abc"), ("empty ping", b""), ("long ping", b"x" * 125)):
            ws.ping(body)
            got = ws.receive_frame(2.0)
            result[name] = [got.opcode == PONG, got.payload == body, got.fin, got.masked]
        ws.pong(b"nobody asked")
        ws.send(b"PING\r\n")
        result["pong"] = until_pong(ws)
    return result


@scenario(PLAIN % ", compression: true")
def browsers(s):
    """Frames for browsers have at most 4096 bytes; Safari's are not compressed when they are several."""
    result = {}
    for name, agent in (("browser", BROWSER), ("safari", SAFARI), ("none", {})):
        for deflate in (False, True):
            with connect(s, headers=agent, deflate=deflate) as ws, s.client() as tcp:
                login(ws)
                ws.send(b"SUB a 1\r\nPING\r\n")
                until_pong(ws)
                tcp.connect()
                body = bytes((i * 7919 >> 3) & 0xff for i in range(20000))
                tcp.send(b"PUB a 20000\r\n" + body + b"\r\n")
                data, sizes, packed = b"", [], False
                while len(data) < 20000:
                    got = ws.receive_frame()
                    sizes.append(len(got.payload))
                    packed = packed or got.rsv == 4
                    data += got.payload if not packed else b"x" * 20000 if got.fin else b""
                result["%s %s" % (name, deflate)] = [packed, max(sizes) <= 4096]
    return result


@scenario("websocket { listen: \"127.0.0.1:-1\", no_tls: true, same_origin: true }\n")
def same_origin(s):
    port = s.websocket_port
    result = {}
    for name, origin in (("same", "http://127.0.0.1:%d" % port), ("other host", "http://localhost:%d" % port),
                         ("other port", "http://127.0.0.1:1"), ("other scheme", "https://127.0.0.1:%d" % port),
                         ("upper case", "HTTP://127.0.0.1:%d" % port), ("null", "null"),
                         ("none", None), ("not a URL", "::::")):
        got = refused(s, headers={"Origin": origin})
        result[name] = got[:1]
    return result


@scenario(PLAIN % ', allowed_origins: ["http://one.example.org", "https://two.example.org:8443"]')
def allowed_origins(s):
    return {origin: [refused(s, headers={"Origin": origin})[i] for i in (0,)] for origin in (
        "http://one.example.org", "http://one.example.org:80", "https://one.example.org",
        "http://ONE.example.org", "https://two.example.org:8443", "https://two.example.org",
        "http://one.example.org.evil.org", "http://three.example.org", "null")}


COOKIES = ('websocket { listen: "127.0.0.1:-1", no_tls: true, user_cookie: "u", pass_cookie: "p", '
           'token_cookie: "t" }\n')


@scenario(COOKIES + "authorization { users: [{ user: ann, password: a }, { user: bob, password: b }] }")
def cookies(s):
    cases = {"both": {"u": "ann", "p": "a"}, "wrong": {"u": "ann", "p": "x"}, "user only": {"u": "ann"},
             "password only": {"p": "a"}, "none": {}, "others": {"U": "ann", "P": "a"},
             "quoted": {"u": '"ann"', "p": '"a"'}, "among others": {"x": "1", "u": "ann", "y": "2", "p": "a"}}
    result = {}
    for name, cookie in cases.items():
        with connect(s, cookies=cookie) as ws:
            result[name] = login(ws)
    with connect(s, cookies={"u": "ann", "p": "x"}) as ws:
        result["CONNECT counts"] = login(ws, ',"user":"bob","pass":"b"')
    with connect(s, cookies={"u": "ann", "p": "a"}) as ws:
        result["CONNECT's user, the cookie's password"] = login(ws, ',"user":"bob"')
    return result


@scenario(COOKIES + "authorization { token: secret }")
def token_cookie(s):
    result = {}
    for name, cookie in (("right", {"t": "secret"}), ("wrong", {"t": "x"}), ("none", {})):
        with connect(s, cookies=cookie) as ws:
            result[name] = login(ws)
    return result


@scenario("websocket { listen: \"127.0.0.1:-1\", no_tls: true, authorization { username: w, password: p, timeout: 0.5 } }\n")
def own_login(s):
    result = {}
    for name, fields in (("right", ',"user":"w","pass":"p"'), ("wrong", ',"user":"w","pass":"x"'), ("none", "")):
        with connect(s) as ws:
            result[name] = [ws.first, login(ws, fields)]
    with connect(s) as ws:
        begin = time.monotonic()
        result["silent"] = [until_pong(ws), 0.3 < time.monotonic() - begin < 1.5]
    with s.client() as tcp:
        result["tcp"] = tcp.connect()
    return result


@scenario("websocket { listen: \"127.0.0.1:-1\", no_tls: true, no_auth_user: guest }\n"
          "accounts { A { users: [{ user: guest, password: g }, { user: ws, password: p, "
          "allowed_connection_types: [WEBSOCKET] }, { user: tcp, password: p, allowed_connection_types: "
          "[STANDARD] }] } }")
def guests_and_kinds(s):
    result = {}
    for name, fields in (("guest", ""), ("ws", ',"user":"ws","pass":"p"'), ("tcp", ',"user":"tcp","pass":"p"')):
        with connect(s) as ws:
            result[name] = [ws.first, login(ws, fields)]
        with s.client() as tcp:
            result[name + " on tcp"] = tcp.connect(**json.loads("{" + fields[1:] + "}"))
    return result


@scenario(PLAIN % ', headers: { "X-Hello": "world", "Strict-Transport-Security": "max-age=1" }')
def more_headers(s):
    return refused(s)


@scenario(PLAIN % "", differs=True)
def forwarded_for(s):
    """nats-server tells only its log and monitor, INFO has the proxy's address."""
    result = {}
    for name, value in (("one", "10.1.2.3"), ("six", "2001:db8::1"), ("several", "10.1.2.3, 10.9.9.9"),
                        ("rubbish", "somewhere"), ("empty", ""), ("with a port", "10.1.2.3:99"),
                        ("twice", ["10.1.2.3", "10.4.5.6"])):
        with connect(s, headers={"X-Forwarded-For": value}) as ws:
            info = json.loads(ws.first[5:])
            said = login(ws, ',"protocol":1')
            later = json.loads(said[said.index("{"):])
            result[name] = [info.get("client_ip"), later.get("client_ip")]
    return result


@scenario('websocket { listen: "127.0.0.1:-1", no_tls: true, handshake_timeout: "400ms" }\n')
def slow_upgrade(s):
    sock = socket.create_connection(("127.0.0.1", s.websocket_port), 3.0)
    begin = time.monotonic()
    sock.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n")
    try:
        got = sock.recv(100)
    except OSError:
        got = b""
    sock.close()
    with connect(s) as ws:
        return [got.decode(), 0.2 < time.monotonic() - begin < 1.5, login(ws)]


TLS = ('websocket { listen: "127.0.0.1:-1", tls { cert_file: "CERTS/server-ecdsa.pem", key_file: '
       '"CERTS/server-ecdsa-key.pem"%s }, compression: true }\n')


@scenario(TLS % "")
def over_tls(s):
    result = {}
    tls = natsclient.tls(ca=s.file("ca.pem"))
    for deflate in (False, True):
        with connect(s, tls=tls, deflate=deflate) as ws:
            result["deflate %s" % deflate] = [ws.first, login(ws, ',"protocol":1'), big(ws, 1000000)]
    sock = socket.create_connection(("127.0.0.1", s.websocket_port), 3.0)
    sock.sendall(wsclient.Client.request_lines(type("x", (), {"host": "h", "port": 1})()))
    try:
        got = sock.recv(100)
    except OSError:
        got = b""
    result["plain"] = got.startswith(b"HTTP/1.1 101")
    sock.close()
    with s.client() as tcp:
        result["tcp"] = [tcp.info.get("tls_required"), tcp.connect()]
    return result


@scenario(TLS % ', ca_file: "CERTS/ca.pem", verify_and_map: true' +
          'authorization { users: [{ user: "derek@example.org", permissions: { publish: x } }, { user: a, password: b }] }')
def certificates(s):
    result = {}
    tls = natsclient.tls(ca=s.file("ca.pem"), cert=s.file("client.pem"))
    with connect(s, tls=tls) as ws:
        result["mapped"] = [ws.first, login(ws)]
        ws.send(b"PUB y 0\r\n\r\nPING\r\n")
        result["permissions"] = until_pong(ws)
    try:
        with connect(s, tls=natsclient.tls(ca=s.file("ca.pem"))) as ws:
            login(ws)
        result["none"] = "let in"
    except (OSError, wsclient.ClosedError):
        result["none"] = "refused"
    with s.client() as tcp:
        result["tcp"] = tcp.connect(user="a", **{"pass": "b"})
    return result


@scenario(PLAIN % "" + "ping_interval: \"300ms\"\nping_max: 1")
def stale(s):
    with connect(s) as ws:
        login(ws)
        begin = time.monotonic()
        code = ws.receive_close(4.0)
        return [*code, time.monotonic() - begin < 4.0]


@scenario(PLAIN % "" + "max_connections: 1")
def too_many(s):
    with connect(s) as first:
        said = login(first)
        ws = wsclient.connect(s.websocket_port, timeout=3.0)
        with ws:
            data = b""
            try:
                while True:
                    data += ws.receive().data
            except wsclient.ClosedError as closed:
                return [said, text(data), closed.code, closed.reason]


if __name__ == "__main__":
    sys.exit(compare.main("websocket", __doc__))
