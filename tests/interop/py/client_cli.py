"""The `nats` tool for clients.py: client_cli.py TOOL DOCUMENT."""

import json
import subprocess
import sys

tool, login = sys.argv[1], json.loads(sys.argv[2])
if login.get("ws"):
    url = "ws://%s:%d" % (login["host"], login["port"])
else:
    url = "%s://%s:%d" % ("tls" if "ca" in login else "nats", login["host"], login["port"])
flags = ["--server", url, "--timeout", "4s"]
for name, flag in (("user", "--user"), ("pass", "--password"), ("token", "--user"), ("seed_file", "--nkey"),
                   ("ca", "--tlsca"), ("cert", "--tlscert"), ("key", "--tlskey")):
    if login.get(name):
        flags += [flag, login[name]]
done = subprocess.run([tool, "--no-context", *flags, "request", "ask", "ping", "--raw"], capture_output=True, timeout=30,
                      check=False)
said = (done.stdout + done.stderr).decode("utf-8", "replace").strip()
print(said.split("\n")[0] if done.returncode == 0 else "refused: " + said.split("\n")[-1])
