"""What a run has of its spec, as it is kept and compared."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from volant.core.changes import OF_THE_RUN
from volant.core.ids import Digest, RunId, Uid
from volant.core.limits import Limits
from volant.core.resource import Meta
from volant.core.vm import VM, ExtraDisk, VMSpec, VMStatus
from volant.hypervisor.machine import Machine, Unit
from volant.node.run import Run
from volant.node.unit import Places
from volant.reconcile.vm_drift import (
    APPLIED,
    as_it_runs,
    assume_applied,
    begin_applied,
    copy_applied,
    find_drift,
    read_applied,
    with_field,
    write_applied,
)
from volant.reconcile.vm_live import LiveChanges
from volant.reconcile.vm_start import VMStarter

UID = Uid("a" * 32)


def make(**spec: Any) -> VM:
    wanted = VMSpec(plugin="nginx", **{"cpu_cores": 1, "memory_mb": 128, "disk_mb": 1024, **spec})
    return VM(meta=Meta(name="web", uid=UID), spec=wanted, status=VMStatus(run_id="run"))


@pytest.fixture
def unit(tmp_path: Path) -> Unit:
    return Unit(uid=UID, state=tmp_path, sockets=tmp_path)


CHANGES: dict[str, Any] = {
    "cpu_cores": 2,
    "memory_mb": 64,
    "disk_mb": 2048,
    "root": "ephemeral",
    "restart_policy": "never",
    "command": ("true",),
    "env": {"A": "b"},
    "isolation": "hardware",
    "hypervisor": "qemu",
    "disks": (ExtraDisk(name="d", size_mb=8),),
    "kernel": Digest("sha256:" + "0" * 64),
    "initramfs": Digest("sha256:" + "1" * 64),
    "kernel_cmdline": "quiet",
    "limits": Limits(pids=64),
    "extra_networks": ("default",),
}


@pytest.mark.parametrize("field", sorted(OF_THE_RUN))
def test_each_field_that_a_run_has_its_own_of_is_found_and_settled(unit: Unit, field: str) -> None:
    before, after = make(), make(**{field: CHANGES[field]})
    write_applied(unit, begin_applied(before))
    applied = read_applied(unit, "run")
    assert applied is not None
    assert find_drift(before, applied) == ()
    assert find_drift(after, applied) == (field,)
    assert find_drift(after, with_field(applied, after, field)) == ()


def test_what_volantd_acts_on_alone_is_no_drift() -> None:
    applied = begin_applied(make())
    assert find_drift(make(auto_suspend_s=5, stop_grace_s=1, power="stopped", ports=(), force_stop=True), applied) == ()


async def test_what_a_run_has_outlives_the_host_once_it_is_to_sleep(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run ends with the host, so that no start waits for the disk; what sleeps goes on after it."""
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    places, vm = Places(data=tmp_path / "data", runtime=tmp_path / "run"), make()
    live, place = LiveChanges(places, cast(VMStarter, None)), places.make(vm.uid)
    write_applied(place, begin_applied(vm))
    assert not synced
    await live.outlive(vm, cast(Run, None))
    assert len(synced) == 1
    kept = read_applied(place, "run")
    assert kept is not None and find_drift(vm, kept) == ()


def test_what_was_kept_of_another_run_is_not_of_this(unit: Unit) -> None:
    write_applied(unit, begin_applied(make()))
    assert read_applied(unit, "another") is None
    (unit.state / APPLIED).write_text("{")
    assert read_applied(unit, "run") is None


def test_fields_of_another_version_are_passed_over() -> None:
    applied = begin_applied(make(env={"A": "b"}))
    foreign = msgspec.structs.replace(applied, spec={**applied.spec, "surprise": 1, "plugin": "other"})
    assert find_drift(make(env={"A": "b"}), foreign) == ()
    earlier = msgspec.structs.replace(applied, spec={"memory_mb": 64})
    assert find_drift(make(), earlier) == ("memory_mb",)
    unreadable = msgspec.structs.replace(applied, spec={"memory_mb": "much"})
    assert find_drift(make(), unreadable) == ()


def test_what_sleeps_goes_on_in_the_shape_that_it_was_begun_in() -> None:
    applied = with_field(begin_applied(make(memory_mb=256)), make(memory_mb=200), "memory_mb")
    woken = as_it_runs(make(memory_mb=512, cpu_cores=4, auto_suspend_s=9), applied)
    assert (woken.spec.memory_mb, woken.spec.cpu_cores, woken.spec.auto_suspend_s) == (256, 1, 9)
    assert as_it_runs(make(), None) == make()


def test_of_a_run_that_nothing_was_kept_of_the_machine_tells() -> None:
    machine = Machine(
        uid=UID, run_id=RunId("run"), name="web", slot=0, hypervisor="qemu", cpu_cores=2, memory_mib=64,
        kernel=Digest("k"), initramfs=Digest("i"), kernel_cmdline="",
    )  # fmt: skip
    assert find_drift(make(), assume_applied(make(), machine)) == ("cpu_cores", "memory_mb")


def test_it_goes_with_what_is_saved(unit: Unit, tmp_path: Path) -> None:
    other = tmp_path / "saved"
    other.mkdir()
    copy_applied(unit, other)
    assert not (other / APPLIED).exists()
    write_applied(unit, begin_applied(make()))
    copy_applied(unit, other)
    found = read_applied(Unit(uid=UID, state=other, sockets=other), "run")
    assert found is not None and find_drift(make(), found) == ()
