"""The gateway's packages in the guest "gw", and Linux with the kernel's ESP in the guest "peer"."""
import re

from topology import GW, GW6, LAN1, LAN1_6, LAN2, LAN2_6, PEER, PEER6


def ready(gw, timeout=120):
    """Until gwd runs."""
    result = gw.until("gwctl status 2>/dev/null | grep -q ', running,'", timeout)
    if result.rc:
        raise RuntimeError("gwd does not run: " + gw.run("journalctl -u gwd -n 30 --no-pager -o cat", check=False).out)


def linux_router(peer):
    peer.run(f"""set -e
sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1 net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
ip link set eth0 up; ip link set eth1 up
ip address add {PEER}/24 dev eth0; ip -6 address add {PEER6}/64 dev eth0 nodad
ip address add 172.20.1.1/24 dev eth1; ip -6 address add 2001:db8:20::1/64 dev eth1 nodad
ip route add {LAN1} via {GW}; ip -6 route add {LAN1_6} via {GW6}
modprobe -a esp4 esp6 ah4 ah6 ipcomp ipcomp6 xfrm_user af_key xfrm_interface tunnel4 tunnel6
""")


def addresses(gw):
    """What an administrator has given the two cards before setup takes them."""
    gw.run(f"""set -e
sysctl -qw net.ipv6.conf.default.accept_dad=0 net.ipv6.conf.all.accept_dad=0
for number in 0 1; do ip link set eth$number up; done
ip address add {GW}/24 dev eth0; ip -6 address add {GW6}/64 dev eth0 nodad
ip address add 192.168.60.1/24 dev eth1; ip -6 address add 2001:db8:60::1/64 dev eth1 nodad
""")


def routes(gw):
    """To the LAN behind the peer, added to what setup wrote."""
    gw.run(f"""set -e
grep -q '^routes:' /etc/gw/gateway.yaml || sed -i 's/^ipsec:/routes:\\nipsec:/' /etc/gw/gateway.yaml
sed -i 's|^routes:|&\\n  - {{to: {LAN2}, via: {PEER}}}\\n  - {{to: "{LAN2_6}", via: "{PEER6}"}}|' /etc/gw/gateway.yaml
systemctl reload gwd""")


def ping(network, address, count=5, size=56, interval=0.2, extra=(), timeout=30):
    """(sent, received) of a ping by a LAN host."""
    done = network.exec("ping", "-n", "-c", str(count), "-i", str(interval), "-s", str(size), "-W", "2", *extra, address,
                        check=False, timeout=timeout + count * interval)
    found = re.search(r"(\d+) packets transmitted, (\d+) received", done.stdout)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def fewer_plugins(vm):
    """Debian's plugins that only cost time or speak to networks of their own."""
    vm.run("cd /etc/strongswan.d/charon && for f in forecast farp dhcp ha tpm pkcs11 ldap eap-radius lookip led test-vectors addrblock; do "
           "[ -e $f.conf ] && sed -i 's/load = yes/load = no/' $f.conf; done; true")
