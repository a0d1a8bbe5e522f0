// The JavaScript client against a server binary.
//
//   node interop.mjs SERVER
//
// Starts SERVER on a loopback port the server picks, runs every test on it, prints "ok NAME" or
// "FAIL NAME: why", then "js: N passed, N failed". Exit code 0 when nothing failed. Each test opens
// and closes its own connections and uses its own subjects; every wait has an end.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { createInterface } from "node:readline";
import { setTimeout as sleep } from "node:timers/promises";

import { connect, headers } from "@nats-io/transport-node";

const WAIT_MS = 10000;
const PAYLOAD_MAX = 1024 * 1024;
const binary = process.argv[2];
const text = new TextDecoder();

// --- the server process ------------------------------------------------------------------------

const server = { process: null, host: "", port: -1 };

function startServer(port) {
  const child = spawn(binary, ["-a", "127.0.0.1", "-p", String(port)], {
    stdio: ["ignore", "ignore", "pipe"],
  });
  server.process = child;
  return new Promise((resolve, reject) => {
    const fail = (error) => {
      if (server.process === child) {
        server.process = null;
      }
      reject(error);
    };
    child.once("error", fail);
    child.once("exit", (code) => fail(new Error(`the server ended with code ${code}`)));
    createInterface({ input: child.stderr }).on("line", (line) => {
      const found = /Listening for client connections on (.+):(\d+)/.exec(line);
      if (found) {
        server.host = found[1];
        server.port = Number(found[2]);
      }
      if (line.includes("Server is ready")) {
        resolve();
      }
    });
  });
}

// The exit code, null when a signal ended it.
async function stopServer(signal) {
  const child = server.process;
  server.process = null;
  if (child === null || child.exitCode !== null || child.signalCode !== null) {
    return child?.exitCode ?? null;
  }
  const ended = new Promise((resolve) => child.once("exit", resolve));
  child.kill(signal);
  const killer = globalThis.setTimeout(() => child.kill("SIGKILL"), WAIT_MS);
  const code = await ended;
  clearTimeout(killer);
  return code;
}

process.on("exit", () => server.process?.kill("SIGKILL"));
for (const signal of ["SIGINT", "SIGTERM"]) {
  process.on(signal, () => process.exit(1));
}

// --- shared by the tests -----------------------------------------------------------------------

const open = new Set();

async function client(options = {}) {
  const conn = await connect({ servers: `${server.host}:${server.port}`, ...options });
  open.add(conn);
  return conn;
}

async function closeAll() {
  for (const conn of open) {
    await conn.close().catch(() => {});
  }
  open.clear();
}

async function waitFor(condition, what) {
  const limit = Date.now() + WAIT_MS;
  while (!condition()) {
    assert.ok(Date.now() < limit, `waited in vain: ${what}`);
    await sleep(2);
  }
}

// Collects what a subscription gets.
function collect(conn, subject, options = {}) {
  const got = [];
  const sub = conn.subscribe(subject, {
    ...options,
    callback: (error, msg) => {
      if (error === null || error === undefined) {
        got.push(msg);
      }
    },
  });
  return { got, sub };
}

// --- the tests ---------------------------------------------------------------------------------

const tests = [];

function test(name, run) {
  tests.push({ name, run });
}

test("connect", async () => {
  const conn = await client();
  assert.equal(conn.info.max_payload, PAYLOAD_MAX);
  assert.equal(conn.info.headers, true);
  assert.equal(conn.info.proto, 1);
  assert.ok((await conn.rtt()) >= 0);
  await conn.flush();
});

test("request and reply", async () => {
  const service = await client();
  const conn = await client();
  service.subscribe("rr.twice", {
    callback: (_error, msg) => msg.respond(msg.string() + msg.string()),
  });
  await service.flush();
  for (let i = 0; i < 200; i++) {
    const reply = await conn.request("rr.twice", `req-${i}.`, { timeout: WAIT_MS });
    assert.equal(reply.string(), `req-${i}.req-${i}.`);
  }
});

test("request without the shared inbox", async () => {
  const service = await client();
  const conn = await client();
  service.subscribe("own.inbox", { callback: (_error, msg) => msg.respond("yes") });
  await service.flush();
  for (let i = 0; i < 50; i++) {
    const reply = await conn.request("own.inbox", "x", { timeout: WAIT_MS, noMux: true });
    assert.equal(reply.string(), "yes");
  }
});

test("no responders", async () => {
  const conn = await client();
  const start = Date.now();
  await assert.rejects(
    conn.request("nobody.listens", "x", { timeout: WAIT_MS }),
    (error) => {
      const names = [error.name, error.cause?.name];
      return names.includes("NoRespondersError") || /no responders/i.test(error.message);
    },
  );
  assert.ok(Date.now() - start < WAIT_MS / 2);
});

test("queue group of 8, each message once", async () => {
  const count = 4000;
  const seen = new Array(count).fill(0);
  const perMember = new Array(8).fill(0);
  let total = 0;
  for (let member = 0; member < 8; member++) {
    const conn = await client();
    // Different subjects, one queue name: still one group.
    conn.subscribe(member % 2 === 0 ? "queue.jobs" : "queue.*", {
      queue: "workers",
      callback: (_error, msg) => {
        seen[Number(msg.string())]++;
        perMember[member]++;
        total++;
      },
    });
    await conn.flush();
  }
  const publisher = await client();
  for (let i = 0; i < count; i++) {
    publisher.publish("queue.jobs", String(i));
  }
  await publisher.flush();
  await waitFor(() => total >= count, "all messages");
  await sleep(100); // time for a copy too many
  assert.equal(total, count);
  assert.ok(seen.every((times) => times === 1));
  assert.ok(perMember.every((share) => share > count / 8 / 4), `shares ${perMember}`);
});

test("headers", async () => {
  const conn = await client();
  const { got } = collect(conn, "headers.*");
  const out = headers();
  out.set("Colour", "red");
  out.append("Number", "one");
  out.append("Number", "two");
  conn.publish("headers.a", "body", { headers: out, reply: "headers.reply" });
  conn.publish("headers.b", "plain");
  await waitFor(() => got.length === 2, "two messages");
  assert.equal(got[0].string(), "body");
  assert.equal(got[0].reply, "headers.reply");
  assert.equal(got[0].headers.get("Colour"), "red");
  assert.deepEqual(got[0].headers.values("Number"), ["one", "two"]);
  assert.equal(got[1].string(), "plain");
  assert.equal(got[1].headers, undefined);
});

test("wildcards", async () => {
  const conn = await client();
  const one = collect(conn, "wild.*").got;
  const rest = collect(conn, "wild.>").got;
  const exact = collect(conn, "wild.a").got;
  const subjects = ["wild", "wild.a", "wild.b", "wild.a.b", "wild.a.b.c", "other.a", "wildx.a"];
  for (const subject of subjects) {
    conn.publish(subject, "x");
  }
  await conn.flush();
  await waitFor(() => rest.length >= 4, "all messages");
  await sleep(50);
  assert.deepEqual(one.map((msg) => msg.subject), ["wild.a", "wild.b"]);
  assert.deepEqual(
    rest.map((msg) => msg.subject),
    ["wild.a", "wild.b", "wild.a.b", "wild.a.b.c"],
  );
  assert.deepEqual(exact.map((msg) => msg.subject), ["wild.a"]);
});

test("unsubscribe", async () => {
  const conn = await client();
  const { got, sub } = collect(conn, "unsub.a");
  conn.publish("unsub.a", "1");
  await waitFor(() => got.length === 1, "the first message");
  sub.unsubscribe();
  conn.publish("unsub.a", "2");
  await conn.flush();
  await sleep(50);
  assert.equal(got.length, 1);
});

test("auto-unsubscribe", async () => {
  const conn = await client();
  const publisher = await client();
  const { got } = collect(conn, "auto.unsub", { max: 10 });
  await conn.flush();
  for (let i = 0; i < 25; i++) {
    publisher.publish("auto.unsub", String(i));
  }
  await publisher.flush();
  await conn.flush();
  assert.equal(got.length, 10);
  // The server stopped, not only the library.
  assert.equal(conn.stats().inMsgs, 10);
});

test("drain", async () => {
  const conn = await client();
  const publisher = await client();
  let count = 0;
  const sub = conn.subscribe("drain.a");
  const reading = (async () => {
    for await (const _msg of sub) {
      await sleep(1);
      count++;
    }
  })();
  await conn.flush();
  for (let i = 0; i < 300; i++) {
    publisher.publish("drain.a", "x");
  }
  await publisher.flush();
  await conn.flush(); // all 300 are in the library now
  await conn.drain();
  await reading;
  assert.equal(count, 300);
  assert.ok(conn.isClosed());
  publisher.publish("drain.a", "x");
  await publisher.flush();
  assert.equal(count, 300);
});

test("no echo", async () => {
  const silent = await client({ noEcho: true });
  const other = await client();
  const { got } = collect(silent, "echo.a");
  silent.publish("echo.a", "own");
  await silent.flush();
  other.publish("echo.a", "other");
  await waitFor(() => got.length > 0, "a message");
  await silent.flush();
  assert.deepEqual(got.map((msg) => msg.string()), ["other"]);
});

test("the largest payload", async () => {
  const conn = await client();
  const { got } = collect(conn, "max.payload");
  const data = randomBytes(PAYLOAD_MAX);
  conn.publish("max.payload", data);
  await waitFor(() => got.length === 1, "the message");
  assert.ok(Buffer.compare(Buffer.from(got[0].data), data) === 0);
  assert.throws(() => conn.publish("max.payload", randomBytes(PAYLOAD_MAX + 1)));
  await conn.flush();
});

// Every message goes to 8 subscribers, which check its sum and acknowledge it; a publisher goes on
// when all have, at most `window` messages ahead, so that the server's queues stay below their
// limits.
test("8 publishers, 8 subscribers, checksums", async () => {
  const peers = 8;
  const rounds = 25;
  const window = 2;
  const received = new Array(peers).fill(0);
  const problems = [];
  for (let i = 0; i < peers; i++) {
    const conn = await client();
    const next = new Map();
    conn.subscribe("mesh.data", {
      callback: (_error, msg) => {
        received[i]++;
        const sum = createHash("sha256").update(msg.data.subarray(32)).digest();
        const [publisher, round] = text.decode(msg.data.subarray(32, 40)).split(":").map(Number);
        if (Buffer.compare(sum, Buffer.from(msg.data.subarray(0, 32))) !== 0) {
          problems.push(`receiver ${i}: damaged`);
        } else if ((next.get(publisher) ?? 0) !== round) {
          problems.push(`receiver ${i}: ${publisher} sent ${round} out of order`);
        }
        next.set(publisher, round + 1);
        msg.respond("+");
      },
    });
    await conn.flush();
  }
  await Promise.all(Array.from({ length: peers }, async (_unused, publisher) => {
    const conn = await client();
    const inbox = `mesh.ack.${publisher}`;
    const acks = collect(conn, inbox).got;
    for (let round = 0; round < rounds; round++) {
      const size = round === Math.floor(rounds / 2) ? PAYLOAD_MAX : sizeOf(publisher, round);
      const body = randomBytes(size - 32);
      body.write(`${publisher}:${round}`.padEnd(8), 0, "latin1");
      const sum = createHash("sha256").update(body).digest();
      conn.publish("mesh.data", Buffer.concat([sum, body]), { reply: inbox });
      await waitFor(() => acks.length >= peers * (round + 1 - window), `acks of ${publisher}`);
    }
    await waitFor(() => acks.length >= peers * rounds, `last acks of ${publisher}`);
  }));
  assert.deepEqual(problems, []);
  assert.deepEqual(received, new Array(peers).fill(peers * rounds));
});

function sizeOf(publisher, round) {
  const limits = [64, 1024, 32768, 65536, 200000, PAYLOAD_MAX];
  const limit = limits[(publisher + round * 5) % limits.length];
  return 40 + ((publisher * 7919 + round * 104729) % (limit - 39));
}

test("reconnect after a restart", async () => {
  const conn = await client({
    maxReconnectAttempts: 400,
    reconnectTimeWait: 50,
    reconnectJitter: 5,
  });
  const events = [];
  (async () => {
    for await (const status of conn.status()) {
      events.push(status.type);
    }
  })();
  const plain = collect(conn, "again.*").got;
  const queue = collect(conn, "again.a", { queue: "q" }).got;
  conn.publish("again.a", "0");
  await waitFor(() => plain.length === 1 && queue.length === 1, "the first message");
  // First a crash, then an orderly end.
  for (const [round, signal] of [[1, "SIGKILL"], [2, "SIGTERM"]]) {
    const code = await stopServer(signal);
    assert.equal(code, signal === "SIGTERM" ? 0 : null);
    await startServer(server.port);
    await waitFor(
      () => events.filter((type) => type === "reconnect").length === round,
      `reconnect ${round}`,
    );
    await conn.flush();
    conn.publish("again.a", String(round));
    await waitFor(
      () => plain.length === round + 1 && queue.length === round + 1,
      `a message after restart ${round}`,
    );
  }
  assert.ok(events.includes("disconnect"));
});

// --- the program -------------------------------------------------------------------------------

async function runTest({ name, run }) {
  const limit = sleep(6 * WAIT_MS, undefined, { ref: false }).then(() => {
    throw new Error("took too long");
  });
  try {
    if (server.process === null) {
      await startServer(-1);
    }
    await Promise.race([run(), limit]);
    console.log(`ok   js ${name}`);
    return true;
  } catch (error) {
    console.log(`FAIL js ${name}: ${error.message}`);
    return false;
  } finally {
    await closeAll();
  }
}

if (binary === undefined) {
  console.error("usage: node interop.mjs SERVER");
  process.exit(2);
}
let passed = 0;
let failed = 0;
for (const each of tests) {
  if (await runTest(each)) {
    passed++;
  } else {
    failed++;
  }
}
const exitCode = await stopServer("SIGTERM");
if (exitCode !== 0) {
  console.log(`FAIL js the server ended with code ${exitCode}`);
  failed++;
}
console.log(`js: ${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
