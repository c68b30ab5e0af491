"""Gateways in network namespaces: what Deploy/quickstart and Tests/EndToEnd share.

namespace.py  one network namespace, veth pairs, packet sockets inside
gateway.py    one gwd: its configuration, start, readiness, gwctl, stop
topology.py   the networks that gateways are put into
capture.py    tcpdump and tshark
"""
