#!/bin/sh
# Tests docs/deploy/activate-monitor.sh against nodes that are directories: ssh, systemctl, curl, mkdir,
# tee, ss, nats and sleep are fakes that read and write $state/HOST. Prints each failure; code 0: none.
set -u

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
script=$here/../../docs/deploy/activate-monitor.sh
work=$(mktemp -d "${TMPDIR:-/tmp}/activate.XXXXXX") || exit 1
trap 'rm -rf -- "$work"' EXIT
export STATE="$work/state"
fakes=$work/fakes
failed=0

fake() { # NAME, script on standard input
    { echo '#!/bin/sh'; cat; } >"$fakes/$1"
    chmod +x "$fakes/$1"
}

make_fakes() {
    mkdir -p "$fakes"
    fake ssh <<'END'
while [ "${1#-}" != "$1" ]; do shift 2; done
[ -d "$STATE/$1" ] || { echo "no route to $1" >&2; exit 255; }
NODE=$STATE/$1; export NODE
exec sh -s
END
    fake systemctl <<'END'
case $1 in
is-active) cat "$NODE/active"; [ "$(cat "$NODE/active")" = active ] ;;
cat) cat "$NODE/drop-in" 2>/dev/null ;;
daemon-reload) ;;
restart) echo restart >>"$NODE/log"
    echo "${NODE##*/}" >>"$STATE/order"
    [ ! -e "$NODE/never-opens" ] && touch "$NODE/open"
    [ ! -e "$NODE/next-healthz" ] || cp "$NODE/next-healthz" "$NODE/healthz"
    exit 0 ;;
esac
END
    fake curl <<'END'
for url; do :; done
[ -e "$NODE/open" ] || exit 7
path=${url#http://127.0.0.1:8222/}; path=${path%%\?*}
cat "$NODE/$path"
END
    fake mkdir <<'END'
exit 0
END
    fake tee <<'END'
cat >"$NODE/drop-in"
END
    fake ss <<'END'
cat "$NODE/ss"
END
    fake sleep <<'END'
exit 0
END
    fake nats <<'END'
case "$*" in
*jetstream-health*) cat "$STATE/nats-health" ;;
*--stream-leader*) cat "$STATE/nats-jsz" ;;
*) exit 1 ;;
esac
END
}

node() { # NAME: a healthy member of a cluster, its monitor closed
    mkdir -p "$STATE/$1"
    echo active >"$STATE/$1/active"
    printf '{"status":"ok"}\n200' >"$STATE/$1/healthz"
    printf '{\n  "server_id": "N1",\n  "server_name": "%s",\n  "port": 4222\n}\n200' "$1" >"$STATE/$1/varz"
    printf 'LISTEN 0 128 127.0.0.1:8222 0.0.0.0:*\nLISTEN 0 128 [::1]:8222 [::]:*\n' \
        >"$STATE/$1/ss"
    jsz "$1" a true true
}

jsz() { # NODE, LEADER of the meta group, current in the meta group, current in the stream
    cat >"$STATE/$1/jsz" <<END
{
  "streams": 1,
  "meta_cluster": {
    "name": "c",
    "leader": "$2",
    "replicas": [ { "name": "x", "current": $3, "active": 1 } ]
  },
  "account_details": [ { "name": "A", "stream_detail": [ { "name": "S", "cluster": {
    "leader": "$1",
    "replicas": [ { "name": "x", "current": $4, "active": 1 }, { "name": "y", "current": true } ]
  } } ] } ],
  "total": 1
}
END
    printf '200' >>"$STATE/$1/jsz"
}

nats_says() { # status code of the second server, current in the stream
    printf '{"server":{"name":"a"},"data":{"status":"ok","status_code":200}}\n{"server":{"name":"b"},"data":{"status_code":%s}}\n' \
        "$1" >"$STATE/nats-health"
    printf '{"server":{"name":"b"},"data":{"meta_cluster":{"leader":"a","replicas":[{"name":"c","current":false}]}}}\n{"server":{"name":"a"},"data":{"meta_cluster":{"leader":"a","replicas":[{"name":"b","current":true}]},"account_details":[{"name":"A","stream_detail":[{"cluster":{"leader":"a","replicas":[{"name":"b","current":%s}]}}]}]}}\n' \
        "$2" >"$STATE/nats-jsz"
}

fresh() { # NODES...
    rm -rf "$STATE"
    mkdir -p "$STATE"
    for name; do node "$name"; done
}

run() { # WANTED CODE, arguments
    wanted=$1
    shift
    output=$(PATH="$fakes:$PATH" sh "$script" --timeout 0 "$@" 2>&1)
    code=$?
    [ "$code" -eq "$wanted" ] || fail "code $code, want $wanted"
}

fail() {
    failed=$((failed + 1))
    echo "FAIL $name_of_test: $1"
    printf '%s\n' "$output" | sed 's/^/    /'
}

says() {
    case $output in *"$1"*) ;; *) fail "does not say '$1'" ;; esac
}

restarted() { # the nodes that were restarted, in order
    got=$(tr '\n' ' ' 2>/dev/null <"$STATE/order")
    [ "$got" = "${1:+$1 }" ] || fail "restarted '$got', want '$1'"
}

make_fakes

name_of_test='three nodes, one after the other'
fresh a b c
run 0 --accept-unknown a b c
restarted 'a b c'
says 'a: healthy, all replicas led here are current'
says 'c: healthy'
for host in a b c; do
    cmp -s "$STATE/$host/drop-in" "$here/../../docs/deploy/ringbus-monitor.conf" || fail "drop-in of $host"
done

name_of_test='again: nothing to do'
rm "$STATE/order"
run 0 a b c
restarted ''
says 'b: done already'

name_of_test='dry run changes nothing'
fresh a b
run 0 --dry-run --accept-unknown a b
restarted ''
says 'a: would install the drop-in, restart'
[ ! -e "$STATE/a/drop-in" ] || fail 'a drop-in was written'

name_of_test='health not known'
fresh a
run 1 a
restarted ''
says 'its health is not known'
says '--accept-unknown'

name_of_test='an open monitor needs no restart'
fresh a
touch "$STATE/a/open"
run 0 a
restarted ''
[ -e "$STATE/a/drop-in" ] || fail 'no drop-in'

name_of_test='not healthy before'
fresh a b
touch "$STATE/b/open"
printf '{"status":"unavailable","error":"JetStream stream x is not current"}\n503' >"$STATE/b/healthz"
run 1 --accept-unknown a b
restarted ''
says 'STOP b: not ready for a restart of a'
says 'stream x is not current'

name_of_test='not healthy after: the next node is not touched'
fresh a b
printf '{"status":"error"}\n503' >"$STATE/a/next-healthz"
run 1 --accept-unknown a b
restarted 'a'
says 'STOP a: not healthy 0 s after the restart'
says 'to take it back'
says 'from a on: a b'

name_of_test='the monitor does not open'
fresh a b
touch "$STATE/a/never-opens"
run 1 --accept-unknown a b
restarted 'a'
says 'the monitor does not listen'

name_of_test='a replica is behind'
fresh a b
touch "$STATE/b/open"
jsz b a true false
run 1 --accept-unknown a b
restarted ''
says '1 replicas are not current'

name_of_test='the meta leader knows, a follower does not'
fresh a b
touch "$STATE/b/open"
jsz b a false true
run 0 --accept-unknown a b
restarted 'a'
jsz b b false true
rm "$STATE/a/drop-in"
run 1 --accept-unknown a b
says 'STOP b: not ready'

name_of_test='another node is down'
fresh a b
echo failed >"$STATE/b/active"
run 1 --accept-unknown a b
restarted ''
says 'STOP b: not ready for a restart of a: ringbus.service is failed'

name_of_test='a node is down'
fresh a
echo inactive >"$STATE/a/active"
run 1 a
says 'STOP a: ringbus.service is inactive'

name_of_test='no such host'
fresh a
run 1 --accept-unknown nowhere a
restarted ''
says 'STOP nowhere'

name_of_test='single server, and JetStream off'
fresh a b
printf '{\n"streams": 0,\n"account_details": []\n}\n200' >"$STATE/a/jsz"
printf '{\n"disabled": true\n}\n200' >"$STATE/b/jsz"
run 0 --accept-unknown a b
says 'a: healthy, single server: no replicas to wait for'
says 'b: healthy, JetStream is off'

name_of_test='open beyond loopback'
fresh a b
echo 'LISTEN 0 128 0.0.0.0:8222 0.0.0.0:*' >>"$STATE/a/ss"
run 1 --accept-unknown a b
restarted 'a'
says 'open beyond loopback: 0.0.0.0:8222'

name_of_test='the cluster over its client port'
fresh a b
nats_says 200 true
run 0 --context sys a b
restarted 'a b'
for state in '503 true' '200 false'; do
    fresh a b
    # shellcheck disable=SC2086 # two words
    nats_says $state
    run 1 --context sys a b
    restarted ''
    says 'STOP cluster: not ready'
done

name_of_test='wrong use'
fresh a
run 2
run 2 --bogus a
run 2 --timeout
run 2 --timeout 5m a
run 2 --unit 'x;y' a
run 2 -oProxyCommand=x
run 2 a 'b;x'

[ "$failed" -eq 0 ] && echo 'activate-monitor: all passed'
[ "$failed" -eq 0 ]
