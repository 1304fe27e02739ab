"""QEMU restored by hand from a template that volantd made: what somebody would write in an afternoon.

Root, no jail, no registry, one guest at a time: a bridge in a namespace, the template's memory loaded once, then for each clone
an empty disk, a tap, one QEMU on a copy-on-write mapping, and the same conversation with kestrel.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from bench.guest_http import Visitor, open_visitor
from volant.core.clock import HostClock
from volant.guest import document
from volant.guest.document import encode_document
from volant.guest.link import AgentLink
from volant.guest.state import AgentState
from volant.hypervisor.driver import Saved
from volant.hypervisor.qemu.pages import read_into_memory
from volant.net.fabric import ARP_PROBES, ARP_RETRY_MS

BRIDGE, TAP, MAC = "hand0", "tap0", "02:00:00:00:00:01"
GUEST, HOST = "10.99.0.2", "10.99.0.1"


class Hand:
    """Made by ``open_hand``."""

    def __init__(
        self,
        directory: Path,
        namespace: str,
        visitor: Visitor,
        memory: int,
        template: Path,
        manifest: dict[str, Any],
        rootfs: Path,
    ) -> None:
        self._directory = directory
        self._namespace = namespace
        self._visitor = visitor
        self._memory = memory
        self._template = template
        self._manifest = manifest
        self._rootfs = rootfs
        self._machine = msgspec.json.decode((template / "machine.json").read_bytes(), type=Saved).machine
        self._interface = document.Interface(
            mac=MAC, device_mac=self._machine.networks[0].mac, name="eth0", address=f"{GUEST}/24", gateway=HOST
        )

    async def start(self) -> dict[str, float]:
        """Seconds to each point of one start, up to a page from the guest; the guest is gone afterwards."""
        times: dict[str, float] = {}
        began = time.monotonic()

        def mark(point: str) -> None:
            times.setdefault(point, time.monotonic() - began)

        page = self._visitor.fetch_first(GUEST)
        disk, agent = self._directory / "disk", self._directory / "agent"
        self._make_disk(disk)
        mark("disk")
        _configure(self._namespace, f"tuntap add {TAP} mode tap", f"link set {TAP} master {BRIDGE} up")
        mark("tap")
        state = os.open(self._template / "state", os.O_RDONLY)
        process = subprocess.Popen(self._command(disk, agent, state), stdin=subprocess.DEVNULL, pass_fds=(self._memory, state))
        try:
            await self._converse(agent, mark)
            times["page"] = await asyncio.wait_for(asyncio.wrap_future(page), 60) - began
        finally:
            process.kill()
            process.wait()
            os.close(state)
            _configure(self._namespace, f"link delete {TAP}", f"neigh flush dev {BRIDGE}")
            for path in (disk, agent):
                path.unlink(missing_ok=True)
        return times

    async def _converse(self, agent: Path, mark: Any) -> None:
        async def connect() -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            while True:
                try:
                    return await asyncio.open_unix_connection(agent)
                except (FileNotFoundError, ConnectionRefusedError):
                    await asyncio.sleep(0.002)

        def on_change(state: AgentState) -> None:
            if state.hello is not None:
                mark("hello")

        secret = secrets.token_bytes(32)
        link = AgentLink(connect, secret, on_change=on_change, clock=HostClock(), client="bench")
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            running = group.create_task(link.run())
            await link.wait_for(lambda state: state.connected and state.hello is not None, 30)
            await link.configure(encode_document(describe_guest(self._manifest, self._interface, secret)))
            mark("configured")
            running.cancel()

    def _make_disk(self, disk: Path) -> None:
        with disk.open("wb") as stream:
            stream.truncate(self._manifest["resources"]["disk_mb"] * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-E", "lazy_itable_init=1,lazy_journal_init=1", disk], check=True)

    def _command(self, disk: Path, agent: Path, state: int) -> list[str]:
        machine = self._machine
        options = "acpi=on,ioapic2=off,pcie=off,isa-serial=on,auto-kernel-cmdline=off,memory-backend=ram,suppress-vmdesc=on"
        memory = f"size={machine.memory_mib}M,mem-path=/proc/self/fd/{self._memory},share=off"
        return [
            *("nsenter", f"--net=/run/netns/{self._namespace}"),
            *("qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-serial", "null"),
            *("-machine", f"microvm,{options}", "-object", f"memory-backend-file,id=ram,{memory}"),
            *("-accel", "tcg,thread=multi", "-cpu", "max", "-smp", str(machine.cpu_cores), "-m", f"{machine.memory_mib}M"),
            *("-incoming", f"fd:{state}", "-global", "migration.send-configuration=off"),
            *("-global", "virtio-mmio.force-legacy=false"),
            *("-drive", f"id=a,if=none,format=raw,readonly=on,file={self._rootfs}"),
            *("-device", "virtio-blk-device,drive=a,serial=rootfs,bus=virtio-mmio-bus.0"),
            *("-drive", f"id=b,if=none,format=raw,discard=unmap,file={disk}"),
            *("-device", "virtio-blk-device,drive=b,serial=data,bus=virtio-mmio-bus.1"),
            *("-netdev", f"tap,id=n,ifname={TAP},script=no,downscript=no"),
            *("-device", f"virtio-net-device,netdev=n,mac={MAC},bus=virtio-mmio-bus.2"),
            *("-device", "virtio-serial-device,max_ports=2,bus=virtio-mmio-bus.6", "-device"),
            *("virtserialport,nr=1,chardev=c,name=volant.agent", "-chardev", f"socket,id=c,path={agent},server=on,wait=off"),
            *("-device", "virtio-rng-device,bus=virtio-mmio-bus.7"),
            *(
                ("-device", f"virtio-balloon-device,bus=virtio-mmio-bus.{self._machine.balloon},deflate-on-oom=on")
                if self._machine.balloon >= 0
                else ()
            ),
        ]


@contextmanager
def open_hand(template: Path, manifest: dict[str, Any], rootfs: Path) -> Iterator[Hand]:
    """``template`` is a directory of volantd's with ``memory``, ``memory.map``, ``state`` and ``machine.json``."""
    namespace = f"volant-hand-{secrets.token_hex(4)}"
    directory = Path(tempfile.mkdtemp(prefix="volant-hand."))
    subprocess.run(["ip", "netns", "add", namespace], check=True)
    try:
        _configure(
            namespace,
            "link set lo up",
            f"link add {BRIDGE} type bridge",
            f"addr add {HOST}/24 dev {BRIDGE}",
            f"link set {BRIDGE} up",
        )
        # As on a network of Volant's, or the visitor would wait a second between two questions who has the address.
        neighbours = f"net.ipv4.neigh.{BRIDGE}"
        settings = [f"{neighbours}.retrans_time_ms={ARP_RETRY_MS}", f"{neighbours}.mcast_solicit={ARP_PROBES}"]
        subprocess.run(["ip", "netns", "exec", namespace, "sysctl", "-q", "-w", *settings], check=True)
        memory = os.memfd_create("template")
        os.ftruncate(memory, manifest["resources"]["memory_mb"] * 1024 * 1024)
        read_into_memory(template, memory)
        with open_visitor(namespace) as visitor:
            yield Hand(directory, namespace, visitor, memory, template, manifest, rootfs)
        os.close(memory)
    finally:
        subprocess.run(["ip", "netns", "delete", namespace], check=True)
        shutil.rmtree(directory)


def _configure(namespace: str, *commands: str) -> None:
    subprocess.run(["ip", "-n", namespace, "-batch", "-"], input="\n".join(commands).encode(), check=True)


def describe_guest(manifest: dict[str, Any], interface: document.Interface, secret: bytes) -> document.Document:
    workload = manifest["workload"]
    return document.Document(
        channel_secret=secret.hex(),
        entropy=secrets.token_hex(64),
        unix_ns=time.time_ns(),
        hostname="hand",
        machine_id=secrets.token_hex(16),
        network=document.Network(interfaces=(interface,)),
        root=document.Root(writable="disk", disk="data"),
        workloads=(
            document.Workload(
                argv=tuple(workload["entrypoint"]),
                env=workload.get("env", {}),
                restart=document.Restart(policy="always"),
                health=document.HttpHealth(port=80, path="/"),
            ),
        ),
    )
