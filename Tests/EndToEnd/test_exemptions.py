"""What goes by no policy although one covers it: the key daemon's IKE, and nothing of anybody else's. The policies cover
the gateways themselves, as README's do."""

import subprocess
import threading
import time

from keying import CharonPairTest, KeyingTest, make_certificates
from lab.capture import Capture, count_packets
from lab.iked import Iked
from lab.iked import rule as iked_rule
from lab.namespace import run, wait_for
from lab.topology import GW1, GW2, HOST2, LAN1, LAN2, ping


# As an unprivileged user: datagrams from a port, which may be another's too.
SENDER = """
import os, socket, sys, time
os.setgid(65534), os.setuid(65534)
port, destination, count, pause = int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try:
    s.bind(("0.0.0.0", port))
except OSError:
    sys.exit(3)
print("bound", flush=True)
for _ in range(count):
    s.sendto(b"a secret of the gateway's user" * 4, (destination, 9))
    time.sleep(pause)
"""


def covers_gateways(local, remote, local_net, remote_net):
    return f"{local_net},{local}/32", f"{remote_net},{remote}/32"


class CoveredCharons(CharonPairTest):
    """Trap policies for the networks and the gateways stand before the first message of IKE."""

    def ends(self, side):
        ends = super().ends(side)
        ends["local_ts"], ends["remote_ts"] = covers_gateways(
            ends["local"], ends["remote"], ends["local_ts"], ends["remote_ts"])
        return ends

    def assert_established(self):
        """The first packet asks for the SAs, which the gateways agree on in clear; theirs are protected then."""
        for gateway, far in ((self.lab.gw1, GW2), (self.lab.gw2, GW1)):
            wait_for(lambda g=gateway, f=far: f in g.gwctl("show", "flow").stdout, 10, "policies for the gateways")
        wait_for(lambda: ping(self.lab.lan1, HOST2, count=1, timeout=1)[1] == 1, 20, "the tunnel")
        self.assert_traffic()

    def test_ike_is_exempt(self):
        self.load(child_options="start_action = trap")
        self.assert_established()

    def test_ike_in_fragments(self):
        """IKE_AUTH larger than the link, without IKE's own fragmentation."""
        self.check_fragments()

    def check_fragments(self):
        make_certificates(self.lab)
        pad_certificates(self.lab)
        for charon, gateway in zip(self.charons, (self.lab.gw1, self.lab.gw2)):
            self.assertTrue((gateway.folder / "charon" / "x509" / f"{gateway.name}.crt").stat().st_size > 2500)
            self.assertIsNotNone(charon)
        names = {"gw1": "gw1.example", "gw2": "gw2.example"}
        capture = Capture(self.lab.inet, "to-gw1", self.lab.folder / "fragments.pcap", "udp or (ip[6:2] & 0x3fff != 0)")
        with capture:
            self.load(one={"certificate": "gw1.crt", "local_id": names["gw1"], "remote_id": names["gw2"]},
                      two={"certificate": "gw2.crt", "local_id": names["gw2"], "remote_id": names["gw1"]},
                      options="fragmentation = no", child_options="start_action = trap")
            self.assert_established()
        for end in (GW1, GW2):
            self.assertGreater(count_packets(capture.path, f"ip.src == {end} && ip.frag_offset > 0"), 0, end)


class CoveredCharonsDropPortless(CoveredCharons):
    """The same where pieces that show no ports are dropped."""

    lab_options = {"settings": {"portless-fragments": "drop"}}


class OtherPortTest(CharonPairTest):
    """IKE and ESP in UDP by ports of the administrator's own (RFC 3948 leaves 4500 to the NAT's far side alone)."""

    charon_settings = "port = 1500\n  port_nat_t = 4510"

    def ends(self, side):
        ends = super().ends(side)
        ends["local_ts"], ends["remote_ts"] = covers_gateways(
            ends["local"], ends["remote"], ends["local_ts"], ends["remote_ts"])
        return ends

    def test_tunnel(self):
        with Capture(self.lab.inet, "to-gw1", self.lab.folder / "ports.pcap", "udp") as capture:
            self.load(options="encap = yes\n    local_port = 4510\n    remote_port = 4510",
                      child_options="start_action = trap")
            wait_for(lambda: ping(self.lab.lan1, HOST2, count=1, timeout=1)[1] == 1, 20, "the tunnel")
            self.assert_traffic(encapsulated=True)
        self.assertGreater(count_packets(capture.path, "udp.port == 4510"), 40)
        self.assertEqual(count_packets(capture.path, "udp.port == 4500"), 0)


class LocalUserTest(KeyingTest):
    """A user of the gateway's host sends from IKE's ports to what a policy protects."""

    def load_flows(self):
        for gateway, text in zip((self.lab.gw1, self.lab.gw2), self.lab.flows()):
            gateway.write_ipsec([text])
            gateway.gwctl("load", gateway.ipsec)

    def send(self, port, destination=HOST2, count=200, pause=0.002):
        return self.lab.gw1.space.popen("/usr/bin/python3", "-c", SENDER, port, destination, count, pause,
                                        stdout=subprocess.PIPE, text=True)

    def capture(self, name):
        return Capture(self.lab.inet, "to-gw1", self.lab.folder / f"{name}.pcap", "udp port 9")

    def assert_nothing(self, capture):
        self.assertEqual(count_packets(capture.path), 0, "a user's packets in clear")

    def test_without_a_daemon(self):
        self.load_flows()
        with self.capture("alone") as capture:
            for destination in (HOST2, GW2):
                user = self.send(4500, destination, 50)
                self.assertEqual(user.stdout.readline(), "bound\n")
                self.assertEqual(user.wait(20), 0)
        self.assert_nothing(capture)

    def test_beside_a_daemon(self):
        """iked asks for SO_REUSEADDR: the port may be shared with it no more."""
        iked = self.add(Iked(self.lab.gw1)).start(iked_rule(GW1, GW2, LAN1, LAN2, active=False))
        self.load_flows()
        with self.capture("beside") as capture:
            user = self.send(4500)
            self.assertEqual(user.wait(20), 3, "the user is bound to the daemon's port")
            # While the daemon goes and comes again somebody tries all the time.
            stop = threading.Event()
            tries = threading.Thread(target=self.keep_trying, args=(stop,))
            tries.start()
            try:
                for _ in range(2):
                    iked.kill()
                    time.sleep(0.5)
                    iked.start(iked_rule(GW1, GW2, LAN1, LAN2, active=False))
            finally:
                stop.set()
                tries.join()
        self.assert_nothing(capture)

    def keep_trying(self, stop):
        while not stop.is_set():
            self.send(4500, count=3, pause=0).wait(10)

    def test_who_came_before_the_daemon(self):
        """What shares the port with it keeps it from sending in clear, not the other way round."""
        self.load_flows()
        with self.capture("before") as capture:
            user = self.send(4500, count=1500)
            self.assertEqual(user.stdout.readline(), "bound\n")
            self.add(Iked(self.lab.gw1)).start(iked_rule(GW1, GW2, LAN1, LAN2, active=False))
            self.assertEqual(user.wait(30), 0)
            self.assertIn("4500", self.lab.gw1.log_tail(200))
        self.assert_nothing(capture)


def pad_certificates(lab):
    """New ones with many names, of some 2 kB."""
    authority = lab.folder / "authority"
    for gateway in (lab.gw1, lab.gw2):
        names = ",".join(f"DNS:name-{number:03}.of.{gateway.name}.example" for number in range(70))
        name = f"{gateway.name}.example"
        (authority / "extensions").write_text(f"subjectAltName=DNS:{name},{names}\n", encoding="ascii")
        key = gateway.folder / "charon" / "private" / f"{gateway.name}.key"
        run("openssl", "req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", authority / "request")
        run("openssl", "x509", "-req", "-days", 2, "-in", authority / "request", "-CA", authority / "ca.crt",
            "-CAkey", authority / "ca.key", "-CAcreateserial", "-extfile", authority / "extensions",
            "-out", gateway.folder / "charon" / "x509" / f"{gateway.name}.crt")
