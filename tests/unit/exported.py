#!/usr/bin/env python3
"""The shared library shows what its headers declare, and nothing else; the archive's names all begin with rb_.

  exported.py LIBRARY ARCHIVE HEADER...
"""

import re
import shutil
import subprocess
import sys

if shutil.which("nm") is None:
    print("nm is not installed: skipped")
    sys.exit(77)
shown = subprocess.run(["nm", "-D", "--defined-only", sys.argv[1]], capture_output=True, check=True,
                       text=True).stdout
shown = {line.split()[2].split("@")[0] for line in shown.splitlines()}
declared = set()
for path in sys.argv[3:]:
    with open(path, encoding="utf-8") as file:
        for text in re.findall(r"^RB_API ([^;]+);", file.read(), re.M):
            declared.add(re.search(r"(rb_\w+)\(", text).group(1))
assert declared, "no declarations found"
assert shown == declared, "only in one: %s" % sorted(shown ^ declared)
archive = subprocess.run(["nm", "-g", "--defined-only", sys.argv[2]], capture_output=True, check=True,
                         text=True).stdout
foreign = {line.split()[2] for line in archive.splitlines()
           if len(line.split()) == 3 and not line.split()[2].startswith("rb_")}
assert not foreign, "may collide with a program's own names: %s" % sorted(foreign)
print("exported: %d functions" % len(shown))
