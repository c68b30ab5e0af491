"""lan1 (host 192.168.60.10) -- gw: gwd 203.0.113.1 -- wan -- 203.0.113.2 peer: Linux -- lan2 (host 172.20.1.10).

The WAN is one segment with 203.0.113.0/24 and 2001:db8:ff::/64 on it."""
from machines import Nic

NETWORKS = {
    "lan1": dict(addresses=["192.168.60.10/24", "2001:db8:60::10/64"],
                 routes=[("default", "192.168.60.1"), ("::/0", "2001:db8:60::1")]),
    "wan": dict(addresses=["203.0.113.254/24", "2001:db8:ff::fe/64"]),
    "lan2": dict(addresses=["172.20.1.10/24", "2001:db8:20::10/64"],
                 routes=[("default", "172.20.1.1"), ("::/0", "2001:db8:20::1")]),
}
GW, PEER = "203.0.113.1", "203.0.113.2"
GW6, PEER6 = "2001:db8:ff::1", "2001:db8:ff::2"
LAN1, LAN2 = "192.168.60.0/24", "172.20.1.0/24"
LAN1_6, LAN2_6 = "2001:db8:60::/64", "2001:db8:20::/64"


def make(lab, nic="e1000", queues=1, iommu=True, peer=True, smp=2, memory=1536, cmdline="", options="", hugepages=256):
    for name, settings in NETWORKS.items():
        lab.network(name, **settings)
    lab.vm("gw", [Nic(nic, "wan", queues, options), Nic(nic, "lan1", queues, options)], iommu=iommu, smp=smp, memory=memory,
           cmdline=f"hugepages={hugepages} {cmdline}")
    if peer:
        lab.vm("peer", [Nic("virtio-net-pci", "wan"), Nic("virtio-net-pci", "lan2")], memory=768, smp=1)
