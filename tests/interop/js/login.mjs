// nats.js for py/clients.py: node login.mjs DOCUMENT. Prints the reply, "refused: WHY" or "skip: WHY".

import { nkeyAuthenticator, wsconnect } from "@nats-io/nats-core";
import { connect } from "@nats-io/transport-node";

const login = JSON.parse(process.argv[2]);
const encoder = new TextEncoder();
const options = {
  servers: `${login.ws ? "ws" : "nats"}://${login.host}:${login.port}`,
  user: login.user,
  pass: login.pass,
  token: login.token,
  reconnect: false,
  timeout: 5000,
};
if (login.seed) {
  options.authenticator = nkeyAuthenticator(encoder.encode(login.seed));
}
if (login.ca) {
  options.tls = { caFile: login.ca, certFile: login.cert, keyFile: login.key };
}
let open = connect;
if (login.ws) {
  if (globalThis.WebSocket === undefined) {
    globalThis.WebSocket = (await import("ws").catch(() => ({}))).WebSocket;
  }
  if (globalThis.WebSocket === undefined) {
    console.log("skip: neither Node nor a package has WebSocket");
    process.exit(0);
  }
  open = wsconnect;
}
try {
  const conn = await open(options);
  const reply = await conn.request("ask", "ping", { timeout: 5000 });
  console.log(reply.string());
  await conn.close();
} catch (error) {
  console.log(`refused: ${error.message}`);
}
process.exit(0);
