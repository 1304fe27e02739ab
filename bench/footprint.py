"""What the parts cost by standing still or by being called: volantd's memory, ``volar vms list`` as a process, PID 1's share."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

from bench.host import BIN, build_nginx, daemon, install
from bench.report import describe_machine, describe_times, judge

RSS_BUDGET_MB = 80.0
LIST_BUDGET_MS = 120.0
RUNS = 15
IDLE_BUDGET_PERCENT = 2.0
IDLE_S = 20.0


def rss_mb(pid: int) -> float:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) / 1024


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def idle_share(pids: list[int]) -> list[float]:
    """Percent of a core that each process takes while nobody asks for anything."""
    before = [cpu_s(pid) for pid in pids]
    time.sleep(IDLE_S)
    return [(cpu_s(pid) - spent) / IDLE_S * 100 for pid, spent in zip(pids, before, strict=True)]


def time_process(command: list[str], environment: dict[str, str]) -> float:
    began = time.monotonic()
    subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
    return time.monotonic() - began


def main() -> None:
    print(f"footprint, on {describe_machine()}")
    plugin = build_nginx()
    with daemon("--accelerator", "tcg") as (client, pid, root):
        fresh = rss_mb(pid)
        install(client, plugin)
        vm = client.vms.create({"name": "web", "plugin": "nginx", "start": "cold"}, wait="ready", timeout_s=60)
        assert vm.status.start is not None
        environment = {**os.environ, "VOLANT_API": f"unix://{root}/run/volantd.sock"}
        lists, bare = [], []
        for _ in range(RUNS):
            lists.append(time_process([str(BIN / "volar"), "vms", "list"], environment))
            bare.append(time_process([sys.executable, "-c", "pass"], environment))
        serving = rss_mb(pid)
        assert vm.status.pid is not None
        daemon_share, vm_share = idle_share([pid, vm.status.pid])
    print(judge("volantd's memory, idle, no VM", fresh, RSS_BUDGET_MB, " MB"))
    print(judge("volantd's memory, one VM", serving, RSS_BUDGET_MB, " MB"))
    print(judge("the VM's CPU, nginx probed every 5 s", vm_share, IDLE_BUDGET_PERCENT, " %"))
    print(f"  {'volantd beside it':<38} {daemon_share:8.2f} %")
    print(describe_times("volar vms list", lists))
    print(describe_times("python -c pass, the floor", bare))
    print(judge("volar vms list, median", statistics.median(lists) * 1000, LIST_BUDGET_MS, " ms"))
    steps = vm.status.start.steps_ms
    print(f"  one start in ms: {steps}, {vm.status.start.duration_ms} in all")
    share = steps["agent"] / (steps["kernel"] + steps["agent"])
    print(f"  PID 1's share of the guest's boot, modules and root included: {share:.0%}")


if __name__ == "__main__":
    main()
