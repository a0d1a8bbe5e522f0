"""The `nats` tool for js_clients.py: client_js_cli.py TOOL HOST PORT. Exit codes, and what it printed as JSON or text."""

import json
import os
import pty
import re
import subprocess
import sys
import tempfile

tool, host, port = sys.argv[1:4]
directory = tempfile.mkdtemp(prefix="interop-cli-")
# What differs by nature in its texts.
MASKS = ((re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d+)?"), "<time>"), (re.compile(r"127\.0\.0\.1:\d+"), "<address>"),
         (re.compile(r"Client ID: \d+"), "Client ID: <id>"),
         (re.compile(r"Consumers: \d+"), "Consumers: <some>"), (re.compile(r"Version: [\w.-]+"), "Version: <version>"),
         (re.compile("\u00a0"), " "), (re.compile(r"\d\d:\d\d:\d\d"), "<time>"),
         (re.compile(r"\d+(?:\.\d+)?(?:ns|µs|us|ms|s|m)\b(?:\d+(?:\.\d+)?s)?"), "<duration>"),
         (re.compile(r"[\d,.]+ (?:msgs/sec|[KMG]?i?B/sec)"), "<rate>"), (re.compile(re.escape(directory)), "<directory>"),
         (re.compile(r"\bN[A-Z2-7]{55}\b"), "<server>"))


def run(*arguments, data=None):
    return subprocess.run([tool, "--no-context", "--server", "nats://%s:%s" % (host, port), "--timeout", "5s", *arguments],
                          input=data, capture_output=True, timeout=60, check=False,
                          env=dict(os.environ, HOME=directory, XDG_CONFIG_HOME=directory, NO_COLOR="1", TERM="dumb", COLUMNS="120"))


def on_terminal(*arguments):
    """The same for what wants a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([tool, "--no-context", "--server", "nats://%s:%s" % (host, port), *arguments], stdin=theirs,
                          stdout=theirs, stderr=theirs, env=dict(os.environ, HOME=directory, NO_COLOR="1", TERM="dumb")) as process:
        os.close(theirs)
        said = b""
        try:
            while part := os.read(ours, 65536):
                said += part
        except OSError: # its end is gone
            pass
        return subprocess.CompletedProcess(arguments, process.wait(30), said.replace(b"\r\n", b"\n"), b"")


def text(label, *arguments, data=None, last=False, terminal=False):
    """What it said; `last`: its last line only."""
    done = on_terminal(*arguments) if terminal else run(*arguments, data=data)
    said = (done.stdout + done.stderr).decode("utf-8", "replace")
    for pattern, word in MASKS:
        said = pattern.sub(word, said)
    lines = [" ".join(line.split()) for line in said.split("\n") if line.strip(" \u2500\u252c\u2534\u253c\u251c\u2524\u256d\u256e\u256f\u2570")]
    print(json.dumps([label, [done.returncode, lines[-1:] if last else lines]]))


def document(label, *arguments, keep=None):
    """What it printed as JSON; `keep`: these members only."""
    done = run(*arguments)
    try: # after what it says before
        value = json.loads(done.stdout[done.stdout.find(b"\n{\n") + 1 if not done.stdout.startswith(b"{") else 0:])
    except ValueError:
        value = (done.stdout + done.stderr).decode("utf-8", "replace")
    if keep and isinstance(value, dict):
        value = {key: value.get(key) for key in keep}
        (value.get("state") or {}).pop("consumer_count", None) # the tool's own go when they are idle
    print(json.dumps([label, [done.returncode, value]]))


def code(label, *arguments, data=None):
    print(json.dumps([label, run(*arguments, data=data).returncode]))


def outcome(label, *arguments):
    """Its exit code, and what it complained of."""
    done = run(*arguments)
    said = (done.stdout + done.stderr).decode("utf-8", "replace").strip().split("\n")
    print(json.dumps([label, [done.returncode] + ([said[-1]] if done.returncode else [])]))


text("account info before", "account", "info")
document("stream add", "stream", "add", "S", "--subjects", "s.>", "--defaults", "--json", keep=("config", "state"))
code("stream add again", "stream", "add", "S", "--subjects", "s.>", "--defaults")
text("stream add that overlaps", "stream", "add", "T", "--subjects", "s.x", "--defaults", last=True)
for number in range(10):
    code("publish %d" % number, "publish", "s.%d" % (number % 3), "message %d" % number, "--jetstream")
document("stream info", "stream", "info", "S", "--json", keep=("config", "state"))
text("stream info as text", "stream", "info", "S")
document("stream subjects", "stream", "subjects", "S", "--json")
text("stream get", "stream", "get", "S", "4")
text("stream get last", "stream", "get", "S", "--last-for", "s.1")
text("stream rmm", "stream", "rmm", "S", "2", "--force")
text("stream view", "stream", "view", "S", "20", terminal=True)
text("stream ls", "stream", "ls", "--names")
text("stream find", "stream", "find", "--names")
document("stream edit", "stream", "edit", "S", "--max-msgs", "100", "--force", "--json", keep=("config",))
code("consumer add", "consumer", "add", "S", "C", "--pull", "--ack", "explicit", "--deliver", "all", "--defaults")
document("consumer config", "consumer", "info", "S", "C", "--json", keep=("config", "num_pending", "name"))
text("consumer next", "consumer", "next", "S", "C", "--count", "3", "--ack", "--raw")
text("consumer next as text", "consumer", "next", "S", "C")
text("consumer ls", "consumer", "ls", "S", "--names")
document("consumer info", "consumer", "info", "S", "C", "--json", keep=("delivered", "ack_floor", "num_pending", "num_ack_pending"))
text("consumer info as text", "consumer", "info", "S", "C")
text("consumer pause", "consumer", "pause", "S", "C", "1h", "--force", last=True)
text("consumer resume", "consumer", "resume", "S", "C", "--force", last=True)
text("consumer report", "consumer", "report", "S")
text("stream report", "stream", "report")
code("stream backup", "stream", "backup", "S", os.path.join(directory, "backup"), "--no-progress")
code("stream rm", "stream", "rm", "S", "--force")
code("stream restore", "stream", "restore", os.path.join(directory, "backup"), "--no-progress")
document("stream info, restored", "stream", "info", "S", "--json", keep=("config", "state"))
document("consumer info, restored", "consumer", "info", "S", "C", "--json", keep=("delivered", "ack_floor", "num_pending"))
code("stream purge", "stream", "purge", "S", "--force")
document("stream info, purged", "stream", "info", "S", "--json", keep=("state",))
code("consumer rm", "consumer", "rm", "S", "C", "--force")
text("kv add", "kv", "add", "B", "--history", "3")
for key, value in (("a", "1"), ("a", "2"), ("b", "3")):
    text("kv put %s %s" % (key, value), "kv", "put", "B", key, value)
text("kv get", "kv", "get", "B", "a", "--raw")
text("kv create", "kv", "create", "B", "c", "4")
text("kv create over", "kv", "create", "B", "c", "4", last=True)
text("kv update", "kv", "update", "B", "c", "5", "4")
text("kv update stale", "kv", "update", "B", "c", "6", "4", last=True)
text("kv history", "kv", "history", "B", "a")
text("kv ls", "kv", "ls", "B")
text("kv del", "kv", "del", "B", "b", "--force")
text("kv get deleted", "kv", "get", "B", "b", "--raw", last=True)
text("kv purge", "kv", "purge", "B", "a", "--force")
text("kv status", "kv", "info", "B")
code("kv rm", "kv", "del", "B", "--force")
code("object add", "object", "add", "O")
with open(os.path.join(directory, "file"), "wb") as file:
    file.write(bytes(range(256)) * 2000)
code("object put", "object", "put", "O", os.path.join(directory, "file"), "--name", "thing", "--no-progress", "--force")
text("object ls", "object", "ls", "O")
text("object info", "object", "info", "O", "thing")
code("object get", "object", "get", "O", "thing", "--output", os.path.join(directory, "back"), "--no-progress", "--force")
with open(os.path.join(directory, "file"), "rb") as one, open(os.path.join(directory, "back"), "rb") as two:
    print(json.dumps(["object came back", one.read() == two.read()]))
code("object rm", "object", "rm", "O", "thing", "--force")
code("object seal", "object", "seal", "O", "--force")
outcome("bench js pub, create", "bench", "js", "pub", "async", "benchmark", "--create", "--msgs", "2000", "--size", "64", "--no-progress")
outcome("bench js pub fast", "bench", "js", "pub", "fast", "benchmark", "--msgs", "2000", "--size", "64", "--no-progress")
code("bench stream purge", "stream", "purge", "benchstream", "--force")
outcome("bench js pub sync", "bench", "js", "pub", "sync", "benchmark", "--msgs", "200", "--size", "64", "--no-progress")
outcome("bench js pub async", "bench", "js", "pub", "async", "benchmark", "--msgs", "1800", "--size", "64", "--no-progress")
outcome("bench js ordered", "bench", "js", "ordered", "--msgs", "2000", "--no-progress")
outcome("bench js consume", "bench", "js", "consume", "--msgs", "2000", "--no-progress")
code("consumer add for bench", "consumer", "add", "benchstream", "other", "--pull", "--ack", "explicit", "--deliver", "all", "--defaults")
outcome("bench js fetch", "bench", "js", "fetch", "--consumer", "other", "--msgs", "2000", "--no-progress")
document("stream info, bench", "stream", "info", "benchstream", "--json", keep=("state",))
code("server check", "server", "check", "jetstream")
text("account info", "account", "info")
