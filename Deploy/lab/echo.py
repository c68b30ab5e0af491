"""Echo requests out of a namespace. Not by ping(8): after its last request that waits no longer than two of the round trips
it has seen, which a busy machine exceeds."""

import errno
import ipaddress
import os
import select
import socket
import struct
import time

# linux/in.h, linux/in6.h
IP_MTU_DISCOVER, IPV6_MTU_DISCOVER, PMTUDISC_DO = 10, 23, 2


def ping(space, destination, count=5, interval=0.2, timeout=1, size=56, dont_fragment=False, pattern=b""):
    """Sends echo requests of `size` bytes of data, made of `pattern`, and waits up to `timeout` seconds after the last;
    returns (sent, answered)."""
    is_v6 = ipaddress.ip_address(destination).version == 6
    with space.entered():
        made = socket.socket(socket.AF_INET6 if is_v6 else socket.AF_INET, socket.SOCK_RAW,
                             socket.IPPROTO_ICMPV6 if is_v6 else socket.IPPROTO_ICMP)
    with made:
        made.setblocking(False)
        if dont_fragment and is_v6:
            made.setsockopt(socket.IPPROTO_IPV6, IPV6_MTU_DISCOVER, PMTUDISC_DO)
        elif dont_fragment:
            made.setsockopt(socket.IPPROTO_IP, IP_MTU_DISCOVER, PMTUDISC_DO)
        made.connect((destination, 0))
        return exchange(made, is_v6, count, interval, timeout, data(size, pattern))


def data(size, pattern):
    pattern = pattern or bytes(range(256))
    return (pattern * (size // len(pattern) + 1))[:size]


def exchange(made, is_v6, count, interval, timeout, payload):
    identifier = struct.unpack("!H", os.urandom(2))[0]
    answered = set()
    began = time.monotonic()
    for number in range(count):
        receive(made, is_v6, identifier, answered, count, began + number * interval)
        send(made, request(is_v6, identifier, number, payload))
    receive(made, is_v6, identifier, answered, count, time.monotonic() + timeout)
    return count, len(answered)


def request(is_v6, identifier, number, payload):
    kind = 128 if is_v6 else 8
    head = struct.pack("!BBHHH", kind, 0, 0, identifier, number & 0xffff)
    # ICMPv6's is the kernel's to fill in.
    return head[:2] + struct.pack("!H", 0 if is_v6 else checksum(head + payload)) + head[4:] + payload


def checksum(packet):
    total = sum(struct.unpack(f"!{(len(packet) + 1) // 2}H", packet + bytes(len(packet) % 2)))
    while total >> 16:
        total = (total & 0xffff) + (total >> 16)
    return ~total & 0xffff


def send(made, packet):
    try:
        made.send(packet)
    except OSError as error:
        # Larger than the path is known to take, or what an earlier one came to: an answer less.
        if error.errno not in (errno.EMSGSIZE, errno.EHOSTUNREACH, errno.ECONNREFUSED, errno.EAGAIN):
            raise


def receive(made, is_v6, identifier, answered, count, deadline):
    """Takes answers until the deadline, or until there is one to every request."""
    while len(answered) < count and (left := deadline - time.monotonic()) > 0:
        if not select.select([made], [], [], left)[0]:
            return
        try:
            packet = made.recv(65536)
        except OSError:
            continue
        if not is_v6:
            packet = packet[(packet[0] & 15) * 4:]
        kind, _, _, found, number = struct.unpack_from("!BBHHH", packet)
        if kind == (129 if is_v6 else 0) and found == identifier:
            answered.add(number)
