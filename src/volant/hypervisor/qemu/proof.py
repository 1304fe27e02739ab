"""Whether KVM works here. The device can exist, open and even create a VM, and a guest's kernel still never boots; so the
plugin's own kernel and initramfs are booted under it until the agent has answered a preamble, once per boot of the host."""

from __future__ import annotations

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, Literal, Protocol

import msgspec

from volant.core.errors import GuestUnreachable, HostError
from volant.core.ids import Digest, RunId, Uid
from volant.hypervisor.driver import Instance
from volant.hypervisor.machine import Files, Machine, Unit
from volant.hypervisor.process import read_boot_id
from volant.hypervisor.qemu.command import CPU_MODELS, MACHINE_TYPE, build_kernel_cmdline
from volant.hypervisor.qemu.tsc import measure_tsc
from volant.hypervisor.record import read_record, write_record

DEADLINE_S = 5.0
PROOF_SLOT = -1
"""Its user is the one below every VM's, so that a proof and a VM share nothing."""

PROOF_MEMORY_MIB = 256
RETRY_S = 0.2

# docs/guest-protocol.md, section 2: what a host sends first, with the secret of a guest that was told nothing yet, and what
# the agent answers before anything else.
_ASK = b"VOLANT\x00\x01" + bytes(32)
_ANSWER = b"VOLANT\x01\x01"
_NONCE_BYTES = 16


class ProofLauncher(Protocol):
    async def launch(self, unit: Unit, machine: Machine, files: Files) -> Instance: ...


class Verdict(msgspec.Struct, frozen=True):
    """``reason`` says why KVM does not work, and is empty when it does."""

    works: bool
    reason: str


class _Verdicts(msgspec.Struct, frozen=True):
    """Of one boot of the host and one version of QEMU; any other makes them void. By the kernel's digest."""

    boot_id: str
    version: str
    verdicts: dict[Digest, Verdict]


class Prover:
    """Keeps verdicts in ``record`` of ``cache_dir``. ``open_artifact`` opens a file of the artifact store for reading.

    ``accelerator`` is what a proof boots under; only a test of the proof itself has a reason to name another. Another
    hypervisor's ``complete`` makes of a machine one that runs under its version.
    """

    def __init__(
        self,
        launcher: ProofLauncher,
        version: str,
        cache_dir: Path,
        open_artifact: Callable[[Digest], int],
        *,
        accelerator: Literal["kvm", "tcg"] = "kvm",
        deadline_s: float = DEADLINE_S,
        complete: Callable[[Machine, str], Machine] | None = None,
        record: str = "kvm.json",
    ) -> None:
        self._complete = complete
        self._record = record
        self._launcher = launcher
        self._version = version
        self._cache_dir = cache_dir
        self._open_artifact = open_artifact
        self._accelerator = accelerator
        self._deadline_s = deadline_s
        self._proving = asyncio.Lock()

    @property
    def verdicts(self) -> dict[Digest, Verdict]:
        """Those that hold now."""
        kept = read_record(self._cache_dir / self._record, _Verdicts)
        is_current = kept is not None and (kept.boot_id, kept.version) == (read_boot_id(), self._version)
        return dict(kept.verdicts) if kept is not None and is_current else {}

    async def prove_kvm(self, kernel: Digest, initramfs: Digest) -> Verdict:
        """The verdict on this kernel; the first time takes as long as a boot does, and at most ``DEADLINE_S`` and a little.

        Raises:
            VolantError: a file cannot be opened; then nothing is proven and nothing kept.
        """
        async with self._proving:
            known = self.verdicts.get(kernel)
            if known is not None:
                return known
            verdict = await self._boot(kernel, initramfs)
            record = _Verdicts(read_boot_id(), self._version, {**self.verdicts, kernel: verdict})
            write_record(self._cache_dir / self._record, record)
            return verdict

    async def _boot(self, kernel: Digest, initramfs: Digest) -> Verdict:
        machine = Machine(
            uid=Uid("0" * 32),
            run_id=RunId("0" * 32),
            name="kvm-proof",
            slot=PROOF_SLOT,
            hypervisor="qemu",
            hypervisor_version=self._version,
            machine_type=MACHINE_TYPE,
            accelerator=self._accelerator,
            cpu_model=CPU_MODELS[self._accelerator],
            cpu_cores=1,
            memory_mib=PROOF_MEMORY_MIB,
            kernel=kernel,
            initramfs=initramfs,
            kernel_cmdline=build_kernel_cmdline(self._accelerator, await measure_tsc(self._cache_dir), ""),
        )
        if self._complete is not None:
            machine = self._complete(msgspec.structs.replace(machine, kernel_cmdline=""), self._version)
        files = Files(kernel=self._open_artifact(kernel), initramfs=-1, disks={}, taps={})
        try:
            files = msgspec.structs.replace(files, initramfs=self._open_artifact(initramfs))
            place = Path(tempfile.mkdtemp(prefix="kvm-proof-", dir=self._cache_dir))
            try:
                return await self._try(Unit(uid=machine.uid, state=place, sockets=place), machine, files)
            finally:
                shutil.rmtree(place)
        finally:
            for descriptor in (files.kernel, files.initramfs):
                if descriptor >= 0:
                    os.close(descriptor)

    async def _try(self, unit: Unit, machine: Machine, files: Files) -> Verdict:
        try:
            instance = await self._launcher.launch(unit, machine, files)
        except HostError as error:
            return Verdict(False, _last_line(error.message))
        try:
            async with asyncio.timeout(self._deadline_s):
                return await _first(_await_answer(instance), _await_end(instance))
        except TimeoutError:
            return Verdict(False, f"a guest's kernel did not boot to its agent within {self._deadline_s:g} s")
        finally:
            await instance.destroy()
            await instance.close()


async def _await_answer(instance: Instance) -> Verdict:
    while True:
        try:
            reader, writer = await instance.connect_agent()
        except GuestUnreachable:
            await asyncio.sleep(RETRY_S)
            continue
        try:
            nonce = os.urandom(_NONCE_BYTES)
            writer.write(_ASK + nonce)
            await writer.drain()
            await reader.readuntil(_ANSWER + nonce)
            return Verdict(True, "")
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            await asyncio.sleep(RETRY_S)
        finally:
            writer.close()


async def _await_end(instance: Instance) -> Verdict:
    ending = await instance.wait_ended()
    return Verdict(False, f"the guest ended before its agent answered: {ending.message}")


async def _first(*verdicts: Coroutine[Any, Any, Verdict]) -> Verdict:
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(verdict) for verdict in verdicts]
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in tasks:
            task.cancel()
    return done.pop().result()


def _last_line(text: str) -> str:
    return text.strip().splitlines()[-1]
