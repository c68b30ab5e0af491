#!/usr/bin/python3 -B
"""One end of a stream of numbered UDP packets, both ways at once: sends at a steady rate and notes what comes.

usage: udpstream.py LOCAL REMOTE PORT PACKETS_PER_SECOND SECONDS      prints a line of JSON at the end

The other end is the same program with the addresses exchanged. It begins to send when it is told so by a line on its
standard input, ends sooner at a second line, and listens for two seconds after its last packet and for as long as
something comes.
"""

import json
import select
import socket
import struct
import sys
import threading
import time

# number, and the sender's clock in ns.
HEADER = struct.Struct("!QQ")
SIZES = (64, 200, 512, 1000, 1300)


def send(made, remote, rate, seconds, result, stopped):
    began = time.monotonic()
    number = 0
    total = int(rate * seconds)
    padding = bytes(max(SIZES))
    while number < total and not stopped.is_set():
        due = min(total, int((time.monotonic() - began) * rate) + 1)
        # After a pause, not everything at once: queues on the way are of finite length.
        for number in range(number, min(due, number + 64)):
            size = SIZES[number % len(SIZES)] - HEADER.size
            made.sendto(HEADER.pack(number, time.monotonic_ns()) + padding[:size], remote)
            number += 1
        time.sleep(0.002)
    result["sent"] = number


def counters():
    """What the kernel of this namespace has dropped of UDP."""
    with open("/proc/net/snmp", encoding="ascii") as file:
        names, values = [line.split()[1:] for line in file if line.startswith("Udp:")]
    found = dict(zip(names, map(int, values)))
    return {name: found[name] for name in ("InErrors", "RcvbufErrors", "SndbufErrors", "InCsumErrors")}


def ranges(numbers, limit=20):
    """[[first, last], …]"""
    found = []
    for number in numbers:
        if found and found[-1][1] == number - 1:
            found[-1][1] = number
        else:
            found.append([number, number])
    return found[:limit]


def main():
    local, remote, port, rate, seconds = sys.argv[1], sys.argv[2], *map(int, sys.argv[3:6])
    made = socket.socket(socket.AF_INET6 if ":" in local else socket.AF_INET, socket.SOCK_DGRAM)
    for option in (socket.SO_RCVBUF, 33):  # SO_RCVBUFFORCE: root may have more than net.core.rmem_max
        made.setsockopt(socket.SOL_SOCKET, option, 128 << 20)
    made.setsockopt(socket.SOL_SOCKET, 32, 16 << 20)  # SO_SNDBUFFORCE
    made.bind((local, port))
    before = counters()
    print("ready", flush=True)
    result = {}
    sys.stdin.readline()
    stopped = threading.Event()
    sender = threading.Thread(target=send, args=(made, (remote, port), rate, seconds, result, stopped))
    sender.start()
    # A closed input is no word to stop.
    threading.Thread(target=lambda: sys.stdin.readline() and stopped.set(), daemon=True).start()
    seen = bytearray(rate * seconds)
    duplicates, stray, slowest, last, gap, highest = [], 0, 0, time.monotonic(), 0, -1
    while sender.is_alive() or time.monotonic() - last < 2:
        if not select.select([made], [], [], 0.2)[0]:
            continue
        packet = made.recv(2048)
        now = time.monotonic()
        gap, last = max(gap, now - last if highest >= 0 else 0), now
        number, at = HEADER.unpack_from(packet)
        if number >= len(seen):
            stray += 1
        elif seen[number]:
            duplicates.append(number)
        else:
            seen[number] = 1
            highest = max(highest, number)
            slowest = max(slowest, time.monotonic_ns() - at)
    sender.join()
    # What of the end is missing shows by comparison with what the other end has sent.
    missing = [number for number in range(highest) if not seen[number]]
    result.update(received=sum(seen), longest_gap_ms=round(gap * 1e3, 1), missing=ranges(missing), duplicates=ranges(duplicates), stray=stray,
                  slowest_ms=round(slowest / 1e6, 1),
                  kernel={name: value - before[name] for name, value in counters().items()})
    print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
