/* pipe_client.h - the program's end of pipes as a transport, so that the contract suite can drive
 * it: connect() is rb_pipe_connect, and so on, all with timeout 0. */
#pragma once

#include "ringbus/transport.h"
#include "transport/pipe/pipe.h"

struct rb_transport *pipe_client_create(struct rb_pipes *pipes);
