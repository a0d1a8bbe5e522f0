#!/usr/bin/env python3
"""Lame duck mode: what clients are told, when they are closed, and which signals count meanwhile.

  lameduck.py --server PATH [--only TEXT]

Each check runs against the server named and, where it is installed, against the real nats-server, which must do the same. The
last line printed is "lameduck: N passed, N failed, N skipped".
"""

import json
import re
import signal
import socket
import subprocess
import sys
import time

import server as servers
from checks import Failed, expect, no_oracle, run_checks
from process import Client
from server import Server, connect

# 30 s is the least that nats-server takes; clients are at most a second apart.
TIMES = 'lame_duck_duration: "30s"\nlame_duck_grace_period: "%s"\n'
TOLD = '{"verbose":false,"protocol":1}'


def ready(address, options=TOLD):
    client = Client(address, options)
    client.flush()
    if "protocol" in options:
        client.sock.settimeout(5)
        expect(client.line().startswith(b"INFO"), "no INFO after the first PONG")
    return client


def ended(client, seconds):
    """What came until the end, and how long it took; None: it did not end."""
    begin = time.monotonic()
    client.sock.settimeout(seconds)
    data = client.buffer
    try:
        while True:
            more = client.sock.recv(4096)
            if not more:
                return data, time.monotonic() - begin
            data += more
    except socket.timeout:
        return None, seconds
    except ConnectionError:
        return data, time.monotonic() - begin


def texts(server, *wanted):
    """Those of `wanted` that were logged, in the order of the log."""
    return [text for line in server.log().splitlines() for text in wanted if text in line]


LINES = ('Trapped "user defined signal 2" signal', "Entering lame duck mode, stop accepting new clients",
         "Closing existing clients", "Initiating Shutdown...", "Server Exiting..")


def check_all_of_it(binary):
    with Server(binary, config=TIMES % "1s") as server:
        told, plain = [ready(server.address) for _ in range(3)], ready(server.address, '{"verbose":false}')
        server.process.send_signal(signal.SIGUSR2)
        for client in told:
            line = client.line()
            info = json.loads(line[len(b"INFO "):])
            expect(info["ldm"] is True, "INFO is %r" % line)
            expect(not info.get("connect_urls"), "urls of a server that ends: %r" % line)
        try:
            connect(server.address).close()
            raise Failed("a new client is still taken")
        except ConnectionRefusedError:
            pass
        told[0].send(b"SUB a 1\r\n")
        told[0].flush()
        told[1].send(b"PUB a 2\r\nhi\r\n")
        expect(told[0].message() == b"hi", "messages do not go on")
        times = []
        begin = time.monotonic()
        for client in told + [plain]:
            data, _ = ended(client, 15)
            expect(data is not None, "a client was not closed")
            expect(b"-ERR" not in data and b"INFO" not in data, "last words: %r" % data)
            times.append(time.monotonic() - begin)
        expect(times[0] < 12 and max(times) > 0.4, "closed after %r" % times)
        expect(server.wait_exit() == 0, "the exit code is not 0")
        expect(texts(server, *LINES) == list(LINES), "the log is\n" + server.log())


def check_nobody(binary):
    with Server(binary, config=TIMES % "10s") as server:
        begin = time.monotonic()
        server.process.send_signal(signal.SIGUSR2)
        expect(server.wait_exit() == 0, "the exit code is not 0")
        expect(time.monotonic() - begin < 3, "it waits for nobody")
        expect("Closing existing clients" not in server.log(), server.log())


def check_sigterm(binary):
    with Server(binary, config=TIMES % "1s") as server:
        client = ready(server.address)
        server.process.send_signal(signal.SIGUSR2)
        expect(b'"ldm":true' in client.line(), "no INFO")
        server.process.send_signal(signal.SIGTERM)
        expect(server.wait_line(lambda line: 'Trapped "terminated"' in line, 3), "SIGTERM is not logged")
        expect(server.wait_exit(0.4) is None, "SIGTERM ended it")
        client.flush()
        expect(server.wait_exit() == 0, "the exit code is not 0")


def check_sigint(binary):
    with Server(binary, config=TIMES % "10s") as server:
        client = ready(server.address)
        server.process.send_signal(signal.SIGUSR2)
        expect(b'"ldm":true' in client.line(), "no INFO")
        begin = time.monotonic()
        server.process.send_signal(signal.SIGINT)
        expect(server.wait_exit() == 0, "the exit code is not 0")
        expect(time.monotonic() - begin < 4, "SIGINT waited")


def check_signal_flag(binary):
    with Server(binary, config=TIMES % "10s") as server:
        client = ready(server.address)
        done = subprocess.run([binary, "--signal", "ldm=%d" % server.pid], capture_output=True,
                              timeout=10, check=False)
        expect(done.returncode == 0, repr(done))
        expect(b'"ldm":true' in client.line(), "no INFO")
        done = subprocess.run([binary, "--signal", "quit=%d" % server.pid], capture_output=True,
                              timeout=10, check=False)
        expect(done.returncode == 0 and server.wait_exit() == 0, repr(done))


def check_websocket(binary):
    config = TIMES % "10s" + 'websocket { listen: "127.0.0.1:-1", no_tls: true }\n'
    with Server(binary, config=config) as server:
        found = re.search(r"websocket clients on ws://127\.0\.0\.1:(\d+)", server.log())
        expect(found, server.log())
        client = ready(server.address)
        server.process.send_signal(signal.SIGUSR2)
        expect(b'"ldm":true' in client.line(), "no INFO")
        try:
            connect(("127.0.0.1", int(found.group(1)))).close()
            raise Failed("the websocket listener is still there")
        except ConnectionRefusedError:
            pass


CHECKS = (
    ("from SIGUSR2 to the end", check_all_of_it),
    ("without clients it ends at once", check_nobody),
    ("SIGTERM is ignored", check_sigterm),
    ("SIGINT is not", check_sigint),
    ("--signal ldm", check_signal_flag),
    ("the websocket listener", check_websocket),
)


def cases(binary):
    oracle = servers.find_oracle()
    if oracle is None:
        yield "comparison", no_oracle
    for name, check in CHECKS:
        yield name + " (ringbus)", lambda check=check: check(binary)
        if oracle is not None:
            yield name + " (nats-server)", lambda check=check: check(oracle)


if __name__ == "__main__":
    sys.exit(run_checks("lameduck", __doc__, cases))
