from __future__ import annotations

import asyncio
from typing import Any

import pytest

from volant.core.errors import (
    AlreadyExists,
    Exhausted,
    InvalidInput,
    NotFound,
    StaleRevision,
    TimedOut,
    VolantError,
    WrongState,
)
from volant.core.resource import Wanted
from volant.core.vm import VM, VMSpec
from volant.intent import Intents
from volant.store.contract import Store

from .conftest import make_manifest


def want(name: str = "web", **spec: Any) -> Wanted[VMSpec]:
    return Wanted(name=name, labels={}, spec=VMSpec(plugin="nginx", **spec))


@pytest.fixture
async def installed(intents: Intents) -> Intents:
    await intents.plugins.install(make_manifest())
    return intents


async def test_a_vm_gets_the_manifests_sizes_and_an_address(installed: Intents) -> None:
    vm = await installed.vms.create(want())
    assert (vm.spec.cpu_cores, vm.spec.memory_mb) == (1, 128)
    assert [address.ip for address in vm.status.addresses] == ["10.9.0.2"]
    assert vm.status.addresses[0].mac.startswith("02:")
    assert await installed.vms.get("web") == vm


async def test_sizes_that_are_asked_for_win(installed: Intents) -> None:
    vm = await installed.vms.create(want(cpu_cores=2, memory_mb=512))
    assert (vm.spec.cpu_cores, vm.spec.memory_mb) == (2, 512)


@pytest.mark.parametrize(
    ("wanted", "field"),
    [
        (want("Web"), "name"),
        (want("../etc"), "name"),
        (want("x" * 64), "name"),
        (want(""), "name"),
        (want(memory_mb=4096), "memory_mb"),
        (want(cpu_cores=64), "cpu_cores"),
        (want(env={"A=B": "c"}), "env"),
        (want(env={"A": "\x00"}), "env"),
        (want(network="other"), "network"),
        (Wanted(name="web", labels={}, spec=VMSpec(plugin="nothing")), "plugin"),
    ],
)
async def test_what_cannot_be_right_changes_nothing(installed: Intents, store: Store, wanted: Wanted[VMSpec], field: str) -> None:
    before = (await store.list("VM")).revision
    with pytest.raises(InvalidInput) as raised:
        await installed.vms.create(wanted)
    assert raised.value.field == field
    assert (await store.list("VM")).revision == before


async def test_of_two_creates_with_one_name_one_wins(installed: Intents, store: Store) -> None:
    results = await asyncio.gather(*(installed.vms.create(want()) for _ in range(5)), return_exceptions=True)
    assert sum(isinstance(result, VM) for result in results) == 1
    assert all(isinstance(result, (VM, AlreadyExists)) for result in results)
    assert len((await store.list("Claim")).items) == 2, "the losers claimed nothing"


async def test_the_pool_ends_with_a_clear_error(installed: Intents, store: Store) -> None:
    results = await asyncio.gather(*(installed.vms.create(want(f"vm-{i}")) for i in range(7)), return_exceptions=True)
    made = [result for result in results if isinstance(result, VM)]
    assert len(made) == 5, "a /29 has six hosts, and one is the gateway"
    assert len({vm.status.addresses[0].ip for vm in made}) == 5
    assert [type(result) for result in results if not isinstance(result, VM)] == [Exhausted, Exhausted]


async def test_a_disabled_plugin_makes_no_vm(intents: Intents) -> None:
    await intents.plugins.install(make_manifest(enabled=False))
    with pytest.raises(WrongState):
        await intents.vms.create(want())


async def test_power_changes_the_generation_once(installed: Intents) -> None:
    vm = await installed.vms.create(want())
    stopped = await installed.vms.stop("web")
    again = await installed.vms.stop("web")
    assert (stopped.spec.power, stopped.meta.generation) == ("stopped", vm.meta.generation + 1)
    assert again.meta.generation == stopped.meta.generation
    started = await installed.vms.start("web")
    assert (started.spec.power, started.spec.restart_token) == ("running", 1)
    assert (await installed.vms.start("web")).revision == started.revision, "it runs already"
    assert (await installed.vms.restart("web")).spec.restart_token == 2


async def test_a_stale_precondition_is_refused(installed: Intents) -> None:
    vm = await installed.vms.create(want())
    with pytest.raises(StaleRevision):
        await installed.vms.stop("web", expected_generation=vm.meta.generation + 1)
    assert (await installed.vms.get("web")).spec.power == "running"


async def test_deleting_marks_once_and_refuses_changes(installed: Intents) -> None:
    await installed.vms.create(want())
    first = await installed.vms.delete("web")
    assert (await installed.vms.delete("web")).revision == first.revision
    with pytest.raises(WrongState):
        await installed.vms.start("web")
    with pytest.raises(NotFound):
        await installed.vms.delete("web", uid="0" * 32)


async def test_waiting_says_where_it_stands(installed: Intents) -> None:
    vm = await installed.vms.create(want())
    with pytest.raises(TimedOut, match=r"not ready after 0\.01 s: Pending, waiting for Scheduled"):
        await installed.vms.wait(vm, "ready", timeout_s=0.01)


async def test_watching_shows_each_change_and_the_end(installed: Intents, store: Store) -> None:
    await installed.vms.create(want())
    seen: list[str] = []
    async for vm in installed.vms.watch("web"):
        if vm is None:
            seen.append("gone")
        elif vm.deleting:
            from volant.store.records import delete_of

            seen.append("deleting")
            await store.transact([delete_of(vm)])
        else:
            seen.append(vm.spec.power)
            await (installed.vms.stop("web") if vm.spec.power == "running" else installed.vms.delete("web"))
    assert seen == ["running", "stopped", "deleting", "gone"]


async def test_unknown_names_are_not_found(installed: Intents) -> None:
    for ask in (installed.vms.get, installed.vms.start, installed.vms.stop, installed.vms.restart, installed.vms.delete):
        with pytest.raises(NotFound):
            await ask("nothing")


async def test_drain_stops_every_vm_and_lets_nothing_start(installed: Intents) -> None:
    for name in ("a", "b"):
        await installed.vms.create(want(name))
    await installed.vms.stop("a")
    assert await installed.system.drain() == 1
    assert {vm.spec.power for vm in (await installed.vms.list())[0]} == {"stopped"}
    assert (await installed.nodes.get("here")).spec.unschedulable


async def test_errors_carry_a_hint(installed: Intents) -> None:
    with pytest.raises(VolantError) as raised:
        await installed.vms.get("nothing")
    assert raised.value.hint


async def test_a_guest_without_an_agent_gets_no_environment_and_no_sleep(intents: Intents) -> None:
    manifest = make_manifest(agent="none")
    manifest["initramfs"] = manifest.pop("rootfs")
    await intents.plugins.install(manifest)
    for spec, field in (({"env": {"A": "b"}}, "env"), ({"auto_suspend_s": 5}, "auto_suspend_s")):
        with pytest.raises(InvalidInput) as refused:
            await intents.vms.create(want(**spec))
        assert refused.value.field == field
    await intents.vms.create(want())
    with pytest.raises(WrongState, match="cannot be suspended: its guest has no agent"):
        await intents.vms.suspend("web")
    assert (await intents.vms.get("web")).spec.power == "running"


async def test_labels_of_volants_own_are_kept_for_it_but_those_of_a_run(installed: Intents) -> None:
    await installed.vms.create(
        Wanted(name="run", labels={"volant.run": "yes", "volant.run-by": "me:1"}, spec=VMSpec(plugin="nginx"))
    )
    with pytest.raises(InvalidInput) as refused:
        await installed.vms.create(Wanted(name="web-0", labels={"volant.deployment": "web"}, spec=VMSpec(plugin="nginx")))
    assert refused.value.field == "labels"
