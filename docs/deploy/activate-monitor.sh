#!/bin/sh
# Opens the monitor (127.0.0.1:8222 and [::1]:8222) on running ringbus nodes, one node after the other.
#
#   activate-monitor.sh [options] HOST...
#
#   --dry-run          look at every node, change nothing, say what would be done
#   --sudo             use "sudo -n" on the nodes (else the ssh user must be root)
#   --context NAME     ask the cluster over its client port: context of the nats CLI on this machine, with
#                      a user of the system account
#   --accept-unknown   go on with a node whose health cannot be known before (monitor closed, no --context)
#   --timeout SECONDS  how long a restarted node has to become healthy (default 300)
#   --unit NAME        the systemd unit (default ringbus.service)
#   --ssh COMMAND      instead of "ssh"
#
# A node is changed only when it and every other node that can be asked are healthy and all replicas are
# current; the next one only when that is true again. The first node that is not healthy ends the run.
# Exit code: 0 done, 1 stopped (the last lines say what to do next), 2 wrong use.
set -u

here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd) || exit 1
drop_in=$here/ringbus-monitor.conf
dry_run=no root='' context='' accept_unknown=no timeout=300 unit=ringbus.service ssh=ssh

usage() {
    sed -n '3,14s/^# \{0,1\}//p' "$0" >&2
    exit 2
}

say() {
    printf '%s\n' "$*"
}

# stop HOST REASON HINT...
stop() {
    say "STOP $1: $2"
    node=$1
    shift 2
    say 'What to do next:'
    for hint in "$@"; do
        say "  - $hint"
    done
    say "  - then run this again; nodes that are done are left alone${left:+ (from $node on: $left)}"
    exit 1
}

while [ $# -gt 0 ]; do
    case $1 in
    --dry-run) dry_run=yes ;;
    --sudo) root='sudo -n' ;;
    --accept-unknown) accept_unknown=yes ;;
    --context | --timeout | --unit | --ssh)
        [ $# -ge 2 ] || usage
        case $1 in
        --context) context=$2 ;;
        --timeout) timeout=$2 ;;
        --unit) unit=$2 ;;
        --ssh) ssh=$2 ;;
        esac
        shift
        ;;
    -*) usage ;;
    *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || usage
case $timeout in '' | *[!0-9]*) usage ;; esac
case $unit in '' | -* | *[!A-Za-z0-9@._-]*) usage ;; esac
for host in "$@"; do # ssh would take "-x" for an option
    case $host in
    '' | -* | *[!A-Za-z0-9@._:-]*) say "$host is no host name" >&2; exit 2 ;;
    esac
done
[ -r "$drop_in" ] || { say "$drop_in is missing" >&2; exit 2; }
if [ -n "$context" ] && ! command -v nats >/dev/null; then
    say '--context needs the nats CLI on this machine' >&2
    exit 2
fi

# remote HOST: runs the script on standard input there.
remote() {
    $ssh -o BatchMode=yes -o ConnectTimeout=10 "$1" 'sh -s'
}

# fetch HOST PATH: a monitor document of that node. Code 0: it came with 200; 3: nothing listens there;
# 4: another answer, printed; 5: no curl; else: ssh's own.
fetch() {
    remote "$1" <<END
command -v curl >/dev/null || exit 5
body=\$(curl -s -m 10 -w '\n%{http_code}' 'http://127.0.0.1:8222$2')
case \$? in 0) ;; 7) exit 3 ;; *) echo 'no answer within 10 s'; exit 4 ;; esac
printf '%s\n' "\$body" | sed '\$d'
[ "\${body##*
}" = 200 ] || exit 4
END
}

# Counts what is not current in jsz documents on standard input: replicas of streams whose leader answers,
# and members of the meta group where "\$1", or the server named in the document, leads it. Followers do
# not know about other followers, so what they say about them does not count.
count_stale() {
    tr ',{}[]' '[\n*]' | awk -v self="$1" '
        function value() { gsub(/^[^:]*: *"|" *$/, ""); return $0 }
        /^ *"server": *$/ { named = 1; meta = 0; details = 0; next }
        named && /^ *"name":/ { self = value(); named = 0; next }
        /^ *"meta_cluster": *$/ { meta = 1; leader = ""; next }
        /^ *"account_details": *$/ { meta = 0; details = 1; next }
        meta && /^ *"leader":/ { leader = value(); next }
        /^ *"current": *false *$/ && (details || (meta && leader == self)) { stale++ }
        END { print stale + 0 }'
}

unit_active() {
    text=$(echo "systemctl is-active $unit" | remote "$1") || { text="$unit is ${text:-unknown}"; return 1; }
}

# Sets state to ok, off (the monitor is closed) or bad, and text.
look_at() {
    text=$(fetch "$1" /healthz)
    case $? in
    0) state=ok ;;
    3) state=off ;;
    5) state=bad text='curl is not installed there' ;;
    4) state=bad ;;
    *) state=bad text="ssh failed ${text:+($text)}" ;;
    esac
}

# Over the client port: every server must be healthy and as many must answer as there are hosts.
ask_cluster() {
    health=$(nats --context "$context" server request jetstream-health "$count" 2>&1) ||
        { text="nats server request failed: $health"; return 1; }
    healthy=$(printf '%s\n' "$health" | grep -c '"status_code": *200')
    [ "$healthy" -ge "$count" ] || { text="$healthy of $count servers are healthy: $health"; return 1; }
    if printf '%s\n' "$health" | grep '"status_code":' | grep -qv '"status_code": *200'; then
        text="a server is not healthy: $health"
        return 1
    fi
    jsz=$(nats --context "$context" server request jetstream --streams --stream-leader "$count" 2>&1) ||
        { text="nats server request failed: $jsz"; return 1; }
    stale=$(printf '%s\n' "$jsz" | count_stale '')
    [ "$stale" -eq 0 ] || { text="$stale replicas are not current"; return 1; }
}

# What the monitor of HOST says about the replicas it leads. Sets text; also when all is well.
ask_monitor() {
    varz=$(fetch "$1" /varz) || { text="varz: $varz"; return 1; }
    self=$(printf '%s' "$varz" | tr ',{}' '[\n*]' | sed -n 's/^ *"server_name": *"\(.*\)" *$/\1/p' | head -n 1)
    jsz=$(fetch "$1" '/jsz?accounts=true&streams=true&stream-leader-only=true&limit=1000000') ||
        { text="jsz: $jsz"; return 1; }
    if printf '%s' "$jsz" | grep -q '"disabled": *true'; then
        text='JetStream is off: nothing to replicate'
    elif ! printf '%s' "$jsz" | grep -q '"meta_cluster"'; then
        text='single server: no replicas to wait for'
    else
        stale=$(printf '%s\n' "$jsz" | count_stale "$self")
        [ "$stale" -eq 0 ] || { text="$stale replicas are not current"; return 1; }
        text='all replicas led here are current'
    fi
}

# Everything that can be asked is healthy and current. Sets culprit and text when not.
all_current() {
    culprit=cluster
    if [ -n "$context" ]; then
        ask_cluster || return 1
    fi
    for peer in $all; do
        culprit=$peer
        look_at "$peer"
        case $state in
        bad) return 1 ;;
        ok) ask_monitor "$peer" || return 1 ;;
        off) unit_active "$peer" || return 1 ;;
        esac
    done
}

# The same, for as long as `timeout` allows; HOST must answer by then.
wait_current() {
    begun=$(date +%s)
    while :; do
        look_at "$1"
        if [ "$state" = ok ]; then
            all_current && return 0
        else
            culprit=$1
            [ "$state" = bad ] || text='the monitor does not listen'
        fi
        [ $(($(date +%s) - begun)) -lt "$timeout" ] || return 1
        sleep 2
    done
}

install_drop_in() { # HOST yes|no (restart)
    {
        echo "set -e; unit=$unit; dir=/etc/systemd/system/\$unit.d"
        echo "$root mkdir -p \"\$dir\""
        echo "$root tee \"\$dir/ringbus-monitor.conf\" >/dev/null <<'END_OF_DROP_IN'"
        cat "$drop_in"
        echo 'END_OF_DROP_IN'
        echo "$root systemctl daemon-reload"
        [ "$2" = no ] || echo "$root systemctl restart \"\$unit\""
    } | remote "$1"
}

# Code 1, and the addresses in text, when port 8222 is open on anything but loopback.
only_loopback() {
    text=$(remote "$1" <<'END' || echo 'not known, ssh failed'
command -v ss >/dev/null || exit 0
ss -Hltn 'sport = :8222' | awk '$4 !~ /^(127\.0\.0\.1|\[::1\]):8222$/ { print $4 }'
END
    )
    [ -z "$text" ]
}

has_drop_in() {
    echo "systemctl cat $unit 2>/dev/null | grep -q '^Environment=.*UNIBUS_NATS_MONITOR=1'" | remote "$1"
}

undo="on the node: rm /etc/systemd/system/$unit.d/ringbus-monitor.conf; systemctl daemon-reload; systemctl restart $unit"

activate() {
    host=$1
    unit_active "$host" || stop "$host" "$text" \
        "ssh $host systemctl status $unit" "nothing was changed on $host"
    look_at "$host"
    before=$state
    [ "$before" != bad ] || stop "$host" "not healthy before: $text" \
        "ssh $host journalctl -u $unit -n 50" "nothing was changed on $host"
    if [ "$before" = off ] && [ -z "$context" ]; then
        [ "$accept_unknown" = yes ] || stop "$host" 'the monitor is closed, so its health is not known' \
            'give --context NAME (a nats CLI context of the system account), or' \
            'check it by other means and give --accept-unknown' "nothing was changed on $host"
        say "$host: health before is not known (accepted)"
    fi
    all_current || stop "$culprit" "not ready for a restart of $host: $text" \
        "wait until it is current, or repair $culprit first" "nothing was changed on $host"

    restart=yes
    [ "$before" != ok ] || restart=no
    if has_drop_in "$host"; then
        [ "$before" != ok ] || { say "$host: done already"; return; }
    fi
    if [ "$dry_run" = yes ]; then
        if [ "$restart" = yes ]; then
            say "$host: would install the drop-in, restart $unit and wait until it is healthy"
        else
            say "$host: would install the drop-in (the monitor is open already, no restart)"
        fi
        return
    fi
    say "$host: installing the drop-in$([ "$restart" = no ] || echo ", restarting $unit")"
    install_drop_in "$host" "$restart" || stop "$host" 'the drop-in or the restart failed' \
        "ssh $host systemctl status $unit" "ssh $host journalctl -u $unit -n 50" "to take it back, $undo"
    wait_current "$host" || stop "$culprit" "not healthy $timeout s after the restart of $host: $text" \
        "ssh $culprit journalctl -u $unit -n 50" "to take it back, $undo"
    summary=$text
    only_loopback "$host" || stop "$host" "port 8222 is open beyond loopback: $text" \
        'close it: the monitor has no login' "to take it back, $undo"
    ask_monitor "$host" && summary=$text
    say "$host: healthy, $summary"
}

count=$# all=$* left=$*
for node in "$@"; do
    activate "$node"
    left=${left#"$node"}
    left=${left# }
done
if [ "$dry_run" = yes ]; then
    say 'Dry run: nothing was changed. Next: the same without --dry-run.'
else
    say "The monitor is open on: $all. Look at it with: ssh -L 8222:127.0.0.1:8222 HOST, http://127.0.0.1:8222/"
fi
