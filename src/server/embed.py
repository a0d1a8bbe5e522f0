#!/usr/bin/env python3
"""Writes a file's bytes as a C array: embed.py INPUT OUTPUT NAME."""

import sys


def main():
    source, target, name = sys.argv[1:4]
    with open(source, "rb") as file:
        data = file.read()
    lines = [", ".join("0x%02x" % byte for byte in data[at:at + 16]) + ","
             for at in range(0, len(data), 16)]
    with open(target, "w", encoding="ascii") as file:
        file.write("#include <stddef.h>\n")
        file.write("extern const unsigned char %s[];\nextern const size_t %s_len;\n" % (name, name))
        file.write("const unsigned char %s[] = {\n%s\n};\n" % (name, "\n".join(lines)))
        file.write("const size_t %s_len = %d;\n" % (name, len(data)))


if __name__ == "__main__":
    main()
