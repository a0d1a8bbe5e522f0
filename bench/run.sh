#!/bin/sh
# run.sh - ringbus beside nats-server: interleaved rounds, medians, a table (method: README.md).
set -u

root=$(cd "$(dirname "$0")/.." && pwd)
given_args=$*
rounds=5
seconds=1.0
warmup=0.3
quick=
shards=1,2
name=
threads=1
scenarios="pub16 1to1_16 1to1_128 1to1_16k fan20_128 fan100_128 queue8_128
pub16_churn 1to1_16_churn 1to1_128_churn 1to1_16k_churn fan20_128_churn fan100_128_churn
queue8_128_churn latency mem_conns mem_subs conns startup
tls_1to1_128 tls_1to1_16k tls_fan20_128 tls_pub16 mem_tls_conns tls_handshakes_ecdsa
tls_handshakes_rsa user_1to1_128 import_1to1_128 service_rr mapping_pub16 login_bcrypt
mem_users_conns ws_1to1_128 ws_deflate_1to1_1k"
jetstream="js_pub_file_1 js_pub_file_500 js_pub_always_1 js_pub_always_500 js_pub_lazy_500
js_pub_memory_500 js_pull js_pull_none js_ordered js_filter js_kv_put js_kv_get js_depth
js_mem_subjects js_idle_consumers js_restart"
scenarios="$scenarios $jetstream"
count=
store=

usage() {
    cat <<END
usage: bench/run.sh [options]
  -s, --scenarios LIST  names, separated by commas or blanks (default: all); "jetstream": all js_ ones
  -r, --rounds N        rounds; the servers take turns in each (default $rounds)
  -d, --seconds S       how long each flow is measured (default $seconds)
  -t, --threads N       receiving threads of the generator (default $threads)
      --shards LIST     shards of ringbus; several are measured side by side (default $shards)
  -c, --count N         messages stored, or consumers, in js_ scenarios (default: each its own)
      --store DIR       where the servers store (default: the build folder; must be a real disk)
  -q, --quick           one short round, for a look
  -n, --name NAME       results go to bench/results/<date>-NAME.md (default: <cores>cores, or quick)
environment: RINGBUS, RINGBUS_LOAD, NATS_SERVER: the programs, when not in build/, PATH or ~/go/bin
END
}

fail() {
    echo "run.sh: $*" >&2
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    -s|-r|-d|-t|-n|-c|--scenarios|--rounds|--seconds|--threads|--shards|--name|--count|--store)
        [ $# -ge 2 ] || fail "$1 needs a value" ;;
    esac
    case $1 in
    -s|--scenarios) scenarios=$(echo "$2" | tr ',' ' '); shift ;;
    -r|--rounds) rounds=$2; shift ;;
    -d|--seconds) seconds=$2; shift ;;
    -t|--threads) threads=$2; shift ;;
    --shards) shards=$2; shift ;;
    -c|--count) count=$2; shift ;;
    --store) store=$2; shift ;;
    -n|--name) name=$2; shift ;;
    -q|--quick) quick=-q; rounds=1; seconds=0.3; warmup=0.1 ;;
    -h|--help) usage; exit 0 ;;
    *) usage >&2; exit 2 ;;
    esac
    shift
done
case $rounds in
''|*[!0-9]*|0) fail "rounds: not a number: $rounds" ;;
esac
case $count in
*[!0-9]*) fail "count: not a number: $count" ;;
esac
[ "$scenarios" != jetstream ] || scenarios=$jetstream
case $name in
*/*) fail "a name is not a path: $name" ;;
'') name=$(nproc)cores; [ -z "$quick" ] || name=quick ;;
esac

ringbus=${RINGBUS:-$root/build/ringbus}
load=${RINGBUS_LOAD:-$root/build/bench/ringbus_load}
nats=${NATS_SERVER:-$(command -v nats-server || echo "$HOME/go/bin/nats-server")}
[ -x "$ringbus" ] || fail "no $ringbus: build it first (meson setup build && ninja -C build)"
[ -x "$load" ] || fail "no $load: build it first (meson setup build && ninja -C build)"
[ -x "$nats" ] || fail "no nats-server in \$NATS_SERVER, PATH or ~/go/bin. Install it with
    go install github.com/nats-io/nats-server/v2@v2.15.2"

# The servers inherit the limit; the conns scenario needs 20,000 and some.
# shellcheck disable=SC3045 # not in POSIX, but in every sh of Linux
ulimit -Hn 65536 2>/dev/null
# shellcheck disable=SC3045
ulimit -Sn "$(ulimit -Hn)" 2>/dev/null

work=$(mktemp -d) || exit 1
store=$(mktemp -d "${store:-$root/build}/bench-store.XXXXXX") || exit 1
server_pid=
load_pid=

stop_server() {
    [ -n "$server_pid" ] || return 0
    kill -TERM "$server_pid" 2>/dev/null
    tries=0
    # A zombie is still there for kill -0, so look at its state.
    while grep -q '^State:[[:space:]]*[^Z]' "/proc/$server_pid/status" 2>/dev/null; do
        tries=$((tries + 1))
        [ $tries -lt 100 ] || kill -KILL "$server_pid" 2>/dev/null
        sleep 0.05
    done
    wait "$server_pid" 2>/dev/null
    server_pid=
}

clean_up() {
    [ -z "$load_pid" ] || kill -TERM "$load_pid" 2>/dev/null
    stop_server
    rm -rf "$work" "$store"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM HUP

# Runs ringbus_load in the background: a shell handles signals only between foreground commands.
run_load() {
    "$load" "$@" >"$work/line" 2>"$work/load.err" &
    load_pid=$!
    wait "$load_pid"
    load_code=$?
    load_pid=
    if ! grep -q '^{' "$work/line"; then
        printf '{"server":"%s","scenario":"%s","ok":false,"error":"ringbus_load ended with %s"}\n' \
            "$label" "$scenario" "$load_code" >"$work/line"
    fi
    cat "$work/line" >>"$work/results"
    if [ "$load_code" -ne 0 ]; then
        echo "  failed: $(cat "$work/line" "$work/load.err" | tail -n 2)" >&2
        [ ! -s "$work/server.log" ] || tail -n 3 "$work/server.log" >&2
    fi
}

# Ten patterns, the measured subject by the last one.
allow='["a.>", "b.*.c", "orders.*.created", "orders.*.paid", "_INBOX.>", "svc.*", "events.eu.>",
    "events.us.>", "metrics.*.cpu", "bench.*"]'
# Cost 10, of "p".
# shellcheck disable=SC2016 # the dollars are part of it
bcrypt='$2a$10$V4XTAuW19lppgf7dRTthju5fwsYlvQ0DNfjUigp6xCpwpt1aaS7qe'

# The part of the configuration that a scenario needs, beside host and port (load/variant.c has the
# clients' side). WebSocket clients come to $port.
scenario_conf() {
    case $1 in
    tls_handshakes_rsa) key=server-rsa ;;
    *) key=server-ecdsa ;;
    esac
    case $1 in
    tls_*|mem_tls_*)
        echo "tls { cert_file: \"$work/certs/$key.pem\", key_file: \"$work/certs/$key-key.pem\" }" ;;
    ws_deflate_*) echo "websocket { listen: \"127.0.0.1:$port\", no_tls: true, compression: true }" ;;
    ws_*) echo "websocket { listen: \"127.0.0.1:$port\", no_tls: true }" ;;
    user_*)
        echo "authorization { users: [ { user: bench, password: p, permissions: {
            publish: { allow: $allow }, subscribe: { allow: $allow } } } ] }" ;;
    import_*)
        echo 'accounts {
            A { users: [ { user: a, password: p } ], exports: [ { stream: "bench.>" } ] }
            B { users: [ { user: b, password: p } ]
                imports: [ { stream: { account: A, subject: "bench.>" }, prefix: "from.a" } ] } }' ;;
    service_rr)
        echo 'accounts {
            A { users: [ { user: a, password: p } ], exports: [ { service: "svc.echo" } ] }
            B { users: [ { user: b, password: p } ]
                imports: [ { service: { account: A, subject: "svc.echo" } } ] } }' ;;
    js_*)
        sync=
        case $1 in
        js_pub_always_*) sync=", sync_interval: always" ;;
        js_pub_lazy_*) sync=", sync_interval: \"2m\"" ;;
        esac
        echo "jetstream { store_dir: \"$store/js\", max_mem: 4GB, max_file: 40GB$sync }" ;;
    mapping_*) echo "mappings { \"bench.*\": \"mapped.\$1\" }" ;;
    login_*)
        echo "authorization { users: [ { user: quick, password: p },
            { user: slow, password: \"$bcrypt\" } ], timeout: 10 }" ;;
    mem_users_conns)
        awk -v allow='["a.>", "b.*.c", "u.USER.>", "_INBOX.USER.>"]' 'BEGIN {
            print "authorization { users: ["
            for (i = 0; i < 5000; i++) {
                user = sprintf("u%05d", i)
                own = allow
                gsub(/USER/, user, own)
                print "{ user: " user ", password: p, permissions: { publish: { allow: " own \
                    " }, subscribe: { allow: " own " } } }"
            }
            print "] }"
        }' ;;
    esac
}

# Takes away what the server stored. What it left in the page cache reaches the disk now, and not while the next one is
# measured: one of the two leaves a lot.
drop_store() {
    [ -d "$store/js" ] || return 0
    rm -rf "$store/js"
    sync -f "$store"
}

# One scenario on one fresh server: nothing a former scenario left behind is measured.
run_one() {
    label=$1
    scenario=$2
    port=$("$load" free-port)
    listen_port=$port
    case $scenario in
    ws_*)
        listen_port=$("$load" free-port)
        [ "$listen_port" != "$port" ] || listen_port=$("$load" free-port) ;;
    esac
    printf 'host: "127.0.0.1"\nport: %s\n' "$listen_port" >"$work/server.conf"
    scenario_conf "$scenario" >>"$work/server.conf"
    program=$nats
    case $label in
    ringbus/*)
        program=$ringbus
        # RINGBUS=/path/to/nats-server compares nats-server with itself, to see the noise.
        "$program" --version 2>&1 | grep -q '^nats-server:' ||
            printf 'shards: %s\n' "${label#ringbus/}" >>"$work/server.conf" ;;
    esac
    : >"$work/server.log"
    case $scenario in
    startup)
        run_load -p "$port" -l "$label" $quick startup -- "$program" -c "$work/server.conf"
        return ;;
    js_restart)
        run_load -p "$port" -l "$label" $quick -D "$store" ${count:+-n "$count"} js_restart -- \
            "$program" -c "$work/server.conf"
        drop_store
        return ;;
    esac
    "$program" -c "$work/server.conf" >"$work/server.log" 2>&1 &
    server_pid=$!
    run_load -p "$port" -P "$server_pid" -l "$label" -d "$seconds" -w "$warmup" -t "$threads" \
        $quick -D "$store" ${count:+-n "$count"} "$scenario"
    stop_server
    drop_store
}

case $scenarios in
*tls*) sh "$root/tests/support/certs.sh" "$work/certs" || fail "no certificates (openssl is needed)" ;;
esac

labels=
for one in $(echo "$shards" | tr ',' ' '); do
    case $one in
    *[!0-9]*) fail "shards: not a number: $one" ;;
    esac
    labels="$labels ringbus/$one"
done
labels="$labels nats-server"

: >"$work/results"
round=0
while [ $round -lt "$rounds" ]; do
    round=$((round + 1))
    for scenario in $scenarios; do
        echo "round $round of $rounds: $scenario" >&2
        for label in $labels; do
            run_one "$label" "$scenario"
        done
    done
done

version_of() {
    "$1" --version 2>&1 | head -n 1
}
{
    echo "# Benchmark, $(date +%F), $name"
    echo
    echo "- Machine: $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1)," \
        "$(nproc) cores, $(awk '/^MemTotal/ {printf "%.0f", $2 / 1048576}' /proc/meminfo) GiB"
    echo "- Kernel: $(uname -sr)"
    echo "- ringbus: $(version_of "$ringbus")," \
        "commit $(git -C "$root" describe --always --dirty 2>/dev/null || echo unknown)"
    echo "- nats-server: $(version_of "$nats")"
    echo "- Command: \`bench/run.sh${given_args:+ $given_args}\`"
    echo "- Rounds: $rounds, interleaved; $seconds s per flow after $warmup s of warm-up; medians"
    echo
    awk -f "$root/bench/report.awk" "$work/results"
} >"$work/report.md"

mkdir -p "$root/bench/results"
target=$root/bench/results/$(date +%F)-$name.md
cp "$work/report.md" "$target.tmp" && mv "$target.tmp" "$target"
cat "$target"
echo "written: bench/results/${target##*/}" >&2
! grep -q '"ok":false' "$work/results"
