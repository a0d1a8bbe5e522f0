#!/bin/sh
# Interop tests: real clients and raw exchanges against a ringbus binary.
#
#   run.sh [--ringbus PATH] [--only py|c|js]
#
# py  raw TCP exchanges compared byte by byte with the real nats-server where it is installed
#     ($NATS_SERVER, PATH, ~/go/bin), else with the recorded bytes; logins, accounts, TLS and
#     WebSocket compared as documents in the same way (expected/); JetStream record by record, and what real clients
#     see of it; the process checks; the system account; and what
#     security advisories were about; the nats tool and nats-py (in a virtual environment of their own)
# c   nats.c; Debian's libnats-dev is installed when it is missing and we are root or have sudo
# js  nats.js on Node 18 or later, installed by npm into a temporary directory
#
# A part whose client cannot be had is skipped with a line that says why. Servers listen on loopback
# ports of their own choice and are ended by pid. The last line is
# "N passed, N failed, N skipped"; the exit code is 0 when nothing failed.
set -u

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
ringbus=$here/../../build/ringbus
only=

usage() {
    echo "usage: $0 [--ringbus PATH] [--only py|c|js]" >&2
    exit 2
}

while [ $# -gt 0 ]; do
    case $1 in
    --ringbus) [ $# -ge 2 ] || usage; ringbus=$2; shift 2 ;;
    --ringbus=*) ringbus=${1#*=}; shift ;;
    --only) [ $# -ge 2 ] || usage; only=$2; shift 2 ;;
    --only=*) only=${1#*=}; shift ;;
    *) usage ;;
    esac
done
case $only in ''|py|c|js) ;; *) usage ;; esac
if [ ! -x "$ringbus" ] || [ -d "$ringbus" ]; then
    echo "$ringbus is no program; build first or use --ringbus PATH" >&2
    exit 2
fi
ringbus=$(CDPATH='' cd -- "$(dirname -- "$ringbus")" && pwd)/$(basename -- "$ringbus")

work=$(mktemp -d "${TMPDIR:-/tmp}/interop.XXXXXX") || exit 1
child=
cleanup() {
    if [ -n "$child" ]; then
        kill "$child" 2>/dev/null # it ends the servers it started
        wait "$child" 2>/dev/null
        child=
    fi
    rm -rf -- "$work"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

passed=0 failed=0 skipped=0

skip() { # part, reason
    echo "SKIP $1: $2"
    skipped=$((skipped + 1))
}

# Runs a test program and adds the counts of its last line "NAME: N passed, N failed[, N skipped]".
run() { # name, command...
    name=$1
    shift
    mkfifo "$work/pipe" || exit 1
    tee "$work/output" <"$work/pipe" &
    tee_pid=$!
    "$@" >"$work/pipe" 2>&1 &
    child=$!
    wait "$child"
    code=$?
    child=
    wait "$tee_pid"
    rm -f "$work/pipe"
    counts=$(sed -n "\$s/^$name: \([0-9]*\) passed, \([0-9]*\) failed\(, \([0-9]*\) skipped\)*\$/\1 \2 \4/p" \
        "$work/output")
    if [ -z "$counts" ]; then
        echo "FAIL $name: it ended with code $code and without a summary"
        failed=$((failed + 1))
        return
    fi
    # shellcheck disable=SC2086 # several words
    set -- $counts
    passed=$((passed + $1))
    failed=$((failed + $2))
    skipped=$((skipped + ${3:-0}))
    if [ "$code" -ne 0 ] && [ "$2" -eq 0 ]; then
        echo "FAIL $name: it ended with code $code"
        failed=$((failed + 1))
    fi
}

run_py() {
    if ! command -v python3 >/dev/null; then
        skip py "python3 is not installed"
        return
    fi
    export PYTHONDONTWRITEBYTECODE=1
    run exchange python3 "$here/py/exchange.py" --server "$ringbus"
    run process python3 "$here/py/process.py" --server "$ringbus"
    run reload python3 "$here/py/reload.py" --server "$ringbus"
    run lameduck python3 "$here/py/lameduck.py" --server "$ringbus"
    run configs python3 "$here/py/configs.py" --server "$ringbus"
    run system python3 "$here/py/system.py" --server "$ringbus"
    run monitor python3 "$here/py/monitor.py" --server "$ringbus"
    run dashboard python3 "$here/py/dashboard.py" --server "$ringbus"
    run advisories python3 "$here/py/advisories.py" --server "$ringbus"
    for name in logins accounts tls websocket trace; do
        run "$name" python3 "$here/py/$name.py" --server "$ringbus"
    done
    for name in js_api js_publish js_consumer js_direct js_advisories js_batch js_fast_batch js_snapshot js_sources js_schedules; do
        run "$name" python3 "$here/py/$name.py" --server "$ringbus"
    done
    run_cli
    run_nats_py
}

# What real clients log in with; see py/clients.py.
run_logins() { # name, program...
    name=$1
    shift
    run "$name" python3 "$here/py/clients.py" "$name" --server "$ringbus" -- "$@"
}

# A client's JetStream script, on both servers; see py/js_clients.py.
run_jetstream() { # name, program...
    name=$1
    shift
    run "$name" python3 "$here/py/js_clients.py" "$name" --server "$ringbus" -- "$@"
}

run_cli() {
    tool=$(command -v nats || true)
    [ -n "$tool" ] || tool=$HOME/go/bin/nats
    if [ ! -x "$tool" ]; then
        skip nats-tool "the nats tool is not installed"
        return
    fi
    run_logins nats-tool python3 "$here/py/client_cli.py" "$tool"
    run_jetstream js_nats_tool python3 "$here/py/client_js_cli.py" "$tool"
}

run_nats_py() {
    if ! { python3 -m venv "$work/venv" &&
        "$work/venv/bin/pip" install -q "nats-py[nkeys,aiohttp]"; } >"$work/pip.log" 2>&1; then
        skip nats-py "pip could not install it: $(grep -i -m 1 'error' "$work/pip.log")"
        return
    fi
    run_logins nats-py "$work/venv/bin/python" "$here/py/client_nats_py.py"
    run_jetstream js_nats_py "$work/venv/bin/python" "$here/py/client_js_nats_py.py"
}

have_libnats() {
    pkg-config --exists libnats 2>/dev/null
}

install_libnats() {
    command -v apt-get >/dev/null || return 1
    root=
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null && sudo -n true 2>/dev/null || return 1
        root="sudo -n"
    fi
    packages=libnats-dev
    command -v pkg-config >/dev/null || packages="$packages pkg-config"
    # shellcheck disable=SC2086 # several words
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $packages \
        >"$work/apt.log" 2>&1 && return 0
    $root apt-get update -q >>"$work/apt.log" 2>&1
    # shellcheck disable=SC2086 # several words
    $root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q $packages \
        >>"$work/apt.log" 2>&1
}

run_c() {
    if ! command -v cc >/dev/null; then
        skip c "there is no C compiler"
        return
    fi
    if ! have_libnats && { ! install_libnats || ! have_libnats; }; then
        skip c "libnats-dev is not installed and could not be"
        return
    fi
    for program in interop login jetstream; do
        # shellcheck disable=SC2046 # several words
        if ! cc -std=gnu17 -D_GNU_SOURCE -O2 -Wall -Wextra -Wno-unused-parameter -Werror \
            $(pkg-config --cflags libnats) -o "$work/$program-c" "$here/c/$program.c" \
            $(pkg-config --libs libnats) -pthread; then
            echo "FAIL c: $program.c does not compile"
            failed=$((failed + 1))
            return
        fi
    done
    run c "$work/interop-c" "$ringbus"
    if command -v python3 >/dev/null; then
        run_logins c-logins "$work/login-c"
        run_jetstream js_nats_c "$work/jetstream-c"
    else
        skip c-logins "python3 is not installed"
        skip js_nats_c "python3 is not installed"
    fi
}

run_js() {
    if ! command -v node >/dev/null || ! command -v npm >/dev/null; then
        skip js "node and npm are not installed"
        return
    fi
    if ! node -e 'process.exit(Number(process.versions.node.split(".")[0]) >= 18 ? 0 : 1)'; then
        skip js "node is $(node --version), 18 or later is needed"
        return
    fi
    mkdir "$work/js" && cp "$here/js/package.json" "$here"/js/*.mjs "$work/js/" || exit 1
    if ! (cd "$work/js" && npm install --no-package-lock --no-audit --no-fund --ignore-scripts) \
        >"$work/npm.log" 2>&1; then
        skip js "npm could not install the client: $(grep -i -m 1 'error' "$work/npm.log")"
        return
    fi
    run js node "$work/js/interop.mjs" "$ringbus"
    if command -v python3 >/dev/null; then
        run_logins js-logins node "$work/js/login.mjs"
        run_jetstream js_nats_js node "$work/js/jetstream.mjs"
    else
        skip js-logins "python3 is not installed"
        skip js_nats_js "python3 is not installed"
    fi
}

for part in py c js; do
    if [ -z "$only" ] || [ "$only" = "$part" ]; then
        "run_$part"
    fi
done

echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" -eq 0 ]
