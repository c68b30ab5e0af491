"""Makes a failing case small: fewer frames, fewer rules, as long as gwd still does other than the model says."""

import dataclasses
import time

from case import Case, Step


class Shrinker:
    """`fails(case)` runs a case. Chunks are left out by halves (Zeller's ddmin), for at most so many seconds."""

    def __init__(self, fails, seconds):
        self.fails, self.deadline = fails, time.monotonic() + seconds

    def shrink(self, case):
        case = self._frames(case)
        return self._settings(self._rules(case))

    def _is_smaller_and_fails(self, case):
        return time.monotonic() < self.deadline and self.fails(case)

    def _frames(self, case):
        items = [(number, index) for number, step in enumerate(case.steps) for index in range(max(1, len(step.frames)))]

        def made(kept):
            return Case(case.world, only(case.steps, set(kept)), case.origin)
        return made(self._least(items, lambda kept: self._is_smaller_and_fails(made(kept))))

    def _least(self, items, fails):
        """A small part of the items that still fails."""
        size = len(items) // 2
        while size and time.monotonic() < self.deadline:
            start = 0
            while start < len(items):
                fewer = items[:start] + items[start + size:]
                if fewer and fails(fewer):
                    items = fewer
                else:
                    start += size
            size //= 2
        return items

    def _rules(self, case):
        if any(step.world for step in case.steps):
            return case
        for field in ("policies", "sas"):
            for rule in getattr(case.world, field):
                world = case.world.without(field, rule)
                smaller = Case(world, case.steps, case.origin) if world else None
                if smaller and self._is_smaller_and_fails(smaller):
                    case = smaller
        return case

    def _settings(self, case):
        for key in list(case.world.settings):
            kept = {name: value for name, value in case.world.settings.items() if name != key}
            smaller = Case(dataclasses.replace(case.world, settings=kept), case.steps, case.origin)
            if self._is_smaller_and_fails(smaller):
                case = smaller
        return case


def only(steps, kept):
    """The steps with those frames alone that `kept` names by (step, frame)."""
    made = []
    for number, step in enumerate(steps):
        if step.world:
            made += [step] if (number, 0) in kept else []
            continue
        chosen = [index for index in range(len(step.frames)) if (number, index) in kept]
        if chosen:
            made.append(Step(step.port, [step.frames[i] for i in chosen], [step.notes[i] for i in chosen], step.host,
                             step.pause))
    return made
