/* files.h - the files that tell others about a running server: its process id, its ports. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ringbus/errors.h"
#include "ringbus/transport.h"

/**
 * Writes the decimal process id, without a newline, mode 0600. It stays after the end, as with nats-server.
 * RB_ERR_IO: `error` is "open FILE: reason" or "write FILE: reason".
 */
RB_MUST_CHECK enum rb_err rb_pid_file_write(const char *path, char *error, size_t error_cap);

/** The arrays of a ports file, in its order. */
enum rb_port_kind {
    RB_PORT_NATS,
    RB_PORT_MONITORING,
    RB_PORT_CLUSTER,
    RB_PORT_PROFILE,
    RB_PORT_WEBSOCKET,
    RB_PORT_KINDS
};

struct rb_port {
    enum rb_port_kind kind;
    bool tls;
    struct rb_addr addr; /* as bound; an address for all interfaces is written as each of them */
    bool both;           /* an IPv4 address for all that takes IPv6 too */
};

#define RB_PORTS_PATH_MAX 1200
/**
 * Writes DIR/PROGRAM_PID.ports, a JSON object with an array of URLs per kind that is there. It appears whole: readers poll
 * for it. *ret_path gets its path for rb_ports_file_remove.
 * RB_ERR_IO: `error` is "FILE: reason"; RB_ERR_MEMORY.
 */
RB_MUST_CHECK enum rb_err rb_ports_file_write(const char *dir, const char *program,
                                              const struct rb_port *ports, size_t port_count,
                                              char ret_path[RB_PORTS_PATH_MAX], char *error,
                                              size_t error_cap);
/** Empty: nothing to do. A file that is gone is fine. */
void rb_ports_file_remove(const char *path);
