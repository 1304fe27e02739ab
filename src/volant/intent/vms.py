"""What may be asked of VMs."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable

import msgspec

from volant.core.address import mac_from_uid, parse_subnet
from volant.core.claim import Claim, ClaimSpec, build_claim, ip_claim_name, mac_claim_name
from volant.core.clock import Clock, format_time
from volant.core.defaults import fill_in, shape_as
from volant.core.errors import AlreadyExists, Exhausted, InvalidInput, NotFound, StaleRevision, TimedOut, WrongState
from volant.core.ids import Uid, check_name, new_uid
from volant.core.network import Network
from volant.core.node import Node
from volant.core.plugin import Plugin
from volant.core.resource import Meta, Wanted
from volant.core.snapshot import Snapshot
from volant.core.vm import FINALIZER, VM, Address, VMSpec, VMStatus, is_parked
from volant.core.wait import Goal, describe_progress, goal_reached
from volant.intent.follow import follow_resource
from volant.intent.pool import find_parked, take_parked
from volant.intent.ports import choose_ports, describe_port_conflict, port_claims
from volant.store.contract import Key, Operation, RequireLive, Store
from volant.store.records import create_of, find_resource, key_of, list_resources, update_of

CLAIM_ATTEMPTS = 32
"""How often a create tries another address when somebody else takes the one it chose."""

ENV_MAX_BYTES = 32 * 1024


class VMIntent:
    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._next_host: dict[str, int] = {}

    async def create(self, wanted: Wanted[VMSpec], *, project: str = "default") -> VM:
        """Write a VM down, with its addresses, in one transaction.

        Raises:
            InvalidInput: a name, size, reference or variable that cannot be right.
            AlreadyExists: the name is taken. Exhausted: the network has no address left. WrongState: the plugin is disabled.
        """
        check_name(wanted.name)
        _check_env(wanted.spec.env)
        _check_power(wanted.spec)
        asked = wanted.spec
        if asked.snapshot:
            asked = await self._fit_snapshot(asked, project)
        plugin = await self._usable_plugin(asked.plugin, project)
        spec = fill_in(asked, plugin.manifest)
        if plugin.manifest.agent == "none":
            _check_without_agent(spec)
        spec = msgspec.structs.replace(spec, ports=choose_ports(spec, plugin.manifest))
        await self._check_host(spec)
        network = await find_resource(self._store, Network, project, spec.network)
        if network is None:
            raise InvalidInput(f"there is no network named {spec.network!r}", field="network")
        now = format_time(self._clock.now())
        meta = Meta(
            name=wanted.name, uid=new_uid(), project=project, labels=wanted.labels, created_at=now, finalizers=(FINALIZER,)
        )
        for _ in range(CLAIM_ATTEMPTS):
            parked = await find_parked(self._store, plugin, spec)
            card = meta.uid if parked is None else parked.uid
            address = await self._choose_address(network, card)
            if parked is None:
                vm = VM(meta=meta, spec=spec, status=VMStatus(addresses=(address,), plugin_uid=plugin.uid))
                making: list[Operation] = [create_of(vm), create_of(_claim(vm, mac_claim_name(address.mac), "mac", now))]
            else:
                vm, making = take_parked(parked, meta, spec, address)
            operations: list[Operation] = [RequireLive(key_of(plugin)), *making]
            operations.append(create_of(_claim(vm, ip_claim_name(network.name, address.ip), "ip", now)))
            operations += [create_of(claim) for claim in port_claims(vm, now)]
            try:
                revision = await self._store.transact(operations)
            except AlreadyExists:
                if await self._store.get(key_of(vm)) is not None:
                    raise AlreadyExists(
                        f"there is a VM named {vm.name!r} already", hint=f"choose another name, or: volar vms delete {vm.name}"
                    ) from None
                conflict = await describe_port_conflict(self._store, vm)
                if conflict is not None:
                    raise conflict from None
                continue
            except StaleRevision:
                continue  # somebody else took the parked one
            except NotFound:
                if parked is not None and await self._store.get(key_of(parked)) is None:
                    continue
                raise InvalidInput(f"there is no plugin named {spec.plugin!r}", field="plugin", hint=_PLUGIN_HINT) from None
            return msgspec.structs.replace(vm, revision=revision)
        raise Exhausted(f"no address of network {network.name!r} could be had in {CLAIM_ATTEMPTS} attempts", hint="try again")

    async def get(self, name: str, *, project: str = "default") -> VM:
        vm = await find_resource(self._store, VM, project, name)
        if vm is None or is_parked(vm):
            raise NotFound(f"there is no VM named {name!r}", hint="volar vms list shows those there are")
        return vm

    async def list(self, *, project: str = "default", labels: dict[str, str] | None = None) -> tuple[list[VM], int]:
        """The VMs by name, and the revision to watch from."""
        vms, revision = await list_resources(self._store, VM, project, labels)
        return [vm for vm in vms if not is_parked(vm)], revision

    async def start(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for it to run. A VM that already runs stays as it is."""

        def change(vm: VM) -> VMSpec:
            ended_for_good = vm.status.phase in ("Stopped", "Failed") and vm.status.started_token == vm.spec.restart_token
            token = vm.spec.restart_token + (1 if vm.spec.power == "stopped" or ended_for_good else 0)
            return msgspec.structs.replace(vm.spec, power="running", restart_token=token)

        return await self._change_spec(name, project, expected_generation, change)

    async def stop(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        return await self._change_spec(
            name, project, expected_generation, lambda vm: msgspec.structs.replace(vm.spec, power="stopped")
        )

    async def suspend(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for it to be saved to disk and to use no memory until it is resumed. Raises WrongState for one without an agent."""
        plugin = await find_resource(self._store, Plugin, project, (await self.get(name, project=project)).spec.plugin)
        if plugin is not None and plugin.manifest.agent == "none":
            raise WrongState(
                f"the VM {name!r} cannot be suspended: its guest has no agent that would set its clock when it wakes"
            )

        def change(vm: VM) -> VMSpec:
            if vm.spec.power == "stopped" or vm.status.phase in ("Stopped", "Failed"):
                raise WrongState(f"the VM {name!r} does not run", hint=f"volar vms start {name}")
            return msgspec.structs.replace(vm.spec, power="suspended")

        return await self._change_spec(name, project, expected_generation, change)

    async def resume(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for a suspended VM to go on. One that runs stays as it is."""

        def change(vm: VM) -> VMSpec:
            if vm.spec.power == "stopped":
                raise WrongState(f"the VM {name!r} is stopped, not suspended", hint=f"volar vms start {name}")
            return msgspec.structs.replace(vm.spec, power="running")

        return await self._change_spec(name, project, expected_generation, change)

    async def restore(self, name: str, snapshot: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for a VM to go back to what it was at ``snapshot``, which is one of its own. What it did since is lost."""
        found = await find_resource(self._store, Snapshot, project, snapshot)
        _check_usable(found, snapshot)
        assert found is not None

        def change(vm: VM) -> VMSpec:
            if found.status.vm_uid != vm.uid:
                raise InvalidInput(
                    f"the snapshot {snapshot!r} was taken of another VM",
                    field="snapshot",
                    hint=f"make a new VM from it: volar snapshots restore {snapshot} --as NAME",
                )
            token = vm.spec.snapshot_token + 1
            return msgspec.structs.replace(vm.spec, power="running", snapshot=snapshot, snapshot_token=token)

        return await self._change_spec(name, project, expected_generation, change)

    async def restart(self, name: str, *, project: str = "default", expected_generation: int | None = None) -> VM:
        """Ask for an orderly stop and a new start; a stopped VM is started."""
        return await self._change_spec(
            name,
            project,
            expected_generation,
            lambda vm: msgspec.structs.replace(vm.spec, power="running", restart_token=vm.spec.restart_token + 1),
        )

    async def delete(
        self, name: str, *, project: str = "default", uid: str | None = None, expected_generation: int | None = None
    ) -> VM:
        """Mark it; it goes once its host holds nothing of it. Deleting it again changes nothing."""
        while True:
            vm = await self.get(name, project=project)
            if uid is not None and vm.uid != uid:
                raise NotFound(f"the VM {name!r} with uid {uid} is gone")
            _check_generation(vm, expected_generation)
            if vm.deleting:
                return vm
            meta = msgspec.structs.replace(vm.meta, deleting_at=format_time(self._clock.now()), generation=vm.meta.generation + 1)
            try:
                return await self._write(msgspec.structs.replace(vm, meta=meta))
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

    async def watch(self, name: str, *, project: str = "default") -> AsyncIterator[VM | None]:
        """The VM now and after every change; None and the end when it is deleted. Raises NotFound."""
        vm = await self.get(name, project=project)
        async for current in follow_resource(self._store, VM, key_of(vm), vm.uid):
            yield current

    async def _change_spec(self, name: str, project: str, expected: int | None, change: Callable[[VM], VMSpec]) -> VM:
        while True:
            vm = await self.get(name, project=project)
            _check_generation(vm, expected)
            if vm.deleting:
                raise WrongState(f"the VM {name!r} is being deleted")
            spec = change(vm)
            if spec == vm.spec:
                return vm
            meta = msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1)
            try:
                return await self._write(msgspec.structs.replace(vm, meta=meta, spec=spec))
            except StaleRevision:
                continue

    async def _write(self, vm: VM) -> VM:
        revision = await self._store.transact([update_of(vm)])
        return msgspec.structs.replace(vm, revision=revision)

    async def _usable_plugin(self, name: str, project: str) -> Plugin:
        plugin = await find_resource(self._store, Plugin, project, name)
        if plugin is None or plugin.deleting:
            raise InvalidInput(f"there is no plugin named {name[:80]!r}", field="plugin", hint=_PLUGIN_HINT)
        if not plugin.spec.enabled:
            raise WrongState(f"the plugin {name!r} is disabled")
        return plugin

    async def _check_host(self, spec: VMSpec) -> None:
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

    async def _fit_snapshot(self, spec: VMSpec, project: str) -> VMSpec:
        snapshot = await find_resource(self._store, Snapshot, project, spec.snapshot)
        _check_usable(snapshot, spec.snapshot)
        assert snapshot is not None
        fitted = shape_as(spec, snapshot)
        for field in ("cpu_cores", "memory_mb", "disk_mb"):
            if getattr(spec, field) not in (None, getattr(fitted, field)):
                raise InvalidInput(
                    f"{field} is {getattr(fitted, field)} in the snapshot and cannot be another",
                    field=field,
                    hint="leave it out",
                )
        return fitted

    async def _choose_address(self, network: Network, card: Uid) -> Address:
        """An address that nobody has claimed a moment ago: the next after the one given last, so that none is used again soon."""
        plan = parse_subnet(network.spec.subnet)
        start = self._next_host.get(network.uid, 0)
        for step in range(plan.capacity):
            index = (start + step) % plan.capacity
            ip = str(plan.gateway + 1 + index)
            if await self._store.get(Key(Claim.kind, "", ip_claim_name(network.name, ip))) is None:
                # Only a hint: the claim decides, and a new volantd begins at the first.
                self._next_host[network.uid] = index + 1
                return Address(
                    network=network.name,
                    ip=ip,
                    mac=mac_from_uid(card),
                    prefix_length=plan.prefix_length,
                    gateway=str(plan.gateway),
                )
        raise Exhausted(
            f"network {network.name!r} ({network.spec.subnet}) has no address left",
            hint="delete a VM, or give the network a larger subnet",
        )


_PLUGIN_HINT = "volar plugins list shows those installed"


def _claim(vm: VM, name: str, thing: str, now: str) -> Claim:
    return build_claim(name, ClaimSpec(thing=thing, owner_kind=VM.kind, owner_name=vm.name, owner_uid=vm.uid), now)


def _check_without_agent(spec: VMSpec) -> None:
    for field, is_given in (("env", spec.env), ("auto_suspend_s", spec.auto_suspend_s), ("snapshot", spec.snapshot)):
        if is_given:
            raise InvalidInput(
                f"{field} needs an agent in the guest, and this plugin's has none", field=field, hint="leave it out"
            )


def _check_power(spec: VMSpec) -> None:
    if spec.power not in ("running", "stopped"):
        raise InvalidInput(f"a VM cannot be created {spec.power}", field="power", hint="create it running, or stopped")


def _check_usable(snapshot: Snapshot | None, name: str) -> None:
    if snapshot is None or snapshot.deleting:
        raise InvalidInput(f"there is no snapshot named {name[:80]!r}", field="snapshot", hint="volar snapshots list")
    if snapshot.status.phase != "Ready":
        raise WrongState(f"the snapshot {name!r} is {snapshot.status.phase.lower()}: {snapshot.status.message}".rstrip(": "))


def _check_generation(vm: VM, expected: int | None) -> None:
    if expected is not None and vm.meta.generation != expected:
        raise StaleRevision(
            f"the VM {vm.name!r} is at generation {vm.meta.generation}, not {expected}", hint="read it again, then decide"
        )


def _check_env(env: dict[str, str]) -> None:
    if sum(len(name) + len(value) for name, value in env.items()) > ENV_MAX_BYTES:
        raise InvalidInput(f"the environment is larger than {ENV_MAX_BYTES} bytes", field="env")
    for name, value in env.items():
        if not name or "=" in name or "\x00" in name + value:
            raise InvalidInput(f"{name[:40]!r} cannot be an environment variable", field="env")
