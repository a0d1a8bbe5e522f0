"""A small NATS client for scenarios: plain, or over TLS in either order."""

import itertools
import json
import select
import socket
import ssl
import time

import server as servers
import wire


class Client:
    """Connects and, with tls=, makes the handshake: after INFO, or before it with first=True.

    What comes back is kept in .stream; .error is what ended it, in few words that are the same for every server.
    """

    def __init__(self, address, tls=None, first=False, name="localhost", seconds=3.0, before=b"",
                 receive_bytes=None):
        self.sock = servers.connect(address, seconds, receive_bytes)
        self.stream, self.error, self.info = b"", None, None
        if before:
            self.sock.sendall(before)
        if tls is not None and first:
            self.handshake(tls, name)
        if self.error is None:
            self.read_info()
        if tls is not None and not first and self.error is None:
            self.handshake(tls, name)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.sock.close()

    def handshake(self, tls, name):
        try:
            self.sock = tls.wrap_socket(self.sock, server_hostname=name)
        except ssl.SSLCertVerificationError:
            self.error = "server's certificate refused"
        except (ssl.SSLError, ConnectionError):
            self.error = "handshake refused"
        except TimeoutError:
            self.error = "handshake timed out"

    def read_info(self):
        self.receive_until(lambda stream: b"\r\n" in stream)
        if self.stream.startswith(b"INFO "):
            line, _, self.stream = self.stream.partition(b"\r\n")
            self.info = json.loads(line[5:])

    def send(self, data):
        try:
            self.sock.sendall(data)
        except ssl.SSLError as error:
            self._ended(error)
        except OSError:
            self.error = self.error or "closed"

    def _ended(self, error):
        self.error = self.error or ("closed by alert" if "ALERT" in str(error) else "closed")

    def receive(self, seconds):
        """One read; False when nothing comes or nothing will."""
        self.sock.settimeout(seconds)
        try:
            data = self.sock.recv(1 << 18)
        except ssl.SSLError as error:
            if isinstance(error, (ssl.SSLWantReadError, TimeoutError)) or "timed out" in str(error):
                return False
            self._ended(error)
            return False
        except TimeoutError:
            return False
        except OSError:
            self.error = self.error or "closed"
            return False
        if not data:
            self.error = self.error or "closed"
            return False
        self.stream += data
        return True

    def receive_until(self, enough, seconds=3.0):
        while not enough(self.stream):
            if not self.receive(seconds):
                return False
        return True

    def pump(self, data, want, seconds=10.0):
        """Sends `data` in pieces of many sizes and reads meanwhile, until `want` bytes came."""
        limit = time.monotonic() + seconds
        sizes = itertools.chain((1, 2, 3, 100, 5000, 40000), itertools.repeat(1 << 18))
        self.sock.setblocking(False)
        piece, at = data[:1], 0
        while (at < len(data) or len(self.stream) < want) and time.monotonic() < limit:
            moved = False
            if at < len(data):
                try: # the same piece again until it went, as TLS demands
                    sent = self.sock.send(piece)
                    at += sent
                    piece, moved = data[at:at + next(sizes)], True
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                    pass
            try:
                part = self.sock.recv(1 << 18)
                self.stream += part
                moved = True
                if not part:
                    break
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                pass
            if not moved:
                select.select([self.sock], [self.sock] if at < len(data) else [], [], 0.01)
        self.sock.setblocking(True)

    def ping(self, seconds=3.0):
        """PING, and all that came up to its PONG; what ended the connection when there is none."""
        self.send(b"PING\r\n")
        self.receive_until(lambda stream: b"PONG\r\n" in wire.split(stream), seconds)
        return self.take()

    def take(self):
        stream, self.stream = self.stream, b""
        text = wire.normal(stream).decode("latin-1")
        return text + " [%s]" % self.error if self.error else text

    def connect(self, seconds=3.0, **fields):
        """CONNECT and PING: what came."""
        fields.setdefault("verbose", False)
        fields.setdefault("pedantic", False)
        self.send(b"CONNECT " + json.dumps(fields).encode() + b"\r\nPING\r\n")
        last = b"INFO " if fields.get("protocol") else b"PONG\r\n" # the INFO follows the first PONG
        self.receive_until(lambda stream: any(message.startswith(last) and message.endswith(b"\n")
                                              for message in wire.split(stream)), seconds)
        return self.take()

    def rest(self, seconds=3.0):
        """All that comes until the server closes or nothing came for so long."""
        while self.receive(seconds):
            pass
        return self.take()


def tls(ca=None, cert=None, key=None, low=None, high=None, ciphers=None):
    """A client context; without `ca` the server is taken as it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = ca is not None
    context.verify_mode = ssl.CERT_REQUIRED if ca else ssl.CERT_NONE
    if ca:
        context.load_verify_locations(ca)
    if cert:
        context.load_cert_chain(cert, key or cert.replace(".pem", "-key.pem"))
    if low:
        context.minimum_version = low
    if high:
        context.maximum_version = high
    if ciphers:
        context.set_ciphers(ciphers)
    return context


def closed_at_once(address, data, seconds=3.0):
    """What a server says to `data` and whether it closes."""
    sock = servers.connect(address, seconds)
    stream = b""
    try:
        sock.sendall(data)
        while True:
            part = sock.recv(65536)
            if not part:
                return wire.normal(stream).decode("latin-1"), "closed"
            stream += part
    except socket.timeout:
        return wire.normal(stream).decode("latin-1"), "open"
    except OSError:
        return wire.normal(stream).decode("latin-1"), "closed"
    finally:
        sock.close()
