"""Virtual machines under QEMU's TCG, joined by TAPs in network namespaces; see README.md.

    with Lab() as lab:
        gw = lab.vm("gw", nics=[Nic("e1000", "wan"), Nic("e1000", "lan1")], iommu=True)
        lab.boot()
        print(gw.run("uname -r").out)
"""
import contextlib, ctypes, fcntl, json, os, random, re, shutil, socket, struct, subprocess, sys, tempfile, threading, time
from dataclasses import dataclass, field

HERE = os.path.dirname(os.path.abspath(__file__))
IMAGE = os.environ.get("GW_MACHINES", "/var/cache/gw-machines")
PREFIX = "gwvm"
_libc = ctypes.CDLL(None, use_errno=True)


def sh(*command, check=True, timeout=60, **more):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, **more)
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.returncode}: {done.stdout}")
    return done


@dataclass
class Nic:
    """A NIC of a machine: its model and the network (a namespace with a bridge) that it is plugged into."""
    model: str
    network: str
    queues: int = 1
    options: str = ""
    mac: str = ""
    tap: str = ""
    fds: list = field(default_factory=list)


@dataclass
class Result:
    rc: int
    out: str
    seconds: float

    def __str__(self):
        return self.out


class Network:
    """A namespace `gwvm-NAME` with a bridge of that name: an Ethernet segment. With addresses it is a host on it too."""

    def __init__(self, name, addresses=(), routes=()):
        self.name, self.ns = name, f"{PREFIX}-{name}"
        sh("ip", "netns", "del", self.ns, check=False)
        sh("ip", "netns", "add", self.ns)
        self.ip("link", "set", "lo", "up")
        self.ip("link", "add", "name", "br0", "type", "bridge", "forward_delay", "0", "mcast_snooping", "0")
        self.exec("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0", "net.ipv6.conf.br0.accept_dad=0")
        self.ip("link", "set", "br0", "up")
        for address in addresses:
            self.ip("address", "add", address, "dev", "br0")
        for to, via in routes:
            self.ip("route", "add", to, "via", via)

    def ip(self, *words):
        return sh("ip", "-n", self.ns, *words)

    def exec(self, *words, check=True, timeout=60):
        return sh("ip", "netns", "exec", self.ns, *words, check=check, timeout=timeout)

    def popen(self, *words, **more):
        return subprocess.Popen(["ip", "netns", "exec", self.ns, *words], **more)

    def plug(self, tap, queues, vnet):
        """Descriptors of a new TAP on the bridge."""
        done, out = threading.Event(), {}

        def work():  # setns is of a thread
            try:
                fd = os.open(f"/run/netns/{self.ns}", os.O_RDONLY)
                if _libc.setns(fd, 0x40000000):
                    raise OSError(ctypes.get_errno(), "setns")
                os.close(fd)
                fds = []
                flags = 0x0002 | 0x1000 | (0x4000 if vnet else 0) | (0x0100 if queues > 1 else 0)
                for _ in range(queues):
                    tun = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
                    fcntl.ioctl(tun, 0x400454CA, struct.pack("16sH22x", tap.encode(), flags))
                    fds.append(tun)
                out["fds"] = fds
            except OSError as error:
                out["error"] = error
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        if "error" in out:
            raise out["error"]
        self.exec("sysctl", "-qw", f"net.ipv6.conf.{tap}.disable_ipv6=1")
        self.ip("link", "set", tap, "master", "br0")
        self.ip("link", "set", tap, "up")
        return out["fds"]

    def close(self):
        sh("ip", "netns", "del", self.ns, check=False)


class VM:
    def __init__(self, lab, name, nics, memory=1024, smp=2, iommu=False, cmdline="", cpu="max", extra=()):
        self.lab, self.name, self.nics = lab, name, nics
        self.memory, self.smp, self.iommu, self.cmdline, self.cpu, self.extra = memory, smp, iommu, cmdline, cpu, extra
        self.folder = os.path.join(lab.folder, name)
        self.share = os.path.join(self.folder, "share")
        os.makedirs(self.share, exist_ok=True)
        self.process = self.agent = None
        self.answers, self.condition, self.number = {}, threading.Condition(), 0
        self.booted_in = None
        self.generation = 0
        self.disk = os.path.join(self.folder, "root.qcow2")
        sh("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", os.path.abspath(f"{IMAGE}/root.raw"), self.disk)

    def arguments(self):
        words = ["nice", "-n", "5", "qemu-system-x86_64", "-nodefaults", "-display", "none", "-no-user-config",
                 "-name", f"{PREFIX}-{self.name}", "-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512",
                 "-cpu", self.cpu, "-smp", str(self.smp), "-m", str(self.memory),
                 "-kernel", f"{IMAGE}/vmlinuz", "-initrd", f"{IMAGE}/initrd.gz",
                 "-append", "console=ttyS0 quiet mitigations=off net.ifnames=0 systemd.show_status=0 clocksource=hpet "
                            "random.trust_cpu=on no_timer_check panic=5 " + ("intel_iommu=on " if self.iommu else "") + self.cmdline,
                 "-drive", f"if=none,id=root,file={self.disk},format=qcow2,cache=unsafe",
                 "-chardev", f"file,id=console,path={self.folder}/console.log,append=on", "-serial", "chardev:console",
                 "-qmp", f"unix:{self.folder}/qmp,server=on,wait=off",
                 "-chardev", f"socket,id=agent,path={self.folder}/agent,server=on,wait=off",
                 "-object", "rng-random,id=rng,filename=/dev/urandom"]
        if self.iommu:
            words += ["-device", "intel-iommu,intremap=on"]
        words += ["-device", "virtio-blk-pci,drive=root,addr=0x10",
                  "-device", "virtio-serial-pci,addr=0x11", "-device", "virtserialport,chardev=agent,name=vm.agent",
                  "-device", "virtio-rng-pci,rng=rng,addr=0x12",
                  "-virtfs", f"local,path={self.lab.packages},mount_tag=packages,security_model=none,readonly=on,multidevs=remap",
                  "-virtfs", f"local,path={self.share},mount_tag=share,security_model=none,multidevs=remap"]
        for index, nic in enumerate(self.nics):
            nic.mac = nic.mac or f"52:54:00:{random.randrange(256):02x}:{random.randrange(256):02x}:{index:02x}"
            fds = ":".join(map(str, nic.fds))
            words += ["-netdev", f"tap,id=n{index},{'fds' if nic.queues > 1 else 'fd'}={fds}"]
            device = f"{nic.model},netdev=n{index},mac={nic.mac},id=nic{index},addr={3 + index:#x}"
            if nic.model.startswith("virtio"):
                if nic.queues > 1:
                    device += f",mq=on,vectors={2 * nic.queues + 2}"
                if self.iommu:
                    device += ",iommu_platform=on,disable-legacy=on"
            if nic.model in ("virtio-net-pci", "vmxnet3", "e1000", "e1000e"):
                device += ",romfile="
            words += ["-device", device + (f",{nic.options}" if nic.options else "")]
        return words + list(self.extra)

    def pci(self, index):
        return f"0000:00:{3 + index:02x}.0"

    def start(self):
        for index, nic in enumerate(self.nics):
            nic.tap = f"{self.name}{index}"
            nic.fds = self.lab.networks[nic.network].plug(
                nic.tap, nic.queues, nic.model.startswith("virtio") or nic.model == "vmxnet3")
        self.began = time.monotonic()
        with open(f"{self.folder}/qemu.log", "a") as log:
            self.process = subprocess.Popen(self.arguments(), stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            pass_fds=[fd for nic in self.nics for fd in nic.fds])
        for nic in self.nics:
            for fd in nic.fds:
                os.close(fd)
        self._connect()

    def _connect(self):
        deadline = time.monotonic() + 20
        while True:
            self.agent = socket.socket(socket.AF_UNIX)
            try:
                self.agent.connect(f"{self.folder}/agent")
                break
            except OSError:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"{self.name}: qemu: " + open(f"{self.folder}/qemu.log").read())
                time.sleep(0.1)
        threading.Thread(target=self._read, args=(self.agent,), daemon=True).start()

    def _read(self, agent):
        buffer = b""
        while True:
            try:
                part = agent.recv(1 << 16)
            except OSError:
                return
            if not part:
                return
            buffer += part
            while b"\n" in buffer:
                line, buffer = buffer.split(b"\n", 1)
                try:
                    answer = json.loads(line)
                except ValueError:
                    continue
                with self.condition:
                    if answer["id"] == 0:
                        self.generation += 1
                    self.answers[answer["id"]] = answer
                    self.condition.notify_all()

    def wait_ready(self, timeout=240, generation=1):
        deadline = time.monotonic() + timeout
        with self.condition:
            while self.generation < generation:
                if self.process.poll() is not None or not self.condition.wait(min(1, max(0.01, deadline - time.monotonic()))):
                    if time.monotonic() > deadline or self.process.poll() is not None:
                        raise RuntimeError(f"{self.name} did not boot; console: " + self.console(3000))
        self.booted_in = time.monotonic() - self.began
        return self.booted_in

    def run(self, command, timeout=60, check=True):
        with self.condition:
            self.number += 1
            number = self.number
        data = json.dumps({"id": number, "command": command, "timeout": timeout}).encode() + b"\n"
        self.agent.sendall(data)
        deadline = time.monotonic() + timeout + 30
        with self.condition:
            while number not in self.answers:
                if time.monotonic() > deadline or self.process.poll() is not None:
                    raise RuntimeError(f"{self.name}: no answer to {command!r}; console: {self.console(1500)}")
                self.condition.wait(1)
            answer = self.answers.pop(number)
        if check and answer["rc"]:
            raise RuntimeError(f"{self.name}: {command}: {answer['rc']}: {answer['out']}")
        return Result(answer["rc"], answer["out"], answer["seconds"])

    def put(self, path, text, mode=0o644):
        """Writes a file in the guest."""
        import base64
        self.run(f"mkdir -p $(dirname {path}) && (umask 077; echo {base64.b64encode(text.encode()).decode()} | base64 -d >{path}) "
                 f"&& chmod {mode:o} {path}")

    def until(self, command, timeout=30, every=0.5):
        """Runs the command in the guest until it succeeds; its last result, and how long that took."""
        began = time.monotonic()
        script = f"end=$((SECONDS+{int(timeout)})); while :; do out=$({command}) && {{ echo \"$out\"; exit 0; }}; " \
                 f"[ $SECONDS -ge $end ] && {{ echo \"$out\"; exit 1; }}; sleep {every}; done"
        result = self.run(script, timeout + 30, check=False)
        result.seconds = time.monotonic() - began
        return result

    def mount(self):
        self.run("mkdir -p /packages /share; mountpoint -q /packages || mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144,ro,cache=loose packages /packages; "
                 "mountpoint -q /share || mount -t 9p -o trans=virtio,version=9p2000.L,msize=262144 share /share")

    def reboot(self, timeout=240):
        generation = self.generation
        self.began = time.monotonic()
        self.run("(sleep 0.3; systemctl reboot) >/dev/null 2>&1 &", check=False)
        return self.wait_ready(timeout, generation + 1)

    def reset(self, timeout=240):
        """As if the power failed."""
        generation = self.generation
        self.began = time.monotonic()
        self.qmp("system_reset")
        return self.wait_ready(timeout, generation + 1)

    def qmp(self, command, **arguments):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(f"{self.folder}/qmp")
            f = s.makefile("rw")
            f.readline()
            for request in ({"execute": "qmp_capabilities"}, {"execute": command, "arguments": arguments}):
                f.write(json.dumps(request) + "\n")
                f.flush()
                while True:
                    answer = json.loads(f.readline())
                    if "event" not in answer:
                        break
            return answer

    def console(self, last=4000):
        try:
            return open(f"{self.folder}/console.log", errors="replace").read()[-last:]
        except OSError:
            return ""

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        if self.agent:
            self.agent.close()


class Lab:
    """Machines and networks. `packages`: the folder of .deb files that guests see as /packages."""

    def __init__(self, packages):
        self.packages = os.path.abspath(packages)
        self.folder = tempfile.mkdtemp(prefix="gw-machines-")
        self.networks, self.vms = {}, {}

    def network(self, name, addresses=(), routes=()):
        self.networks[name] = Network(name, addresses, routes)
        return self.networks[name]

    def vm(self, name, nics, **more):
        self.vms[name] = VM(self, name, nics, **more)
        return self.vms[name]

    def boot(self, timeout=300):
        for vm in self.vms.values():
            vm.start()
        for vm in self.vms.values():
            vm.wait_ready(timeout)
            vm.mount()

    def close(self):
        for vm in self.vms.values():
            vm.stop()
        for network in self.networks.values():
            network.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()
