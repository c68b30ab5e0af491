"""`ip xfrm` of Debian's iproute2 under libikeshim.so: what it adds is what gwctl shows and what it lists again, what it
may not add is refused in words, and what happens it is told."""

import os
import re
import socket
import subprocess
import time

from keying import start_both
from lab.gateway import program
from lab.namespace import run, stop_process, wait_for
from lab.topology import GW1, GW1_V6, GW2, GW2_V6, HOST1, HOST2, LAN1, LAN2, TwoGateways, ping
from support import EndToEndTest, wait_for_xfrm_monitor

ENDS = f"src {GW1} dst {GW2}"
BACK = f"src {GW2} dst {GW1}"
GCM_KEY = bytes(range(20)).hex()
GCM = f"aead rfc4106(gcm(aes)) 0x{GCM_KEY} 128"
CHACHA = f"aead rfc7539esp(chacha20,poly1305) 0x{bytes(range(36)).hex()} 128"
CBC = f"enc cbc(aes) 0x{bytes(range(16)).hex()}"
SHA256 = f"auth-trunc hmac(sha256) 0x{bytes(range(32)).hex()} 128"
SHA512 = f"auth-trunc hmac(sha512) 0x{bytes(range(64)).hex()} 256"
ANY = "sel src 0.0.0.0/0 dst 0.0.0.0/0"
LEGACY = "anti-replay context: seq 0x0, oseq 0x0, bitmap 0x00000000"


def esn(words, window):
    return f"anti-replay esn context: {words} replay_window {window}, bitmap-length {window // 32}" + \
        " 00000000" * (window // 32)


UNUSED = "seq-hi 0x0, seq 0x0, oseq-hi 0x0, oseq 0x0"

# What `ip xfrm state add` is given, what `ip xfrm state` lists of it, what `gwctl show sa -v` has of it.
STATES = [
    (f"{ENDS} proto esp spi 0x1001 reqid 7 mode tunnel replay-window 128 flag esn {GCM}",
     f"{ENDS} proto esp spi 0x00001001 reqid 7 mode tunnel replay-window 0 flag esn {GCM} {esn(UNUSED, 128)} {ANY}",
     ["enc aes-128-gcm", "replay 128 flags 0x404<tunnel,esn>"]),
    (f"{ENDS} proto esp spi 0x1002 reqid 8 mode tunnel replay-window 32 flag af-unspec {CBC} {SHA256} "
     "encap espinudp 4500 4501 0.0.0.0",
     f"{ENDS} proto esp spi 0x00001002 reqid 8 mode tunnel replay-window 32 flag af-unspec {SHA256} {CBC} "
     f"encap type espinudp sport 4500 dport 4501 addr 0.0.0.0 {LEGACY}",
     ["auth hmac-sha2-256 enc aes", "udpencap", "4501"]),
    (f"{ENDS} proto ah spi 0x1003 mode transport flag align4 {SHA256}",
     f"{ENDS} proto ah spi 0x00001003 reqid 0 mode transport replay-window 0 flag align4 {SHA256} {LEGACY} {ANY}",
     ["ah transport", "auth hmac-sha2-256"]),
    (f"{ENDS} proto esp spi 0x1004 mode transport {GCM} sel src {GW1}/32 dst {GW2}/32 proto udp sport 5 dport 7",
     f"{ENDS} proto esp spi 0x00001004 reqid 0 mode transport replay-window 0 {GCM} {LEGACY} "
     f"sel src {GW1}/32 dst {GW2}/32 proto udp sport 5 dport 7",
     ["esp transport"]),
    (f"{ENDS} proto esp spi 0x1005 mode tunnel {GCM} flag noecn nopmtudisc extra-flag dont-encap-dscp",
     f"{ENDS} proto esp spi 0x00001005 reqid 0 mode tunnel replay-window 0 flag noecn nopmtudisc {GCM} {LEGACY} {ANY}",
     ["enc aes-128-gcm"]),
    (f"{ENDS} proto esp spi 0x1006 mode tunnel {GCM} mark 0x5 mask 0xff if_id 9 tfcpad 200 seq 0x22",
     f"{ENDS} proto esp spi 0x00001006 reqid 0 mode tunnel replay-window 0 mark 0x5/0xff {GCM} {LEGACY} if_id 0x9 "
     f"tfcpad 200 {ANY}",
     ["enc aes-128-gcm"]),
    (f"{ENDS} proto esp spi 0x1007 mode tunnel {GCM} flag esn replay-window 64 replay-seq 10 replay-oseq 20 "
     "replay-seq-hi 1 replay-oseq-hi 2",
     f"{ENDS} proto esp spi 0x00001007 reqid 0 mode tunnel replay-window 0 flag esn {GCM} "
     f"{esn('seq-hi 0x1, seq 0xa, oseq-hi 0x2, oseq 0x14', 64)} {ANY}",
     ["replay 64 flags 0x404<tunnel,esn>"]),
    (f"{ENDS} proto comp spi 0x1008 mode tunnel comp deflate",
     f"{ENDS} proto comp spi 0x00001008 reqid 0 mode tunnel replay-window 0 comp deflate {ANY}",
     ["ipcomp tunnel"]),
    (f"src {GW1_V6} dst {GW2_V6} proto esp spi 0x1009 mode tunnel flag esn replay-window 32 {CHACHA}",
     f"src {GW1_V6} dst {GW2_V6} proto esp spi 0x00001009 reqid 0 mode tunnel replay-window 0 flag esn {CHACHA} "
     f"{esn(UNUSED, 32)} sel src ::/0 dst ::/0",
     ["chacha20-poly1305"]),
    (f"{ENDS} proto esp spi 0x100a mode tunnel {CBC} {SHA512}",
     f"{ENDS} proto esp spi 0x0000100a reqid 0 mode tunnel replay-window 0 {SHA512} {CBC} {LEGACY} {ANY}",
     ["auth hmac-sha2-512 enc aes"]),
]

# What is refused, and the words.
REFUSED_STATES = [
    (f"proto esp spi 0x2001 mode beet {GCM}", "Requested mode not found"),
    (f"proto esp spi 0x2001 mode tunnel {GCM} encap espintcp 4500 4500 0.0.0.0",
     "Unsupported encapsulation type for ESP"),
    (f"proto esp spi 0x2001 mode tunnel {GCM} ctx system_u:object_r:t:s0", "Security contexts are not supported"),
    (f"proto esp spi 0x2001 mode tunnel {GCM} output-mark 6", "Output marks (SET_MARK) are not supported"),
    (f"proto esp spi 0x2001 mode tunnel {GCM} flag decap-dscp", "(DECAP_DSCP) is not supported"),
    (f"proto esp spi 0x2001 mode tunnel {GCM} flag wildrecv", "Wildcard SAs (WILDRECV)"),
    (f"proto esp spi 0x2001 mode tunnel {GCM} flag icmp", "Matching ICMP errors by their payload"),
    (f"proto esp spi 0x2001 mode transport {GCM} tfcpad 5", "TFC padding can only be used in tunnel mode"),
    ("proto esp spi 0x2001 mode tunnel aead rfc4106(gcm(aes)) 0x0001 128",
     "Invalid key of 16 bits for rfc4106(gcm(aes)), which takes 160 or 224 or 288"),
    ("proto esp spi 0x2001 mode tunnel enc cbc(des) 0x0011223344556677",
     "Encryption algorithm cbc(des) is not supported"),
    ("proto ah spi 0x2001 auth hmac(md5) 0x00112233445566778899aabbccddeeff",
     "hmac(md5) is weak and not allowed by the configuration"),
    (f"proto esp spi 0x2001 mode tunnel enc cbc(aes) 0x{bytes(range(16)).hex()}",
     "enc without auth does not keep what it encrypts secret (RFC 8221 4, RFC 3686 8); `allow-weak: true` in gateway.yaml"),
    (f"proto esp spi 0x2001 enc rfc3686(ctr(aes)) 0x{bytes(range(20)).hex()}", "enc without auth"),
    (f"proto esp spi 0x2001 enc cbc(des3_ede) 0x{(bytes(range(8)) * 2 + bytes(range(8, 16))).hex()} {SHA256}",
     "a 3des key with two equal neighbours is a DES key (RFC 2451 2.6)"),
    (f"proto esp spi 0x55 mode tunnel {GCM}",
     "SPI 85 is reserved (RFC 4303 2.1); `low-spis: true` in gateway.yaml permits it"),
    ("proto route2 mode ro coa 10.0.0.1", "Unsupported protocol 43, must be one of AH, ESP, COMP"),
]

TEMPLATE = f"tmpl {ENDS} proto esp reqid 7 mode tunnel"
POLICIES = [
    (f"src {LAN1} dst {LAN2} dir out priority 5 {TEMPLATE}",
     f"src {LAN1} dst {LAN2} dir out priority 5 ptype main {TEMPLATE}",
     f"flow esp out from {LAN1} to {LAN2} local {GW1} peer {GW2} type require"),
    (f"src {LAN1} dst {LAN2} proto udp dport 53 dir out action block priority 4",
     f"src {LAN1} dst {LAN2} proto udp dport 53 dir out action block priority 4 ptype main",
     "type deny"),
    (f"src {LAN2} dst {LAN1} proto icmp type 8 code 0 dir in",
     f"src {LAN2} dst {LAN1} proto icmp type 8 code 0 dir in priority 0 ptype main",
     "type bypass"),
    (f"src {LAN2} dst {LAN1} dir fwd mark 0x5 mask 0xff if_id 3 tmpl {BACK} proto esp mode tunnel level use "
     f"tmpl {BACK} proto ah",
     f"src {LAN2} dst {LAN1} dir fwd priority 0 ptype main mark 0x5/0xff tmpl {BACK} proto esp reqid 0 mode tunnel "
     f"level use tmpl {BACK} proto ah reqid 0 mode transport if_id 0x3",
     None),
    (f"src {LAN1} dst 10.0.0.0/8 dir out flag localok",
     f"src {LAN1} dst 10.0.0.0/8 dir out priority 0 ptype main flag localok",
     f"from {LAN1} to 10.0.0.0/8"),
    (f"src 2001:db8:60::/64 dst ::/0 dir out tmpl src {GW1_V6} dst {GW2_V6} proto esp mode tunnel",
     "src 2001:db8:60::/64 dst ::/0 dir out priority 0 ptype main "
     f"tmpl src {GW1_V6} dst {GW2_V6} proto esp reqid 0 mode tunnel",
     "from 2001:db8:60::/64 to ::/0"),
    # The bits of addresses behind the prefixes are kept.
    ("src 10.0.0.1/24 dst 10.1.2.3/16 dir out", "src 10.0.0.1/24 dst 10.1.2.3/16 dir out priority 0 ptype main",
     "from 10.0.0.0/24 to 10.1.0.0/16"),
    # Behind a tunnel of another family, transport mode is of that one.
    (f"src {LAN1} dst {LAN2} dir out tmpl src {GW1_V6} dst {GW2_V6} proto comp mode tunnel "
     "tmpl src :: dst :: proto esp mode transport",
     f"src {LAN1} dst {LAN2} dir out priority 0 ptype main tmpl src {GW1_V6} dst {GW2_V6} proto comp reqid 0 "
     "mode tunnel tmpl src :: dst :: proto esp reqid 0 mode transport", None),
]
OTHER = f"src {LAN1} dst 10.1.0.0/16"
REFUSED_POLICIES = [
    (f"{OTHER} dir out limit time-hard 5", "Policies with lifetimes are not supported"),
    (f"{OTHER} dir out ptype sub", "Sub-policies are not supported"),
    (f"{OTHER} dir out ctx a:b:c", "Security contexts are not supported"),
    (f"{OTHER} dev lo dir out", "Selectors by interface or user are not supported"),
    (f"{OTHER} dir out tmpl src 1.2.3.4 dst 5.6.7.8 proto hao mode tunnel", "Invalid XFRM protocol in template"),
    (f"{OTHER} proto gre key 5 dir out", "Selectors by GRE key are not supported"),
    (f"{OTHER} dir out flag icmp", "Matching ICMP errors by their payload"),
    (f"{OTHER} dir out {TEMPLATE} level use", "a tunnel template of an outbound policy cannot be optional"),
    (f"{OTHER} dir out tmpl src {GW1_V6} dst {GW2_V6} proto esp mode tunnel tmpl {ENDS} proto ah mode transport",
     "Family change isn't allowed for this template mode"),
    (f"{OTHER} dir out index 17", "The index of a new policy is the gateway's to give"),
]


class IPXfrmTest(EndToEndTest):
    """`ip xfrm` in gw1's namespace; in gw2's where traffic is to cross."""

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways()
        cls.addClassCleanup(cls.lab.close)
        cls.lab.meter()
        start_both(cls.lab)

    def setUp(self):
        self.keys = [os.urandom(20).hex() for _ in range(2)]
        for gateway in (self.lab.gw1, self.lab.gw2):
            gateway.gwctl("flush")

    @staticmethod
    def command(gateway, words, *options):
        return ["ip", "netns", "exec", gateway.space.name, "env", f"LD_PRELOAD={program('libikeshim.so')}",
                f"GW_RUN_DIR={gateway.run_dir}", "ip", *options, "xfrm", *words.split()]

    def ip(self, words, *options, gateway=None, check=True):
        return run(*self.command(gateway or self.lab.gw1, words, *options), check=check, env=dict(os.environ))

    def listed(self, words, *options):
        """The entries that a listing has, each on one line with single spaces."""
        text = self.ip(words, *options).stdout
        return [" ".join(entry.split()) for entry in re.split(r"\n(?=src )", text.strip()) if entry]

    def refused(self, words, said):
        done = self.ip(words, check=False)
        self.assertEqual(done.returncode, 2, done.stdout + done.stderr)
        self.assertIn(f"{said}", done.stderr)
        self.assertTrue(done.stderr.startswith("Error: "), done.stderr)

    def test_states(self):
        for words, listing, shown in STATES:
            # A key that comes again goes on counting, lest a nonce be used twice.
            key = os.urandom(20).hex()
            words, listing = words.replace(GCM_KEY, key), listing.replace(GCM_KEY, key)
            with self.subTest(words):
                self.lab.gw1.gwctl("flush")
                self.ip(f"state add {words}")
                self.assertEqual(self.listed("state"), [listing])
                text = self.lab.gw1.gwctl("show", "sa", "-v").stdout
                for part in shown:
                    self.assertIn(part, text)
                name = re.match(r"src \S+ dst \S+ proto \S+ spi \S+", words)[0]
                self.assertEqual(self.listed(f"state get {name}"), [listing])
                self.assertIn("File exists", self.ip(f"state add {words}", check=False).stderr)
                self.ip(f"state delete {name}")
                self.assertEqual(self.lab.gw1.associations(), [])
                self.assertIn("No such process", self.ip(f"state delete {name}", check=False).stderr)

    def test_refused_states(self):
        for words, said in REFUSED_STATES:
            with self.subTest(words):
                self.refused(f"state add {ENDS} {words}", said)
        self.assertEqual(self.lab.gw1.associations(), [])

    def test_a_key_has_one_sa(self):
        self.ip(f"state add {ENDS} proto esp spi 0x1001 mode tunnel {GCM}")
        said = f"SA esp to {GW2} spi 0x00001001 has this counter-mode key already, and both would use the same nonces."
        self.refused(f"state add {ENDS} proto esp spi 0x1002 mode transport {GCM}", said)
        self.ip(f"state allocspi {ENDS} proto esp min 0x300 max 0x300")
        self.refused(f"state update {ENDS} proto esp spi 0x300 mode tunnel {GCM}", said)
        self.ip(f"state delete {ENDS} proto esp spi 0x1001")
        self.ip(f"state add {ENDS} proto esp spi 0x1002 mode transport {GCM}")

    def test_limits_and_statistics(self):
        self.ip(f"state add {ENDS} proto esp spi 0x1001 mode tunnel {GCM} limit byte-soft 1000 limit byte-hard 2000 "
                "limit packet-soft 10 limit packet-hard 20 limit time-soft 3000 limit time-hard 4000 "
                "limit time-use-soft 500 limit time-use-hard 600")
        text, = self.listed("state", "-s")
        for part in ("soft 1000(bytes), hard 2000(bytes)", "soft 10(packets), hard 20(packets)",
                     "expire add: soft 3000(sec), hard 4000(sec)", "expire use: soft 500(sec), hard 600(sec)",
                     "0(bytes), 0(packets)", "replay-window 0 replay 0 failed 0"):
            self.assertIn(part, text)
        self.assertIn("SAD count 1", self.ip("state count").stdout)
        self.assertIn("SAD count 1 (buckets count", self.ip("state count", "-s").stdout)
        listed, = self.listed("state list nokeys")
        self.assertIn("<<Keys hidden>>", listed)
        self.assertNotIn("0x0001020304", listed)

    def test_allocspi_then_update(self):
        allocated = self.ip(f"state allocspi {ENDS} proto esp reqid 7 mode tunnel min 0x200 max 0x2ff").stdout
        spi = int(re.search(r"spi (0x[0-9a-f]+)", allocated)[1], 16)
        self.assertTrue(0x200 <= spi <= 0x2ff, allocated)
        self.ip(f"state update {ENDS} proto esp spi {spi} reqid 7 mode tunnel {GCM}")
        self.assertEqual([sa["spi"] for sa in self.lab.gw1.associations()], [spi])
        self.ip(f"state allocspi {BACK} proto esp min 0x200 max 0x200")
        done = self.ip(f"state allocspi {BACK} proto esp min 0x200 max 0x200", check=False)
        self.assertEqual(done.stderr, "Error: SPI 512 is in use.\n")

    def test_larval_states(self):
        """What is allocated and what is asked for are listed, as by Linux."""
        text = self.monitor()
        allocated = f"{ENDS} proto esp spi 0x00000300 reqid 7 mode tunnel replay-window 0 {LEGACY} " \
            f"sel src {GW1}/32 dst {GW2}/32"
        self.ip(f"state allocspi {ENDS} proto esp reqid 7 mode tunnel min 0x300 max 0x300")
        self.assertEqual(self.listed("state"), [allocated])
        self.policies(self.lab.gw1, LAN1, LAN2, ENDS, BACK)
        ping(self.lab.lan1, HOST2, count=2, timeout=0.2)
        wait_for(lambda: "acquire proto esp" in text(), 30, "an SA is asked for")
        self.assertEqual(self.listed("state"), [
            f"{ENDS} proto esp spi 0x00000000 reqid 7 mode tunnel replay-window 0 {LEGACY} "
            f"sel src {HOST1}/32 dst {HOST2}/32 proto icmp type 8 code 0", allocated])
        self.ip("state deleteall")
        self.assertEqual(self.listed("state"), [])

    def test_added_now(self):
        """Not in the future, however soon after the start."""
        self.lab.gw1.stop()
        self.lab.gw1.start()
        self.ip(f"state add {ENDS} proto esp spi 0x1001 mode tunnel aead rfc4106(gcm(aes)) 0x{self.keys[0]} 128")
        time.sleep(2)
        self.ip(f"state add {ENDS} proto esp spi 0x1002 mode tunnel aead rfc4106(gcm(aes)) 0x{self.keys[1]} 128")
        now = time.time()
        added = [sa["usage"]["added_seconds"] for sa in self.lab.gw1.associations()]
        self.assertTrue(all(now - 10 < moment <= now for moment in added), (added, now))

    def test_flush_of_nothing(self):
        """is done and not told."""
        text = self.monitor()
        self.ip("state flush")
        self.ip("policy flush")
        self.ip(f"state add {ENDS} proto esp spi 0x1001 reqid 7 mode tunnel {GCM}")
        wait_for(lambda: "spi 0x00001001" in text(), 30, "ip xfrm monitor says that there is an SA")
        self.assertNotIn("Flushed", text())

    def test_deleteall_and_flush(self):
        for number in range(8):
            own = GCM.replace("0x0001", f"0x{number:02x}77")
            self.ip(f"state add {ENDS} proto esp spi {0x1000 + number} reqid {number % 2} mode tunnel {own}")
        self.ip(f"state add {ENDS} proto ah spi 0x2000 {SHA256}")
        self.ip("state deleteall reqid 1")
        self.assertEqual({sa["spi"] for sa in self.lab.gw1.associations()}, {0x1000, 0x1002, 0x1004, 0x1006, 0x2000})
        self.assertEqual(len(self.listed(f"state list {ENDS} proto ah")), 1)
        self.ip("state flush proto ah")
        self.assertEqual(len(self.lab.gw1.associations()), 4)
        self.ip("state flush")
        self.assertEqual(self.lab.gw1.associations(), [])

    def test_policies(self):
        for words, listing, shown in POLICIES:
            with self.subTest(words):
                self.ip(f"policy add {words}")
                self.assertEqual(self.listed("policy"), [listing])
                if shown:
                    self.assertIn(shown, self.lab.gw1.gwctl("show", "flow").stdout)
                name = re.match(r"src \S+ dst \S+( proto .*?)? dir \S+( mark \S+ mask \S+ if_id \S+)?", words)[0]
                self.assertEqual(self.listed(f"policy get {name}"), [listing])
                self.assertIn("File exists", self.ip(f"policy add {words}", check=False).stderr)
                self.ip(f"policy update {words}")
                self.ip(f"policy delete {name}")
                self.assertEqual(self.listed("policy"), [])
                self.assertIn("No such file or directory", self.ip(f"policy delete {name}", check=False).stderr)

    def test_refused_policies(self):
        for words, said in REFUSED_POLICIES:
            with self.subTest(words):
                self.refused(f"policy add {words}", said)
        self.assertEqual(self.listed("policy"), [])
        self.refused("policy setdefault in block", "A default policy of block is set by a policy for any to any")

    def test_policy_counts(self):
        self.ip(f"policy add src {LAN1} dst {LAN2} dir out {TEMPLATE}")
        self.ip(f"policy add src {LAN2} dst {LAN1} dir in tmpl {BACK} proto esp mode tunnel")
        self.ip(f"policy add src {LAN2} dst {LAN1} dir fwd tmpl {BACK} proto esp mode tunnel")
        self.assertIn("SPD IN 1 OUT 1 FWD 1", " ".join(self.ip("policy count").stdout.split()))
        self.ip("policy set hthresh4 24 16")
        text = self.ip("policy count", "-s", "-s").stdout
        self.assertIn("SPD IPv4 thresholds: local 24 remote 16", text)
        self.assertIn("in:  accept", self.ip("policy getdefault").stdout)
        self.ip("policy deleteall dir fwd")
        self.assertEqual(len(self.listed("policy")), 2)
        self.ip("policy flush")
        self.assertEqual(self.listed("policy"), [])

    # With traffic

    def tunnel(self, gateway, limits=""):
        """One side of a tunnel, keyed by hand."""
        near, far = (LAN1, LAN2) if gateway is self.lab.gw1 else (LAN2, LAN1)
        out, back = (ENDS, BACK) if gateway is self.lab.gw1 else (BACK, ENDS)
        for ends, spi, key in ((ENDS, 0x1001, self.keys[0]), (BACK, 0x1002, self.keys[1])):
            more = limits if ends is out else ""
            self.ip(f"state add {ends} proto esp spi {spi} reqid 7 mode tunnel replay-window 128 flag af-unspec "
                    f"flag esn aead rfc4106(gcm(aes)) 0x{key} 128 {more}", gateway=gateway)
        self.policies(gateway, near, far, out, back)

    def policies(self, gateway, near, far, out, back):
        self.ip(f"policy add src {near} dst {far} dir out tmpl {out} proto esp reqid 7 mode tunnel", gateway=gateway)
        for direction in ("in", "fwd"):
            self.ip(f"policy add src {far} dst {near} dir {direction} tmpl {back} proto esp reqid 7 mode tunnel",
                    gateway=gateway)

    def monitor(self, words=""):
        """Runs until the test ends; what it has said so far, with single spaces, is what the result gives."""
        path = self.lab.folder / "monitor.out"
        with open(path, "wb") as output:
            process = subprocess.Popen(self.command(self.lab.gw1, f"monitor {words}"), stdin=subprocess.DEVNULL,
                                       stdout=output, stderr=subprocess.STDOUT)
        self.addCleanup(stop_process, process)

        def text():
            return " ".join(path.read_text(encoding="ascii").split())

        wait_for_xfrm_monitor(self.ip, text)
        return text

    def test_tunnel_by_hand(self):
        """Two gateways keyed by `ip xfrm` alone: traffic crosses both ways, and its statistics say so."""
        self.tunnel(self.lab.gw1)
        self.tunnel(self.lab.gw2)
        wait_for(lambda: ping(self.lab.lan1, HOST2, count=1)[1] == 1, 20, "a first answer")
        before = self.lab.metered()
        self.assertEqual(ping(self.lab.lan1, HOST2, count=10, interval=0.02, timeout=3), (10, 10))
        self.assertEqual(ping(self.lab.lan2, HOST1, count=10, interval=0.02, timeout=3), (10, 10))
        after = self.lab.metered()
        self.assertEqual(after["inner"], before["inner"], "inner packets in clear on the wire")
        for name in ("esp_1to2", "esp_2to1"):
            self.assertGreaterEqual(after[name] - before[name], 20)
        for words in ("state", f"policy get src {LAN1} dst {LAN2} dir out"):
            for entry in self.listed(words, "-s"):
                current = re.search(r"lifetime current: (\d+)\(bytes\), (\d+)\(packets\)", entry)
                self.assertGreaterEqual(int(current[2]), 21, entry)
                self.assertGreaterEqual(int(current[1]), 21 * 84, entry)
                self.assertNotIn("use -", entry)

    def test_monitor(self):
        """An SA and a policy come, are changed and go."""
        text = self.monitor()
        self.ip(f"state add {ENDS} proto esp spi 0x1001 reqid 7 mode tunnel {GCM}")
        self.ip(f"state update {ENDS} proto esp spi 0x1001 reqid 7 mode tunnel {GCM} limit time-hard 900")
        self.ip(f"state delete {ENDS} proto esp spi 0x1001")
        self.ip(f"state add {ENDS} proto esp spi 0x1002 mode tunnel {GCM}")
        self.ip("state flush proto esp")
        self.ip(f"policy add src {LAN1} dst {LAN2} dir out {TEMPLATE}")
        self.ip(f"policy delete src {LAN1} dst {LAN2} dir out")
        self.ip(f"policy add src {LAN1} dst {LAN2} dir out {TEMPLATE}")
        self.ip("policy flush")
        for part in (f"{ENDS} proto esp spi 0x00001001 reqid 7 mode tunnel",
                     f"Updated {ENDS} proto esp spi 0x00001001", f"Deleted {ENDS}",
                     "Flushed state proto esp", f"src {LAN1} dst {LAN2} dir out priority 0 ptype main {TEMPLATE}",
                     f"Deleted src {LAN1} dst {LAN2}", "Flushed policy"):
            wait_for(lambda: part in text(), 30, f"ip xfrm monitor says {part!r}")

    def test_narrow_states(self):
        """Two SAs with selectors of their own serve one policy; a template without a source has the SA's."""
        self.tunnel(self.lab.gw2)
        self.ip(f"state add {BACK} proto esp spi 0x1002 reqid 7 mode tunnel replay-window 128 flag af-unspec "
                f"flag esn aead rfc4106(gcm(aes)) 0x{self.keys[1]} 128")
        self.ip(f"state add {ENDS} proto esp spi 0x1001 reqid 7 mode tunnel replay-window 128 flag esn "
                f"aead rfc4106(gcm(aes)) 0x{self.keys[0]} 128 sel src {HOST1}/32 dst {HOST2}/32 proto icmp")
        self.policies(self.lab.gw1, LAN1, LAN2, f"src 0.0.0.0 dst {GW2}", BACK)
        self.ip(f"policy add src 0.0.0.0/0 dst 0.0.0.0/0 dir out priority 1 if_id 7 {TEMPLATE}")
        wait_for(lambda: ping(self.lab.lan1, HOST2, count=1)[1] == 1, 20, "a first answer")
        self.assertEqual(ping(self.lab.lan1, HOST2, count=5, interval=0.02, timeout=3), (5, 5))
        before = self.lab.metered()
        # The policy of an XFRM interface has no packets.
        self.assertEqual(ping(self.lab.gw1.space, GW2, count=2, timeout=3)[1], 2)
        with self.lab.lan1.entered(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(3):
                sender.sendto(b"x", (HOST2, 9))
        time.sleep(0.2)
        after = self.lab.metered()
        for name in ("inner", "esp_1to2"):
            self.assertEqual(after[name], before[name], "what no SA may carry waits")

    def test_monitor_acquire(self):
        """A packet that its policy has no SA for."""
        text = self.monitor()
        self.policies(self.lab.gw1, LAN1, LAN2, ENDS, BACK)
        ping(self.lab.lan1, HOST2, count=2, timeout=0.2)
        for part in ("acquire proto esp", f"sel src {HOST1}/32 dst {HOST2}/32 proto icmp",
                     f"policy src {LAN1} dst {LAN2}", f"tmpl {ENDS}"):
            wait_for(lambda: part in text(), 30, f"ip xfrm monitor says {part!r}")

    def test_monitor_expire(self):
        """Soft and hard ends, by packets and by time."""
        self.tunnel(self.lab.gw2)
        text = self.monitor("expire policy")
        self.tunnel(self.lab.gw1, "limit packet-soft 5 limit packet-hard 15")
        self.ip(f"state add {ENDS} proto esp spi 0x3001 mode tunnel {GCM} limit time-soft 1 limit time-hard 2")
        ping(self.lab.lan1, HOST2, count=40, interval=0.05, timeout=0.2)
        for spi in ("0x00001001", "0x00003001"):
            for hard in (0, 1):
                wait_for(lambda: re.search(rf"Expired {ENDS} proto esp spi {spi}(?:(?!Expired).)*hard {hard}", text()),
                         30, f"ip xfrm monitor says that {spi} expired, hard {hard}")
        self.assertNotIn(0x1001, [sa["spi"] for sa in self.lab.gw1.associations()])
