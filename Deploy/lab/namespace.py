"""One network namespace and the veth pairs that join them."""

import contextlib
import ctypes
import os
import signal
import socket
import subprocess
import time

CLONE_NEWNET = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)


class CommandFailed(Exception):
    """A command ended with an error; the message has its output."""


def run(*argv, check=True, timeout=60, stdin=None, env=None):
    """Runs a command to its end and returns it with its output as text."""
    argv = [str(word) for word in argv]
    try:
        done = subprocess.run(argv, input=stdin, stdin=subprocess.DEVNULL if stdin is None else None,
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=timeout, env=env)
    except subprocess.TimeoutExpired as expired:
        raise CommandFailed(f"{' '.join(argv)}: no end after {timeout} s") from expired
    if check and done.returncode != 0:
        raise CommandFailed(f"{' '.join(argv)}: exit {done.returncode}\n{done.stdout}{done.stderr}".rstrip())
    return done


def wait_for(condition, timeout, what, interval=0.1):
    """Calls condition until it is true; its last value is the result."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > deadline:
            raise CommandFailed(f"{what}: not so after {timeout} s")
        time.sleep(interval)


def stop_process(process, grace=5):
    """TERM, then KILL after a grace period; returns the exit status."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()


class Namespace:
    """A network namespace, made here and deleted by delete() with every process in it."""

    def __init__(self, name, forwarding=False, ipv6=False):
        self.name = name
        self.processes = []
        remove_namespace(name)
        run("ip", "netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")
        # A new namespace inherits some of these from the machine.
        self.sysctl("net.ipv4.ip_forward", int(forwarding))
        self.sysctl("net.ipv4.conf.all.rp_filter", 0)
        self.sysctl("net.ipv4.conf.default.rp_filter", 0)
        self.sysctl("net.ipv6.conf.all.disable_ipv6", int(not ipv6))
        self.sysctl("net.ipv6.conf.default.disable_ipv6", int(not ipv6))
        if ipv6:
            self.sysctl("net.ipv6.conf.all.forwarding", int(forwarding))
            self.sysctl("net.ipv6.conf.default.accept_dad", 0)

    def sysctl(self, key, value):
        self.run("sysctl", "-qw", f"{key}={value}", check="ipv6" not in key)

    def run(self, *argv, **options):
        return run("ip", "netns", "exec", self.name, *argv, **options)

    def popen(self, *argv, **options):
        """Starts a command that delete() will end."""
        for stream in ("stdin", "stdout", "stderr"):
            options.setdefault(stream, subprocess.DEVNULL)
        # Its own session: neither Ctrl-C nor a closed terminal reaches it before we decide.
        options.setdefault("start_new_session", True)
        process = subprocess.Popen(["ip", "netns", "exec", self.name, *map(str, argv)], **options)
        self.processes.append(process)
        return process

    @contextlib.contextmanager
    def entered(self):
        """The calling thread is in the namespace meanwhile; sockets opened then stay in it."""
        with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{self.name}") as there:
            _setns(there.fileno())
            try:
                yield
            finally:
                _setns(home.fileno())

    def packet_socket(self, interface, timeout=2):
        """A raw Ethernet socket on an interface of the namespace."""
        with self.entered():
            raw = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0003))
            raw.bind((interface, 0))
        raw.settimeout(timeout)
        return raw

    def udp_socket(self, address="0.0.0.0", port=0, timeout=2):
        """A UDP socket bound in the namespace."""
        with self.entered():
            made = socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        made.bind((address, port))
        made.settimeout(timeout)
        return made

    def mac(self, interface):
        with self.entered(), socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
            raw.bind((interface, 0))
            return raw.getsockname()[4].hex(":")

    def address(self, interface, *addresses):
        for address in addresses:
            # noprefixroute is not wanted: connected routes are the point. nodad: no wait for IPv6.
            extra = ["nodad"] if ":" in address else []
            self.run("ip", "address", "add", address, "dev", interface, *extra)

    def route(self, to, via):
        self.run("ip", "route", "add", to, "via", via)

    def isolate(self, interface):
        """Keeps the kernel off an interface whose frames belong to a DPDK port: no ARP, no addresses, no input.
        Packet sockets, which the port is made of, see frames before the drop."""
        self.run("ip", "link", "set", interface, "arp", "off", "addrgenmode", "none")
        self.sysctl(f"net.ipv6.conf.{interface}.disable_ipv6", 1)
        self.run("nft", "-f", "-", stdin=f"""
            table netdev gateway {{
              chain {interface.replace("-", "_")} {{
                type filter hook ingress device "{interface}" priority 0; policy drop;
              }}
            }}
            """)

    def delete(self):
        for process in self.processes:
            stop_process(process, grace=2)
        self.processes.clear()
        remove_namespace(self.name)


def remove_namespace(name):
    """Ends what still runs in a namespace of this name and deletes it, with its interfaces. None: nothing happens."""
    if not os.path.exists(f"/run/netns/{name}"):
        return
    for force in (signal.SIGTERM, signal.SIGKILL):
        deadline = time.monotonic() + 3
        while pids := run("ip", "netns", "pids", name, check=False).stdout.split():
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), force)
            if time.monotonic() > deadline:
                break
            time.sleep(0.1)
    run("ip", "netns", "delete", name, check=False)


def veth(left, left_name, right, right_name, mtu=1500):
    """A cable between two namespaces. Offloads are off: a DPDK port must see whole frames with real checksums."""
    run("ip", "link", "add", left_name, "netns", left.name, "mtu", mtu, "type", "veth",
        "peer", "name", right_name, "netns", right.name, "mtu", mtu)
    for space, interface in ((left, left_name), (right, right_name)):
        for offload in ("tx", "rx", "sg", "tso", "gso", "gro", "txvlan", "rxvlan"):
            space.run("ethtool", "-K", interface, offload, "off", check=False)
        space.run("ip", "link", "set", interface, "up")


def _setns(descriptor):
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
