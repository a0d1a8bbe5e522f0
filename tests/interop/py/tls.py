#!/usr/bin/env python3
"""TLS on the client port, compared with nats-server.

  tls.py --server PATH [--oracle PATH|none] [--record] [--only TEXT]
"""

import socket
import ssl
import subprocess
import sys
import time

import compare
import natsclient
from compare import scenario

V12, V13 = ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3
SERVER = 'cert_file: "CERTS/server-ecdsa.pem", key_file: "CERTS/server-ecdsa-key.pem"'
RSA = 'cert_file: "CERTS/server-rsa.pem", key_file: "CERTS/server-rsa-key.pem"'
VERIFY = SERVER + ', ca_file: "CERTS/ca.pem", verify: true'
FLAGS = ("tls_required", "tls_verify", "tls_available", "auth_required")


def flags(info):
    return None if info is None else {name: info[name] for name in FLAGS if name in info}


def outcome(s, **options):
    """A whole login: what INFO said, how the handshake went, what came."""
    connect = options.pop("connect", {})
    with s.client(**options) as c:
        result = {"info": flags(c.info)}
        if c.error:
            result["error"] = c.error
            return result
        result["said"] = c.connect(**connect)
        if c.error is None and isinstance(c.sock, ssl.SSLSocket):
            result["version"] = c.sock.version()
        return result


def context(s, **options):
    if "cert" in options:
        options["cert"] = s.file(options["cert"])
    options.setdefault("ca", "ca.pem")
    options["ca"] = options["ca"] and s.file(options["ca"])
    return natsclient.tls(**options)


def echo(s, c, size):
    """Payloads there and back; True when what came is what was sent."""
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)
    c.send(b"SUB e 1\r\nPUB e %d\r\n" % size + body + b"\r\n")
    head = b"MSG e 1 %d\r\n" % size
    c.receive_until(lambda stream: len(stream) >= len(head) + size + 2)
    good = c.stream == head + body + b"\r\n"
    c.stream = b""
    return good


@scenario("tls { %s }" % SERVER)
def required(s):
    result = {"default": outcome(s, tls=context(s), connect={"protocol": 1})}
    for name, version in (("1.2", V12), ("1.3", V13)):
        with s.client(tls=context(s, low=version, high=version)) as c:
            result[name] = [c.sock.version(), c.connect()]
            result[name] += [echo(s, c, size) for size in (0, 1, 16383, 16384, 16385, 100000, 1048576)]
    result["nobody trusts it"] = outcome(s, tls=context(s, ca="other-ca.pem"))
    result["other name"] = outcome(s, tls=context(s), name="other.example.org")
    result["address"] = outcome(s, tls=context(s), name="127.0.0.1")
    result["still there"] = outcome(s, tls=context(s))
    return result


@scenario("tls { %s, timeout: 1 }" % SERVER, args=["-D"])
def plain_client(s):
    with s.client() as c:
        c.send(b'CONNECT {"verbose":false}\r\nPING\r\n')
        # nats-server's alert shows as bytes of no protocol
        said = c.rest()
        return {"info": flags(c.info), "closed": "closed" in said, "pong": "PONG" in said,
                "logged": s.logged(r"\[DBG\].*cid:\d+ - TLS handshake error: tls: first record does "
                                   r"not look like a TLS handshake")}


@scenario()
def tls_client_on_a_plain_port(s):
    hello = ssl.MemoryBIO()
    tls = natsclient.tls().wrap_bio(ssl.MemoryBIO(), hello, server_hostname="x")
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    with s.client() as c:
        c.send(hello.read())
        first = c.rest()
    return {"hello": first, "again": outcome(s)}


@scenario("tls { %s }\nallow_non_tls: true" % SERVER)
def allow_non_tls(s):
    return {"plain": outcome(s, connect={"protocol": 1}),
            "tls": outcome(s, tls=context(s), connect={"protocol": 1}),
            "1.2": outcome(s, tls=context(s, high=V12))}


@scenario("tls { %s, timeout: 0.5 }\nallow_non_tls: true" % SERVER)
def allow_non_tls_silence(s):
    with s.client() as c:
        early = c.rest(0.8)
        return [early, c.connect()]


@scenario("tls { %s, handshake_first: true, timeout: 0.5 }" % SERVER)
def handshake_first(s):
    with s.client(seconds=2) as c:
        late = [c.info, c.rest(), c.error]
    return {"first": outcome(s, tls=context(s), first=True, connect={"protocol": 1}),
            "classic": late[0] is None and late[2] == "closed",
            "1.2": outcome(s, tls=context(s, high=V12), first=True)}


@scenario("tls { %s, handshake_first: auto }" % SERVER)
def handshake_first_auto(s):
    return {"first": outcome(s, tls=context(s), first=True, connect={"protocol": 1}),
            "classic": outcome(s, tls=context(s), connect={"protocol": 1})}


@scenario('tls { %s, handshake_first: "300ms" }' % SERVER)
def handshake_first_after_a_while(s):
    begin = time.monotonic()
    classic = outcome(s, tls=context(s))
    return {"classic": classic, "late": 0.25 < time.monotonic() - begin < 1.5,
            "first": outcome(s, tls=context(s), first=True)}


@scenario('tls { %s, handshake_first: "200ms" }\nallow_non_tls: true' % SERVER)
def handshake_first_and_plain(s):
    return {"plain": outcome(s), "classic": outcome(s, tls=context(s)),
            "first": outcome(s, tls=context(s), first=True, connect={"protocol": 1})}


CLIENTS = ("client", "client-multi", "client-inter", "client-inter-chain", "client-server-eku",
           "client-expired", "other-client", "server-rsa")


@scenario("tls { %s }" % VERIFY)
def verify(s):
    result = {}
    for version in (V12, V13):
        result["none " + version.name] = outcome(s, tls=context(s, high=version, low=version))
        for name in CLIENTS:
            key = s.file(name.replace("-chain", "") + "-key.pem")
            tls = context(s, cert=name + ".pem", key=key, high=version, low=version)
            result[name + " " + version.name] = outcome(s, tls=tls)
    # a refusal after the handshake of TLS 1.3 shows as a closed connection or as an alert
    for entry in result.values():
        if "said" in entry and "PONG" not in entry["said"]:
            entry["said"] = "refused"
        if "error" in entry:
            entry.clear()
            entry.update(info={"tls_required": True, "tls_verify": True}, said="refused")
    return result


@scenario("tls { %s, verify_and_map: true }\nauthorization { users: ["
          '{ user: "derek@example.org", permissions: { publish: "email" } }] }' % VERIFY.replace(
              ", verify: true", ""))
def map_email(s):
    return mapped(s, "client")


@scenario("tls { %s, verify_and_map: true }\nauthorization { users: ["
          '{ user: "client.example.org", permissions: { publish: "dns" } }] }' % VERIFY.replace(
              ", verify: true", ""))
def map_dns(s):
    return mapped(s, "client")


@scenario("tls { %s, verify_and_map: true }\nauthorization { users: ["
          '{ user: "spiffe://example.org/client", permissions: { publish: "uri" } }] }' %
          VERIFY.replace(", verify: true", ""))
def map_uri(s):
    return mapped(s, "client")


@scenario("tls { %s, verify_and_map: true }\nauthorization { users: ["
          '{ user: "CN=derek,OU=ops,OU=people,O=Example\\\\, Inc.,DC=example,DC=org", permissions: '
          '{ publish: "dn" } }] }' % VERIFY.replace(", verify: true", ""))
def map_dn(s):
    return mapped(s, "client")


@scenario("tls { %s, verify_and_map: true }\nauthorization { users: ["
          '{ user: "DC=org,DC=example,O=Example\\\\, Inc.,OU=people,OU=ops,CN=derek", permissions: '
          '{ publish: "dn2" } }] }' % VERIFY.replace(", verify: true", ""))
def map_dn_the_other_way(s):
    return mapped(s, "client")


@scenario("tls { %s, verify_and_map: true }\nauthorization { users: ["
          '{ user: "CN=multi+UID=4711,O=Example,C=US", permissions: { publish: "multi" } }, '
          '{ user: "CN=inter", password: pw } ] }' % VERIFY.replace(", verify: true", ""))
def map_several(s):
    return {"multi": mapped(s, "client-multi"), "unknown": mapped(s, "client"),
            "no password": mapped(s, "client-inter-chain", "client-inter"),
            "password": mapped(s, "client-inter-chain", "client-inter", **{"pass": "pw"}),
            "wrong password": mapped(s, "client-inter-chain", "client-inter", **{"pass": "x"})}


def mapped(s, cert, key=None, **connect):
    tls = context(s, cert=cert + ".pem", key=s.file((key or cert) + "-key.pem"))
    with s.client(tls=tls) as c:
        result = [c.error or c.connect(protocol=1, **connect)]
        for subject in ("email", "dns", "uri", "dn", "dn2", "multi"):
            c.send(b"PUB %s 0\r\n\r\n" % subject.encode())
        result.append(c.ping() if c.error is None else None)
        return result


@scenario("tls { %s, verify_and_map: true }\nauthorization { users: ["
          '{ user: "derek@example.org" }, { user: plain, password: p }] }\n'
          "allow_non_tls: true" % VERIFY.replace(", verify: true", ""))
def map_and_plain(s):
    return {"plain": outcome(s, connect={"user": "plain", "pass": "p"}),
            "plain as the mapped": outcome(s, connect={"user": "derek@example.org"}),
            "mapped": outcome(s, tls=context(s, cert="client.pem"))}


def pin(certs):
    out = subprocess.run("openssl x509 -in %s/client.pem -noout -pubkey | openssl pkey -pubin "
                         "-outform DER | sha256sum" % certs, shell=True, capture_output=True,
                         check=True).stdout
    return out.split()[0].decode()


def pinned_config(shared):
    return '"%s"' % pin(shared["certs"])


@scenario("tls { %s, pinned_certs: [PIN] }" % VERIFY)
def pinned(s):
    result = {}
    for name in ("client", "client-multi"):
        result[name] = outcome(s, tls=context(s, cert=name + ".pem", high=V12))
        if "error" in result[name] or "PONG" not in result[name]["said"]:
            result[name] = "refused"
    return result


CERTS = ("tls { certs: [ { %s }, { cert_file: \"CERTS/server-name.pem\", key_file: "
         "\"CERTS/server-name-key.pem\" }, { cert_file: \"CERTS/server-wild.pem\", key_file: "
         "\"CERTS/server-wild-key.pem\" } ] }" % RSA)


@scenario(CERTS)
def several_certificates(s):
    result = {}
    for name in ("localhost", "name.example.org", "any.example.org", "a.b.example.org", "127.0.0.1",
                 "else.org"):
        for version in (V12, V13):
            with s.client(tls=context(s, ca=None, low=version, high=version), name=name) as c:
                der = c.sock.getpeercert(True) if c.error is None else b""
            which = [cert for cert in ("server-rsa", "server-name", "server-wild")
                     if ssl.PEM_cert_to_DER_cert(open(s.file(cert + ".pem"), encoding="ascii").read()
                                                 [-8000:]) == der]
            result["%s %s" % (name, version.name)] = which or c.error
    return result


@scenario('tls { %s, min_version: "1.3" }' % SERVER)
def min_version(s):
    return {"1.2": outcome(s, tls=context(s, high=V12)), "1.3": outcome(s, tls=context(s))}


@scenario('tls { %s, cipher_suites: ["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"] }' % RSA)
def cipher_suites(s):
    result = {}
    for name in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384",
                 "ECDHE-RSA-CHACHA20-POLY1305", "AES128-GCM-SHA256"):
        tls = context(s, high=V12, ciphers=name)
        result[name] = outcome(s, tls=tls)
    result["1.3"] = outcome(s, tls=context(s))
    return result


@scenario("tls { %s }" % RSA)
def default_suites(s):
    result = {}
    for name in ("ECDHE-RSA-AES128-GCM-SHA256", "ECDHE-RSA-AES256-GCM-SHA384",
                 "ECDHE-RSA-CHACHA20-POLY1305", "AES128-GCM-SHA256", "AES256-SHA"):
        result[name] = outcome(s, tls=context(s, high=V12, ciphers=name))
    result["1.1"] = "no" if "error" in outcome(s, tls=context(
        s, low=ssl.TLSVersion.TLSv1_1, high=ssl.TLSVersion.TLSv1_1,
        ciphers="ALL:@SECLEVEL=0")) else "yes"
    return result


@scenario("tls { %s, curve_preferences: [CurveP384] }" % SERVER)
def curves(s):
    result = {}
    for curve in ("prime256v1", "secp384r1"):
        tls = context(s)
        tls.set_ecdh_curve(curve)
        result[curve] = outcome(s, tls=tls)
    return result


@scenario("tls { %s, timeout: 0.7 }" % SERVER, args=["-D"])
def a_handshake_that_never_ends(s):
    """Others do not notice, and it is cut off in time."""
    begin = time.monotonic()
    stuck = []
    for data in (b"", b"\x16", b"\x16\x03\x01\x40\x00", b"\x16\x03\x01\x02\x00" + b"\x01" * 100):
        c = s.client()
        c.send(data)
        stuck.append(c)
    with s.client(tls=context(s)) as other:
        said = other.connect()
        slowest = 0
        for _ in range(20):
            at = time.monotonic()
            said += other.ping()
            slowest = max(slowest, time.monotonic() - at)
            time.sleep(0.02)
        ends = []
        for c in stuck:
            c.rest(3)
            ends.append([c.error, 0.5 < time.monotonic() - begin < 2.5])
            c.sock.close()
    return {"said": said, "no pause": slowest < 0.2, "ends": ends,
            "logged": s.logged(r"\[DBG\].*TLS handshake (error|timeout)")}


@scenario("tls { %s, connection_rate_limit: 2 }" % SERVER)
def connection_rate_limit(s):
    result = []
    for _ in range(8):
        with s.client() as c:
            if c.info is None:
                result.append(c.take())
                continue
            c.handshake(context(s), "localhost")
            result.append(c.error or c.connect())
    time.sleep(1.1)
    # a slow machine may get into the next second
    return {"first": result[:2], "refused": "handshake refused" in result, "later": outcome(s, tls=context(s))}


@scenario('tls { %s }\nwrite_deadline: "500ms"\nmax_pending: 2000000' % SERVER)
def slow_consumer(s):
    """It is closed; the one who sends does not notice."""
    with s.client(tls=context(s), receive_bytes=8192) as slow, s.client(tls=context(s)) as fast:
        begun = [slow.connect(), fast.connect()]
        slow.send(b"SUB big 1\r\n")
        begun.append(slow.ping())
        body = b"x" * 500000
        for _ in range(20):
            fast.send(b"PUB big 500000\r\n" + body + b"\r\n")
        said = fast.ping(6)
        logged = s.logged(r"\[(WRN|INF)\].*Slow Consumer", 4)
        slow.rest(3)
        return {"begun": begun, "fast": said, "logged": logged, "slow": slow.error is not None}


@scenario("tls { %s }" % SERVER)
def both_ways_at_once(s):
    """Megabytes in both directions over one connection, in small and large writes."""
    result = []
    for version in (V12, V13):
        with s.client(tls=context(s, low=version, high=version), seconds=10) as c:
            result.append(c.connect())
            sent = b"".join(b"PUB e %d\r\n" % size + b"y" * size + b"\r\n"
                            for size in (1, 70000, 5, 300000, 16384, 900000, 0, 3) * 3)
            want = sum(len(b"MSG e 1 %d\r\n" % size) + size + 2
                       for size in (1, 70000, 5, 300000, 16384, 900000, 0, 3) * 3)
            c.send(b"SUB e 1\r\n")
            c.pump(sent, want)
            result.append(len(c.stream) == want)
            c.stream = b""
            result.append(c.ping())
    return result


@scenario("tls { %s }\nauthorization { user: a, password: b, timeout: 0.6 }" % SERVER)
def login_over_tls(s):
    with s.client(tls=context(s)) as c:
        begin = time.monotonic()
        silent = c.rest()
        took = time.monotonic() - begin
    return {"right": outcome(s, tls=context(s), connect={"user": "a", "pass": "b"}),
            "wrong": outcome(s, tls=context(s), connect={"user": "a", "pass": "c"}),
            "silent": silent, "in time": 0.4 < took < 1.6}


@scenario("tls { %s }" % SERVER)
def ends(s):
    """A client that says goodbye, one that does not, and one that sends rubbish inside a record."""
    result = {}
    with s.client(tls=context(s)) as c:
        result["before"] = c.connect()
        raw = c.sock.unwrap() if hasattr(c.sock, "unwrap") else c.sock
        raw.close()
    with s.client(tls=context(s)) as c:
        c.connect()
        raw = c.sock.detach()
        sock = socket.socket(fileno=raw)
        sock.settimeout(3)
        sock.sendall(b"\x17\x03\x03\x00\x20" + b"z" * 32)
        data = b""
        try:
            while True:
                part = sock.recv(4096)
                if not part:
                    break
                data += part
        except OSError:
            pass
        result["rubbish"] = "an alert" if data[:1] == b"\x15" else "closed"
        sock.close()
    result["after"] = outcome(s, tls=context(s))
    return result


V1 = b"PROXY TCP4 10.1.2.3 10.0.0.1 54321 4222\r\n"
V2 = (b"\r\n\r\n\0\r\nQUIT\n" + b"\x21\x11\x00\x0c" + bytes((10, 1, 2, 3, 10, 0, 0, 1)) +
      b"\xd4\x31\x10\x7e")


def behind_proxy(s, **options):
    """A login behind each kind of header, and without one."""
    result = {}
    for name, header in (("1", V1), ("2", V2), ("none", b"")):
        with s.client(tls=context(s), before=header, **options) as c:
            if c.error:
                result[name] = c.error
                continue
            result[name] = [flags(c.info), c.info.get("client_ip"), c.connect(protocol=1), echo(s, c, 100000)]
    return result


@scenario("tls { %s }\nproxy_protocol: true" % SERVER)
def proxy(s):
    return behind_proxy(s)


@scenario("tls { %s, handshake_first: true }\nproxy_protocol: true" % SERVER)
def proxy_and_handshake_first(s):
    return behind_proxy(s, first=True)


@scenario("tls { %s }\nallow_non_tls: true\nproxy_protocol: true" % SERVER)
def proxy_and_plain(s):
    result = behind_proxy(s)
    with s.client(before=V1) as c:
        result["plain"] = c.connect(protocol=1)
    return result


@scenario("tls { %s, verify_and_map: true }\nproxy_protocol: true\nauthorization { users: ["
          '{ user: "derek@example.org" }] }' % VERIFY.replace(", verify: true", ""))
def proxy_and_certificate(s):
    with s.client(tls=context(s, cert="client.pem"), before=V2) as c:
        return c.error or c.connect(protocol=1)


if __name__ == "__main__":
    compare.CONFIG_WORDS["PIN"] = pinned_config
    sys.exit(compare.main("tls", __doc__))
