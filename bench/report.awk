# report.awk - JSON lines of ringbus_load -> tables of medians beside the targets. POSIX awk.

BEGIN {
    baseline = "nats-server"
}

function add_name(list, seen, name,    n) {
    if (!(name in seen)) {
        n = ++list[0]
        list[n] = name
        seen[name] = n
    }
}

function text_of(line, key,    start) {
    start = index(line, "\"" key "\":\"")
    if (start == 0) {
        return ""
    }
    line = substr(line, start + length(key) + 4)
    return substr(line, 1, index(line, "\"") - 1)
}

/^\{/ {
    server = text_of($0, "server")
    scenario = text_of($0, "scenario")
    add_name(servers, server_seen, server)
    add_name(scenarios, scenario_seen, scenario)
    if ($0 !~ /"ok":true/) {
        failed[server, scenario]++
        failures[++failure_count] = "- " scenario ", " server ": " text_of($0, "error")
        next
    }
    round = ++rounds[server, scenario]
    field_count = split(substr($0, 2, length($0) - 2), fields, ",")
    for (i = 1; i <= field_count; i++) {
        if (split(fields[i], pair, ":") == 2 && pair[2] ~ /^-?[0-9.]+$/) {
            key = substr(pair[1], 2, length(pair[1]) - 2)
            value[server, scenario, key, round] = pair[2] + 0
            if (!((scenario, key) in key_seen)) {
                key_seen[scenario, key] = 1
                keys[scenario] = keys[scenario] " " key
            }
        }
    }
}

# The sorted values of a metric in sorted[1..n]; returns n.
function sort_values(server, scenario, key,    n, i, j, one) {
    n = 0
    for (i = 1; i <= rounds[server, scenario]; i++) {
        if ((server, scenario, key, i) in value) {
            one = value[server, scenario, key, i]
            for (j = ++n; j > 1 && sorted[j - 1] > one; j--) {
                sorted[j] = sorted[j - 1]
            }
            sorted[j] = one
        }
    }
    return n
}

# "" when there is none.
function median(server, scenario, key,    n) {
    n = sort_values(server, scenario, key)
    if (n == 0) {
        return ""
    }
    return n % 2 == 1 ? sorted[(n + 1) / 2] : (sorted[n / 2] + sorted[n / 2 + 1]) / 2
}

function number(x) {
    if (x == "") {
        return "-"
    }
    if (x >= 100 || x <= -100 || x == int(x)) {
        return sprintf("%.0f", x)
    }
    return x >= 10 ? sprintf("%.1f", x) : sprintf("%.2f", x)
}

# The upper bound of the ratio ringbus / nats-server; 0: none.
function ratio_target(full,    scenario) {
    scenario = full
    if (scenario ~ /^js_pub_always_[0-9][0-9]/) {
        return 0.0333 # of us per message: 30 times the acknowledgements
    }
    if (scenario == "js_restart") {
        return 0.05
    }
    if (scenario ~ /^js_/) {
        return 1.0
    }
    sub(/_churn$/, "", scenario)
    if (scenario ~ /^tls_1to1_[0-9]+k$/) {
        return 1.0
    }
    if (scenario ~ /^tls_handshakes/ || scenario ~ /^login_bcrypt/) {
        return 1.0
    }
    if (scenario == "service_rr") {
        return 1.0
    }
    sub(/^(tls|user|import|mapping|ws_deflate|ws)_/, "", scenario)
    if (scenario ~ /^pub/ || scenario ~ /^fan/) {
        return 0.25
    }
    if (full ~ /^ws_deflate/) {
        return 0.33
    }
    if (scenario ~ /^1to1_[0-9]+k$/) {
        return 0.6
    }
    if (scenario ~ /^1to1_/ || scenario ~ /^queue/) {
        return 0.33
    }
    return scenario == "latency" ? 1.0 : 0
}

# The upper bound of the value itself; 0: none.
function value_target(server, scenario, key) {
    if (key == "bytes_per_conn" && scenario == "mem_conns") {
        return 4096
    }
    if (key == "bytes_per_conn" && scenario == "mem_tls_conns") {
        return 16384
    }
    if (key == "bytes_per_conn" && scenario == "mem_users_conns") {
        return 4096
    }
    if (key == "bytes_per_sub") {
        return 200 + median(server, scenario, "subject_bytes")
    }
    if (key == "bytes_per_stored") {
        return 64 + median(server, scenario, "subject_bytes")
    }
    return key == "startup_ms" ? 50 : 0
}

function print_row(server, scenario, key, unit, without_target,    ours, theirs, ratio, bound, target, met) {
    if (failed[server, scenario] == 0 && rounds[server, scenario] == 0) {
        return
    }
    ours = median(server, scenario, key)
    theirs = median(baseline, scenario, key)
    ratio = ours != "" && theirs != "" && theirs > 0 ? ours / theirs : ""
    target = met = "-"
    if (without_target) {
        bound = 0
    } else if ((bound = value_target(server, scenario, key)) > 0) {
        target = "<= " bound
        met = ours != "" && ours <= bound ? "yes" : "no"
    } else if ((bound = ratio_target(scenario)) > 0) {
        target = sprintf("ratio <= %.2f", bound)
        met = ratio == "" ? "unknown" : ratio <= bound ? "yes" : "no"
    }
    if (failed[server, scenario] > 0) {
        met = sprintf("no: failed in %d of %d rounds", failed[server, scenario],
                      failed[server, scenario] + rounds[server, scenario])
    }
    printf "| %s | %s | %s | %s | %s | %s | %s |\n", scenario, unit, number(ours), number(theirs),
           ratio == "" ? "-" : sprintf("%.2f", ratio), target, met
}

function print_rows(server, scenario) {
    if (scenario ~ /^latency/) {
        print_row(server, scenario, "p50_us", "p50, us")
        print_row(server, scenario, "p99_us", "p99, us")
    } else if (scenario == "service_rr") {
        print_row(server, scenario, "server_cpu_us_per_request", "CPU per request, us")
        print_row(server, scenario, "p50_us", "p50, us")
        print_row(server, scenario, "p99_us", "p99, us")
    } else if (scenario ~ /^tls_handshakes/ || scenario ~ /^login_/) {
        print_row(server, scenario, "cpu_us_per_login", "CPU per connection, us")
        print_row(server, scenario, "ping_p99_us", "PING of another meanwhile, p99, us")
        print_row(server, scenario, "storm_per_s", "connections per s", 1)
    } else if (scenario ~ /^mem_.*conns$/) {
        print_row(server, scenario, "bytes_per_conn", "RSS per idle connection, B")
    } else if (scenario == "mem_subs") {
        print_row(server, scenario, "bytes_per_sub", "RSS per subscription, B")
    } else if (scenario == "conns") {
        print_row(server, scenario, "conns_per_s",
                  "opened per s, of " median(server, scenario, "conns") " connections")
        print_row(server, scenario, "open_cpu_us_per_conn", "CPU per connection, us")
        print_row(server, scenario, "ping_round_ms", "PING to each, ms")
        print_row(server, scenario, "deliver_ms", "message to each, ms")
    } else if (scenario ~ /^js_pub/) {
        print_row(server, scenario, "cpu_ns_per_msg", "CPU per message, ns", scenario ~ /always/)
        print_row(server, scenario, "us_per_msg", "time per acknowledged message, us",
                  scenario !~ /(file|always)_[0-9][0-9]/)
        print_row(server, scenario, "disk_write_p50_us", "the disk, a durable 4 KiB, us", 1)
        if (scenario ~ /_1$/) {
            print_row(server, scenario, "ack_p50_us", "acknowledgement, p50, us", 1)
            print_row(server, scenario, "ack_p99_us", "acknowledgement, p99, us", 1)
        }
    } else if (scenario == "js_depth") {
        print_row(server, scenario, "cpu_ns_per_msg", "CPU per message, full, ns")
        print_row(server, scenario, "empty_cpu_ns_per_msg", "CPU per message, empty, ns")
        print_row(server, scenario, "depth_ratio", "full : empty", 1)
    } else if (scenario == "js_filter") {
        print_row(server, scenario, "cpu_ns_per_msg", "CPU per message found, ns")
        print_row(server, scenario, "us_per_msg", "time per message found, us")
    } else if (scenario == "js_mem_subjects") {
        print_row(server, scenario, "bytes_per_stored", "RSS per stored message, own subject, B")
    } else if (scenario == "js_idle_consumers") {
        print_row(server, scenario, "bytes_per_consumer", "RSS per idle consumer, B")
        print_row(server, scenario, "idle_cpu_us_per_s", "CPU at rest, us per s")
        print_row(server, scenario, "create_cpu_us_per_consumer", "CPU to make one, us")
    } else if (scenario == "js_restart") {
        print_row(server, scenario, "ready_ms", "kill -9 to ready, ms")
        print_row(server, scenario, "ready_after_stop_ms", "stop to ready, ms", 1)
    } else if (scenario == "startup") {
        print_row(server, scenario, "startup_ms", "fork to INFO, ms")
    } else {
        print_row(server, scenario, "cpu_ns_per_msg", "CPU per message, ns")
    }
}

function print_details(scenario,    list, count, i, s, n, key) {
    count = split(keys[scenario], list, " ")
    for (i = 1; i <= count; i++) {
        key = list[i]
        printf "| %s | %s |", scenario, key
        for (s = 1; s <= servers[0]; s++) {
            n = sort_values(servers[s], scenario, key)
            if (n == 0) {
                printf " - |"
            } else if (sorted[1] == sorted[n]) {
                printf " %s |", number(sorted[1])
            } else {
                printf " %s (%s..%s) |", number(median(servers[s], scenario, key)),
                       number(sorted[1]), number(sorted[n])
            }
        }
        printf "\n"
    }
}

END {
    for (s = 1; s <= servers[0]; s++) {
        if (servers[s] == baseline) {
            continue
        }
        shards = servers[s]
        sub(/^ringbus\//, "", shards)
        printf "## ringbus with %s shard%s\n\n", shards, shards == 1 ? "" : "s"
        print "| scenario | measure | ringbus | nats-server | ratio | target | met |"
        print "|---|---|---:|---:|---:|---|---|"
        for (c = 1; c <= scenarios[0]; c++) {
            print_rows(servers[s], scenarios[c])
        }
        print ""
    }
    if (failure_count > 0) {
        print "## Failures\n"
        for (i = 1; i <= failure_count; i++) {
            print failures[i]
        }
        print ""
    }
    print "## All medians (smallest..largest)\n"
    printf "| scenario | measure |"
    rule = "|---|---|"
    for (s = 1; s <= servers[0]; s++) {
        printf " %s |", servers[s]
        rule = rule "---:|"
    }
    print "\n" rule
    for (c = 1; c <= scenarios[0]; c++) {
        print_details(scenarios[c])
    }
}
