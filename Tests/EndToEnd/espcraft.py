"""ESP packets made by hand with Python's cryptography, so that every field can be wrong (RFC 4303, 3602, 4868)."""

import hashlib
import hmac
import os
import struct

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes


def ipv4(source, destination, protocol, payload, ttl=64, total=None, ihl=5, identification=1):
    """An IPv4 packet whose header checksum is right even where its lengths are not."""
    header = struct.pack("!BBHHHBBH4s4s", 0x40 | ihl, 0, 20 + len(payload) if total is None else total, identification,
                         0, ttl, protocol, 0, packed(source), packed(destination))
    return header[:10] + struct.pack("!H", checksum(header)) + header[12:] + payload


def udp(source_port, destination_port, payload):
    """A UDP datagram without a checksum, which IPv4 allows."""
    return struct.pack("!HHHH", source_port, destination_port, 8 + len(payload), 0) + payload


def packed(address):
    return bytes(int(part) for part in address.split("."))


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


class Sealer:
    """One SA's sending side: AES-CBC with HMAC-SHA2-256-128."""

    def __init__(self, source, destination, spi, encryption_key, authentication_key):
        self.source, self.destination, self.spi = source, destination, spi
        self.encryption_key, self.authentication_key = encryption_key, authentication_key
        self.sequence = 0

    def seal(self, inner, sequence=None, spi=None, next_header=4, padding=None, pad_length=None, spoil_icv=False,
             ragged=b""):
        """An IPv4 ESP packet. `padding`: bytes instead of 1, 2, 3 …; `ragged`: bytes that break the block length."""
        if sequence is None:
            self.sequence += 1
            sequence = self.sequence
        self.sequence = max(self.sequence, sequence)
        filler = bytes(range(1, 1 + -(len(inner) + 2) % 16)) if padding is None else padding
        plain = inner + filler + bytes([len(filler) if pad_length is None else pad_length, next_header])
        iv = os.urandom(16)
        encryptor = Cipher(algorithms.AES(self.encryption_key), modes.CBC(iv)).encryptor()
        sealed = struct.pack("!II", self.spi if spi is None else spi, sequence) + iv
        sealed += encryptor.update(plain) + encryptor.finalize() + ragged
        icv = hmac.new(self.authentication_key, sealed, hashlib.sha256).digest()[:16]
        if spoil_icv:
            icv = bytes([icv[0] ^ 1]) + icv[1:]
        return ipv4(self.source, self.destination, 50, sealed + icv)
