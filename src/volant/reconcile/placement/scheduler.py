"""The scheduler: gives VMs a node and a slot there, or says why not. It runs on the leader alone, for all nodes."""

from __future__ import annotations

from typing import Any

import msgspec
import structlog

from volant.core.claim import Claim, ClaimSpec, build_claim, device_claim_name, slot_claim_name
from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, find_condition, set_condition
from volant.core.errors import AlreadyExists, Conflict, Exhausted, InvalidInput, VolantError
from volant.core.hardware import Hardware, choose_devices
from volant.core.node import NodeDevice
from volant.core.plugin import Plugin
from volant.core.plugin_versions import plugin_names
from volant.core.vm import SCHEDULED, VM, VMStatus
from volant.reconcile.outcome import After, Done, Outcome
from volant.reconcile.placement.account import Account
from volant.reconcile.placement.choice import choose_node
from volant.reconcile.placement.waiting import WaitingRoom
from volant.reconcile.recorder import Note, event_operation
from volant.reconcile.vm_decision import wants_place
from volant.store.cache import Cache
from volant.store.contract import Key, Operation, Store
from volant.store.records import create_of, find_resource, read_resource, update_of

log = structlog.get_logger()

UNSCHEDULABLE = "Unschedulable"
ATTEMPTS = 32
"""How often another slot is tried when somebody else has the one that seemed free."""

RETOLD_S = 5.0
"""Numbers in a reason change with every VM that comes and goes; they are written down again at most so often."""


class Scheduler:
    """Implements engine.Controller. Its decision, the slot and the devices are one transaction."""

    kind = VM.kind

    def __init__(self, store: Store, cache: Cache, clock: Clock, account: Account, waiting: WaitingRoom) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._account = account
        self._waiting = waiting
        self._told_at: dict[Key, float] = {}
        cache.subscribe(waiting.on_change)

    def concerns(self, key: Key, data: dict[str, Any] | None) -> bool:
        """Whether a change of the VM ``key`` is to be looked at: of thousands that have their place none is."""
        return key in self._waiting or key in self._told_at or (data is not None and _may_want(data))

    async def reconcile(self, key: Key) -> Outcome:
        stored = self._cache.get(key)
        if stored is None or not _may_want(stored.data):
            self._leave(key)
            return Done()
        vm = await find_resource(self._store, VM, key.project, key.name)
        if vm is None or not wants_place(vm):
            self._leave(key)
            return Done()
        try:
            hardware = self._find_hardware(vm)
            wish = self._account.wish_of(vm, hardware)
        except InvalidInput as error:
            return await self._refuse(vm, str(error))
        choice = choose_node(wish, self._account.candidates())
        if not choice.node:
            return await self._refuse(vm, choice.message)
        devices: tuple[NodeDevice, ...] = ()
        if vm.status.slot is None and hardware.gpus:
            candidate = next(one for one in self._account.candidates() if one.name == choice.node)
            devices = choose_devices(hardware.gpus, candidate.devices) or ()
        # From the look at the account to here there was no await: the next placement counts with this one.
        self._account.assume(vm, choice.node)
        written = 0
        try:
            written = await self._place(vm, choice.node, devices)
        finally:
            if written:
                self._account.settle(vm, written)
            else:
                self._account.forget(vm)
        self._leave(key)
        return Done()

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        vm = await find_resource(self._store, VM, key.project, key.name)
        if vm is not None and wants_place(vm):
            await self._refuse(vm, str(error))

    async def _place(self, vm: VM, node: str, devices: tuple[NodeDevice, ...]) -> int:
        if vm.status.slot is not None:
            return await self._store.transact(self._writes(vm, node, vm.status.slot, []))
        for _ in range(ATTEMPTS):
            slot = self._account.slots_of(node).guess()
            if slot is None:
                break
            names = {slot_claim_name(node, slot): "slot"}
            names |= {device_claim_name(node, device.address): "device" for device in devices}
            now = format_time(self._clock.now())
            claims = [build_claim(name, _claim_of(vm, node, thing), now) for name, thing in names.items()]
            revision = 0
            try:
                revision = await self._store.transact(self._writes(vm, node, slot, claims))
            except AlreadyExists:
                if await self._store.get(Key(Claim.kind, "", slot_claim_name(node, slot))) is not None:
                    continue
                self._account.slots_of(node).give_back(slot)
                if devices:
                    raise Conflict(f"a device of node {node} was given to another VM meanwhile") from None
                raise
            except BaseException:
                self._account.slots_of(node).give_back(slot)
                raise
            return revision
        raise Exhausted(f"node {node} has no slot left")

    def _writes(self, vm: VM, node: str, slot: int, claims: list[Claim]) -> list[Operation]:
        now = format_time(self._clock.now())
        condition = Condition(type=SCHEDULED, status="True", reason="Scheduled", message=f"on node {node}, slot {slot}")
        changes: dict[str, object] = {
            "node": node,
            "slot": slot,
            "conditions": set_condition(vm.status.conditions, condition, now),
        }
        waited = vm.status.reason == UNSCHEDULABLE
        if waited:
            changes |= {"reason": "", "message": ""}
        placed = msgspec.structs.replace(vm, status=msgspec.structs.replace(vm.status, **changes))
        operations: list[Operation] = [*map(create_of, claims), update_of(placed)]
        if waited:
            operations.append(event_operation(self._cache, vm, Note("Normal", "Scheduled", f"there is room on node {node}"), now))
        return operations

    async def _refuse(self, vm: VM, message: str) -> Outcome:
        """Say why it has no place, and let it wait."""
        key = Key(VM.kind, vm.meta.project, vm.name)
        retry_s = self._waiting.enter(key)
        now, moment = format_time(self._clock.now()), self._clock.monotonic()
        before = find_condition(vm.status.conditions, SCHEDULED)
        is_new = before is None or before.reason != UNSCHEDULABLE
        if not is_new and moment - self._told_at.get(key, -RETOLD_S) < RETOLD_S:
            return After(retry_s)
        status = _refused(vm, message, now)
        if status == vm.status:
            return After(retry_s)
        self._told_at[key] = moment
        operations: list[Operation] = [update_of(msgspec.structs.replace(vm, status=status))]
        if is_new:
            log.info("vm_unschedulable", name=vm.name, reason=message)
            operations.append(event_operation(self._cache, vm, Note("Warning", UNSCHEDULABLE, message), now))
        try:
            await self._store.transact(operations)
        except AlreadyExists:
            # The cache had not seen that this event came already; what the status says matters more than its count.
            await self._store.transact(operations[:1])
        return After(retry_s)

    def _find_hardware(self, vm: VM) -> Hardware:
        """What its plugin asks of a host; nothing for one that is gone, which is somebody else's to say."""
        version = vm.status.plugin_version
        for name in plugin_names({"spec": {"plugin": vm.spec.plugin}, "status": {"plugin_version": version}}):
            stored = self._cache.get(Key(Plugin.kind, vm.meta.project, name))
            if stored is not None and (not version or stored.data["spec"]["version"] == version):
                if not stored.data["spec"]["manifest"].get("hardware"):
                    return Hardware()
                return read_resource(Plugin, stored).manifest.hardware
        return Hardware()

    def _leave(self, key: Key) -> None:
        self._waiting.leave(key)
        self._told_at.pop(key, None)


def _refused(vm: VM, message: str, now: str) -> VMStatus:
    condition = Condition(type=SCHEDULED, status="False", reason=UNSCHEDULABLE, message=message)
    status = vm.status
    asleep = status.phase == "Suspended"
    return msgspec.structs.replace(
        status,
        phase="Suspended" if asleep else "Pending",
        reason=UNSCHEDULABLE,
        message=f"no node has a place for it: {message}",
        conditions=set_condition(status.conditions, condition, now),
        observed_generation=status.observed_generation if asleep else vm.meta.generation,
    )


def _may_want(data: dict[str, object]) -> bool:
    """Whether the VM of this record could want a place; cheap, and true more often than needed."""
    meta, spec, status = data["meta"], data["spec"], data["status"]
    assert isinstance(meta, dict) and isinstance(spec, dict) and isinstance(status, dict)
    if meta["deleting_at"] is not None or spec["power"] not in ("running", "parked"):
        return False
    if status["slot"] is None:
        return True
    return any(one["type"] == SCHEDULED and one["status"] == "False" for one in status["conditions"])


def _claim_of(vm: VM, node: str, thing: str) -> ClaimSpec:
    return ClaimSpec(thing=thing, owner_kind=VM.kind, owner_name=vm.name, owner_uid=vm.uid, node=node)
