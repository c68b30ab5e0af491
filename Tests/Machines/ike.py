"""IKEv2: charon under gwd's library at the gateway, charon with the kernel's ESP at the peer."""
import json, re, sys, threading, time
from topology import *
import gateway as p

CASES = {  # name: (esp proposal, family of ends, family of nets, mode, connection's more, child's more)
    "aes128gcm16 esn": ("aes128gcm16-ecp256-esn", 4, 4, "tunnel", "", ""),
    "aes256gcm16 noesn": ("aes256gcm16-ecp256-noesn", 4, 4, "tunnel", "", ""),
    "aes128-sha256": ("aes128-sha256-ecp256", 4, 4, "tunnel", "", ""),
    "chacha20poly1305 esn": ("chacha20poly1305-ecp256-esn", 4, 4, "tunnel", "", ""),
    "aes128gmac": ("aes128gmac-ecp256", 4, 4, "tunnel", "", ""),
    "nat-t forced aes128gcm16": ("aes128gcm16-ecp256", 4, 4, "tunnel", "encap = yes", ""),
    "ipcomp aes128gcm16": ("aes128gcm16-ecp256", 4, 4, "tunnel", "", "ipcomp = yes"),
    "tunnel66 aes128gcm16": ("aes128gcm16-ecp256", 6, 6, "tunnel", "", ""),
    "tunnel64 aes128gcm16": ("aes128gcm16-ecp256", 4, 6, "tunnel", "", ""),
    "tunnel46 chacha20poly1305": ("chacha20poly1305-ecp256", 6, 4, "tunnel", "", ""),
    "transport4 aes128gcm16": ("aes128gcm16-ecp256", 4, 0, "transport", "", ""),
    "transport6 aes128gcm16": ("aes128gcm16-ecp256", 6, 0, "transport", "", ""),
    "transport4 nat-t aes128gcm16": ("aes128gcm16-ecp256", 4, 0, "transport", "encap = yes", ""),
    "ah sha256": ("", 4, 4, "tunnel", "", "ah_proposals = sha256-ecp256"),
}


def swanctl(side, esp, ends, nets, mode, more, child, start="none"):
    left, right = {4: (GW, PEER), 6: (GW6, PEER6)}[ends]
    a, b = {4: (LAN1, LAN2), 6: (LAN1_6, LAN2_6), 0: (left, right)}[nets]
    if side == "peer":
        left, right, a, b = right, left, b, a
    return f"""connections {{ net {{
  version = 2
  local_addrs = {left}
  remote_addrs = {right}
  proposals = aes256-sha256-ecp256
  mobike = no
  {more}
  local {{ auth = psk
    id = {side} }}
  remote {{ auth = psk
    id = {'peer' if side == 'gw' else 'gw'} }}
  children {{ net {{
    local_ts = {a}
    remote_ts = {b}
    mode = {mode}
    {'esp_proposals = ' + esp if esp else ''}
    {child}
    replay_window = 128
    rekey_time = 0
    start_action = {start}
  }} }}
}} }}
secrets {{ ike-1 {{ secret = "a secret" }} }}
"""


def load(vm, text):
    vm.put("/etc/swanctl/conf.d/net.conf", text, 0o600)
    return vm.run("swanctl --terminate --ike net --force --timeout 5 >/dev/null 2>&1; swanctl --load-all --noprompt", 60, check=False)


def up(gw, peer, case, initiator):
    esp, ends, nets, mode, more, child = CASES[case]
    for vm, side in ((gw, "gw"), (peer, "peer")):
        done = load(vm, swanctl(side, esp, ends, nets, mode, more, child))
        if done.rc:
            return f"load: {done.out}"
    done = initiator.run("swanctl --initiate --child net --timeout 30", 60, check=False)
    return None if done.rc == 0 else done.out[-700:]


def ping_pairs(gw, peer, lan1, lan2, nets, ends):
    failed = []
    if nets == 0:
        for vm, to, name in ((gw, PEER if ends == 4 else PEER6, "gw"), (peer, GW if ends == 4 else GW6, "peer")):
            for size in (56, 1300, 3000):
                out = vm.run(f"ping -n -c 3 -i 0.2 -W 2 -s {size} {to} | grep received", 40, check=False).out
                if " 3 received" not in out:
                    failed.append(f"{name} {size}: {out.strip()}")
        return failed
    for network, name, to in ((lan1, "lan1", {4: "172.20.1.10", 6: "2001:db8:20::10"}[nets]),
                              (lan2, "lan2", {4: "192.168.60.10", 6: "2001:db8:60::10"}[nets])):
        for size in (56, 1300, 3000):
            sent, received = p.ping(network, to, 3, size)
            for _ in range(2):
                if size == 3000 and nets == 6 and received < sent:
                    sent, received = p.ping(network, to, 3, size)
            if received < sent or not sent:
                failed.append(f"{name} {size}: {received}/{sent}")
    return failed


def run(gw, peer, lan1, lan2, pattern=""):
    results = {}
    for number, (name, case) in enumerate(CASES.items()):
        if pattern and not re.search(pattern, name):
            continue
        began = time.monotonic()
        initiator = (gw, peer)[number % 2]
        failed = up(gw, peer, name, initiator)
        failed = [failed] if failed else ping_pairs(gw, peer, lan1, lan2, case[2], case[1])
        if not failed:
            sas = peer.run("ip xfrm state count; ip -s xfrm state | grep -c ', [1-9][0-9]*(packets)'; true").out
            if sas.strip().endswith("\n0"):
                failed.append("no SA of the peer was used")
        results[name] = failed
        print(f"{'ok  ' if not failed else 'FAIL'} {time.monotonic() - began:5.1f} s  ike {name} (by {initiator.name})  {'; '.join(failed)}", flush=True)
    return results


def rekey(gw, peer, lan1, lan2, case="aes128gcm16 esn", times=3):
    """Replaces the SAs from both sides while pings go both ways: lost ones."""
    failed = up(gw, peer, case, gw)
    if failed:
        return [failed]
    lost = []

    def stream(network, to):
        sent, received = p.ping(network, to, 600, 200, 0.02, timeout=60)
        lost.append((network.name, sent - received, sent))
    threads = [threading.Thread(target=stream, args=a) for a in ((lan1, "172.20.1.10"), (lan2, "192.168.60.10"))]
    for thread in threads:
        thread.start()
    time.sleep(1)
    said = []
    for index in range(times):
        vm = (gw, peer)[index % 2]
        done = vm.run("swanctl --rekey --child net" if index < times - 1 else "swanctl --rekey --ike net", 30, check=False)
        if done.rc:
            said.append(f"{vm.name}: {done.out}")
        time.sleep(1.5)
    for thread in threads:
        thread.join()
    return said + [f"{name}: {count} of {sent} lost" for name, count, sent in lost if count]


def iperf(gw, lan1, lan2, seconds=20, reverse=False, extra=()):
    import subprocess
    server = lan2.popen("iperf3", "-s", "-1", stdout=subprocess.DEVNULL)
    time.sleep(0.5)
    done = lan1.exec("iperf3", "-c", "172.20.1.10", "-t", str(seconds), "-J", *(["-R"] if reverse else []), *extra, check=False,
                     timeout=seconds + 40)
    server.terminate()
    server.wait()
    try:
        end = json.loads(done.stdout)["end"]
        return round(end["sum_received"]["bits_per_second"] / 1e6, 1), end["sum_sent"].get("retransmits")
    except (ValueError, KeyError):
        return done.stdout[-300:]


def start(gw, peer):
    peer.run("systemctl start strongswan", 120)
    gw.run("systemctl start strongswan", 120)
    for vm in (gw, peer):
        if vm.until("swanctl --stats >/dev/null 2>&1", 60).rc:
            raise RuntimeError(vm.run("systemctl status strongswan --no-pager -l; journalctl -u strongswan -n 30 --no-pager -o cat", check=False).out)

