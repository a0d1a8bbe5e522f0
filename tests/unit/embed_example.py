#!/usr/bin/env python3
"""Runs docs/examples/nkey_auth.c: an nkey client is let in, a wrong key and a missing one are not.

  embed_example.py EXAMPLE NKEY_TOOL

Speaks the protocol itself; where the `nats` tool is installed, that is tried as an unmodified client, too.
"""

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile


def tool(nkey_tool, *args, data=b""):
    done = subprocess.run([nkey_tool, *args], input=data, capture_output=True, check=True, timeout=20)
    return done.stdout.decode().split()


def attempt(address, connect):
    """What the server answers to CONNECT and PING."""
    with socket.create_connection(address, 10) as sock:
        file = sock.makefile("rb")
        info = json.loads(file.readline()[len("INFO "):])
        assert info["auth_required"] and info["nonce"], info
        sock.sendall(b"CONNECT " + json.dumps(connect(info["nonce"])).encode() + b"\r\nPING\r\n")
        return file.readline()


def main():
    example, nkey_tool = sys.argv[1:3]
    seed, public = tool(nkey_tool, "gen", "user")[:2]
    other_seed, other_public = tool(nkey_tool, "gen", "user")[:2]
    server = subprocess.Popen([example, public], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        url = server.stdout.readline().decode().strip()
        host, port = url[len("nats://"):].split(":")
        address = (host, int(port))

        def sign(with_seed, nonce):
            return tool(nkey_tool, "sign", with_seed, data=nonce.encode())[0]

        base = {"verbose": False}
        for what, connect, wanted in (
                ("the key", lambda n: dict(base, nkey=public, sig=sign(seed, n)), b"PONG"),
                ("another key", lambda n: dict(base, nkey=other_public, sig=sign(other_seed, n)),
                 b"-ERR 'Authorization Violation'"),
                ("another's signature", lambda n: dict(base, nkey=public, sig=sign(other_seed, n)),
                 b"-ERR 'Authorization Violation'"),
                ("an old signature", lambda n: dict(base, nkey=public, sig=sign(seed, "old")),
                 b"-ERR 'Authorization Violation'"),
                ("no key", lambda n: base, b"-ERR 'Authorization Violation'"),
                ("a password", lambda n: dict(base, user="a", **{"pass": "b"}),
                 b"-ERR 'Authorization Violation'")):
            answer = attempt(address, connect).strip()
            assert answer == wanted, "%s: %r" % (what, answer)
        nats = shutil.which("nats") or os.path.expanduser("~/go/bin/nats")
        if os.access(nats, os.X_OK):
            for with_seed, good in ((seed, True), (other_seed, False)):
                with tempfile.NamedTemporaryFile("w") as file:
                    file.write(with_seed)
                    file.flush()
                    done = subprocess.run([nats, "--server", url, "--nkey", file.name, "pub", "a", "b"],
                                          capture_output=True, timeout=30, check=False)
                    assert (done.returncode == 0) == good, done
        else:
            print("the nats tool is not installed: its part is skipped")
        server.stdin.close()
        assert server.wait(20) == 0
    finally:
        if server.poll() is None:
            server.kill()
            server.wait()
    print("embed_example: passed")


main()
