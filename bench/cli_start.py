"""How long ``volar`` takes to begin, beside other command lines of this trade on the same machine."""

from __future__ import annotations

import os
import shutil
import statistics
import sys

from bench.footprint import time_process
from bench.host import BIN, daemon
from bench.report import describe_machine, describe_times, judge

RUNS = 15
BUDGET_MS = 120.0
PEERS = {
    "virsh": ("virsh", "--help"),
    "podman": ("podman", "--help"),
    "kubectl": ("kubectl", "--help"),
}


def main() -> None:
    print(f"the start of a command line, on {describe_machine()}")
    found = {name: words for name, words in PEERS.items() if shutil.which(words[0])}
    with daemon("--hypervisor", "simulated", "--subnet", "10.77.0.0/16") as (_, _, root):
        environment = {**os.environ, "VOLANT_API": f"unix://{root}/run/volantd.sock"}
        commands = {
            "python -c pass, the floor": (sys.executable, "-c", "pass"),
            "volar --help": (str(BIN / "volar"), "--help"),
            "volar vms list": (str(BIN / "volar"), "vms", "list", "--json"),
            **{" ".join(words): words for words in found.values()},
        }
        taken: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(RUNS):
            for name, words in commands.items():
                taken[name].append(time_process(list(words), environment))
    for name, times in taken.items():
        print(describe_times(name, times))
    ours = statistics.median(taken["volar --help"])
    print(judge("volar --help, median", ours * 1000, BUDGET_MS, " ms"))
    for name, words in found.items():
        print(f"  {'volar --help to ' + name:<38} {ours / statistics.median(taken[' '.join(words)]):8.2f}x")
    for name in PEERS.keys() - found.keys():
        print(f"  {name:<38} is not installed here")


if __name__ == "__main__":
    main()
