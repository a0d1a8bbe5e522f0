#!/usr/bin/env python3
"""Configuration files against the real nats-server's -t: the same verdict, text, place and digest.

  configs.py --server PATH [--nats-server PATH] [--only TEXT] [--show]

The files are the records of configs/*.txt, separated by lines of "---". A record that is meant to differ begins with
"#! TEXT": ringbus must then say TEXT (or "valid"). Where nats-server's message has no place, ringbus's place is not
compared. Without nats-server only the records with "#!" are tried, and the rest is counted as skipped. The last
line printed is "configs: N passed, N failed, N skipped".
"""

import argparse
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent.parent
PLACE = re.compile(r"^t\.conf:\d+:\d+: ")
PARSE_PLACE = re.compile(r" \(t\.conf:\d+:\d+\)$")
ORACLE_TRIES = 20
DIGEST = re.compile(r"is valid \((sha256:[0-9a-f]{64})\)")


def find_oracle(given):
    for path in (given, os.environ.get("NATS_SERVER"), shutil.which("nats-server"),
                 os.path.expanduser("~/go/bin/nats-server")):
        if path and os.access(path, os.X_OK):
            return path
    return None


def records():
    for path in sorted((HERE / "configs").glob("*.txt")):
        for number, text in enumerate(path.read_text().split("\n---\n"), 1):
            text = text.strip("\n")
            if text:
                yield f"{path.stem} {number}", text + "\n"


def check(binary, folder):
    """Exit code, digest, and the lines of the complaint."""
    done = subprocess.run([binary, "-t", "-c", "t.conf"], capture_output=True, timeout=20,
                          check=False, cwd=folder, stdin=subprocess.DEVNULL)
    output = done.stderr.decode("utf-8", "replace")
    digest = DIGEST.search(output)
    lines = [line for line in output.split(": ", 1)[-1].splitlines() if line]
    return done.returncode, digest.group(1) if digest else "", [] if digest else lines


def same_lines(ours, theirs):
    if len(ours) != len(theirs):
        return False
    left = [PARSE_PLACE.sub("", line) for line in ours]
    for line in theirs:
        match = [mine for mine in left if mine == line or
                 (not PLACE.match(line) and PLACE.sub("", mine) == line)]
        if not match:
            return False
        left.remove(match[0])
    return True


def compare(text, ours, theirs):
    """What differs, or None."""
    if text.startswith("#! "):
        wanted = text.splitlines()[0][3:]
        said = "valid" if ours[0] == 0 else "\n".join(ours[2])
        return None if wanted in said else f"says {said!r}, not {wanted!r}"
    if ours[0] != theirs[0]:
        return f"exit {ours[0]} {ours[2]}, nats-server exit {theirs[0]} {theirs[2]}"
    if ours[1] != theirs[1]:
        return f"digest {ours[1]}, nats-server's {theirs[1]}"
    if not same_lines(ours[2], theirs[2]):
        return f"says {ours[2]}, nats-server {theirs[2]}"
    return None


def make_certificate(folder):
    if shutil.which("openssl") is None:
        return False
    done = subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt",
                           "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key.pem", "-out",
                           "cert.pem", "-days", "2", "-subj", "/CN=localhost"],
                          cwd=folder, capture_output=True, check=False)
    subprocess.run(["openssl", "ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out",
                    "other.pem"], cwd=folder, capture_output=True, check=False)
    return done.returncode == 0


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", required=True)
    parser.add_argument("--nats-server")
    parser.add_argument("--only", default="")
    parser.add_argument("--show", action="store_true")
    args = parser.parse_args()
    oracle = find_oracle(args.nats_server)
    passed = failed = skipped = 0
    if oracle is None:
        print("SKIP configs: nats-server is not installed, only what differs on purpose is tried")
    with tempfile.TemporaryDirectory() as folder:
        have_certificate = make_certificate(folder)
        if not have_certificate:
            print("SKIP configs: openssl is not installed, files with certificates are left out")
        for name, text in records():
            if args.only not in name + text:
                continue
            if (oracle is None and not text.startswith("#! ")) or \
                    ("cert.pem" in text and not have_certificate):
                skipped += 1
                continue
            pathlib.Path(folder, "t.conf").write_text(text)
            ours = check(os.path.abspath(args.server), folder)
            theirs = check(oracle, folder) if oracle else (0, "", [])
            problem = compare(text, ours, theirs)
            for _ in range(ORACLE_TRIES if oracle and problem else 0):
                theirs = check(oracle, folder)  # what it names depends on the order of a map
                problem = compare(text, ours, theirs)
                if not problem:
                    break
            if args.show:
                print(name, repr(text), ours, theirs, sep="\n    ")
            if problem:
                print(f"FAIL {name}: {text.strip()!r}\n     {problem}")
                failed += 1
            else:
                passed += 1
    print(f"configs: {passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
