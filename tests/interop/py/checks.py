"""What programs of checks share: how a check tells its outcome, and the run over all of them."""

import argparse
import subprocess
import sys

import server as servers


class Failed(Exception):
    """What a check found wrong."""


class Skipped(Exception):
    """Why a check does not apply."""


def expect(condition, text):
    if not condition:
        raise Failed(text)


def outcome_of(title, name, check):
    """Runs one check, prints its line and returns "passed", "failed" or "skipped"."""
    try:
        check()
    except Skipped as reason:
        print("SKIP %s %s: %s" % (title, name, reason))
        return "skipped"
    except (Failed, servers.ServerError, OSError, ValueError, KeyError, IndexError, TypeError,
            subprocess.SubprocessError) as error:
        print("FAIL %s %s: %s" % (title, name, error or type(error).__name__))
        return "failed"
    print("ok   %s %s" % (title, name))
    return "passed"


def run_checks(title, doc, cases):
    """The whole program: reads --server PATH and --only TEXT, runs cases(server), a sequence of (name, check without
    arguments), prints the counts as "TITLE: N passed, N failed, N skipped" and returns the exit code."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--server", metavar="PATH", required=True)
    parser.add_argument("--only", metavar="TEXT", default="", help="checks whose name contains TEXT")
    options = parser.parse_args()
    servers.stop_servers_at_exit()
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for name, check in cases(options.server):
        if options.only in name:
            counts[outcome_of(title, name, check)] += 1
            sys.stdout.flush()
    print("%s: %d passed, %d failed, %d skipped" % (title, counts["passed"], counts["failed"], counts["skipped"]))
    return 1 if counts["failed"] else 0


def no_oracle():
    raise Skipped("nats-server is not installed")
