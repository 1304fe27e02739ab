"""What thousands of VMs cost volantd: on the ``simulated`` hypervisor, so that all of the cost is volantd's.

``BENCH_SCALE=1000,10000`` says how many; the cost of one change is measured on the way there.
"""

from __future__ import annotations

import hashlib
import os
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.footprint import cpu_s, rss_mb
from bench.host import launch
from bench.report import describe_machine, judge
from volant.client.client import Client
from volant.core.ids import Digest

READY_BUDGET_S = 10.0
REST_BUDGET_PERCENT = 5.0
REST_S = 20.0
SETTLE_S = 30.0
CHANGES = 60
STEPS = (100, 1_000, 3_000, 10_000)
RATIO_BUDGET = 1.5
PLUGIN = "job"
LIMIT_S = 900.0
DISK_BYTES, DISK_FILES = 16 * 1024**3, 600_000


def main() -> None:
    targets = [int(word) for word in os.environ.get("BENCH_SCALE", "1000,10000").split(",")]
    print(f"scale, on {describe_machine()}")
    for target in targets:
        with simulated_daemon() as (client, pid, root):
            measure_deployment(client, pid, root, target)
        print()
    with simulated_daemon() as (client, pid, _):
        measure_changes(client, pid, [step for step in STEPS if step <= max(targets)])


@contextmanager
def simulated_daemon() -> Iterator[tuple[Client, int, Path]]:
    """``(client, pid of volantd, its directory)``. Its guests are inside volantd, so that nothing is left when it is killed."""
    with fresh_disk() as root:
        (root / "namespace").write_text("volant-bench-simulated")
        process = launch(root, "--hypervisor", "simulated", "--subnet", "10.64.0.0/16")
        try:
            client = Client(f"unix://{root}/run/volantd.sock")
            install(client)
            yield client, process.pid, root
        finally:
            process.kill()
            process.wait()


@contextmanager
def fresh_disk() -> Iterator[Path]:
    """A directory on an ext4 of its own: where trees were removed a moment ago, making files is slow, and each run removes
    tens of thousands."""
    with tempfile.TemporaryDirectory(prefix="volant-bench.") as name:
        image, mounted = Path(name) / "disk.img", Path(name) / "disk"
        mounted.mkdir()
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", "-N", str(DISK_FILES), image], check=True)
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
        try:
            yield mounted
        finally:
            subprocess.run(["umount", mounted], check=True)


def install(client: Client) -> None:
    """A plugin of one small file that is kernel, initramfs and root."""
    content = b"a kernel, an initramfs and a root, all in one"
    digest = "sha256:" + hashlib.sha256(content).hexdigest()
    medium = {"url": f"artifact:{digest}", "checksum": digest}
    with tempfile.NamedTemporaryFile() as file:
        file.write(content)
        file.flush()
        client.artifacts.upload(Digest(digest), Path(file.name))
    client.plugins.install(
        {
            "schema_version": "v1",
            "name": PLUGIN,
            "version": "1.0",
            "workload": {"type": "http", "base_url": "http://127.0.0.1:80", "entrypoint": ["/usr/sbin/nginx"]},
            "health_check": {"endpoint": "/"},
            "boot": {"kernel": medium, "initramfs": medium},
            "rootfs": medium,
        },
        wait=True,
    )


def measure_deployment(client: Client, pid: int, root: Path, count: int) -> None:
    spent, began = cpu_s(pid), time.monotonic()
    deploy(client, count)
    wait_ready(client, count)
    took, used = time.monotonic() - began, cpu_s(pid) - spent
    if count == 1_000:
        print(judge(f"a deployment of {count}, all ready", took, READY_BUDGET_S, " s"))
    else:
        print(f"  {f'a deployment of {count}, all ready':<38} {took:8.2f} s")
    print(f"  {'… processor time, in all and a VM':<38} {used:8.2f} s   {used / count * 1000:.2f} ms")
    time.sleep(SETTLE_S)
    spent = cpu_s(pid)
    time.sleep(REST_S)
    print(judge(f"at rest with {count}", (cpu_s(pid) - spent) / REST_S * 100, REST_BUDGET_PERCENT, " % of a core"))
    print(f"  {'resident memory':<38} {rss_mb(pid):8.1f} MB")
    for name in ("volant.db", "volant.db-wal"):
        size = (root / "data" / name).stat().st_size
        print(f"  {name:<38} {size / 1024**2:8.1f} MB   {size / count / 1024:.1f} KiB a VM")
    describe_queues(client)


def deploy(client: Client, count: int) -> None:
    client.deployments.create({"name": "web", "replicas": count, "vm": {"plugin": PLUGIN}})


def describe_queues(client: Client) -> None:
    for queue in client.system.queues():
        if queue["passes"]:
            mean_ms = queue["seconds"] / queue["passes"] * 1000
            took = f"mean {mean_ms:7.2f} ms, max {queue['seconds_max']:6.2f} s, waited at most {queue['waited_max_s']:6.2f} s"
            ended = f"{queue['failures']} failed, {queue['races']} races"
            print(f"    {queue['name']:<12} {queue['passes']:>8} passes, {took}, {ended}")


def measure_changes(client: Client, pid: int, steps: list[int]) -> None:
    """What one change costs at each number of VMs."""
    changes: dict[str, Callable[[int], None]] = {
        "patch": lambda turn: patch_one(client, turn),
        "create": lambda turn: create_one(client, turn),
        "delete": lambda turn: delete_one(client, turn),
    }
    costs: dict[str, list[tuple[float, float]]] = {name: [] for name in changes}
    made = 0
    for step in steps:
        for index in range(made, step):
            client.vms.create({"name": f"vm-{index}", "plugin": PLUGIN})
        made = step
        wait_ready(client, step)
        time.sleep(SETTLE_S)
        for name, change in changes.items():
            costs[name].append(measure_change(pid, change))
    for name, found in costs.items():
        plot(f"one {name}, median until it is done", [f"{step}" for step in steps], [latency for latency, _ in found])
        plot(f"one {name}, processor time of volantd", [f"{step}" for step in steps], [used for _, used in found])


def measure_change(pid: int, change: Callable[[int], None]) -> tuple[float, float]:
    """Milliseconds: the median until it is done, and of processor time for each."""
    latencies = []
    spent = cpu_s(pid)
    for turn in range(CHANGES):
        began = time.monotonic()
        change(turn)
        latencies.append(time.monotonic() - began)
    return statistics.median(latencies) * 1000, (cpu_s(pid) - spent) / CHANGES * 1000


def patch_one(client: Client, turn: int) -> None:
    client.configurations.patch(f"vm-{turn}", {"labels": {"turn": str(time.monotonic_ns())}})


def create_one(client: Client, turn: int) -> None:
    client.vms.create({"name": f"extra-{turn}", "plugin": PLUGIN}, wait="ready", timeout_s=60)


def delete_one(client: Client, turn: int) -> None:
    client.vms.delete(f"extra-{turn}", force=True, wait=True, timeout_s=60)


def wait_ready(client: Client, count: int) -> None:
    end = time.monotonic() + LIMIT_S
    while time.monotonic() < end:
        if client.system.summary()["vms_ready"] >= count:
            return
        time.sleep(0.5)
    raise SystemExit(f"not ready within {LIMIT_S:g} s: {client.system.summary()}")


def plot(name: str, labels: list[str], values: list[float]) -> None:
    print(f"  {name}")
    for label, value in zip(labels, values, strict=True):
        print(f"    {label:>7} VMs {value:9.2f} ms  {'#' * round(value / max(values) * 40)}")
    print(judge("  largest to first", max(values) / values[0], RATIO_BUDGET, " ×"))


if __name__ == "__main__":
    main()
