"""10,000 CHILD SAs (a pair of SAs and three policies each) come by each key socket in bursts, are listed, rekeyed and
deleted, while numbered packets cross a tunnel of the same gateway: all come, once, and no listing takes long."""

import os
import threading
import time

from keyload import PFKey, XFRM, Child, DAEMON_GROUPS
from keylistings import listings
from lab.topology import GW1, HOST1, HOST2, TwoGateways, ping
from streams import Streams
from support import EndToEndTest

CHILDREN = 50_000 if os.environ.get("GW_LONG") else 10_000
SAS, POLICIES = 2 * CHILDREN, 3 * CHILDREN
# Packets a second and way.
RATE = 500
# For one listing, on a machine that has much else to do.
PATIENCE = 90 if CHILDREN == 10_000 else 400


class KeyScaleTest(EndToEndTest):
    time_limit = 400 if CHILDREN == 10_000 else 1800

    def setUp(self):
        # Gateways of its own for each test: their memory is measured.
        self.lab = TwoGateways(settings={"limits": f"{{sas: {2 * SAS + 100}, policies: {POLICIES + 100}}}"})
        self.addCleanup(self.lab.close)
        self.lab.start_static()
        status = self.lab.gw1.show_status()
        self.static, self.flows = status["sa_count"], status["flow_count"]

    def test_xfrm(self):
        with XFRM(self.lab.gw1.run_dir, groups=DAEMON_GROUPS) as client:
            # Joined to everything, and never reads.
            with XFRM(self.lab.gw1.run_dir, groups=0xFF):
                self.live(client)
            self.assertEqual(client.notices, 0)

    def test_pfkey(self):
        with PFKey(self.lab.gw1.run_dir, register=True) as client, PFKey(self.lab.gw1.run_dir, register=True) as reader:
            self.live(client)
            # It was told of everything and read nothing, until now.
            self.assertGreater(self.unread(reader), 0)

    def live(self, client):
        lab, gateway = self.lab, self.lab.gw1
        children = [Child(number, GW1) for number in range(CHILDREN)]
        self.assertEqual(ping(lab.lan1, HOST2, count=3)[1], 3)
        drops = [lab.gw1.drops(), lab.gw2.drops()]
        before = gateway.resident_bytes()
        with Streams(lab, (lab.lan1, HOST1), (lab.lan2, HOST2), rate=RATE, seconds=self.time_limit) as streams:
            with Lister(gateway) as lister:
                installed = client.install(children)
            self.assertLess(max(lister.seconds), PATIENCE, "a listing while SAs come")
            after = gateway.resident_bytes()
            self.assert_counts(client, SAS, POLICIES)
            took = self.list_all(gateway, SAS)
            with Lister(gateway):
                rekeyed = client.rekey(children)
            self.assert_counts(client, SAS, POLICIES)
            deleted = client.delete(children)
            self.assert_counts(client, 0, 0)
            self.assertTrue(streams.running())
            streams.stop()
            streams.check(self, drops)
        print(f"        {client.kind}: {CHILDREN} children installed in {installed:.1f} s, rekeyed in {rekeyed:.1f} s, "
              f"deleted in {deleted:.1f} s;\n        {(after - before) / SAS:.0f} bytes an SA with its policies; {took};\n"
              f"        {streams.summary()}", flush=True)

    def assert_counts(self, client, sas, policies):
        status = self.lab.gw1.show_status()
        self.assertEqual((status["sa_count"], status["flow_count"]), (sas + self.static, policies + self.flows))
        began = time.monotonic()
        self.assertEqual(client.dump(), sas + self.static)
        self.assertLess(time.monotonic() - began, PATIENCE, "a dump")

    def list_all(self, gateway, sas):
        took = []
        for listing in listings(gateway):
            count, seconds = listing.run(gateway.folder)
            self.assertEqual(count, sas + self.static, listing.name)
            self.assertLess(seconds, PATIENCE, listing.name)
            took.append(f"{listing.name} {seconds:.1f} s")
        return ", ".join(took)

    @staticmethod
    def unread(client):
        count = 0
        client.socket.setblocking(False)
        while True:
            try:
                client.socket.recv(65536)
            except BlockingIOError:
                return count
            count += 1


class Lister:
    """A context: lists a gateway's SAs again and again meanwhile, each way in turn."""

    def __init__(self, gateway):
        self.gateway, self.seconds, self.error = gateway, [], None
        self.stopped = threading.Event()
        self.thread = threading.Thread(target=self._run)

    def _run(self):
        try:
            while True:
                for listing in listings(self.gateway):
                    self.seconds.append(listing.run(self.gateway.folder)[1])
                    if self.stopped.is_set():
                        return
        except Exception as error:
            self.error = error

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.thread.join()
        if self.error:
            raise self.error
