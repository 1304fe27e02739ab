"""Changes of a VM's configuration: what is refused, what is kept, and that all of it is written or nothing."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest

from volant.core.claim import Claim
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, WrongState
from volant.core.patch import json_patch, merge_patch
from volant.core.resource import Wanted
from volant.core.vm import VM, PublishedPort, VMSpec
from volant.core.vm_revision import KEPT, Author
from volant.intent import Intents
from volant.store.contract import Store
from volant.store.records import list_resources, update_of

from .conftest import make_manifest

ME = Author(by="me", reason="because")


@pytest.fixture
async def web(intents: Intents) -> VM:
    await intents.plugins.install(make_manifest())
    return await intents.vms.create(Wanted(name="web", labels={"tier": "a"}, spec=VMSpec(plugin="nginx")), author=ME)


async def patch(intents: Intents, change: Any, name: str = "web", **options: Any) -> VM:
    return await intents.configuration.edit(name, lambda before: merge_patch(before, change), **options)


async def test_a_create_is_the_first_version(intents: Intents, web: VM) -> None:
    vm, version = await intents.configuration.read("web")
    assert (version.spec.number, version.spec.by, version.spec.reason, version.spec.changed) == (1, "me", "because", ())
    assert version.spec.config["memory_mb"] == 128 and version.spec.config["labels"] == {"tier": "a"}
    assert vm == web


async def test_a_change_is_a_version_with_who_and_why(intents: Intents, web: VM) -> None:
    changed = await patch(intents, {"memory_mb": 64, "env": {"A": "b"}, "labels": {"tier": None, "x": "y"}}, author=ME)
    assert changed.meta.generation == 2
    assert (changed.spec.memory_mb, changed.spec.env, changed.meta.labels) == (64, {"A": "b"}, {"x": "y"})
    newest, oldest = await intents.configuration.history("web")
    assert (newest.spec.number, oldest.spec.number) == (2, 1)
    assert newest.spec.changed == ("labels.tier", "labels.x", "memory_mb", "env.A")
    assert (newest.spec.by, newest.spec.reason) == ("me", "because")
    assert newest.meta.owner == web.uid


async def test_what_changes_nothing_leaves_no_version(intents: Intents, web: VM, store: Store) -> None:
    before = (await store.list("VM")).revision
    assert await patch(intents, {"memory_mb": 128}) == web
    assert (await store.list("VM")).revision == before


async def test_starts_and_stops_leave_no_version(intents: Intents, web: VM) -> None:
    await intents.vms.stop("web")
    await patch(intents, {"power": "running"})
    assert [each.spec.number for each in await intents.configuration.history("web")] == [1]
    assert (await intents.vms.get("web")).spec.restart_token == 1
    await patch(intents, {"memory_mb": 64})
    assert [each.spec.number for each in await intents.configuration.history("web")] == [4, 1]


async def test_a_field_that_is_taken_away_is_as_the_plugin_says(intents: Intents, web: VM) -> None:
    await patch(intents, {"memory_mb": 64, "env": {"A": "b"}})
    assert (await patch(intents, {"memory_mb": None, "env": None})).spec == web.spec


async def test_a_list_of_operations_changes_too(intents: Intents, web: VM) -> None:
    operations = [{"op": "add", "path": "/env/A", "value": "b"}, {"op": "test", "path": "/memory_mb", "value": 128}]
    changed = await intents.configuration.edit("web", lambda before: json_patch(before, operations))
    assert changed.spec.env == {"A": "b"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"plugin": "other"}, "plugin"),
        ({"plugin": None}, "plugin"),
        ({"network": "other"}, "network"),
        ({"network_mode": "vsock"}, "network_mode"),
        ({"name": "other"}, "name"),
        ({"uid": "x"}, "uid"),
        ({"status": {}}, "status"),
        ({"generation": 7}, "generation"),
        ({"restart_token": 9}, "restart_token"),
        ({"snapshot": "s"}, "snapshot"),
        ({"surprise": 1}, "surprise"),
        ({"memory_mb": 1}, "memory_mb"),
        ({"memory_mb": "64"}, "memory_mb"),
        ({"memory_mb": 4096}, "memory_mb"),
        ({"disk_mb": 64}, "disk_mb"),
        ({"cpu_cores": 64}, "cpu_cores"),
        ({"power": "parked"}, "power"),
        ({"power": "off"}, "power"),
        ({"env": {"A=B": "c"}}, "env"),
        ({"labels": {"": "c"}}, "labels"),
        ({"labels": {"a": "b" * 20_000}}, "labels"),
        ({"kernel_cmdline": "init=/bin/sh"}, "kernel_cmdline"),
        ({"kernel": "sha256:" + "ff" * 32}, "kernel"),
    ],
)
async def test_what_cannot_be_right_changes_nothing(
    intents: Intents, web: VM, store: Store, change: dict[str, Any], field: str
) -> None:
    before = (await store.list("VM")).revision
    with pytest.raises(InvalidInput) as refused:
        await patch(intents, change)
    assert refused.value.field == field
    assert (await store.list("VM")).revision == before


async def test_what_was_read_may_be_edited_and_put_back(intents: Intents, web: VM) -> None:
    await intents.vms.stop("web")
    await intents.vms.start("web")
    spec = msgspec.structs.replace(web.spec, memory_mb=64, power="running")
    put = await intents.configuration.replace("web", Wanted(name="web", labels={}, spec=spec))
    assert (put.spec.memory_mb, put.meta.labels) == (64, {})
    assert put.spec.restart_token == 1, "what steers it is not what somebody read a while ago"
    bare = await intents.configuration.replace("web", Wanted(name="web", labels={}, spec=VMSpec(plugin="nginx")))
    assert bare.spec.memory_mb == 128, "what is left open is as the plugin says"
    with pytest.raises(InvalidInput) as refused:
        await intents.configuration.replace("web", Wanted(name="other", labels={}, spec=spec))
    assert refused.value.field == "name"


async def test_a_stale_precondition_is_refused(intents: Intents, web: VM) -> None:
    await patch(intents, {"memory_mb": 64}, expected_generation=1)
    with pytest.raises(StaleRevision):
        await patch(intents, {"memory_mb": 65}, expected_generation=1)
    with pytest.raises(StaleRevision):
        await intents.configuration.rollback("web", 1, expected_generation=1)


async def test_many_changes_at_once_are_all_there(intents: Intents, web: VM) -> None:
    await asyncio.gather(*(patch(intents, {"env": {f"V{i}": "x"}}) for i in range(12)))
    assert len((await intents.vms.get("web")).spec.env) == 12
    assert [each.spec.number for each in await intents.configuration.history("web")] == list(range(13, 0, -1))


async def test_a_rollback_is_a_new_version(intents: Intents, web: VM) -> None:
    await patch(intents, {"memory_mb": 64, "labels": {"tier": "b"}})
    await intents.vms.stop("web")
    back = await intents.configuration.rollback("web", 1, author=Author(by="me"))
    assert (back.spec.memory_mb, back.meta.labels, back.spec.power) == (128, {"tier": "a"}, "stopped")
    newest = (await intents.configuration.history("web"))[0]
    assert (newest.spec.number, newest.spec.reason, newest.spec.by) == (4, "rollback to version 1", "me")
    with pytest.raises(NotFound):
        await intents.configuration.rollback("web", 3)


async def test_versions_are_compared(intents: Intents, web: VM) -> None:
    await patch(intents, {"env": {"A": "b"}})
    await patch(intents, {"env": {"A": None}, "memory_mb": 64})
    before, after, found = await intents.configuration.diff("web", None, None)
    assert (before, after) == (2, 3)
    assert [(each.path, each.before, each.after) for each in found] == [("memory_mb", 128, 64), ("env.A", "b", None)]
    assert [each.path for each in (await intents.configuration.diff("web", 1, 3))[2]] == ["memory_mb"]
    assert (await intents.configuration.diff("web", 1, 1))[2] == ()


async def test_only_so_many_versions_are_kept(intents: Intents, web: VM) -> None:
    for number in range(KEPT + 3):
        await patch(intents, {"env": {"N": str(number)}})
    versions = await intents.configuration.history("web")
    assert len(versions) == KEPT
    assert (versions[0].spec.number, versions[-1].spec.number) == (KEPT + 4, 5)


async def test_a_vm_of_an_earlier_version_of_volant_gets_its_first(intents: Intents, web: VM, store: Store) -> None:
    from volant.core.vm_revision import VMRevision
    from volant.store.records import delete_of

    for revision in (await list_resources(store, VMRevision))[0]:
        await store.transact([delete_of(revision)])
    _, version = await intents.configuration.read("web")
    assert version.spec.number == 1
    await patch(intents, {"memory_mb": 64})
    newest, first = await intents.configuration.history("web")
    assert (newest.spec.changed, first.spec.config["memory_mb"]) == (("memory_mb",), 128)


async def test_a_dry_run_writes_nothing(intents: Intents, web: VM, store: Store) -> None:
    before = (await store.list("VM")).revision
    planned = await patch(intents, {"memory_mb": 64}, dry_run=True)
    assert (planned.spec.memory_mb, planned.meta.generation) == (64, 2)
    await intents.configuration.rollback("web", 1, dry_run=True)
    made = await intents.vms.create(Wanted(name="other", labels={}, spec=VMSpec(plugin="nginx")), dry_run=True)
    assert (made.spec.memory_mb, made.status.addresses[0].ip) == (128, "10.9.0.3")
    with pytest.raises(AlreadyExists):
        await intents.vms.create(Wanted(name="web", labels={}, spec=VMSpec(plugin="nginx")), dry_run=True)
    assert (await store.list("VM")).revision == before


def ports(*numbers: int) -> tuple[PublishedPort, ...]:
    return tuple(PublishedPort(port=80, host_port=number) for number in numbers)


async def port_claims(store: Store) -> set[str]:
    return {claim.name for claim in (await list_resources(store, Claim, ""))[0] if claim.spec.thing == "port"}


async def test_ports_are_claimed_and_given_back_with_the_change(intents: Intents, web: VM, store: Store) -> None:
    await intents.vms.create(Wanted(name="other", labels={}, spec=VMSpec(plugin="nginx", ports=ports(9000))))
    await patch(intents, {"ports": [{"port": 80, "host_port": 8080}, {"port": 80, "host_port": 8081}]})
    assert await port_claims(store) == {"port.default.tcp.8080", "port.default.tcp.8081", "port.default.tcp.9000"}
    for dry_run in (True, False):
        with pytest.raises(AlreadyExists, match="'other'"):
            await patch(intents, {"ports": [{"port": 80, "host_port": 9000}]}, dry_run=dry_run)
    await patch(intents, {"ports": [{"port": 80, "host_port": 8081}]})
    assert await port_claims(store) == {"port.default.tcp.8081", "port.default.tcp.9000"}


async def test_a_card_is_added_while_it_runs_and_goes_only_while_nothing_does(intents: Intents, web: VM, store: Store) -> None:
    added = await patch(intents, {"extra_networks": ["default"]})
    assert [card.ip for card in added.status.addresses] == ["10.9.0.2", "10.9.0.3"]
    with pytest.raises(WrongState, match="while it runs"):
        await patch(intents, {"extra_networks": []})
    vm = await intents.vms.stop("web")
    await store.transact([update_of(msgspec.structs.replace(vm, status=msgspec.structs.replace(vm.status, phase="Stopped")))])
    claims = {claim.name for claim in (await list_resources(store, Claim, ""))[0]}
    assert {"ip.default.10.9.0.3", f"mac.{added.status.addresses[1].mac}"} <= claims
    removed = await patch(intents, {"extra_networks": []})
    assert removed.status.addresses == web.status.addresses
    assert len((await list_resources(store, Claim, ""))[0]) == 2


async def test_what_is_being_deleted_is_not_changed(intents: Intents, web: VM) -> None:
    await intents.vms.delete("web")
    for ask in (patch(intents, {"memory_mb": 64}), intents.configuration.rollback("web", 1)):
        with pytest.raises(WrongState):
            await ask
    assert len(await intents.configuration.history("web")) == 1


async def test_force_is_asked_for_and_forgotten_by_a_start(intents: Intents, web: VM) -> None:
    assert (await intents.vms.stop("web", force=True)).spec.force_stop
    assert (await intents.vms.stop("web")).spec.force_stop, "asking politely afterwards takes nothing back"
    assert not (await intents.vms.start("web")).spec.force_stop
    first = await intents.vms.delete("web")
    assert not first.spec.force_stop
    forced = await intents.vms.delete("web", force=True)
    assert forced.spec.force_stop and forced.meta.deleting_at == first.meta.deleting_at
    assert (await intents.vms.delete("web", force=True)).revision == forced.revision
