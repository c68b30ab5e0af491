"""TRex traffic: UDP over `flows` source ports from 192.168.60.2 to 172.20.1.2 and back; sizes are of the IP packet."""
from trex.stl.api import (Ether, IP, UDP, STLFlowLatencyStats, STLPktBuilder, STLScVmRaw, STLStream, STLTXCont, STLVmFixIpv4,
                          STLVmFlowVar, STLVmWrFlowVar)

IMIX = [(64, 7), (570, 4), (1418, 1)]
ENDS = [("192.168.60.2", "172.20.1.2", "02:00:00:00:10:00"), ("172.20.1.2", "192.168.60.2", "02:00:00:00:10:01")]


def packet(size, port, gateway, flows):
    source, destination, mac = ENDS[port]
    base = Ether(src=mac, dst=gateway) / IP(src=source, dst=destination) / UDP(dport=5001, chksum=0)
    vm = STLScVmRaw([STLVmFlowVar("port", min_value=1024, max_value=1024 + flows - 1, size=2, op="inc"),
                     STLVmWrFlowVar(fv_name="port", pkt_offset="UDP.sport"), STLVmFixIpv4(offset="IP")])
    return STLPktBuilder(pkt=base / (b"x" * max(0, size + 14 - len(base))), vm=vm)


def streams(size, port, gateway, flows=1000):
    """`size`: bytes, or "imix"; 100 packets a second besides carry the time of sending."""
    sizes = IMIX if size == "imix" else [(int(size), 1)]
    made = [STLStream(packet=packet(s, port, gateway, flows), mode=STLTXCont(pps=share)) for s, share in sizes]
    made.append(STLStream(packet=packet(max(64, sizes[0][0]), port, gateway, 1), mode=STLTXCont(pps=100),
                          flow_stats=STLFlowLatencyStats(pg_id=port + 1)))
    return made
