"""Cold create to Ready against QEMU run by hand with the same kernel, initramfs, root, disk and workload.

The peer is what somebody would write in an afternoon: mkfs, one QEMU command as root without a jail, and the same
conversation with kestrel. Both times end when the workload has answered its health check.
"""

from __future__ import annotations

import asyncio
import secrets
import statistics
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any

from bench.by_hand import describe_guest
from bench.host import build_nginx, daemon, install, read_manifest
from bench.report import describe_machine, describe_times, judge
from volant.core.clock import HostClock
from volant.guest.document import Interface, encode_document
from volant.guest.link import AgentLink
from volant.guest.state import AgentState
from volant.hypervisor.qemu.tsc import measure_tsc

BUDGET = 1.15
ROUNDS = 7


async def start_by_hand(plugin: Path, manifest: dict[str, Any], tsc_khz: int) -> dict[str, float]:
    """Seconds to each point of one start by hand."""
    with tempfile.TemporaryDirectory(prefix="volant-hand.") as directory:
        began = time.monotonic()
        disk = Path(directory) / "disk"
        with disk.open("wb") as stream:
            stream.truncate(manifest["resources"].get("disk_mb", 1024) * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", disk], check=True)
        port = Path(directory) / "agent"
        mac = "02:00:00:00:00:01"
        command = [
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "null"),
            *("-machine", "microvm,acpi=on,ioapic2=off,pcie=off,isa-serial=on,auto-kernel-cmdline=off"),
            *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "1", "-m", f"{manifest['resources']['memory_mb']}M"),
            *("-global", "virtio-mmio.force-legacy=false"),
            *("-kernel", str(plugin / "vmlinux"), "-initrd", str(plugin / "boot.cpio"), "-append"),
            f"console=ttyS0 quiet reboot=t panic=-1 no_timer_check tsc_early_khz={tsc_khz} "
            "volant.rootfs_device=rootfs volant.rootfs_fstype=erofs",
            *("-drive", f"id=a,if=none,format=raw,readonly=on,file={plugin / 'rootfs.erofs'}"),
            *("-device", "virtio-blk-device,drive=a,serial=rootfs", "-drive", f"id=b,if=none,format=raw,file={disk}"),
            *("-device", "virtio-blk-device,drive=b,serial=data", "-netdev", "user,id=n,restrict=on"),
            *("-device", f"virtio-net-device,netdev=n,mac={mac}", "-device", "virtio-rng-device"),
            *("-chardev", f"socket,id=c,path={port},server=on,wait=off", "-device", "virtio-serial-device"),
            *("-device", "virtserialport,chardev=c,name=volant.agent"),
        ]
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
        times: dict[str, float] = {}
        healthy = asyncio.Event()
        secret = secrets.token_bytes(32)

        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            while not port.exists():
                await asyncio.sleep(0.005)
            return await asyncio.open_unix_connection(port)

        def on_change(state: AgentState) -> None:
            if state.hello is not None:
                times.setdefault("hello", time.monotonic() - began)
            if state.health is not None and state.health.state == "healthy":
                healthy.set()

        interface = Interface(mac=mac, name="eth0", address="10.0.2.15/24", gateway="10.0.2.2")
        link = AgentLink(connect, secret, on_change=on_change, clock=HostClock(), client="bench")
        try:
            async with asyncio.timeout(60), asyncio.TaskGroup() as group:
                running = group.create_task(link.run())
                await link.wait_for(lambda state: state.connected and state.hello is not None, 30)
                await link.configure(encode_document(describe_guest(manifest, interface, secret)))
                await healthy.wait()
                times["ready"] = time.monotonic() - began
                running.cancel()
        finally:
            process.kill()
            process.wait()
        return times


def start_by_volant(client: Any, name: str) -> dict[str, float]:
    began = time.monotonic()
    vm = client.vms.create({"name": name, "plugin": "nginx", "start": "cold"}, wait="ready", timeout_s=60)
    times = {"ready": time.monotonic() - began}
    assert vm.status.ready, vm.status
    steps = vm.status.start.steps_ms
    times["hello"] = (steps["prepare"] + steps["launch"] + steps["boot"]) / 1000
    client.vms.delete(name, wait=True)
    return times


def main() -> None:
    print(f"cold start to Ready, on {describe_machine()} (emulation)")
    plugin = build_nginx()
    manifest = read_manifest(plugin)
    with tempfile.TemporaryDirectory() as cache:
        tsc_khz = asyncio.run(measure_tsc(Path(cache)))
    by_hand: list[dict[str, float]] = []
    by_volant: list[dict[str, float]] = []
    with daemon("--accelerator", "tcg") as (client, _, _):
        install(client, plugin)
        start_by_volant(client, "warm-up")
        for round_ in range(ROUNDS):
            by_volant.append(start_by_volant(client, f"vm-{round_}"))
            by_hand.append(asyncio.run(start_by_hand(plugin, manifest, tsc_khz)))
    for point in ("hello", "ready"):
        print(describe_times(f"volant, to {point}", [times[point] for times in by_volant]))
        print(describe_times(f"by hand, to {point}", [times[point] for times in by_hand]))
    ratios = [ours["ready"] / theirs["ready"] for ours, theirs in zip(by_volant, by_hand, strict=True)]
    print(judge("ratio to by hand, median of pairs", statistics.median(ratios), BUDGET, "x"))


if __name__ == "__main__":
    main()
