"""What the js_*.py programs share: a raw client of JetStream, records without what differs by nature, and the comparison.

    @jetstream.scenario()
    def names(js, rec):                    # js: Js, connected; rec(label, record)
        rec("none", js.api("STREAM.NAMES"))

    if __name__ == "__main__":
        sys.exit(jetstream.main("js_api", __doc__, REFUSED))

Each scenario runs on the server under test and, where it is installed, on the real nats-server, in the same run. The records of
both must be those in expected/NAME.json, which was recorded from nats-server (--record) and reviewed. What is counted is records.

REFUSED names the records (patterns "scenario/label") that ringbus may refuse with "not supported by ringbus yet": they are
counted as skipped and printed when it does, and compared like any other when it does not. In a scenario that is named as a
whole ("counters/*"), what comes after a refusal may differ as well.

DIFFERS holds records ("scenario/label") in which ringbus is another on purpose: what it must say then, and a comment why.
"""

import argparse
import base64
import concurrent.futures
import fnmatch
import itertools
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import time

import compare
import server as servers
import wire

CONFIG = 'server_name: one\njetstream { store_dir: "STORE", %s }\n%s\n'
AT_ONCE = 6
REFUSAL = "not supported by ringbus yet"
SILENCE = 0.35  # seconds; for answers that must not come
ANSWER = 6.0    # for answers that must

compare.CONFIG_WORDS["STORE"] = lambda shared: tempfile.mkdtemp(prefix="store-", dir=shared["certs"])

# Text that differs by nature: present time, ids, nanoseconds of now.
MASKS = ((re.compile(r"20(?:2[4-9]|3[0-4])-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?Z"), "<now>"),
         (re.compile(r"(?<![0-9])1[6-9]\d{17}(?![0-9])"), "<ns>"),
         (re.compile(r"(?<![0-9A-Za-z])[0-9A-Za-z]{22}(?![0-9A-Za-z])"), "<nuid>"),
         (re.compile(r"N[A-Z2-7]{55}"), "<server id>"),
         (re.compile(r"(\$JS\.FC\.[^.]+\.[^.]+\.)[0-9A-Za-z]{4}(?![0-9A-Za-z])"), r"\1<any>"))
# Members whose value differs by nature, when it is not zero.
VARYING = {"created", "ts", "first_ts", "last_ts", "last_active", "timestamp", "start", "stop", "end", "rtt", "ack_time", "active",
           "pause_remaining", "pinned_ts", "_nats.ver", "ver", "host", "client_id"}
# Members that only ringbus has.
ADDED = {"why"}
ZERO_TIME = "0001-01-01T00:00:00Z"


def masked(value, key=""):
    """A document without what differs by nature."""
    if isinstance(value, dict):
        return {name: masked(one, name) for name, one in value.items() if name not in ADDED}
    if isinstance(value, (list, tuple)):
        return [masked(one, key) for one in value]
    if key in VARYING and value not in (0, "", None, ZERO_TIME, -1):
        return "<%s>" % key
    if key == "id" and isinstance(value, int):
        return "<id>"
    if isinstance(value, str):
        for pattern, text in MASKS:
            value = pattern.sub(text, value)
    return value


class Refused(Exception):
    """ringbus does not have what a scenario begins with."""


class Message:
    """One MSG or HMSG."""

    def __init__(self, raw):
        head, _, rest = raw.partition(b"\r\n")
        found = wire.HMSG.match(raw) or wire.MSG.match(raw)
        kind, self.subject, self.sid, self.reply, *sizes = (one.decode() if one else "" for one in found.groups())
        size = int(sizes[0]) if kind == "HMSG" else 0
        self.head, self.body = rest[:size], rest[size:-2]
        self.line = head
        lines = self.head.decode("utf-8", "replace").split("\r\n")
        self.status = lines[0][len("NATS/1.0"):].strip()
        self.headers = [tuple(part.strip() for part in one.split(":", 1)) for one in lines[1:] if one]

    def header(self, name):
        return dict(self.headers).get(name)

    def record(self, subject=False):
        """What is compared: nothing that is empty."""
        result = {"subject": re.sub(r"_INBOX\.(\w+)\.[\d.]+", r"_INBOX.\1", self.subject)} if subject else {}
        if self.reply:
            result["reply"] = re.sub(r"_INBOX\.(\w+)\.[\d.]+", r"_INBOX.\1", self.reply)
        if self.status:
            result["status"] = self.status
        if self.headers:
            result["headers"] = ["%s: %s" % one for one in self.headers]
        if self.body:
            text = self.body.decode("utf-8", "replace")
            result["body"] = text if len(text) < 600 else "%d bytes" % len(self.body)
        return masked(result)


class Js:
    """A connection with an inbox of its own."""

    numbers = itertools.count(1)

    def __init__(self, running, **login):
        self.running, self.inboxes, self.sids, self.got = running, 0, 1, []
        self.number = next(Js.numbers) # inboxes of one account are heard by all of it
        self.client = running.client()
        self.said = self.client.connect(headers=True, no_responders=True, lang="py", version="1", name="probe", **login)
        self.send(b"SUB _INBOX.r.%d.> 1\r\n" % self.number)

    def __enter__(self):
        return self

    def __exit__(self, *unused):
        self.client.sock.close()

    def send(self, data):
        self.client.send(data)

    def publish(self, subject, body=b"", headers=None, reply=""):
        """headers: a dict, pairs, or bytes as they shall be sent."""
        body = body.encode() if isinstance(body, str) else body
        if headers is None:
            self.send(b"PUB %s %s %d\r\n%s\r\n" % (subject.encode(), reply.encode(), len(body), body))
            return
        if not isinstance(headers, bytes):
            pairs = headers.items() if isinstance(headers, dict) else headers
            headers = b"NATS/1.0\r\n" + b"".join(b"%s: %s\r\n" % (name.encode(), str(value).encode())
                                                 for name, value in pairs) + b"\r\n"
        self.send(b"HPUB %s %s %d %d\r\n%s%s\r\n" % (subject.encode(), reply.encode(), len(headers),
                                                    len(headers) + len(body), headers, body))

    def subscribe(self, subject, queue=""):
        """The sid; flushed."""
        self.sids += 1
        self.send(b"SUB %s %s %d\r\n" % (subject.encode(), queue.encode(), self.sids))
        self.flush()
        return str(self.sids)

    def unsubscribe(self, sid):
        self.send(b"UNSUB %s\r\n" % sid.encode())
        self.flush()

    def pull(self, seconds):
        """Reads once; True when something came."""
        came = self.client.receive(max(seconds, 0.001))
        messages = wire.split(self.client.stream)
        self.client.stream = messages.pop()
        for one in messages:
            if one == b"PING\r\n":
                self.send(b"PONG\r\n")
            elif wire.is_delivery(one):
                self.got.append(Message(one))
            else:
                self.got.append(one)
        return came

    def take(self, want, seconds=ANSWER):
        """The first message that is wanted; None when none comes in time."""
        limit = time.monotonic() + seconds
        at = 0
        while True:
            while at < len(self.got):
                if want(self.got[at]):
                    return self.got.pop(at)
                at += 1
            left = limit - time.monotonic()
            if left <= 0 or self.client.error:
                return None
            self.pull(left)

    def flush(self):
        self.send(b"PING\r\n")
        self.take(lambda one: one == b"PONG\r\n")

    def inbox(self):
        self.inboxes += 1
        return "_INBOX.r.%d.%d" % (self.number, self.inboxes)

    def request(self, subject, body=b"", headers=None, seconds=ANSWER):
        """The first answer; None: none came."""
        inbox = self.inbox()
        self.publish(subject, body, headers, inbox)
        return self.take(lambda one: isinstance(one, Message) and one.subject == inbox, seconds)

    def collect(self, subject, count, seconds=ANSWER, rest=0.0):
        """Up to `count` messages that were sent to `subject` (or came for a sid); `rest`: how long to wait for more."""
        found = []
        limit = time.monotonic() + seconds
        while len(found) < count:
            one = self.take(lambda one: isinstance(one, Message) and subject in (one.subject, one.sid),
                            limit - time.monotonic())
            if one is None:
                break
            found.append(one)
        if rest:
            while True:
                one = self.take(lambda one: isinstance(one, Message) and subject in (one.subject, one.sid), rest)
                if one is None:
                    break
                found.append(one)
        return found

    def fetch(self, stream, consumer, body=b"", until=1, seconds=ANSWER, rest=0.0, headers=None):
        """A pull request and what came for it."""
        pull = self.begin(stream, consumer, body, headers)
        found = self.collect(pull, until, seconds, rest)
        self.unsubscribe(pull)
        return found

    def begin(self, stream, consumer, body=b"", headers=None, prefix="$JS.API."):
        """A pull request; what comes for it has the sid that is returned (its subjects are those of the messages)."""
        self.inboxes += 1
        inbox = "_INBOX.pull.%d.%d" % (self.number, self.inboxes)
        sid = self.subscribe(inbox)
        body = json.dumps(body) if isinstance(body, dict) else body
        self.publish("%sCONSUMER.MSG.NEXT.%s.%s" % (prefix, stream, consumer), body, headers, inbox)
        return sid

    # ---- the API

    def raw(self, subject, body=b"", headers=None, seconds=ANSWER, prefix="$JS.API."):
        """The answer as it came: a document, or what was no document."""
        body = json.dumps(body) if isinstance(body, (dict, list)) else body
        for _ in range(10):
            reply = self.request(prefix + subject, body, headers, seconds)
            if reply is None or b'"error creating store for stream"' not in reply.body:
                break
            time.sleep(0.1) # nats-server, while it removes the files of a stream that was deleted
        if reply is None:
            return "nothing came"
        try:
            return json.loads(reply.body)
        except ValueError:
            return reply.record()

    def api(self, *args, **options):
        return masked(self.raw(*args, **options))

    def silent(self, subject, body=b"", headers=None):
        return self.api(subject, body, headers, SILENCE)

    def stream(self, name, **config):
        """Makes it; asserts that it was made."""
        config = {"name": name, **config}
        config.setdefault("subjects", [name.lower() + ".>"])
        if config["subjects"] is None:
            del config["subjects"]
        answer = self.raw("STREAM.CREATE." + name, config)
        if REFUSAL in json.dumps(answer):
            raise Refused(json.dumps(answer))
        if "error" in answer or "config" not in answer:
            raise AssertionError("stream %s: %r" % (name, answer))
        return answer

    def consumer(self, stream, name, **config):
        config.setdefault("durable_name", name)
        config.setdefault("ack_policy", "explicit")
        answer = self.raw("CONSUMER.CREATE.%s.%s" % (stream, name), {"stream_name": stream, "config": config})
        if "error" in answer or "config" not in answer:
            raise AssertionError("consumer %s: %r" % (name, answer))
        return answer

    def store(self, subject, body="", headers=None, seconds=ANSWER):
        """A publish and its acknowledgement as text: "nothing came", a status line, or the bytes of the body."""
        reply = self.request(subject, body, headers, seconds)
        if reply is None:
            return "nothing came"
        return masked((reply.status + " " if reply.status else "") + reply.body.decode("utf-8", "replace"))

    def state(self, stream):
        answer = self.raw("STREAM.INFO." + stream, {"deleted_details": True})
        return masked(answer.get("state", answer)) if isinstance(answer, dict) else answer

    def about(self, stream, consumer):
        """Consumer info without its configuration."""
        answer = self.raw("CONSUMER.INFO.%s.%s" % (stream, consumer))
        if isinstance(answer, dict):
            answer.pop("config", None)
        return masked(answer)

    def message(self, stream, seq):
        """A stored message with its bodies readable."""
        answer = self.raw("STREAM.MSG.GET." + stream, {"seq": seq})
        found = answer.get("message") if isinstance(answer, dict) else None
        for member in ("hdrs", "data"):
            if found and member in found:
                found[member] = base64.b64decode(found[member]).decode("utf-8", "replace")
        return masked(found or answer)


def wait_for(question, seconds=ANSWER, step=0.05):
    """Asks until the answer is true; the last answer."""
    limit = time.monotonic() + seconds
    while True:
        answer = question()
        if answer or time.monotonic() > limit:
            return answer
        time.sleep(step)


def restart(running, sig=signal.SIGKILL):
    """The same server again, on what it left."""
    server = running.server
    server.stop(sig)
    server.lines, server.host, server.port = [], None, None
    server.start()


def scenario(settings="", config="", **options):
    """settings: inside jetstream { }; config: further lines. run(js, rec) or run(js, rec, running)."""
    def register(run):
        def whole(running):
            records = {}

            def rec(label, record):
                if label in records:
                    raise AssertionError("two records are called %r" % label)
                records[label] = record

            with Js(running, **options.get("login", {})) as js:
                try:
                    run(js, rec, *([running] if run.__code__.co_argcount == 3 else []))
                except Refused as refused:
                    rec("(refused)", str(refused))
            return records
        whole.__name__, whole.__doc__ = run.__name__, run.__doc__
        compare.scenario(CONFIG % (settings, config))(whole)
        return run
    return register


def has_jetstream(binary):
    """None, or why JetStream scenarios cannot run with this program."""
    with tempfile.TemporaryDirectory(prefix="interop-js-") as directory:
        try:
            with servers.Server(binary, config=CONFIG.replace("STORE", directory) % ("", "")):
                return None
        except servers.ServerError as error:
            text = str(error)
            return text.strip().split("\n")[-1] if 'option "jetstream" is ' + REFUSAL in text else None


def difference(want, got, path):
    """As compare.difference, and into lists of the same length."""
    if isinstance(want, dict) and isinstance(got, dict):
        pairs = [(key, want.get(key, "(nothing)"), got.get(key, "(nothing)")) for key in sorted(set(want) | set(got))]
    elif isinstance(want, list) and isinstance(got, list) and len(want) == len(got):
        pairs = [(str(at), *pair) for at, pair in enumerate(zip(want, got))]
    else:
        return compare.difference(want, got, path)
    return [line for key, one, two in pairs for line in difference(one, two, path + "/" + key)]


def compare_records(name, want, got, patterns, label, differs=()):
    """(passed, lines of what differs, refused labels) of one scenario on one server."""
    passed, lines, refused = 0, [], []
    whole = name + "/*" in patterns and REFUSAL in json.dumps(got)
    for key in sorted(set(want) | set(got)):
        path = "%s/%s" % (name, key)
        if path in differs:
            want = {**want, key: differs[path]}
        found = difference(want.get(key, "(nothing)"), got.get(key, "(nothing)"), "/" + key)
        listed = any(fnmatch.fnmatch(path, pattern) for pattern in patterns)
        if found and label == "server" and listed and (whole or REFUSAL in json.dumps(got.get(key))):
            refused.append(path)
        elif found:
            lines += ["%s: %s" % (label, one) for one in found]
        else:
            passed += 1
    return passed, lines, refused


def ask_oracle(item, oracle, shared, want):
    """What it says differently now than when it was recorded. Asked a second time before it counts: nats-server does some
    things, advisories of what it deletes among them, in its own time, or on a busy machine not at all."""
    for _ in range(2):
        got, wrong = compare.attempt(item, oracle, False, shared)
        lines = ["nats-server: %s" % wrong] if wrong else compare_records(item.name, want, got, (), "nats-server")[1]
        if not lines:
            break
    return lines


def check(item, target, oracle, shared, expected):
    want = expected.get(item.name)
    if want is None:
        return 0, 1, ["nothing is recorded for it"], []
    ringbus = servers.is_ringbus(target)
    problems = ask_oracle(item, oracle, shared, want) if oracle else []
    got, wrong = compare.attempt(item, target, ringbus, shared)
    if wrong:
        return 0, len(want) + (1 if problems else 0), problems + ["server: %s" % wrong], []
    own = (shared["refused"], "server", shared["differs"]) if ringbus else ((), "server")
    passed, lines, refused = compare_records(item.name, want, got, *own)
    failed = len(set(want) | set(got)) - passed - len(refused) + (1 if problems else 0)
    return passed, failed, problems + lines, refused


def main(name, doc, refused=(), differs=()):
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="PATH", required=True)
    parser.add_argument("--oracle", metavar="PATH|none")
    parser.add_argument("--record", action="store_true", help="write expected/%s.json from --server" % name)
    parser.add_argument("--only", metavar="TEXT", help="scenarios whose name contains TEXT")
    options = parser.parse_args()
    servers.stop_servers_at_exit()
    path = os.path.join(compare.HERE, "..", "expected", name + ".json")
    expected = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            expected = json.load(file)
    chosen = [item for item in compare.SCENARIOS if not options.only or options.only in item.name]
    why = has_jetstream(options.server)
    if why:
        records = sum(len(expected.get(item.name, {})) for item in chosen)
        print("SKIP %s: the server has no JetStream: %s" % (name, why))
        print("%s: 0 passed, 0 failed, %d skipped" % (name, records))
        return 0
    oracle = None if options.oracle == "none" else options.oracle or servers.find_oracle()
    if oracle and os.path.realpath(oracle) == os.path.realpath(options.server):
        oracle = None
    directory = tempfile.mkdtemp(prefix="interop-js-")
    shared = {"certs": directory, "tools": None, "refused": refused, "differs": differs}
    try:
        if options.record:
            return compare.record(chosen, options.server, shared, expected, path)
        return report(name, chosen, options.server, oracle, shared, expected)
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def report(name, chosen, target, oracle, shared, expected):
    totals = [0, 0, 0]
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = pool.map(lambda item: check(item, target, oracle, shared, expected), chosen)
        for item, (passed, failed, problems, refused) in zip(chosen, results):
            totals[0], totals[1], totals[2] = totals[0] + passed, totals[1] + failed, totals[2] + len(refused)
            print("%s %s %s: %d of %d records" % ("FAIL" if failed else "ok  ", name, item.name, passed,
                                                  len(expected.get(item.name, {}))))
            for line in problems[:60]:
                print("    " + line)
            if len(problems) > 60:
                print("    ... and %d more" % (len(problems) - 60))
            for one in refused:
                print("    refused on purpose: " + one)
            sys.stdout.flush()
    print("%s: %d passed, %d failed, %d skipped" % (name, *totals))
    return 1 if totals[1] else 0
