"""The driver named ``cloud-hypervisor``."""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, HostError, Unavailable
from volant.core.ids import Digest
from volant.hypervisor.cgroup import NO_GROUPS, ControlGroups
from volant.hypervisor.cloud_hypervisor.adopt import adopt
from volant.hypervisor.cloud_hypervisor.config import BALLOON_PLACE, CPU_MODEL, MACHINE_TYPE, NAME, build_kernel_cmdline
from volant.hypervisor.cloud_hypervisor.launch import Launcher
from volant.hypervisor.cloud_hypervisor.save import read_saved
from volant.hypervisor.driver import Capability, Ending, Instance
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.qemu.kvm import KvmAccess, find_kvm_access
from volant.hypervisor.qemu.proof import DEADLINE_S, Prover
from volant.native import find_native
from volant.run import build_environment, run

BINARIES = ("cloud-hypervisor", "cloud-hypervisor-static")
"""What the program is called, as its makers publish it."""

MIN_VERSION = (40, 0)
"""The first that gives a restored card a new tap, and says when a guest reboots."""

VERSION_TIMEOUT_S = 10.0
VERDICTS = "kvm-cloud-hypervisor.json"
HINT = "put cloud-hypervisor into a directory of root's PATH, or name it: cloud_hypervisor_binary"
_VERSION = re.compile(r"^cloud-hypervisor v?((\d+)\.(\d+)[0-9A-Za-z.+-]{0,60})", re.MULTILINE)


class CloudHypervisorDriver:
    """Implements ``Driver``. Made by ``open_cloud_hypervisor``; without a ``prover`` KVM is taken to work."""

    def __init__(
        self,
        *,
        version: str,
        launcher: Launcher,
        cache_dir: Path,
        prover: Prover | None,
        access: Callable[[], KvmAccess] = find_kvm_access,
    ) -> None:
        self._version = version
        self._launcher = launcher
        self._cache_dir = cache_dir
        self._prover = prover
        self._access = access

    @property
    def name(self) -> str:
        return NAME

    @property
    def version(self) -> str:
        return self._version

    @property
    def binary(self) -> str:
        return self._launcher.binary

    @property
    def capabilities(self) -> frozenset[Capability]:
        # A restored machine's memory is read into memory of its own, whatever else was restored from the same files.
        return frozenset(Capability) - {Capability.SHARED_MEMORY}

    def capabilities_of(self, machine: Machine) -> frozenset[Capability]:
        return self.capabilities

    async def resolve(self, machine: Machine) -> Machine:
        """As ``Driver.resolve``; the first one of a kernel waits for the proof that it boots under KVM.

        Raises:
            Unavailable: KVM does not work here, which this hypervisor cannot do without.
        """
        if machine.hypervisor_version:
            return machine
        await self._check_kvm(machine)
        return complete(machine, self._version)

    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance:
        return await self._launcher.launch(unit, machine, files)

    async def restore(self, unit: Unit, machine: Machine, files: Files, saved: Path, base: Path | None = None) -> Instance:
        record = await asyncio.to_thread(read_saved, saved, machine)
        machine = msgspec.structs.replace(machine, balloon=record.machine.balloon)
        return await self._launcher.launch(unit, machine, files, saved)

    def is_base_held(self, key: str) -> bool:
        return False

    async def release_bases(self, keep: AbstractSet[str]) -> None:
        """Nothing is held."""

    async def adopt(self, unit: Unit) -> Instance | Ending | None:
        return await adopt(unit, self._launcher.cgroups)

    def explain_kvm(self) -> str:
        """Why machines cannot run here, as far as is known without a proof; empty when they can, or nothing is known."""
        reason = self._access().reason
        if reason or self._prover is None:
            return reason
        failed = [verdict for verdict in self._prover.verdicts.values() if not verdict.works]
        return failed[-1].reason if failed else ""

    @property
    def is_proven(self) -> bool:
        return self._prover is None or any(verdict.works for verdict in self._prover.verdicts.values())

    async def _check_kvm(self, machine: Machine) -> None:
        reason = self._access().reason
        if not reason and self._prover is not None:
            if not machine.has_agent and machine.kernel not in self._prover.verdicts:
                # A guest that says nothing proves nothing, and a proof that fails counts for all guests of its kernel.
                reason = "its guest has no agent to prove KVM with, and no other of its kernel has"
            else:
                try:
                    self._cache_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
                except OSError as error:
                    raise HostError(f"{self._cache_dir} cannot be made: {error.strerror}") from error
                reason = (await self._prover.prove_kvm(machine.kernel, machine.initramfs)).reason
        if reason:
            raise Unavailable(
                f"Cloud Hypervisor cannot run {machine.name}: KVM does not work: {reason}", hint="use qemu, which can emulate"
            )


def complete(machine: Machine, version: str) -> Machine:
    """``machine`` as it runs under this hypervisor."""
    return msgspec.structs.replace(
        machine,
        hypervisor=NAME,
        hypervisor_version=version,
        hypervisor_build=version,
        machine_type=MACHINE_TYPE,
        accelerator="kvm",
        cpu_model=CPU_MODEL,
        channel="vsock",
        balloon=BALLOON_PLACE,
        kernel_cmdline=build_kernel_cmdline(machine.kernel_cmdline),
    )


def find_binary(named: str = "") -> str | None:
    """The path of the program: ``named``, or what lies in the PATH that programs are run with; None when there is none."""
    path = build_environment()["PATH"]
    return next((found for name in ((named,) if named else BINARIES) if (found := shutil.which(name, path=path))), None)


async def open_cloud_hypervisor(
    *,
    cache_dir: Path,
    open_artifact: Callable[[Digest], int],
    binary: str = "",
    cgroups: ControlGroups = NO_GROUPS,
) -> CloudHypervisorDriver:
    """The driver for the Cloud Hypervisor that is installed. ``cache_dir`` keeps verdicts on KVM and may be lost;
    ``open_artifact`` opens a file of the artifact store, for the proof.

    Raises:
        Unavailable: it, or the holder, is missing, or it is too old.
    """
    found = find_binary(binary)
    if found is None:
        raise Unavailable(f"there is no {binary or 'cloud-hypervisor'} here", hint=HINT)
    version = await read_version(found)
    launcher = Launcher(holder=find_native("holder"), binary=found, kvm_group=find_kvm_access().group, cgroups=cgroups)
    prover = make_prover(launcher, version, cache_dir, open_artifact)
    return CloudHypervisorDriver(version=version, launcher=launcher, cache_dir=cache_dir, prover=prover)


def make_prover(
    launcher: Launcher, version: str, cache_dir: Path, open_artifact: Callable[[Digest], int], *, deadline_s: float = DEADLINE_S
) -> Prover:
    """``deadline_s`` is for tests."""
    return Prover(launcher, version, cache_dir, open_artifact, deadline_s=deadline_s, complete=complete, record=VERDICTS)


async def read_version(binary: str) -> str:
    """Raises Unavailable: it does not run, or is too old, or something else."""
    try:
        answer = await run([binary, "--version"], timeout_s=VERSION_TIMEOUT_S)
    except CommandFailed as error:
        raise Unavailable(f"Cloud Hypervisor cannot be run: {error}", hint=HINT) from error
    found = _VERSION.search(answer.text)
    if found is None:
        raise Unavailable(f"{binary} does not say which version of Cloud Hypervisor it is", hint=HINT)
    if (int(found[2]), int(found[3])) < MIN_VERSION:
        least = ".".join(str(number) for number in MIN_VERSION)
        raise Unavailable(f"Cloud Hypervisor {found[1]} is too old: {least} is the first that will do", hint=HINT)
    return found[1]
