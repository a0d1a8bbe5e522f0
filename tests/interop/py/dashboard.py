#!/usr/bin/env python3
"""The dashboard in headless Chromium: does it show what the server says?

  dashboard.py --demo BUILD/tests/unit/monitor_demo [--screenshot FILE] [--dark]
  dashboard.py --server PATH|URL [--screenshot FILE] [--dark]

With --demo a server that does not exist is watched, and what the page must show is known; with --server
only that it runs. Skipped visibly when Chromium is not installed. The last line printed is
"dashboard: N passed, N failed, N skipped".
"""

import argparse
import atexit
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request

import server as servers

STARTED = re.compile(r"Starting http monitor on (\S+)")
SIMULATED_MS = 60000  # of the page's clock: it does not take that long


def start(argv):
    """Starts a server with a monitor on a free port; its base URL."""
    process = subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    atexit.register(process.kill)
    for line in process.stderr:
        found = STARTED.search(line)
        if found:
            return "http://" + found.group(1)
    raise servers.ServerError("%s ended before it listened" % argv[0])


def chromium(binary, profile, url, dark, *more):
    argv = [binary, "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
            "--user-data-dir=" + profile, "--window-size=1400,1700", "--enable-logging=stderr",
            "--virtual-time-budget=%d" % SIMULATED_MS]
    if dark:
        argv.append("--blink-settings=preferredColorScheme=0")
    done = subprocess.run(argv + list(more) + [url], capture_output=True, text=True, timeout=120,
                          check=False)
    return done.stdout, [l for l in done.stderr.splitlines() if "CONSOLE" in l]


def check(page, console, demo):
    faults = ["the page complained: %s" % line for line in console]
    state = re.search(r'<span id="state"[^>]*>([^<]*)<', page)
    if not state or state.group(1) != "running":
        faults.append("state is %r" % (state and state.group(1)))
    tiles = re.findall(r'<div class="tile[^"]*"><b>([^<]*)</b><small>([^<]*)</small>', page)
    values = {label: value for value, label in tiles}
    for label in ("messages in / s", "messages out / s", "in / s", "out / s", "connections",
                  "subscriptions", "memory", "slow consumers"):
        if values.get(label, "–") == "–":
            faults.append("tile %r shows nothing" % label)
    if page.count("<polyline") != 4:
        faults.append("%d curves are drawn, should be 4" % page.count("<polyline"))
    if demo:
        for text in ("fake &lt;1&gt;", "orders.eu.created", "25 busiest of 43", "&lt;cli&gt;&amp;",
                     "with.many.tokens.&lt;b&gt;&amp;", "pending bytes", "ws tls", "118 MiB"):
            if text not in page:
                faults.append("%r is not shown" % text)
    return faults


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demo", help="the monitor_demo binary")
    parser.add_argument("--server", help="program, or base URL of its monitor")
    parser.add_argument("--screenshot", help="PNG file to write, to be looked at")
    parser.add_argument("--dark", action="store_true", help="as a browser that prefers dark pages")
    args = parser.parse_args()
    if bool(args.demo) == bool(args.server):
        parser.error("give --demo or --server")
    binary = shutil.which("chromium") or shutil.which("chromium-browser")
    if binary is None:
        print("SKIP dashboard: chromium is not installed")
        print("dashboard: 0 passed, 0 failed, 1 skipped")
        return 0
    if args.demo:
        base = start([args.demo, "-1", "120"])
    elif "://" in args.server:
        base = args.server.rstrip("/")
    else:
        base = start([args.server, "-a", "127.0.0.1", "-p", "-1", "-m", "-1"])
    with urllib.request.urlopen(base + "/dashboardz", timeout=10):
        pass
    with tempfile.TemporaryDirectory(prefix="dashboard-") as profile:
        url = base + "/dashboard"
        page, console = chromium(binary, profile, url, args.dark, "--dump-dom")
        faults = check(page, console, args.demo)
        if args.screenshot:
            chromium(binary, profile, url, args.dark, "--screenshot=" + args.screenshot)
    for fault in faults:
        print("FAIL %s" % fault)
    print("dashboard: %d passed, %d failed, 0 skipped" % (not faults, bool(faults)))
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
