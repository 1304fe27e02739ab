"""Many clones at once, and many beside each other: fifty creates against one, and how many idle ones this machine bears.

BENCH_CLONES says how many to try; it ends early while the host still has memory.
"""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench.footprint import IDLE_S, cpu_s
from bench.guest_http import Visitor, open_visitor
from bench.host import build_nginx, daemon, describe_kernel, find_namespace, install, read_available_mib, read_manifest
from bench.report import describe_machine, describe_times, judge
from volant.client.client import Client
from volant.core.errors import VolantError
from volant.core.vm import VM

AT_ONCE = 50
ONES = 10
CLONES = int(os.environ.get("BENCH_CLONES", "110"))
MEMORY_MB = 128
BATCH = 10
LEAST_AVAILABLE_MIB = 1536
ENOUGH = 100
IDLE_BUDGET_PERCENT = 0.7
SETTLE_S = 10.0
CREATE_LIMIT_S = 300.0


def create(client: Client, name: str) -> tuple[float, VM | VolantError]:
    """Seconds until it is ready, or until it was clear that it would not be."""
    began = time.monotonic()
    wanted = {"name": name, "plugin": "nginx", "memory_mb": MEMORY_MB, "start": "template"}
    try:
        vm: VM | VolantError = client.vms.create(wanted, wait="ready", timeout_s=CREATE_LIMIT_S)
    except VolantError as error:
        vm = error
    return time.monotonic() - began, vm


def create_at_once(client: Client, names: list[str]) -> list[tuple[float, VM | VolantError]]:
    with ThreadPoolExecutor(len(names)) as threads:
        return list(threads.map(lambda name: create(client, name), names))


def find_failed(found: Iterable[VM | VolantError]) -> list[str]:
    """What went wrong with those that did not start at the first attempt."""
    failed = [str(vm) for vm in found if isinstance(vm, VolantError)]
    vms = [vm for vm in found if isinstance(vm, VM)]
    return failed + [f"{vm.name}: {vm.status.message}" for vm in vms if not vm.status.ready or vm.status.failures]


def delete_all(client: Client) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda vm: client.vms.delete(vm.name, wait=True, timeout_s=120), client.vms.list()))


def measure_burst(client: Client) -> list[str]:
    """Fifty against one; they stay."""
    for node in client.nodes.list():
        # What the host can bear is measured here, not what an operator would let it give out.
        client.nodes.edit(node.name, {"cpu_overcommit": 1000, "memory_overcommit": 100})
    ones = []
    for number in range(ONES + 1):
        seconds, vm = create(client, f"one-{number}")
        assert isinstance(vm, VM) and vm.status.ready, vm
        ones.append(seconds)
        client.vms.delete(vm.name, wait=True)
    one = statistics.median(ones[1:])  # the first also loads the template
    began = time.monotonic()
    found = create_at_once(client, [f"vm-{number}" for number in range(AT_ONCE)])
    took = time.monotonic() - began
    print(describe_times("one create to ready", ones[1:]))
    print(describe_times(f"each of {AT_ONCE} at once", [seconds for seconds, _ in found]))
    print(f"  all {AT_ONCE} were ready after {took:.1f} s, {took / AT_ONCE * 1000:.0f} ms each")
    print(judge(f"{AT_ONCE} at once to one", took / one, AT_ONCE, "x"))
    return find_failed(vm for _, vm in found)


def fill(client: Client) -> list[str]:
    """More and more of them while there is room."""
    failed = []
    for begin in range(AT_ONCE, CLONES, BATCH):
        if read_available_mib() < LEAST_AVAILABLE_MIB:
            print(f"  ended at {begin} clones: the host has {read_available_mib():.0f} MiB left")
            break
        names = [f"vm-{number}" for number in range(begin, min(begin + BATCH, CLONES))]
        failed += find_failed(vm for _, vm in create_at_once(client, names))
    return failed


def measure_idle(client: Client, daemon_pid: int, vms: list[VM]) -> None:
    pids = [vm.status.pid for vm in vms if vm.status.pid is not None]
    before, daemon_before = [cpu_s(pid) for pid in pids], cpu_s(daemon_pid)
    began = time.monotonic()
    time.sleep(IDLE_S)
    took = time.monotonic() - began
    shares = [(cpu_s(pid) - spent) / took * 100 for pid, spent in zip(pids, before, strict=True)]
    print(judge("CPU of an idle clone, mean", statistics.mean(shares), IDLE_BUDGET_PERCENT, " %"))
    print(
        f"  most {max(shares):.2f} %, all {sum(shares):.0f} %, volantd {(cpu_s(daemon_pid) - daemon_before) / took * 100:.1f} %"
    )


def visit(visitor: Visitor, vms: list[VM]) -> list[str]:
    """Those that did not answer, of all in turn."""
    silent, taken = [], []
    for vm in vms:
        began = time.monotonic()
        if not visitor.fetch_once(vm.status.addresses[0].ip):
            silent.append(vm.name)
        taken.append(time.monotonic() - began)
    print(describe_times("a page from each in turn", taken))
    return silent


def describe_memory(stats: list[dict[str, Any]]) -> str:
    medians = {
        what: statistics.median(each[f"{what}_bytes"] for each in stats) / 2**20
        for what in ("memory_private", "memory_shared", "process_private", "process_shared")
    }
    return (
        f"  a clone's memory, medians: guest {medians['memory_private']:.1f} MiB private and "
        f"{medians['memory_shared']:.1f} shared; whole process {medians['process_private']:.1f} private and "
        f"{medians['process_shared']:.1f} shared"
    )


def main() -> None:
    print(f"many clones, on {describe_machine()} (emulation)")
    plugin = build_nginx()
    print(f"  {describe_kernel(read_manifest(plugin))}")
    with daemon("--accelerator", "tcg") as (client, pid, root), open_visitor(find_namespace(root)) as visitor:
        install(client, plugin)
        client.templates.build("nginx", memory_mb=MEMORY_MB)
        before = read_available_mib()
        try:
            failed = measure_burst(client) + fill(client)
            vms = client.vms.list()
            after = read_available_mib()
            time.sleep(SETTLE_S)
            silent = visit(visitor, vms)
            measure_idle(client, pid, vms)
            print(describe_memory([client.vms.stats(vm.name) for vm in vms]))
        finally:
            delete_all(client)
    used = (before - after) / len(vms)
    print(f"  the host had {before:.0f} MiB available before and {after:.0f} after: {used:.1f} a clone")
    print(judge("clones that answer", len(vms) - len(silent), ENOUGH, at_least=True))
    print(judge("creates that failed", len(failed), 0))
    for reason in (*failed[:5], *(f"{name} is silent" for name in silent[:5])):
        print(f"  {reason}")


if __name__ == "__main__":
    main()
