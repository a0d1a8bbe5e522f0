"""Splits what a server sent into messages and puts them into a form that can be compared."""

import json
import re

MSG = re.compile(rb"(MSG) (\S+) (\S+)  ?(?:(\S+) )?(\d+)\r\n")  # two blanks: nats-server's own
#                                                                       messages without a reply
HMSG = re.compile(rb"(HMSG) (\S+) (\S+)  ?(?:(\S+) )?(\d+) (\d+)\r\n")

# What a service import makes of a reply is each server's own.
ROUTED_REPLY = re.compile(rb"_R_\.[A-Za-z0-9]{6}\.[A-Za-z0-9_.]+")

# Fields of INFO that may be there or not, and fields that must be there but differ by nature.
INFO_OPTIONAL = ("xkey", "git_commit", "ringbus")
INFO_VARYING = ("server_id", "version", "go", "port", "client_id")


def split(stream):
    """Bytes -> list of whole messages; the last element is an unfinished tail (may be empty)."""
    messages = []
    at = 0
    while True:
        end = stream.find(b"\r\n", at)
        if end < 0:
            return messages + [stream[at:]]
        end += 2
        line = stream[at:end]
        match = HMSG.fullmatch(line) or MSG.fullmatch(line)
        if match:
            end += int(match.group(match.lastindex)) + 2
            if end > len(stream):
                return messages + [stream[at:]]
        messages.append(stream[at:end])
        at = end


def normal_info(message):
    """INFO with its varying values blanked and its keys sorted; the framing stays as it came."""
    start, end = message.find(b"{"), message.rfind(b"}") + 1
    if start < 0 or end <= start:
        return message
    try:
        info = json.loads(message[start:end])
    except ValueError:
        return message
    if info.get("server_name") == info.get("server_id"):
        info["server_name"] = "*"
    for key in INFO_OPTIONAL:
        info.pop(key, None)
    for key in INFO_VARYING:
        if key in info:
            info[key] = "*"
    text = json.dumps(info, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return message[:start] + text.encode() + message[end:]


def is_delivery(message):
    return message.startswith((b"MSG ", b"HMSG "))


def mask_sid(message):
    parts = message.split(b" ", 3)
    parts[2] = b"*"
    return b" ".join(parts)


def mask_reply(message):
    head, end, body = message.partition(b"\r\n")
    return ROUTED_REPLY.sub(b"_R_.*", head) + end + body


def last_reply(stream):
    """The reply subject of the last delivery that has one."""
    for message in reversed(split(stream)):
        match = HMSG.match(message) or MSG.match(message)
        if match and match.group(4):
            return match.group(4)
    return b"nobody.asked"


def normal(stream, sort=False, hide_sid=False, keep_pings=False):
    """The comparable form of a stream.

    sort: deliveries that follow each other without anything between come in byte order, because
    the order among the subscriptions of one message is not promised.
    keep_pings: a PING of the server stays; else it is dropped, because on a busy machine the
    first one may come while an exchange is still running.
    hide_sid: the sid of a delivery becomes "*", because which queue member gets it is random.
    """
    result, run = [], []
    for message in split(stream):
        if message == b"PING\r\n" and not keep_pings:
            continue
        if message.startswith(b"INFO "):
            message = normal_info(message)
        message = mask_reply(message)
        if is_delivery(message):
            if hide_sid:
                message = mask_sid(message)
            if sort:
                run.append(message)
                continue
        result += sorted(run)
        run = []
        result.append(message)
    return b"".join(result + sorted(run))
