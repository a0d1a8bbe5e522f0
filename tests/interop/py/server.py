"""Starts and stops a NATS server for the interop tests; used by exchange.py and process.py.

Everything runs on 127.0.0.1 with a port the server picks itself (-p -1). The address is read from
the log line every NATS server prints: "Listening for client connections on HOST:PORT".
"""

import atexit
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

LISTENING = re.compile(r"Listening for client connections on (.+):(\d+)\s*$")
READY = "Server is ready"
START_SECONDS = 15.0
STOP_SECONDS = 10.0


_running = set()  # the Server objects whose process may still run


def _kill_running():
    for server in list(_running):
        server.stop(signal.SIGKILL)


def stop_servers_at_exit():
    """No server survives this program, also when it is ended by SIGTERM or SIGINT."""
    atexit.register(_kill_running)
    signal.signal(signal.SIGTERM, lambda sig, frame: sys.exit(128 + sig))
    signal.signal(signal.SIGINT, lambda sig, frame: sys.exit(128 + sig))


class ServerError(Exception):
    """The server did not start; the text holds what it printed."""


class Server:
    """One server process. Use as a context manager, or call start() and stop()."""

    def __init__(self, binary, args=None, config=None, base_args=("-a", "127.0.0.1", "-p", "-1")):
        self.binary = binary
        self.args = list(base_args) + list(args or [])
        self.config = config
        self.process = None
        self.host = None
        self.port = None
        self.lines = []
        self._changed = threading.Condition()
        self._reader = None
        self._directory = None

    def __enter__(self):
        return self.start()

    def __exit__(self, *unused):
        self.stop()

    @property
    def address(self):
        return (self.host, self.port)

    @property
    def pid(self):
        return self.process.pid

    def log(self):
        with self._changed:
            return "\n".join(self.lines)

    def spawn(self):
        """Starts the process without waiting for it to be ready."""
        argv = [self.binary] + self.args
        if self.config is not None:
            self._directory = tempfile.mkdtemp(prefix="interop-")
            path = os.path.join(self._directory, "server.conf")
            with open(path, "w", encoding="utf-8") as file:
                file.write(self.config)
            argv += ["-c", path]
        self.process = subprocess.Popen(argv, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                        stderr=subprocess.STDOUT)
        _running.add(self)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def start(self):
        self.spawn()
        if not self.wait_line(lambda line: READY in line, START_SECONDS) or self.port is None:
            log = self.log()
            self.stop(signal.SIGKILL)
            raise ServerError("%s did not become ready:\n%s" % (self.binary, log))
        return self

    def _read(self):
        for raw in self.process.stdout:
            line = raw.decode("utf-8", "replace").rstrip("\n")
            with self._changed:
                self.lines.append(line)
                found = LISTENING.search(line)
                if found:
                    self.host, self.port = found.group(1), int(found.group(2))
                self._changed.notify_all()
        self.process.stdout.close()
        with self._changed:
            self.lines.append("")
            self._changed.notify_all()

    def wait_line(self, wanted, seconds):
        """True as soon as a log line satisfies `wanted`; False when the time is over."""
        limit = time.monotonic() + seconds
        seen = 0
        with self._changed:
            while True:
                while seen < len(self.lines):
                    if wanted(self.lines[seen]):
                        return True
                    seen += 1
                left = limit - time.monotonic()
                if left <= 0 or not self._reader.is_alive():
                    return False
                self._changed.wait(min(left, 0.2))

    def wait_exit(self, seconds=STOP_SECONDS):
        """The exit code, or None when the process still runs after `seconds`."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        self._reader.join(STOP_SECONDS)
        return code

    def stop(self, sig=signal.SIGTERM):
        """Ends the process by its pid and returns its exit code."""
        if self.process is None:
            return None
        if self.process.poll() is None:
            self.process.send_signal(sig)
        code = self.wait_exit()
        if code is None:
            self.process.kill()
            code = self.wait_exit()
        _running.discard(self)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None
        return code

    def rss_bytes(self):
        """Resident memory of the process."""
        with open("/proc/%d/statm" % self.pid, encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def cpu_seconds(self):
        """User and system time the process has used so far."""
        with open("/proc/%d/stat" % self.pid, encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def version_text(binary):
    """What `binary -v` prints."""
    done = subprocess.run([binary, "-v"], capture_output=True, timeout=10, check=False)
    return (done.stdout + done.stderr).decode("utf-8", "replace").strip()


def is_ringbus(binary):
    """Whether `binary` takes ringbus' own options (shards)."""
    return "ringbus" in os.path.basename(binary) or "ringbus" in version_text(binary)


def find_oracle():
    """The real nats-server: $NATS_SERVER, the PATH, ~/go/bin; None when it is not installed."""
    named = os.environ.get("NATS_SERVER")
    if named:
        return named if os.access(named, os.X_OK) else None
    found = shutil.which("nats-server")
    if found:
        return found
    path = os.path.expanduser("~/go/bin/nats-server")
    return path if os.access(path, os.X_OK) else None


def connect(address, seconds=5.0, receive_bytes=None):
    """A TCP connection without Nagle's delay."""
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(seconds)
    if receive_bytes is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_bytes)
    sock.connect((address[0].strip("[]"), address[1]))
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return sock
