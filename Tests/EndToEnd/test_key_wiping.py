"""Keys of SAs that are gone are nowhere in gwd's memory; those of SAs that stand are found, which shows that the search
works. Raw bytes (an expanded AES key begins with the key itself), hex, base64, HMAC's inner and outer states; halves count."""

import secrets
import time

from lab.echo import ping
from lab.gateway import StaticSA, write_private
from keying import start_both
from keywire import NEWPOLICY, SADB_DUMP
from lab.namespace import wait_for
from lab.topology import GW1, GW2, HOST2, LAN1, LAN2, SPI_1TO2, SPI_2TO1, TwoGateways
from memory import Scan, describe, hmac_states, make_hmac_key, make_key
from rawkeys import SA, PFKeyClient, XFRMClient, pf_lifetimes, policy
from support import EndToEndTest

PEER = "200.69.110.80"


def static_pair(spi_out, spi_in):
    pair = StaticSA(GW1, GW2, spi_out, spi_in)
    pair.authkey_out, pair.authkey_in = make_hmac_key(), make_hmac_key()
    pair.enckey_out, pair.enckey_in = make_key(16), make_key(16)
    return pair


def keys_of(pair):
    authentication = (pair.authkey_out, pair.authkey_in)
    return [pair.enckey_out, pair.enckey_in, *authentication, *(state for key in authentication for state in hmac_states(key))]


def assert_wiped(test, gateway, live, dead):
    """None of `dead` is left, a moment after their SAs went: workers have a grace period. All of `live` are found."""
    scan = Scan(gateway.pid)
    deadline = time.monotonic() + 30
    while True:
        found = scan.find([*live, *dead])
        left = {place: hits for place, hits in found.items() if place[0] >= len(live)}
        if not left or time.monotonic() > deadline:
            break
        time.sleep(1)
    test.assertEqual({number for number, form in found if form == "raw" and number < len(live)}, set(range(len(live))),
                     "the search does not find a standing SA's keys")
    test.assertFalse(left, f"keys of dead SAs (from number {len(live)} on) in memory:\n{describe(left)}")


class KeyWiping(EndToEndTest):
    time_limit = 180

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways()
        cls.addClassCleanup(cls.lab.close)
        cls.lab.sa = static_pair(SPI_1TO2, SPI_2TO1)
        cls.lab.start_static()

    def setUp(self):
        self.gateway = self.lab.gw1
        self.living = SA(GW1, PEER, 0x5000, "cbc")
        with XFRMClient(self.gateway) as client:
            client.add(self.living)
        self.addCleanup(self.forget)

    def forget(self):
        with XFRMClient(self.gateway) as client:
            client.delete(self.living)

    def assert_wiped(self, keys):
        assert_wiped(self, self.gateway, self.living.keys, keys)

    def sas(self, first_spi, count=6):
        return [SA(GW1, PEER, first_spi + number, ("gcm", "cbc")[number % 2]) for number in range(count)]

    def look_at_everything(self):
        """Whatever shows keys: a lazy operator's terminal, a monitor, both dumps."""
        self.gateway.gwctl("show", "sa", "-k")
        self.gateway.gwctl("show", "sa", "-k", "--json")
        with XFRMClient(self.gateway) as client:
            client.dump()
        with PFKeyClient(self.gateway) as client:
            client.send(SADB_DUMP, satype=0)
            client.socket.recv(1 << 16)

    def test_xfrm(self):
        """Added, updated from larval, shown, rekeyed over, deleted, expired."""
        with XFRMClient(self.gateway, groups=0xFF) as listener, XFRMClient(self.gateway) as client:
            sas = self.sas(0x6000)
            for sa in sas:
                client.add(sa)
                client.get(sa)
            for algorithm in ("gcm", "cbc"):
                inbound = SA(PEER, GW1, 0, algorithm)
                client.allocate(inbound)
                client.update(inbound)
                sas.append(inbound)
            short = SA(GW1, PEER, 0x6100, "cbc")
            client.add(short, soft_seconds=1, hard_seconds=2)
            refused = SA(GW1, PEER, 0x6200, "cbc")
            refused.integrity = make_key(24)
            with self.assertRaises(OSError):
                client.add(refused)
            self.look_at_everything()
            for sa in sas:
                client.delete(sa)
            self.assertTrue(listener.socket.recv(1 << 16))
            self.assert_wiped([key for sa in [*sas, short, refused] for key in sa.keys])

    def test_pfkey(self):
        with PFKeyClient(self.gateway) as client:
            client.register()
            sas = self.sas(0x7000)
            for sa in sas:
                if sa.algorithm == "gcm":
                    sa.algorithm, sa.encryption, sa.integrity = "cbc", make_key(32), make_hmac_key()
                client.add(sa)
                client.get(sa)
            inbound = SA(PEER, GW1, 0, "cbc")
            client.allocate(inbound)
            client.update(inbound)
            sas.append(inbound)
            short = SA(GW1, PEER, 0x7100, "cbc")
            client.add(short, lifetime=pf_lifetimes(1, 2))
            refused = SA(GW1, PEER, 0x7200, "cbc")
            refused.integrity = make_key(24)
            with self.assertRaises(OSError):
                client.add(refused)
            self.look_at_everything()
            for sa in sas:
                client.delete(sa)
            self.assert_wiped([key for sa in [*sas, short, refused] for key in sa.keys])

    def test_static_keys(self):
        """ipsec.conf: at the start, by gwctl load, by HUP; away with load and with delete."""
        first = self.lab.sa
        pairs = [static_pair(SPI_1TO2 + number, SPI_2TO1 + number) for number in (1, 2, 3)]
        flows = self.lab.flows()
        for number, pair in enumerate(pairs):
            for gateway, flow, side in ((self.lab.gw1, flows[0], pair), (self.lab.gw2, flows[1], pair.reversed())):
                gateway.write_ipsec([flow], [side])
                if number == 1:
                    gateway.hang_up()
                else:
                    gateway.gwctl("load", gateway.ipsec)
            self.lab.gw1.wait_counter(lambda: int(self.lab.gw1.sa(pair.spi_out) is not None), 1, 20)
            self.lab.gw2.wait_counter(lambda: int(self.lab.gw2.sa(pair.spi_in) is not None), 1, 20)
            self.assertEqual(ping(self.lab.lan1, HOST2, count=3, interval=0.1, timeout=3), (3, 3))
        with XFRMClient(self.gateway) as client:
            # HUP made of the SAs what the file says, and of ours nothing.
            client.get(self.living)
        self.look_at_everything()
        self.lab.sa = pairs[-1]
        self.assert_wiped([key for pair in [first, *pairs[:-1]] for key in keys_of(pair)])

    def test_pre_shared_key(self):
        """Of an ike rule, while the rule stands for a daemon to come, and when it is gone."""
        secret = secrets.token_hex(32)
        rules = self.gateway.ipsec.read_text(encoding="ascii")
        self.addCleanup(write_private, self.gateway.ipsec, rules)
        write_private(self.gateway.ipsec, rules + f'ike passive esp from {LAN1} to 10.9.9.0/24 peer {PEER} psk "{secret}"\n')
        self.gateway.gwctl("load", self.gateway.ipsec)
        found = Scan(self.gateway.pid).find([secret.encode()])
        self.assertIn((0, "raw"), found, "the search does not find a standing rule's secret")
        write_private(self.gateway.ipsec, rules)
        self.gateway.gwctl("load", self.gateway.ipsec)
        self.assert_wiped([secret.encode()])


class RekeyedTunnel(EndToEndTest):
    """Both gateways keyed by a client as a daemon keys them, a tunnel with traffic through every change of keys."""

    time_limit = 180

    @classmethod
    def setUpClass(cls):
        cls.lab = TwoGateways()
        cls.addClassCleanup(cls.lab.close)
        start_both(cls.lab)

    def test_rekeyed_under_traffic(self):
        first, second = XFRMClient(self.lab.gw1), XFRMClient(self.lab.gw2)
        self.addCleanup(first.close)
        self.addCleanup(second.close)
        for client, ends, lans in ((first, (GW1, GW2), (LAN1, LAN2)), (second, (GW2, GW1), (LAN2, LAN1))):
            client.expect(NEWPOLICY, policy(*lans, 1, *ends, 7))
            for direction in (0, 2):
                client.expect(NEWPOLICY, policy(*reversed(lans), direction, *reversed(ends), 7))
        generations = []
        for number, algorithm in enumerate(("gcm", "cbc", "chacha", "gcm")):
            pair = [SA(GW1, GW2, 0x8000 + number, algorithm, 7), SA(GW2, GW1, 0x9000 + number, algorithm, 7)]
            # Inbound first, as make before break has it.
            second.add(pair[0])
            first.add(pair[1])
            first.add(pair[0])
            second.add(pair[1])
            wait_for(lambda: ping(self.lab.lan1, HOST2, count=1)[1] == 1, 20, "traffic")
            self.assertEqual(ping(self.lab.lan1, HOST2, count=50, interval=0.01, timeout=3), (50, 50))
            for old in generations[-1] if generations else []:
                first.delete(old)
                second.delete(old)
            self.assertEqual(ping(self.lab.lan1, HOST2, count=20, interval=0.01, timeout=3), (20, 20))
            generations.append(pair)
        live = [key for sa in generations[-1] for key in sa.keys]
        dead = [key for pair in generations[:-1] for sa in pair for key in sa.keys]
        for gateway in (self.lab.gw1, self.lab.gw2):
            assert_wiped(self, gateway, live, dead)
