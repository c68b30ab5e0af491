"""What may go wrong between key daemons and the gateway, a row a test, as the table in README promises it."""

import contextlib
import errno
import os
import random
import select
import signal
import socket
import struct
import subprocess
import sys
import time
import unittest

import keywire
import rawkeys
from keying import KeyingTest
from lab.capture import Capture
from lab.charon import Charon, connection
from lab.echo import ping
from lab.iked import Iked, rule
from lab.namespace import wait_for
from lab.topology import GW1, GW2, HOST2, LAN1, LAN2
from rawkeys import SA, PFKeyClient, XFRMClient
from support import TwoGatewaysTest

PEER = "200.69.110.80"
MEBIBYTE = 1 << 20


class HostileClients(TwoGatewaysTest):
    """Clients of gw1's key sockets that no daemon is like. Before and after: a tunnel with traffic, a client that is well
    behaved; nothing passes in clear."""

    time_limit = 180

    def setUp(self):
        self.gateway = self.lab.gw1
        self.addCleanup(self.sweep)
        self.inner = self.lab.metered()["inner"]
        self.well_behaved()
        wait_for(lambda: ping(self.lab.lan1, HOST2, count=3, interval=0.05) == (3, 3), 20, "traffic at the beginning")
        self.resident = self.gateway.resident_bytes()
        self.descriptors = self.open_descriptors()
        self.echoes = self.lab.lan1.popen("ping", "-n", "-q", "-i", "0.02", HOST2, stdout=subprocess.PIPE, text=True)
        self.addCleanup(self.echoes.kill)

    def sweep(self):
        """Deletes every SA but those of ipsec.conf."""
        static = {self.lab.sa.spi_out, self.lab.sa.spi_in}
        with XFRMClient(self.gateway) as client:
            names = [rawkeys.sa_name(body) for body in client.dump()]
            self.pipeline(client, [(keywire.DELSA, name) for name in names
                                   if int.from_bytes(name[16:20], "big") not in static])

    def open_descriptors(self):
        return len(os.listdir(f"/proc/{self.gateway.pid}/fd"))

    def well_behaved(self):
        """Another client of either socket is served at once, and gwctl."""
        begin = time.monotonic()
        xfrm, pfkey = SA(GW1, PEER, 0x4001), SA(GW1, PEER, 0x4002, "cbc")
        with XFRMClient(self.gateway) as client:
            client.add(xfrm)
            client.get(xfrm)
            client.delete(xfrm)
        with PFKeyClient(self.gateway) as client:
            client.add(pfkey)
            client.get(pfkey)
            client.delete(pfkey)
        self.assertLess(time.monotonic() - begin, 10, "a well behaved client has to wait")
        return self.gateway.show_status()

    def assert_unharmed(self, growth=48):
        """After a row, with what its clients hold still open. `growth`: MiB that gwd may have taken."""
        self.assertTrue(self.gateway.is_running, self.gateway.log_tail())
        self.well_behaved()
        self.assertIsNone(self.echoes.poll())
        time.sleep(0.5)
        self.echoes.send_signal(signal.SIGINT)
        text = self.echoes.communicate(timeout=20)[0]
        words = text[text.index("statistics ---"):].replace(",", "").split()
        sent, answered = int(words[2]), int(words[5])
        # A few may be under way, or fall to a busy machine; a data path that stood still would lose seconds.
        self.assertGreaterEqual(answered, sent * 0.5 - 5, f"traffic did not go on: {answered} of {sent}")
        self.assertEqual(ping(self.lab.lan1, HOST2, count=3, interval=0.05, timeout=3), (3, 3))
        self.assertEqual(self.lab.metered()["inner"], self.inner, "packets in clear on the wire")
        self.assertLess(self.gateway.resident_bytes() - self.resident, growth * MEBIBYTE, "gwd's memory grew")

    def counters(self, name):
        return next(socket for socket in self.gateway.show_status()["key_sockets"] if socket["name"] == name)

    def fill(self, count, first=0x20000):
        """SAs for dumps, sixteen requests at a time."""
        sas = [SA(GW1, PEER, first + number) for number in range(count)]
        with XFRMClient(self.gateway) as client:
            self.pipeline(client, [(keywire.NEWSA, rawkeys.sa_info(sa) + rawkeys.sa_attributes(sa)) for sa in sas])
        return sas

    def pipeline(self, client, requests):
        pending = 0
        for kind, payload in requests:
            client.send(kind, payload)
            pending += 1
            if pending == 16:
                self.drain(client, pending)
                pending = 0
        self.drain(client, pending)

    def drain(self, client, count):
        while count:
            for kind, _, body in keywire.messages(client.socket.recv(1 << 17)):
                if kind == keywire.NLMSG_ERROR:
                    self.assertEqual(struct.unpack_from("=i", body)[0], 0)
                    count -= 1

    def send_until_full(self, client, make, patience=1.0, most=200_000):
        """Sends without ever reading until gwd takes no more for a while: how many were taken."""
        client.socket.setblocking(False)
        sent, last, message = 0, time.monotonic(), make()
        while time.monotonic() - last < patience and sent < most:
            try:
                client.socket.send(message)
                sent, last, message = sent + 1, time.monotonic(), make()
            except BlockingIOError:
                time.sleep(0.01)
            except (BrokenPipeError, ConnectionResetError):
                break
        client.socket.settimeout(10)
        return sent

    # Socket full

    def test_answers_never_read(self):
        """No further requests are read; those that were get their answers, in order, if the client thinks better of it."""
        sa = self.fill(1)[0]
        with XFRMClient(self.gateway) as client, PFKeyClient(self.gateway) as other:
            sent = self.send_until_full(client, lambda: client.message(keywire.GETSA, rawkeys.sa_id(sa), 0))
            sent_other = self.send_until_full(
                other, lambda: other.message(keywire.SADB_GET, rawkeys.pf_sa(sa)[:16] + rawkeys.pf_ends(sa)))
            self.assertLess(sent, 200_000, "gwd takes requests for ever")
            self.assertLess(sent_other, 200_000, "gwd takes requests for ever")
            self.assert_unharmed()
            for number in range(1, sent + 1):
                answers = list(keywire.messages(client.socket.recv(1 << 17)))
                self.assertEqual([(kind, sequence) for kind, sequence, _ in answers], [(keywire.NEWSA, number)])
            for number in range(1, sent_other + 1):
                self.assertEqual(struct.unpack_from("=I", other.socket.recv(1 << 17), 8)[0], number)

    def test_dumps_never_read(self):
        """A dump is made only as far as it is read."""
        self.fill(2000)
        clients = [XFRMClient(self.gateway) for _ in range(8)] + [PFKeyClient(self.gateway) for _ in range(8)]
        for client in clients:
            self.addCleanup(client.close)
            if isinstance(client, XFRMClient):
                client.send(keywire.GETSA, b"", keywire.NLM_DUMP)
            else:
                client.send(keywire.SADB_DUMP, satype=0)
        self.assert_unharmed()

    # Slow readers

    def make_events(self, count):
        """So many SAs come and go: an event each to the sockets that asked for them."""
        with XFRMClient(self.gateway, groups=0) as client:
            sas = [SA(GW1, PEER, 0x40000 + number) for number in range(250)]
            for _ in range(count // 500):
                self.pipeline(client, [(keywire.NEWSA, rawkeys.sa_info(sa) + rawkeys.sa_attributes(sa)) for sa in sas])
                self.pipeline(client, [(keywire.DELSA, rawkeys.sa_id(sa)) for sa in sas])

    def test_slow_readers(self):
        """Notices beyond 1 MiB are dropped and counted; XFRM's reader is told (NLMSG_OVERRUN, the shim's ENOBUFS), and hears
        again what comes after."""
        silent, crawling = XFRMClient(self.gateway, rawkeys.GROUP_ALL), XFRMClient(self.gateway, rawkeys.GROUP_ALL)
        registered = PFKeyClient(self.gateway)
        for client in (silent, crawling, registered):
            self.addCleanup(client.close)
        registered.register()
        before = {name: self.counters(name)["dropped_notices"] for name in ("xfrm", "pfkey")}
        for _ in range(4):
            self.make_events(5000)
            self.assertEqual(len(crawling.socket.recv(1)), 1)
        for name, count in before.items():
            self.assertGreater(self.counters(name)["dropped_notices"], count, name)
        self.assert_unharmed()
        kinds = set()
        while keywire.NLMSG_OVERRUN not in kinds:
            kinds |= {kind for kind, _, _ in keywire.messages(silent.socket.recv(1 << 17))}
        sa = self.fill(1, 0x50000)[0]
        while not any(sa.spi.to_bytes(4, "big") in body for _, _, body in
                      keywire.messages(silent.socket.recv(1 << 17))):
            pass
        registered.get(sa)

    # Half a message, lengths that lie

    def messages(self):
        """Requests of every kind with lengths inside: (socket, message)."""
        gcm, cbc = SA(GW1, PEER, 0x9001), SA(GW1, PEER, 0x9002, "cbc")
        replay = keywire.attribute(keywire.ATTR_REPLAY_ESN, struct.pack("=6I", 1, 0, 0, 0, 0, 32) + bytes(4))
        policy = rawkeys.policy("10.77.0.0/24", "10.78.0.0/24", 1, GW1, PEER, 7)
        xfrm, pfkey = XFRMClient(self.gateway), PFKeyClient(self.gateway)
        self.addCleanup(xfrm.close)
        self.addCleanup(pfkey.close)
        spi_range = rawkeys.pf_extension(keywire.SPIRANGE, struct.pack("=III", 0x1000, 0xFFFF, 0))
        proposal = rawkeys.pf_extension(keywire.PROPOSAL, bytes([32, 0, 0, 0]) + bytes(64))
        return [
            *(("xfrm", xfrm.message(kind, payload)) for kind, payload in (
                (keywire.NEWSA, rawkeys.sa_info(gcm) + rawkeys.sa_attributes(gcm) + replay),
                (keywire.UPDSA, rawkeys.sa_info(cbc) + rawkeys.sa_attributes(cbc)),
                (keywire.NEWPOLICY, policy), (keywire.ALLOCSPI, rawkeys.sa_info(gcm, 0) + struct.pack("=II", 256, 4096)),
                (keywire.GETSA, rawkeys.sa_id(gcm)))),
            *(("pfkey", pfkey.message(kind, payload)) for kind, payload in (
                (keywire.SADB_ADD, rawkeys.pf_sa(cbc) + rawkeys.pf_lifetimes(100, 200) + rawkeys.pf_ends(cbc)
                 + rawkeys.pf_keys(cbc)),
                (keywire.SADB_GETSPI, rawkeys.pf_ends(cbc) + spi_range),
                (keywire.SADB_ACQUIRE, rawkeys.pf_ends(cbc) + proposal),
                (keywire.SADB_GET, rawkeys.pf_sa(cbc)[:16] + rawkeys.pf_ends(cbc)))),
        ]

    def throw(self, datagrams):
        """Sends what is hardly a message to a socket, reads what is said to it, deletes what came of it."""
        sockets = {}
        for name, datagram in datagrams:
            if name not in sockets:
                sockets[name] = rawkeys.connect(self.gateway.run_dir / f"{name}.sock")
                self.addCleanup(sockets[name].close)
                sockets[name].setblocking(False)
            self.send_and_read(sockets[name], datagram)
        self.sweep()

    def send_and_read(self, sock, datagram, limit=10):
        """Reads while it waits for room: the gateway takes no requests of a client that leaves its answers unread."""
        end, is_sent = time.monotonic() + limit, False
        while not is_sent:
            self.assertLess(time.monotonic(), end, "no room for a request, although every answer was read")
            select.select([sock], [sock], [], 1)
            with contextlib.suppress(BlockingIOError):
                sock.send(datagram)
                is_sent = True
            with contextlib.suppress(BlockingIOError):
                while sock.recv(1 << 17):
                    pass

    def test_half_a_message(self):
        """Cut at every length, the length inside as it was or as it is now: refused, and no SA comes of it."""
        datagrams = []
        for name, message in self.messages():
            for length in range(1, len(message)):
                cut = message[:length]
                datagrams.append((name, cut))
                if length >= 16 and name == "xfrm":
                    datagrams.append((name, struct.pack("=I", length) + cut[4:]))
                if length >= 16 and name == "pfkey" and length % 8 == 0:
                    datagrams.append((name, cut[:4] + struct.pack("=H", length // 8) + cut[6:]))
        refused = {name: self.counters(name)["refused_requests"] for name in ("xfrm", "pfkey")}
        count = self.gateway.show_status()["sa_count"]
        self.throw(datagrams)
        for name, before in refused.items():
            self.assertGreater(self.counters(name)["refused_requests"], before + 500)
        self.assertLessEqual(self.gateway.show_status()["sa_count"], count)
        self.assert_unharmed()

    def test_every_length_lies(self):
        """Each 16- and 32-bit word of each message in turn is 0, 1, too large by one, as large as can be."""
        datagrams = []
        for name, message in self.messages():
            is_policy = name == "xfrm" and message[4] == keywire.NEWPOLICY
            for offset in range(0, len(message) - 3, 2):
                # The selector's lengths: a policy for everything is in order, and would stop the traffic.
                if is_policy and 16 <= offset < 72:
                    continue
                for size, form in ((2, "=H"), (4, "=I")):
                    value = struct.unpack_from(form, message, offset)[0]
                    top = (1 << 8 * size) - 1
                    for lie in {0, 1, 4, (value + 1) & top, (value - 1) & top, (value + 8) & top, top >> 1, top - 3, top}:
                        if lie != value:
                            datagrams.append((name, message[:offset] + struct.pack(form, lie) + message[offset + size:]))
        seed = random.SystemRandom().randrange(1 << 32)
        chosen = random.Random(seed).sample(datagrams, min(len(datagrams), 12_000))
        with self.subTest(seed=seed):
            self.throw(chosen)
            self.throw(self.lying_keys())
            self.assert_unharmed()

    @staticmethod
    def lying_keys():
        """The lengths that matter most, every one of them: of attributes, extensions, keys, proposals."""
        gcm, cbc = SA(GW1, PEER, 0x9001), SA(GW1, PEER, 0x9002, "cbc")
        info, key = rawkeys.sa_info(gcm), rawkeys.sa_attributes(gcm)
        header = struct.pack("=IHHII", 16 + len(info) + len(key), keywire.NEWSA, 5, 1, 0)
        add = rawkeys.pf_sa(cbc) + rawkeys.pf_ends(cbc) + rawkeys.pf_keys(cbc)
        start = struct.pack("=BBBBHHII", 2, keywire.SADB_ADD, 0, 3, 2 + len(add) // 8, 0, 1, 1)
        for lie in (*range(0, 600), 0x7FFF, 0x8000, 0xFFF0, 0xFFFF):
            yield "xfrm", header + info + struct.pack("=H", lie) + key[2:]
            for large in (lie, 0x10000 + lie, 0xFFFFFFFF - lie):
                yield "xfrm", header + info + key[:68] + struct.pack("=I", large) + key[72:]
                yield "xfrm", header + info + key[:72] + struct.pack("=I", large) + key[76:]
            at = len(add) - 40
            yield "pfkey", start + add[:at] + struct.pack("=H", lie) + add[at + 2:]
            yield "pfkey", start + add[:at + 4] + struct.pack("=H", lie) + add[at + 6:]

    def test_longer_than_any_message(self):
        """A datagram beyond 64 KiB is cut, so it is refused; one of 64 KiB of requests is carried out."""
        with XFRMClient(self.gateway) as client:
            one = client.message(keywire.GETSADINFO, struct.pack("=I", 0), 0)
            client.socket.send(one * ((1 << 16) // len(one)))
            for _ in range((1 << 16) // len(one)):
                self.assertEqual(next(keywire.messages(client.socket.recv(1 << 17)))[0], keywire.NEWSADINFO)
            client.socket.send(struct.pack("=IHHII", 100_000, keywire.NEWSA, 5, 9, 0) + bytes(100_000 - 16))
            kind, sequence, body = next(keywire.messages(client.socket.recv(1 << 17)))
            self.assertEqual((kind, sequence, -struct.unpack_from("=i", body)[0]),
                             (keywire.NLMSG_ERROR, 9, errno.EINVAL))
        self.assert_unharmed()

    # Connections

    def test_connects_thousands_of_times(self):
        for number in range(3000):
            name = ("xfrm", "pfkey")[number % 2]
            rawkeys.connect(self.gateway.run_dir / f"{name}.sock").close()
        wait_for(lambda: self.open_descriptors() <= self.descriptors, 20, "gwd has closed what its clients closed")
        self.assert_unharmed()

    def test_holds_a_thousand_connections(self):
        """A process has 64 on a socket; the others, and other processes, are not in its way."""
        before = sum(self.counters(name)["turned_away"] for name in ("xfrm", "pfkey"))
        hog = subprocess.Popen(
            [sys.executable, "-c", f"""
import socket, sys
held = []
for number in range(900):
    client = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    client.connect("{self.gateway.run_dir}/" + ("xfrm.sock", "pfkey.sock")[number % 2])
    held.append(client)
print("held", flush=True)
sys.stdin.read()
"""], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addCleanup(hog.kill)
        self.assertEqual(hog.stdout.readline(), "held\n")
        wait_for(lambda: sum(self.counters(name)["turned_away"] for name in ("xfrm", "pfkey")) >= before + 900 - 128, 20,
                 "connections turned away")
        self.assertLessEqual(self.open_descriptors(), self.descriptors + 128 + 8)
        self.assert_unharmed()
        hog.communicate("")
        wait_for(lambda: self.open_descriptors() <= self.descriptors, 20, "gwd has closed what its client held")

    def test_closes_in_the_middle_of_a_dump(self):
        self.fill(1000)
        for number in range(200):
            if number % 2:
                with XFRMClient(self.gateway) as client:
                    client.send(keywire.GETSA, b"", keywire.NLM_DUMP)
                    client.socket.recv(1 << 16)
            else:
                with PFKeyClient(self.gateway) as client:
                    client.send(keywire.SADB_DUMP, satype=0)
                    client.socket.recv(1 << 16)
        wait_for(lambda: self.open_descriptors() <= self.descriptors, 20, "gwd has closed what its clients closed")
        with XFRMClient(self.gateway) as client:
            self.assertGreaterEqual(len(client.dump()), 1000)
        self.assert_unharmed()


class DaemonCrash(KeyingTest):
    """Real daemons on both sides; a capture runs on the wire all the while. `on_exit` is gw1's and gw2's `on-ike-exit`."""

    time_limit = 180
    on_exit = None

    @classmethod
    def setUpClass(cls):
        cls.lab_options = {"settings": {"on-ike-exit": cls.on_exit}}
        super().setUpClass()

    def setUp(self):
        super().setUp()
        for gateway in (self.lab.gw1, self.lab.gw2):
            if not gateway.is_running:
                gateway.start()
        # Packets in clear from before the first policies are nobody's fault; from here on there are policies.
        self.first = self.charon(self.lab.gw1, GW1, GW2, LAN1, LAN2)
        self.second = self.charon(self.lab.gw2, GW2, GW1, LAN2, LAN1)
        self.begin()
        self.assert_traffic()
        self.inner = self.lab.metered()["inner"]
        self.capture = Capture(self.lab.inet, "to-gw1", self.lab.folder / f"{self.id()}.pcap")
        self.addCleanup(self.capture.stop)
        # An impatient LAN: it goes on through everything.
        self.echoes = self.lab.lan1.popen("ping", "-n", "-q", "-i", "0.02", HOST2)
        self.addCleanup(self.echoes.kill)
        self.old = self.spis()

    def charon(self, gateway, local, remote, local_ts, remote_ts):
        charon = self.add(Charon(gateway)).start()
        # A peer that gives up meanwhile is another matter.
        charon.load(connection(local, remote, local_ts, remote_ts, options="dpd_delay = 60s"))
        return charon

    def first_again(self):
        self.first = self.charon(self.lab.gw1, GW1, GW2, LAN1, LAN2)
        self.begin()

    def comes_back(self):
        self.first_again()
        self.works_again()

    def gateway_again(self, seconds, what):
        """gw1 was killed: its daemon ends by itself (its unit starts it again), then gw1 is there without it."""
        wait_for(lambda: self.first.process.poll() is not None, seconds, what)
        self.lab.gw1.start()

    def begin(self):
        self.first.initiate()

    def answers(self):
        return ping(self.lab.lan1, HOST2, count=1, timeout=1)[1] == 1

    def works_again(self):
        """By new SAs, with traffic; all the while no packet in clear and no number sent twice under one SPI."""
        wait_for(lambda: self.answers() and self.spis() - self.old, 40, "traffic by new SAs")
        self.assert_traffic()
        self.nothing_wrong_on_the_wire()

    def nothing_wrong_on_the_wire(self):
        self.assertEqual(self.lab.metered()["inner"], self.inner, "packets in clear on the wire")
        self.capture.stop()
        clear = self.capture.tshark("-Y", "icmp.type == 8 && ip.src == 192.168.60.0/24", "-T", "fields", "-e",
                                    "frame.number")
        self.assertEqual(clear.split(), [], "packets in clear in the capture")
        sent = self.capture.tshark("-Y", f"esp && ip.src == {GW1}", "-T", "fields", "-e", "esp.spi", "-e",
                                   "esp.sequence").splitlines()
        self.assertTrue(sent, "nothing protected on the wire")
        self.assertEqual(len(sent), len(set(sent)), "a sequence number, and so a nonce, stands for two packets")

    def drops_without_sa(self):
        drops = self.lab.gw1.drops()
        return sum(drops.get(reason, 0) for reason in ("policy_no_sa", "sa_queue_full", "sa_wait_timeout"))

    def blocked(self):
        """Policies hold back what has no SA."""
        self.assertTrue(self.lab.gw1.show("flow"))
        drops = self.drops_without_sa()
        wait_for(lambda: self.drops_without_sa() > drops, 20, "packets without an SA are counted")
        self.assertFalse(self.answers())
        self.assertEqual(self.lab.metered()["inner"], self.inner, "packets in clear on the wire")


class Keep(DaemonCrash):
    on_exit = "keep"

    def test_daemon_killed(self):
        self.first.kill()
        time.sleep(2)
        self.assertEqual(self.spis(), self.old)
        self.assert_traffic()
        self.comes_back()

    def test_gateway_killed(self):
        """charon ends with the gateway (its unit starts it again). Until it is back its policies stand, without SAs."""
        self.lab.gw1.kill()
        self.gateway_again(15, "charon noticing")
        self.assertEqual(self.lab.gw1.associations(), [])
        self.blocked()
        self.comes_back()

    def test_both_killed(self):
        self.first.kill()
        self.lab.gw1.kill()
        self.lab.gw1.start()
        self.blocked()
        self.comes_back()

    def test_both_gateways_killed(self):
        self.lab.gw1.kill()
        self.lab.gw2.kill()
        for charon in (self.first, self.second):
            wait_for(lambda charon=charon: charon.process.poll() is not None, 15, "charon noticing")
        self.lab.gw1.start()
        self.lab.gw2.start()
        self.blocked()
        self.second = self.charon(self.lab.gw2, GW2, GW1, LAN2, LAN1)
        self.comes_back()

    def test_gateway_stopped_in_order(self):
        """The policies stand again, until the operator takes them away; then they stay away."""
        gateway = self.lab.gw1
        gateway.stop()
        gateway.start()
        self.blocked()
        self.nothing_wrong_on_the_wire()
        self.echoes.kill()
        gateway.gwctl("flush")
        self.assertEqual(gateway.show("flow"), [])
        gateway.stop()
        gateway.start()
        self.assertEqual(gateway.show("flow"), [])

    def test_daemon_stopped_in_order(self):
        """It takes its SAs and policies along: that is no crash. The peer's are closed with them."""
        self.echoes.kill()
        self.first.stop()
        wait_for(lambda: not self.lab.gw1.associations() and not self.lab.gw1.show("flow"), 20, "SAs and policies gone")


class Flush(DaemonCrash):
    on_exit = "flush"

    def test_daemon_killed(self):
        self.first.kill()
        wait_for(lambda: not self.lab.gw1.associations(), 10, "its SAs are gone")
        self.blocked()
        self.comes_back()


class Hold(DaemonCrash):
    on_exit = "hold 10"

    def test_daemon_back_in_time(self):
        """Its old SAs carry the traffic until it has new ones, and go at the end of the hold."""
        self.first.kill()
        self.assertTrue(self.old <= self.spis())
        wait_for(self.answers, 5, "traffic by the old SAs")
        self.first_again()
        wait_for(lambda: not self.old & self.spis() and self.spis(), 30, "only new SAs")
        self.works_again()

    def test_daemon_back_too_late(self):
        self.first.kill()
        wait_for(lambda: not self.lab.gw1.associations(), 20, "the SAs are gone at the end of the hold")
        self.blocked()
        self.comes_back()


@unittest.skipUnless(os.path.exists("/usr/sbin/iked"), "OpenIKED is not installed (Deploy/install-dependencies test)")
class IkedCrash(DaemonCrash):
    """The same over PF_KEY."""

    on_exit = "flush"

    def charon(self, gateway, local, remote, local_ts, remote_ts):
        return self.add(Iked(gateway)).start(rule(local, remote, local_ts, remote_ts, active=gateway is self.lab.gw1))

    def begin(self):
        """The active side begins by itself."""

    def test_daemon_killed(self):
        self.first.kill()
        wait_for(lambda: not self.lab.gw1.associations(), 10, "its SAs are gone")
        self.blocked()
        self.comes_back()

    def test_gateway_killed(self):
        self.lab.gw1.kill()
        self.gateway_again(20, "iked noticing")
        self.blocked()
        self.comes_back()
