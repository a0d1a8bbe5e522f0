/* sim.h - simulated network in virtual time, one thread, one seed. Nodes use it through transport.h;
 * the test plays the peers through rb_sim_peer_*. */
#pragma once

#include "ringbus/env.h"
#include "ringbus/mem.h"
#include "ringbus/transport.h"

/** Chances are per mille per event; delays in ns of virtual time. */
struct rb_sim_net_options {
    uint64_t seed;
    uint64_t delay_min_ns, delay_max_ns; /* each direction, in order per connection */
    uint32_t split_permille;       /* a delivery is cut at a random byte, the rest follows later */
    uint32_t short_write_permille; /* the network takes part of a send; SENT waits for the rest */
    uint32_t reset_permille;       /* per delivery: the connection breaks */
    uint32_t window_bytes;   /* bytes in flight plus unread per direction; a send waits beyond it */
    uint32_t recv_bytes_max; /* longest RECEIVED slice */
};

struct rb_sim_net;
RB_MUST_CHECK enum rb_err rb_sim_net_create(const struct rb_sim_net_options *options,
                                            struct rb_sim_net **ret_net);
/** After every transport was destroyed and every peer closed. */
void rb_sim_net_destroy(struct rb_sim_net *net);
/** Virtual time; also what rb_sim_env_init's clocks show. */
uint64_t rb_sim_net_now(const struct rb_sim_net *net);
/** When the next thing happens without anybody's doing; UINT64_MAX: never. */
uint64_t rb_sim_net_due(const struct rb_sim_net *net);
/** Moves virtual time to the next thing due (or by at most `limit_ns`); returns the new time. */
uint64_t rb_sim_net_advance(struct rb_sim_net *net, uint64_t limit_ns);
/** An env whose clocks are the net's and whose entropy comes from the seed. */
void rb_sim_env_init(struct rb_env *env, struct rb_sim_net *net, uint64_t seed);
/** What a node's connect() takes to reach `port` of `node`. */
struct rb_addr rb_sim_addr(uint32_t node, uint16_t port);

/** A transport for shard `index` of node `node`. poll() never blocks: timeout is ignored. Listeners with `spread` deal
 *  round-robin among the transports of the same node. wake() is recorded, see rb_sim_transport_woken.
 *  One batch of poll() may hold several RECEIVED of a connection; those after a close() of it are already on their way
 *  and the owner ignores them. ACCEPTED and CONNECTED are the only event of their connection in a batch. */
RB_MUST_CHECK enum rb_err rb_sim_transport_create(struct rb_sim_net *net, uint32_t node,
                                                  uint32_t index, struct rb_budget *budget,
                                                  struct rb_transport **ret_transport);
/** True once after a wake() aimed at it. */
bool rb_sim_transport_woken(struct rb_transport *t);
/** Events wait to be polled, or sends to be submitted. */
bool rb_sim_transport_ready(struct rb_transport *t);
/** Slots in use; 0 after everything closed. */
uint32_t rb_sim_transport_conn_count(struct rb_transport *t);

/** The far end of a connection, played by the test. */
struct rb_sim_peer;
/** Connects to `port` of `node`; RB_ERR_ADDRESS when nobody listens. */
RB_MUST_CHECK enum rb_err rb_sim_peer_connect(struct rb_sim_net *net, uint32_t node, uint16_t port,
                                              struct rb_sim_peer **ret_peer);
/** Queues bytes towards the node (copied, unbounded on the peer's side, windowed on the wire). */
void rb_sim_peer_send(struct rb_sim_peer *peer, struct rb_slice bytes);
/** Takes up to `cap` bytes that have arrived; 0 when none. */
size_t rb_sim_peer_recv(struct rb_sim_peer *peer, void *out, size_t cap);
/** While stalled nothing is read: the window towards the peer fills. */
void rb_sim_peer_stall(struct rb_sim_peer *peer, bool stalled);
/** The node (or a fault) ended the connection and everything that arrived before has been read. */
bool rb_sim_peer_ended(const struct rb_sim_peer *peer);
/** A fault of the network broke the connection, not the node. */
bool rb_sim_peer_broken(const struct rb_sim_peer *peer);
/** Orderly end (what was sent still arrives) or reset; frees the peer. */
void rb_sim_peer_close(struct rb_sim_peer *peer, bool reset);
