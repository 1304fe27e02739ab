"""The snapshot controller. A snapshot is there when its directory has its name; one that was interrupted never gets it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import structlog

from volant.core.clock import Clock, format_time, parse_time
from volant.core.condition import Condition, set_condition
from volant.core.errors import HostError, NotFound, VolantError, WrongState
from volant.core.snapshot import Snapshot, SnapshotStatus
from volant.core.vm import VM
from volant.hypervisor.driver import SAVED, Saved
from volant.hypervisor.record import read_record
from volant.node.local import Asleep, Ended, LocalNode
from volant.node.run import Run
from volant.node.unit import SECRET, copy_secret
from volant.reconcile.outcome import After, Done, Outcome
from volant.reconcile.recorder import Note, event_operation
from volant.reconcile.vm_decision import install_due
from volant.reconcile.vm_drift import as_it_runs, copy_applied, read_applied
from volant.reconcile.vm_start import VMStarter
from volant.store.cache import Cache
from volant.store.contract import Delete, Key, Operation, Store
from volant.store.records import find_resource, key_of, list_resources, update_of
from volant.volume.saved import (
    SavedStore,
    begin_saved,
    discard_saved,
    is_saved,
    link_saved,
    measure_saved,
    publish_saved,
    remove_saved,
)

log = structlog.get_logger()

FREEZE_TIMEOUT_S = 60.0
LOOK_AGAIN_S = 0.5
UNUSED_AFTER_S = 300.0
"""A fork's snapshot that nobody starts from goes after this."""


class SnapshotController:
    """Implements engine.Controller for snapshots."""

    kind = Snapshot.kind

    def __init__(
        self,
        store: Store,
        cache: Cache,
        clock: Clock,
        node: LocalNode,
        starter: VMStarter,
        files: SavedStore,
        *,
        node_name: str,
    ) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._node = node
        self._starter = starter
        self._files = files
        self._node_name = node_name
        self._working: set[str] = set()

    async def reconcile(self, key: Key) -> Outcome:
        snapshot = await find_resource(self._store, Snapshot, key.project, key.name)
        if snapshot is None or snapshot.status.node not in ("", self._node_name):
            return Done()
        if snapshot.deleting:
            return await self._remove(snapshot)
        if snapshot.status.phase == "Ready":
            return await self._look_after(snapshot)
        if snapshot.status.phase == "Failed":
            return Done()
        if is_saved(self._files.path(snapshot.uid)):
            return await self._finish(snapshot)
        if snapshot.status.phase == "Creating" and snapshot.uid not in self._working:
            await self._fail(snapshot, HostError("volantd ended while it was being taken"))
            return Done()
        return await self._take(snapshot)

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        snapshot = await find_resource(self._store, Snapshot, key.project, key.name)
        if snapshot is not None and snapshot.status.phase in ("Pending", "Creating"):
            await self._fail(snapshot, error)

    async def _take(self, snapshot: Snapshot) -> Outcome:
        vm = await find_resource(self._store, VM, snapshot.meta.project, snapshot.spec.vm)
        if vm is None or vm.deleting:
            await self._fail(snapshot, NotFound(f"there is no VM named {snapshot.spec.vm!r}"))
            return Done()
        found = await self._node.find(vm.uid)
        run = found if isinstance(found, Run) else None
        # Between this look and what is taken of it there is nobody else.
        if self._node.is_in_hand(vm.uid) or (run is not None and run.busy):
            return After(LOOK_AGAIN_S)
        self._working.add(snapshot.uid)
        try:
            with self._node.in_hand(vm.uid):
                return await self._take_in_hand(snapshot, vm, found)
        finally:
            self._working.discard(snapshot.uid)

    def _shape_of(self, vm: VM) -> dict[str, Any]:
        """What waits for a restart is not in what is saved."""
        return _describe_shape(as_it_runs(vm, read_applied(self._node.places.unit(vm.uid), vm.status.run_id)))

    async def _take_in_hand(self, snapshot: Snapshot, vm: VM, found: Run | Ended | Asleep | None) -> Outcome:
        run = found if isinstance(found, Run) else None
        snapshot = await self._write(snapshot, phase="Creating", node=self._node_name, vm_uid=vm.uid, **self._shape_of(vm))
        paused_ms: int | None = None
        try:
            if isinstance(found, Asleep):
                await self._take_asleep(snapshot, vm, found)
            elif snapshot.spec.memory:
                paused_ms = await self._take_running(snapshot, vm, run)
            else:
                await self._take_disk(snapshot, vm, run)
        except VolantError as error:
            await self._fail(snapshot, error)
            return Done()
        return await self._finish(snapshot, paused_ms)

    async def _take_running(self, snapshot: Snapshot, vm: VM, run: Run | None) -> int:
        """Return the milliseconds for which the guest stood still."""
        if run is not None and not run.instance.machine.has_agent:
            raise WrongState("its guest has no agent that could be told who it is when it goes on")
        if run is None or run.ending is not None or run.agent.hello is None or run.agent.hello.state != "configured":
            raise WrongState("it does not run, so it has no memory to be saved", hint="take its disk alone: --disk-only")
        path = self._files.path(snapshot.uid)
        await run.hold()
        unfinished = begin_saved(path)
        try:
            began = self._clock.monotonic()
            try:
                await run.instance.pause()
                run.paused = True
                await run.instance.save(unfinished)
                await self._copy_own(vm, unfinished)
            finally:
                try:
                    if run.ending is None:
                        await self._starter.go_on(run)
                finally:
                    run.let_go()
            paused_ms = round((self._clock.monotonic() - began) * 1000)
            await publish_saved(unfinished, path)
        except BaseException:
            await discard_saved(unfinished)
            raise
        return paused_ms

    async def _take_asleep(self, snapshot: Snapshot, vm: VM, asleep: Asleep) -> None:
        path = self._files.path(snapshot.uid)
        unfinished = begin_saved(path)
        try:
            if snapshot.spec.memory:
                await link_saved(asleep.path, unfinished)
            await self._copy_own(vm, unfinished)
            await publish_saved(unfinished, path)
        except BaseException:
            await discard_saved(unfinished)
            raise

    async def _take_disk(self, snapshot: Snapshot, vm: VM, run: Run | None) -> None:
        path = self._files.path(snapshot.uid)
        manifest = await self._starter.read_manifest(vm)
        own = self._starter.parts.own_disks(vm, manifest)
        if not own:
            raise WrongState("it has no disk: what it writes lies in its memory")
        if not any(disk.path.exists() for disk in own):
            raise WrongState("it has no disk: its guest lives in its memory, or never ran")
        if run is not None and run.ending is None and any(disk.wanted is not None for disk in own):
            hint = "take it with its memory, or stop the VM first"
            raise WrongState("it has further disks, and only the root's can be made to stand still while it runs", hint=hint)
        is_running = run is not None and run.ending is None and run.agent.connected
        unfinished = begin_saved(path)
        try:
            if run is not None and is_running:
                await run.link.freeze(FREEZE_TIMEOUT_S)
            try:
                await self._starter.parts.copy_own(vm, manifest, unfinished)
            finally:
                thawed = await run.link.thaw() if run is not None and is_running else True
            if not thawed:
                raise HostError("copying its disk took longer than its file system may be frozen")
            await publish_saved(unfinished, path)
        except BaseException:
            await discard_saved(unfinished)
            raise

    async def _copy_own(self, vm: VM, unfinished: Path) -> None:
        """What belongs to the VM itself: its disks, and the secret that its agent holds."""
        manifest = await self._starter.read_manifest(vm)
        await self._starter.parts.copy_own(vm, manifest, unfinished)
        copy_secret(self._node.places.unit(vm.uid).state / SECRET, unfinished / SECRET)
        copy_applied(self._node.places.unit(vm.uid), unfinished)

    async def _finish(self, snapshot: Snapshot, paused_ms: int | None = None) -> Outcome:
        path = self._files.path(snapshot.uid)
        saved = read_record(path / SAVED, Saved)
        snapshot = await self._write(
            snapshot,
            note=Note("Normal", "Ready", f"taken of VM {snapshot.spec.vm}"),
            phase="Ready",
            reason="",
            message="",
            template="" if saved is None else saved.machine.base,
            size_bytes=measure_saved(path),
            paused_ms=paused_ms,
            taken_at=format_time(self._clock.now()),
        )
        log.info("snapshot_taken", name=snapshot.name, vm=snapshot.spec.vm, size_mib=snapshot.status.size_bytes >> 20)
        return await self._look_after(snapshot)

    async def _look_after(self, snapshot: Snapshot) -> Outcome:
        """One that was made for a fork goes when all have begun from it."""
        if not is_saved(self._files.path(snapshot.uid)):
            await self._fail(snapshot, NotFound("its files are gone"))
            return Done()
        if not snapshot.spec.transient:
            return Done()
        vms, _ = await list_resources(self._store, VM, snapshot.meta.project)
        users = [vm for vm in vms if vm.spec.snapshot == snapshot.name]
        age_s = (self._clock.now() - parse_time(snapshot.status.taken_at)).total_seconds()
        if any(install_due(vm) for vm in users) or (not users and age_s < UNUSED_AFTER_S):
            return After(LOOK_AGAIN_S)
        return await self._remove(snapshot)

    async def _remove(self, snapshot: Snapshot) -> Outcome:
        await remove_saved(self._files.path(snapshot.uid))
        note = event_operation(self._cache, snapshot, Note("Normal", "Deleted", "it is gone"), format_time(self._clock.now()))
        operations: list[Operation] = [Delete(key_of(snapshot), snapshot.revision), note]
        await self._store.transact(operations)
        return Done()

    async def _fail(self, snapshot: Snapshot, error: VolantError) -> None:
        message = str(error) + (f" ({error.hint})" if error.hint else "")
        await self._write(
            snapshot, note=Note("Warning", "Failed", message), phase="Failed", reason=type(error).__name__, message=message
        )

    async def _write(self, snapshot: Snapshot, *, note: Note | None = None, **fields: Any) -> Snapshot:
        status: SnapshotStatus = msgspec.structs.replace(snapshot.status, observed_generation=snapshot.meta.generation, **fields)
        now = format_time(self._clock.now())
        ready = Condition(
            type="Ready",
            status="True" if status.phase == "Ready" else "False",
            reason=status.reason or status.phase,
            message=status.message,
        )
        status = msgspec.structs.replace(status, conditions=set_condition(status.conditions, ready, now))
        changed = msgspec.structs.replace(snapshot, status=status)
        operations: list[Operation] = [update_of(changed)]
        if note is not None:
            operations.append(event_operation(self._cache, snapshot, note, now))
        revision = await self._store.transact(operations)
        return msgspec.structs.replace(changed, revision=revision)


def _describe_shape(vm: VM) -> dict[str, Any]:
    return {
        "plugin": vm.spec.plugin,
        "plugin_version": vm.status.plugin_version,
        "cpu_cores": vm.spec.cpu_cores or 0,
        "memory_mb": vm.spec.memory_mb or 0,
        "disk_mb": vm.spec.disk_mb or 0,
        "root": vm.spec.root,
        "network_mode": vm.spec.network_mode or "bridged",
        "extra_networks": vm.spec.extra_networks,
        "disks": vm.spec.disks,
        "parent": vm.spec.snapshot,
    }
