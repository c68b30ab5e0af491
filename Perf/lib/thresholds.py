"""The ratios and cycles that a build must keep, by kind of CPU: which vector instructions a CPU has decides them."""

import datetime
import json
import pathlib
import subprocess

from lib.machine import machine

FILE = pathlib.Path(__file__).resolve().parent.parent / "thresholds.json"
MARGIN = 0.1
# How cycles by stage are measured where the file does not say.
STAGES = {"algorithm": "aes-128-gcm", "engine": "ipsec-mb", "size": "64", "runs": 6, "margin": 0.15}


def this_cpu():
    return " ".join(machine()["flags"])


def load(file=FILE):
    """The entry of this kind of CPU; None, with a word of what there is, if the file has none."""
    cpus = json.loads(file.read_text())["cpus"]
    entry = cpus.get(this_cpu())
    if entry is None:
        print(f"compare: {file.name} has no thresholds for a CPU with these flags: {this_cpu()}. It has them for:")
        for flags, other in cpus.items():
            print(f"compare:   {flags} ({other['measured']})")
        print("compare: nothing was checked. Measure on a quiet machine with --record to add this CPU.")
    return entry


def record(results, cycles, file=FILE):
    """Writes what was measured as this CPU's entry. Cases that were not measured keep their old values."""
    content = json.loads(file.read_text())
    old = content["cpus"].get(this_cpu(), {})
    found = machine()
    commit = subprocess.run(["git", "-C", FILE.parent, "describe", "--always", "--dirty"], capture_output=True, text=True)
    content["cpus"][this_cpu()] = {
        "measured": f"{found['cpu']}, {found['cores']} cores, DPDK {found['dpdk']}, build {commit.stdout.strip() or 'unknown'}, "
                    f"{datetime.date.today()}",
        "margin": old.get("margin", MARGIN),
        "stages": {**STAGES, **old.get("stages", {}),
                   "cycles": {direction: {stage: round(value) for stage, value in stages.items()}
                              for direction, stages in cycles.items()} or old.get("stages", {}).get("cycles", {})},
        "ratios": {**old.get("ratios", {}), **{result["name"]: round(result["ratio"], 2) for result in results}},
    }
    file.write_text(json.dumps(content, indent=1) + "\n")
    print(f"compare: wrote {len(results)} ratios to {file} for a CPU with these flags: {this_cpu()}")


def check_ratios(results, kept):
    """The number of cases that are worse than the file allows; a case that it does not name is not judged."""
    failures = unknown = 0
    for result in results:
        ratio = kept["ratios"].get(result["name"])
        if ratio is None:
            unknown += 1
            continue
        limit = ratio * (1 + kept["margin"])
        if result["ratio"] > limit:
            failures += 1
            print(f"compare: {result['name']}: ratio {result['ratio']:.2f}, kept {ratio:.2f}, at most {limit:.2f}")
    if unknown:
        print(f"compare: {unknown} cases have no threshold")
    print(f"compare: {failures} ratios are worse than {FILE.name} allows")
    return failures


def worse_stages(found, kept, margin):
    return [stage for stage, cycles in kept.items() if found[stage] > cycles * (1 + margin)]


def check_stages(found, kept):
    """The number of stages that take more cycles than the file allows."""
    failures = 0
    for direction, stages in found.items():
        limits = kept["cycles"][direction]
        print(f"compare: cycles by stage, {direction}: "
              + ", ".join(f"{stage} {stages[stage]:.0f} ({limit})" for stage, limit in limits.items()))
        for stage in worse_stages(stages, limits, kept["margin"]):
            failures += 1
            print(f"compare: {direction}: {stage} takes {stages[stage]:.0f} cycles a packet, kept {limits[stage]}, at most "
                  f"{limits[stage] * (1 + kept['margin']):.0f}")
    if found:
        print(f"compare: {failures} stages take more cycles than {FILE.name} allows")
    return failures
