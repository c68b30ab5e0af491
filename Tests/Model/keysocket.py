"""SAs and policies of a world as NETLINK_XFRM messages (linux/xfrm.h), for gwd's key socket."""

import contextlib
import dataclasses
import socket
import struct

import keywire
import wire
from rawkeys import XFRMClient, algorithm

ATTR_ENCAP, ATTR_MARK, ATTR_IF_ID = 4, 21, 31
FLAG_AF_UNSPEC, FLAG_ESN = 0x20, 0x80
MODES = {"transport": 0, "tunnel": 1}
DIRECTIONS = {"in": 0, "out": 1, "forward": 2}
ALLOW, BLOCK = 0, 1
UDP_ENCAP_ESPINUDP = 2

# destination, source, destination port and mask, source port and mask, family, prefix lengths, protocol
SELECTOR = struct.Struct("!16s16sHHHH2sBBB11x")


def selector(source, destination, protocol=0, source_port=0, destination_port=0):
    source, destination = wire.network(source), wire.network(destination)
    family = socket.AF_INET if source.version == 4 else socket.AF_INET6
    return SELECTOR.pack(keywire.wide(destination.network_address.packed), keywire.wide(source.network_address.packed),
                         destination_port, 0xFFFF * bool(destination_port), source_port, 0xFFFF * bool(source_port),
                         struct.pack("=H", family), destination.prefixlen, source.prefixlen, protocol)


def _family(packed):
    return socket.AF_INET if len(packed) == 4 else socket.AF_INET6


def new_sa(sa):
    """NEWSA's body."""
    source, destination = sa.ends
    chosen = selector(*sa.selector) if sa.selector else bytes(56)
    limit = sa.packet_limit or keywire.FOREVER
    limits = keywire.LIMITS.pack(keywire.FOREVER, keywire.FOREVER, keywire.FOREVER, limit, 0, 0, 0, 0)
    flags = (0 if sa.selector else FLAG_AF_UNSPEC) | FLAG_ESN * sa.esn
    body = keywire.SA_INFO.pack(chosen, keywire.wide(destination), sa.spi.to_bytes(4, "big"), sa.protocol,
                                keywire.wide(source), limits, 0, sa.reqid, _family(destination), MODES[sa.mode],
                                0 if sa.esn else min(sa.window, 32), flags)
    encryption, integrity = bytes.fromhex(sa.encryption), bytes.fromhex(sa.integrity)
    if sa.transform.startswith("gcm"):
        body += keywire.attribute(keywire.ATTR_AEAD, algorithm("rfc4106(gcm(aes))", encryption, 128))
    elif sa.transform == "chacha":
        body += keywire.attribute(keywire.ATTR_AEAD, algorithm("rfc7539esp(chacha20,poly1305)", encryption, 128))
    else:
        if sa.protocol == keywire.ESP:
            name = "cbc(aes)" if encryption else "ecb(cipher_null)"
            body += keywire.attribute(keywire.ATTR_CRYPT, algorithm(name, encryption))
        body += keywire.attribute(keywire.ATTR_AUTH_TRUNC, algorithm("hmac(sha256)", integrity, 128))
    if sa.esn or sa.window > 32:
        words = (sa.window + 31) // 32
        state = struct.pack("=6I", words, 0, 0, 0, 0, sa.window) + bytes(4 * words)
        body += keywire.attribute(keywire.ATTR_REPLAY_ESN, state)
    if sa.encapsulation:
        body += keywire.attribute(ATTR_ENCAP, struct.pack("=H", UDP_ENCAP_ESPINUDP)
                                  + struct.pack("!HH", *sa.encapsulation) + bytes(18))
    return body


def new_policy(policy, direction):
    """NEWPOLICY's body."""
    action = BLOCK if policy.type == "deny" else ALLOW
    chosen = selector(policy.source, policy.destination, policy.protocol, policy.source_port, policy.destination_port)
    body = keywire.POLICY_INFO.pack(chosen, keywire.LIMITS.pack(*[keywire.FOREVER] * 4, 0, 0, 0, 0), policy.priority, 0,
                                    DIRECTIONS[direction], action, 0, 0)
    if policy.type == "require":
        ends = (policy.local, policy.peer) if direction == "out" else (policy.peer, policy.local)
        source, destination = (wire.packed(end) if end else b"" for end in ends)
        body += keywire.attribute(keywire.ATTR_TEMPLATES, keywire.TEMPLATE.pack(
            keywire.wide(destination), bytes(4), policy.ipsec_protocol, _family(source or destination),
            keywire.wide(source), policy.reqid, MODES[policy.mode], 0, 0, *[keywire.ANY_ALGORITHM] * 3))
    return body + names(policy)


def policy_name(policy, direction):
    """DELPOLICY's body."""
    chosen = selector(policy.source, policy.destination, policy.protocol, policy.source_port, policy.destination_port)
    return keywire.POLICY_ID.pack(chosen, 0, DIRECTIONS[direction]) + names(policy)


def sa_name(sa):
    """DELSA's body."""
    return keywire.SA_ID.pack(keywire.wide(sa.ends[1]), sa.spi.to_bytes(4, "big"), _family(sa.ends[1]), sa.protocol)


def directions(policy):
    """Linux asks for a policy "forward" beside that "in" where a packet goes on."""
    return ("in", "forward") if policy.direction == "in" else ("out",)


def names(policy):
    """What else names a policy: an interface, a mark."""
    body = keywire.attribute(ATTR_IF_ID, struct.pack("=I", policy.interface)) if policy.interface else b""
    return body + (keywire.attribute(ATTR_MARK, struct.pack("=II", policy.mark, 0xFFFFFFFF)) if policy.mark else b"")


class KeySocket:
    """A key daemon's connection, which lasts as long as gwd: what it loads stays."""

    def __init__(self, gateway):
        self.client = XFRMClient(gateway)

    def load(self, world):
        for sa in world.sas:
            if sa.way == "xfrm":
                self.client.expect(keywire.NEWSA, new_sa(sa))
        for policy in world.policies:
            if policy.way == "xfrm":
                for direction in directions(policy):
                    self.client.expect(keywire.NEWPOLICY, new_policy(policy, direction))

    def change(self, before, after):
        """What has gone is deleted, what is new is added."""
        for policy in set(before.policies) - set(after.policies):
            if policy.way == "xfrm":
                for direction in directions(policy):
                    self.client.expect(keywire.DELPOLICY, policy_name(policy, direction))
        for sa in set(before.sas) - set(after.sas):
            if sa.way == "xfrm":
                # What is spent is gone already.
                with contextlib.suppress(*[ProcessLookupError] * bool(sa.packet_limit)):
                    self.client.expect(keywire.DELSA, sa_name(sa))
        self.load(dataclasses.replace(
            after, sas=tuple(sa for sa in after.sas if sa not in before.sas),
            policies=tuple(policy for policy in after.policies if policy not in before.policies)))

    def close(self):
        self.client.close()
