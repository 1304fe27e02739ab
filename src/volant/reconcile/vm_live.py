"""Changes of a VM's spec that its run takes while it goes on; what it cannot take is said in a condition."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import structlog

from volant.core.condition import Condition, find_condition, set_condition
from volant.core.errors import VolantError, WrongState
from volant.core.ids import Uid
from volant.core.limits import Limits
from volant.core.vm import RESTART_REQUIRED, VM, ExtraDisk, VMStatus
from volant.hypervisor.record import read_record
from volant.node.run import Run
from volant.node.unit import Places
from volant.reconcile.identity import RENEW
from volant.reconcile.parts import find_free_place
from volant.reconcile.vm_drift import (
    APPLIED,
    Applied,
    as_it_runs,
    assume_applied,
    begin_applied,
    find_drift,
    read_applied,
    read_spec,
    with_field,
    write_applied,
)
from volant.reconcile.vm_start import VMStarter

log = structlog.get_logger()

ApplyLimits = Callable[[Uid, Limits], Awaitable[None]]


class _Refusal(msgspec.Struct, frozen=True):
    """The run did not take ``field`` at ``generation``."""

    generation: int
    run_id: str
    message: str


class LiveChanges:
    """Nothing here is lost with this volantd but what was tried in vain, which the next one tries once more."""

    def __init__(self, places: Places, starter: VMStarter, apply_limits: ApplyLimits | None = None) -> None:
        self._places = places
        self._starter = starter
        self._apply_limits = apply_limits
        self._applied: dict[Uid, Applied] = {}
        self._refused: dict[tuple[Uid, str], _Refusal] = {}

    # What a run has

    async def begin(self, vm: VM) -> None:
        """Write down what the run that is about to begin will have; disks that are no longer its own go."""
        unit = self._places.make(vm.uid)
        self._keep(vm.uid, begin_applied(vm))
        manifest = await self._starter.read_manifest(vm)
        own = {disk.path for disk in self._starter.parts.own_disks(vm, manifest)}
        for path in sorted(unit.state.glob("disk-*.img")):
            if path not in own:
                log.info("disk_removed", name=vm.name, disk=path.name)
                await self._starter.parts.remove_extra_disk(vm, path.name.removeprefix("disk-").removesuffix(".img"))

    def install(self, vm: VM, saved: Path) -> None:
        """Write down what a run has that goes on from what was saved in ``saved``, of this VM or of another."""
        taken = begin_applied(vm)
        found = read_record(saved / APPLIED, Applied)
        if found is not None:
            taken = msgspec.structs.replace(found, run_id=vm.status.run_id)
        write_applied(self._places.unit(vm.uid), taken, outlives_host=True)
        self._applied[vm.uid] = taken

    async def outlive(self, vm: VM, run: Run) -> None:
        """Have what the run has be known after the host has failed, too: it is about to sleep."""
        applied = self.find(vm, run)
        if applied is not None:
            await asyncio.to_thread(write_applied, self._places.unit(vm.uid), applied, outlives_host=True)

    def as_it_ran(self, vm: VM) -> VM:
        """``vm`` in the shape of what was saved of it."""
        return as_it_runs(vm, self.find(vm, None))

    def find(self, vm: VM, run: Run | None) -> Applied | None:
        """What the latest run of ``vm`` has; of one that nothing was kept of, what its machine shows."""
        run_id = vm.status.run_id
        applied = self._applied.get(vm.uid)
        if applied is not None and applied.run_id == run_id:
            return applied
        applied = read_applied(self._places.unit(vm.uid), run_id)
        if applied is None and run is not None and run.instance.machine.run_id == run_id:
            applied = assume_applied(vm, run.instance.machine)
            write_applied(self._places.unit(vm.uid), applied)
        if applied is not None:
            self._applied[vm.uid] = applied
        return applied

    def forget(self, uid: Uid) -> None:
        self._applied.pop(uid, None)
        for key in [key for key in self._refused if key[0] == uid]:
            del self._refused[key]

    def _keep(self, uid: Uid, applied: Applied) -> None:
        write_applied(self._places.unit(uid), applied)
        self._applied[uid] = applied

    # Changes

    def is_due(self, vm: VM, run: Run) -> bool:
        """True when the run could be told something that it does not have yet."""
        if run.ending is not None or run.paused or run.busy or run.instance.machine.run_id != vm.status.run_id:
            return False
        applied = self.find(vm, run)
        return applied is not None and any(
            self._is_untried(vm, field) for field in find_drift(vm, applied) if _can_be_told(field, run)
        )

    def _is_untried(self, vm: VM, field: str) -> bool:
        refusal = self._refused.get((vm.uid, field))
        return refusal is None or (refusal.generation, refusal.run_id) != (vm.meta.generation, vm.status.run_id)

    async def apply(self, vm: VM, run: Run) -> tuple[str, ...]:
        """Tell the run what it can take. Every step may be taken twice. Return the fields that it has now."""
        applied = self.find(vm, run)
        assert applied is not None
        taken: list[str] = []
        for field in find_drift(vm, applied):
            if not _can_be_told(field, run) or not self._is_untried(vm, field):
                continue
            try:
                await self._tell(field, vm, run)
            except VolantError as error:
                self._refused[vm.uid, field] = _Refusal(vm.meta.generation, vm.status.run_id, str(error))
                log.info("change_waits", name=vm.name, field=field, reason=str(error))
                continue
            self._keep(vm.uid, with_field(self._applied[vm.uid], vm, field))
            taken.append(field)
        return tuple(taken)

    async def _tell(self, field: str, vm: VM, run: Run) -> None:
        """Raises VolantError when the run does not take it."""
        match field:
            case "memory_mb":
                assert vm.spec.memory_mb is not None
                await run.instance.set_memory(vm.spec.memory_mb)
            case "restart_policy":
                await self._tell_policy(vm, run)
            case "limits":
                if self._apply_limits is None:
                    raise WrongState("this host does not change the limits of what runs")
                await self._apply_limits(vm.uid, vm.spec.limits or Limits())
            case "extra_networks":
                await self._add_cards(vm, run)
            case _:
                await self._tell_disks(vm, run)

    async def _tell_policy(self, vm: VM, run: Run) -> None:
        hello = run.agent.hello
        if hello is None or RENEW not in hello.capabilities:
            raise WrongState("its agent cannot be told while it runs")
        await self._starter.renew(vm, run)

    async def _tell_disks(self, vm: VM, run: Run) -> None:
        before = {disk.name: disk for disk in read_spec(vm, self._applied[vm.uid]).disks}
        after = {disk.name: disk for disk in vm.spec.disks}
        changed = sorted(name for name in before.keys() & after.keys() if before[name] != after[name])
        if changed:
            raise WrongState(f"the disk {changed[0]!r} is another in the next run")
        for name in before.keys() - after.keys():
            await run.instance.remove_disk(name)
            await self._starter.parts.remove_extra_disk(vm, name)
        for name in [name for name in after if name not in before]:
            await self._add_disk(vm, run, after[name])

    async def _add_cards(self, vm: VM, run: Run) -> None:
        """Once the machine has one, the guest is not who it was told to be, and is told anew (identity.py)."""
        for index in range(len(run.instance.machine.networks), len(vm.status.addresses)):
            device, descriptor = await self._starter.parts.open_card(vm, index, find_free_place(run.instance.machine))
            try:
                await run.instance.add_network(device, descriptor)
            finally:
                os.close(descriptor)

    async def _add_disk(self, vm: VM, run: Run, disk: ExtraDisk) -> None:
        there = next((one for one in run.instance.machine.disks if one.serial == disk.name), None)
        place = find_free_place(run.instance.machine) if there is None else there.bus
        device, descriptor = await self._starter.parts.open_extra_disk(vm, disk, place)
        try:
            await run.instance.add_disk(device, descriptor)
        finally:
            os.close(descriptor)

    # What is said of it

    def judge(self, vm: VM, status: VMStatus, run: Run | None, now: str, *, asleep: bool = False) -> VMStatus:
        """``status`` with the condition that says what only a restart gives."""
        waiting: tuple[str, ...] = ()
        if asleep or (run is not None and run.ending is None):
            applied = self.find(vm, run)
            waiting = () if applied is None else find_drift(vm, applied)
        if not waiting and find_condition(status.conditions, RESTART_REQUIRED) is None:
            return status
        condition = Condition(type=RESTART_REQUIRED, status="False", reason="UpToDate")
        if waiting:
            condition = Condition(
                type=RESTART_REQUIRED, status="True", reason="SpecChanged", message="; ".join(self._describe(vm, waiting))
            )
        return msgspec.structs.replace(status, conditions=set_condition(status.conditions, condition, now))

    def _describe(self, vm: VM, fields: tuple[str, ...]) -> list[str]:
        words = []
        for field in fields:
            refusal = self._refused.get((vm.uid, field))
            words.append(f"{field} ({refusal.message})" if refusal is not None and not self._is_untried(vm, field) else field)
        return words


_LIVE = frozenset({"memory_mb", "restart_policy", "limits", "disks", "extra_networks"})


def _can_be_told(field: str, run: Run) -> bool:
    """False also for as long as a change is the agent's to take and the agent is away: its coming back is looked at again."""
    if field != "restart_policy" or not run.instance.machine.has_agent:
        return field in _LIVE
    return run.agent.connected and run.agent.hello is not None and run.agent.hello.state == "configured"
