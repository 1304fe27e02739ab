"""How a VM is suspended and goes on, parked and taken, and laid ready from a snapshot. Each step may be repeated."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import ChecksumMismatch, NotFound, Unavailable
from volant.core.ids import Uid
from volant.core.vm import VM, SuspendRecord
from volant.hypervisor.driver import SAVED, Capability, Driver, NotRestorable, Saved
from volant.hypervisor.record import read_record
from volant.node.local import LocalNode
from volant.node.run import Run
from volant.node.unit import FORMER, SECRET, copy_secret, forget_identity, read_identity
from volant.reconcile.vm_start import VMStarter
from volant.volume.saved import begin_saved, copy_saved, discard_saved, is_saved, publish_saved, remove_saved, verify_saved


class Snapshots(Protocol):
    """Where snapshots lie, by their uid."""

    def path(self, name: str) -> Path: ...


class Sleeper:
    """The hands that suspend and wake the VMs of this node."""

    def __init__(self, clock: Clock, driver: Driver, node: LocalNode, starter: VMStarter, snapshots: Snapshots) -> None:
        self._clock = clock
        self._driver = driver
        self._node = node
        self._starter = starter
        self._snapshots = snapshots
        self._known: set[Uid] = set()
        """Those that were saved since this volantd began, and need not be read to be trusted."""

    async def suspend(self, vm: VM, run: Run) -> SuspendRecord:
        """Save a guest and end its process. When it fails the guest goes on.

        While what was saved has its name the guest does not run: that is how the next volantd knows what holds.

        Raises:
            VolantError: it could not be saved.
        """
        if Capability.SNAPSHOT not in self._driver.capabilities:
            raise Unavailable(f"the driver {self._driver.name} cannot save a guest")
        began = self._clock.monotonic()
        path = self._node.places.saved(vm.uid)
        await self._starter.close_ports(vm)
        await run.hold()
        unfinished = begin_saved(path)
        try:
            await run.instance.pause()
            run.paused = True
            await run.instance.save(unfinished)
            size = await publish_saved(unfinished, path)
            self._known.add(vm.uid)
        except BaseException:
            await discard_saved(unfinished)
            if not is_saved(path) and run.ending is None:
                await self._starter.go_on(run)
            raise
        await self._node.forget(vm.uid)
        duration_ms = round((self._clock.monotonic() - began) * 1000)
        return SuspendRecord(at=format_time(self._clock.now()), size_bytes=size, duration_ms=duration_ms)

    async def wake(self, vm: VM) -> Run:
        """Let a guest go on from what was saved of it.

        Raises:
            NotRestorable: what was saved can never be restored here. VolantError: not now.
        """
        path = self._node.places.saved(vm.uid)
        if vm.uid not in self._known:
            try:
                await verify_saved(path)
            except (NotFound, ChecksumMismatch) as error:
                raise NotRestorable(f"it is not what it was: {error}") from error
        as_new = read_identity(self._node.places.unit(vm.uid)) is None
        run = await self._starter.wake(vm, path, as_new=as_new)
        # In this order: from the moment it runs, what was saved is of the past.
        await remove_saved(path)
        self._known.discard(vm.uid)
        await self._starter.go_on(run)
        return run

    def path_of(self, vm: VM) -> Path:
        """Where what is saved of ``vm`` lies."""
        return self._node.places.saved(vm.uid)

    async def give_up(self, vm: VM) -> None:
        """Remove what was saved; the VM is to be booted instead."""
        await remove_saved(self._node.places.saved(vm.uid))

    async def park(self, run: Run) -> None:
        await run.hold()
        await run.instance.pause()
        run.paused = True

    async def resume(self, vm: VM, run: Run) -> None:
        """Let a guest go on that stands still, having joined its network."""
        run.marks.clear()
        await self._starter.connect(vm)
        await self._starter.go_on(run)

    async def install(self, vm: VM, snapshot: Uid) -> str:
        """Lay a snapshot ready under ``vm``: its disk, and its memory when it has one. Return the template that it stands on.

        Raises:
            NotFound: the snapshot is not on this node.
        """
        source = self._snapshots.path(snapshot)
        if not is_saved(source):
            raise NotFound("its snapshot is not on this node")
        unit = self._node.places.make(vm.uid)
        await self._node.forget(vm.uid)
        await remove_saved(self._node.places.saved(vm.uid))
        forget_identity(unit)
        manifest = await self._starter.read_manifest(vm)
        disks = self._starter.parts.own_disks(vm, manifest)
        await self._starter.parts.install_own(vm, manifest, source)
        saved = read_record(source / SAVED, Saved)
        if saved is None:
            return ""
        copy_secret(source / SECRET, unit.state / FORMER)
        await copy_saved(source, self._node.places.saved(vm.uid), leave_out={SECRET, *(disk.saved for disk in disks)})
        return saved.machine.base


def with_suspended(vm: VM, record: SuspendRecord | None, template: str) -> VM:
    return msgspec.structs.replace(vm, status=msgspec.structs.replace(vm.status, suspended=record, template=template))
