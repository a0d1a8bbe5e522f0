#!/usr/bin/env python3
"""The server as a process: start-up lines, flags, signals, exit codes, and hard clients.

  process.py --server PATH [--only TEXT]

Every check starts its own server on a loopback port and ends it by pid. Checks of what ringbus alone
does (an option it refuses) are skipped for other servers. The last line printed is
"process: N passed, N failed, N skipped".
"""

import json
import os
import re
import resource
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

import server as servers
from checks import Skipped, expect, run_checks
from server import Server, connect

LOG_LINE = r"\[\d+\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d\.\d{6} \[%s\] "
MIB = 1024 * 1024


def command(binary, *args):
    """Runs the server with arguments that make it end by itself."""
    done = subprocess.run([binary, *args], capture_output=True, timeout=15, check=False,
                          stdin=subprocess.DEVNULL)
    return (done.returncode, done.stdout.decode("utf-8", "replace"),
            done.stderr.decode("utf-8", "replace"))


# --- a small client ------------------------------------------------------------------------------

class Client:
    """A connection that has read INFO and sent CONNECT."""

    def __init__(self, address, options='{"verbose":false}', **connect_options):
        self.sock = connect(address, **connect_options)
        self.buffer = b""
        self.info = json.loads(self.line()[len(b"INFO "):])
        self.send(b"CONNECT " + options.encode() + b"\r\n")

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.sock.close()

    def send(self, data):
        self.sock.sendall(data)

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

    def control(self):
        """The next line that is no PING; PINGs are answered."""
        while True:
            line = self.line()
            if line != b"PING":
                return line
            self.send(b"PONG\r\n")

    def delivery(self):
        """The subject and the payload of the next message."""
        line = self.control()
        expect(line.startswith(b"MSG "), "expected a message, got %r" % line[:100])
        size = int(line.rsplit(b" ", 1)[1])
        while len(self.buffer) < size + 2:
            self.fill()
        payload, self.buffer = self.buffer[:size], self.buffer[size + 2:]
        return line.split()[1].decode(), payload

    def message(self):
        """The payload of the next message."""
        return self.delivery()[1]

    def flush(self):
        self.send(b"PING\r\n")
        line = self.control()
        expect(line == b"PONG", "expected PONG, got %r" % line[:100])


def round_trip(address):
    """A message through a fresh pair of connections: the server works. Returns the seconds."""
    start = time.monotonic()
    with Client(address) as receiver, Client(address) as sender:
        receiver.send(b"SUB round.trip 1\r\n")
        receiver.flush()
        sender.send(b"PUB round.trip 5\r\nhello\r\n")
        expect(receiver.message() == b"hello", "a message is damaged")
    return time.monotonic() - start


# --- start-up ------------------------------------------------------------------------------------

def check_start_lines(binary):
    with Server(binary) as server:
        log = server.log()
        at = -1
        for text in (r"Starting \S+", r"  Version: +\S.*", r"  Name: +\S+", r"  ID: +N[A-Z2-7]{55}",
                     r"Listening for client connections on 127\.0\.0\.1:\d+", r"Server is ready"):
            found = re.search("(?m)^" + LOG_LINE % "INF" + text + "$", log)
            expect(found, "no line %r in:\n%s" % (text, log))
            expect(found.start() > at, "%r comes too early in:\n%s" % (text, log))
            at = found.start()
        expect("[%d]" % server.pid in log, "the pid is not in the log lines")


def check_port_flags(binary):
    for args in (["-p", "-1"], ["-p=-1"], ["--p", "-1"], ["--port=-1"], ["-port", "-1"],
                 ["--port", "-1"], ["-port=-1"]):
        with Server(binary, base_args=["-a", "127.0.0.1"] + args) as server:
            expect(server.port > 0, "%s: no port" % args)
            with Client(server.address) as client:
                expect(client.info["port"] == server.port, "%s: INFO has another port" % args)


def check_fixed_port(binary):
    with Server(binary) as first:
        port = first.port
    with Server(binary, base_args=["--addr", "127.0.0.1", "--port", str(port)]) as server:
        expect(server.port == port, "port %s instead of %s" % (server.port, port))
        round_trip(server.address)


def check_version(binary):
    for flag in ("-v", "--version", "-version", "--v"):
        code, out, err = command(binary, flag)
        expect(code == 0, "%s: exit code %d" % (flag, code))
        expect(re.search(r"\bv?\d+\.\d+\.\d+", out + err), "%s prints no version" % flag)


def check_help(binary):
    for flag in ("-h", "--help", "-help"):
        code, out, err = command(binary, flag)
        expect(code == 0, "%s: exit code %d" % (flag, code))
        expect("Usage" in out + err and "--port" in out + err, "%s prints no usage" % flag)


def check_unknown_flag(binary):
    code, _, err = command(binary, "--no-such-flag")
    expect("flag provided but not defined: -no-such-flag" in err, "stderr is %r" % err[:200])
    expect(code == 0, "exit code %d" % code)


def check_unknown_word(binary):
    code, out, err = command(binary, "frobnicate")
    expect('unrecognized command: "frobnicate"' in out + err, "it prints %r" % (out + err)[:200])
    expect(code == 1, "exit code %d" % code)


def check_flags_refused(binary):
    if not servers.is_ringbus(binary):
        raise Skipped("only ringbus refuses them")
    for args in (["--cluster", "nats://127.0.0.1:-1"], ["--routes=nats://h:1"], ["-profile", "1"]):
        code, out, err = command(binary, "-a", "127.0.0.1", "-p", "-1", *args)
        expect(code == 1, "%s: exit code %d" % (args, code))
        expect("not supported" in out + err, "%s prints %r" % (args, (out + err)[:200]))


def check_option_refused(binary):
    if not servers.is_ringbus(binary):
        raise Skipped("only ringbus refuses cluster {}")
    server = Server(binary, config='cluster { name: "c", port: -1 }\n').spawn()
    code = server.wait_exit()
    log = server.log()
    server.stop(signal.SIGKILL)
    expect(code == 1, "exit code %s" % code)
    expect("cluster" in log, "the option is not named in %r" % log[:300])


def check_log_file(binary):
    for flag in ("-l", "--log"):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "server.log")
            server = Server(binary, [flag, path]).spawn()
            try:
                limit = time.monotonic() + servers.START_SECONDS
                text = ""
                while servers.READY not in text and time.monotonic() < limit:
                    time.sleep(0.02)
                    if os.path.exists(path):
                        with open(path, encoding="utf-8") as file:
                            text = file.read()
                expect(servers.READY in text, "%s: the file does not say it is ready" % flag)
                found = re.search(r"client connections on (\S+):(\d+)", text)
                expect(found, "%s: no address in the file" % flag)
                round_trip((found.group(1), int(found.group(2))))
                expect(os.stat(path).st_mode & 0o777 == 0o640, "%s: mode is not 0640" % flag)
            finally:
                code = server.stop()
            expect(code == 0, "%s: exit code %s" % (flag, code))
            with open(path, encoding="utf-8") as file:
                expect("Server Exiting.." in file.read(), "%s: the end is not in the file" % flag)
            expect(servers.READY not in server.log(), "%s: lines go to stderr too" % flag)


def check_no_log_time(binary):
    for flag in ("-T=false", "--logtime=false"):
        with Server(binary, [flag]) as server:
            expect(re.search(r"(?m)^\[\d+\] \[INF\] Server is ready$", server.log()),
                   "%s: %r" % (flag, server.log()[:200]))


def wait_for(path, test):
    """The text of a file once `test` likes it, or what it holds after a while."""
    limit = time.monotonic() + servers.START_SECONDS
    text = ""
    while time.monotonic() < limit:
        if os.path.exists(path):
            with open(path, encoding="utf-8") as file:
                text = file.read()
            if test(text):
                break
        time.sleep(0.02)
    return text


def check_log_reopen(binary):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "server.log")
        server = Server(binary, ["-l", path]).spawn()
        try:
            expect(servers.READY in wait_for(path, lambda text: servers.READY in text), "no log")
            os.rename(path, path + ".old")
            os.kill(server.pid, signal.SIGUSR1)
            text = wait_for(path, lambda text: "File log re-opened" in text)
            expect("File log re-opened" in text, "the new file holds %r" % text)
        finally:
            code = server.stop()
        expect(code == 0, "exit code %s" % code)
        with open(path + ".old", encoding="utf-8") as file:
            expect('Trapped "user defined signal 1" signal' in file.read(), "the old file ends early")


def check_log_rotation(binary):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "server.log")
        server = Server(binary, ["-l", path, "-log_size_limit", "300"]).spawn()
        try:
            wait_for(path, lambda text: "Rotated log" in text)
        finally:
            server.stop()
        old = sorted(name for name in os.listdir(directory) if name != "server.log")
        expect(old and all(re.fullmatch(r"server\.log(\.\d+){7}", name) for name in old),
               "the files are %r" % os.listdir(directory))
        lines = ""
        for name in old + ["server.log"]:
            with open(os.path.join(directory, name), encoding="utf-8") as file:
                lines += file.read()
        for text in ("Starting ", servers.READY, "Rotated log, backup saved as", "Server Exiting.."):
            expect(text in lines, "%r is lost" % text)


def check_ports_file(binary):
    with tempfile.TemporaryDirectory() as directory:
        with Server(binary, ["--ports_file_dir", directory]) as server:
            name = "%s_%d.ports" % (os.path.basename(binary), server.pid)
            text = wait_for(os.path.join(directory, name), lambda text: text.endswith("}"))
            expect(json.loads(text) == {"nats": ["nats://127.0.0.1:%d" % server.port]},
                   "the file holds %r" % text)
        expect(os.listdir(directory) == [], "it stays: %r" % os.listdir(directory))


def check_signal_flag(binary):
    with tempfile.TemporaryDirectory() as directory:
        path = os.path.join(directory, "server.pid")
        with Server(binary, ["-P", path]) as server:
            for target in (str(server.pid), path):
                code, out, err = command(binary, "--signal", "reopen=" + target)
                expect((code, out, err) == (0, "", ""), "%r" % ((code, out, err),))
            code, _, err = command(binary, "-sl=quit=%d" % server.pid)
            expect(code == 0, "exit code %d: %s" % (code, err))
            expect(server.wait_exit() == 0, "the server does not end")
            expect("re-open ignored, not a file logger" in server.log(), "no reopen in the log")
    for args, wanted in ((["--signal", "quit=abc"], "invalid pid: abc"),
                         (["--signal", "quit=1=2"], "invalid signal parameters: [2]"),
                         (["--signal", "frob=%d" % os.getpid()], 'unknown signal "frob"'),
                         (["--signal", "ldm=2147483646"],
                          'signal "ldm" 2147483646: no such process')):
        code, _, err = command(binary, *args)
        expect(code == 1 and wanted in err, "%s: exit code %d, %r" % (args, code, err))


def check_pid_file(binary):
    for flag in ("-P", "--pid"):
        with tempfile.TemporaryDirectory() as directory:
            path = os.path.join(directory, "server.pid")
            with Server(binary, [flag, path]) as server:
                with open(path, encoding="ascii") as file:
                    text = file.read()
                expect(text == str(server.pid), "%s: the file holds %r" % (flag, text))


def check_config_file(binary):
    config = 'max_payload: 2048 # comment\nserver_name = "from-file"\nwrite_deadline: "5s"\n'
    with Server(binary, config=config) as server:
        log = server.log()
        expect(re.search(r"Using configuration file: \S+server\.conf \(sha256:[0-9a-f]{64}\)", log),
               "no line about the file in:\n" + log)
        with Client(server.address) as client:
            expect(client.info["max_payload"] == 2048, "max_payload is not from the file")
            expect(client.info["server_name"] == "from-file", "server_name is not from the file")


def check_flags_over_file(binary):
    with Server(binary, ["--name", "from-flag"], config='server_name: "from-file"\n') as server:
        with Client(server.address) as client:
            expect(client.info["server_name"] == "from-flag", "the file wins over the flag")


def check_port_in_file(binary):
    config = 'listen: "127.0.0.1:-1"\n'
    with Server(binary, config=config, base_args=()) as server:
        expect(server.host == "127.0.0.1", "listens on %s" % server.host)
        round_trip(server.address)


def check_missing_file(binary):
    code, out, err = command(binary, "-c", "/no/such/file.conf")
    expect(code == 1, "exit code %d" % code)
    expect("open /no/such/file.conf: no such file or directory" in out + err,
           "it prints %r" % (out + err)[:200])


def refused_config(binary, text, wanted):
    server = Server(binary, config=text).spawn()
    code = server.wait_exit()
    log = server.log()
    server.stop(signal.SIGKILL)
    expect(code == 1, "%r: exit code %s" % (text, code))
    expect(re.search(wanted, log), "%r: it prints %r" % (text, log[:300]))


def check_bad_config(binary):
    refused_config(binary, "port: -1\nno_such_option: 1\n",
                   r'server\.conf:2:\d+: unknown field "no_such_option"')
    refused_config(binary, "port: {\n", r"(?i)invalid|parse error")
    refused_config(binary, "max_payload: 2048\nmax_pending: 1024\n", r"max_pending")


def check_user_flags(binary):
    with Server(binary, ["--user", "ann", "--pass", "pw"]) as server:
        with Client(server.address, '{"verbose":false,"user":"ann","pass":"pw"}') as client:
            expect(client.info.get("auth_required") is True, "INFO does not ask for credentials")
            client.flush()
        with Client(server.address, '{"verbose":false,"user":"ann","pass":"no"}') as client:
            expect(client.control() == b"-ERR 'Authorization Violation'", "a bad password is taken")
    with Server(binary, ["--auth", "s3cret"]) as server:
        with Client(server.address, '{"verbose":false,"auth_token":"s3cret"}') as client:
            client.flush()


# --- the end -------------------------------------------------------------------------------------

def end_by(binary, sig, name):
    server = Server(binary).start()
    try:
        with Client(server.address) as client:
            client.flush()
            start = time.monotonic()
            server.process.send_signal(sig)
            code = server.wait_exit()
            expect(code == 0, "exit code %s" % code)
            expect(time.monotonic() - start < 5, "it took longer than 5 s")
            try:
                rest = client.sock.recv(100)
            except ConnectionError:
                rest = b""
            expect(rest == b"", "a client received %r" % rest)
        log = server.log()
        for text in ('Trapped "%s" signal' % name, "Initiating Shutdown...", "Server Exiting.."):
            expect(text in log, "no %r in the log" % text)
    finally:
        server.stop(signal.SIGKILL)


def check_sigint(binary):
    end_by(binary, signal.SIGINT, "interrupt")


def check_sigterm(binary):
    end_by(binary, signal.SIGTERM, "terminated")


def check_port_in_use(binary):
    with Server(binary) as first:
        second = Server(binary, base_args=["-a", "127.0.0.1", "-p", str(first.port)]).spawn()
        code = second.wait_exit()
        log = second.log()
        second.stop(signal.SIGKILL)
        expect(code == 1, "exit code %s" % code)
        wanted = LOG_LINE % "FTL" + r"Error listening on port: 127\.0\.0\.1:%d, " % first.port
        expect(re.search(wanted, log), "no FTL line in:\n" + log)
        expect("address already in use" in log, "the reason is missing in:\n" + log)
        round_trip(first.address)


def check_restart_at_once(binary):
    """The port can be taken again while old connections linger."""
    with Server(binary) as first:
        port = first.port
        clients = [Client(first.address) for _ in range(5)]
        for client in clients:
            client.flush()
        first.stop()
        for client in clients:
            client.sock.close()
    with Server(binary, base_args=["-a", "127.0.0.1", "-p", str(port)]) as server:
        round_trip(server.address)


# --- load and hard clients -----------------------------------------------------------------------

def check_idle_cpu(binary):
    with Server(binary) as server, Client(server.address) as client:
        client.send(b"SUB a 1\r\n")
        client.flush()
        time.sleep(3)  # the early PING of the server is behind us
        before = server.cpu_seconds()
        time.sleep(3)
        used = server.cpu_seconds() - before
        expect(used < 0.020, "%.0f ms of CPU in 3 idle seconds" % (used * 1000))


def check_slow_consumer(binary):
    """A client that never reads is dropped; memory stays bounded; nobody else notices."""
    config = 'max_pending: 4194304\nmax_payload: 262144\nwrite_deadline: "10s"\n'
    payload = bytes(range(256)) * 256  # 64 KiB
    batch, batches = 16, 64            # 1 MiB at a time, 64 MiB in all
    with Server(binary, config=config) as server, \
            Client(server.address, receive_bytes=4096) as slow, \
            Client(server.address) as good, Client(server.address) as sender:
        slow.send(b"SUB load 1\r\n")
        slow.flush()
        good.send(b"SUB load 1\r\n")
        good.flush()
        base, peak = server.rss_bytes(), 0
        line = b"PUB load %d\r\n" % len(payload)
        for _ in range(batches):
            sender.send((line + payload + b"\r\n") * batch)
            for _ in range(batch):
                expect(good.message() == payload, "the reading subscriber got a damaged message")
            peak = max(peak, server.rss_bytes())
        sender.flush()
        good.flush()
        expect(peak - base < 64 * MIB, "memory grew by %d MiB" % ((peak - base) // MIB))
        expect(server.wait_line(lambda text: "Slow Consumer" in text, 5),
               "no line about a slow consumer in the log")
        got = 0
        try:
            while True:
                data = slow.sock.recv(1 << 18)
                if not data:
                    break
                expect(b"-ERR" not in data, "the slow client was sent an error")
                got += len(data)
        except ConnectionError:
            pass
        expect(got < batch * batches * len(payload) // 2, "the slow client was never dropped")
        round_trip(server.address)


def check_write_deadline(binary):
    """The same client is dropped by time when its queue stays below max_pending."""
    config = 'write_deadline: "1s"\n'
    payload = b"x" * 65536
    with Server(binary, config=config) as server, \
            Client(server.address, receive_bytes=4096) as slow, Client(server.address) as sender:
        slow.send(b"SUB load 1\r\n")
        slow.flush()
        for _ in range(20):  # 20 MiB: more than the kernel takes, less than max_pending
            sender.send((b"PUB load 65536\r\n" + payload + b"\r\n") * 16)
            sender.flush()
        expect(server.wait_line(lambda text: "Slow Consumer" in text, 8),
               "no line about a slow consumer in the log")
        round_trip(server.address)


def check_byte_a_second(binary):
    """A client that reads one byte a second keeps its messages and disturbs nobody."""
    with Server(binary) as server, Client(server.address, receive_bytes=4096) as crawler, \
            Client(server.address) as sender:
        crawler.send(b"SUB crawl 1\r\n")
        crawler.flush()
        wanted = b""
        for number in range(500):
            payload = b"%06d" % number * 100
            sender.send(b"PUB crawl %d\r\n%s\r\n" % (len(payload), payload))
            wanted += b"MSG crawl 1 %d\r\n%s\r\n" % (len(payload), payload)
        sender.flush()
        got = b""
        for _ in range(4):
            got += crawler.sock.recv(1)
            expect(round_trip(server.address) < 0.9, "others wait for the crawler")
            time.sleep(1)
        while len(got.replace(b"PING\r\n", b"")) < len(wanted):
            data = crawler.sock.recv(4096)
            expect(data, "the crawler was dropped")
            got += data
        expect(got.replace(b"PING\r\n", b"") == wanted, "the crawler's bytes are damaged")


def check_death_in_payload(binary):
    """Clients that die half-way through a message leave nothing behind."""
    with Server(binary) as server, Client(server.address) as receiver:
        receiver.send(b"SUB half 1\r\n")
        receiver.flush()
        for number in range(50):
            sock = connect(server.address)
            if number % 2 == 0:  # a reset instead of an orderly end
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.sendall(b'CONNECT {"verbose":false}\r\nSUB half 1\r\nPUB half 100000\r\n'
                         + b"x" * (number * 1900))
            if number % 3 == 0:
                time.sleep(0.005)
            sock.close()
        with Client(server.address) as sender:
            sender.send(b"PUB half 5\r\nwhole\r\n")
            sender.flush()
        expect(receiver.message() == b"whole", "half a message was delivered")
        receiver.flush()
        round_trip(server.address)


def check_silent_connections(binary):
    """1000 connections that say nothing cost little and are all served with INFO."""
    count = 1000
    with Server(binary) as server:
        base = server.rss_bytes()
        socks = []
        try:
            for _ in range(count):
                socks.append(connect(server.address))
            for number, sock in enumerate(socks):
                data = b""
                while not data.endswith(b"\r\n"):
                    part = sock.recv(4096)
                    expect(part, "connection %d was closed" % number)
                    data += part
                expect(data.startswith(b"INFO {"), "connection %d got %r" % (number, data[:60]))
            growth = server.rss_bytes() - base
            expect(growth < 64 * MIB, "memory grew by %d MiB" % (growth // MIB))
            expect(round_trip(server.address) < 1, "a working client waits longer than a second")
            for sock in socks[::100]:
                sock.sendall(b"PING\r\n")
                expect(sock.recv(100) == b"PONG\r\n", "a silent connection does not work")
        finally:
            for sock in socks:
                sock.close()
        round_trip(server.address)


def check_connection_churn(binary):
    """Connections that come and go leave no memory and no descriptor behind."""
    with Server(binary) as server:
        def descriptors():
            return len(os.listdir("/proc/%d/fd" % server.pid))
        round_trip(server.address)
        time.sleep(0.3)
        before = descriptors()
        for _ in range(500):
            with Client(server.address) as client:
                client.send(b"SUB churn 1\r\nPUB churn 1\r\nx\r\nPING\r\n")
                expect(client.message() == b"x", "a damaged message")
        limit = time.monotonic() + 5
        while descriptors() > before + 2 and time.monotonic() < limit:
            time.sleep(0.05)
        expect(descriptors() <= before + 2, "%d descriptors, %d before" % (descriptors(), before))


def check_many_senders(binary):
    """Eight connections publish at once; each receiver gets each sender's messages in order."""
    count, senders = 2000, 8
    with Server(binary) as server, Client(server.address) as receiver:
        receiver.send(b"SUB many.* 1\r\n")
        receiver.flush()

        def send(number):
            with Client(server.address) as client:
                for start in range(0, count, 100):
                    client.send(b"".join(b"PUB many.%d 8\r\n%02d%06d\r\n" % (number, number, i)
                                         for i in range(start, start + 100)))
                    client.flush()

        threads = [threading.Thread(target=send, args=(n,)) for n in range(senders)]
        for thread in threads:
            thread.start()
        following = [0] * senders
        for _ in range(count * senders):
            payload = receiver.message()
            number, index = int(payload[:2]), int(payload[2:])
            expect(index == following[number], "sender %d: %d came, %d expected" % (
                number, index, following[number]))
            following[number] += 1
        for thread in threads:
            thread.join()


CHECKS = (
    ("start-up lines", check_start_lines),
    ("-p -1 in all spellings", check_port_flags),
    ("a fixed port", check_fixed_port),
    ("-v", check_version),
    ("-h", check_help),
    ("unknown flag", check_unknown_flag),
    ("unknown word", check_unknown_word),
    ("flags for what is missing are refused", check_flags_refused),
    ("an unsupported option is refused", check_option_refused),
    ("-l FILE", check_log_file),
    ("-T=false", check_no_log_time),
    ("-P FILE", check_pid_file),
    ("SIGUSR1 opens the log again", check_log_reopen),
    ("--log_size_limit", check_log_rotation),
    ("--ports_file_dir", check_ports_file),
    ("--signal", check_signal_flag),
    ("configuration file", check_config_file),
    ("flags over the file", check_flags_over_file),
    ("the port in the file", check_port_in_file),
    ("missing configuration file", check_missing_file),
    ("bad configuration", check_bad_config),
    ("--user, --pass, --auth", check_user_flags),
    ("SIGINT", check_sigint),
    ("SIGTERM", check_sigterm),
    ("port in use", check_port_in_use),
    ("restart at once", check_restart_at_once),
    ("idle server uses no CPU", check_idle_cpu),
    ("slow consumer", check_slow_consumer),
    ("write deadline", check_write_deadline),
    ("a byte a second", check_byte_a_second),
    ("death in the middle of a payload", check_death_in_payload),
    ("1000 silent connections", check_silent_connections),
    ("connections that come and go", check_connection_churn),
    ("eight senders", check_many_senders),
)


def raise_limits():
    """Descriptors for the checks with many connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(hard, 8192)
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def cases(binary):
    raise_limits()
    return [(name, lambda check=check: check(binary)) for name, check in CHECKS]


if __name__ == "__main__":
    sys.exit(run_checks("process", __doc__, cases))
