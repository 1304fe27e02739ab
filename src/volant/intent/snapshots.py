"""What may be asked of snapshots, and the forks that are made of them."""

from __future__ import annotations

import asyncio
import secrets

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.ids import check_name, new_uid
from volant.core.resource import Meta, Wanted
from volant.core.snapshot import FINALIZER, Snapshot, SnapshotSpec, SnapshotStatus
from volant.core.vm import VM, VMSpec
from volant.intent.follow import follow_resource
from volant.intent.listing import Ask, Page
from volant.intent.snapshot_list import SNAPSHOTS
from volant.intent.vm_checks import check_generation
from volant.intent.vms import VMIntent
from volant.store.contract import RequireLive, Store
from volant.store.records import create_of, find_resource, key_of, list_resources, update_of

FORK_MAX = 100
FORK_TIMEOUT_S = 120.0


class SnapshotIntent:
    def __init__(self, store: Store, clock: Clock, vms: VMIntent) -> None:
        self._store = store
        self._clock = clock
        self._vms = vms

    async def create(self, wanted: Wanted[SnapshotSpec], *, project: str = "default") -> Snapshot:
        """Write a snapshot down; its controller takes it.

        Raises:
            NotFound: there is no such VM. AlreadyExists: the name is taken. WrongState: the VM is being deleted.
        """
        check_name(wanted.name)
        vm = await self._vms.get(wanted.spec.vm, project=project)
        if vm.deleting:
            raise WrongState(f"the VM {vm.name!r} is being deleted")
        meta = Meta(
            name=wanted.name,
            uid=new_uid(),
            project=project,
            labels=wanted.labels,
            created_at=format_time(self._clock.now()),
            finalizers=(FINALIZER,),
        )
        snapshot = Snapshot(meta=meta, spec=wanted.spec, status=SnapshotStatus())
        try:
            revision = await self._store.transact([RequireLive(key_of(vm)), create_of(snapshot)])
        except AlreadyExists:
            raise AlreadyExists(
                f"there is a snapshot named {wanted.name!r} already",
                hint=f"choose another name, or: volar snapshots delete {wanted.name}",
            ) from None
        return msgspec.structs.replace(snapshot, revision=revision)

    async def get(self, name: str, *, project: str = "default") -> Snapshot:
        snapshot = await find_resource(self._store, Snapshot, project, name)
        if snapshot is None:
            raise NotFound(f"there is no snapshot named {name!r}", hint="volar snapshots list shows those there are")
        return snapshot

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[Snapshot]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        return await self._vms.lister.list_page(SNAPSHOTS, project, ask)

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[Snapshot], int]:
        return await list_resources(self._store, Snapshot, project, labels)

    async def delete(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> Snapshot:
        """Mark it. Raises InUse while a VM is still to begin from it."""
        while True:
            snapshot = await self.get(name, project=project)
            check_generation(snapshot, expected_generation)
            if snapshot.deleting:
                return snapshot
            vms, _ = await list_resources(self._store, VM, project)
            users = [vm.name for vm in vms if vm.spec.snapshot == name and vm.status.snapshot_token != vm.spec.snapshot_token]
            if users:
                raise InUse(f"the snapshot {name!r} is what {users[0]} is about to begin from", hint="try again in a moment")
            meta = msgspec.structs.replace(snapshot.meta, deleting_at=format_time(self._clock.now()))
            try:
                revision = await self._store.transact([update_of(msgspec.structs.replace(snapshot, meta=meta))])
            except StaleRevision:
                continue
            return msgspec.structs.replace(snapshot, meta=meta, revision=revision)

    async def wait(self, snapshot: Snapshot, *, timeout_s: float) -> Snapshot | None:
        """Follow it until it was taken or has failed, or until it is gone when it is being deleted."""
        try:
            async with asyncio.timeout(timeout_s):
                async for current in follow_resource(self._store, Snapshot, key_of(snapshot), snapshot.uid):
                    if current is None or (not snapshot.deleting and current.status.phase in ("Ready", "Failed")):
                        return current
        except TimeoutError:
            raise TimedOut(f"snapshot {snapshot.name!r} was not settled after {timeout_s:g} s") from None
        return None

    async def fork(self, name: str, names: tuple[str, ...], *, project: str = "default") -> tuple[VM, ...]:
        """Make a new VM of each of ``names`` that goes on from where VM ``name`` is now. All or none are written down.

        Raises:
            WrongState: it does not run. AlreadyExists: one of the names is taken.
        """
        if not 1 <= len(names) <= FORK_MAX:
            raise InvalidInput(f"a VM is forked into 1 to {FORK_MAX} at a time", field="names")
        if len(set(names)) != len(names):
            raise InvalidInput("a name is given twice", field="names")
        for each in names:
            check_name(each)
            if await find_resource(self._store, VM, project, each) is not None:
                raise AlreadyExists(f"there is a VM named {each!r} already", hint="choose another name")
        parent = await self._vms.get(name, project=project)
        wanted = Wanted(name=f"fork-{secrets.token_hex(8)}", labels={}, spec=SnapshotSpec(vm=name, memory=True, transient=True))
        snapshot = await self.create(wanted, project=project)
        taken = await self.wait(snapshot, timeout_s=FORK_TIMEOUT_S)
        if taken is None or taken.status.phase != "Ready":
            message = "it went away" if taken is None else taken.status.message
            if taken is not None:
                await self.delete(taken.name, project=project)
            raise WrongState(f"the VM {name!r} cannot be forked: {message}")
        made: list[VM] = []
        try:
            for each in names:
                spec = VMSpec(
                    plugin=parent.spec.plugin,
                    snapshot=taken.name,
                    ports=(),
                    network=parent.spec.network,
                    env=parent.spec.env,
                    restart_policy=parent.spec.restart_policy,
                    isolation=parent.spec.isolation,
                    stop_grace_s=parent.spec.stop_grace_s,
                    hypervisor=parent.spec.hypervisor,
                    kernel=parent.spec.kernel,
                    initramfs=parent.spec.initramfs,
                    kernel_cmdline=parent.spec.kernel_cmdline,
                    limits=parent.spec.limits,
                )
                made.append(await self._vms.create(Wanted(name=each, labels=parent.meta.labels, spec=spec), project=project))
        except BaseException:
            for vm in made:
                await self._vms.delete(vm.name, project=project, uid=vm.uid)
            raise
        return tuple(made)
