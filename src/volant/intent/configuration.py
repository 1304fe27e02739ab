"""What may be asked of the configuration of VMs: changes, each with its version in one transaction, and a look at them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from volant.core.changes import CONFIGURATION, EFFECTS, Difference, check_changes, compare_configs, describe_config
from volant.core.claim import Claim
from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, WrongState
from volant.core.plugin import Plugin
from volant.core.resource import META_FIELDS, Wanted, split_validation_error
from volant.core.vm import VM, VMSpec
from volant.core.vm_revision import NOBODY, Author, VMRevision, build_revision
from volant.intent.cards import address_claims, mac_claims
from volant.intent.ports import port_claims
from volant.intent.vm_checks import OWN_LABELS, check_generation, check_labels
from volant.intent.vm_power import check_suspend, with_power
from volant.intent.vms import VMIntent
from volant.store.contract import MAX_OPERATIONS, Delete, Operation
from volant.store.quotas import MAX_QUOTAS
from volant.store.records import create_of, key_of

ATTEMPTS = 32
EDITABLE = frozenset({"labels", "power", *CONFIGURATION})
"""What a patch may name."""

Edit = Callable[[dict[str, Any]], Any]
"""Makes of a VM's flat document, what ``EDITABLE`` is of it, the one that is wanted."""


class ConfigurationIntent:
    def __init__(self, clock: Clock, vms: VMIntent) -> None:
        self._clock = clock
        self._vms = vms

    async def replace(
        self,
        name: str,
        wanted: Wanted[VMSpec],
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> VM:
        """Have the whole of what is configured be as ``wanted``; what that leaves open is as the plugin says, as in a create.
        What steers the run but ``power`` stays.

        Raises:
            NotFound. InvalidInput: a value, or a change, that cannot be; the field is named. WrongState: it is being deleted.
            AlreadyExists: a port of the host is another's.
            QuotaExceeded: its project may not have so much. StaleRevision: it is not at ``expected_generation``.
        """
        if wanted.name != name:
            raise InvalidInput("the name of a VM cannot be changed", field="name", hint=f"it is {name}")

        def settle(vm: VM) -> tuple[VMSpec, dict[str, str]]:
            kept = {field: getattr(vm.spec, field) for field, effect in EFFECTS.items() if effect == "steering"}
            kept["power"] = wanted.spec.power
            return msgspec.structs.replace(wanted.spec, **kept), wanted.labels

        return await self._change(name, project, settle, expected_generation, author, dry_run=dry_run)

    async def edit(
        self,
        name: str,
        edit: Edit,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> VM:
        """Change what ``edit`` changes. A field that it takes away is as the plugin says. Raises as ``replace``."""

        def settle(vm: VM) -> tuple[VMSpec, dict[str, str]]:
            document = {"power": vm.spec.power, **describe_config(vm.spec, vm.meta.labels)}
            return _read_document(edit(document), vm)

        return await self._change(name, project, settle, expected_generation, author, dry_run=dry_run)

    async def rollback(
        self,
        name: str,
        number: int,
        *,
        project: str = "default",
        expected_generation: int | None = None,
        author: Author = NOBODY,
        dry_run: bool = False,
    ) -> VM:
        """Configure it as it was in version ``number``; that is a new version. Raises NotFound, else as ``replace``."""
        vm = await self._vms.get(name, project=project)
        version = await self._find(vm, number)
        if not author.reason:
            author = msgspec.structs.replace(author, reason=f"rollback to version {number}")

        def settle(vm: VM) -> tuple[VMSpec, dict[str, str]]:
            # What a later version of Volant can configure besides is as if it were left open.
            return _read_document({"power": vm.spec.power, **version.spec.config}, vm)

        return await self._change(name, project, settle, expected_generation, author, dry_run=dry_run)

    async def read(self, name: str, *, project: str = "default") -> tuple[VM, VMRevision]:
        """The VM, and the version that it is."""
        vm = await self._vms.get(name, project=project)
        return vm, (await self._list(vm))[-1]

    def preview(self, vm: VM) -> VMRevision:
        """The version that ``vm`` would be, were it written."""
        return build_revision(vm, None, NOBODY, format_time(self._clock.now()))

    async def history(self, name: str, *, project: str = "default") -> list[VMRevision]:
        """Its versions, newest first."""
        return list(reversed(await self._list(await self._vms.get(name, project=project))))

    async def version(self, name: str, number: int, *, project: str = "default") -> VMRevision:
        return await self._find(await self._vms.get(name, project=project), number)

    async def diff(
        self, name: str, before: int | None, after: int | None, *, project: str = "default"
    ) -> tuple[int, int, tuple[Difference, ...]]:
        """How version ``after`` (the one that it is, unless said) differs from ``before`` (the one before that)."""
        vm = await self._vms.get(name, project=project)
        known = await self._list(vm)
        new = known[-1] if after is None else await self._find(vm, after)
        if before is None:
            earlier = [each for each in known if each.spec.number < new.spec.number]
            old = earlier[-1] if earlier else new
        else:
            old = await self._find(vm, before)
        return old.spec.number, new.spec.number, compare_configs(old.spec.config, new.spec.config)

    async def _list(self, vm: VM) -> list[VMRevision]:
        return await self._vms.history.list_of(vm) or [self._vms.history.first_of(vm)]

    async def _find(self, vm: VM, number: int) -> VMRevision:
        for version in await self._list(vm):
            if version.spec.number == number:
                return version
        raise NotFound(f"there is no version {number} of VM {vm.name!r}", hint=f"volar vms config history {vm.name}")

    async def _change(
        self,
        name: str,
        project: str,
        settle: Callable[[VM], tuple[VMSpec, dict[str, str]]],
        expected: int | None,
        author: Author,
        *,
        dry_run: bool,
    ) -> VM:
        for _ in range(ATTEMPTS):
            vm = await self._vms.get(name, project=project)
            check_generation(vm, expected)
            if vm.deleting:
                raise WrongState(f"the VM {name!r} is being deleted")
            asked, labels = settle(vm)
            plugin = await self._vms.plugin_of(vm)
            changed = await self._settle(vm, asked, labels, plugin)
            if changed.spec == vm.spec and changed.meta.labels == vm.meta.labels:
                return vm
            operations = self._claims(vm, changed)
            if dry_run:
                await self._check_ports(changed)
                return changed
            try:
                return await self._vms.write_change(vm, changed, author, operations)
            except AlreadyExists:
                await self._check_ports(changed)
            except StaleRevision:
                continue
            except NotFound:
                continue  # it, or what it gives back, went meanwhile: the next look tells which
        raise StaleRevision(f"others keep changing the VM {name!r}", hint="try again")

    async def _settle(self, vm: VM, asked: VMSpec, labels: dict[str, str], plugin: Plugin) -> VM:
        """``vm`` as it would be."""
        own = {key: value for key, value in vm.meta.labels.items() if key.startswith(OWN_LABELS)}
        check_labels({key: value for key, value in labels.items() if own.get(key) != value})
        labels = {**labels, **own}
        power = asked.power
        if power != vm.spec.power:
            if power == "suspended":
                check_suspend(vm.name, plugin)
            steered = with_power(vm, power, anew=True)
            kept = {field: getattr(steered, field) for field in ("power", "restart_token", "force_stop")}
            asked = msgspec.structs.replace(asked, **kept)
        if asked.network_mode is None:
            asked = msgspec.structs.replace(asked, network_mode=vm.spec.network_mode)
        spec = await self._vms.settle_spec(asked, plugin)
        check_changes(vm.spec, spec, but=("power", "restart_token", "force_stop"))
        status = vm.status
        if spec.extra_networks != vm.spec.extra_networks:
            runs = vm.status.phase not in ("Stopped", "Failed") or vm.status.pid is not None
            if runs and spec.extra_networks[: len(vm.spec.extra_networks)] != vm.spec.extra_networks:
                raise WrongState(
                    f"the network cards of {vm.name!r} are not taken away or changed while it runs: one can be added at the end",
                    hint=f"volar vms stop {vm.name}, then again",
                )
            networks = await self._vms.cards.find_networks(spec, vm.meta.project)
            cards = await self._vms.cards.choose(vm.uid, spec, networks, vm.status.addresses)
            status = msgspec.structs.replace(vm.status, addresses=cards)
        meta = msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1, labels=labels)
        return msgspec.structs.replace(vm, meta=meta, spec=spec, status=status)

    def _claims(self, before: VM, after: VM) -> list[Operation]:
        """What is claimed anew and given back, by name."""
        now = format_time(self._clock.now())
        old, new = _list_claims(before, now), _list_claims(after, now)
        operations: list[Operation] = [create_of(claim) for name, claim in new.items() if name not in old]
        operations += [Delete(key_of(claim)) for name, claim in old.items() if name not in new]
        # Beside them are the VM, its version, those that go since they are too old, and the project's quotas.
        if len(operations) > MAX_OPERATIONS - 8 - MAX_QUOTAS:
            raise InvalidInput("so many ports and cards cannot be changed at once", field="ports", hint="change half of them")
        return operations

    async def _check_ports(self, vm: VM) -> None:
        conflict = await self._vms.find_port_conflict(vm)
        if conflict is not None:
            raise conflict


def _list_claims(vm: VM, now: str) -> dict[str, Claim]:
    return {claim.name: claim for claim in (*port_claims(vm, now), *address_claims(vm, now), *mac_claims(vm, now))}


def _read_document(document: Any, vm: VM) -> tuple[VMSpec, dict[str, str]]:
    """What an edited document asks for. Raises InvalidInput, naming the field."""
    if not isinstance(document, dict):
        raise InvalidInput("the configuration of a VM is one object")
    for field in document:
        if field in EDITABLE:
            continue
        if field in EFFECTS:
            # Refused with what to do instead.
            check_changes(vm.spec, msgspec.structs.replace(vm.spec, **{field: object()}))
        if field in META_FIELDS:
            raise InvalidInput(f"{field} of a VM cannot be changed", field=str(field)[:80])
        raise InvalidInput(f"a VM has no field {str(field)[:80]!r}", field=str(field)[:80], hint="volar vms config get NAME")
    kept = {field: getattr(vm.spec, field) for field, effect in EFFECTS.items() if effect == "steering"}
    fields = {field: value for field, value in document.items() if field != "labels"}
    try:
        labels = msgspec.convert(document.get("labels") or {}, dict[str, str])
        # A field without a default that was taken away cannot be.
        spec = msgspec.convert({"plugin": None, **fields}, VMSpec)
    except msgspec.ValidationError as error:
        message, field = split_validation_error(error)
        raise InvalidInput(message, field=field) from error
    kept["power"] = spec.power if "power" in fields else vm.spec.power
    return msgspec.structs.replace(spec, **kept), labels
