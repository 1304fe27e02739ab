"""What may be asked of VMs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import msgspec

from volant.core.changes import CONFIGURATION, find_changes
from volant.core.clock import Clock, format_time
from volant.core.defaults import fill_in, shape_as
from volant.core.errors import AlreadyExists, Exhausted, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.hardware import Hardware, find_lack
from volant.core.ids import check_name, new_uid
from volant.core.kernel_words import DEFAULT_ALLOW, check_words
from volant.core.node import Node
from volant.core.plugin import Plugin
from volant.core.plugin_versions import version_of_snapshot
from volant.core.resource import Meta, Wanted
from volant.core.snapshot import Snapshot
from volant.core.trust import Policy
from volant.core.vm import FINALIZER, VM, VMSpec, is_parked
from volant.core.vm_revision import NOBODY, Author, build_revision
from volant.core.wait import Goal, describe_progress, goal_reached
from volant.intent.cards import CardChooser, address_claims, mac_claims
from volant.intent.changes import Changed, follow_one, follow_resources
from volant.intent.devices import check_devices
from volant.intent.follow import follow_resource
from volant.intent.listing import Ask, Filters, Lister, Page
from volant.intent.pool import find_parked, made_from, take_parked
from volant.intent.ports import choose_ports, describe_port_conflict, port_claims
from volant.intent.vm_checks import (
    PLUGIN_HINT,
    BootFiles,
    check_boot_files,
    check_env,
    check_generation,
    check_labels,
    check_power,
    check_usable,
    check_without_agent,
)
from volant.intent.vm_history import History
from volant.intent.vm_list import VMS
from volant.intent.vm_power import check_suspend, with_power
from volant.store.cache import Cache
from volant.store.contract import Operation, RequireLive, Store
from volant.store.plugins import find_plugin, find_plugin_of, find_version
from volant.store.records import create_of, find_resource, key_of, list_resources, update_of

CLAIM_ATTEMPTS = 32
"""How often a create tries another address when somebody else takes the one it chose."""


class VMIntent:
    """``files`` are what VMs may boot from instead of their plugin's; ``policy`` is the host's about signatures."""

    def __init__(
        self,
        store: Store,
        clock: Clock,
        *,
        cache: Cache | None = None,
        files: BootFiles | None = None,
        policy: Policy = "off",
        cmdline_allow: tuple[str, ...] = DEFAULT_ALLOW,
    ) -> None:
        self._store = store
        self._clock = clock
        self.cards = CardChooser(store)
        self.history = History(store)
        self.lister = Lister(store, cache)
        self._files = files
        self._policy = policy
        self._cmdline_allow = cmdline_allow

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
        """
        check_name(wanted.name)
        check_labels(wanted.labels, own=owner is not None)
        check_power(wanted.spec)
        asked = wanted.spec
        if asked.snapshot:
            asked = await self._fit_snapshot(asked, project)
        plugin = await self._usable_plugin(asked, project)
        spec = await self.settle_spec(asked, plugin)
        spec = await self.cards.fit_mode(asked, spec, project)
        networks = await self.cards.find_networks(spec, project)
        now = format_time(self._clock.now())
        meta = Meta(
            name=wanted.name,
            uid=new_uid(),
            project=project,
            labels=wanted.labels,
            created_at=now,
            finalizers=(FINALIZER,),
            owner=owner,
        )
        for _ in range(CLAIM_ATTEMPTS):
            parked = await find_parked(self._store, plugin, spec)
            card = meta.uid if parked is None else parked.uid
            addresses = await self.cards.choose(card, spec, networks)
            if parked is None:
                vm = VM(meta=meta, spec=spec, status=made_from(plugin, addresses))
                making: list[Operation] = [create_of(vm), *(create_of(claim) for claim in mac_claims(vm, now))]
            else:
                vm, making = take_parked(parked, meta, spec, addresses)
            live = {key_of(plugin), *(key_of(network) for network in networks)}
            operations: list[Operation] = [*(RequireLive(key) for key in sorted(live)), *making]
            operations += [create_of(claim) for claim in address_claims(vm, now)]
            operations += [create_of(claim) for claim in port_claims(vm, now)]
            operations.append(create_of(build_revision(vm, None, author, now)))
            if dry_run:
                await self._check_free(vm)
                return vm
            try:
                revision = await self._store.transact(operations)
            except AlreadyExists:
                await self._check_free(vm)
                continue
            except StaleRevision:
                continue  # somebody else took the parked one
            except NotFound:
                if parked is not None and await self._store.get(key_of(parked)) is None:
                    continue
                raise InvalidInput(f"there is no plugin named {spec.plugin!r}", field="plugin", hint=PLUGIN_HINT) from None
            return msgspec.structs.replace(vm, revision=revision)
        raise Exhausted(f"no address of network {spec.network!r} could be had in {CLAIM_ATTEMPTS} attempts", hint="try again")

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
        check_env(asked.env)
        spec = fill_in(asked, plugin.manifest)
        if plugin.manifest.agent == "none":
            check_without_agent(spec)
        spec = msgspec.structs.replace(
            spec,
            ports=choose_ports(spec, plugin.manifest),
            kernel_cmdline=check_words(spec.kernel_cmdline, self._cmdline_allow),
        )
        await check_boot_files(spec, self._files, self._policy)
        await self._check_host(spec, plugin.manifest.hardware)
        await check_devices(self._store, spec, plugin.manifest, self._files)
        return spec

    async def _check_free(self, vm: VM) -> None:
        """Raises AlreadyExists when another has the name of ``vm``, or a port that it is to publish."""
        if await self._store.get(key_of(vm)) is not None:
            raise AlreadyExists(
                f"there is a VM named {vm.name!r} already", hint=f"choose another name, or: volar vms delete {vm.name}"
            )
        conflict = await self.find_port_conflict(vm)
        if conflict is not None:
            raise conflict

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
        self, name: str, *, project: str = "default", expected_generation: int | None = None, force: bool = False
    ) -> VM:
        """Ask for an end: an orderly one, or with ``force`` one at once, without asking the guest."""

        def change(vm: VM) -> VMSpec:
            spec = with_power(vm, "stopped")
            return msgspec.structs.replace(spec, force_stop=True) if force else spec

        return await self._change_spec(name, project, expected_generation, change)

    async def suspend(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for it to be saved to disk and to use no memory until it is resumed. Raises WrongState for one without an agent."""
        plugin = await find_plugin_of(self._store, await self.get(name, project=project))
        if plugin is not None:
            check_suspend(name, plugin)
        return await self._change_spec(name, project, expected_generation, lambda vm: with_power(vm, "suspended"))

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

    async def restart(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for an orderly stop and a new start; a stopped VM is started."""
        return await self._change_spec(
            name,
            project,
            expected_generation,
            lambda vm: msgspec.structs.replace(with_power(vm, "running"), restart_token=vm.spec.restart_token + 1),
        )

    async def delete(
        self,
        name: str,
        *,
        project: str = "default",
        uid: str | None = None,
        expected_generation: int | None = None,
        force: bool = False,
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
                return await self._write([update_of(marked)], marked)
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
                    if current is None or goal_reached(current, goal):
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
        self, name: str, project: str, expected: int | None, change: Callable[[VM], VMSpec], author: Author = NOBODY
    ) -> VM:
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
                return await self.write_change(vm, msgspec.structs.replace(vm, meta=meta, spec=spec), author)
            except StaleRevision:
                continue

    async def write_change(self, before: VM, after: VM, author: Author, operations: Sequence[Operation] = ()) -> VM:
        """Write ``after``, the version that it is when its configuration differs, and ``operations``, in one transaction.

        Raises:
            StaleRevision: somebody else wrote first. Else what the operations raise.
        """
        writes: list[Operation] = [update_of(after), *operations]
        if after.meta.labels != before.meta.labels or find_changes(before.spec, after.spec, CONFIGURATION):
            writes += await self.history.record(before, after, author, format_time(self._clock.now()))
        return await self._write(writes, after)

    async def _write(self, operations: Sequence[Operation], vm: VM) -> VM:
        revision = await self._store.transact(operations)
        return msgspec.structs.replace(vm, revision=revision)

    async def _usable_plugin(self, spec: VMSpec, project: str) -> Plugin:
        name = spec.plugin
        if spec.snapshot:
            name, version = await self._version_in_snapshot(spec.snapshot, project)
            plugin = await find_version(self._store, project, name, version)
        else:
            plugin = await find_plugin(self._store, project, name)
        if plugin is None or plugin.deleting:
            raise InvalidInput(f"there is no plugin named {name[:80]!r}", field="plugin", hint=PLUGIN_HINT)
        if not plugin.spec.enabled:
            raise WrongState(f"the plugin {name!r} is disabled", hint=f"volar plugins enable {name}")
        return plugin

    async def _version_in_snapshot(self, name: str, project: str) -> tuple[str, str]:
        snapshot = await find_resource(self._store, Snapshot, project, name)
        check_usable(snapshot, name)
        assert snapshot is not None
        return version_of_snapshot(snapshot)

    async def _check_host(self, spec: VMSpec, hardware: Hardware) -> None:
        nodes, _ = await list_resources(self._store, Node, "")
        if not nodes:
            return
        assert spec.memory_mb is not None and spec.cpu_cores is not None
        memory = max(node.status.memory_mb for node in nodes)
        if spec.memory_mb > memory:
            raise InvalidInput(f"{spec.memory_mb} MiB is more memory than any host has ({memory} MiB)", field="memory_mb")
        cores = max(node.status.cpu_cores for node in nodes)
        if spec.cpu_cores > cores:
            raise InvalidInput(f"{spec.cpu_cores} cores are more than any host has ({cores})", field="cpu_cores")
        lacks = [find_lack(hardware, node.status) for node in nodes]
        lack = lacks[0]
        if lack is not None and all(lacks):
            raise InvalidInput(
                f"its plugin asks for hardware that no host has: {lack.reason}",
                field="plugin",
                hint=f"{lack.field} of its manifest asks for it",
            )

    async def _fit_snapshot(self, spec: VMSpec, project: str) -> VMSpec:
        snapshot = await find_resource(self._store, Snapshot, project, spec.snapshot)
        check_usable(snapshot, spec.snapshot)
        assert snapshot is not None
        fitted = shape_as(spec, snapshot)
        for field in ("cpu_cores", "memory_mb", "disk_mb", "network_mode", "disks"):
            if getattr(spec, field) not in (None, (), getattr(fitted, field)):
                raise InvalidInput(
                    f"{field} is {getattr(fitted, field)} in the snapshot and cannot be another",
                    field=field,
                    hint="leave it out",
                )
        return fitted
