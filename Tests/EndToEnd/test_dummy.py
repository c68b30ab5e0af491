"""Dummy packets (RFC 4303 2.6): each gateway sends some by its tunnel, the other drops them, and nothing else is lost."""

from lab.namespace import wait_for
from lab.topology import HOST2, ping
from support import TwoGatewaysTest


class DummyPackets(TwoGatewaysTest):
    options = {"settings": {"dummy-packets": "20"}}

    def test_dummies_are_sent_and_dropped(self):
        gateways = (self.lab.gw1, self.lab.gw2)
        before = [gateway.drops().get("esp_dummy", 0) for gateway in gateways]
        for gateway, count in zip(gateways, before):
            wait_for(lambda gateway=gateway, count=count: gateway.drops().get("esp_dummy", 0) >= count + 40, 30,
                     "dummy packets from the other gateway")
        self.assertEqual(ping(self.lab.lan1, HOST2, count=20), (20, 20))
        others = {"integrity", "replay_duplicate", "replay_too_old", "no_sa", "esp_padding", "esp_next_header",
                  "inner_malformed", "seal_failed"}
        for gateway in gateways:
            self.assertFalse(others & gateway.drops().keys(), gateway.drops())
