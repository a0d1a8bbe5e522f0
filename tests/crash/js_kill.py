#!/usr/bin/env python3
"""JetStream on a real disk: SIGKILL under load, restart, and everything that was confirmed must be so.

  js_kill.py --server PATH [--rounds N] [--seed N] [--directory PATH] [--jetstream TEXT] [--parts LIST]

Five clients at once, each with a stream of its own and a model of it:
  log    64 publishes in flight with ids, and a consumer with explicit acks
  queue  a work queue: jobs in, jobs out, double acks
  del    one operation after the other: publish, delete, purge of a subject
  kv     one after the other: put, delete, purge of a key
  batch  atomic batches of three

After each kill: what was acknowledged is there once and in order; what was refused or deleted is not; an ack that was
confirmed is never delivered again; ids are remembered; the one operation in flight happened wholly or not at all. A fifth of the
rounds kill the server once more while it starts. Ends with "N passed, N failed": one per round. The seed is printed.
--jetstream adds text to the block of the configuration ("sync_interval: always"). nats-server passes "--parts log,kv,batch";
its deletes and acks may be forgotten at a kill.
"""

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "interop", "py"))
import compare  # noqa: E402 pylint: disable=wrong-import-position
import jetstream  # noqa: E402 pylint: disable=wrong-import-position
import server as servers  # noqa: E402 pylint: disable=wrong-import-position
from jetstream import Js, Message  # noqa: E402 pylint: disable=wrong-import-position

S = 1_000_000_000
FLIGHT = 64
LOG_KEEPS = 4000


class Gone(Exception):
    """The server was killed."""


class Wrong(Exception):
    """What a check found."""


def expect(condition, text, *values):
    if not condition:
        raise Wrong(text % values)


def answer(js, subject, body=b"", headers=None):
    """A request's JSON; Gone when none comes."""
    reply = js.request(subject, body, headers, 20)
    if reply is None:
        raise Gone
    return json.loads(reply.body) if reply.body else {}


def read_all(js, stream):
    """{sequence: (subject, headers, body)} by direct gets of 1,000, which no consumer has a part in."""
    found, seq = {}, 1
    while True:
        inbox = js.inbox()
        js.publish("$JS.API.DIRECT.GET." + stream, json.dumps({"seq": seq, "batch": 1000}), None, inbox)
        last = 0
        while True:
            one = js.take(lambda one: isinstance(one, Message) and one.subject == inbox, 20)
            expect(one is not None, "%s: a direct get was not answered", stream)
            if one.status:
                break
            number = int(one.header("Nats-Sequence"))
            expect(number > last and number not in found, "%s: sequence %d came after %d", stream, number, last)
            found[number] = (one.header("Nats-Subject"), dict(one.headers), one.body.decode())
            last = number
        if one.status.startswith("404") or one.header("Nats-Num-Pending") == "0":
            return found
        expect(one.status.startswith("204"), "%s: direct get said %s", stream, one.status)
        seq = last + 1


class Part(threading.Thread):
    """One client: work() until the server is gone; then check()."""

    stream, config = "", {}

    def __init__(self, seed):
        super().__init__(daemon=True)
        self.random, self.js, self.problem, self.done_count = random.Random(seed), None, None, 0
        self.model = self

    def begin(self, running):
        """The stream is made when it is not there."""
        with Js(running) as js:
            answer(js, "$JS.API.STREAM.CREATE." + self.stream, json.dumps({
                "name": self.stream, "subjects": [self.stream.lower() + ".>"], "allow_direct": True, **self.config}))
            self.prepare(js)

    def prepare(self, js):
        pass

    def connect(self, running):
        self.js = Js(running)

    def run(self):
        try:
            while True:
                self.work(self.js)
        except (Gone, OSError):
            pass
        except Wrong as wrong:
            self.problem = "%s while working: %s" % (self.stream, wrong)
        except Exception as error:  # pylint: disable=broad-except # a cut answer may be anything
            if self.js.client.error is None:
                self.problem = "%s while working: %r" % (self.stream, error)
        finally:
            self.js.client.sock.close()

    def work(self, js):
        raise NotImplementedError

    def check(self, js):
        raise NotImplementedError

    def again(self):
        """A thread runs once; what it knows goes on."""
        other = self.__class__.__new__(self.__class__)
        threading.Thread.__init__(other, daemon=True)
        other.__dict__.update({key: value for key, value in self.__dict__.items() if not key.startswith("_")})
        return other


def body_of(number):
    """Mostly short; some fill blocks and segments."""
    return "body %d " % number + "x" * (number * 97 % 12000 if number % 5 == 0 else 0)


class Log(Part):
    stream, config = "LOG", {"max_msgs": LOG_KEEPS, "duplicate_window": 3600 * S}

    def __init__(self, seed):
        super().__init__(seed)
        self.next, self.flight, self.acked, self.confirmed, self.pulled = 0, {}, {}, set(), None
        self.recent = []

    def prepare(self, js):
        answer(js, "$JS.API.CONSUMER.CREATE.LOG.C", json.dumps({"stream_name": "LOG", "config": {
            "durable_name": "C", "ack_policy": "explicit", "ack_wait": 2 * S, "max_ack_pending": 5000}}))

    def connect(self, running):
        super().connect(running)
        self.pulled = None

    def work(self, js):
        while len(self.flight) < FLIGHT:
            self.next += 1
            inbox = js.inbox()
            self.flight[inbox] = (self.next, "log.%d" % (self.next % 17))
            js.publish(self.flight[inbox][1], body_of(self.next), {"Nats-Msg-Id": "id-%d" % self.next}, inbox)
        if self.pulled is None:
            self.pulled = js.begin("LOG", "C", {"batch": 50, "expires": 30 * S})
            self.left, self.acks = 50, {}
        one = js.take(lambda one: isinstance(one, Message), 20)
        if one is None:
            raise Gone
        if one.subject in self.flight:
            number, _ = self.flight[one.subject]
            document = json.loads(one.body)
            expect("error" not in document, "publish %d: %s", number, document)
            del self.flight[one.subject]
            self.acked[document["seq"]] = number
            self.recent = self.recent[-500:] + [(number, document["seq"])]
            self.done_count += 1
        elif one.subject in self.acks:
            self.confirmed.add(self.acks.pop(one.subject))
        elif one.sid == self.pulled and one.reply:
            seq = int(one.reply.split(".")[5])
            expect(seq not in self.confirmed, "log: %d was delivered again, its ack was confirmed", seq)
            inbox = js.inbox()
            self.acks[inbox] = seq
            js.publish(one.reply, "+ACK", None, inbox)
            self.left -= 1
            if self.left == 0:
                js.unsubscribe(self.pulled)
                self.pulled = None

    def check(self, js):
        there = read_all(js, "LOG")
        state = answer(js, "$JS.API.STREAM.INFO.LOG")["state"]
        unsure = dict(self.flight.values())
        bodies = {}
        for seq, (subject, headers, body) in there.items():
            number = int(body.split()[1])
            expect(number not in bodies, "log: body %d is at %d and at %d", number, bodies.get(number, 0), seq)
            bodies[number] = seq
            expect(body == body_of(number), "log: the body at %d is damaged: %r", seq, body[:40])
            expect(headers.get("Nats-Msg-Id") == "id-%d" % number and subject == "log.%d" % (number % 17), "log: %d is %s %s", seq,
                   subject, headers)
            expect(self.acked.get(seq) == number or number in unsure, "log: nobody published %r at %d", body[:40], seq)
        for seq, number in self.acked.items():
            expect(seq < state["first_seq"] or bodies.get(number) == seq, "log: %d (acknowledged at %d) is missing; %s", number, seq, state)
        expect(list(there) == sorted(there) and state["messages"] == len(there), "log: %d messages, state %s", len(there), state)
        for number, seq in self.random.sample(self.recent, min(20, len(self.recent))) + self.recent[-5:]:
            document = answer(js, "log.%d" % (number % 17), body_of(number), {"Nats-Msg-Id": "id-%d" % number})
            expect(document.get("duplicate") and document["seq"] == seq, "log: id %d is not remembered: %s", number, document)
        for number, subject in self.flight.values(): # once more: there already, or now
            document = answer(js, subject, body_of(number), {"Nats-Msg-Id": "id-%d" % number})
            expect(document.get("duplicate", False) == (number in bodies), "log: id %d was %sthere: %s", number,
                   "" if number in bodies else "not ", document)
            self.acked[document["seq"]] = number
        self.flight = {}
        self.acked = {seq: number for seq, number in self.acked.items() if seq >= state["first_seq"]}


class Queue(Part):
    stream, config = "QUEUE", {"retention": "workqueue"}

    def __init__(self, seed):
        super().__init__(seed)
        self.next, self.waiting, self.maybe_in, self.maybe_done, self.done = 0, {}, set(), set(), set()

    def prepare(self, js):
        answer(js, "$JS.API.CONSUMER.CREATE.QUEUE.W", json.dumps({"stream_name": "QUEUE", "config": {
            "durable_name": "W", "ack_policy": "explicit", "ack_wait": 2 * S}}))

    def work(self, js):
        for _ in range(self.random.randint(1, 8)):
            self.next += 1
            self.maybe_in.add(self.next)
            document = answer(js, "queue.%d" % (self.next % 3), "job %d" % self.next)
            self.maybe_in.discard(self.next)
            self.waiting[self.next] = document["seq"]
        for one in js.fetch("QUEUE", "W", {"batch": self.random.randint(1, 10), "no_wait": True}, 10, 0.05):
            if not one.reply:
                continue
            job = int(one.body.split()[1])
            expect(job not in self.done, "queue: job %d was delivered again, its ack was confirmed", job)
            if self.random.random() < 0.2:
                continue # redelivered later
            self.maybe_done.add(job)
            if js.request(one.reply, "+ACK", seconds=20) is None:
                raise Gone
            self.maybe_done.discard(job)
            self.done.add(job)
            self.waiting.pop(job, None)
            self.done_count += 1

    def check(self, js):
        there = {int(body.split()[1]): seq for seq, (_, _, body) in read_all(js, "QUEUE").items()}
        for job in self.done:
            expect(job not in there, "queue: job %d is there again, its ack was confirmed", job)
        for job, seq in self.waiting.items():
            expect(there.get(job) == seq or job in self.maybe_done, "queue: job %d (acknowledged at %d) is missing", job, seq)
        for job in there:
            expect(job in self.waiting or job in self.maybe_in or job in self.maybe_done, "queue: nobody published job %d", job)
        self.done |= {job for job in self.maybe_done if job not in there}
        self.waiting, self.maybe_in, self.maybe_done = there, set(), set()
        state = answer(js, "$JS.API.STREAM.INFO.QUEUE")["state"]
        expect(state["messages"] == len(there), "queue: %d messages, state %s", len(there), state)


class Serial(Part):
    """One operation after the other: what is there is the model, or the model with the operation in flight."""

    def __init__(self, seed):
        super().__init__(seed)
        self.rows, self.after = {}, None # sequence -> (subject, body); the same when the one in flight took place

    def check(self, js):
        there = {seq: (subject, body) for seq, (subject, _, body) in read_all(js, self.stream).items()}
        if there != self.rows and there != self.after:
            lines = ["%s: neither before nor after the operation in flight" % self.stream]
            for seq in sorted(set(there) | set(self.rows)):
                if there.get(seq) != self.rows.get(seq):
                    lines.append("  %d: is %s, was %s, would be %s" % (seq, there.get(seq), self.rows.get(seq),
                                                                      (self.after or {}).get(seq)))
            raise Wrong("\n".join(lines[:12]))
        self.rows, self.after = there, None

    def settle(self, rows):
        self.rows, self.after = rows, None
        self.done_count += 1


class Del(Serial):
    stream, config = "DEL", {"max_msgs_per_subject": 20}

    def __init__(self, seed):
        super().__init__(seed)
        self.next, self.last = 0, 0

    def check(self, js):
        super().check(js)
        self.last = answer(js, "$JS.API.STREAM.INFO.DEL")["state"]["last_seq"]

    def work(self, js):
        choice = self.random.random()
        if choice < 0.7 or not self.rows:
            self.next += 1
            subject, body = "del.%d" % self.random.randrange(8), "item %d" % self.next
            rows = dict(self.rows)
            same = sorted(seq for seq, (one, _) in rows.items() if one == subject)
            for seq in same[:max(0, len(same) - 19)]:
                del rows[seq]
            rows[self.last + 1] = (subject, body)
            self.after = rows
            self.last = answer(js, subject, body)["seq"]
            expect(self.last in rows, "del: acknowledged as %d, not the next one", self.last)
        elif choice < 0.97:
            seq = self.random.choice(list(self.rows))
            self.after = {key: row for key, row in self.rows.items() if key != seq}
            expect(answer(js, "$JS.API.STREAM.MSG.DELETE.DEL", json.dumps({"seq": seq, "no_erase": self.random.random() < 0.5}))
                   .get("success"), "del: %d was not deleted", seq)
        else:
            subject = self.random.choice(list(self.rows.values()))[0]
            self.after = {key: row for key, row in self.rows.items() if row[0] != subject}
            purged = answer(js, "$JS.API.STREAM.PURGE.DEL", json.dumps({"filter": subject}))["purged"]
            expect(purged == len(self.rows) - len(self.after), "del: %d were purged, not %d", purged, len(self.rows) - len(self.after))
        self.settle(self.after)


class Kv(Serial):
    stream = "KV_k"
    config = {"subjects": ["$KV.k.>"], "max_msgs_per_subject": 1, "discard": "new", "allow_rollup_hdrs": True, "deny_delete": True}

    def __init__(self, seed):
        super().__init__(seed)
        self.next = 0

    def work(self, js):
        self.next += 1
        key = "$KV.k.%d" % self.random.randrange(50)
        value, headers, choice = "value %d" % self.next, {}, self.random.random()
        if choice < 0.1:
            value, headers = "", {"KV-Operation": "DEL"}
        elif choice < 0.2:
            value, headers = "", {"KV-Operation": "PURGE", "Nats-Rollup": "sub"}
        elif choice < 0.5:
            headers = {"Nats-Expected-Last-Subject-Sequence": max([seq for seq, row in self.rows.items() if row[0] == key] or [0])}
        rows = {seq: row for seq, row in self.rows.items() if row[0] != key}
        last = max(list(self.rows) + [self.last_seq(js)])
        rows[last + 1] = (key, value)
        self.after = rows
        document = answer(js, key, value, headers)
        expect(document.get("seq") == last + 1, "kv: put %d: %s", self.next, document)
        self.settle(rows)

    def last_seq(self, js):
        return 0 if self.rows else answer(js, "$JS.API.STREAM.INFO.KV_k")["state"]["last_seq"]


class Batch(Serial):
    stream, config = "BATCH", {"allow_atomic": True, "max_msgs": 3000}

    def __init__(self, seed):
        super().__init__(seed)
        self.next, self.last = 0, 0

    def check(self, js):
        super().check(js)
        self.last = answer(js, "$JS.API.STREAM.INFO.BATCH")["state"]["last_seq"]

    def work(self, js):
        self.next += 1
        rows = dict(self.rows)
        for number in (1, 2, 3):
            rows[self.last + number] = ("batch.%d" % number, "part %d of %d" % (number, self.next))
        for seq in sorted(rows)[:max(0, len(rows) - 3000)]:
            del rows[seq]
        self.after = rows
        for number in (1, 2, 3):
            headers = {"Nats-Batch-Id": "b%d" % self.next, "Nats-Batch-Sequence": number}
            if number == 3:
                headers["Nats-Batch-Commit"] = "1"
            document = answer(js, "batch.%d" % number, "part %d of %d" % (number, self.next), headers)
        expect(document.get("seq") == self.last + 3 and document.get("count") == 3, "batch %d: %s", self.next, document)
        self.last += 3
        self.settle(rows)


def start(server):
    server.lines, server.host, server.port = [], None, None
    server.start()


def play(server, running, parts, chance):
    """One round: work, kill, restart, check. The parts for the next one."""
    for part in parts:
        part.connect(running)
    for part in parts:
        part.start()
    time.sleep(chance.uniform(0.15, 1.5))
    server.process.kill()
    for part in parts:
        part.join(30)
    server.stop()
    if chance.random() < 0.2:
        server.lines, server.host, server.port = [], None, None
        server.spawn()
        time.sleep(chance.uniform(0.0, 0.15))
        server.process.kill()
        server.stop()
    start(server)
    problems = [part.problem for part in parts if part.problem]
    with Js(running) as js:
        for part in parts:
            try:
                part.check(js)
            except Wrong as wrong:
                problems.append(str(wrong))
            except Gone:
                problems.append("%s: the server does not answer after the restart" % part.stream)
    return problems


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="PATH", required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--directory", metavar="PATH", default=None, help="where to store (a real disk); default: here")
    parser.add_argument("--jetstream", metavar="TEXT", default="")
    parser.add_argument("--parts", metavar="LIST", default="log,queue,del,kv,batch")
    options = parser.parse_args()
    servers.stop_servers_at_exit()
    why = jetstream.has_jetstream(options.server)
    if why:
        print("SKIP js_kill: the server has no JetStream: %s" % why)
        print("js_kill: 0 passed, 0 failed, 1 skipped")
        return 0
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    print("js_kill: seed %d (the schedule of the machine is not part of it)" % seed)
    chance = random.Random(seed)
    directory = tempfile.mkdtemp(prefix="js-kill-", dir=options.directory or os.getcwd())
    config = jetstream.CONFIG.replace("STORE", directory) % (options.jetstream, "")
    passed, failed = 0, 0
    kinds = {"log": Log, "queue": Queue, "del": Del, "kv": Kv, "batch": Batch}
    parts = [kinds[name](chance.randrange(1 << 32)) for name in options.parts.split(",")]
    server = servers.Server(options.server, config=config)
    running = compare.Running(server, servers.is_ringbus(options.server), directory, None)
    try:
        server.start()
        for part in parts:
            part.begin(running)
        for number in range(1, options.rounds + 1):
            problems = play(server, running, parts, chance)
            for problem in problems:
                print("FAIL js_kill round %d: %s" % (number, problem))
            passed, failed = passed + (not problems), failed + bool(problems)
            sys.stdout.flush()
            if problems: # the models are wrong from here on
                break
            parts = [part.again() for part in parts]
        print("     confirmed: " + ", ".join("%s %d" % (part.stream, part.done_count) for part in parts))
    finally:
        server.stop()
        if failed:
            print("the store is kept: " + directory)
        else:
            shutil.rmtree(directory, ignore_errors=True)
    print("js_kill: %d passed, %d failed, 0 skipped" % (passed, failed))
    print("%d passed, %d failed" % (passed, failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
