/* identity.h - CONNECT, the verdict, and what follows from it: account, permissions, limits. */
#pragma once

#include "core/conn.h"
#include "proto/connect.h"

/** A CONNECT document. */
void rb_conn_connect(struct rb_conn *conn, struct rb_slice json);
/** Goes on with a repeated CONNECT that waited for room in the mail; false: it still waits. */
bool rb_conn_connect_again(struct rb_conn *conn);
/** A verdict that was awaited. */
void rb_conn_verdict(struct rb_core *core, struct rb_job *job);
/** Without authentication: a member of "$G" from the start. False: refused (the connection is ending). */
bool rb_conn_bind_nobody(struct rb_conn *conn);
/** Something came before CONNECT: Authorization Violation. */
void rb_conn_refuse_login(struct rb_conn *conn);
/** Something else than CONNECT came first: no_auth_user, if there is one. False: refused. */
bool rb_conn_bind_anonymous(struct rb_conn *conn);
/** It counts no more among its account's connections; it stays a member while it has subscriptions. */
void rb_conn_uncount(struct rb_conn *conn);
/** Gives back everything an identity holds. */
void rb_conn_unbind(struct rb_conn *conn);
/** Forgets compiled permissions that no connection uses. */
void rb_perms_cache_drop(struct rb_core *core);
