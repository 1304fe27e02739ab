from __future__ import annotations

from typing import Any

import pytest

from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound
from volant.core.ids import new_uid
from volant.core.resource import Meta, Wanted
from volant.core.snapshot import Snapshot, SnapshotSpec, SnapshotStatus
from volant.core.vm import VMSpec
from volant.intent import Intents
from volant.store.contract import Store
from volant.store.records import create_of

from .conftest import DIGEST, MISSING, make_manifest


async def test_installing_twice_is_one_plugin(intents: Intents) -> None:
    plugin, created = await intents.plugins.install(make_manifest())
    again, created_again = await intents.plugins.install(make_manifest())
    assert (created, created_again) == (True, False)
    assert again.uid == plugin.uid


async def test_another_content_under_the_same_version_is_refused(intents: Intents) -> None:
    await intents.plugins.install(make_manifest())
    with pytest.raises(AlreadyExists, match=r"installed already \(version 1\.0\)"):
        await intents.plugins.install(make_manifest(resources={"cpu_cores": 2, "memory_mb": 128}))


async def test_where_files_lay_is_not_kept(intents: Intents) -> None:
    manifest = make_manifest()
    manifest["rootfs"] = {"url": "file:///home/somebody/rootfs.erofs", "checksum": DIGEST}
    plugin, _ = await intents.plugins.install(manifest)
    assert plugin.spec.manifest["rootfs"]["url"] == f"artifact:{DIGEST}"
    assert "somebody" not in str(plugin.spec.manifest)


def without(key: str) -> dict[str, Any]:
    manifest = make_manifest()
    del manifest[key]
    return manifest


@pytest.mark.parametrize(
    ("manifest", "field"),
    [
        (without("boot"), "boot.kernel"),
        (without("rootfs"), "rootfs"),
        (without("name"), None),
        (make_manifest(name="No"), "name"),
        (make_manifest(schema_version="v9"), "schema_version"),
        (make_manifest(surprise=1), None),
        (make_manifest(rootfs={"url": "x", "checksum": ""}), "rootfs.checksum"),
        (make_manifest(rootfs={"url": "x", "checksum": "md5:1"}), "rootfs.checksum"),
        (make_manifest(rootfs={"url": "x", "checksum": MISSING}), "rootfs"),
        (make_manifest(workload={"type": "http", "base_url": "http://127.0.0.1", "entrypoint": []}), "workload.entrypoint"),
        (make_manifest(workload={"type": "http", "entrypoint": ["x"]}), "workload.base_url"),
        (make_manifest(workload={"type": "exec", "entrypoint": ["x"], "stop_signal": "SIGWHAT"}), "workload.stop_signal"),
        (make_manifest(health_check={"endpoint": "no-slash"}), "health_check.endpoint"),
        ([], None),
        ("text", None),
    ],
)
async def test_what_cannot_be_installed_says_which_field(intents: Intents, manifest: object, field: str | None) -> None:
    with pytest.raises(InvalidInput) as raised:
        await intents.plugins.install(manifest)
    assert raised.value.field == field
    assert (await intents.plugins.list())[0] == []


async def test_a_plugin_in_use_stays(intents: Intents) -> None:
    await intents.plugins.install(make_manifest())
    await intents.vms.create(Wanted(name="web", labels={}, spec=VMSpec(plugin="nginx")))
    with pytest.raises(InUse, match="needed by the VMs web"):
        await intents.plugins.remove("nginx")
    assert not (await intents.plugins.get("nginx")).deleting


async def test_a_plugin_that_snapshots_stand_on_stays(intents: Intents, store: Store) -> None:
    await intents.plugins.install(make_manifest())
    meta = Meta(name="before", uid=new_uid(), project="default", created_at="2026-01-01T00:00:00Z")
    snapshot = Snapshot(meta=meta, spec=SnapshotSpec(vm="web"), status=SnapshotStatus(phase="Ready", plugin="nginx"))
    await store.transact([create_of(snapshot)])
    with pytest.raises(InUse, match="needed by the snapshots before"):
        await intents.plugins.remove("nginx")
    assert not (await intents.plugins.get("nginx")).deleting


async def test_removing_marks_it_and_no_vm_is_made_from_it_any_more(intents: Intents) -> None:
    await intents.plugins.install(make_manifest())
    assert (await intents.plugins.remove("nginx")).deleting
    with pytest.raises(InvalidInput):
        await intents.vms.create(Wanted(name="web", labels={}, spec=VMSpec(plugin="nginx")))
    with pytest.raises(NotFound):
        await intents.plugins.remove("other")
