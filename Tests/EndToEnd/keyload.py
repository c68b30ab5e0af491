#!/usr/bin/python3 -B
"""A key daemon that makes CHILD SAs by the thousand, as charon does (NETLINK_XFRM) or as iked does (PF_KEYv2, Linux's
numbers), on the gateway's own sockets. Requests go in bursts; every one's answer is waited for and checked.

usage: keyload.py RUN_DIR xfrm|pfkey COUNT [--local ADDRESS] [--one-peer] [--no-policies] [--window N] [--keep]
                                                        installs, lists, rekeys and deletes; a line of JSON for each
"""

import argparse
import ipaddress
import json
import os
import pathlib
import socket
import struct
import sys
import time

from keywire import (
    AES_CBC, ALLOCSPI, ANY_ALGORITHM, ATTR_AEAD, ATTR_REPLAY_ESN, ATTR_TEMPLATES, DELPOLICY, DELSA,
    DESTINATION, ESP, EXT_SA, FOREVER, GETSA, HARD, HEADER, KEY_AUTH, KEY_ENCRYPT, LIMITS, NETLINK, NEWPOLICY,
    NEWSA, NLMSG_DONE, NLMSG_ERROR, NLMSG_NOOP, NLM_ACK, NLM_DUMP, NLM_REQUEST, POLICY, POLICY_ID, POLICY_INFO, SA2,
    SADB_ADD, SADB_DELETE, SADB_DUMP, SADB_GETSPI, SADB_REGISTER, SADB_UPDATE, SATYPE_ESP, SA_ID, SA_INFO, SELECTOR,
    SHA2_512, SOFT, SOURCE, SPDDELETE, SPDUPDATE, SPI, SPIRANGE, TEMPLATE, TUNNEL, UPDPOLICY, UPDSA, attribute,
    messages, wide)

LAN = ("192.168.60.0", 24)
FIRST_PEER = int(ipaddress.ip_address("100.64.0.1"))
FIRST_HOST = int(ipaddress.ip_address("10.0.0.1"))
SOFT_SECONDS, HARD_SECONDS = 36_000, 40_000
# In both protocols: where a message has its number, and its sender's.
SEQUENCE, PROCESS = 8, 12
WORD = struct.Struct("=I")


class Refused(Exception):
    """The gateway answered a request with an error."""


class Child:
    """One CHILD SA: a pair of SAs between the gateway and a peer, for one host behind the peer."""

    def __init__(self, number, local, one_peer=False):
        self.request_id = number + 1
        self.local = ipaddress.ip_address(local).packed
        self.peer = (FIRST_PEER + (0 if one_peer else number)).to_bytes(4, "big")
        self.host = (FIRST_HOST + number).to_bytes(4, "big")
        self.lan = ipaddress.ip_address(LAN[0]).packed
        self.inbound = None
        self.outbound = None
        self.generation = 0

    def next_outbound(self):
        """What the peer would have chosen."""
        self.generation += 1
        return 0xc0000000 + (self.generation & 0xff) * 0x100000 + self.request_id


class Conversation:
    """A generator's requests that wait for their answers."""

    __slots__ = ("steps", "answers", "missing")

    def __init__(self, steps):
        self.steps, self.answers, self.missing = steps, [], 0


class Client:
    """One socket. Conversations are generators: they yield a list of requests and are sent the list of answers."""

    def __init__(self, path, window=64):
        self.window = window
        self.sequence = 0
        self.requests = 0
        self.notices = 0
        self.slowest = 0.0
        self.waiting = {}
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.socket.settimeout(30)
        self.socket.connect(str(path))

    def close(self):
        self.socket.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def run(self, conversations):
        """All of them, as many at a time as the window has room for. Returns how long it took, in seconds."""
        began = time.monotonic()
        todo = iter(conversations)
        ready = []
        while True:
            while len(self.waiting) < self.window:
                steps = ready.pop() if ready else next(todo, None)
                if steps is None:
                    break
                self._advance(steps if isinstance(steps, Conversation) else Conversation(steps))
            if not self.waiting:
                return time.monotonic() - began
            ready += self._receive()

    def call(self, *requests):
        """The answers to some requests."""
        answers = []

        def steps():
            answers.extend((yield list(requests)))
        self.run([steps()])
        return answers

    def _advance(self, conversation):
        """Sends what a conversation has to say next, if anything."""
        try:
            requests = conversation.steps.send(conversation.answers or None)
        except StopIteration:
            return
        conversation.answers, conversation.missing = [], len(requests)
        for request in requests:
            self.sequence += 1
            WORD.pack_into(request, SEQUENCE, self.sequence)
            self.waiting[self.sequence] = (conversation, request, time.monotonic())
            self.socket.send(request)
        self.requests += len(requests)

    def _receive(self):
        """The conversation that can go on after the next datagram, or none."""
        datagram = self.socket.recv(65536)
        if not datagram:
            raise Refused("the gateway closed the socket")
        sequence = WORD.unpack_from(datagram, SEQUENCE)[0]
        if sequence not in self.waiting or self.is_notice(datagram):
            self.notices += 1
            return []
        conversation, request, sent = self.waiting.pop(sequence)
        self.slowest = max(self.slowest, time.monotonic() - sent)
        error = self.error(datagram)
        if error:
            raise Refused(f"{self.name(request)}: {os.strerror(error)}")
        conversation.answers.append(datagram)
        conversation.missing -= 1
        return [] if conversation.missing else [conversation]

    # What a daemon does

    def install(self, children, policies=True):
        return self.run(self.installing(child, policies) for child in children)

    def rekey(self, children, policies=True):
        """New SAs beside the old, policies to the new, then the old are deleted."""
        return self.run(self.rekeying(child, policies) for child in children)

    def delete(self, children, policies=True):
        return self.run(self.deleting(child, policies) for child in children)

    def rekeying(self, child, policies):
        old = (child.inbound, child.outbound)
        yield from self.installing(child, policies, rekeys=True)
        yield [self.delete_sa(child, spi, inbound) for spi, inbound in zip(old, (True, False))]

    def deleting(self, child, policies):
        requests = self.delete_policies(child) if policies else []
        yield requests + [self.delete_sa(child, child.inbound, True), self.delete_sa(child, child.outbound, False)]


# MARK: NETLINK_XFRM

OUT, IN, FORWARD = 1, 0, 2
# ACQUIRE, EXPIRE, MIGRATE, MAPPING: what charon's event socket joins.
DAEMON_GROUPS = 0xC3
AF_INET = socket.AF_INET
ANY_SELECTOR = bytes(SELECTOR.size)
NO_LIMITS = LIMITS.pack(*[FOREVER] * 4, 0, 0, 0, 0)
CHILD_LIMITS = LIMITS.pack(*[FOREVER] * 4, SOFT_SECONDS, HARD_SECONDS, 0, 0)
AF_UNSPEC_ESN = 0xA0


def netlink(kind, body, flags=NLM_REQUEST | NLM_ACK):
    return bytearray(NETLINK.pack(NETLINK.size + len(body), kind, flags, 0, 0) + body)


class XFRM(Client):
    """charon: AES-256-GCM with ESN, tunnel mode, three policies."""

    kind = "xfrm"
    requests_per_install = 6

    def __init__(self, run_dir, window=64, groups=0):
        super().__init__(pathlib.Path(run_dir) / "xfrm.sock", window)
        # What the shim says of a socket: its port and groups.
        hello = struct.pack("=IIIII", 0x80000000 | os.getpid(), groups, 0, 0, 0)
        self.socket.send(netlink(NLMSG_NOOP, hello, flags=0))

    @staticmethod
    def is_notice(datagram):
        return WORD.unpack_from(datagram, PROCESS)[0] != 0x80000000 | os.getpid()

    @staticmethod
    def error(datagram):
        kind = struct.unpack_from("=H", datagram, 4)[0]
        return -struct.unpack_from("=i", datagram, 16)[0] if kind == NLMSG_ERROR else 0

    @staticmethod
    def name(request):
        return f"XFRM message 0x{struct.unpack_from('=H', request, 4)[0]:x}"

    def installing(self, child, policies, rekeys=False):
        answer, = yield [netlink(ALLOCSPI, self._info(child, 0, True, 0) + struct.pack("=II", 0xC0000000, 0xCFFFFFFF),
                                 flags=NLM_REQUEST)]
        child.inbound = SPI.unpack_from(answer, NETLINK.size + 72)[0]
        child.outbound = child.next_outbound()
        requests = [netlink(UPDSA, self._sa(child, child.inbound, True, 32)),
                    netlink(NEWSA, self._sa(child, child.outbound, False, 1))]
        if policies:
            requests += [netlink(UPDPOLICY if rekeys else NEWPOLICY, self._policy(child, way))
                         for way in ((OUT,) if rekeys else (OUT, IN, FORWARD))]
        yield requests

    def delete_sa(self, child, spi, inbound):
        destination = child.local if inbound else child.peer
        return netlink(DELSA, SA_ID.pack(wide(destination), SPI.pack(spi), AF_INET, ESP))

    def delete_policies(self, child):
        return [netlink(DELPOLICY, POLICY_ID.pack(self._selector(child, way), 0, way))
                for way in (OUT, IN, FORWARD)]

    def dump(self, kind=GETSA):
        """How many SAs (policies) a dump gives."""
        self.sequence += 1
        request = netlink(kind, b"", flags=NLM_REQUEST | NLM_DUMP)
        WORD.pack_into(request, SEQUENCE, self.sequence)
        self.socket.send(request)
        count = 0
        while True:
            for message, _, body in messages(self.socket.recv(65536)):
                if message == NLMSG_DONE:
                    return count
                if message == NLMSG_ERROR:
                    raise Refused(f"dump: {os.strerror(-struct.unpack_from('=i', body)[0])}")
                count += 1

    @staticmethod
    def _ends(child, inbound):
        return (child.peer, child.local) if inbound else (child.local, child.peer)

    def _info(self, child, spi, inbound, flags):
        source, destination = self._ends(child, inbound)
        return SA_INFO.pack(ANY_SELECTOR, wide(destination), SPI.pack(spi), ESP, wide(source), CHILD_LIMITS, 0,
                            child.request_id, AF_INET, 1, 0, flags)

    def _sa(self, child, spi, inbound, window):
        aead = struct.pack("=64sII", b"rfc4106(gcm(aes))", 288, 128) + os.urandom(36)
        replay = struct.pack("=7I", 1, 0, 0, 0, 0, window, 0)
        return self._info(child, spi, inbound, AF_UNSPEC_ESN) + attribute(ATTR_AEAD, aead) + attribute(ATTR_REPLAY_ESN, replay)

    @staticmethod
    def _selector(child, way):
        near, far = (child.lan, LAN[1]), (child.host, 32)
        source, destination = (near, far) if way == OUT else (far, near)
        return SELECTOR.pack(wide(destination[0]), wide(source[0]), 0, 0, 0, 0, AF_INET, destination[1], source[1])

    def _policy(self, child, way):
        info = POLICY_INFO.pack(self._selector(child, way), NO_LIMITS, 375_423, 0, way, 0, 0, 0)
        source, destination = self._ends(child, way != OUT)
        # The template of the outbound policy names the SA.
        spi = SPI.pack(child.outbound if way == OUT else 0)
        template = TEMPLATE.pack(wide(destination), spi, ESP, AF_INET, wide(source), child.request_id, 1, 0, 0,
                                 ANY_ALGORITHM, ANY_ALGORITHM, ANY_ALGORITHM)
        return info + attribute(ATTR_TEMPLATES, template)


# MARK: PF_KEYv2

SA_EXTENSION = struct.Struct("=HH4sBBBBI")
SA2_EXTENSION = struct.Struct("=HHBBHII")
ADDRESS_EXTENSION = struct.Struct("=HHBBHHH4s8x")
LIFETIME_EXTENSION = struct.Struct("=HHIQQQ")
LIFETIMES = (LIFETIME_EXTENSION.pack(4, HARD, 0, 0, HARD_SECONDS, 0)
             + LIFETIME_EXTENSION.pack(4, SOFT, 0, 0, SOFT_SECONDS, 0))


def pfkey(kind, *extensions, sa_type=SATYPE_ESP):
    body = b"".join(extensions)
    return bytearray(HEADER.pack(2, kind, 0, sa_type, (HEADER.size + len(body)) // 8, 0, 0, os.getpid()) + body)


def key(kind, secret):
    return struct.pack("=HHHH", 1 + len(secret) // 8, kind, 8 * len(secret), 0) + secret


class PFKey(Client):
    """iked: AES-256-CBC with HMAC-SHA2-512, tunnel mode, request id 0, three policies."""

    kind = "pfkey"
    requests_per_install = 6

    def __init__(self, run_dir, window=64, register=False):
        super().__init__(pathlib.Path(run_dir) / "pfkey.sock", window)
        # A hello: Linux's numbers.
        self.call(pfkey(0, sa_type=1))
        if register:
            self.call(pfkey(SADB_REGISTER))

    @staticmethod
    def is_notice(datagram):
        return WORD.unpack_from(datagram, PROCESS)[0] != os.getpid()

    @staticmethod
    def error(datagram):
        return datagram[2]

    @staticmethod
    def name(request):
        return f"PF_KEY message {request[1]}"

    def installing(self, child, policies, rekeys=False):
        spi_range = struct.pack("=HHIII", 2, SPIRANGE, 0x100, 0xFFFFFFFF, 0)
        answer, = yield [pfkey(SADB_GETSPI, spi_range, self._address(SOURCE, child.peer), self._address(DESTINATION, child.local))]
        child.inbound = SPI.unpack_from(answer, HEADER.size + 4)[0]
        child.outbound = child.next_outbound()
        requests = [self._sa(SADB_UPDATE, child, child.inbound, True), self._sa(SADB_ADD, child, child.outbound, False)]
        # iked keeps its flows over a rekey.
        if policies and not rekeys:
            requests += [self._policy(SPDUPDATE, child, way) for way in (3, 2, 1)]
        yield requests

    def delete_sa(self, child, spi, inbound):
        return pfkey(SADB_DELETE, SA_EXTENSION.pack(2, EXT_SA, SPI.pack(spi), 0, 0, 0, 0, 0), *self._addresses(child, inbound))

    def delete_policies(self, child):
        return [self._policy(SPDDELETE, child, way) for way in (3, 2, 1)]

    def dump(self, kind=SADB_DUMP):
        """How many SAs (policies) a dump gives: one a message, the last has number 0."""
        self.socket.send(pfkey(kind, sa_type=0))
        count, announced = 0, None
        while True:
            datagram = self.socket.recv(65536)
            if datagram[1] != kind:
                self.notices += 1
                continue
            if datagram[2]:
                raise Refused(f"dump: {os.strerror(datagram[2])}")
            left = WORD.unpack_from(datagram, SEQUENCE)[0]
            announced = left + 1 if announced is None else announced
            count += 1
            if left == 0:
                if count != announced:
                    raise Refused(f"a dump of {announced} had {count}")
                return count

    @staticmethod
    def _address(kind, address, prefix=32, protocol=0):
        return ADDRESS_EXTENSION.pack(3, kind, protocol, prefix, 0, AF_INET, 0, address)

    def _addresses(self, child, inbound):
        ends = (child.peer, child.local) if inbound else (child.local, child.peer)
        return [self._address(kind, address) for kind, address in zip((SOURCE, DESTINATION), ends)]

    def _sa(self, kind, child, spi, inbound):
        return pfkey(kind, SA_EXTENSION.pack(2, EXT_SA, SPI.pack(spi), 64, 1, SHA2_512, AES_CBC, 0),
                     SA2_EXTENSION.pack(2, SA2, TUNNEL, 0, 0, 0, 0), *self._addresses(child, inbound), LIFETIMES,
                     key(KEY_ENCRYPT, os.urandom(32)), key(KEY_AUTH, os.urandom(64)))

    def _policy(self, kind, child, way):
        """`way`: forward 3, out 2, in 1."""
        near, far = (child.lan, LAN[1]), (child.host, 32)
        source, destination = (near, far) if way == 2 else (far, near)
        ends = (child.local, child.peer) if way == 2 else (child.peer, child.local)
        request = struct.pack("=HHBBHII", 48, ESP, 2, 2, 0, 0, 0) + b"".join(
            struct.pack("=HH4s8x", AF_INET, 0, address) for address in ends)
        policy = struct.pack("=HHHBBII", 8, POLICY, 2, way, 0, 0, 0) + request
        return pfkey(kind, self._address(SOURCE, *source, protocol=255), self._address(DESTINATION, *destination,
                                                                                      protocol=255), policy, sa_type=0)


CLIENTS = {"xfrm": XFRM, "pfkey": PFKey}


def resident(process):
    """Bytes of memory of a process."""
    with open(f"/proc/{process}/status", encoding="ascii") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmRSS:"))


def peer_process(client):
    """Who listens at the other end."""
    return struct.unpack("3i", client.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run_dir")
    parser.add_argument("socket", choices=CLIENTS)
    parser.add_argument("count", type=int)
    parser.add_argument("--local", default="202.245.63.218", help="the gateway's own address")
    parser.add_argument("--one-peer", action="store_true", help="all with the same peer, not each with its own")
    parser.add_argument("--no-policies", action="store_true")
    parser.add_argument("--window", type=int, default=64, help="requests under way")
    parser.add_argument("--keep", action="store_true", help="no rekey, and no deletion at the end")
    options = parser.parse_args()
    children = [Child(number, options.local, options.one_peer) for number in range(options.count)]
    policies = not options.no_policies
    with CLIENTS[options.socket](options.run_dir, options.window) as client:
        gateway = peer_process(client)

        def report(what, seconds):
            print(json.dumps({"step": what, "seconds": round(seconds, 3), "children_a_second": round(options.count / seconds),
                              "slowest_answer_ms": round(client.slowest * 1000, 1), "resident": resident(gateway)}),
                  flush=True)
            client.slowest = 0

        print(json.dumps({"step": "start", "resident": resident(gateway)}), flush=True)
        report("install", client.install(children, policies))
        began = time.monotonic()
        client.dump()
        report("dump", time.monotonic() - began)
        if not options.keep:
            report("rekey", client.rekey(children, policies))
            report("delete", client.delete(children, policies))


if __name__ == "__main__":
    sys.exit(main())
