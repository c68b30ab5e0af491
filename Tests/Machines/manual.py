"""The same `ip xfrm` commands to gwd (under its library) and to a Linux kernel; then both LANs ping each other."""
import itertools, re, sys, time
from topology import *
import gateway as p

SHIM = "LD_PRELOAD=/usr/lib/gw/libikeshim.so GW_RUN_DIR=/run/gw"


def key(bits, seed):
    return "0x" + "".join(f"{(seed * 37 + i * 11) & 255:02x}" for i in range(bits // 8))


def cbc(bits, name="aes"):
    return lambda s: f"enc 'cbc({name})' {key(bits, s)}"


def auth(name, bits, trunc):
    return lambda s: f"auth-trunc '{name}' {key(bits, s + 100)} {trunc}"


def aead(name, bits, icv):
    return lambda s: f"aead '{name}' {key(bits, s)} {icv}"


def both(*parts):
    return lambda s: " ".join(part(s) for part in parts)


SHA256 = auth("hmac(sha256)", 256, 128)
GCM = aead("rfc4106(gcm(aes))", 160, 128)
ALGORITHMS = {
    "aes128-cbc+sha1": both(auth("hmac(sha1)", 160, 96), cbc(128)),
    "aes128-cbc+sha256": both(SHA256, cbc(128)),
    "aes192-cbc+sha384": both(auth("hmac(sha384)", 384, 192), cbc(192)),
    "aes256-cbc+sha512": both(auth("hmac(sha512)", 512, 256), cbc(256)),
    "aes128-cbc+xcbc": both(auth("xcbc(aes)", 128, 96), cbc(128)),
    "aes128-cbc+cmac": both(auth("cmac(aes)", 128, 96), cbc(128)),
    "aes128-ctr+sha256": both(SHA256, lambda s: f"enc 'rfc3686(ctr(aes))' {key(160, s)}"),
    "3des+sha1": both(auth("hmac(sha1)", 160, 96), cbc(192, "des3_ede")),
    "camellia128+sha256": both(SHA256, cbc(128, "camellia")),
    "null+sha256": both(SHA256, lambda s: "enc 'ecb(cipher_null)' ''"),
    "aes128-gcm16": GCM,
    "aes192-gcm16": aead("rfc4106(gcm(aes))", 224, 128),
    "aes256-gcm16": aead("rfc4106(gcm(aes))", 288, 128),
    "aes128-gcm12": aead("rfc4106(gcm(aes))", 160, 96),
    "aes128-gcm8": aead("rfc4106(gcm(aes))", 160, 64),
    "aes128-ccm16": aead("rfc4309(ccm(aes))", 152, 128),
    "aes128-ccm8": aead("rfc4309(ccm(aes))", 152, 64),
    "aes128-gmac": aead("rfc4543(gcm(aes))", 160, 128),
    "chacha20-poly1305": aead("rfc7539esp(chacha20,poly1305)", 288, 128),
}


class Pair:
    """SAs and policies of one case, for both sides."""

    def __init__(self, outer=4, inner=(4,), mode="tunnel"):
        self.left, self.right = (GW, PEER) if outer == 4 else (GW6, PEER6)
        self.inner, self.mode = inner, mode
        self.states, self.templates, self.bundle = [], [], []

    def sa(self, proto, spi, words, more="", mode=None, templated=True, level="required"):
        mode = mode or self.mode
        for (src, dst), number in (((self.left, self.right), spi), ((self.right, self.left), spi + 1)):
            text = words(number) if words else ""
            reply = more if src == self.left else re.sub(r"espinudp (\d+) (\d+)", r"espinudp \2 \1", more)
            if mode == "tunnel" and "flag" not in reply:
                reply += " flag af-unspec"
            elif mode == "tunnel":
                reply = reply.replace("flag ", "flag af-unspec flag ")
            self.states.append(f"state add src {src} dst {dst} proto {proto} spi {number:#x} reqid {spi} mode {mode} {reply} {text}")
        if templated:
            self.templates.append((proto, spi, mode, level))

    def selectors(self):
        if self.mode == "transport":
            return [(self.left, self.right)]
        return [{4: (LAN1, LAN2), 6: (LAN1_6, LAN2_6)}[family] for family in self.inner]

    def policies(self, side):
        lines = []
        for a, b in self.selectors():
            out, back = ((a, b), (b, a)) if side == "gw" else ((b, a), (a, b))
            ends = (self.left, self.right) if side == "gw" else (self.right, self.left)

            def templates(ends, inward=False):
                # An inner transform of a bundle is transport where an outer one is tunnel and has no addresses of its own then.
                return " ".join(
                    "tmpl " + (f"src {ends[0]} dst {ends[1]} " if mode == "tunnel" else "") + f"proto {proto} reqid {spi} mode {mode}"
                    + (" level use" if level == "use" and inward else "") for proto, spi, mode, level in self.templates)
            if self.mode == "transport":  # of key daemons' sockets, which have policies of their own for this
                for x, y, direction in ((*out, "out"), (*back, "in")):
                    lines.append(f"policy add src {x} dst {y} proto 17 dport 4500 dir {direction} priority 10 action allow")
            lines.append(f"policy add src {out[0]} dst {out[1]} dir out priority 100 {templates(ends)}")
            directions = ["in"] if self.mode == "transport" else ["in", "fwd"]
            for direction in directions:
                lines.append(f"policy add src {back[0]} dst {back[1]} dir {direction} priority 100 {templates(ends[::-1], True)}")
        return lines


def cases():
    for name, words in ALGORITHMS.items():
        pair = Pair()
        pair.sa("esp", 0x1000, words)
        yield f"tunnel44 {name}", pair
    for outer, inner in itertools.product((4, 6), (4, 6)):
        for name in ("aes128-gcm16", "aes128-cbc+sha256"):
            if (outer, inner) != (4, 4):
                pair = Pair(outer, (inner,))
                pair.sa("esp", 0x1000, ALGORITHMS[name])
                yield f"tunnel{inner}{outer} {name}", pair
    for name in ("aes128-gcm16", "aes128-cbc+sha256"):
        pair = Pair()
        pair.sa("esp", 0x1000, ALGORITHMS[name], "replay-window 128 flag esn")
        yield f"esn {name}", pair
    for outer in (4, 6):
        for name in ("aes128-gcm16", "aes128-cbc+sha256"):
            pair = Pair(outer, mode="transport")
            pair.sa("esp", 0x1000, ALGORITHMS[name])
            yield f"transport{outer} {name}", pair
    for name in ("aes128-gcm16", "aes128-cbc+sha256"):
        pair = Pair()
        pair.sa("esp", 0x1000, ALGORITHMS[name], "encap espinudp 4500 4500 0.0.0.0")
        yield f"udp-tunnel44 {name}", pair
    pair = Pair(mode="transport")
    pair.sa("esp", 0x1000, GCM, "encap espinudp 4500 4500 0.0.0.0")
    yield "udp-transport4 aes128-gcm16", pair
    for outer in (4, 6):
        for mode in ("tunnel", "transport"):
            pair = Pair(outer, inner=(outer,), mode=mode)
            pair.sa("ah", 0x1000, SHA256)
            yield f"ah-{mode}{outer} sha256", pair
    pair = Pair()
    pair.sa("ah", 0x1000, SHA256, "replay-window 128 flag esn")
    yield "ah-tunnel4-esn sha256", pair
    pair = Pair()  # the inner one is the tunnel
    pair.sa("esp", 0x1000, GCM, mode="tunnel")
    pair.sa("ah", 0x2000, SHA256, mode="transport")
    yield "esp-tunnel in ah-transport", pair
    for outer in (4, 6):
        pair = Pair(outer, inner=(outer,))
        pair.sa("comp", 0x2000, lambda s: "comp deflate", mode="tunnel", level="use")
        pair.sa("esp", 0x1000, GCM, mode="transport")
        yield f"ipcomp-tunnel{outer} in esp", pair


ENCAP = """systemctl is-active -q vm-encap || systemd-run -q --unit=vm-encap python3 -c '
import socket, time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 4500)); s.setsockopt(17, 100, 2); time.sleep(100000)'"""


def apply(gw, peer, pair):
    """None, or what a side said."""
    wrong = []
    for vm, side, prefix in ((gw, "gw", SHIM), (peer, "peer", "")):
        lines = ["xfrm state flush", "xfrm policy flush"] + ["xfrm " + line for line in pair.states + pair.policies(side)]
        # ip reads no quotes in a batch: one call each.
        script = "\n".join(f"{prefix} ip {line} || echo 'refused: {line[:60].replace(chr(39), '')}'" for line in lines)
        out = vm.run(script, 60, check=False).out.strip()
        if "refused" in out:
            wrong.append(f"{side}: {out}")
    return "; ".join(wrong) or None


def check(gw, peer, lan1, lan2, pair):
    """Pings both ways, small, full size and in fragments: the failures."""
    failed = []
    if pair.mode == "transport":
        for vm, to, name in ((gw, pair.right, "gw"), (peer, pair.left, "peer")):
            for size in (56, 1300, 3000):
                out = vm.run(f"ping -n -c 3 -i 0.2 -W 2 -s {size} {to} | grep received", 40, check=False).out
                if " 3 received" not in out:
                    failed.append(f"{name} {size}: {out.strip() or 'nothing'}")
        return failed
    for network, name, targets in ((lan1, "lan1", {4: "172.20.1.10", 6: "2001:db8:20::10"}),
                                   (lan2, "lan2", {4: "192.168.60.10", 6: "2001:db8:60::10"})):
        for family in pair.inner:
            for size in (56, 1300, 3000):
                sent, received = p.ping(network, targets[family], 3, size)
                for _ in range(2):  # The first ones teach the hosts at both ends the path MTU.
                    if size == 3000 and family == 6 and received < sent:
                        sent, received = p.ping(network, targets[family], 3, size)
                if received < sent or not sent:
                    failed.append(f"{name} {size}: {received}/{sent}")
    return failed


def run(gw, peer, lan1, lan2, pattern=""):
    results = {}
    peer.run(ENCAP)
    for name, pair in cases():
        if pattern and not re.search(pattern, name):
            continue
        began = time.monotonic()
        refused = apply(gw, peer, pair)
        failed = [refused] if refused else check(gw, peer, lan1, lan2, pair)
        protected = ""
        if not failed:
            used = peer.run("ip -s xfrm state | grep -c ', [1-9][0-9]*(packets)'; true").out.strip()
            if used == "0":
                failed.append("no SA of the peer was used")
        results[name] = failed
        print(f"{'ok  ' if not failed else 'FAIL'} {time.monotonic() - began:5.1f} s  {name}  {'; '.join(failed)}", flush=True)
    peer.run("systemctl stop vm-encap")
    return results

