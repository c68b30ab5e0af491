"""Looks for keys in a process's memory: every page of every readable, writable mapping, by /proc/PID/mem."""

import base64
import bisect
import mmap
import os
import re
import secrets
import struct
import subprocess
import tempfile

PIECE = 16 << 20


def make_key(length):
    """A key without bytes 0 and 10, which grep's lists of patterns cannot have."""
    return bytes(secrets.choice([*range(1, 10), *range(11, 256)]) for _ in range(length))


def make_hmac_key():
    """A key of HMAC-SHA2-256 whose states can be looked for as it can itself."""
    while True:
        key = make_key(32)
        if not {0, 10} & set(b"".join(hmac_states(key))):
            return key


def hmac_states(key):
    """What HMAC-SHA2-256 keeps of a key: the states behind the inner and the outer pad (RFC 2104), words as in memory."""
    block = key.ljust(64, b"\0")
    return [struct.pack("=8I", *compress(bytes(byte ^ pad for byte in block))) for pad in (0x36, 0x5c)]


def roots(exponent, count):
    """The first 32 bits of the fractional parts of the square or cube roots of the first primes (FIPS 180-4 4.2.2)."""
    primes = [number for number in range(2, 312) if all(number % divisor for divisor in range(2, number))]
    found = []
    for prime in primes[:count]:
        scaled, low, high = prime << 32 * exponent, 0, 1 << 64
        while high - low > 1:
            middle = (low + high) // 2
            low, high = (middle, high) if middle ** exponent <= scaled else (low, middle)
        found.append(low & 0xffffffff)
    return found


INITIAL, CONSTANTS = roots(2, 8), roots(3, 64)


def compress(block):
    """SHA-256's state after its first block (FIPS 180-4 6.2.2)."""
    def rotate(word, *counts):
        result = 0
        for count in counts:
            result ^= word >> count | word << 32 - count
        return result & 0xffffffff

    words = list(struct.unpack(">16I", block))
    for index in range(16, 64):
        first, second = words[index - 15], words[index - 2]
        words.append((words[index - 16] + (rotate(first, 7, 18) ^ first >> 3) + words[index - 7]
                      + (rotate(second, 17, 19) ^ second >> 10)) & 0xffffffff)
    a, b, c, d, e, f, g, h = INITIAL
    for word, constant in zip(words, CONSTANTS):
        one = h + rotate(e, 6, 11, 25) + (e & f ^ ~e & g) + constant + word
        two = rotate(a, 2, 13, 22) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = (one + two) & 0xffffffff, a, b, c, (d + one) & 0xffffffff, e, f, g
    return [word + before & 0xffffffff for word, before in zip((a, b, c, d, e, f, g, h), INITIAL)]


def forms(piece):
    """The ways a piece of a key may lie in memory, by name: raw, hex text, base64 at each of its three offsets."""
    found = {"raw": piece, "hex": piece.hex().encode(), "HEX": piece.hex().upper().encode()}
    for offset in range(3):
        text = base64.b64encode(bytes(offset) + piece)
        # Without the characters that the neighbours have a part in.
        found[f"base64+{offset}"] = text[(offset * 8 + 5) // 6:-4]
    return found


class Scan:
    """Searches a process for many keys at once. Half a key is as good as a whole: 16 bytes occur by chance nowhere."""

    def __init__(self, pid):
        self.pid = pid

    def mappings(self):
        with open(f"/proc/{self.pid}/maps", encoding="ascii", errors="replace") as maps:
            for line in maps:
                match = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) \S+ \S+ \S+ *(.*)", line)
                low, high, access, name = int(match[1], 16), int(match[2], 16), match[3], match[4]
                if access.startswith("rw"):
                    yield low, high, name

    def resident(self, low, high):
        """Runs of pages that were ever touched: EAL reserves much more than it uses."""
        page = mmap.PAGESIZE
        with open(f"/proc/{self.pid}/pagemap", "rb") as pagemap:
            begin = None
            for start in range(low, high, PIECE):
                end = min(high, start + PIECE)
                pagemap.seek(start // page * 8)
                entries = memoryview(pagemap.read((end - start) // page * 8)).cast("Q")
                for index, entry in enumerate(entries):
                    # Bit 63: present, 62: swapped.
                    touched = bool(entry >> 62)
                    if touched and begin is None:
                        begin = start + index * page
                    if not touched and begin is not None:
                        yield begin, start + index * page
                        begin = None
            if begin is not None:
                yield begin, high

    def find(self, keys):
        """{(key's index, form): [(address, mapping, bytes around)]} of every place that holds a key or half of one."""
        needles = {}
        for number, key in enumerate(keys):
            for start in range(0, max(1, len(key) - 15), 16):
                for form, pattern in forms(key[start:start + 16]).items():
                    needles[pattern] = (number, form)
        places, found = [], {}
        with tempfile.NamedTemporaryFile(dir="/dev/shm") as patterns, tempfile.TemporaryFile(dir="/dev/shm") as hits, \
                open(f"/proc/{self.pid}/mem", "rb", buffering=0) as memory:
            patterns.write(b"\n".join(needles))
            patterns.flush()
            grep = subprocess.Popen(["grep", "-aobF", "-f", patterns.name], stdin=subprocess.PIPE, stdout=hits,
                                    env={**os.environ, "LC_ALL": "C"})
            offset = 0
            for low, high, name in self.mappings():
                for begin, end in self.resident(low, high):
                    for start in range(begin, end, PIECE):
                        try:
                            memory.seek(start)
                            data = memory.read(min(PIECE, end - start))
                        except OSError:
                            # Gone meanwhile, or a device's.
                            continue
                        places.append((offset, start, name))
                        offset += len(data)
                        grep.stdin.write(data)
            grep.stdin.close()
            grep.wait()
            hits.seek(0)
            for line in hits.read().split(b"\n"):
                where, colon, pattern = line.partition(b":")
                if not colon or pattern not in needles:
                    continue
                begin, start, name = places[bisect.bisect(places, (int(where), 1 << 64)) - 1]
                address = start + int(where) - begin
                found.setdefault(needles[pattern], []).append((address, name, self.around(memory, address)))
        return found

    @staticmethod
    def around(memory, address):
        try:
            memory.seek(address - 32)
            return memory.read(96)
        except OSError:
            return b""


def describe(found, limit=12):
    places = [(number, form, place) for (number, form), hits in sorted(found.items()) for place in hits]
    return "\n".join(f"key {number} as {form} at {address:#x} in {name or 'anonymous'}: {near!r}"
                     for number, form, (address, name, near) in places[:limit]) + f"\n{len(places)} places"
