#!/usr/bin/env python3
"""Raw-TCP exchanges against a NATS server, compared byte by byte.

  exchange.py --server PATH [--oracle PATH|none] [FILE...]   start servers, run every group
  exchange.py --addr HOST:PORT [--oracle-addr HOST:PORT]     a running server; only groups that
                                                             need no configuration
  exchange.py --server PATH --record FILE...                 rewrite the expected bytes in FILE

Every exchange is sent whole, byte by byte, and twice in random pieces; all four must give the bytes
written in the exchange file. Where the real nats-server is installed ($NATS_SERVER, PATH,
~/go/bin) each exchange also runs against it, and the bytes of both servers are compared.
exchanges/README.md describes the format of the files. The last line printed is
"exchange: N passed, N failed, N skipped".
"""

import argparse
import concurrent.futures
import glob
import os
import random
import re
import select
import socket
import sys
import time
import zlib

import server as servers
import wire

STEP_SECONDS = 3.0     # a server that owes us bytes has this long
QUIET_SECONDS = 0.25   # recording: nothing more will come
BYTEWISE_MAX = 12000   # longer exchanges are sent in larger pieces instead
GROUPS_AT_ONCE = 6
REPLY = b"@REPLY@"
FLAGS = ("sort", "hide-sid", "whole-only", "oracle-whole", "keep-pings", "differs")
MODES = ("whole", "bytes", "pieces-1", "pieces-2")
ESCAPE = re.compile(rb"\\(?:([rnt\\])|x([0-9a-fA-F]{2})|\{(.+?)\*(\d+)\})")
LINES = re.compile(rb"(?:[^\r]|\r(?!\n))*\r\n|(?s:.)+\Z")
REPEATED = re.compile(rb"([A-Za-z0-9.]{1,16}?)\1{23,}|(?s:.)")
LINE = re.compile(r"(?:([A-Z])\s*)?([<>])(?: (.*))?$")
WORD = re.compile(r"(?:([A-Z])\s+)?(connect|open|closed|drop|eof)(?:\s+(.*))?$")


class FormatError(Exception):
    """An exchange file that cannot be read."""


# --- the files -----------------------------------------------------------------------------------

def decode(text):
    """The bytes of a line: escapes are resolved, CRLF is added unless it ends in a backslash."""
    raw = text.encode()
    ending = b"\r\n"
    if re.search(rb"(?<!\\)(\\\\)*\\$", raw):
        raw, ending = raw[:-1], b""

    def one(match):
        if match.group(1):
            return {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"\\": b"\\"}[match.group(1)]
        if match.group(2):
            return bytes([int(match.group(2), 16)])
        return match.group(3) * int(match.group(4))

    return ESCAPE.sub(one, raw) + ending


def encode_byte(byte):
    if byte in (b"\r", b"\n", b"\t", b"\\"):
        return {b"\r": "\\r", b"\n": "\\n", b"\t": "\\t", b"\\": "\\\\"}[byte]
    return byte.decode() if 32 <= byte[0] < 127 else "\\x%02x" % byte[0]


def encode(data):
    """Bytes -> text lines that decode() turns into the same bytes."""
    lines = []
    for part in LINES.findall(data):
        whole = part.endswith(b"\r\n")
        text = ""
        for run in REPEATED.finditer(part[:-2] if whole else part):
            if run.group(1):
                unit = run.group(1).decode()
                text += "\\{%s*%d}" % (unit, len(run.group(0)) // len(unit))
            else:
                text += encode_byte(run.group(0))
        if text.endswith(" "):
            text = text[:-1] + "\\x20"
        lines.append(text + ("" if whole else "\\"))
    return lines


class Step:
    """One thing to do: send, expect, connect, drop, eof, wait, state."""

    def __init__(self, kind, conn, value=None):
        self.kind, self.conn, self.value = kind, conn, value


class Exchange:
    def __init__(self, name, group, where):
        self.name, self.group, self.where = name, group, where
        self.sort = self.hide_sid = self.whole_only = self.oracle_whole = False
        self.keep_pings = self.differs = False
        self.lines = []  # (line number, step)
        self.steps = []  # what to do, from the lines


class Group:
    def __init__(self, name):
        self.name, self.config, self.ringbus_config, self.info = name, [], [], None


def expand(text, defines):
    return re.sub(r"\$\(([a-z0-9-]+)\)", lambda m: defines[m.group(1)], text)


def read_file(path):
    """The exchanges of one file, in order."""
    exchanges, defines, group, exchange = [], {}, None, None
    with open(path, encoding="utf-8") as file:
        lines = file.read().split("\n")
    for number, line in enumerate(lines):
        where = "%s:%d" % (os.path.basename(path), number + 1)
        word, _, rest = line.partition(" ")
        if not line.strip() or line.startswith("#"):
            continue
        if word == "define":
            name, _, value = rest.partition(" ")
            defines[name] = expand(value, defines)
        elif word == "group":
            group, exchange = Group(rest.strip()), None
        elif group is None:
            raise FormatError("%s: no group yet" % where)
        elif word == "config":
            group.config.append(rest)
        elif word == "ringbus-config":
            group.ringbus_config.append(rest)
        elif word == "info":
            group.info = decode(expand(rest, defines))
        elif word == "test":
            exchange = Exchange(rest.strip(), group, where)
            exchanges.append(exchange)
        elif exchange is None:
            raise FormatError("%s: no test yet" % where)
        elif line in FLAGS:
            setattr(exchange, line.replace("-", "_"), True)
        else:
            if word == "wait":
                step = Step("wait", None, float(rest))
            else:
                step = read_step(line, defines, where)
            exchange.lines.append((number, step))
    for exchange in exchanges:
        exchange.steps = merged([step for _, step in exchange.lines])
    return exchanges, lines


def merged(steps):
    """Sends of one connection that follow each other become one."""
    result = []
    for step in steps:
        last = result[-1] if result else None
        if last and step.kind == last.kind == "send" and step.conn == last.conn:
            result[-1] = Step("send", step.conn, last.value + step.value)
        else:
            result.append(step)
    return result


def read_step(line, defines, where):
    match = LINE.match(line)
    if match:
        conn, arrow, text = match.groups()
        kind = "send" if arrow == ">" else "expect"
        return Step(kind, conn or "A", decode(expand(text or "", defines)))
    match = WORD.match(line)
    if not match:
        raise FormatError("%s: cannot read %r" % (where, line))
    conn, word, rest = match.groups()
    if word in ("open", "closed"):
        return Step("state", conn or "A", (word, rest))
    return Step(word, conn or "A", None)


# --- one connection ------------------------------------------------------------------------------

class Conn:
    """A raw connection: what was received, and whether the server closed it."""

    def __init__(self, address, exchange, rng, mode):
        self.sock = servers.connect(address)
        self.exchange, self.rng, self.mode = exchange, rng, mode
        self.stream = b""
        self.closed = False
        self.closed_after = None
        self.sent_at = time.monotonic()
        self.info = self._first_info()

    def _first_info(self):
        limit = time.monotonic() + STEP_SECONDS
        while b"\r\n" not in self.stream and not self.closed and time.monotonic() < limit:
            self.receive(0.1)
        line, _, self.stream = self.stream.partition(b"\r\n")
        return wire.normal(line + b"\r\n")

    def receive(self, seconds):
        """Takes what is there, waiting at most `seconds` for the first byte."""
        if self.closed:
            return
        readable, _, _ = select.select([self.sock], [], [], seconds)
        if not readable:
            return
        try:
            data = self.sock.recv(1 << 20)
        except OSError:
            data = b""
        if not data:
            self.closed = True
            self.closed_after = time.monotonic() - self.sent_at
        self.stream += data

    def send(self, data):
        """Sends in the exchange's mode; a server that closes meanwhile is not an error here."""
        at = 0
        while at < len(data):
            if self.mode == "whole":
                size = len(data)
            elif self.mode == "bytes" and len(data) <= BYTEWISE_MAX:
                size = 1
            else:
                size = self.rng.choice((1, 2, 3, 7, 60, 500, 20000))
            try:
                self.sock.sendall(data[at:at + size])
            except OSError:
                break
            at += size
            if self.mode != "whole":
                if len(data) <= 500:
                    time.sleep(0.0001)
                self.receive(0)
        self.sent_at = time.monotonic()

    def got(self):
        return wire.normal(self.stream, sort=self.exchange.sort, hide_sid=self.exchange.hide_sid,
                           keep_pings=self.exchange.keep_pings)

    def wait_for(self, expected):
        """Reads until as much came as is expected, the time is over or the peer closed."""
        limit = time.monotonic() + STEP_SECONDS
        while (len(self.got()) < len(expected) and not self.closed
               and time.monotonic() < limit):
            self.receive(0.05)

    def wait_closed(self, seconds):
        limit = time.monotonic() + seconds
        while not self.closed and time.monotonic() < limit:
            self.receive(0.05)

    def wait_quiet(self):
        last = -1
        while last != len(self.stream) and not self.closed:
            last = len(self.stream)
            self.receive(QUIET_SECONDS)

    def fence(self):
        """PING, and everything up to its PONG: nothing the server owed us can be missing after it.

        Returns False when no PONG came. The PONG and what follows it leave the stream.
        """
        before = wire.split(self.stream).count(b"PONG\r\n")
        try:
            self.sock.sendall(b"PING\r\n")
        except OSError:
            pass
        limit = time.monotonic() + STEP_SECONDS
        while time.monotonic() < limit:
            messages = wire.split(self.stream)
            if messages.count(b"PONG\r\n") > before:
                last = len(messages) - 1 - messages[::-1].index(b"PONG\r\n")
                self.stream = b"".join(messages[:last])
                return True
            if self.closed:
                break
            self.receive(0.05)
        return False


# --- running -------------------------------------------------------------------------------------

class Result:
    """What one server did in one exchange."""

    def __init__(self):
        self.problems = []
        self.streams = {}
        self.states = {}

    def key(self):
        return (self.streams, self.states)


def run(exchange, address, mode):
    """Runs one exchange; every difference from the file is a problem."""
    rng = random.Random(zlib.crc32((exchange.name + mode).encode()))
    result, conns, expected = Result(), {}, {}

    def conn_of(name):
        if name not in conns:
            conns[name] = Conn(address, exchange, rng, mode)
            expected[name] = b""
            if exchange.group.info is not None and conns[name].info != exchange.group.info:
                result.problems.append("%s INFO\n      want %s\n      got  %s" % (
                    name, exchange.group.info, conns[name].info))
        return conns[name]

    try:
        for step in exchange.steps:
            perform(step, conn_of, conns, expected, result)
        for name, conn in conns.items():
            finish(name, conn, expected[name], result)
    finally:
        end_all(conns.values())
    return result


def end_all(conns):
    """Ends the connections in order, so that the next exchange meets none of their subscriptions.

    A queue group still gives messages to a member whose end the server has not read yet (the real
    nats-server does so too). There is no pause after the server's own end on purpose: from then on
    a message to that member would be a loss.
    """
    for conn in conns:
        if not conn.closed:
            try:
                conn.sock.shutdown(socket.SHUT_WR)
            except OSError:
                pass
    for conn in conns:
        conn.wait_closed(1.0)
        conn.sock.close()


def perform(step, conn_of, conns, expected, result):
    if step.kind == "wait":
        time.sleep(step.value)
        return
    if step.kind != "connect" or step.conn not in conns:
        conn = conn_of(step.conn)
    else:
        raise FormatError("%s is connected already" % step.conn)
    if step.kind == "send":
        # What was expected so far must be there first: it orders the work of several connections.
        for name, other in conns.items():
            other.wait_for(expected[name])
        conn.send(step.value.replace(REPLY, wire.last_reply(conn.stream)))
    elif step.kind == "expect":
        expected[step.conn] += step.value
    elif step.kind == "drop":
        for name, other in conns.items():
            other.wait_for(expected[name])
        conn.sock.close()
        conn.closed, conn.dropped = True, True
        result.states[step.conn] = ("dropped", None)
    elif step.kind == "eof":
        conn.wait_for(expected[step.conn])
        conn.sock.shutdown(socket.SHUT_WR)
    elif step.kind == "state":
        result.states[step.conn] = step.value


def finish(name, conn, expected, result):
    """The end of a connection: all bytes are there, and it is open or closed as the file says."""
    want, detail = result.states.get(name, ("open", None))
    conn.wait_for(expected)
    if want == "closed":
        least, most = (float(part) for part in (detail or "0 3").split())
        conn.wait_closed(most - (time.monotonic() - conn.sent_at) + 0.5)
        if not conn.closed:
            result.problems.append("%s is open, want closed" % name)
        elif not least <= conn.closed_after <= most:
            result.problems.append("%s closed after %.2f s, want %s" % (
                name, conn.closed_after, detail))
    elif want == "open" and detail == "quiet":
        conn.wait_quiet()
    elif want == "open" and not conn.fence():
        result.problems.append("%s does not answer PING at the end" % name)
    if want != "dropped":
        result.states[name] = ("closed" if conn.closed else "open", None)
    result.streams[name] = conn.got()
    if result.streams[name] != expected:
        result.problems.append("%s received\n      want %s\n      got  %s" % (
            name, shorten(expected), shorten(result.streams[name])))


def shorten(data):
    text = " | ".join(encode(data))
    return text if len(text) <= 1500 else text[:1500] + "..."


class Target:
    """A server under test: a binary that is started per group, or a fixed address."""

    def __init__(self, label, binary=None, address=None):
        self.label, self.binary, self.fixed = label, binary, address
        self.ringbus = binary is not None and servers.is_ringbus(binary)
        self.group, self.server = None, None

    def another(self):
        """The same program or address, with servers of its own."""
        return Target(self.label, self.binary, self.fixed)

    def address(self, group):
        """Where `group` can run, None when this target cannot serve it."""
        if self.fixed:
            return self.fixed if not group.config else None
        if self.group is not group:
            self.stop()
            config = list(group.config) + (group.ringbus_config if self.ringbus else [])
            self.server = servers.Server(self.binary, config="\n".join(config) + "\n").start()
            self.group = group
        return self.server.address

    def stop(self):
        if self.server is not None:
            self.server.stop()
        self.server, self.group = None, None


def modes_of(exchange, target):
    if exchange.whole_only or (exchange.oracle_whole and not target.ringbus):
        return MODES[:1]
    return MODES


def check(exchange, target, oracle):
    """All modes against all servers; the problems, each with the server and mode it belongs to."""
    problems = []
    for mode in modes_of(exchange, target):
        result = run(exchange, target.address(exchange.group), mode)
        problems += ["%s, %s: %s" % (target.label, mode, p) for p in result.problems]
        if oracle is None or exchange.differs or oracle.address(exchange.group) is None:
            continue
        if mode != MODES[0] and exchange.oracle_whole:
            continue
        reference = run(exchange, oracle.address(exchange.group), mode)
        problems += ["%s, %s: %s" % (oracle.label, mode, p) for p in reference.problems]
        if not result.problems and result.key() != reference.key():
            problems.append("%s and %s differ, %s" % (target.label, oracle.label, mode))
    return problems


def run_group(exchanges, target, oracle, verbose):
    """All exchanges of one group: the lines to print, and how many passed, failed, were skipped."""
    counts, lines = {"passed": 0, "failed": 0, "skipped": 0}, []
    for exchange in exchanges:
        if (target.address(exchange.group) is None
                or exchange.differs and target.binary is not None and not target.ringbus):
            counts["skipped"] += 1
            continue
        problems = check(exchange, target, oracle)
        counts["failed" if problems else "passed"] += 1
        if problems or verbose:
            lines.append("%s exchange %s/%s (%s)" % ("FAIL" if problems else "ok  ",
                                                     exchange.group.name, exchange.name,
                                                     exchange.where))
        lines += ["    " + problem for problem in problems]
    return lines, counts


def groups_of(files, only):
    """Lists of exchanges that share a group, in the order of the files."""
    groups = {}
    for path in files:
        for exchange in read_file(path)[0]:
            if not only or only in "%s/%s" % (exchange.group.name, exchange.name):
                groups.setdefault(exchange.group, []).append(exchange)
    return list(groups.values())


def run_files(files, target, oracle, only, verbose):
    """Groups have servers of their own, and mostly wait: several run at once."""
    total = {"passed": 0, "failed": 0, "skipped": 0}

    def one(exchanges):
        mine, other = target.another(), oracle and oracle.another()
        try:
            return run_group(exchanges, mine, other, verbose)
        finally:
            mine.stop()
            if other is not None:
                other.stop()

    with concurrent.futures.ThreadPoolExecutor(GROUPS_AT_ONCE) as pool:
        for lines, counts in pool.map(one, groups_of(files, only)):
            for line in lines:
                print(line)
            sys.stdout.flush()
            for name, count in counts.items():
                total[name] += count
    return total


# --- recording -----------------------------------------------------------------------------------

def record(path, target):
    """Replaces the expected bytes and states of every exchange in `path` by what `target` does."""
    exchanges, lines = read_file(path)
    inserts, drops = {}, set()
    for exchange in exchanges:
        if exchange.differs and not target.ringbus:
            continue
        record_one(exchange, target.address(exchange.group), inserts, drops)
    output = []
    for number, line in enumerate(lines):
        if number not in drops:
            output.append(line)
        output += inserts.get(number, [])
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(output))


class Recording:
    """The connections of one exchange while it is recorded."""

    def __init__(self, exchange, address):
        self.exchange, self.address = exchange, address
        self.rng = random.Random(1)
        self.conns, self.shown = {}, {}

    def conn(self, name):
        if name not in self.conns:
            self.conns[name] = Conn(self.address, self.exchange, self.rng, "whole")
            self.shown[name] = 0
        return self.conns[name]

    def new_lines(self):
        """What came since the last call, as lines of an exchange file."""
        lines = []
        for conn in self.conns.values():
            conn.wait_quiet()
        for name, conn in sorted(self.conns.items()):
            new = conn.got()[self.shown[name]:]
            self.shown[name] += len(new)
            mark = "< " if name == "A" else name + "< "
            lines += [(mark + text).rstrip() for text in encode(new)]
        return lines

    def states(self, stated):
        lines = []
        for name, conn in sorted(self.conns.items()):
            if name not in stated and (name == "A" or conn.closed):
                word = "closed" if conn.closed else "open"
                lines.append(word if name == "A" else name + " " + word)
        return lines


def record_step(recording, step):
    if step.kind == "wait":
        time.sleep(step.value)
        return
    conn = recording.conn(step.conn)
    if step.kind == "send":
        conn.send(step.value.replace(REPLY, wire.last_reply(conn.stream)))
    elif step.kind == "drop":
        conn.sock.close()
        conn.closed = True
    elif step.kind == "eof":
        conn.sock.shutdown(socket.SHUT_WR)


def continues(step, following):
    """Whether `following` comes at once, without waiting for answers to `step`."""
    return (step.conn == following.conn and step.kind == "send"
            and following.kind in ("send", "eof"))


def record_one(exchange, address, inserts, drops):
    recording = Recording(exchange, address)
    kept = {step.conn for _, step in exchange.lines
            if step.kind == "drop" or step.kind == "state" and step.value[1]}
    active = [(n, s) for n, s in exchange.lines if s.kind not in ("expect", "state")]
    drops |= {n for n, s in exchange.lines if s.kind == "expect" or
              s.kind == "state" and not s.value[1]}
    for place, (number, step) in enumerate(active):
        if place + 1 < len(active) and active[place + 1][1].kind == step.kind == "send" \
                and active[place + 1][1].conn == step.conn:
            active[place + 1][1].value = step.value + active[place + 1][1].value
            continue
        record_step(recording, step)
        following = active[place + 1][1] if place + 1 < len(active) else None
        if following is None:
            for _, state in exchange.lines:
                if state.kind == "state" and state.value[1] not in (None, "quiet"):
                    recording.conn(state.conn).wait_closed(float(state.value[1].split()[1]))
        if following is None or not continues(step, following):
            inserts.setdefault(number, []).extend(recording.new_lines())
    inserts.setdefault(active[-1][0], []).extend(recording.states(kept))
    for conn in recording.conns.values():
        conn.sock.close()


# --- the program ---------------------------------------------------------------------------------

def parse_address(text):
    host, _, port = text.rpartition(":")
    return (host, int(port))


def arguments():
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="PATH")
    parser.add_argument("--oracle", metavar="PATH")
    parser.add_argument("--addr", metavar="HOST:PORT")
    parser.add_argument("--oracle-addr", metavar="HOST:PORT")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--only", metavar="TEXT", help="exchanges whose group/name contains TEXT")
    parser.add_argument("--verbose", action="store_true")
    parser.add_argument("files", nargs="*")
    options = parser.parse_args()
    if bool(options.server) == bool(options.addr):
        parser.error("one of --server and --addr is needed")
    return options


def main():
    options = arguments()
    servers.stop_servers_at_exit()
    here = os.path.dirname(os.path.abspath(__file__))
    files = options.files or sorted(glob.glob(os.path.join(here, "..", "exchanges", "*.txt")))
    target = Target("server", options.server, options.addr and parse_address(options.addr))
    oracle = None
    if options.oracle_addr:
        oracle = Target("nats-server", address=parse_address(options.oracle_addr))
    elif options.server and options.oracle != "none":
        path = options.oracle or servers.find_oracle()
        if path and os.path.realpath(path) != os.path.realpath(options.server):
            oracle = Target("nats-server", path)
    try:
        if options.record:
            for path in files:
                record(path, target)
            return 0
        counts = run_files(files, target, oracle, options.only, options.verbose)
    finally:
        target.stop()
        if oracle is not None:
            oracle.stop()
    print("exchange: %(passed)d passed, %(failed)d failed, %(skipped)d skipped" % counts)
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
