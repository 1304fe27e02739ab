from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from volant.core.ids import Digest, RunId, Uid
from volant.hypervisor.machine import Machine
from volant.hypervisor.qemu import driver as driver_module
from volant.hypervisor.qemu.driver import QemuDriver
from volant.hypervisor.qemu.proof import Verdict

KERNEL = Digest("sha256:" + "1" * 64)
MACHINE = Machine(
    uid=Uid("0" * 32), run_id=RunId("0" * 32), name="own", slot=0, hypervisor="qemu", cpu_cores=1, memory_mib=128,
    kernel=KERNEL, initramfs=Digest("sha256:" + "2" * 64), kernel_cmdline="",
)  # fmt: skip


class FakeProver:
    """Works for every kernel that it is asked to prove, and keeps what it was asked."""

    def __init__(self) -> None:
        self.verdicts: dict[Digest, Verdict] = {}

    async def prove_kvm(self, kernel: Digest, initramfs: Digest) -> Verdict:
        return self.verdicts.setdefault(kernel, Verdict(True, ""))


class Access:
    reason = ""


async def test_a_guest_that_says_nothing_proves_nothing_about_kvm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def measure(_: Path) -> int:
        return 2_000_000

    monkeypatch.setattr(driver_module, "find_kvm_access", Access)
    monkeypatch.setattr(driver_module, "measure_tsc", measure)
    prover = FakeProver()
    driver = QemuDriver(version="7.2", build="", launcher=cast(Any, None), prover=cast(Any, prover), cache_dir=tmp_path)
    silent = msgspec.structs.replace(MACHINE, has_agent=False)

    assert (await driver.resolve(silent)).accelerator == "tcg"
    assert prover.verdicts == {}, "a proof that fails would count for every guest of that kernel"
    assert (await driver.resolve(MACHINE)).accelerator == "kvm"
    assert (await driver.resolve(silent)).accelerator == "kvm", "another guest has proven its kernel"


def test_a_record_of_before_there_were_such_guests_is_read() -> None:
    fields = msgspec.json.decode(msgspec.json.encode(MACHINE))
    del fields["has_agent"]
    assert msgspec.convert(fields, Machine) == MACHINE
