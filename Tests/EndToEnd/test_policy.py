"""What becomes of packets by policy type: OpenBSD's table of outcomes (ipsec.conf(5), sys/netinet/ip_spd.c)."""

import contextlib
import subprocess
import time

from espcraft import Sealer, ipv4, udp
from lab.gateway import program, write_private
from lab.namespace import stop_process, wait_for
from lab.topology import GW1, GW2, HOST1, HOST2, LAN1, LAN2, TwoGateways, ping
from support import EndToEndTest

COUNT = 5
PORT = 7100
# type: ((out with an SA), (out without), (in protected), (in in clear)); a name is the drop counter that has to move.
OUTCOMES = {
    "require": ("encrypt", "policy_no_sa", "pass", "policy_in_clear"),
    "acquire": ("encrypt", "clear", "pass", "pass"),
    "use": ("encrypt", "clear", "pass", "pass"),
    "dontacq": ("encrypt", "policy_no_sa", "pass", "policy_in_clear"),
    "bypass": ("clear", "clear", "pass", "pass"),
    "deny": ("policy_deny_out", "policy_deny_out", "policy_deny_in", "policy_deny_in"),
}


class PolicyOutcomes(EndToEndTest):
    """gw1 alone, its rules loaded anew for each cell; the internet namespace plays the far gateway."""

    time_limit = 180

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways()
        cls.addClassCleanup(cls.lab.close)
        cls.lab.meter()
        cls.lab.gw1.start()
        cls.sealer = Sealer(GW2, GW1, cls.lab.sa.spi_in, cls.lab.sa.enckey_in, cls.lab.sa.authkey_in)

    def setUp(self):
        self.sender = self.lab.lan1.udp_socket(HOST1)
        self.receiver = self.lab.lan1.udp_socket(HOST1, PORT, timeout=1)
        self.wire = self.lab.inet.packet_socket("to-gw1")
        for opened in (self.sender, self.receiver, self.wire):
            self.addCleanup(opened.close)
        # Neighbours are known on all sides before anything is counted.
        ping(self.lab.inet, GW1, count=1, timeout=3)
        self.lab.lan1.run("ping", "-c", "1", "-W", "2", "192.168.60.1", check=False)
        neighbor = self.lab.inet.run("ip", "neigh", "show", GW1).stdout.split()
        self.header = bytes.fromhex((neighbor[neighbor.index("lladdr") + 1] + self.lab.inet.mac("to-gw1"))
                                    .replace(":", "")) + b"\x08\x00"

    def load(self, direction, policy, with_sa, local=None):
        source, destination = (LAN1, LAN2) if direction == "out" else (LAN2, LAN1)
        peer = "" if policy in ("bypass", "deny") else f" peer {local or GW2}"
        rules = [] if policy is None else [f"flow esp {direction} from {source} to {destination}{peer} type {policy}\n"]
        if with_sa:
            rules.append(self.lab.sa.rule(self.lab.gw1.keys))
        write_private(self.lab.gw1.ipsec, "".join(rules))
        self.lab.gw1.gwctl("load", self.lab.gw1.ipsec)

    def assert_outcome(self, expected, outcomes, before):
        """Exactly COUNT packets had the outcome: counted on the wire or at the receiver, or named by a drop counter."""
        wanted = {**{name: 0 for name in outcomes()}, **({expected: COUNT} if expected in outcomes() else {})}

        def moved():
            return {name: count - before[0][name] for name, count in outcomes().items()}

        def dropped():
            after = self.lab.gw1.drops()
            changes = {name: after[name] - before[1].get(name, 0) for name in after}
            return {name: count for name, count in changes.items() if count}

        def is_complete():
            return moved() == wanted and (expected in wanted or dropped().get(expected) == COUNT)
        with contextlib.suppress(Exception):
            wait_for(is_complete, 3, expected)
        self.assertEqual(moved(), wanted)
        drops = dropped()
        self.assertEqual(drops, {} if expected in wanted else {expected: COUNT})

    def outbound(self, expected):
        def outcomes():
            wire = self.lab.metered()
            return {"encrypt": wire["esp_1to2"], "clear": wire["inner"]}
        before = outcomes(), self.lab.gw1.drops()
        for _ in range(COUNT):
            self.sender.sendto(b"by policy", (HOST2, PORT))
            time.sleep(0.02)
        self.assert_outcome(expected, outcomes, before)

    def inbound(self, expected, protected, sealer=None):
        received = []

        def outcomes():
            with contextlib.suppress(TimeoutError, BlockingIOError):
                self.receiver.setblocking(False)
                while True:
                    received.append(self.receiver.recv(100))
            return {"pass": len(received)}
        before = outcomes(), self.lab.gw1.drops()
        inner = ipv4(HOST2, HOST1, 17, udp(PORT, PORT, b"by policy"))
        for _ in range(COUNT):
            self.wire.send(self.header + ((sealer or self.sealer).seal(inner) if protected else inner))
            time.sleep(0.02)
        self.assert_outcome(expected, outcomes, before)

    def cells(self, column, check):
        for policy, outcomes in OUTCOMES.items():
            with self.subTest(policy=policy):
                check(policy, outcomes[column])

    def test_out_with_sa(self):
        def check(policy, expected):
            self.load("out", policy, with_sa=True)
            self.outbound(expected)
        self.cells(0, check)

    def test_out_without_sa(self):
        def check(policy, expected):
            self.load("out", policy, with_sa=False)
            self.outbound(expected)
        self.cells(1, check)

    def test_in_protected(self):
        def check(policy, expected):
            self.load("in", policy, with_sa=True)
            self.inbound(expected, protected=True)
        self.cells(2, check)

    def test_in_clear(self):
        def check(policy, expected):
            self.load("in", policy, with_sa=True)
            self.inbound(expected, protected=False)
        self.cells(3, check)

    def test_in_clear_without_sa(self):
        def check(policy, expected):
            self.load("in", policy, with_sa=False)
            self.inbound(expected, protected=False)
        self.cells(3, check)

    def test_no_policy(self):
        """In clear both ways; what comes out of a tunnel that no flow and no selector speaks of is not let in."""
        for with_sa in (True, False):
            with self.subTest(way="out", with_sa=with_sa):
                self.load("out", None, with_sa)
                self.outbound("clear")
            with self.subTest(way="in, in clear", with_sa=with_sa):
                self.load("in", None, with_sa)
                self.inbound("pass", protected=False)
        with self.subTest(way="in, protected"):
            self.load("in", None, with_sa=True)
            self.inbound("tunnel_policy", protected=True)

    def test_protected_by_another_peer_is_as_good_as_clear(self):
        for policy, expected in (("require", "tunnel_policy"), ("dontacq", "tunnel_policy"), ("use", "pass"),
                                 ("acquire", "pass")):
            with self.subTest(policy=policy):
                self.load("in", policy, with_sa=True, local="203.0.113.9")
                self.inbound(expected, protected=True)

    def test_deny_tells_the_sender(self):
        self.load("out", "deny", with_sa=False)
        self.sender.connect((HOST2, PORT))

        def refused():
            try:
                self.sender.send(b"by policy")
            except OSError as error:
                return error.errno
            return None
        self.assertEqual(wait_for(refused, 3, "an ICMP error reaches the sender"), 113)  # EHOSTUNREACH

    def acquires(self, provoke):
        """How many ACQUIREs `gwctl monitor` shows while provoke() runs."""
        path = self.lab.folder / "monitor"
        with open(path, "wb") as output:
            monitor = subprocess.Popen([program("gwctl"), "--run-dir", self.lab.gw1.run_dir, "monitor"], stdout=output,
                                       stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL)
        try:
            time.sleep(0.5)
            provoke()
            time.sleep(0.5)
        finally:
            stop_process(monitor)
        text = path.read_text(encoding="utf-8", errors="replace")
        return sum("SA needed" in line for line in text.splitlines()), text

    def test_which_types_acquire(self):
        """One ACQUIRE at a time for a policy that wants an SA, none for the others."""
        for policy in OUTCOMES:
            with self.subTest(policy=policy):
                expected = int(policy in ("require", "acquire"))
                self.load("out", policy, with_sa=False)
                count, text = self.acquires(lambda: self.outbound(OUTCOMES[policy][1]))
                self.assertEqual(count, expected, text)

    def test_which_types_acquire_for_what_comes_in_clear(self):
        """Types that acquire ask when the peer sends in clear, where there is no SA; with one there is nothing to ask for."""
        for policy in OUTCOMES:
            for with_sa in (False, True):
                with self.subTest(policy=policy, with_sa=with_sa):
                    self.load("in", policy, with_sa)
                    count, text = self.acquires(lambda: self.inbound(OUTCOMES[policy][3], protected=False))
                    self.assertEqual(count, int(policy in ("require", "acquire") and not with_sa), text)
