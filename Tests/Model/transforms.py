"""ESP and AH by Python's cryptography, from RFC 4303, 4302 and those of the algorithms: what the far ends of the
tunnels do."""

import hashlib
import hmac
import struct

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM, ChaCha20Poly1305

import wire


class Refused(Exception):
    """What came cannot be opened; `reasons` are the counters that may say why."""

    def __init__(self, *reasons):
        super().__init__(", ".join(reasons))
        self.reasons = frozenset(reasons)


class Combined:
    """AES-GCM (RFC 4106) and ChaCha20-Poly1305 (RFC 7634): key, 4 bytes of salt; IV of 8 bytes, ICV of 16."""

    iv_bytes, icv_bytes, alignment, counts_nonces = 8, 16, 4, True

    def __init__(self, cipher, key):
        self.cipher, self.salt = cipher(key[:-4]), key[-4:]

    def seal(self, header, high, iv, plain):
        return self.cipher.encrypt(self.salt + iv, plain, header[:4] + high + header[4:])

    def open(self, header, high, iv, body):
        try:
            return self.cipher.decrypt(self.salt + iv, body, header[:4] + high + header[4:])
        except InvalidTag:
            raise Refused("integrity") from None


class Authenticated:
    """AES-CBC (RFC 3602) or NULL (RFC 2410) with HMAC-SHA2-256-128 (RFC 4868)."""

    icv_bytes, counts_nonces = 16, False

    def __init__(self, encryption, integrity):
        self.encryption, self.integrity = encryption, integrity
        self.iv_bytes, self.alignment = (16, 16) if encryption else (0, 4)

    def _icv(self, data, high):
        return hmac.digest(self.integrity, data + high, hashlib.sha256)[:16]

    def seal(self, header, high, iv, plain):
        if self.encryption:
            encryptor = Cipher(algorithms.AES(self.encryption), modes.CBC(iv)).encryptor()
            plain = encryptor.update(plain) + encryptor.finalize()
        return plain + self._icv(header + iv + plain, high)

    def open(self, header, high, iv, body):
        data, icv = body[:-16], body[-16:]
        if self._icv(header + iv + data, high) != icv:
            raise Refused("integrity")
        if self.encryption:
            decryptor = Cipher(algorithms.AES(self.encryption), modes.CBC(iv)).decryptor()
            data = decryptor.update(data) + decryptor.finalize()
        return data


# name: (bytes of the encryption key, salt included; bytes of the integrity key; words of ipsec.conf or None)
ESP_TRANSFORMS = {
    "gcm-128": (20, 0, None),
    "gcm-256": (36, 0, None),
    "chacha": (36, 0, None),
    "cbc-128": (16, 32, "auth hmac-sha2-256 enc aes-128"),
    "cbc-256": (32, 32, "auth hmac-sha2-256 enc aes-256"),
    "null": (0, 32, "auth hmac-sha2-256 enc null"),
}
AH_TRANSFORMS = {"ah": (0, 32, "auth hmac-sha2-256")}
# IP in IP without keys (RFC 2003, 2473): an SA by its ends alone.
PLAIN_TRANSFORMS = {"ipip": (0, 0, "")}
TRANSFORMS = {**ESP_TRANSFORMS, **AH_TRANSFORMS, **PLAIN_TRANSFORMS}


def cipher_of(name, encryption, integrity):
    if name.startswith("gcm"):
        return Combined(AESGCM, encryption)
    if name == "chacha":
        return Combined(ChaCha20Poly1305, encryption)
    return Authenticated(encryption, integrity)


def high_half(esn, sequence):
    """What the ICV covers and the packet does not carry (RFC 4303 2.2.1)."""
    return (sequence >> 32).to_bytes(4, "big") if esn else b""


def trailer(cipher, length, next_header, padding=None, pad_length=None):
    """RFC 4303 2.4: bytes 1, 2, 3 …, or what is given instead."""
    filler = bytes(range(1, 1 + -(length + 2) % cipher.alignment)) if padding is None else padding
    return filler + bytes([len(filler) if pad_length is None else pad_length, next_header])


def seal_esp(cipher, spi, sequence, data, next_header, iv, esn=False, padding=None, pad_length=None):
    """From the SPI to the ICV (RFC 4303 2)."""
    header = struct.pack("!II", spi, sequence & 0xFFFFFFFF)
    plain = data + trailer(cipher, len(data), next_header, padding, pad_length)
    return header + iv + cipher.seal(header, high_half(esn, sequence), iv, plain)


def open_esp(cipher, packet, esn_high=b""):
    """(data, next header, IV) of an ESP packet, in the order of checks of RFC 4303 3.4; Refused where one fails."""
    body = len(packet) - 8 - cipher.iv_bytes - cipher.icv_bytes
    if body < 2:
        raise Refused("esp_too_short", "esp_alignment")
    if body % cipher.alignment:
        raise Refused("esp_alignment")
    header, iv = packet[:8], packet[8:8 + cipher.iv_bytes]
    plain = cipher.open(header, esn_high, iv, packet[8 + cipher.iv_bytes:])
    return (*untrailed(plain), iv)


def untrailed(plain):
    """(data, next header) of what was decrypted (RFC 4303 2.4, 3.4.4.1)."""
    length, next_header = plain[-2], plain[-1]
    if length > len(plain) - 2 or plain[len(plain) - 2 - length:-2] != bytes(range(1, length + 1)):
        raise Refused("esp_padding")
    return plain[:len(plain) - 2 - length], next_header


def ah_image(packet):
    """The packet as AH's ICV covers it: mutable fields 0 (RFC 4302 3.3.3.1); no options or extension headers here, AH
    directly behind the IP header, its ICV field 0."""
    if packet[0] >> 4 == 4:
        header = packet[:1] + b"\0" + packet[2:6] + b"\0\0\0" + packet[9:10] + b"\0\0" + packet[12:20]
    else:
        header = b"\x60\0\0\0" + packet[4:7] + b"\0" + packet[8:40]
    at = len(header)
    return header + packet[at:at + 12] + bytes(16) + packet[at + 28:]


AH_ICV = 16


def ah_bytes(sa):
    """RFC 4302 2.2: a multiple of 4 bytes in IPv4, of 8 in IPv6. As on Linux, SAs of XFRM without its flag `align4` have a
    multiple of 8 in both."""
    return 28 if sa.version == 4 and sa.way == "conf" else 32


def seal_ah(integrity, outer, spi, sequence, next_header, data, esn=False, align=0):
    """An IP packet with AH; `outer(protocol, payload)` makes the header around. `align`: bytes of padding in the ICV
    field."""
    header = struct.pack("!BBHII", next_header, (12 + AH_ICV + align) // 4 - 2, 0, spi, sequence & 0xFFFFFFFF)
    packet = outer(wire.AH, header + bytes(AH_ICV + align) + data)
    icv = hmac.digest(integrity, ah_image(packet) + high_half(esn, sequence), hashlib.sha256)[:AH_ICV]
    at = (20 if packet[0] >> 4 == 4 else 40) + 12
    return packet[:at] + icv + packet[at + AH_ICV:]


def open_ah(integrity, packet, esn_high=b""):
    """(data, next header) of an IP packet with AH directly behind its header."""
    at = 20 if packet[0] >> 4 == 4 else 40
    length = (packet[at + 1] + 2) * 4
    if len(packet) < at + length or length < 12 + AH_ICV:
        raise Refused("ah_malformed", "esp_too_short")
    icv = hmac.digest(integrity, ah_image(packet) + esn_high, hashlib.sha256)[:AH_ICV]
    if packet[at + 12:at + 12 + AH_ICV] != icv:
        raise Refused("integrity")
    return packet[at + length:], packet[at]
