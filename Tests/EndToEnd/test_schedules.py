"""More SAs than key schedules: packets wait while one is made in the place of another's, and none is lost."""

from lab.topology import HOST1, HOST2, ping
from support import TwoGatewaysTest


class OneSchedule(TwoGatewaysTest):
    """Each gateway has an SA out and one in, which take the one schedule from each other."""
    options = {"settings": {"limits": "{schedules: 1}"}}

    def test_every_packet_arrives(self):
        ping(self.lab.lan1, HOST2, count=1)  # neighbours are resolved
        before = self.counters()
        self.assertEqual(ping(self.lab.lan1, HOST2, count=20), (20, 20))
        self.assertEqual(ping(self.lab.lan2, HOST1, count=20), (20, 20))
        self.assertEqual(self.difference(before), (40,) * 6)
        for gateway in (self.lab.gw1, self.lab.gw2):
            self.assertNotIn("sa_unkeyed", gateway.drops())
