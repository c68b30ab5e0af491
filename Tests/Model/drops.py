"""Counters of drops held against what had to be dropped: each packet under one of its counters, and nothing else."""

import collections


def unexplained(counted, required, possible):
    """None where the counters can be explained: every `required` packet (a set of counters each) is counted, and all
    that is counted is a required packet or a `possible` one. Else a sentence."""
    groups = collections.Counter(required)
    missing = _unmatched(groups, counted)
    if missing:
        return "not counted: " + ", ".join(f"{count} × {'|'.join(sorted(group))}" for group, count in missing.items())
    surplus = _unmatched({frozenset((reason,)): count for reason, count in counted.items()},
                         None, groups + collections.Counter(possible))
    if surplus:
        return "counted without a cause: " + ", ".join(f"{count} × {min(group)}" for group, count in surplus.items())
    return None


def _unmatched(groups, counted, causes=None):
    """What of `groups` finds no place: among the counters, or (for counters) among their causes. A maximum flow by
    augmenting paths; one that places all of each side exists where both exist for themselves (Mendelsohn and
    Dulmage)."""
    if causes is None:
        places = {(reason,): count for reason, count in counted.items()}
        may_go = {group: [(reason,) for reason in group if reason in counted] for group in groups}
    else:
        places = dict(causes)
        may_go = {group: [cause for cause in causes if group <= cause] for group in groups}
    used = collections.Counter()
    flow = collections.Counter()
    left = {}
    for group, count in groups.items():
        while count:
            moved = _augment(group, count, may_go, places, used, flow)
            if not moved:
                left[group] = count
                break
            count -= moved
    return left


def _augment(group, count, may_go, places, used, flow):
    """Places up to `count` of a group, moving others on where that makes room; returns how many."""
    paths, reached = [(group, [])], {group}
    while paths:
        at, path = paths.pop()
        for place in may_go[at]:
            room = places[place] - used[place]
            if room > 0:
                steps = [*path, (at, place)]
                amount = min(count, room, *(flow[other, taken] for (_, taken), (other, _) in zip(steps, steps[1:])))
                for number, (mover, to) in enumerate(steps):
                    flow[mover, to] += amount
                    if number:
                        flow[mover, steps[number - 1][1]] -= amount
                used[place] += amount
                return amount
            for (other, taken), held in list(flow.items()):
                if taken == place and held and other not in reached:
                    reached.add(other)
                    paths.append((other, [*path, (at, place)]))
    return 0
