"""What the tests with key daemons share: two gateways without rules of their own, a charon on each."""

import os
import shutil
import time

from lab.charon import Charon, connection
from lab.namespace import run, wait_for
from lab.topology import GW1, GW2, HOST1, HOST2, LAN1, LAN2, TwoGateways, ping
from support import EndToEndTest


def start_both(lab):
    lab.gw1.start(wait=False)
    lab.gw2.start(wait=False)
    lab.gw1.wait_ready()
    lab.gw2.wait_ready()


class KeyingTest(EndToEndTest):
    """A test with key daemons in `daemons`, whose logs are shown where it fails."""

    lab_options = {}
    far_host, near_host, family = HOST2, HOST1, "ip"

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways(**cls.lab_options)
        cls.addClassCleanup(cls.lab.close)
        cls.lab.meter()
        start_both(cls.lab)

    def setUp(self):
        self.daemons = []
        for gateway in (self.lab.gw1, self.lab.gw2):
            gateway.gwctl("flush")

    def _callTestMethod(self, method):
        try:
            super()._callTestMethod(method)
        except Exception as error:
            for daemon in self.daemons:
                error.add_note(daemon.log_tail())
            error.add_note(f"on the wire {self.lab.metered(self.family)}")
            for gateway in filter(lambda gateway: gateway.is_running, (self.lab.gw1, self.lab.gw2)):
                error.add_note(f"{gateway.name} dropped {gateway.drops()}\n{gateway.gwctl('show', 'sa', '-v').stdout}")
            raise

    def add(self, daemon):
        self.daemons.append(daemon)
        self.addCleanup(daemon.stop)
        return daemon

    def assert_traffic(self, count=10, encapsulated=False):
        """Echoes cross both ways, protected, and nothing of it in clear; the SAs' counters say the same."""
        lab = self.lab
        # The first packets may wait for neighbours that a new lab does not know, or for SAs.
        wait_for(lambda: ping(lab.lan1, self.far_host, count=1, timeout=1)[1] == 1, 20, "a first answer")
        wait_for(lambda: ping(lab.lan2, self.near_host, count=1, timeout=1)[1] == 1, 20, "a first answer back")
        before, input_before = lab.metered(self.family), self.protected_input()
        self.assertEqual(ping(lab.lan1, self.far_host, count=count, interval=0.05, timeout=3), (count, count))
        self.assertEqual(ping(lab.lan2, self.near_host, count=count, interval=0.05, timeout=3), (count, count))
        after = lab.metered(self.family)
        self.assertEqual(after["inner"], before["inner"], "inner packets in clear on the wire")
        for name in ("esp_1to2", "esp_2to1"):
            protected = after[name] - before[name]
            if encapsulated:
                self.assertEqual(protected, 0, f"{name}: ESP outside of UDP")
            else:
                self.assertGreaterEqual(protected, 2 * count, name)
        for name, count_before in input_before.items():
            count_after = self.protected_input()[name]
            self.assertGreaterEqual(count_after - count_before, 2 * count, f"{name}: packets that its SAs accepted")

    def protected_input(self):
        time.sleep(0.1)
        return {gateway.name: sum(sa["counters"]["input_packets"] for sa in gateway.associations())
                for gateway in (self.lab.gw1, self.lab.gw2)}

    def spis(self, gateway=None):
        return {sa["spi"] for sa in (gateway or self.lab.gw1).associations()}


class CharonPairTest(KeyingTest):
    """Every test brings its connection."""

    charon_settings = ""

    def setUp(self):
        super().setUp()
        self.charons = [self.add(Charon(gateway, self.charon_settings)).start()
                        for gateway in (self.lab.gw1, self.lab.gw2)]

    def load(self, one=None, two=None, **settings):
        """Both sides of a connection; `one`, `two`: what is different on a side."""
        first, second = self.charons
        # The second before the first, which may begin at once.
        second.load(connection(**{**self.ends(2), **settings, **(two or {})}))
        first.load(connection(**{**self.ends(1), **settings, **(one or {})}))
        return first, second

    def ends(self, side):
        here, there = ((GW1, LAN1), (GW2, LAN2)) if side == 1 else ((GW2, LAN2), (GW1, LAN1))
        return {"local": here[0], "remote": there[0], "local_ts": here[1], "remote_ts": there[1]}


def make_certificates(lab, only=None):
    """An authority and a certificate for each gateway, ECDSA on P-256, in the folders beside swanctl.conf. `only` this
    gateway gets its from a new authority that the other does not know."""
    authority = lab.folder / "authority"
    shutil.rmtree(authority, ignore_errors=True)
    authority.mkdir()
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    run("openssl", "req", "-x509", *new_key, "-days", 2, "-subj", "/CN=authority of the lab",
        "-keyout", authority / "ca.key", "-out", authority / "ca.crt")
    for gateway in (lab.gw1, lab.gw2):
        if only not in (None, gateway.name):
            continue
        folder, name = gateway.folder / "charon", f"{gateway.name}.example"
        for kind in ("x509ca", "x509", "private"):
            shutil.rmtree(folder / kind, ignore_errors=True)
            (folder / kind).mkdir(parents=True)
        shutil.copy(authority / "ca.crt", folder / "x509ca" / "ca.crt")
        key = folder / "private" / f"{gateway.name}.key"
        run("openssl", "req", *new_key, "-subj", f"/CN={name}", "-keyout", key, "-out", authority / "request")
        os.chmod(key, 0o600)
        (authority / "extensions").write_text(f"subjectAltName=DNS:{name}\n", encoding="ascii")
        run("openssl", "x509", "-req", "-days", 2, "-in", authority / "request", "-CA", authority / "ca.crt",
            "-CAkey", authority / "ca.key", "-CAcreateserial", "-extfile", authority / "extensions",
            "-out", folder / "x509" / f"{gateway.name}.crt")
