"""How a VM is made: everything that it needs of its own is claimed with it, in one transaction."""

from __future__ import annotations

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.defaults import shape_as
from volant.core.errors import AlreadyExists, Exhausted, InvalidInput, NotFound, StaleRevision, WrongState
from volant.core.ids import check_name, new_uid
from volant.core.network import Network
from volant.core.plugin import Plugin
from volant.core.plugin_versions import version_of_snapshot
from volant.core.resource import Meta, Wanted
from volant.core.snapshot import Snapshot
from volant.core.vm import FINALIZER, VM, VMSpec
from volant.core.vm_revision import Author, build_revision
from volant.intent.cards import CardChooser, address_claims, mac_claims
from volant.intent.pool import find_parked, made_from, take_parked
from volant.intent.ports import describe_port_conflict, port_claims
from volant.intent.vm_checks import PLUGIN_HINT, check_labels, check_power, check_usable
from volant.intent.vm_settle import SpecSettler
from volant.store.contract import Operation, RequireLive, Store
from volant.store.plugins import find_plugin, find_version
from volant.store.quotas import QuotaLedger
from volant.store.records import create_of, find_resource, key_of

CLAIM_ATTEMPTS = 32
"""How often a create tries another address when somebody else takes the one it chose."""


class VMCreator:
    def __init__(self, store: Store, clock: Clock, settler: SpecSettler, cards: CardChooser, ledger: QuotaLedger) -> None:
        self._store = store
        self._clock = clock
        self._settler = settler
        self._cards = cards
        self._ledger = ledger

    async def create(
        self,
        wanted: Wanted[VMSpec],
        *,
        project: str,
        author: Author,
        dry_run: bool,
        owner: str | None,
    ) -> VM:
        """As VMIntent.create."""
        check_name(wanted.name)
        check_labels(wanted.labels, own=owner is not None)
        check_power(wanted.spec)
        asked = wanted.spec
        if asked.snapshot:
            asked = await self._fit_snapshot(asked, project)
        plugin = await self._usable_plugin(asked, project)
        spec = await self._settler.settle(asked, plugin)
        spec = await self._cards.fit_mode(asked, spec, project)
        networks = await self._cards.find_networks(spec, project)
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
        async with self._ledger.turn(project):
            return await self._write_new(meta, spec, plugin, networks, author, dry_run=dry_run)

    async def _write_new(
        self, meta: Meta, spec: VMSpec, plugin: Plugin, networks: tuple[Network, ...], author: Author, *, dry_run: bool
    ) -> VM:
        now = meta.created_at
        for _ in range(CLAIM_ATTEMPTS):
            parked = await find_parked(self._store, plugin, spec)
            card = meta.uid if parked is None else parked.uid
            addresses = await self._cards.choose(card, spec, networks)
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
            operations += await self._ledger.charge_vm(None, vm)
            if dry_run:
                await self._check_free(vm)
                return vm
            try:
                revision = await self._store.transact(operations)
            except AlreadyExists:
                await self._check_free(vm)
                continue
            except StaleRevision:
                continue  # somebody else took the parked one, or used some of the quota
            except NotFound:
                if parked is not None and await self._store.get(key_of(parked)) is None:
                    continue
                raise InvalidInput(f"there is no plugin named {spec.plugin!r}", field="plugin", hint=PLUGIN_HINT) from None
            return msgspec.structs.replace(vm, revision=revision)
        raise Exhausted(f"no address of network {spec.network!r} could be had in {CLAIM_ATTEMPTS} attempts", hint="try again")

    async def _check_free(self, vm: VM) -> None:
        """Raises AlreadyExists when another has the name of ``vm``, or a port that it is to publish."""
        if await self._store.get(key_of(vm)) is not None:
            raise AlreadyExists(
                f"there is a VM named {vm.name!r} already", hint=f"choose another name, or: volar vms delete {vm.name}"
            )
        conflict = await describe_port_conflict(self._store, vm)
        if conflict is not None:
            raise conflict

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

    async def _fit_snapshot(self, spec: VMSpec, project: str) -> VMSpec:
        snapshot = await find_resource(self._store, Snapshot, project, spec.snapshot)
        check_usable(snapshot, spec.snapshot)
        assert snapshot is not None
        if spec.command and snapshot.spec.memory:
            raise InvalidInput(
                "its workload runs already in the snapshot", field="command", hint="leave it out, or take one of its disk alone"
            )
        fitted = shape_as(spec, snapshot)
        for field in ("cpu_cores", "memory_mb", "disk_mb", "network_mode", "disks"):
            if getattr(spec, field) not in (None, (), getattr(fitted, field)):
                raise InvalidInput(
                    f"{field} is {getattr(fitted, field)} in the snapshot and cannot be another",
                    field=field,
                    hint="leave it out",
                )
        return fitted
