#!/usr/bin/env python3
"""A client's JetStream script against the server and nats-server: what the client saw, record by record.

  js_clients.py NAME --server PATH [--oracle PATH|none] [--record] -- PROGRAM [ARGUMENT...]

PROGRAM gets HOST and PORT, and prints a line of JSON for each thing it saw: ["label", value]. Its exit code must be 0. Values
are compared without ids, times and names of the moment, with each other and with expected/NAME.json.
"""

import json
import subprocess
import sys

import jetstream
from jetstream import scenario

SECONDS = 120


def main():
    name, rest = sys.argv[1], sys.argv[2:]
    at = rest.index("--")
    program = rest[at + 1:]
    sys.argv = [sys.argv[0]] + rest[:at]

    @scenario()
    def client(js, rec, running):
        done = subprocess.run(program + [running.server.host, str(running.server.port)], capture_output=True, timeout=SECONDS,
                              check=False)
        lines = done.stdout.decode("utf-8", "replace").strip().split("\n")
        for line in lines:
            if line.startswith("["):
                label, value = json.loads(line)
                rec(label, jetstream.masked(value))
        if done.returncode != 0:
            said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
            raise AssertionError("the client ended with %d: %s" % (done.returncode, said[-1500:]))

    return jetstream.main(name, __doc__)


if __name__ == "__main__":
    sys.exit(main())
