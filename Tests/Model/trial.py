"""One case on one gwd: what comes out is held against the model, step by step."""

import collections
import time

import wire
from bench import SILENCE, Bench, GatewayFailure, time_limit
from drops import unexplained
from invariants import Invariants
from judge import Joined, Opener, Seen, is_complete, matches
from model import Model
from verdict import Clear, Course, Sealed


# Protocols of what an SA may make.
MAY_BE_SEALED = frozenset((wire.ESP, wire.AH, wire.UDP, wire.IPIP, wire.IP6IP))
CASE_SECONDS = 120


class Trial:
    """Runs a case once. With `watch_drops` counters are compared after every step, not at the end alone."""

    def __init__(self, case, program, core, watch_drops=False):
        self.case, self.program, self.core, self.watch_drops = case, program, core, watch_drops
        self.world = case.world
        self.model, self.opener, self.invariants = Model(self.world), Opener(self.world), Invariants(self.world)
        self.required, self.possible = collections.Counter(), collections.Counter()
        self.awaited = []  # what the host has still to get: (output, what it is of)
        self.frames, self.step_number, self.differences = 0, 0, []

    def run(self):
        """What gwd did otherwise, in words; nothing where it did as the model says."""
        try:
            with time_limit(CASE_SECONDS), Bench(self.world, self.program, self.core) as bench:
                try:
                    self._steps(bench)
                except (GatewayFailure, *SILENCE) as failure:
                    raise GatewayFailure(f"{type(failure).__name__}: {failure}\n{bench.log_tail()}") from failure
        except GatewayFailure as failure:
            self.differences.append(f"step {self.step_number}: {failure}")
        return self.differences

    def _steps(self, bench):
        self.before = bench.drops()
        for self.step_number, step in enumerate(self.case.steps):
            self._step(bench, step)
            if self.differences:
                self.differences.append(f"drops: {self._counted(bench)}")
                break
        else:
            self._final(bench)
        status = bench.stop()
        if status != 0:
            self.differences.append(f"gwd ended with {status}\n{bench.log_tail()}")

    # One step

    def _step(self, bench, step):
        if step.world:
            self._load(bench, step.world)
            return
        self.model.begin_burst(self.opener.sealed, len(step.frames))
        judged = self.model.send if step.host else self.model.receive
        courses = [judged(step.port, frame) for frame in step.frames]
        if not step.host:
            for frame in step.frames:
                self.invariants.sent(frame)
        out = bench.exchange_host(step.port, step.frames) if step.host else bench.exchange(step.port, step.frames)
        self.frames += len(step.frames)
        if step.pause:
            time.sleep(step.pause)
        seen = self._seen(out)
        problems = self._compare(step, self._chosen(courses, seen), seen)
        if problems:
            wanted = [f"  {note}: {describe(frame)}\n      must be: {' OR '.join(map(str, options))}"
                      for note, frame, options in zip(step.notes, step.frames, courses)]
            where = f"from the host by {step.port}" if step.host else f"at {step.port}"
            heading = f"step {self.step_number}, {len(step.frames)} frames {where}"
            self.differences.append("\n".join([heading, *problems, *wanted]))
        self._to_host(bench.delivered())
        if self.watch_drops and not self.differences:
            when = f"after step {self.step_number}, of {', '.join(step.notes)}"
            self._drops(bench, when)
            self._charges(bench, when)

    def _load(self, bench, world):
        self._to_host(bench.delivered(sum(not output.optional for output, _ in self.awaited)))
        bench.load(world)
        self.world = world
        for part in (self.model, self.opener, self.invariants):
            part.load(world)

    def _seen(self, out):
        """What came out, pieces of outer packets joined, opened."""
        joined, seen = Joined(), []
        own = {sa.ends[0] for sa in self.world.sas if sa.direction == "out"}
        for port, frames in out.items():
            for frame in frames:
                item = Seen(port, frame)
                packet = item.packet
                if packet and len(packet.data) > self.model.network.ports[port].mtu:
                    item.fault = "larger than the port's MTU"
                elif packet and packet.fragment and packet.source in own and packet.protocol in MAY_BE_SEALED:
                    item = joined.take(item)
                if item:
                    self.opener.open(item)
                    seen += filter(None, (self._joined_answer(item, joined),))
        return seen

    def _joined_answer(self, item, joined):
        """What an SA carries of the gateway's own, whole: its ICMP errors may be larger than a path takes, too."""
        inner = item.inner
        is_piece = inner and inner.fragment and inner.protocol in (wire.ICMP, wire.ICMP6)
        if not is_piece or inner.source not in self.model.network.own:
            return item
        whole = joined.take_inner(item)
        if whole:
            item.inner = whole
        return whole and item

    def _chosen(self, courses, seen):
        """Of several courses that are right, the one that gwd took: the first whose outputs all came. Where none has to
        leave anything, its counters may be those of any."""
        chosen = []
        for options in courses:
            ranked = sorted(options, key=lambda course: -len(required(course)))
            taken = next((course for course in ranked if self._fits(course, seen)), options[0])
            if not required(taken):
                silent = [course for course in options if not required(course) and len(course.drops) == 1]
                if len(silent) > 1:
                    taken = Course([output for course in silent for output in course.outputs],
                                   [frozenset().union(*(course.drops[0] for course in silent))],
                                   [drop for course in silent for drop in course.possible_drops])
            chosen.append(taken)
        return chosen

    @staticmethod
    def _fits(course, seen):
        used = []
        for output in required(course):
            found = next((item for item in seen if item not in used and matches(output, item)), None)
            output.ranges = []
            if found is None:
                return False
            used.append(found)
        return True

    def _compare(self, step, chosen, seen):
        """Claims what came out for what had to; what is left on either side is wrong."""
        left, problems, orders = list(seen), [], {}
        for number, (course, note) in enumerate(zip(chosen, step.notes)):
            self.required.update(course.drops)
            self.possible.update(course.possible_drops)
            for output in course.outputs:
                if is_for_host(output):
                    self.awaited.append((output, note))
                    continue
                claimed = self._claimed(output, left)
                # What is cut goes another way, and may come later than what is not; so does what is put together, or
                # comes by an SA, beside what comes in clear.
                for item in claimed if isinstance(output, (Clear, Sealed)) and not output.cut else ():
                    orders.setdefault((flow_of(output.packet), note), []).append(seen.index(item))
                if not is_complete(output) and not output.optional:
                    problems.append(f"missing: {output}\n    of frame {number}, {note}")
        problems += [f"unexpected: {item}" for item in left]
        problems += [f"out of order, {note}: {flow}, {order}" for (flow, note), order in orders.items() if order != sorted(order)]
        problems += self.opener.faults()
        for item in seen:
            problems += [f"broken: {fault}" for fault in self.invariants.faults(item)]
            problems += [f"fault: {item.fault}"] * bool(item.fault)
        return problems

    @staticmethod
    def _claimed(output, left):
        """Takes from what came out an expected output, all its pieces."""
        taken = []
        for item in list(left):
            if item.fault is None and matches(output, item):
                left.remove(item)
                taken.append(item)
                output.taken = True
                if is_complete(output):
                    break
        return taken

    def _to_host(self, delivered):
        for port, frames in delivered.items():
            for frame in frames:
                item = Seen(port, frame, host=True)
                found = next((entry for entry in self.awaited if matches(entry[0], item)), None)
                if found:
                    self.awaited.remove(found)
                else:
                    self.differences.append(f"unexpected {item}")
                self.differences += [f"broken: {fault}" for fault in self.invariants.faults(item)]

    # The end

    def _final(self, bench):
        """What is compared at the end: deliveries, drops, charges."""
        self._to_host(bench.delivered(sum(not output.optional for output, _ in self.awaited)))
        self.differences += [f"unexpected, late: {item}" for item in self._seen(bench.settle())]
        self.differences += [f"missing: {output}, of {note}" for output, note in self.awaited if not output.optional]
        self._drops(bench, "at the end")
        self._charges(bench, "at the end")

    def _drops(self, bench, when):
        for attempt in range(60):
            counted = self._counted(bench)
            wrong = unexplained(counted, self.required, self.possible)
            if wrong is None:
                return
            # Workers and the TAPs' thread publish their counters a little later.
            time.sleep(0.01 if attempt > 10 else 0.001)
        wanted = ", ".join(f"{count} × {'|'.join(sorted(group))}" for group, count in self.required.items())
        self.differences.append(f"drops {when}: {wrong}\n    counted: {counted}\n    required: {wanted}")

    def _counted(self, bench):
        return {reason: count - self.before.get(reason, 0) for reason, count in bench.drops().items()
                if count != self.before.get(reason, 0)}

    def _charges(self, bench, when):
        for attempt in range(60):
            wrong = list(self._wrong_charges(bench))
            if not wrong:
                return
            time.sleep(0.01 if attempt > 10 else 0.001)
        self.differences += [f"charges {when}: {fault}" for fault in wrong]

    def _wrong_charges(self, bench):
        """What an SA was charged for and should not have been, or the other way round; it may be published later."""
        listed = bench.associations()
        for sa in self.world.sas:
            row = listed.get(sa.spi)
            if row is None:
                if not sa.packet_limit:
                    yield f"{sa.name} is gone"
                continue
            if sa.direction == "out":
                count, least = row["counters"]["output_packets"], self.opener.sealed.get(sa.name, 0)
                most = least
            else:
                count, (least, most) = row["counters"]["input_packets"], self.model.inward.charged[sa.name]
            if not least <= count <= most:
                yield (f"{sa.name} was charged for {count} packets, not for {least} to {most}")


def required(course):
    """The outputs of a course that have to come, the host's aside."""
    return [output for output in course.outputs if not output.optional and not is_for_host(output)]


def is_for_host(output):
    return output.to_host


def flow_of(data):
    """What must stay in order: packets of one pair of addresses, protocol and ports."""
    packet = wire.Packet(data)
    return packet.source, packet.destination, packet.protocol, packet.source_port, packet.destination_port


def describe(frame):
    """A frame in words."""
    kind = int.from_bytes(frame[12:14], "big") if len(frame) >= 14 else 0
    if kind not in (wire.IPV4, wire.IPV6):
        return frame[:60].hex()
    try:
        return str(wire.checked(frame[14:], kind))
    except wire.Malformed as fault:
        return f"malformed ({fault}) {frame[14:74].hex()}"
