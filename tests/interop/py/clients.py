#!/usr/bin/env python3
"""Real clients and what they log in with: password, token, nkey, certificate, WebSocket; a request over an import.

  clients.py NAME --server PATH -- PROGRAM...

PROGRAM is started once per case, with a JSON document of what to log in with as its last argument. It sends "ping" to
the subject "ask" and prints the reply, or "refused: WHY", or "skip: WHY". The last line is "NAME: N passed, N failed, N skipped".
"""

import json
import os
import subprocess
import sys
import tempfile
import threading

import compare
import natsclient
import server as servers
import wire

SEED = "SUAHDHSTJZLCESZZGTUHC5FTMLRPNRS7X5SUMFAYCP2JRZEBXYYWVB53SM"  # made for these tests; it opens nothing else
CERTS = "cert_file: \"CERTS/server-rsa.pem\", key_file: \"CERTS/server-rsa-key.pem\""
SHARED = """accounts {
  A { users: [{ user: service, password: s }], exports: [{ service: "svc.*" }] }
  B { users: [USERS], imports: [{ service: { account: A, subject: "svc.ask" }, to: "ask" }] }
}
"""


def configs(certs, key):
    """Name -> configuration of a server."""
    users = '{ user: ann, password: "p w" }, { nkey: %s }' % key
    websocket = 'websocket { listen: "127.0.0.1:-1", no_tls: true, compression: true }\n'
    secure = "tls { %s }\n" % CERTS
    mapped = 'tls { %s, ca_file: "CERTS/ca.pem", verify_and_map: true }\n' % CERTS
    return {
        "users": SHARED.replace("USERS", users) + websocket,
        "secure": (SHARED.replace("USERS", users) + secure).replace("CERTS", certs),
        "token": "authorization { token: \"t0ken\" }\n",
        "mapped": (SHARED.replace("USERS", '{ user: "derek@example.org" }').replace(
            "user: service, password: s", 'user: "CN=inter", password: s') + mapped).replace("CERTS", certs),
    }


CASES = (  # name, server, what to log in with, what must come
    ("user and password", "users", {"user": "ann", "pass": "p w"}, "pong"),
    ("wrong password", "users", {"user": "ann", "pass": "x"}, "refused"),
    ("nkey", "users", {"nkey": True}, "pong"),
    ("user over TLS", "secure", {"user": "ann", "pass": "p w", "ca": "ca.pem"}, "pong"),
    ("an authority that made nothing here", "secure", {"user": "ann", "pass": "p w", "ca": "other-ca.pem"}, "refused"),
    ("nkey over TLS", "secure", {"nkey": True, "ca": "ca.pem"}, "pong"),
    ("WebSocket", "users", {"user": "ann", "pass": "p w", "ws": True}, "pong"),
    ("WebSocket, wrong password", "users", {"user": "ann", "pass": "x", "ws": True}, "refused"),
    ("token", "token", {"token": "t0ken"}, "pong"),
    ("wrong token", "token", {"token": "x"}, "refused"),
    ("client certificate", "mapped", {"ca": "ca.pem", "cert": "client.pem"}, "pong"),
    ("no client certificate", "mapped", {"ca": "ca.pem"}, "refused"),
)


class Responder(threading.Thread):
    """Answers "ping" with "pong" on svc.ask and ask."""

    def __init__(self, client, **login):
        super().__init__(daemon=True)
        self.client, self.ended = client, False
        self.said = client.connect(headers=True, **login)
        client.send(b"SUB svc.ask 1\r\nSUB ask 2\r\n")
        client.ping()

    def run(self):
        while not self.ended:
            if not self.client.receive(0.2):
                continue
            messages = wire.split(self.client.stream)
            self.client.stream = messages.pop()
            for message in messages:
                if message == b"PING\r\n":
                    self.client.send(b"PONG\r\n")
                elif wire.is_delivery(message):
                    self.client.send(b"PUB %s 4\r\npong\r\n" % wire.last_reply(message))


def run_case(program, document):
    try:
        done = subprocess.run(program + [json.dumps(document)], capture_output=True, timeout=40, check=False)
    except subprocess.TimeoutExpired:
        return "took too long"
    lines = (done.stdout or done.stderr).decode("utf-8", "replace").strip().split("\n")
    return lines[-1] if done.returncode == 0 else "ended with %d: %s" % (done.returncode, " | ".join(lines[-3:]))


def run_cases(name, binary, program, certs, tools):
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    key = tools.nkey("public", SEED)[0]
    seed_file = os.path.join(certs, "user.nk")
    with open(os.path.join(certs, "user.nk"), "w", encoding="ascii") as file:
        file.write(SEED + "\n")
    running = {which: servers.Server(binary, config=text).start() for which, text in configs(certs, key).items()}
    responders = []
    for which, server in running.items():
        tls = None
        if which in ("secure", "mapped"):
            tls = natsclient.tls(ca=os.path.join(certs, "ca.pem"), cert=os.path.join(certs, "client-inter-chain.pem"),
                                 key=os.path.join(certs, "client-inter-key.pem"))
        user = {"user": "service", "pass": "s"}
        login = {"users": user, "secure": user, "token": {"auth_token": "t0ken"}, "mapped": {"pass": "s"}}[which]
        responders.append(Responder(natsclient.Client(server.address, tls=tls), **login))
        responders[-1].start()
        if "PONG" not in responders[-1].said:
            raise AssertionError("%s: the responder was told %r" % (which, responders[-1].said))
    for label, which, login, want in CASES:
        server = running[which]
        document = dict(login, host=server.host, port=server.port)
        if document.get("nkey"):
            document.update(nkey=key, seed=SEED, seed_file=seed_file)
        for file in ("ca", "cert"):
            if file in document:
                document[file] = os.path.join(certs, document[file])
        if "cert" in document:
            document["key"] = document["cert"].replace(".pem", "-key.pem")
        if document.get("ws"):
            document["port"] = compare.Running(server, True, certs, tools).websocket_port
        got = run_case(program, document)
        word = "skipped" if got.startswith("skip:") else "passed" if got.startswith(want) else "failed"
        counts[word] += 1
        print("%s %s %s%s" % ({"skipped": "SKIP", "passed": "ok  ", "failed": "FAIL"}[word], name, label,
                              "" if word == "passed" else ": " + got))
        sys.stdout.flush()
    for responder in responders:
        responder.ended = True
    return counts


def main():
    name, _, binary, _, *program = sys.argv[1:]
    servers.stop_servers_at_exit()
    tools = compare.Tools(binary, None)
    with tempfile.TemporaryDirectory(prefix="interop-clients-") as certs:
        why = compare.make_certs(certs)
        if why is None and not os.access(tools.nkey_tool, os.X_OK):
            why = "there is no nkey_tool beside the server"
        if why:
            print("SKIP %s: %s" % (name, why))
            counts = {"passed": 0, "failed": 0, "skipped": len(CASES)}
        else:
            counts = run_cases(name, binary, program, certs, tools)
    print("%s: %d passed, %d failed, %d skipped" % (name, counts["passed"], counts["failed"], counts["skipped"]))
    return 1 if counts["failed"] else 0


if __name__ == "__main__":
    sys.exit(main())
