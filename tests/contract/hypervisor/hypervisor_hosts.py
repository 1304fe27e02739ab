"""What the suite needs of each driver's host: drivers to begin with and to come back with, machines to start, and a hand on
the guest and on the process."""

from __future__ import annotations

import asyncio
import ctypes
import fcntl
import itertools
import os
import select
import signal
import struct
import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from volant.core.clock import HostClock
from volant.core.errors import HostError
from volant.core.ids import Digest, new_run_id, new_uid
from volant.hypervisor.cloud_hypervisor import CloudHypervisorDriver
from volant.hypervisor.cloud_hypervisor.driver import read_version
from volant.hypervisor.cloud_hypervisor.launch import Launcher as CloudHypervisorLauncher
from volant.hypervisor.driver import Driver, Instance
from volant.hypervisor.lock import is_locked
from volant.hypervisor.machine import BlockDevice, Files, Machine, Unit
from volant.hypervisor.qemu import Accelerators, open_qemu
from volant.hypervisor.qemu.kvm import KvmAccess
from volant.hypervisor.simulated import SimulatedDriver, SimulatedHost, Step
from volant.native import find_native

from .cloud_hypervisor_program import INTERPRETER

ASK = b"VOLANT\x00\x01" + bytes(32)
ANSWER = b"VOLANT\x01\x01"
PATIENCE_S = 30.0
"""For what takes a second or two; a busy machine takes longer."""

DEATH_TIMEOUT_S = 10.0

CLONE_NEWNET = 0x40000000  # sched.h
TUNSETIFF = 0x400454CA  # linux/if_tun.h, as the flags
IFF_TAP, IFF_NO_PI, IFF_VNET_HDR = 0x0002, 0x1000, 0x4000


class Host(ABC):
    """One host with its drivers."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self._slots = itertools.count(40_000 + os.getpid() % 10_000)

    def make_unit(self) -> Unit:
        uid = new_uid()
        # The path of the sockets is far too long for a socket's address.
        unit = Unit(uid=uid, state=self.place / "vms" / uid, sockets=self.place / ("long" * 30) / uid)
        for directory in (unit.state, unit.sockets):
            directory.mkdir(mode=0o700, parents=True)
        return unit

    def unit_of(self, machine: Machine) -> Unit:
        """The unit that ``machine`` runs in."""
        return Unit(uid=machine.uid, state=self.place / "vms" / machine.uid, sockets=self.place / ("long" * 30) / machine.uid)

    def make_machine(self, unit: Unit, **changes: object) -> Machine:
        machine = Machine(
            uid=unit.uid,
            run_id=new_run_id(),
            name="web-1",
            slot=next(self._slots),
            hypervisor=self.name,
            cpu_cores=1,
            memory_mib=128,
            kernel=Digest("sha256:" + "1" * 64),
            initramfs=Digest("sha256:" + "2" * 64),
            kernel_cmdline="",
        )
        return msgspec.structs.replace(machine, **changes)

    @property
    @abstractmethod
    def name(self) -> str: ...

    @abstractmethod
    async def open_driver(self) -> Driver: ...

    @abstractmethod
    def open_files(self, machine: Machine, *, broken: bool = False) -> Files:
        """``broken`` ones make the launch fail."""

    async def launch(self, driver: Driver, unit: Unit, machine: Machine | None = None, *, broken: bool = False) -> Instance:
        resolved = await driver.resolve(machine or self.make_machine(unit))
        with open_for_launch(self, resolved, broken=broken) as files:
            return await driver.launch(unit, resolved, files)

    @contextmanager
    def open_disk(self, disk: BlockDevice) -> Iterator[int]:
        """The descriptor of a disk to add."""
        yield -1

    @contextmanager
    def open_tap(self, name: str) -> Iterator[int]:
        yield -1

    @abstractmethod
    async def close(self) -> None:
        """End what only this side keeps running."""

    @abstractmethod
    async def tell_guest(self, instance: Instance, order: str) -> None:
        """``P`` to power off, ``R`` to reset."""

    @abstractmethod
    def kill_process(self, instance: Instance) -> None:
        """SIGKILL; returns once all of the process is dead, which takes a busy host a while."""

    @abstractmethod
    def find_leftovers(self, unit: Unit) -> list[str]:
        """What an ended run must not leave."""


@contextmanager
def open_for_launch(host: Host, machine: Machine, *, broken: bool = False) -> Iterator[Files]:
    files = host.open_files(machine, broken=broken)
    try:
        yield files
    finally:
        for descriptor in (files.kernel, files.initramfs, *files.disks.values(), *files.taps.values()):
            if descriptor >= 0:
                os.close(descriptor)


class SimulatedSide(Host):
    def __init__(self, place: Path) -> None:
        super().__init__(place)
        self._is_broken = False
        self.host = SimulatedHost(HostClock(), agent_factory=lambda machine, saved=None: answer_preamble, fault=self._fail)

    @property
    def name(self) -> str:
        return "simulated"

    async def open_driver(self) -> Driver:
        return SimulatedDriver(self.host)

    def open_files(self, machine: Machine, *, broken: bool = False) -> Files:
        self._is_broken = broken
        return Files(kernel=-1, initramfs=-1, disks={}, taps={})

    async def tell_guest(self, instance: Instance, order: str) -> None:
        {"P": self.host.power_off, "R": self.host.reset}[order](instance.machine.uid)

    async def close(self) -> None:
        await self.host.close()

    def kill_process(self, instance: Instance) -> None:
        self.host.crash(instance.machine.uid, signal=signal.SIGKILL)

    def find_leftovers(self, unit: Unit) -> list[str]:
        return [str(uid) for uid in self.host.running] + (["lock"] if self.host.is_locked(unit.uid) else [])

    def _fail(self, step: Step, machine: Machine) -> None:
        if self._is_broken and step == "started":
            raise HostError("the kernel could not be loaded")


class QemuSide(Host):
    """``boot`` holds vmlinux and boot.cpio of the guest in guest/init.c."""

    def __init__(self, place: Path, boot: Path, accelerator: Accelerators = "tcg") -> None:
        super().__init__(place)
        self.boot = boot
        self.accelerator: Accelerators = accelerator
        self.broken = place / "broken"
        self.broken.write_bytes(b"\x7fELF and no more")
        self.broken.chmod(0o444)

    @property
    def name(self) -> str:
        return "qemu"

    def open_artifact(self, digest: Digest) -> int:
        return os.open(self.boot / ("vmlinux" if digest.endswith("1") else "boot.cpio"), os.O_RDONLY | os.O_CLOEXEC)

    async def open_driver(self) -> Driver:
        return await open_qemu(cache_dir=self.place / "cache", open_artifact=self.open_artifact, accelerator=self.accelerator)

    def open_files(self, machine: Machine, *, broken: bool = False) -> Files:
        kernel = os.open(self.broken, os.O_RDONLY | os.O_CLOEXEC) if broken else self.open_artifact(machine.kernel)
        disks = {disk.serial: self._open_disk(disk) for disk in machine.disks}
        return Files(kernel=kernel, initramfs=self.open_artifact(machine.initramfs), disks=disks, taps={})

    async def tell_guest(self, instance: Instance, order: str) -> None:
        _, writer = await reach_guest(instance)
        writer.write(order.encode())
        await writer.drain()
        writer.close()

    async def close(self) -> None:
        """A VM process is nobody's but its holder's."""

    def kill_process(self, instance: Instance) -> None:
        kill_process(instance)

    def find_leftovers(self, unit: Unit) -> list[str]:
        left = [str(path) for path in unit.sockets.iterdir()]
        if is_locked(unit.state):
            left.append("lock")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if b"qemu-system" in words and str(os.getpid()).encode() in words and b"holder" not in words:
                left.append(words.decode())
        return left

    @contextmanager
    def open_disk(self, disk: BlockDevice) -> Iterator[int]:
        descriptor = self._open_disk(disk)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    def _open_disk(self, disk: BlockDevice) -> int:
        return open_disk_file(self.place, disk, 0o600)


class CloudHypervisorSide(Host):
    """Cloud Hypervisor as cloud_hypervisor_server/ plays it. ``program`` is that as an executable."""

    def __init__(self, place: Path, program: Path) -> None:
        super().__init__(place)
        self.program = program
        self.kernel = place / "vmlinux"
        self.kernel.write_bytes(b"\x7fELF" + bytes(4096))
        self.broken = place / "broken"
        self.broken.write_bytes(b"\x7fELF and no more")
        for path in (self.kernel, self.broken):
            path.chmod(0o444)

    @property
    def name(self) -> str:
        return "cloud-hypervisor"

    def open_artifact(self, digest: Digest) -> int:
        return os.open(self.kernel, os.O_RDONLY | os.O_CLOEXEC)

    def make_launcher(self) -> CloudHypervisorLauncher:
        return CloudHypervisorLauncher(
            holder=find_native("holder"), binary=str(self.program), devices=(), places=find_interpreter()
        )

    async def open_driver(self) -> CloudHypervisorDriver:
        return CloudHypervisorDriver(
            version=await read_version(str(self.program)),
            launcher=self.make_launcher(),
            cache_dir=self.place / "cache",
            prover=None,
            access=KvmAccess,
        )

    def open_files(self, machine: Machine, *, broken: bool = False) -> Files:
        kernel = os.open(self.broken, os.O_RDONLY | os.O_CLOEXEC) if broken else self.open_artifact(machine.kernel)
        return Files(
            kernel=kernel,
            initramfs=self.open_artifact(machine.initramfs),
            disks={disk.serial: self._open_disk(disk) for disk in machine.disks},
            taps={network.tap: open_tap(network.tap) for network in machine.networks},
        )

    @contextmanager
    def open_disk(self, disk: BlockDevice) -> Iterator[int]:
        descriptor = self._open_disk(disk)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    @contextmanager
    def open_tap(self, name: str) -> Iterator[int]:
        descriptor = open_tap(name)
        try:
            yield descriptor
        finally:
            os.close(descriptor)

    async def tell_guest(self, instance: Instance, order: str) -> None:
        _, writer = await reach_guest(instance)
        writer.write(order.encode())
        await writer.drain()
        writer.close()

    async def close(self) -> None:
        """A VM process is nobody's but its holder's."""

    def kill_process(self, instance: Instance) -> None:
        kill_process(instance)

    def find_leftovers(self, unit: Unit) -> list[str]:
        left = [str(path) for path in unit.sockets.iterdir()]
        if (unit.state / "work").exists():
            left.append("work")
        if is_locked(unit.state):
            left.append("lock")
        for process in Path("/proc").glob("[0-9]*"):
            try:
                words = (process / "cmdline").read_bytes()
            except (FileNotFoundError, ProcessLookupError):
                continue
            if str(self.program).encode() in words:
                left.append(words.decode())
        return left

    def _open_disk(self, disk: BlockDevice) -> int:
        return open_disk_file(self.place, disk, 0o444 if disk.readonly else 0o600)


def find_interpreter() -> tuple[str, ...]:
    """Where the interpreter of the program that stands for Cloud Hypervisor lies, beside libraries."""
    return tuple({INTERPRETER, os.path.realpath(INTERPRETER)})


def kill_process(instance: Instance) -> None:
    descriptor = os.pidfd_open(instance.pid)
    try:
        signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        # Until then a driver that comes finds it alive, and adopts it.
        dead, _, _ = select.select([descriptor], [], [], DEATH_TIMEOUT_S)
        assert dead
    finally:
        os.close(descriptor)


def open_disk_file(place: Path, disk: BlockDevice, mode: int) -> int:
    path = place / f"{disk.serial}.img"
    path.touch()
    os.truncate(path, 1 << 20)
    path.chmod(mode)
    return os.open(path, (os.O_RDONLY if disk.readonly else os.O_RDWR) | os.O_CLOEXEC)


def open_tap(name: str) -> int:
    """A tap in a network namespace that only its descriptor keeps."""
    opened: list[int] = []

    def make() -> None:
        assert ctypes.CDLL(None).unshare(CLONE_NEWNET) == 0
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
        fcntl.ioctl(descriptor, TUNSETIFF, struct.pack("16sH22x", name.encode(), IFF_TAP | IFF_NO_PI | IFF_VNET_HDR))
        opened.append(descriptor)

    thread = threading.Thread(target=make)
    thread.start()
    thread.join()
    return opened[0]


async def reach_guest(instance: Instance) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the agent that has answered a preamble (docs/guest-protocol.md, section 2)."""
    async with asyncio.timeout(PATIENCE_S):
        reader, writer = await instance.connect_agent()
        try:
            nonce = os.urandom(16)
            writer.write(ASK + nonce)
            await reader.readuntil(ANSWER + nonce)
        except BaseException:
            writer.transport.abort()
            raise
    return reader, writer


async def answer_preamble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    preamble = await reader.readexactly(len(ASK) + 16)
    writer.write(ANSWER + preamble[len(ASK) :])
    await reader.read()
