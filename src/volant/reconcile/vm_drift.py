"""What a VM's run has of its spec. It is kept beside the run: the spec may change while the run goes on as it began."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from volant.core.cards import card_networks
from volant.core.changes import OF_THE_RUN, find_changes
from volant.core.vm import VM, VMSpec
from volant.hypervisor.machine import Machine, Unit
from volant.hypervisor.record import read_record, write_record

APPLIED = "applied.json"


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """``spec`` holds the fields that a run has a value of its own of, as the run ``run_id`` has them now; ``memory_mib`` and
    ``cpu_cores`` are the machine's since it began."""

    run_id: str
    memory_mib: int
    cpu_cores: int
    spec: dict[str, Any]


def begin_applied(vm: VM) -> Applied:
    """What the run that ``vm.status.run_id`` names has when it begins from the spec as it is."""
    document = msgspec.to_builtins(vm.spec)
    return Applied(
        run_id=vm.status.run_id,
        memory_mib=vm.spec.memory_mb or 0,
        cpu_cores=vm.spec.cpu_cores or 0,
        spec={field: document[field] for field in OF_THE_RUN},
    )


def assume_applied(vm: VM, machine: Machine) -> Applied:
    """Of a run that nothing was kept of: all that its machine does not show is taken to be as the spec says."""
    assumed = begin_applied(vm)
    spec = {**assumed.spec, "memory_mb": machine.memory_mib, "cpu_cores": machine.cpu_cores}
    return msgspec.structs.replace(assumed, memory_mib=machine.memory_mib, cpu_cores=machine.cpu_cores, spec=spec)


def write_applied(unit: Unit, applied: Applied, *, outlives_host: bool = False) -> None:
    """A run ends with the host; what sleeps goes on after it, and its record is to be there."""
    write_record(unit.state / APPLIED, applied, outlives_host=outlives_host)


def copy_applied(unit: Unit, directory: Path) -> None:
    """Leave a word of what the run has with what is saved of it."""
    found = read_record(unit.state / APPLIED, Applied)
    if found is not None:
        write_record(directory / APPLIED, found)


def read_applied(unit: Unit, run_id: str) -> Applied | None:
    """None when nothing was kept of this run."""
    found = read_record(unit.state / APPLIED, Applied)
    return found if found is not None and found.run_id == run_id else None


def read_spec(vm: VM, applied: Applied) -> VMSpec:
    """The spec that the run has. Fields that it knows nothing of are as ``vm`` says."""
    known = {field: value for field, value in applied.spec.items() if field in OF_THE_RUN}
    try:
        return msgspec.convert({**msgspec.to_builtins(vm.spec), **known}, VMSpec)
    except msgspec.ValidationError:
        return vm.spec  # another version wrote it, and what it meant is not known here


def as_it_runs(vm: VM, applied: Applied | None) -> VM:
    """``vm`` in the shape that its run was begun in: what was saved of it can only go on so."""
    if applied is None:
        return vm
    spec = msgspec.structs.replace(read_spec(vm, applied), memory_mb=applied.memory_mib, cpu_cores=applied.cpu_cores)
    # A card can only be added at the end while something runs.
    status = msgspec.structs.replace(vm.status, addresses=vm.status.addresses[: len(card_networks(spec))])
    return msgspec.structs.replace(vm, spec=spec, status=status)


def find_drift(vm: VM, applied: Applied) -> tuple[str, ...]:
    """The fields of the spec that the run does not have."""
    return find_changes(read_spec(vm, applied), vm.spec, OF_THE_RUN)


def with_field(applied: Applied, vm: VM, field: str) -> Applied:
    """``applied``, now that the run has ``field`` as ``vm`` says."""
    return msgspec.structs.replace(applied, spec={**applied.spec, field: msgspec.to_builtins(getattr(vm.spec, field))})
