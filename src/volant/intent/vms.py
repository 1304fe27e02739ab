"""What may be asked of VMs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from volant.core.changes import CONFIGURATION, find_changes
from volant.core.clock import Clock, format_time
from volant.core.defaults import shape_as
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.kernel_words import DEFAULT_ALLOW
from volant.core.plugin import Plugin
from volant.core.resource import Wanted
from volant.core.snapshot import Snapshot
from volant.core.trust import Policy
from volant.core.vm import VM, VMSpec, is_parked
from volant.core.vm_revision import NOBODY, Author
from volant.core.wait import Goal, describe_progress, goal_reached, is_withdrawn
from volant.intent.cards import CardChooser
from volant.intent.changes import Changed, follow_one, follow_resources
from volant.intent.disruption import DisruptionGuard
from volant.intent.follow import follow_resource
from volant.intent.listing import Ask, Filters, Lister, Page
from volant.intent.ports import describe_port_conflict
from volant.intent.vm_checks import (
    PLUGIN_HINT,
    BootFiles,
    check_generation,
    check_usable,
)
from volant.intent.vm_create import VMCreator
from volant.intent.vm_history import History
from volant.intent.vm_list import VMS
from volant.intent.vm_power import check_suspend, with_power
from volant.intent.vm_settle import SpecSettler
from volant.store.cache import Cache
from volant.store.contract import Operation, Store
from volant.store.plugins import find_plugin_of
from volant.store.quotas import QuotaLedger
from volant.store.records import find_resource, key_of, list_resources, update_of


class VMIntent:
    """``files`` are what VMs may boot from instead of their plugin's; ``policy`` is the host's about signatures; ``cards`` is
    shared by those that give addresses of the same networks, so that they seldom choose one twice."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        cache: Cache | None = None,
        files: BootFiles | None = None,
        policy: Policy = "off",
        cmdline_allow: tuple[str, ...] = DEFAULT_ALLOW,
        cards: CardChooser | None = None,
    ) -> None:
        self._store = store
        self._clock = clock
        self.cards = cards or CardChooser(store)
        self.history = History(store)
        self.lister = Lister(store, cache)
        self._ledger = QuotaLedger(store)
        self._disruption = DisruptionGuard(store, clock, cache)
        self._settler = SpecSettler(store, files=files, policy=policy, cmdline_allow=cmdline_allow)
        self._creator = VMCreator(store, clock, self._settler, self.cards, self._ledger)

    async def create(
        self,
        wanted: Wanted[VMSpec],
        *,
        project: str = "default",
        author: Author = NOBODY,
        dry_run: bool = False,
        owner: str | None = None,
    ) -> VM:
        """Write a VM down, with its addresses and the first version of its configuration, in one transaction. ``owner`` is the
        uid of what it goes with: a controller's VM, whose labels may be Volant's own.

        With ``dry_run`` nothing is written: the answer is what would be, as far as can be known.

        Raises:
            InvalidInput: a name, size, reference or variable that cannot be right.
            AlreadyExists: the name is taken. Exhausted: the network has no address left. WrongState: the plugin is disabled.
            QuotaExceeded: its project may not have so much.
        """
        return await self._creator.create(wanted, project=project, author=author, dry_run=dry_run, owner=owner)

    async def get(self, name: str, *, project: str = "default") -> VM:
        vm = await find_resource(self._store, VM, project, name)
        if vm is None or is_parked(vm):
            raise NotFound(f"there is no VM named {name!r}", hint="volar vms list shows those there are")
        return vm

    async def settle_spec(self, asked: VMSpec, plugin: Plugin) -> VMSpec:
        """``asked`` with everything that it leaves open, when a VM of ``plugin`` may be so.

        Raises:
            InvalidInput: a value that cannot be right; its field is named. WrongState: the host's policy forbids it.
        """
        return await self._settler.settle(asked, plugin)

    async def find_port_conflict(self, vm: VM) -> AlreadyExists | None:
        """What to raise when another VM has a port that ``vm`` is to publish."""
        return await describe_port_conflict(self._store, vm)

    async def plugin_of(self, vm: VM) -> Plugin:
        """What ``vm`` is made from, whether or not it may still be made from it. Raises InvalidInput when it is gone."""
        plugin = await find_plugin_of(self._store, vm)
        if plugin is None:
            raise InvalidInput(f"its plugin {vm.spec.plugin!r} is not installed", field="plugin", hint=PLUGIN_HINT)
        return plugin

    async def list_page(self, ask: Ask, *, project: str = "default") -> Page[VM]:
        """Raises InvalidInput for an order, a filter or a cursor that cannot be."""
        return await self.lister.list_page(VMS, project, ask)

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[VM], int]:
        """The VMs by name, and the revision to watch from."""
        vms, revision = await list_resources(self._store, VM, project, labels)
        return [vm for vm in vms if not is_parked(vm)], revision

    async def start(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for it to run. A VM that already runs stays as it is."""
        return await self._change_spec(name, project, expected_generation, lambda vm: with_power(vm, "running", anew=True))

    async def stop(
        self,
        name: str,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        force: bool = False,
        disrupt: bool = False,
    ) -> VM:
        """Ask for an end: an orderly one, or with ``force`` one at once, without asking the guest. ``disrupt``, here and below:
        also when the budget of its deployment forbids it, which raises OverBudget else."""

        def change(vm: VM) -> VMSpec:
            spec = with_power(vm, "stopped")
            return msgspec.structs.replace(spec, force_stop=True) if force else spec

        return await self._change_spec(name, project, expected_generation, change, disrupt=disrupt)

    async def suspend(
        self, name: str, *, project: str = "default", expected_generation: int | None = None, disrupt: bool = False
    ) -> VM:
        """Ask for it to be saved to disk and to use no memory until it is resumed. Raises WrongState for one without an agent."""
        plugin = await find_plugin_of(self._store, await self.get(name, project=project))
        if plugin is not None:
            check_suspend(name, plugin)
        return await self._change_spec(
            name, project, expected_generation, lambda vm: with_power(vm, "suspended"), disrupt=disrupt
        )

    async def resume(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for a suspended VM to go on. One that runs stays as it is."""

        def change(vm: VM) -> VMSpec:
            if vm.spec.power == "stopped":
                raise WrongState(f"the VM {name!r} is stopped, not suspended", hint=f"volar vms start {name}")
            return with_power(vm, "running")

        return await self._change_spec(name, project, expected_generation, change)

    async def restore(
        self,
        name: str,
        snapshot: str,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
    ) -> VM:
        """Ask for a VM to go back to what it was at ``snapshot``, which is one of its own. What it did since is lost; it has
        the size again that it had then."""
        found = await find_resource(self._store, Snapshot, project, snapshot)
        check_usable(found, snapshot)
        assert found is not None

        def change(vm: VM) -> VMSpec:
            if found.status.vm_uid != vm.uid:
                raise InvalidInput(
                    f"the snapshot {snapshot!r} was taken of another VM",
                    field="snapshot",
                    hint=f"make a new VM from it: volar snapshots restore {snapshot} --as NAME",
                )
            spec = shape_as(with_power(vm, "running"), found)
            return msgspec.structs.replace(spec, snapshot=snapshot, snapshot_token=vm.spec.snapshot_token + 1)

        return await self._change_spec(name, project, expected_generation, change, author)

    async def restart(
        self, name: str, *, project: str = "default", expected_generation: int | None = None, disrupt: bool = False
    ) -> VM:
        """Ask for an orderly stop and a new start; a stopped VM is started."""
        return await self._change_spec(
            name,
            project,
            expected_generation,
            lambda vm: msgspec.structs.replace(with_power(vm, "running"), restart_token=vm.spec.restart_token + 1),
            disrupt=disrupt,
        )

    async def delete(
        self,
        name: str,
        *,
        project: str = "default",
        uid: str | None = None,
        expected_generation: int | None = None,
        force: bool = False,
        disrupt: bool = False,
    ) -> VM:
        """Mark it; it goes once its host holds nothing of it. Deleting it again changes nothing, but that ``force`` ends at
        once what is being stopped in an orderly way."""
        while True:
            vm = await self.get(name, project=project)
            if uid is not None and vm.uid != uid:
                raise NotFound(f"the VM {name!r} with uid {uid} is gone")
            check_generation(vm, expected_generation)
            if vm.deleting and (vm.spec.force_stop or not force):
                return vm
            deleting_at = vm.meta.deleting_at or format_time(self._clock.now())
            meta = msgspec.structs.replace(vm.meta, deleting_at=deleting_at, generation=vm.meta.generation + 1)
            spec = msgspec.structs.replace(vm.spec, force_stop=vm.spec.force_stop or force)
            marked = msgspec.structs.replace(vm, meta=meta, spec=spec)
            try:
                allowed = [] if vm.deleting else await self._disruption.allow(vm, disrupt=disrupt)
                return await self._write([update_of(marked), *allowed], marked)
            except StaleRevision:
                continue

    async def wait(self, vm: VM, goal: Goal, *, timeout_s: float) -> VM | None:
        """Follow ``vm`` until ``goal`` is reached or out of reach; None when it is deleted.

        Raises:
            TimedOut: not within ``timeout_s``; the message says where it stands.
        """
        last: VM | None = vm
        try:
            async with asyncio.timeout(timeout_s):
                async for current in follow_resource(self._store, VM, key_of(vm), vm.uid):
                    last = current
                    if current is None or goal_reached(current, goal) or is_withdrawn(vm, current):
                        return current
        except TimeoutError:
            assert last is not None
            raise TimedOut(
                f"VM {vm.name!r} is not {goal} after {timeout_s:g} s: {describe_progress(last)}", hint=f"volar vms get {vm.name}"
            ) from None
        return last

    async def watch(self, name: str, *, project: str = "default", since: int | None = None) -> AsyncIterator[VM | None]:
        """The VM now and after every change, or only after those up to revision ``since``; None and the end when it is deleted.
        Raises NotFound, Compacted when the log does not reach back to ``since``."""
        async for current in follow_one(self._store, VMS, await self.get(name, project=project), since):
            yield current

    def follow(self, filters: Filters, *, project: str = "default", since: int | None = None) -> AsyncIterator[Changed[VM]]:
        """All VMs that ``filters`` choose; see follow_resources."""
        return follow_resources(self._store, VMS, project, filters, since)

    async def _change_spec(
        self,
        name: str,
        project: str,
        expected: int | None,
        change: Callable[[VM], VMSpec],
        author: Author = NOBODY,
        *,
        disrupt: bool | None = None,
    ) -> VM:
        """``disrupt`` is given where the change ends or interrupts a run."""
        while True:
            vm = await self.get(name, project=project)
            check_generation(vm, expected)
            if vm.deleting:
                raise WrongState(f"the VM {name!r} is being deleted")
            spec = change(vm)
            if spec == vm.spec:
                return vm
            meta = msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1)
            try:
                allowed = [] if disrupt is None else await self._disruption.allow(vm, disrupt=disrupt)
                return await self.write_change(vm, msgspec.structs.replace(vm, meta=meta, spec=spec), author, allowed)
            except StaleRevision:
                continue

    async def write_change(self, before: VM, after: VM, author: Author, operations: Sequence[Operation] = ()) -> VM:
        """Write ``after``, the version that it is when its configuration differs, and ``operations``, in one transaction.

        Raises:
            StaleRevision: somebody else wrote first. Else what the operations raise.
        """
        writes: list[Operation] = [update_of(after), *operations, *await self._ledger.charge_vm(before, after)]
        if after.meta.labels != before.meta.labels or find_changes(before.spec, after.spec, CONFIGURATION):
            writes += await self.history.record(before, after, author, format_time(self._clock.now()))
        return await self._write(writes, after)

    async def _write(self, operations: Sequence[Operation], vm: VM) -> VM:
        revision = await self._store.transact(operations)
        return msgspec.structs.replace(vm, revision=revision)
