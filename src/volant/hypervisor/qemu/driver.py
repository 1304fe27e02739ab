"""The driver named ``qemu``."""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Literal

import msgspec

from volant.core.errors import CommandFailed, HostError, Unavailable, VolantError
from volant.core.ids import Digest
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups
from volant.hypervisor.driver import Capability, Ending, Instance
from volant.hypervisor.machine import Accelerator, Files, Machine, Unit
from volant.hypervisor.qemu.adopt import adopt
from volant.hypervisor.qemu.command import AGENT_BUS, BINARY, CPU_MODELS, MACHINE_TYPE, build_kernel_cmdline, choose_balloon_place
from volant.hypervisor.qemu.instance import QemuInstance
from volant.hypervisor.qemu.kvm import find_kvm_access
from volant.hypervisor.qemu.launch import Launcher, Saving
from volant.hypervisor.qemu.memory import Bases
from volant.hypervisor.qemu.proof import Prover
from volant.hypervisor.qemu.save import read_saved
from volant.hypervisor.qemu.tsc import measure_tsc
from volant.native import find_native
from volant.run import run

Accelerators = Literal["auto", "kvm", "tcg"]

VERSION_TIMEOUT_S = 10.0
_VERSION = re.compile(r"version (\d+(?:\.\d+)+)(?: \(([^)\n]{1,200})\))?")


class QemuDescription(msgspec.Struct, frozen=True, kw_only=True):
    """For ``volar doctor``. ``accelerator``: ``works``, ``unproven``, ``absent``, ``off`` or ``does not work: REASON``."""

    version: str
    kvm: str


class QemuDriver:
    """Implements ``Driver``. Made by ``open_qemu``."""

    def __init__(
        self,
        *,
        version: str,
        build: str,
        launcher: Launcher,
        prover: Prover,
        cache_dir: Path,
        accelerator: Accelerators = "auto",
    ) -> None:
        self._version = version
        self._build = build
        self._bases = Bases()
        self._launcher = launcher
        self._prover = prover
        self._cache_dir = cache_dir
        self._accelerator = accelerator

    @property
    def name(self) -> str:
        return "qemu"

    @property
    def version(self) -> str:
        return self._version

    @property
    def capabilities(self) -> frozenset[Capability]:
        return frozenset(Capability) - {Capability.HOTPLUG}

    def capabilities_of(self, machine: Machine) -> frozenset[Capability]:
        return self.capabilities

    async def resolve(self, machine: Machine) -> Machine:
        """As ``Driver.resolve``; the first one of a kernel under ``auto`` waits for the proof of KVM (proof.py).

        Raises:
            Unavailable: KVM was asked for and does not work, or the machine has more devices than a microvm has places.
        """
        if machine.hypervisor_version:
            return machine
        if max((*(disk.bus for disk in machine.disks), *(network.bus for network in machine.networks)), default=0) >= AGENT_BUS:
            raise Unavailable(
                f"{machine.name} has more than the {AGENT_BUS} disks and network cards that fit into a machine of QEMU's",
                hint="leave some out, or put several file systems on one disk",
            )
        _make_directory(self._cache_dir)
        accelerator = await self._choose(machine)
        tsc_khz = await measure_tsc(self._cache_dir) if accelerator == "tcg" else None
        return msgspec.structs.replace(
            machine,
            hypervisor=self.name,
            hypervisor_version=self._version,
            hypervisor_build=self._build,
            machine_type=MACHINE_TYPE,
            accelerator=accelerator,
            cpu_model=CPU_MODELS[accelerator],
            channel="virtio-serial",
            balloon=choose_balloon_place(machine),
            kernel_cmdline=build_kernel_cmdline(accelerator, tsc_khz, machine.kernel_cmdline),
        )

    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance:
        return await self._launcher.launch(unit, machine, files)

    async def restore(self, unit: Unit, machine: Machine, files: Files, saved: Path, base: Path | None = None) -> Instance:
        record = await asyncio.to_thread(read_saved, saved, machine)
        # One that was saved before there were balloons goes on without.
        machine = msgspec.structs.replace(machine, balloon=record.machine.balloon)
        if not machine.base:
            return await self._launcher.launch(unit, machine, files, Saving(saved))
        memory = await self._bases.open(machine.base, base or saved, machine.memory_mib)
        try:
            return await self._launcher.launch(unit, machine, files, Saving(saved, memory))
        finally:
            os.close(memory)

    def is_base_held(self, key: str) -> bool:
        return self._bases.is_held(key)

    async def release_bases(self, keep: AbstractSet[str]) -> None:
        self._bases.release(keep)

    async def adopt(self, unit: Unit) -> Instance | Ending | None:
        found = await adopt(unit, self._launcher.cgroups)
        if isinstance(found, QemuInstance) and found.machine.base:
            self._bases.adopt(found.machine.base, found.pid)
        return found

    async def describe(self) -> QemuDescription:
        """What is known now; proves nothing."""
        return QemuDescription(version=self._version, kvm=self._describe_kvm())

    async def _choose(self, machine: Machine) -> Accelerator:
        if self._accelerator == "tcg":
            return "tcg"
        reason = find_kvm_access().reason
        if not reason and not machine.has_agent and machine.kernel not in self._prover.verdicts:
            # A guest that says nothing proves nothing, and a proof that fails counts for all guests of its kernel.
            reason = "its guest has no agent to prove it with, and no other of its kernel has"
        if not reason:
            try:
                verdict = await self._prover.prove_kvm(machine.kernel, machine.initramfs)
            except VolantError as error:
                # A file that is missing is for the launch to report; it says nothing about KVM.
                reason = str(error)
            else:
                if verdict.works:
                    return "kvm"
                reason = verdict.reason
        if self._accelerator == "kvm":
            raise Unavailable(f"KVM does not work: {reason}", hint="set accelerator to auto to emulate instead")
        return "tcg"

    def _describe_kvm(self) -> str:
        if self._accelerator == "tcg":
            return "off"
        access = find_kvm_access()
        if access.is_absent:
            return "absent"
        if access.reason:
            return f"does not work: {access.reason}"
        verdicts = list(self._prover.verdicts.values())
        if not verdicts:
            return "unproven"
        failed = [verdict for verdict in verdicts if not verdict.works]
        return f"does not work: {failed[-1].reason}" if failed else "works"


async def open_qemu(
    *,
    cache_dir: Path,
    open_artifact: Callable[[Digest], int],
    accelerator: Accelerators = "auto",
    binary: str = BINARY,
    cgroups: ControlGroups = NO_GROUPS,
) -> QemuDriver:
    """The driver for the QEMU that is installed. ``cache_dir`` keeps what was measured of this host and may be lost;
    ``open_artifact`` opens a file of the artifact store, for the proof of KVM.

    Raises:
        Unavailable: QEMU or the holder is missing.
    """
    version, build = await _read_version(binary)
    launcher = Launcher(holder=find_native("holder"), binary=binary, kvm_group=find_kvm_access().group, cgroups=cgroups)
    prover = Prover(launcher, version, cache_dir, open_artifact)
    return QemuDriver(
        version=version, build=build, launcher=launcher, prover=prover, cache_dir=cache_dir, accelerator=accelerator
    )


def _make_directory(directory: Path) -> None:
    try:
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise HostError(f"{directory} cannot be made: {error.strerror}") from error


async def _read_version(binary: str) -> tuple[str, str]:
    """The version, and the package's own name for it."""
    try:
        answer = await run([binary, "-version"], timeout_s=VERSION_TIMEOUT_S)
    except CommandFailed as error:
        raise Unavailable(f"QEMU cannot be run: {error}", hint="apt-get install qemu-system-x86") from error
    found = _VERSION.search(answer.text)
    if found is None:
        raise Unavailable(f"{binary} does not say which version it is", hint="apt-get install qemu-system-x86")
    return found[1], (found[2] or found[1]).strip()
