"""What it costs to put a VM to sleep, and to wake it by knocking. Part of template_start, whose figures it is judged by."""

from __future__ import annotations

import statistics
import time

from bench.guest_http import Visitor
from bench.report import describe_times, judge
from volant.client.client import Client

WAKE_BUDGET = 1.3
DISK_BUDGET = 1.0
ROUNDS = 20
RESUMES = 5
HOST_PORT = 18080
PATIENCE_S = 30.0
"""A connection is held while the VM wakes: it is not to be given up."""


def measure_sleep(client: Client, visitor: Visitor, from_template: list[float]) -> None:
    published = [{"host_port": HOST_PORT, "port": 80}]
    vm = client.vms.create({"name": "sleeper", "plugin": "nginx", "ports": published}, wait="ready")
    gateway = vm.status.addresses[0].gateway
    asleep, suspends, pauses, wakes, shares = [], [], [], [], []
    for _ in range(ROUNDS):
        visitor.fetch_first(gateway, HOST_PORT, connect_s=PATIENCE_S).result()
        stats = client.vms.stats("sleeper")
        touched = stats["memory_private_bytes"] + stats["memory_shared_bytes"]
        began = time.monotonic()
        vm = client.vms.suspend("sleeper", wait="suspended")
        suspends.append(time.monotonic() - began)
        assert vm.status.suspended is not None, vm.status
        pauses.append(vm.status.suspended.duration_ms / 1000)
        asleep.append(vm.status.suspended.size_bytes)
        shares.append(vm.status.suspended.size_bytes / touched)
        began = time.monotonic()
        wakes.append(visitor.fetch_first(gateway, HOST_PORT, connect_s=PATIENCE_S).result() - began)
    resumes = []
    for _ in range(RESUMES):
        client.vms.suspend("sleeper", wait="suspended")
        began = time.monotonic()
        client.vms.resume("sleeper", wait="ready")
        resumes.append(time.monotonic() - began)
    client.vms.delete("sleeper", wait=True)
    print(describe_times("suspend, asked until asleep", suspends))
    print(describe_times("its memory written and its process gone", pauses))
    print(describe_times("resume, asked until ready", resumes))
    print(describe_times("wake by connecting, to the first byte", wakes))
    ratio = statistics.median(wakes) / statistics.median(from_template)
    print(judge("wake to create from a template, p50", ratio, WAKE_BUDGET, "x"))
    print(f"  asleep it takes {statistics.median(asleep) / 2**20:.1f} MiB of the disk")
    print(judge("disk to memory touched", max(shares), DISK_BUDGET, "x"))
