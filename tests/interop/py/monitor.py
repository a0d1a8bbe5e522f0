#!/usr/bin/env python3
"""Monitoring pages of a server side by side with nats-server's.

  monitor.py --server PATH|URL [--oracle URL] [--only TEXT]

Fetches every page, with its options and with wrong ones, from both and compares: status, content type,
CORS header, error texts, and of JSON documents the keys, their order and the types of values. A server
given as a program is started. Without --oracle the real nats-server is started (skipped visibly when it is not installed). Both should be
configured alike; clients are connected to both, at the host and port that /varz names, so that /connz
has something to tell. The last line printed is "monitor: N passed, N failed, N skipped".
"""

import argparse
import contextlib
import json
import re
import sys
import time
import urllib.error
import urllib.request

import server as servers

# What only one of them has, and why.
ONLY_NATS = {
    "/varz": {"feature_flags", "git_commit"},  # switches of nats-server's JetStream
    "/varz.jetstream": None,  # None: whatever is in there
    "/debug/vars.memstats": None,  # the Go runtime's
    "/ipqueuesz": None,  # its own queues
}
ONLY_US = {}
# Objects whose keys are data.
MAPS = {"/varz.http_req_stats", "/varz.metadata", "/accountz.account_detail.mappings", "/ipqueuesz"}
# Present or not by circumstance: a cached rate, who is connected, the system's own subscriptions.
OPTIONAL = re.compile(r"\.(imports|exports|subscriptions_list|subscriptions_list_detail|name_tag|max|"
                      r"qgroup|stop|reason|lang|version|name|authorized_user|account|tls_[a-z_]+)$")
SAME_VALUES = ["proto", "max_connections", "ping_interval", "ping_max", "http_base_path",
               "https_port", "auth_timeout", "max_control_line", "max_payload", "max_pending",
               "tls_timeout", "write_deadline", "cores", "system_account", "stalled_clients"]

JSON_PAGES = [
    "/varz", "/connz", "/connz?subs=1&auth=1", "/connz?subs=detail", "/connz?state=closed&auth=1",
    "/connz?state=any&limit=1&offset=1", "/connz?cid=99999", "/connz?acc=nobody",
    "/connz?user=nobody", "/connz?sort=idle", "/connz?sort=stop&state=closed",
    "/connz?sort=reason&state=CLOSED&subs=detail", "/connz?offset=-1&limit=-3",
    "/routez", "/routez?subs=detail", "/gatewayz", "/gatewayz?accs=1&gw_name=x", "/leafz",
    "/leafz?subs=1&acc=x", "/subsz", "/subscriptionsz", "/subsz?subs=1", "/subsz?subs=1&acc=nobody",
    "/subsz?test=foo", "/subsz?offset=3&limit=2&subs=1", "/accountz", "/accountz?acc=$G",
    "/accountz?acc=$SYS", "/accstatz", "/accstatz?unused=1", "/jsz", "/jsz?accounts=1",
    "/jsz?acc=nobody&streams=1&consumers=1&config=1&raft=1", "/healthz", "/healthz?js-enabled-only=1",
    "/healthz?js-server-only=true&details=1", "/healthz?account=A&stream=x", "/ipqueuesz",
    "/debug/vars",
]
EXACT_PAGES = [  # the body has to be the same
    "/connz?subs=x", "/connz?auth=yes", "/connz?limit=x", "/connz?offset=1.5", "/connz?cid=-1",
    "/connz?limit=99999999999999999999", "/connz?state=zz", "/connz?sort=x", "/connz?sort=stop",
    "/connz?sort=reason&state=any", "/routez?subs=q", "/gatewayz?accs=q", "/leafz?subs=q",
    "/subsz?test=a.*", "/subsz?test=a..b", "/subsz?subs=q", "/accountz?acc=nobody",
    "/accstatz?unused=q", "/jsz?leader-only=1", "/jsz?limit=q", "/jsz?streams=q",
    "/healthz?stream=x", "/healthz?account=A&consumer=c", "/healthz?details=1&stream=b",
    "/healthz?js-meta-only=x", "/ipqueuesz?all=q", "/raftz", "/raftz?acc=A", "/nope", "/varz/",
    "/connz?subs=%22%0a", "/connz?sort=%3Cx%3E",
]


class Answer:
    def __init__(self, base, path, method="GET"):
        request = urllib.request.Request(base + path.replace("$", "%24"), method=method)
        try:
            with urllib.request.urlopen(request, timeout=10) as reply:
                self._take(reply.status, reply.headers, reply.read())
        except urllib.error.HTTPError as error:
            self._take(error.code, error.headers, error.read())

    def _take(self, status, headers, body):
        self.status = status
        self.type = headers.get("Content-Type")
        self.cors = headers.get("Access-Control-Allow-Origin")
        self.sniff = headers.get("X-Content-Type-Options")
        self.body = body.decode("utf-8", "replace")


def kind(value):
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, (int, float)):
        return "number"
    return type(value).__name__


def compare(where, ours, theirs, faults):
    """Adds to `faults` what differs in shape."""
    if kind(ours) != kind(theirs):
        faults.append("%s: %s here, %s there" % (where, kind(ours), kind(theirs)))
    elif isinstance(ours, dict):
        compare_objects(where, ours, theirs, faults)
    elif isinstance(ours, list) and ours and theirs:
        # Elements need not correspond: each of ours has to look like one of theirs.
        for at, item in enumerate(ours[:20]):
            tries = []
            for other in theirs:
                tries.append([])
                compare("%s[]" % where, item, other, tries[-1])
                if not tries[-1]:
                    break
            else:
                faults.append("element %d: %s" % (at, "; ".join(min(tries, key=len))))


def compare_objects(where, ours, theirs, faults):
    if where in MAPS:
        return
    skipped = ONLY_NATS.get(where, set())
    if skipped is None:
        return
    optional = lambda key: OPTIONAL.search("%s.%s" % (where, key)) is not None
    for key in theirs:
        if key not in ours and key not in skipped and not optional(key):
            faults.append("%s.%s is missing" % (where, key))
    for key in ours:
        if key not in theirs and key not in ONLY_US.get(where, set()) and not optional(key):
            faults.append("%s.%s is too much" % (where, key))
    order = [key for key in theirs if key in ours]
    if [key for key in ours if key in theirs] != order:
        faults.append("%s: keys in another order: %s" % (where, " ".join(ours)))
    for key in order:
        compare("%s.%s" % (where, key), ours[key], theirs[key], faults)


def check_heads(ours, theirs, faults):
    for name in ("status", "type", "cors", "sniff"):
        if getattr(ours, name) != getattr(theirs, name):
            faults.append("%s: %s here, %s there" % (name, getattr(ours, name), getattr(theirs, name)))


def indent_of(text):
    found = re.search(r"\n( +)\S", text)
    return len(found.group(1)) if found else 0


def check_json(path, ours, theirs):
    faults = []
    check_heads(ours, theirs, faults)
    if faults or not (ours.type or "").startswith("application/json"):
        return faults or check_exact(ours, theirs)
    ours_doc, theirs_doc = json.loads(ours.body), json.loads(theirs.body)
    where = path.partition("?")[0].replace("/subscriptionsz", "/subsz")
    compare(where, ours_doc, theirs_doc, faults)
    if where not in ("/debug/vars", "/ipqueuesz") and indent_of(ours.body) != indent_of(theirs.body):
        faults.append("indented by %d here, %d there" % (indent_of(ours.body), indent_of(theirs.body)))
    if path == "/varz":
        for key in SAME_VALUES:
            if ours_doc.get(key) != theirs_doc.get(key):
                faults.append("%s: %r here, %r there" % (key, ours_doc.get(key), theirs_doc.get(key)))
    return faults


def check_exact(ours, theirs):
    faults = []
    check_heads(ours, theirs, faults)
    if ours.body != theirs.body:
        faults.append("body: %r here, %r there" % (ours.body[:300], theirs.body[:300]))
    return faults


class Clients:
    """The same clients on a server; None when it has no client listener we can reach."""

    def __init__(self, base):
        varz = json.loads(Answer(base, "/varz").body)
        host = varz["host"] if varz["host"] not in ("0.0.0.0", "::") else "127.0.0.1"
        self.socks = []
        self.cids = []
        self.open(host, varz["port"], '{"verbose":false,"name":"<a>&","lang":"py","version":"1"}',
                  b"SUB foo.* 1\r\nSUB bar wk 22\r\nSUB q 3\r\nUNSUB 3 7\r\nPUB foo.x 5\r\nhello\r\n")
        self.open(host, varz["port"], '{"verbose":false}', b"SUB > 9\r\n")
        self.open(host, varz["port"], '{"verbose":false,"name":"gone"}', b"SUB z 1\r\n")
        self.socks.pop().close()
        time.sleep(0.2)

    def open(self, host, port, options, lines):
        sock = servers.connect((host, port), seconds=3)
        info = json.loads(sock.recv(65536).split(b"\r\n")[0][5:])
        self.cids.append(info["client_id"])
        sock.sendall(b"CONNECT " + options.encode() + b"\r\n" + lines + b"PING\r\n")
        data = b""
        while b"PONG" not in data:
            got = sock.recv(65536)
            if not got:
                raise ConnectionError("closed by the server: %r" % data)
            data += got
        self.socks.append(sock)

    def close(self):
        for sock in self.socks:
            sock.close()


def check_counters(base, cid):
    """The first client's own numbers, right after its flush."""
    page = json.loads(Answer(base, "/connz?cid=%d&subs=detail" % cid).body)
    faults = []
    if len(page["connections"]) != 1:
        return ["cid %d is not in /connz" % cid]
    conn = page["connections"][0]
    wanted = {"in_msgs": 1, "in_bytes": 5, "out_msgs": 1, "out_bytes": 5, "subscriptions": 3,
              "pending_bytes": 0, "name": "<a>&", "lang": "py", "version": "1"}
    for key, value in wanted.items():
        if conn.get(key) != value:
            faults.append("%s: %r, should be %r" % (key, conn.get(key), value))
    details = {sub["sid"]: sub for sub in conn.get("subscriptions_list_detail", [])}
    if sorted(details) != ["1", "22", "3"]:
        faults.append("subscriptions_list_detail has %s" % sorted(details))
    elif (details["22"].get("qgroup"), details["3"].get("max"), details["1"]["msgs"]) != ("wk", 7, 1):
        faults.append("subscriptions_list_detail is %r" % details)
    return faults


METRIC = re.compile(r'^[a-zA-Z_:][a-zA-Z0-9_:]*(\{([a-z_]+="(\\[\\"n]|[^"\\\n])*",?)*\})? '
                    r'[-+0-9.eInf]+$')


def check_metrics(base):
    answer = Answer(base, "/metrics")
    faults = [] if answer.status == 200 else ["status %d" % answer.status]
    series = set()
    for line in answer.body.splitlines():
        if line.startswith("#"):
            continue
        if not METRIC.match(line):
            faults.append("not a sample: %r" % line)
        name = line.rpartition(" ")[0]
        if name in series:
            faults.append("twice: %s" % name)
        series.add(name)
    varz = json.loads(Answer(base, "/varz").body)
    for key in ("connections", "in_msgs", "max_payload", "slow_consumers"):
        if not any(s.startswith("gnatsd_varz_%s{" % key) for s in series):
            faults.append("gnatsd_varz_%s is missing" % key)
    if not any(varz["server_id"] in s for s in series):
        faults.append("no series names the server")
    return faults


def check_methods(base):
    faults = []
    for method, wanted in (("HEAD", 200), ("POST", 405), ("PUT", 405), ("DELETE", 405)):
        answer = Answer(base, "/varz", method)
        if answer.status != wanted:
            faults.append("%s: %d, should be %d" % (method, answer.status, wanted))
    return faults


class Report:
    def __init__(self, only):
        self.only = only
        self.passed = self.failed = self.skipped = 0

    def wants(self, name):
        return not self.only or self.only in name

    def add(self, name, faults):
        if faults:
            self.failed += 1
            print("FAIL %s" % name)
            for fault in faults:
                print("     %s" % fault)
        else:
            self.passed += 1
            print("ok   %s" % name)

    def skip(self, name, why):
        self.skipped += 1
        print("SKIP %s: %s" % (name, why))


def own_checks(report, base):
    for name, check in (("metrics", check_metrics), ("methods", check_methods)):
        if report.wants(name):
            report.add(name, check(base))


def side_by_side(report, base, oracle):
    clients = []
    for url in (base, oracle):
        try:
            clients.append(Clients(url))
        except OSError as error:
            report.skip("clients of %s" % url, "cannot be connected: %s" % error)
    if report.wants("counters") and len(clients) == 2:
        report.add("counters after a flush", check_counters(base, clients[0].cids[0]))
        report.add("counters after a flush (nats-server)", check_counters(oracle, clients[1].cids[0]))
    for path in JSON_PAGES:
        if report.wants(path):
            report.add(path, check_json(path, Answer(base, path), Answer(oracle, path)))
    for path in EXACT_PAGES:
        if report.wants(path):
            report.add(path, check_exact(Answer(base, path), Answer(oracle, path)))
    for some in clients:
        some.close()


def start(stack, binary):
    """Starts a server with a monitor; the monitor's base URL."""
    server = stack.enter_context(servers.Server(binary, args=["-m", "-1"]))
    line = next(l for l in server.lines if "Starting http monitor on" in l)
    return "http://" + line.rpartition(" ")[2]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--server", required=True, help="program, or base URL of its monitor")
    parser.add_argument("--oracle", help="base URL of a nats-server's monitor; default: start one")
    parser.add_argument("--only", default="", help="only checks whose name holds this text")
    args = parser.parse_args()
    servers.stop_servers_at_exit()
    report = Report(args.only)
    with contextlib.ExitStack() as stack:
        base = args.server.rstrip("/")
        if "://" not in base:
            base = start(stack, base)
        own_checks(report, base)
        binary = servers.find_oracle()
        if args.oracle:
            side_by_side(report, base, args.oracle.rstrip("/"))
        elif binary is None:
            report.skip("side by side", "nats-server is not installed")
        else:
            side_by_side(report, base, start(stack, binary))
    print("monitor: %d passed, %d failed, %d skipped" % (report.passed, report.failed, report.skipped))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
