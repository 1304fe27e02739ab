"""What files say of resources, applied through the kinds' own intents, whoever else writes meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextvars import Context
from pathlib import Path
from typing import Any

import msgspec
import pytest

from volant.core.deployment import DEPLOYMENT_LABEL
from volant.core.errors import AlreadyExists, FieldConflict, InvalidInput, NotFound, StaleRevision, WrongState
from volant.core.ids import new_uid
from volant.core.network import Network, NetworkSpec, NetworkStatus
from volant.core.resource import Meta, Wanted
from volant.core.simulated_clock import SimulatedClock
from volant.core.vm import VMSpec
from volant.intent import ApplyIntent, Intents
from volant.intent.apply import ATTEMPTS, Applied, How
from volant.intent.apply_kinds import appliers_of
from volant.intent.ownership import OwningStore, begin_editing
from volant.store.contract import Operation, Store
from volant.store.records import create_of, find_resource, update_of
from volant.store.sqlite import open_store

from .conftest import make_manifest

VM = {"kind": "VM", "name": "web", "plugin": "nginx", "env": {"A": "1"}}
NETWORK = {"kind": "Network", "name": "back", "subnet": "10.77.0.0/24", "labels": {"app": "x"}}


class Racing(OwningStore):
    """A store in which ``race`` happens just before a transaction."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.below = store
        self.race: Callable[[], Coroutine[Any, Any, None]] | None = None
        self.transactions = 0

    async def transact(self, operations: Sequence[Operation]) -> int:
        race, self.race = self.race, None
        if race is not None:
            # As a request of its own.
            await asyncio.create_task(race(), context=Context())
        self.transactions += 1
        return await super().transact(operations)


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Racing]:
    async with open_store(tmp_path / "volant.db", SimulatedClock()) as opened:
        yield Racing(opened)


@pytest.fixture
async def files(intents: Intents, store: Racing) -> ApplyIntent:
    await intents.plugins.install(make_manifest())
    return ApplyIntent(store, appliers_of(store, intents))


async def apply(files: ApplyIntent, document: object, manager: str = "volar", **how: Any) -> Applied:
    return await files.apply(document, How(manager=manager, **how))


async def test_who_decides_is_written_in_the_transaction_that_writes(files: ApplyIntent, store: Racing, intents: Intents) -> None:
    before = store.transactions
    made = await apply(files, VM)
    assert store.transactions == before + 1
    kept = await intents.vms.get("web")
    assert kept.meta.managers == made.resource.meta.managers == {"volar": ("env.A", "plugin")}
    assert made.resource.revision == kept.revision
    await apply(files, {**VM, "env": {"B": "2"}})
    assert store.transactions == before + 2
    assert (await intents.vms.get("web")).meta.managers == {"volar": ("env.B", "plugin")}
    # Nothing to change is nothing written.
    assert (await apply(files, {**VM, "env": {"B": "2"}})).action == "unchanged"
    assert store.transactions == before + 2


async def test_to_want_the_same_is_written_without_a_new_generation(files: ApplyIntent, intents: Intents) -> None:
    await apply(files, VM)
    also = await apply(files, VM, "ops")
    assert also.action == "unchanged"
    vm = await intents.vms.get("web")
    assert (vm.meta.generation, set(vm.meta.managers)) == (1, {"ops", "volar"})
    # One leaves it out: the other still decides it.
    assert (await apply(files, {"kind": "VM", "name": "web"}, "ops")).action == "unchanged"
    vm = await intents.vms.get("web")
    assert vm.meta.managers == {"ops": (), "volar": ("env.A", "plugin")}


async def test_an_edit_by_hand_is_the_editors(files: ApplyIntent, intents: Intents) -> None:
    await apply(files, VM)
    await intents.configuration.edit("web", lambda before: {**before, "env": {"A": "2"}, "memory_mb": 256})
    vm = await intents.vms.get("web")
    assert vm.meta.managers == {"api": ("env.A", "memory_mb"), "volar": ("plugin",)}
    with pytest.raises(FieldConflict):
        await apply(files, VM)
    begin_editing("night-shift")
    await intents.vms.stop("web")
    assert (await intents.vms.get("web")).meta.managers["night-shift"] == ("power",)
    await intents.vms.restart("web")
    assert (await intents.vms.get("web")).meta.managers["night-shift"] == ("power",)


async def test_what_controllers_write_is_nobodys_decision(files: ApplyIntent, store: Racing, intents: Intents) -> None:
    await apply(files, VM)
    vm = await intents.vms.get("web")
    slept = msgspec.structs.replace(vm, spec=msgspec.structs.replace(vm.spec, power="suspended"))
    await store.below.transact([update_of(slept)])
    assert (await intents.vms.get("web")).meta.managers == vm.meta.managers


async def test_a_status_in_between_is_tried_again(files: ApplyIntent, store: Racing) -> None:
    await apply(files, NETWORK)

    async def settle() -> None:
        network = await find_resource(store, Network, "default", "back")
        assert network is not None
        await store.below.transact([update_of(msgspec.structs.replace(network, status=NetworkStatus(phase="Ready")))])

    store.race = settle
    changed = await apply(files, {**NETWORK, "labels": {"app": "y"}})
    assert (changed.action, changed.resource.status.phase) == ("changed", "Ready")
    # Also when only who decides is written.
    store.race = settle
    assert (await apply(files, {**NETWORK, "labels": {"app": "y"}}, "ops")).action == "unchanged"
    network = await find_resource(store, Network, "default", "back")
    assert network is not None and set(network.meta.managers) == {"ops", "volar"}


async def test_an_edit_in_between_is_a_conflict(files: ApplyIntent, store: Racing, intents: Intents) -> None:
    await apply(files, VM)

    async def edit() -> None:
        await intents.configuration.edit("web", lambda before: {**before, "env": {"A": "hand"}})

    store.race = edit
    with pytest.raises(FieldConflict, match=r'env.A is decided by api \("hand", not "2"\)'):
        await apply(files, {**VM, "env": {"A": "2"}})
    assert (await intents.vms.get("web")).spec.env == {"A": "hand"}


async def test_another_who_makes_it_first(files: ApplyIntent, store: Racing) -> None:
    async def make() -> None:
        spec = NetworkSpec(subnet="10.77.0.0/24", bridge="vbr-back")
        meta = Meta(name="back", uid=new_uid())
        await store.below.transact([create_of(Network(meta=meta, spec=spec, status=NetworkStatus()))])

    store.race = make
    done = await apply(files, NETWORK)
    assert (done.action, [change.path for change in done.changes]) == ("changed", ["labels.app"])


async def test_others_who_never_stop_are_told_of(files: ApplyIntent, store: Racing) -> None:
    await apply(files, NETWORK)
    rounds = 0

    async def again() -> None:
        nonlocal rounds
        rounds += 1
        network = await find_resource(store, Network, "default", "back")
        assert network is not None
        meta = msgspec.structs.replace(network.meta, generation=network.meta.generation + 1)
        await store.below.transact([update_of(msgspec.structs.replace(network, meta=meta))])
        store.race = again

    store.race = again
    with pytest.raises(StaleRevision, match="others keep changing"):
        await apply(files, {**NETWORK, "labels": {"app": "y"}})
    assert rounds == ATTEMPTS


async def test_what_is_taken_by_another_is_no_race(files: ApplyIntent) -> None:
    port = {"ports": [{"port": 80, "host_port": 8080}]}
    await apply(files, {**VM, **port})
    with pytest.raises(AlreadyExists, match="8080"):
        await apply(files, {**VM, "name": "other", **port})
    with pytest.raises(AlreadyExists, match="8080"):
        await apply(files, {**VM, "name": "other", **port}, dry_run=True)


async def test_a_replicas_own_labels_stay(files: ApplyIntent, intents: Intents) -> None:
    labels = {DEPLOYMENT_LABEL: "shop", "app": "x"}
    await intents.vms.create(Wanted(name="shop-0", labels=labels, spec=VMSpec(plugin="nginx")), owner="ab" * 16)
    changed = await apply(files, {"kind": "VM", "name": "shop-0", "labels": {"team": "y"}})
    assert changed.resource.meta.labels == {**labels, "team": "y"}
    edited = await intents.configuration.edit("shop-0", lambda before: {**before, "labels": {}})
    assert edited.meta.labels == {DEPLOYMENT_LABEL: "shop"}
    with pytest.raises(InvalidInput, match="Volant's own"):
        await intents.configuration.edit("shop-0", lambda before: {**before, "labels": {DEPLOYMENT_LABEL: "other"}})


async def test_what_goes_is_not_applied(files: ApplyIntent, intents: Intents) -> None:
    await apply(files, VM)
    await intents.vms.delete("web")
    with pytest.raises(WrongState, match="being deleted"):
        await apply(files, VM)
    assert await files.list_applied("volar") == []


async def test_standing_is_looked_at(files: ApplyIntent) -> None:
    await apply(files, {"kind": "Quota", "name": "all", "vms": 9})
    _, standing = await files.look_at("Quota", "all", timeout_s=5)
    assert standing.settled and not standing.failed
    await apply(files, VM)
    vm, standing = await files.look_at("VM", "web", timeout_s=0)
    assert (vm.name, standing.settled) == ("web", False)
    with pytest.raises(NotFound):
        await files.look_at("VM", "gone", timeout_s=0)
    with pytest.raises(InvalidInput):
        await files.look_at("Snapshot", "x", timeout_s=0)


async def test_a_jobs_plugin_is_the_same_in_other_words(files: ApplyIntent, intents: Intents) -> None:
    job = {"kind": "Job", "name": "once", "vm": {"plugin": "nginx"}}
    await apply(files, job)
    assert (await intents.jobs.get("once")).spec.vm.plugin == "nginx@1.0"
    assert (await apply(files, job)).action == "unchanged"
    assert (await apply(files, job, "ops")).action == "unchanged"
    with pytest.raises(InvalidInput, match="vm"):
        await apply(files, {**job, "vm": {"plugin": "nginx", "memory_mb": 999}})
