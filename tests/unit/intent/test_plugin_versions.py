"""Versions of a plugin side by side: what the name means, what VMs stay on, what may go."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from volant.core.errors import AlreadyExists, Exhausted, InUse, InvalidInput, NotFound, WrongState
from volant.core.ids import new_uid
from volant.core.plugin import Plugin
from volant.core.plugin_versions import MAX_VERSIONS
from volant.core.resource import Meta, Wanted
from volant.core.snapshot import Snapshot, SnapshotSpec, SnapshotStatus
from volant.core.vm import VM, VMSpec
from volant.intent import Intents
from volant.intent.bootstrap import note_plugin_versions
from volant.intent.plugins import InstallHow
from volant.store.contract import Store, Update
from volant.store.plugins import find_plugin_of
from volant.store.records import create_of, find_resource, list_resources

from .conftest import make_manifest

BESIDE = InstallHow(as_default=False)
REPLACE = InstallHow(replace=True)


async def install(intents: Intents, version: str, how: InstallHow | None = None, **changes: Any) -> Plugin:
    plugin, _ = await intents.plugins.install(make_manifest(version=version, **changes), how=how or InstallHow())
    return plugin


async def create(intents: Intents, name: str, plugin: str = "nginx", **spec: Any) -> VM:
    return await intents.vms.create(Wanted(name=name, labels={}, spec=VMSpec(plugin=plugin, **spec)))


async def installed(intents: Intents) -> list[str]:
    return [one.name + "=" + one.spec.version for one in await intents.plugins.versions.list("nginx")]


async def test_a_second_version_becomes_what_the_name_means_and_the_first_stays(intents: Intents) -> None:
    first = await install(intents, "1.0")
    second = await install(intents, "2.0")
    assert (second.name, second.spec.version) == ("nginx", "2.0")
    old = await intents.plugins.get("nginx@1.0")
    assert (old.name, old.spec.version, old.uid) == ("nginx@1.0", "1.0", first.uid)
    assert (await intents.plugins.get("nginx@2.0")).uid == (await intents.plugins.get("nginx")).uid == second.uid
    assert [one.name for one in (await intents.plugins.list())[0]] == ["nginx"]


async def test_a_version_beside_the_default(intents: Intents) -> None:
    await install(intents, "1.0")
    beside = await install(intents, "2.0", BESIDE)
    assert beside.name == "nginx@2.0"
    assert (await intents.plugins.get("nginx")).spec.version == "1.0"


async def test_the_only_version_is_the_default_whatever_was_asked(intents: Intents) -> None:
    assert (await install(intents, "1.0", BESIDE)).name == "nginx"


async def test_a_vm_stays_on_its_version_whatever_becomes_the_default(intents: Intents, store: Store) -> None:
    await install(intents, "1.0", resources={"cpu_cores": 1, "memory_mb": 64})
    vm = await create(intents, "web")
    await install(intents, "2.0")
    pinned = await create(intents, "pinned", "nginx@1.0")
    newer = await create(intents, "newer")
    assert [one.status.plugin_version for one in (vm, pinned, newer)] == ["1.0", "1.0", "2.0"]
    assert pinned.spec.memory_mb == 64
    assert pinned.spec.plugin == "nginx@1.0"
    for one in (vm, pinned, newer):
        found = await find_plugin_of(store, one)
        assert found is not None and found.spec.version == one.status.plugin_version
        assert found.uid == one.status.plugin_uid
    await intents.plugins.versions.set_default("nginx", "1.0")
    assert (await intents.plugins.get_of(newer)).name == "nginx@2.0"
    assert (await intents.plugins.get_of(vm)).name == "nginx"


async def test_rolling_back_goes_further_each_time(intents: Intents) -> None:
    for version in ("1.0", "2.0", "3.0"):
        await install(intents, version)
    assert (await intents.plugins.versions.roll_back("nginx")).spec.version == "2.0"
    assert (await intents.plugins.versions.roll_back("nginx")).spec.version == "1.0"
    with pytest.raises(WrongState, match="no other default before"):
        await intents.plugins.versions.roll_back("nginx")
    assert sorted(await installed(intents)) == ["nginx=1.0", "nginx@2.0=2.0", "nginx@3.0=3.0"]


async def test_rolling_back_passes_over_what_was_removed(intents: Intents, store: Store) -> None:
    for version in ("1.0", "2.0", "3.0"):
        await install(intents, version)
    gone = await intents.plugins.remove("nginx@2.0")
    assert gone.deleting
    assert (await intents.plugins.versions.roll_back("nginx")).spec.version == "1.0"


async def test_a_default_has_to_be_installed(intents: Intents) -> None:
    await install(intents, "1.0")
    with pytest.raises(NotFound, match=r"'2\.0' of the plugin 'nginx' is not installed"):
        await intents.plugins.versions.set_default("nginx", "2.0")
    with pytest.raises(NotFound):
        await intents.plugins.versions.set_default("absent", "1.0")


async def test_installing_what_is_there_does_not_change_the_default(intents: Intents) -> None:
    await install(intents, "1.0")
    await install(intents, "2.0")
    again, created = await intents.plugins.install(make_manifest(version="1.0"))
    assert (again.name, created) == ("nginx@1.0", False)
    assert (await intents.plugins.get("nginx")).spec.version == "2.0"


async def test_another_content_takes_the_place_of_an_unused_version(intents: Intents) -> None:
    before = await install(intents, "1.0")
    changed = {"cpu_cores": 2, "memory_mb": 128}
    with pytest.raises(AlreadyExists, match="it is another one"):
        await install(intents, "1.0", resources=changed)
    after = await install(intents, "1.0", REPLACE, resources=changed)
    assert after.uid != before.uid
    assert (await intents.plugins.get("nginx")).manifest.resources.cpu_cores == 2
    assert await installed(intents) == ["nginx=1.0"]


async def test_a_version_in_use_is_not_replaced(intents: Intents) -> None:
    await install(intents, "1.0")
    await create(intents, "web")
    await install(intents, "2.0")
    with pytest.raises(InUse, match=r"version 1\.0 .* the VMs web need it"):
        await install(intents, "1.0", REPLACE, resources={"cpu_cores": 2, "memory_mb": 128})


async def test_there_are_so_many_versions_and_no_more(intents: Intents) -> None:
    for i in range(MAX_VERSIONS):
        await install(intents, f"1.{i}")
    with pytest.raises(Exhausted):
        await install(intents, "2.0")
    assert len(await installed(intents)) == MAX_VERSIONS


async def test_what_is_disabled_makes_no_new_vms_at_once(intents: Intents) -> None:
    await install(intents, "1.0")
    vm = await create(intents, "web")
    await install(intents, "2.0")
    await intents.plugins.versions.set_enabled("nginx@2.0", False)
    with pytest.raises(WrongState, match="disabled"):
        await create(intents, "other")
    await create(intents, "older", "nginx@1.0")
    changed = await intents.plugins.versions.set_enabled("nginx", False)
    assert [one.spec.enabled for one in changed] == [False, False]
    with pytest.raises(WrongState, match="disabled"):
        await create(intents, "third", "nginx@1.0")
    # What there is may stop and start.
    await intents.vms.stop("web")
    assert (await intents.vms.start("web")).uid == vm.uid
    await intents.plugins.versions.set_enabled("nginx", True)
    await create(intents, "third")


async def test_one_version_goes_and_the_others_stay(intents: Intents) -> None:
    await install(intents, "1.0")
    await create(intents, "web")
    await install(intents, "2.0")
    with pytest.raises(InUse, match="needed by the VMs web"):
        await intents.plugins.remove("nginx@1.0")
    with pytest.raises(InUse, match="there are other versions"):
        await intents.plugins.remove("nginx@2.0")
    await intents.vms.delete("web")
    await install(intents, "3.0")
    assert (await intents.plugins.remove("nginx@2.0")).deleting
    assert not (await intents.plugins.get("nginx")).deleting


async def test_removing_a_plugin_is_removing_all_its_versions(intents: Intents) -> None:
    await install(intents, "1.0")
    await create(intents, "web")
    await install(intents, "2.0")
    with pytest.raises(InUse, match="needed by the VMs web"):
        await intents.plugins.remove("nginx")
    assert not any(one.deleting for one in await intents.plugins.versions.list("nginx"))


async def test_force_takes_what_needs_it_along(intents: Intents, store: Store) -> None:
    await install(intents, "1.0")
    await create(intents, "web")
    await install(intents, "2.0")
    await create(intents, "newer")
    meta = Meta(name="before", uid=new_uid(), project="default", created_at="2026-01-01T00:00:00Z")
    status = SnapshotStatus(phase="Ready", plugin="nginx", plugin_version="1.0")
    await store.transact([create_of(Snapshot(meta=meta, spec=SnapshotSpec(vm="web"), status=status))])
    users = await intents.plugins.removal.find_users("nginx@1.0")
    assert (users.vms, users.snapshots) == (("web",), ("before",))
    await intents.plugins.remove("nginx@1.0", force=True)
    assert (await intents.vms.get("web")).deleting
    assert (await intents.snapshots.get("before")).deleting
    assert not (await intents.vms.get("newer")).deleting


async def test_from_a_snapshot_it_is_the_version_of_then(intents: Intents, store: Store) -> None:
    await install(intents, "1.0")
    meta = Meta(name="before", uid=new_uid(), project="default", created_at="2026-01-01T00:00:00Z")
    status = SnapshotStatus(phase="Ready", plugin="nginx", plugin_version="1.0", cpu_cores=1, memory_mb=128, disk_mb=512)
    await store.transact([create_of(Snapshot(meta=meta, spec=SnapshotSpec(vm="web"), status=status))])
    await install(intents, "2.0")
    vm = await create(intents, "again", snapshot="before", ports=())
    assert vm.status.plugin_version == "1.0"


@pytest.mark.parametrize("reference", ["nginx@", "nginx@../etc", "Nginx", "nginx@1@2", "@1.0"])
async def test_what_names_no_plugin_is_refused(intents: Intents, reference: str) -> None:
    await install(intents, "1.0")
    with pytest.raises(InvalidInput):
        await intents.plugins.remove(reference)
    with pytest.raises(InvalidInput):
        await intents.plugins.versions.set_enabled(reference, False)


async def test_a_database_of_before_versions_is_read(intents: Intents, store: Store) -> None:
    """Records as the previous release wrote them: no ``previous`` in a plugin, no ``plugin_version`` in a VM or snapshot."""
    await install(intents, "1.0")
    vm = await create(intents, "web")
    meta = Meta(name="before", uid=new_uid(), project="default", created_at="2026-01-01T00:00:00Z")
    snapshot = Snapshot(meta=meta, spec=SnapshotSpec(vm="web"), status=SnapshotStatus(phase="Ready", plugin="nginx"))
    await store.transact([create_of(snapshot)])
    for kind, part, field in (("Plugin", "spec", "previous"), ("VM", "status", "plugin_version"),
                              ("Snapshot", "status", "plugin_version")):  # fmt: skip
        for stored in (await store.list(kind)).items:
            data = msgspec.json.decode(msgspec.json.encode(stored.data))
            del data[part][field]
            await store.transact([Update(stored.key, data)])
    before = await find_resource(store, VM, "default", "web")
    assert before is not None and before.status.plugin_version == ""

    await note_plugin_versions(store)
    await install(intents, "2.0")
    after = await intents.vms.get("web")
    assert after.status.plugin_version == "1.0"
    assert (await intents.plugins.get_of(after)).uid == vm.status.plugin_uid
    kept = await intents.snapshots.get("before")
    assert kept.status.plugin_version == "1.0"
    revision = (await list_resources(store, VM))[1]
    await note_plugin_versions(store)
    assert (await list_resources(store, VM))[1] == revision
