"""Numbered UDP packets both ways between two namespaces (udpstream.py), and what became of them."""

import json
import pathlib
import subprocess

PROGRAM = pathlib.Path(__file__).resolve().parent / "udpstream.py"
PORT = 9000


class Streams:
    """A context: both ends send and listen while it lasts."""

    def __init__(self, lab, one, two, rate, seconds):
        self.lab, self.rate, self.seconds = lab, rate, seconds
        self.ends = []
        for (space, local), (_, remote) in ((one, two), (two, one)):
            self.ends.append(space.popen(PROGRAM, local, remote, PORT, rate, seconds, stdin=subprocess.PIPE,
                                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True))
        self.results = None

    def __enter__(self):
        for end in self.ends:
            line = end.stdout.readline()
            if line.strip() != "ready":
                raise RuntimeError(line + end.stdout.read())
        for end in self.ends:
            end.stdin.write("go\n")
            end.stdin.flush()
        return self

    def __exit__(self, *_):
        for end in self.ends:
            if end.poll() is None:
                end.kill()
            end.wait()
            end.stdin.close()
            end.stdout.close()

    def stop(self):
        """Before the seconds are over: nothing more is sent."""
        for end in self.ends:
            end.stdin.write("stop\n")
            end.stdin.flush()

    def running(self):
        return any(end.poll() is None for end in self.ends)

    def wait(self):
        if self.results is None:
            self.results = [json.loads(end.stdout.read()) for end in self.ends]
            for end in self.ends:
                end.wait()
        return self.results

    def check(self, test, drops_before):
        """Everything came, once. Where not: who counted it."""
        one, two = self.wait()
        gateways = (self.lab.gw1, self.lab.gw2)
        dropped = [{reason: count - before.get(reason, 0) for reason, count in gateway.drops().items()
                    if count != before.get(reason, 0)} for gateway, before in zip(gateways, drops_before)]
        said = f"lan1 {one}\nlan2 {two}\ngw1 dropped {dropped[0]}, gw2 {dropped[1]}"
        test.assertEqual((one["sent"], two["sent"]), (two["received"], one["received"]), f"lost\n{said}")
        test.assertEqual((one["duplicates"], two["duplicates"]), ([], []), f"twice\n{said}")
        test.assertEqual((one["stray"], two["stray"]), (0, 0), said)

    def summary(self):
        one, two = self.wait()
        return (f"{one['sent']}/{two['received']} and {two['sent']}/{one['received']} packets, "
                f"slowest {max(one['slowest_ms'], two['slowest_ms'])} ms")
