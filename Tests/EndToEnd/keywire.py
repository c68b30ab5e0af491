"""The messages of gwd's key sockets in bytes: NETLINK_XFRM (linux/xfrm.h) and PF_KEYv2 (RFC 2367, Linux's dialect)."""

import struct

ESP = 50

# NETLINK_XFRM

NEWSA, DELSA, GETSA, NEWPOLICY, DELPOLICY, GETPOLICY, ALLOCSPI, ACQUIRE, EXPIRE, UPDPOLICY, UPDSA = range(0x10, 0x1B)
NEWSADINFO, GETSADINFO = 0x22, 0x23
NLM_REQUEST, NLM_ACK, NLM_DUMP = 0x1, 0x4, 0x300
NLMSG_NOOP, NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 1, 2, 3, 4
ATTR_CRYPT, ATTR_TEMPLATES, ATTR_AEAD, ATTR_AUTH_TRUNC, ATTR_REPLAY_ESN = 2, 5, 18, 20, 23
FOREVER = (1 << 64) - 1
ANY_ALGORITHM = (1 << 32) - 1

SPI = struct.Struct("!I")
# length, type, flags, sequence, port
NETLINK = struct.Struct("=IHHII")
# destination, source, four of ports, family, both prefix lengths
SELECTOR = struct.Struct("=16s16sHHHHHBB12x")
# bytes soft and hard, packets, seconds since add, seconds since use
LIMITS = struct.Struct("=8Q")
# selector, destination, SPI, protocol, source, limits, sequence, request ID, family, mode, window, flags
SA_INFO = struct.Struct("=56s16s4sB3x16s64s44xIIHBBB7x")
# destination, SPI, family, protocol
SA_ID = struct.Struct("=16s4sHBx")
# selector, limits, priority, index, direction, action, flags, share
POLICY_INFO = struct.Struct("=56s64s32xIIBBBB4x")
# selector, index, direction
POLICY_ID = struct.Struct("=56sIB3x")
# destination, SPI, protocol, family, source, request ID, mode, share, optional, three of algorithms
TEMPLATE = struct.Struct("=16s4sB3xH2x16sIBBBxIII")


def wide(address):
    """Four or sixteen bytes as xfrm_address_t."""
    return address.ljust(16, b"\0")


def attribute(kind, payload):
    return struct.pack("=HH", 4 + len(payload), kind) + payload + bytes(-len(payload) % 4)


def messages(datagram):
    """(type, sequence, body) of each netlink message of a datagram."""
    start = 0
    while len(datagram) - start >= NETLINK.size:
        length, kind, _, sequence, _ = NETLINK.unpack_from(datagram, start)
        yield kind, sequence, datagram[start + NETLINK.size:start + length]
        start += (length + 3) & ~3


# PF_KEYv2

SADB_GETSPI, SADB_UPDATE, SADB_ADD, SADB_DELETE, SADB_GET, SADB_ACQUIRE, SADB_REGISTER = range(1, 8)
SADB_DUMP, SPDUPDATE, SPDDELETE, SPDDUMP = 10, 13, 15, 18
SATYPE_ESP = 3
EXT_SA, HARD, SOFT, SOURCE, DESTINATION, KEY_AUTH, KEY_ENCRYPT, PROPOSAL = 1, 3, 4, 5, 6, 8, 9, 13
SPIRANGE, POLICY, SA2 = 16, 18, 19
SHA2_256, SHA2_512, AES_CBC, AES_GCM_16 = 5, 7, 12, 20
TUNNEL = 2

# version, type, errno, SA type, length in words of 8 bytes, reserved, sequence, process
HEADER = struct.Struct("=BBBBHHII")
