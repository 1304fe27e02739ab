"""The API over the real intents and the real store: what the fakes of the other tests stand for."""

from __future__ import annotations

import asyncio
import hashlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from volant.api.app import build_app
from volant.api.server import serve
from volant.artifact.trust import Trust
from volant.auth.peer import PeerPolicy
from volant.client.client import Client
from volant.core.clock import HostClock
from volant.core.errors import AlreadyExists, InUse, InvalidInput, NotFound, PreconditionFailed, WrongState
from volant.core.ids import new_uid
from volant.core.network import NetworkSpec
from volant.core.resource import Meta
from volant.core.snapshot import Snapshot
from volant.core.vm import VM, VMSpec, VMStatus
from volant.intent import (
    ConfigurationIntent,
    CronJobIntent,
    DeploymentIntent,
    DrainIntent,
    EventIntent,
    Intents,
    JobIntent,
    NetworkIntent,
    NodeIntent,
    PluginIntent,
    PoolIntent,
    QuotaIntent,
    SnapshotIntent,
    SystemIntent,
    VMIntent,
)
from volant.intent.bootstrap import ensure_default_network
from volant.store.records import create_of, find_resource, update_of
from volant.store.sqlite import SqliteStore, open_store

from .control_plane import FakeDoor

CONTENT = b"kernel"
DIGEST = "sha256:" + hashlib.sha256(CONTENT).hexdigest()
MANIFEST = {
    "schema_version": "v1",
    "name": "job",
    "version": "1.0",
    "workload": {"type": "exec", "entrypoint": ["/bin/job"]},
    "boot": {"kernel": {"url": "kernel", "checksum": DIGEST}},
    "initramfs": {"url": "initramfs", "checksum": DIGEST},
}


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    async with open_store(tmp_path / "volant.db", HostClock()) as opened:
        yield opened


@pytest.fixture
async def client(store: SqliteStore, tmp_path: Path) -> AsyncIterator[Client]:
    clock, door = HostClock(), FakeDoor()
    door.artifacts[DIGEST] = CONTENT
    await ensure_default_network(store, clock, NetworkSpec())
    vms = VMIntent(store, clock)
    plugins = PluginIntent(store, clock, door.artifact_size, Trust("off", tmp_path / "trust"))
    jobs = JobIntent(store, clock, vms)
    intents = Intents(
        vms=vms,
        plugins=plugins,
        events=EventIntent(store),
        system=SystemIntent(store, vms, plugins, NodeIntent(store, clock)),
        snapshots=SnapshotIntent(store, clock, vms),
        pools=PoolIntent(store),
        configuration=ConfigurationIntent(clock, vms),
        networks=NetworkIntent(store, clock),
        nodes=NodeIntent(store, clock),
        drains=DrainIntent(store, clock, NodeIntent(store, clock), vms),
        quotas=QuotaIntent(store, clock),
        jobs=jobs,
        cron_jobs=CronJobIntent(store, clock, jobs),
        deployments=DeploymentIntent(store, clock, vms),
    )
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "v.sock"))
    listening.listen()
    ready = asyncio.Event()
    app = build_app(intents, door, "0", policy=PeerPolicy(own_uid=0))  # type: ignore[arg-type]  # scripted, not typed
    serving = asyncio.create_task(serve(app, [listening], on_listening=ready.set))
    await ready.wait()
    yield Client(f"unix://{tmp_path}/v.sock")
    serving.cancel()
    await asyncio.wait({serving})


async def test_a_vm_lives_and_goes(client: Client, store: SqliteStore) -> None:
    def write_down() -> VM:
        client.plugins.install(MANIFEST)
        with pytest.raises(InvalidInput, match="absent"):
            client.vms.create({"name": "web", "plugin": "absent"})
        vm = client.vms.create({"name": "web", "plugin": "job", "labels": {"tier": "web"}})
        with pytest.raises(AlreadyExists):
            client.vms.create({"name": "web", "plugin": "job"})
        assert [one.name for one in client.vms.list({"tier": "web"})] == ["web"]
        with pytest.raises(InUse):
            client.plugins.remove("job")
        return vm

    vm = await asyncio.to_thread(write_down)
    assert (vm.spec.memory_mb, vm.status.phase) == (256, "Pending")

    def stop_and_delete() -> None:
        assert client.vms.stop("web", generation=1).spec.power == "stopped"
        with pytest.raises(PreconditionFailed):
            client.vms.start("web", generation=1)
        assert client.system.drain() == 0
        assert client.system.summary()["vms"] == 1
        going = client.vms.delete("web")
        assert going is not None
        assert going.deleting

    await asyncio.to_thread(stop_and_delete)
    states = client.vms.watch("web")
    watched = await asyncio.to_thread(next, states)
    assert watched is not None
    found = await find_resource(store, VM, "default", "web")
    assert found is not None
    changed = msgspec.structs.replace(found, status=msgspec.structs.replace(found.status, phase="Deleting"))
    await store.transact([update_of(changed)])
    after = await asyncio.to_thread(next, states)
    assert after is not None
    assert after.status.phase == "Deleting"
    states.close()


async def test_events_and_absences(client: Client) -> None:
    def look() -> None:
        assert client.events.list()[0] == []
        with pytest.raises(NotFound):
            next(client.vms.watch("absent"))
        with pytest.raises(NotFound):
            client.plugins.get("absent")

    await asyncio.to_thread(look)


async def test_a_vm_sleeps_and_goes_back_to_its_snapshot(client: Client, store: SqliteStore) -> None:
    def ask() -> None:
        client.plugins.install(MANIFEST)
        with pytest.raises(InvalidInput, match="suspended") as refused:
            client.vms.create({"name": "web", "plugin": "job", "power": "suspended"})
        assert refused.value.field == "power"
        client.vms.create({"name": "web", "plugin": "job", "ports": [{"host_port": 8080, "port": 80}], "auto_suspend_s": 300})
        assert client.vms.suspend("web", generation=1).spec.power == "suspended"
        assert client.vms.resume("web").spec.power == "running"
        with pytest.raises(PreconditionFailed):
            client.vms.suspend("web", generation=1)
        taken = client.snapshots.create("before", "web")
        assert (taken.spec.vm, taken.spec.memory, taken.status.phase) == ("web", True, "Pending")
        with pytest.raises(WrongState, match="pending"):
            client.vms.restore("web", "before")
        with pytest.raises(InvalidInput, match="no snapshot"):
            client.vms.create({"name": "web2", "plugin": "job", "snapshot": "absent"})

    await asyncio.to_thread(ask)
    found = await find_resource(store, Snapshot, "default", "before")
    vm = await find_resource(store, VM, "default", "web")
    assert found is not None
    assert vm is not None
    status = msgspec.structs.replace(
        found.status, phase="Ready", vm_uid=vm.uid, plugin="job", cpu_cores=1, memory_mb=256, disk_mb=1024
    )
    await store.transact([update_of(msgspec.structs.replace(found, status=status))])

    def go_back() -> None:
        restored = client.vms.restore("web", "before")
        assert (restored.spec.snapshot, restored.spec.snapshot_token) == ("before", 1)
        made = client.vms.create({"name": "web2", "plugin": "job", "snapshot": "before", "ports": []})
        assert (made.spec.snapshot, made.spec.memory_mb) == ("before", 256)
        with pytest.raises(InUse, match="web"):
            client.snapshots.delete("before")
        assert [one.name for one in client.snapshots.list()] == ["before"]

    await asyncio.to_thread(go_back)


async def test_pools_count_the_clones_that_are_parked(client: Client, store: SqliteStore) -> None:
    def keep_two() -> None:
        client.plugins.install(MANIFEST)
        assert client.pools.list() == []
        assert client.pools.set("job", 2).wanted_pool == 2

    await asyncio.to_thread(keep_two)
    for number, phase in enumerate(("Parked", "Starting")):
        meta = Meta(name=f"job.{number}", uid=new_uid())
        spec = VMSpec(plugin="job", power="parked", memory_mb=64)
        await store.transact([create_of(VM(meta=meta, spec=spec, status=VMStatus(phase=phase)))])  # type: ignore[arg-type]

    def look() -> None:
        expected = {"plugin": "job", "wanted": 2, "parked": 1, "reserved_mb": 128, "message": ""}
        assert client.pools.list() == [expected]
        assert client.vms.list() == []
        client.pools.set("job", None)
        # They are still there, and still cost what they cost.
        assert client.pools.list() == [{**expected, "wanted": 0}]

    await asyncio.to_thread(look)


async def test_networks_are_made_listed_and_removed(client: Client) -> None:
    made = await asyncio.to_thread(client.networks.create, "backend", subnet="10.20.0.0/24")
    assert (made.spec.bridge, made.status.phase) == ("vbr-backend", "Pending")
    assert [each.name for each in await asyncio.to_thread(client.networks.list)] == ["backend", "default"]
    assert await asyncio.to_thread(client.networks.get, "backend") == made
    with pytest.raises(InvalidInput) as caught:
        await asyncio.to_thread(client.networks.create, "other", subnet="10.20.0.0/16")
    assert caught.value.field == "subnet"
    going = await asyncio.to_thread(client.networks.delete, "backend")
    assert going is not None and going.deleting
    with pytest.raises(WrongState):
        await asyncio.to_thread(client.networks.delete, "default")
