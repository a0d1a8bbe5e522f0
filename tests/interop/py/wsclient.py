"""A small WebSocket client for the interop tests: standard library only, and as rude as a test wants it to be.

    with wsclient.connect(port, deflate=True) as ws:      # or Client(...).upgrade(...) by hand
        ws.send(b"CONNECT {}\\r\\nPING\\r\\n")
        print(ws.receive().data)                           # the next whole message
        ws.ping(b"x"); ws.raw(b"\\x82\\x00")                 # anything goes
        print(ws.receive_close())                          # (code, reason)
"""

import base64
import collections
import hashlib
import os
import socket
import ssl
import struct
import zlib

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
CONTINUE, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
TAIL = b"\x00\x00\xff\xff"

Frame = collections.namedtuple("Frame", "opcode fin rsv masked payload")
Message = collections.namedtuple("Message", "opcode data compressed frames")


class RefusedError(Exception):
    """The server did not upgrade: .status, .headers (names in lower case), .body."""

    def __init__(self, status, headers, body):
        super().__init__(f"upgrade refused: {status} {body!r}")
        self.status, self.headers, self.body = status, headers, body


class ClosedError(Exception):
    """The connection ended: .code and .reason of the close frame; code None when there was no such frame."""

    def __init__(self, code, reason):
        super().__init__(f"closed: {code} {reason!r}")
        self.code, self.reason = code, reason


def mask_bytes(data, mask):
    if not data:
        return b""
    pattern = (mask * (len(data) // 4 + 1))[: len(data)]
    return (int.from_bytes(data, "big") ^ int.from_bytes(pattern, "big")).to_bytes(len(data), "big")


def frame(opcode, payload=b"", fin=True, rsv=0, mask=True, length=None, form=None):
    """One frame. mask: True (random), False, or 4 bytes. length: announced instead of the true one. form: bytes of the
    length field (0, 2, 8), else the shortest."""
    if mask is True:
        mask = os.urandom(4)
    announced = len(payload) if length is None else length
    if form is None:
        form = 0 if announced < 126 else 2 if announced < 65536 else 8
    bit = 0x80 if mask else 0
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    if form == 0:
        head += bytes([bit | announced])
    elif form == 2:
        head += bytes([bit | 126]) + struct.pack(">H", announced)
    else:
        head += bytes([bit | 127]) + struct.pack(">Q", announced)
    return head + mask + mask_bytes(payload, mask) if mask else head + payload


def deflate(data, level=6):
    """One message as permessage-deflate without context takeover carries it."""
    packer = zlib.compressobj(level, zlib.DEFLATED, -15)
    return (packer.compress(data) + packer.flush(zlib.Z_SYNC_FLUSH))[: -len(TAIL)]


def inflate(data):
    return zlib.decompressobj(-15).decompress(data + TAIL)


class Client:
    """One connection. tls: None, or an ssl.SSLContext (see insecure_tls)."""

    def __init__(self, port, host="127.0.0.1", timeout=5.0, tls=None, server_name=None):
        self.host, self.port = host, port
        self.socket = socket.create_connection((host, port), timeout)
        if tls is not None:
            try:
                self.socket = tls.wrap_socket(self.socket, server_hostname=server_name or host)
            except BaseException:
                self.socket.close()
                raise
        self.tls = tls is not None
        self.status, self.headers = None, {}
        self.deflate = False
        self.mask = True
        self.pongs = []
        self.answer_pings = True
        self._in = b""
        self._fragments = None  # (opcode, compressed, payloads) of a message under way

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.abort()

    def abort(self):
        """Closes the socket without a word."""
        self.socket.close()

    # ------------------------------------------------------------ upgrade

    def request_lines(self, path="/", headers=None, cookies=None, deflate=False, no_masking=False, method="GET"):
        """The upgrade request as bytes. headers: dict; a value None leaves a standard header out, a list repeats it.
        deflate: True, or the whole extension offer as text. cookies: dict."""
        fields = {
            "Host": f"{self.host}:{self.port}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
            "Sec-WebSocket-Version": "13",
        }
        if deflate:
            offer = "permessage-deflate; client_no_context_takeover; server_no_context_takeover"
            fields["Sec-WebSocket-Extensions"] = offer if deflate is True else deflate
        if no_masking:
            fields["Nats-No-Masking"] = "true"
        if cookies:
            fields["Cookie"] = "; ".join(f"{name}={value}" for name, value in cookies.items())
        fields.update(headers or {})
        lines = [f"{method} {path} HTTP/1.1"]
        for name, value in fields.items():
            for one in value if isinstance(value, list) else [value]:
                if one is not None:
                    lines.append(f"{name}: {one}")
        self._key = fields["Sec-WebSocket-Key"]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def upgrade(self, **request):
        """Sends request_lines(**request) and reads the answer; RefusedError unless it is a good 101. Returns self."""
        self.socket.sendall(self.request_lines(**request))
        self.read_response()
        if self.status != 101:
            length = int(self.headers.get("content-length", 0))
            raise RefusedError(self.status, self.headers, self._take(length))
        key = self._key[0] if isinstance(self._key, list) else self._key
        wanted = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        if self.headers.get("sec-websocket-accept") != wanted:
            raise RefusedError(101, self.headers, b"wrong Sec-WebSocket-Accept")
        extensions = self.headers.get("sec-websocket-extensions", "")
        self.deflate = extensions.startswith("permessage-deflate")
        if self.headers.get("nats-no-masking") == "true":
            self.mask = False
        return self

    def read_response(self):
        """Reads a response head into .status and .headers (repeated ones joined by ", "); .head is the text."""
        while b"\r\n\r\n" not in self._in:
            self._fill()
        head, self._in = self._in.split(b"\r\n\r\n", 1)
        self.head = head.decode("latin-1")
        lines = self.head.split("\r\n")
        self.status = int(lines[0].split(" ")[1])
        self.headers = {}
        for line in lines[1:]:
            name, value = line.split(":", 1)
            name, value = name.strip().lower(), value.strip()
            self.headers[name] = f"{self.headers[name]}, {value}" if name in self.headers else value

    # ------------------------------------------------------------ sending

    def raw(self, data):
        self.socket.sendall(data)

    def send_frame(self, opcode, payload=b"", **options):
        options.setdefault("mask", self.mask)
        self.raw(frame(opcode, payload, **options))

    def send(self, data, opcode=BINARY, compress=None, fragments=1):
        """One message. compress: None means when it was negotiated. fragments: a number of equal parts, or a list of
        sizes of all but the last part."""
        compress = self.deflate if compress is None else compress
        payload = deflate(data) if compress else data
        if isinstance(fragments, int):
            size = max(1, -(-len(payload) // fragments))
            fragments = [size] * (max(1, -(-len(payload) // size)) - 1)
        parts, at = [], 0
        for size in fragments:
            parts.append(payload[at : at + size])
            at += size
        parts.append(payload[at:])
        for i, part in enumerate(parts):
            self.send_frame(opcode if i == 0 else CONTINUE, part, fin=i == len(parts) - 1,
                            rsv=4 if compress and i == 0 else 0)

    def send_text(self, text, **options):
        self.send(text.encode(), opcode=TEXT, **options)

    def ping(self, payload=b""):
        self.send_frame(PING, payload)

    def pong(self, payload=b""):
        self.send_frame(PONG, payload)

    def close(self, code=1000, reason=""):
        """Sends a close frame; code None: without a body. receive_close() reads the answer."""
        body = b"" if code is None else struct.pack(">H", code) + reason.encode()
        self.send_frame(CLOSE, body)

    # ------------------------------------------------------------ receiving

    def _fill(self):
        try:
            data = self.socket.recv(65536)
        except (ConnectionResetError, BrokenPipeError, ssl.SSLEOFError):
            data = b""
        if not data:
            raise ClosedError(None, "")
        self._in += data

    def _take(self, length):
        while len(self._in) < length:
            self._fill()
        data, self._in = self._in[:length], self._in[length:]
        return data

    def receive_frame(self, timeout=None):
        """The next frame as it came (unmasked if it was masked). TimeoutError when none comes; what came of one stays."""
        if timeout is not None:
            self.socket.settimeout(timeout)
        while True:
            size = self._frame_size()
            if size is not None and len(self._in) >= size:
                break
            self._fill()
        data = self._take(size)
        length = data[1] & 0x7F
        at = 2 + (2 if length == 126 else 8 if length == 127 else 0)
        masked = bool(data[1] & 0x80)
        payload = mask_bytes(data[at + 4 :], data[at : at + 4]) if masked else data[at:]
        return Frame(data[0] & 0x0F, bool(data[0] & 0x80), data[0] >> 4 & 7, masked, payload)

    def _frame_size(self):
        data = self._in
        if len(data) < 2:
            return None
        length, at = data[1] & 0x7F, 2
        if length == 126:
            length, at = int.from_bytes(data[2:4], "big"), 4
        elif length == 127:
            length, at = int.from_bytes(data[2:10], "big"), 10
        return None if len(data) < at else at + (4 if data[1] & 0x80 else 0) + length

    def receive(self, timeout=None):
        """The next whole message. Pings are answered (unless answer_pings is False), pongs go to .pongs, a close frame is
        raised as ClosedError. AssertionError when the server breaks the framing rules."""
        while True:
            got = self.receive_frame(timeout)
            assert not got.masked, "a server must not mask"
            assert got.rsv in (0, 4), f"reserved bits {got.rsv}"
            if got.opcode >= CLOSE:
                self._control(got)
                continue
            compressed = got.rsv == 4
            if got.opcode == CONTINUE:
                assert self._fragments is not None and not compressed, "continuation of nothing"
            else:
                assert self._fragments is None, "a message inside another"
                assert not compressed or self.deflate, "compression was not negotiated"
                self._fragments = (got.opcode, compressed, [])
            opcode, compressed, payloads = self._fragments
            payloads.append(got.payload)
            if got.fin:
                self._fragments = None
                data = b"".join(payloads)
                return Message(opcode, inflate(data) if compressed else data, compressed, len(payloads))

    def _control(self, got):
        assert got.fin and got.rsv == 0 and len(got.payload) <= 125, f"bad control frame {got}"
        if got.opcode == PING:
            if self.answer_pings:
                self.pong(got.payload)
        elif got.opcode == PONG:
            self.pongs.append(got.payload)
        else:
            assert got.opcode == CLOSE and len(got.payload) != 1, f"bad control frame {got}"
            code = struct.unpack(">H", got.payload[:2])[0] if got.payload else 1005
            raise ClosedError(code, got.payload[2:].decode())

    def receive_until(self, wanted, timeout=None):
        """Message data, joined, until it holds `wanted` (bytes): NATS does not care where messages end."""
        data = b""
        while wanted not in data:
            data += self.receive(timeout).data
        return data

    def receive_close(self, timeout=None):
        """(code, reason) of the close frame, messages before it skipped; (None, "") when there was none."""
        try:
            while True:
                self.receive(timeout)
        except ClosedError as closed:
            return closed.code, closed.reason

    def at_end(self, timeout=2.0):
        """True when the server closes the socket (or resets it) and nothing else comes."""
        self.socket.settimeout(timeout)
        try:
            self._fill()
        except ClosedError:
            return True
        except TimeoutError:
            pass
        return False


def insecure_tls():
    """A context that takes any certificate, for test servers."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def connect(port, host="127.0.0.1", timeout=5.0, tls=None, server_name=None, **request):
    """Connected and upgraded; the keywords of Client and of Client.request_lines."""
    client = Client(port, host, timeout, tls, server_name)
    try:
        return client.upgrade(**request)
    except BaseException:
        client.abort()
        raise
