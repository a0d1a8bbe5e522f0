"""Scenarios: what clients observe on a server, as a document that is compared with nats-server's.

    @compare.scenario("tls { ... }")
    def required(s):                     # s: Running
        return {"info": ..., "answer": ...}

    if __name__ == "__main__":
        sys.exit(compare.main("tls", __doc__))

Each scenario runs on the server under test and, where it is installed, on the real nats-server. Both documents must be the one
in expected/NAME.json, which was recorded from nats-server (--record) and reviewed. A scenario that is marked `differs` runs on
ringbus only; its docstring says what nats-server does.
"""

import argparse
import concurrent.futures
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import traceback

import natsclient
import server as servers
import wire

HERE = os.path.dirname(os.path.abspath(__file__))
AT_ONCE = 6
SCENARIOS = []
CONFIG_WORDS = {}  # word in a configuration -> function that makes its text from `shared`


class SkipError(Exception):
    """A scenario that cannot run here; the text says why."""


class Scenario:
    def __init__(self, run, config, args, differs, own):
        self.run, self.config, self.args, self.differs = run, config, args, differs
        self.own = own
        self.name = run.__name__


def scenario(config="", args=(), differs=False, own=""):
    """`own`: more configuration, for ringbus only."""
    def register(run):
        SCENARIOS.append(Scenario(run, config, list(args), differs, own))
        return run
    return register


class Running:
    """A server with a scenario's configuration, and what clients need to know."""

    def __init__(self, server, ringbus, certs, tools):
        self.server, self.ringbus, self.certs, self.tools = server, ringbus, certs, tools

    @property
    def address(self):
        return self.server.address

    def port_of(self, pattern):
        for line in self.server.log().split("\n"):
            found = re.search(pattern, line)
            if found:
                return int(found.group(1))
        raise AssertionError("no line like %r in the log:\n%s" % (pattern, self.server.log()))

    @property
    def websocket_port(self):
        return self.port_of(r"Listening for websocket clients on wss?://127\.0\.0\.1:(\d+)")

    @property
    def monitor_port(self):
        return self.port_of(r"Starting http monitor on 127\.0\.0\.1:(\d+)")

    def file(self, name):
        return os.path.join(self.certs, name)

    def client(self, **options):
        return natsclient.Client(self.address, **options)

    def logged(self, pattern, seconds=2.0):
        """Whether a line that matches comes."""
        return self.server.wait_line(lambda line: re.search(pattern, line), seconds)


class Tools:
    """Programs beside the server under test."""

    def __init__(self, binary, nkey_tool):
        self.nkey_tool = nkey_tool or os.path.join(os.path.dirname(binary), "tests", "support", "nkey_tool")

    def nkey(self, *args, data=b""):
        if not os.access(self.nkey_tool, os.X_OK):
            raise SkipError("there is no nkey_tool beside the server")
        done = subprocess.run([self.nkey_tool, *args], input=data, capture_output=True, check=True,
                              timeout=20)
        return done.stdout.decode().split()


def run_one(item, binary, ringbus, shared):
    config = item.config.replace("CERTS", shared["certs"])
    if ringbus and item.own:
        config += "\n" + item.own + "\n"
    for word, make in CONFIG_WORDS.items():
        if word in config:
            config = config.replace(word, make(shared))
    with servers.Server(binary, config=config, args=item.args) as server:
        running = Running(server, ringbus, shared["certs"], shared["tools"])
        document = item.run(running)
        if server.process.poll() is not None:
            raise AssertionError("the server ended:\n" + server.log()[-2000:])
    return json.loads(json.dumps(document))


def attempt(item, binary, ringbus, shared):
    """(document, None) or (None, what went wrong)."""
    try:
        return run_one(item, binary, ringbus, shared), None
    except SkipError as skip:
        return None, skip
    except Exception as error:  # pylint: disable=broad-except # whatever it is, it is a failure
        return None, "".join(traceback.format_exception(error)[-4:])[-1800:]


def difference(want, got, path=""):
    """Where two documents differ, as lines."""
    if isinstance(want, dict) and isinstance(got, dict):
        lines = []
        for key in sorted(set(want) | set(got)):
            lines += difference(want.get(key, "(nothing)"), got.get(key, "(nothing)"),
                                path + "/" + key)
        return lines
    return [] if want == got else ["%s\n      want %s\n      got  %s" % (
        path or "/", json.dumps(want)[:900], json.dumps(got)[:900])]


def check(item, target, oracle, shared, expected):
    """(problems, reason of a skip or None)"""
    problems = []
    want = expected.get(item.name)
    if want is None:
        return ["nothing is recorded for it"], None
    for label, binary in (("server", target), ("nats-server", oracle)):
        if binary is None or item.differs and not servers.is_ringbus(binary):
            continue
        got, wrong = attempt(item, binary, servers.is_ringbus(binary), shared)
        if isinstance(wrong, SkipError):
            return [], str(wrong)
        if wrong:
            problems.append("%s: %s" % (label, wrong))
        else:
            problems += ["%s: %s" % (label, line) for line in difference(want, got)]
    return problems, None


def make_certs(directory):
    """The certificates of tests/support/certs.sh; None when there is no openssl."""
    script = os.path.join(HERE, "..", "..", "support", "certs.sh")
    if shutil.which("openssl") is None:
        return "openssl is not installed"
    done = subprocess.run(["sh", script, directory], capture_output=True, timeout=120, check=False)
    return None if done.returncode == 0 else done.stderr.decode("utf-8", "replace")


def arguments(doc):
    parser = argparse.ArgumentParser(description=doc,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="PATH", required=True)
    parser.add_argument("--oracle", metavar="PATH|none")
    parser.add_argument("--record", action="store_true")
    parser.add_argument("--only", metavar="TEXT", help="scenarios whose name contains TEXT")
    parser.add_argument("--nkey-tool", metavar="PATH", help="instead of the one of the server's build")
    parser.add_argument("--certs", metavar="DIR", help="certificates that are there already")
    return parser.parse_args()


def main(name, doc):
    options = arguments(doc)
    servers.stop_servers_at_exit()
    path = os.path.join(HERE, "..", "expected", name + ".json")
    expected = {}
    if os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            expected = json.load(file)
    chosen = [item for item in SCENARIOS if not options.only or options.only in item.name]
    oracle = None if options.oracle == "none" else options.oracle or servers.find_oracle()
    if oracle and os.path.realpath(oracle) == os.path.realpath(options.server):
        oracle = None
    own = None if options.certs else tempfile.mkdtemp(prefix="interop-certs-")
    shared = {"certs": options.certs or own, "tools": Tools(options.server, options.nkey_tool)}
    try:
        why = None if options.certs else make_certs(own)
        if why:
            print("SKIP %s: %s" % (name, why))
            print("%s: 0 passed, 0 failed, %d skipped" % (name, len(chosen)))
            return 0
        if options.record:
            return record(chosen, options.server, shared, expected, path)
        return report(name, chosen, options.server, oracle, shared, expected)
    finally:
        if own:
            shutil.rmtree(own, ignore_errors=True)


def record(chosen, binary, shared, expected, path):
    ringbus = servers.is_ringbus(binary)
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        items = [item for item in chosen if item.differs == ringbus]
        for item, (got, wrong) in zip(items, pool.map(
                lambda item: attempt(item, binary, ringbus, shared), items)):
            if wrong:
                print("%s: %s" % (item.name, wrong))
            else:
                expected[item.name] = got
    names = [item.name for item in SCENARIOS]
    kept = {name: expected[name] for name in names if name in expected}
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(kept, file, indent=1, sort_keys=True, ensure_ascii=True)
        file.write("\n")
    return 0


def report(name, chosen, target, oracle, shared, expected):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    with concurrent.futures.ThreadPoolExecutor(AT_ONCE) as pool:
        results = pool.map(lambda item: check(item, target, oracle, shared, expected), chosen)
        for item, (problems, skipped) in zip(chosen, results):
            if skipped:
                print("SKIP %s %s: %s" % (name, item.name, skipped))
                counts["skipped"] += 1
                continue
            counts["failed" if problems else "passed"] += 1
            if problems:
                print("FAIL %s %s" % (name, item.name))
            for problem in problems:
                print("    " + problem)
            sys.stdout.flush()
    print("%s: %d passed, %d failed, %d skipped" % (
        name, counts["passed"], counts["failed"], counts["skipped"]))
    return 1 if counts["failed"] else 0


def masked(stream):
    """Bytes of a server as text with what differs by nature blanked."""
    return wire.normal(stream).decode("latin-1")
