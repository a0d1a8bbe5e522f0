"""nats-py for clients.py: client_nats_py.py DOCUMENT. Runs in an environment that has it."""

import asyncio
import importlib.util
import json
import os
import ssl
import sys

sys.path = [path for path in sys.path if os.path.abspath(path) != os.path.dirname(os.path.abspath(__file__))]
import nats  # noqa: E402 pylint: disable=wrong-import-position


async def main(login):
    secure = None
    if "ca" in login:
        secure = ssl.create_default_context(cafile=login["ca"])
        if "cert" in login:
            secure.load_cert_chain(login["cert"], login["key"])
    if login.get("ws") and importlib.util.find_spec("aiohttp") is None:
        print("skip: aiohttp is not there")
        return
    scheme = "ws" if login.get("ws") else "tls" if secure else "nats"
    options = {name: login[field] for name, field in (("user", "user"), ("password", "pass"), ("token", "token"))
               if field in login}
    if "seed_file" in login:
        options["nkeys_seed"] = login["seed_file"]
    try:
        conn = await asyncio.wait_for(nats.connect("%s://%s:%d" % (scheme, login["host"], login["port"]), tls=secure,
                                  tls_hostname=login["host"] if secure else None, allow_reconnect=False,
                                  max_reconnect_attempts=0, connect_timeout=4, **options), 10)
        reply = await conn.request("ask", b"ping", timeout=4)
        await conn.close()
    except Exception as error:  # pylint: disable=broad-except
        print("refused: %r" % error)
    else:
        print(reply.data.decode())


asyncio.run(main(json.loads(sys.argv[1])))
