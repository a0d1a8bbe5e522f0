#!/usr/bin/env python3
"""Logins that need more than fixed bytes: signatures, slow hashes, what the log says; compared with nats-server.

  logins.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import base64
import json
import re
import sys
import time
import urllib.request

import compare
from compare import scenario

# Made for these tests with nkey_tool; they open nothing else.
SEED = "SUAHAF7QOL47CBUYDSY3UETHMZ4VSP5JGEX5HIDHZRXYCAZBYMIQGCAOQY"
KEY = "UDJZEELN6NA4JRMYFHNVUDDJQSLUCYJLVKXXEQQGCRACBL67Y3FE5IQS"
OTHER_SEED = "SUABBUJNK4SNCDXZBDOXSHICPCL6HXTKEKG3U4OP7VQR33XEASCHAQTEHQ"
OTHER_KEY = "UDADZHSIEVIHT4RAC67HJK3RLSMEMFFZIRXJZOBOIVEDWZTQI3NC2ELZ"
HASH = "$2a$11$owkqWmZPr.Utp8w3qxTKKuVd5gQG4kbjJWs2hOqkXEVif.aHX7Emm"  # of "secret"


def signed(s, c, seed=SEED, data=None):
    nonce = c.info["nonce"].encode() if data is None else data
    return s.tools.nkey("sign", seed, data=nonce)[0]


def login(s, make):
    """make(client) gives the fields of CONNECT; what came."""
    with s.client() as c:
        return c.connect(**make(c))


NKEYS = "authorization { users: [{ nkey: %s }, { nkey: %s, permissions: { publish: x } }, { user: a, password: b }] }"


@scenario(NKEYS % (KEY, OTHER_KEY))
def nkeys(s):
    def standard(text):
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        return base64.b64encode(raw).decode()

    cases = {
        "right": lambda c: {"nkey": KEY, "sig": signed(s, c), "protocol": 1},
        "the other": lambda c: {"nkey": OTHER_KEY, "sig": signed(s, c, OTHER_SEED)},
        "standard base64": lambda c: {"nkey": KEY, "sig": standard(signed(s, c))},
        "another's signature": lambda c: {"nkey": KEY, "sig": signed(s, c, OTHER_SEED)},
        "of another nonce": lambda c: {"nkey": KEY, "sig": signed(s, c, data=b"abcdefghijklmno")},
        "no signature": lambda c: {"nkey": KEY},
        "no key": lambda c: {"sig": signed(s, c)},
        "rubbish": lambda c: {"nkey": KEY, "sig": "!!!!"},
        "short": lambda c: {"nkey": KEY, "sig": signed(s, c)[:40]},
        "unknown key": lambda c: {"nkey": "U" + "A" * 55, "sig": signed(s, c)},
        "right password beside a wrong key": lambda c: {"nkey": KEY, "sig": "AAAA", "user": "a", "pass": "b"},
        "password": lambda c: {"user": "a", "pass": "b"},
        "nothing": lambda c: {},
    }
    result = {name: login(s, make) for name, make in cases.items()}
    with s.client() as first, s.client() as second:
        result["nonces"] = [len(first.info["nonce"]), len(second.info["nonce"]),
                            first.info["nonce"] == second.info["nonce"]]
        sig = signed(s, first)
        result["replayed"] = second.connect(nkey=KEY, sig=sig)
    with s.client() as c:
        c.connect(nkey=OTHER_KEY, sig=signed(s, c, OTHER_SEED))
        c.send(b"PUB y 0\r\n\r\n")
        result["permissions"] = c.ping()
        result["again without a key"] = c.connect()
    return result


@scenario("authorization { users: [{ user: a, password: b }] }")
def no_nonce(s):
    with s.client() as c:
        return "nonce" in c.info


@scenario("accounts { A { users: [{ nkey: %s }] } }\nno_auth_user: %s" % (KEY, KEY))
def nkey_for_everybody(s):
    with s.client() as c:
        return [c.connect(protocol=1)]


@scenario("authorization { users: [{ user: slow, password: \"%s\" }, { user: fast, password: fast }] }" % HASH)
def hashes_hold_nobody_up(s):
    """Eight logins with a costly hash at once; another connection's PING is answered meanwhile."""
    with s.client() as other:
        said = [other.connect(user="fast", **{"pass": "fast"})]
        clients = [s.client(seconds=15) for _ in range(8)]
        for c in clients:
            c.send(b'CONNECT {"verbose":false,"user":"slow","pass":"secret"}\r\nPING\r\n')
        waits = []
        for _ in range(25):
            at = time.monotonic()
            said.append(other.ping())
            waits.append(time.monotonic() - at)
            time.sleep(0.01)
        results = []
        for c in clients:
            c.receive_until(lambda stream: b"PONG" in stream or b"-ERR" in stream, 15)
            results.append(c.take())
            c.sock.close()
        waits.sort()
        # Were they hashed in the way of others, most would wait for one; a busy machine delays a few.
        calm = not s.ringbus or waits[19] < 0.02
    return {"said": said, "logins": results, "calm": calm or waits}


def plain_lines(s, pattern):
    """Log lines that match, without time, pid, address and cid."""
    lines = []
    for line in s.server.log().split("\n"):
        found = re.search(r"\[(...)\] \S+ - (?:w|c)id:\d+ - (.*)$", line)
        if found and re.search(pattern, found.group(2)):
            lines.append("[%s] %s" % found.groups())
    return lines


LABELS = ("accounts { A { users: [{ user: ann, password: a, permissions: { publish: ok } }, { nkey: %s }] } }" % KEY)
ABOUT = {"name": "me \"x\"", "lang": "c", "version": "1.2"}


@scenario(LABELS, args=["-DV"])
def labels(s):
    """How the log calls connections."""
    result = {}
    with s.client() as c:
        c.connect(user="ann", **{"pass": "a"})
        c.send(b"PUB no 0\r\n\r\nSUB a 1\r\n")
        c.ping()
    with s.client() as c:
        c.connect(user="ann", **{"pass": "a"}, **ABOUT)
        c.send(b"PUB no 0\r\n\r\n")
        c.ping()
    with s.client() as c:
        c.connect(user="ann", **{"pass": "wrong"}, **ABOUT)
    for fields in ({"nkey": KEY, "sig": "x"}, {"auth_token": "hidden"}, {"user": "q\"\x01", "pass": "x"}, {}):
        with s.client() as c:
            c.connect(**fields)
    with s.client() as c:
        c.connect(nkey=KEY, sig=signed(s, c), name="n")
    with s.client() as c:
        c.send(b"FOO\r\n")
        c.rest(1)
    s.logged(r"Authentication Failure", 2)
    time.sleep(0.1)
    result["errors"] = plain_lines(s, r"authentication error( - |$)|Violation -|Authorization")
    result["closed"] = sorted(plain_lines(s, "onnection closed"))
    return result


SECRETS = ("token-7Gh", "pass-9Kq", "jwt-5Zx", "sig-3Wn", "wrong-2Bv")


@scenario("accounts { A { users: [{ user: ann, password: pass-9Kq }, { nkey: %s }] } }\nhttp: \"127.0.0.1:-1\"" % KEY, args=["-DVV"],
          differs=True)
def secrets_stay_secret(s):
    """Neither logs at the loudest nor answers hold what a client must keep for itself; nats-server logs a jwt."""
    seen = ""
    for fields in ({"user": "ann", "pass": "pass-9Kq"}, {"user": "ann", "pass": "wrong-2Bv"},
                   {"auth_token": "token-7Gh"}, {"user": "ann", "pass": "pass-9Kq", "jwt": "jwt-5Zx"},
                   {"nkey": KEY, "sig": "sig-3Wn"}, {"nkey": KEY, "sig": "sig-3Wn", "jwt": "jwt-5Zx"}):
        with s.client() as c:
            seen += c.connect(**fields)
            seen += c.connect(**fields)
    for raw in (b'CONNECT {"user":"ann","pass":"pass-9Kq"\r\n', b'CONNECT {"pass":"pass-9Kq","user":5}\r\n',
                b'CONNECT {"auth_token":"token-7Gh","protocol":9}\r\n', b'CONNECT "token-7Gh"\r\n',
                b"CONNECT pass-9Kq\r\n"):
        with s.client() as c:
            c.send(raw)
            seen += c.rest(0.3)
    nonces = []
    with s.client() as c:
        nonces.append(c.info["nonce"])
        sig = signed(s, c)
        seen += c.connect(nkey=KEY, sig=sig)
    log = s.server.log()
    found = [secret for secret in SECRETS + (sig,) if secret in log or secret in seen]
    found += ["a nonce" for nonce in nonces if nonce in log]
    return found


@scenario("accounts { A { users: [{ user: ann, password: pass-9Kq }] } }\nhttp: \"127.0.0.1:-1\"")
def secrets_in_connz(s):
    try:
        port = s.monitor_port
    except AssertionError as error:
        raise compare.SkipError("no monitor is listening") from error
    with s.client() as c:
        c.connect(user="ann", **{"pass": "pass-9Kq"})
        with urllib.request.urlopen("http://127.0.0.1:%d/connz?auth=1&subs=1&state=all" % port, timeout=3) as page:
            text = page.read().decode()
    return ["pass-9Kq" in text, json.loads(text)["connections"][0].get("authorized_user")]


@scenario("authorization { timeout: 0.3, user: a, password: \"%s\" }" % HASH)
def a_hash_takes_part_of_the_time(s):
    """The time to log in ends with CONNECT, not with the hash."""
    return [login(s, lambda c: {"user": "a", "pass": "secret"})]


if __name__ == "__main__":
    sys.exit(compare.main("logins", __doc__))
