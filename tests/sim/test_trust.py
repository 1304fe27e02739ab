"""The trust policy on the real control plane: what it lets in, what it lets start, and what becomes of the rest."""

from __future__ import annotations

import asyncio
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import minisign
import msgspec
import pytest

from volant.artifact.signature import Statement, sign_content
from volant.core.condition import find_condition, is_true
from volant.core.errors import Untrusted
from volant.core.plugin import READY, Plugin
from volant.core.trust import TRUSTED, SignedManifest
from volant.core.vm import VM
from volant.intent.follow import follow_resource
from volant.plane import ControlPlane
from volant.reconcile import plugin as plugin_controller
from volant.reconcile import vm_begin
from volant.store.records import key_of

from .host import LIMIT_S, World, reach, reach_gone, want
from .test_fast_starts import wait_pool

ACME = minisign.KeyPair.generate()


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vm_begin, "TRUST_POLL_S", 0.1)
    monkeypatch.setattr(plugin_controller, "TRUST_POLL_S", 0.1)


@pytest.fixture
def key(world: World) -> Path:
    """The file of the one trusted key, under ``enforce``."""
    directory = world.root / "trust"
    directory.mkdir()
    path = directory / "acme.pub"
    path.write_bytes(bytes(ACME.public_key))
    set_policy(world, "enforce")
    return path


def set_policy(world: World, policy: str) -> None:
    world.config = msgspec.structs.replace(world.config, trust_policy=policy, trust_keys=str(world.root / "trust"))


def put(key: Path) -> None:
    key.write_bytes(bytes(ACME.public_key))


def take_away(key: Path) -> None:
    key.unlink()


def sign(manifest: dict[str, Any]) -> SignedManifest:
    content = json.dumps(manifest, indent=2)
    digest = hashlib.sha256(content.encode()).hexdigest()
    statement = Statement(file="manifest.json", sha256=digest, name=manifest["name"], version=manifest["version"])
    return SignedManifest(manifest=content, signature=sign_content(content.encode(), ACME.secret_key, statement).decode())


async def install(world: World, plane: ControlPlane) -> Plugin:
    plugin, _ = await plane.intents.plugins.install(world.manifest(), sign(world.manifest()))
    return plugin


async def reach_plugin(plane: ControlPlane, satisfied: Callable[[Plugin], bool]) -> Plugin:
    plugin = await plane.intents.plugins.get("nginx")
    async with asyncio.timeout(LIMIT_S):
        async for current in follow_resource(plane.store, Plugin, key_of(plugin), plugin.uid):
            if current is not None and satisfied(current):
                return current
    raise AssertionError("the plugin was removed")


async def events_of(plane: ControlPlane, name: str) -> list[Any]:
    return [event.spec for event in (await plane.intents.events.list(about_name=name))[0] if event.spec.reason == "Untrusted"]


def is_ready(vm: VM) -> bool:
    return vm.status.ready


def is_refused(vm: VM) -> bool:
    return vm.status.reason == "Untrusted"


async def test_what_is_not_signed_is_not_installed(world: World, key: Path) -> None:
    async with world.plane() as (plane, _):
        with pytest.raises(Untrusted, match="'nginx' is not trusted here: it is not signed") as raised:
            await plane.intents.plugins.install(world.manifest())
        assert raised.value.hint is not None and "fledge sign" in raised.value.hint
        changed = msgspec.structs.replace(sign(world.manifest()), signature=sign(world.manifest("other")).signature)
        with pytest.raises(Untrusted, match="was changed after acme signed it"):
            await plane.intents.plugins.install(world.manifest(), changed)
        assert (await plane.intents.plugins.list())[0] == []


async def test_what_is_signed_starts_and_says_by_whom(world: World, key: Path) -> None:
    async with world.plane() as (plane, _):
        await install(world, plane)
        await plane.intents.vms.create(want("web"))
        await reach(plane, "web", is_ready)
        plugin = await reach_plugin(plane, lambda plugin: plugin.status.trust is not None)
        assert plugin.status.trust is not None and plugin.status.trust.publisher == "acme"
        assert is_true(plugin.status.conditions, TRUSTED) and is_true(plugin.status.conditions, READY)
        assert await events_of(plane, "nginx") == []


async def test_without_its_key_what_runs_goes_on_and_nothing_starts_until_it_is_back(world: World, key: Path) -> None:
    async with world.plane() as (plane, _):
        await install(world, plane)
        await plane.intents.vms.create(want("web"))
        running = await reach(plane, "web", is_ready)
        take_away(key)
        plugin = await reach_plugin(plane, lambda plugin: plugin.status.phase == "Failed")
        assert (plugin.status.reason, is_true(plugin.status.conditions, READY)) == ("Untrusted", False)
        assert (await plane.intents.vms.get("web")).status == running.status
        await plane.intents.vms.restart("web")
        refused = await reach(plane, "web", is_refused)
        assert (refused.status.phase, refused.status.ready) == ("Failed", False)
        assert "its plugin 'nginx' is not trusted: key " in refused.status.message and "acme.pub" not in refused.status.message
        ready = find_condition(refused.status.conditions, READY)
        assert ready is not None and (ready.status, ready.reason) == ("False", "Untrusted")
        assert not world.host.running
        await plane.intents.vms.create(want("web2"))
        await reach(plane, "web2", is_refused)
        with pytest.raises(Untrusted):
            await plane.desk.build_template("nginx", cpu_cores=None, memory_mb=None)
        await asyncio.sleep(0.5)  # several looks later
        (event,) = await events_of(plane, "web")
        assert (event.type, event.count) == ("Warning", 1), "it is told once"
        put(key)
        for name in ("web", "web2"):
            assert (await reach(plane, name, is_ready)).status.failures == 0
        await reach_plugin(plane, lambda plugin: plugin.status.phase == "Ready")


async def test_a_refused_vm_can_be_stopped_and_deleted(world: World, key: Path) -> None:
    async with world.plane() as (plane, _):
        await install(world, plane)
        await reach_plugin(plane, lambda plugin: plugin.status.phase == "Ready")
        take_away(key)
        await plane.intents.vms.create(want("web"))
        await reach(plane, "web", is_refused)
        await plane.intents.vms.stop("web")
        await reach(plane, "web", lambda vm: vm.status.phase == "Stopped")
        await plane.intents.vms.delete("web")
        await reach_gone(plane, "web")


async def test_a_policy_that_comes_later_touches_nothing_that_runs(world: World) -> None:
    async with world.plane() as (plane, _):
        plugin, _ = await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web"))
        before = await reach(plane, "web", is_ready)
        plugin = await reach_plugin(plane, lambda plugin: plugin.status.phase == "Ready")
        assert (plugin.status.trust, find_condition(plugin.status.conditions, TRUSTED)) == (None, None)
    (world.root / "trust").mkdir()
    put(world.root / "trust" / "acme.pub")
    set_policy(world, "enforce")
    async with world.plane() as (plane, _):
        await reach_plugin(plane, lambda plugin: plugin.status.reason == "Untrusted")
        assert (await plane.intents.vms.get("web")).status.pid == before.status.pid
        await plane.intents.vms.restart("web")
        await reach(plane, "web", is_refused)
        # Its publisher signs the very same manifest, and nothing has to be removed for that.
        again, created = await plane.intents.plugins.install(world.manifest(), sign(world.manifest()))
        assert (again.uid, created, again.meta.generation) == (plugin.uid, False, 2)
        await reach(plane, "web", is_ready)
    set_policy(world, "off")
    async with world.plane() as (plane, _):
        plugin = await reach_plugin(plane, lambda plugin: find_condition(plugin.status.conditions, TRUSTED) is None)
        assert plugin.status.trust is not None and plugin.status.trust.publisher == "acme", "who signed it is still to be seen"


async def test_a_warning_is_one_event_and_a_condition(world: World, key: Path) -> None:
    set_policy(world, "warn")
    async with world.plane() as (plane, _):
        await plane.intents.plugins.install(world.manifest())
        await plane.intents.vms.create(want("web"))
        await reach(plane, "web", is_ready)
        plugin = await reach_plugin(plane, lambda plugin: plugin.status.trust is not None)
        await asyncio.sleep(0.5)  # several looks later
        (event,) = await events_of(plane, "nginx")
        assert (event.count, event.type) == (1, "Warning") and event.message.startswith(
            "it is not signed (sign it with a key that "
        )
        condition = find_condition(plugin.status.conditions, TRUSTED)
        assert condition is not None and (condition.status, condition.reason) == ("False", "NotSigned")
        assert (plugin.status.phase, plugin.status.message) == ("Ready", "it is not signed")
        assert await events_of(plane, "web") == []


async def test_what_sleeps_is_not_woken_and_not_lost(world: World, key: Path) -> None:
    async with world.plane() as (plane, _):
        await install(world, plane)
        await plane.intents.vms.create(want("web"))
        await reach(plane, "web", is_ready)
        await plane.intents.vms.suspend("web")
        await reach(plane, "web", lambda vm: vm.status.phase == "Suspended")
        take_away(key)
        await plane.intents.vms.start("web")
        await reach(plane, "web", is_refused)
        assert not world.host.running
        put(key)
        woken = await reach(plane, "web", is_ready)
        assert woken.status.start is not None and woken.status.start.kind == "resume"


async def test_clones_of_a_pool_are_given_up(world: World, key: Path) -> None:
    async with world.plane() as (plane, _):
        plane.pool_controller.free_share = lambda: 0.9
        await install(world, plane)
        await plane.intents.plugins.set_pool("nginx", 2)
        await wait_pool(plane, 2)
        take_away(key)
        await wait_pool(plane, 0)
        plugin = await reach_plugin(plane, lambda plugin: plugin.status.pool.message != "")
        assert plugin.status.pool.message == "the plugin is not trusted"
        put(key)
        await wait_pool(plane, 2)
        await plane.intents.plugins.set_pool("nginx", 0)
        await wait_pool(plane, 0)


@pytest.mark.parametrize("then", ["trusted", "deleted"])
async def test_a_clone_that_was_taken_does_not_run_before_its_plugin_is_trusted(
    world: World, key: Path, then: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # So long that nobody but the start itself notices that the key is gone.
    monkeypatch.setattr(plugin_controller, "TRUST_POLL_S", 3600.0)
    async with world.plane() as (plane, _):
        plane.pool_controller.free_share = lambda: 0.9
        await install(world, plane)
        await plane.intents.plugins.set_pool("nginx", 1)
        await wait_pool(plane, 1)
        parked = set(world.host.running)
        take_away(key)
        vm = await plane.intents.vms.create(want("web"))
        assert vm.uid in parked
        await reach(plane, "web", is_refused)
        process = world.host.find(vm.uid)
        assert process is not None and process.is_paused
        if then == "trusted":
            put(key)
            started = await reach(plane, "web", is_ready)
            assert started.status.start is not None and started.status.start.kind == "pool"
        await plane.intents.plugins.set_pool("nginx", 0)
        await plane.intents.vms.delete("web")
        await reach_gone(plane, "web")
        assert vm.uid not in world.host.running
        await wait_pool(plane, 0)
