"""Create from a template to a page from the guest, against QEMU restored by hand from the same template (by_hand.py).

Both times begin with what is asked for (for us: the POST is sent) and end when a client beside the guest, which asks every few
milliseconds, has read ``200``. The cold start, ready templates, the pool, and sleeping are measured in the same run.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import time
from pathlib import Path
from typing import Any

from bench.by_hand import open_hand
from bench.guest_http import Visitor, open_visitor
from bench.host import build_nginx, daemon, describe_kernel, find_namespace, install, install_variant, read_manifest
from bench.report import describe_machine, describe_times, judge, percentile
from bench.sleeping import measure_sleep
from volant.client.client import Client
from volant.core.vm import VM

BUDGET = 1.5
POOL_BUDGET = 0.5
PAIRS = int(os.environ.get("BENCH_PAIRS", "50"))
COLD_STARTS = 5
READY_STARTS = 20
POOL_STARTS = 20
POOL_SIZE = 2
PARK_LIMIT_S = 60.0


def start_by_volant(
    client: Client, visitor: Visitor, name: str, kind: str, plugin: str = "nginx", **asked: Any
) -> tuple[float, dict[str, float]]:
    """Seconds from sending the POST to the page, and those of the parts of it; the VM is gone afterwards."""
    began = time.monotonic()
    vm = client.vms.create({"name": name, "plugin": plugin, **asked})
    acknowledged = time.monotonic() - began
    page = visitor.fetch_first(vm.status.addresses[0].ip).result()
    vm = wait_ready(client, name)
    assert vm.status.start is not None and vm.status.start.kind == kind, vm.status
    steps = {name: taken / 1000 for name, taken in vm.status.start.steps_ms.items()}
    client.vms.delete(name, wait=True)
    return page - began, {"acknowledged": acknowledged, **steps}


def wait_ready(client: Client, name: str) -> VM:
    """What followed it says, once its start is recorded whole."""
    for vm in client.vms.watch(name, timeout_s=30):
        if vm is not None and vm.status.ready:
            return vm
    raise AssertionError(f"{name} is not ready")


def wait_parked(client: Client) -> None:
    """Until the pool is full and nobody works at it."""
    deadline = time.monotonic() + PARK_LIMIT_S
    while client.pools.list()[0]["parked"] < POOL_SIZE:
        if time.monotonic() > deadline:
            raise SystemExit(f"the pool was not filled: {client.pools.list()}")
        time.sleep(0.05)


def describe_steps(name: str, runs: list[dict[str, float]]) -> str:
    medians = {step: statistics.median([run[step] for run in runs if step in run]) * 1000 for step in runs[0]}
    return f"  {name}, medians in ms: " + ", ".join(f"{step} {taken:.0f}" for step, taken in medians.items())


def measure_pairs(client: Client, visitor: Visitor, plugin: Path, template: Path) -> list[float]:
    manifest = read_manifest(plugin)
    ours, steps, theirs = [], [], []
    with open_hand(template, manifest, plugin / manifest["rootfs"]["url"]) as hand:
        asyncio.run(hand.start())
        start_by_volant(client, visitor, "warm-up", "template")
        for number in range(PAIRS):
            taken, parts = start_by_volant(client, visitor, f"vm-{number}", "template")
            ours.append(taken)
            steps.append(parts)
            theirs.append(asyncio.run(hand.start()))
    by_hand = [times["page"] for times in theirs]
    print(describe_times("volant, from a template", ours))
    print(describe_times("by hand, from the same template", by_hand))
    print(describe_steps("volant", steps))
    print(describe_steps("by hand, since it began", theirs))
    print(f"  p99: volant {percentile(ours, 0.99) * 1000:.0f} ms, by hand {percentile(by_hand, 0.99) * 1000:.0f} ms")
    ratio = statistics.median(ours) / statistics.median(by_hand)
    print(judge("p50 to p50 by hand", ratio, BUDGET, "x"))
    pairs = [mine / peer for mine, peer in zip(ours, by_hand, strict=True)]
    print(f"  {'the same, median of pairs':<38} {statistics.median(pairs):8.2f}x")
    return ours


def measure_cold(client: Client, visitor: Visitor) -> None:
    runs = [start_by_volant(client, visitor, f"cold-{number}", "cold", start="cold") for number in range(COLD_STARTS)]
    print(describe_times("volant, cold", [taken for taken, _ in runs]))


def measure_ready(client: Client, visitor: Visitor, plugin: Path) -> None:
    """Not judged: nothing says yet what it must be."""
    install_variant(client, plugin, "nginx-ready", start={"template": "ready"})
    client.templates.build("nginx-ready")
    start_by_volant(client, visitor, "ready-warm-up", "template", "nginx-ready")
    runs = [start_by_volant(client, visitor, f"ready-{n}", "template", "nginx-ready") for n in range(READY_STARTS)]
    print(describe_times("volant, from a ready template", [taken for taken, _ in runs]))
    print(describe_steps("ready", [steps for _, steps in runs]))


def measure_pool(client: Client, visitor: Visitor, from_template: list[float]) -> None:
    client.pools.set("nginx", POOL_SIZE)
    taken, steps = [], []
    for number in range(POOL_STARTS):
        wait_parked(client)
        seconds, parts = start_by_volant(client, visitor, f"pool-{number}", "pool")
        taken.append(seconds)
        steps.append(parts)
    client.pools.set("nginx", None)
    print(describe_times("volant, from the pool", taken))
    print(describe_steps("pool", steps))
    ratio = statistics.median(taken) / statistics.median(from_template)
    print(judge("pool to template, p50", ratio, POOL_BUDGET, "x"))


def main() -> None:
    print(f"template start to HTTP 200, on {describe_machine()} (emulation)")
    plugin = build_nginx()
    print(f"  {describe_kernel(read_manifest(plugin))}")
    with daemon("--accelerator", "tcg") as (client, _, root), open_visitor(find_namespace(root)) as visitor:
        install(client, plugin)
        booted = client.templates.build("nginx")
        print(f"  its template takes {booted.size_bytes / 2**20:.1f} MiB")
        from_template = measure_pairs(client, visitor, plugin, root / "data/templates" / booted.key)
        measure_cold(client, visitor)
        measure_ready(client, visitor, plugin)
        measure_pool(client, visitor, from_template)
        measure_sleep(client, visitor, from_template)


if __name__ == "__main__":
    main()
