"""Deployments that are asked for: what is written down with each, and what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec import to_builtins

from volant.core.claim import Claim
from volant.core.deployment import (
    DEPLOYMENT_LABEL,
    FINALIZER,
    REVISION_LABEL,
    Deployment,
    DeploymentRevision,
    DeploymentSpec,
    Rollout,
)
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, StaleRevision, WrongState
from volant.core.patch import merge_patch
from volant.core.resource import Wanted, from_wire, to_wire
from volant.core.vm import VM, VMSpec
from volant.core.vm_revision import Author
from volant.intent import Intents
from volant.store.contract import Store
from volant.store.records import list_resources, update_of

from .conftest import make_manifest

AUTHOR = Author(by="root (uid 0)", reason="because")


def want(name: str = "web", **changes: Any) -> Wanted[DeploymentSpec]:
    return from_wire(Deployment, {"name": name, "vm": {"plugin": "nginx"}, "replicas": 3, **changes})


@pytest.fixture
async def installed(intents: Intents) -> Intents:
    await intents.plugins.install(make_manifest())
    return intents


async def revisions_of(store: Store) -> list[DeploymentRevision]:
    found, _ = await list_resources(store, DeploymentRevision, "default")
    return found


async def claims_of(store: Store) -> set[str]:
    found, _ = await list_resources(store, Claim, "")
    return {claim.name for claim in found if claim.name.startswith("port.")}


async def note(store: Store, deployment: Deployment, **status: Any) -> Deployment:
    """What the controller would write."""
    noted = msgspec.structs.replace(deployment, status=msgspec.structs.replace(deployment.status, **status))
    return msgspec.structs.replace(noted, revision=await store.transact([update_of(noted)]))


def patch(**change: Any) -> Any:
    return lambda document: merge_patch(document, change)


async def test_it_is_written_with_its_first_revision_and_its_ports(installed: Intents, store: Store) -> None:
    made = await installed.deployments.create(want(ports=[{"host_port": 8080, "port": 80}]), author=AUTHOR)
    assert (made.spec.target, made.meta.finalizers, made.spec.vm) == (1, (FINALIZER,), VMSpec(plugin="nginx"))
    assert await installed.deployments.get("web") == made
    (revision,) = await revisions_of(store)
    spec = revision.spec
    assert (spec.number, spec.by, spec.reason, revision.meta.owner) == (1, "root (uid 0)", "because", made.uid)
    assert (spec.vm.plugin, spec.vm.memory_mb, spec.vm.ports, spec.vm.auto_suspend_s) == ("nginx@1.0", 128, (), 0)
    assert await claims_of(store) == {"port.default.tcp.8080"}
    with pytest.raises(AlreadyExists, match="deployment named 'web' already"):
        await installed.deployments.create(want())
    with pytest.raises(AlreadyExists, match="published by the deployment 'web' already"):
        await installed.deployments.create(want("shop", ports=[{"host_port": 8080, "port": 80}]))
    with pytest.raises(AlreadyExists, match="published by the deployment 'web' already"):
        await installed.vms.create(from_wire(VM, {"name": "a", "plugin": "nginx", "ports": [{"host_port": 8080, "port": 80}]}))
    assert len(await revisions_of(store)) == 1


async def test_a_dry_run_writes_nothing(installed: Intents, store: Store) -> None:
    made = await installed.deployments.create(want(), dry_run=True)
    plan = await installed.deployments.plan(made)
    assert plan.preview.created == ("web-0", "web-1", "web-2") and plan.differences == () and plan.taken == ()
    with pytest.raises(NotFound):
        await installed.deployments.get("web")
    assert await revisions_of(store) == []


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"name": "x" * 58}, "name"),
        ({"name": "Web"}, "name"),
        ({"labels": {"volant.mine": "x"}}, "labels"),
        ({"vm_labels": {"volant.deployment": "x"}}, "vm_labels"),
        ({"vm": {"plugin": "nginx", "ports": [{"host_port": 80, "port": 80}]}}, "vm.ports"),
        ({"vm": {"plugin": "nginx", "power": "stopped"}}, "vm.power"),
        ({"vm": {"plugin": "nginx", "snapshot": "old"}}, "vm.snapshot"),
        ({"vm": {"plugin": "nginx", "auto_suspend_s": 60}}, "vm.auto_suspend_s"),
        ({"vm": {"plugin": "nginx", "restart_token": 1}}, "vm.restart_token"),
        ({"vm": {"plugin": "other"}}, "vm.plugin"),
        ({"vm": {"plugin": "nginx", "memory_mb": 4096}}, "vm.memory_mb"),
        ({"vm": {"plugin": "nginx", "env": {"a=b": "c"}}}, "vm.env"),
        ({"vm": {"plugin": "nginx", "network": "nowhere"}}, "vm.network"),
        ({"vm": {"plugin": "nginx", "kernel_cmdline": "init=/bin/sh"}}, "vm.kernel_cmdline"),
        ({"strategy": {"max_surge": "101%"}}, "strategy.max_surge"),
        ({"strategy": {"max_surge": 20000}}, "strategy.max_surge"),
        ({"strategy": {"max_unavailable": -1}}, "strategy.max_unavailable"),
        ({"strategy": {"promote": "manual"}}, "strategy.promote"),
        ({"strategy": {"steps": [{"replicas": 1}]}}, "strategy.steps"),
        ({"strategy": {"type": "canary"}}, "strategy.steps"),
        ({"strategy": {"type": "canary", "steps": [{"replicas": "0%"}]}}, "strategy.steps[0].replicas"),
        ({"strategy": {"type": "canary", "steps": [{"replicas": 2}, {"replicas": 2}]}}, "strategy.steps[1].replicas"),
        ({"strategy": {"type": "canary", "steps": [{"replicas": "50%"}, {"replicas": "20%"}]}}, "strategy.steps[1].replicas"),
        ({"strategy": {"type": "canary", "steps": [{"replicas": 3}, {"replicas": "10%"}]}}, "strategy.steps[1].replicas"),
        ({"budget": {"max_unavailable": 1, "min_available": 1}}, "budget"),
        ({"budget": {"min_available": "half"}}, "budget.min_available"),
        ({"autoscale": {"min": 3, "max": 2, "metrics": [{"type": "cpu", "target": 50}]}}, "autoscale.min"),
        ({"autoscale": {"max": 2}}, "autoscale.metrics"),
        ({"autoscale": {"min": 0, "max": 2}}, "autoscale.min"),
        ({"autoscale": {"max": 2, "metrics": [{"type": "cpu", "target": 150}]}}, "autoscale.metrics[0].target"),
        ({"autoscale": {"max": 2, "metrics": [{"type": "cpu", "target": 50, "port": 1}]}}, "autoscale.metrics[0].port"),
        ({"autoscale": {"max": 2, "metrics": [{"type": "workload", "target": 5}]}}, "autoscale.metrics[0].name"),
        ({"autoscale": {"max": 2, "metrics": [{"type": "workload", "target": 5, "name": "x"}]}}, "autoscale.metrics[0].port"),
        (
            {"autoscale": {"max": 2, "metrics": [{"type": "workload", "target": 5, "name": "x", "port": 1, "path": "m"}]}},
            "autoscale.metrics[0].path",
        ),
        ({"autoscale": {"max": 2, "metrics": [{"type": "connections", "target": 5}]}}, "autoscale.metrics[0].type"),
        ({"ports": [{"host_port": 80, "port": 80}, {"host_port": 80, "port": 81}]}, "ports"),
    ],
)
async def test_what_cannot_be_is_refused_by_name(installed: Intents, store: Store, changes: dict[str, Any], field: str) -> None:
    document = {"name": "web", "vm": {"plugin": "nginx"}, "replicas": 3, **changes}
    with pytest.raises(InvalidInput) as refused:
        await installed.deployments.create(from_wire(Deployment, document))
    assert refused.value.field == field, refused.value.message
    assert await revisions_of(store) == []


async def test_good_strategies_are_taken(installed: Intents) -> None:
    canary = {"type": "canary", "steps": [{"replicas": 1, "pause_s": 5}, {"replicas": "50%"}, {"replicas": "100%"}]}
    await installed.deployments.create(want("a", strategy=canary))
    await installed.deployments.create(want("b", strategy={"type": "blue-green", "promote": "manual"}))
    autoscale = {"min": 0, "max": 4, "metrics": [{"type": "connections", "target": 10}]}
    await installed.deployments.create(want("c", ports=[{"host_port": 8081, "port": 80}], autoscale=autoscale))
    await installed.deployments.create(want("x" * 57))


async def test_another_description_is_another_revision(installed: Intents, store: Store) -> None:
    made = await installed.deployments.create(want())
    changed = await installed.deployments.edit("web", patch(vm={"memory_mb": 256}), author=AUTHOR)
    assert (changed.spec.target, changed.meta.generation, changed.spec.vm.memory_mb) == (2, 2, 256)
    labelled = await installed.deployments.edit("web", patch(vm_labels={"tier": "web"}))
    assert labelled.spec.target == 3
    entries = await installed.deployments.revisions("web")
    assert [(one.revision.spec.number, one.is_target, one.changed) for one in entries] == [
        (3, True, ("vm_labels.tier",)),
        (2, False, ("vm.memory_mb",)),
        (1, False, ()),
    ]
    assert (entries[1].revision.spec.by, entries[1].revision.spec.reason) == ("root (uid 0)", "because")
    assert all(one.meta.owner == made.uid for one in await revisions_of(store))


async def test_what_is_only_said_otherwise_is_no_other_revision(installed: Intents, store: Store) -> None:
    await installed.deployments.create(want())
    changed = await installed.deployments.edit("web", patch(vm={"memory_mb": 128, "plugin": "nginx@1.0"}))
    assert (changed.spec.target, changed.meta.generation) == (1, 2)
    again = await installed.deployments.replace("web", from_wire(Deployment, to_wire(changed)))
    assert again == changed and len(await revisions_of(store)) == 1


async def test_a_newer_plugin_comes_with_the_next_revision(installed: Intents) -> None:
    await installed.deployments.create(want())
    await installed.plugins.install(make_manifest(version="2.0"))
    scaled = await installed.deployments.scale("web", 5)
    assert (scaled.spec.target, scaled.spec.replicas) == (1, 5)
    changed = await installed.deployments.edit("web", patch(vm={"env": {"A": "1"}}))
    assert changed.spec.target == 2
    newest = (await installed.deployments.revisions("web"))[0]
    assert newest.revision.spec.vm.plugin == "nginx@2.0" and set(newest.changed) == {"vm.plugin", "vm.env.A"}


async def test_ports_move_with_their_claims(installed: Intents, store: Store) -> None:
    await installed.deployments.create(want(ports=[{"host_port": 8080, "port": 80}, {"host_port": 8081, "port": 81}]))
    await installed.deployments.edit("web", patch(ports=[{"host_port": 8081, "port": 80}, {"host_port": 9000, "port": 80}]))
    assert await claims_of(store) == {"port.default.tcp.8081", "port.default.tcp.9000"}
    await installed.deployments.create(want("shop", ports=[{"host_port": 7000, "port": 80}]))
    with pytest.raises(AlreadyExists, match="deployment 'shop' already"):
        await installed.deployments.edit("web", patch(ports=[{"host_port": 7000, "port": 80}]))
    assert await claims_of(store) == {"port.default.tcp.7000", "port.default.tcp.8081", "port.default.tcp.9000"}


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"target": 1}, "target"),
        ({"promoted": 3}, "promoted"),
        ({"name": "other"}, "name"),
        ({"status": {}}, "status"),
        ({"nothing": 1}, "nothing"),
        ({"vm": None}, "vm"),
        ({"vm": {"plugin": None}}, "vm"),
        ({"replicas": -1}, "replicas"),
        ({"strategy": {"type": "wild"}}, "strategy.type"),
    ],
)
async def test_a_patch_of_what_is_not_configured_is_refused(installed: Intents, change: dict[str, Any], field: str) -> None:
    made = await installed.deployments.create(want())
    with pytest.raises(InvalidInput) as refused:
        await installed.deployments.edit("web", patch(**change) if None not in change.values() else lambda d: {**d, **change})
    assert refused.value.field is not None and refused.value.field.startswith(field)
    assert await installed.deployments.get("web") == made


async def test_a_replace_keeps_its_place_in_the_rollout(installed: Intents) -> None:
    await installed.deployments.create(want())
    changed = await installed.deployments.edit("web", patch(vm={"memory_mb": 256}))
    document = {**to_wire(changed), "target": 77, "promoted": 5, "replicas": 1}
    replaced = await installed.deployments.replace("web", from_wire(Deployment, document))
    assert (replaced.spec.target, replaced.spec.promoted, replaced.spec.replicas) == (2, 0, 1)
    with pytest.raises(InvalidInput, match="name"):
        await installed.deployments.replace("shop", from_wire(Deployment, document))


async def test_if_match_is_kept(installed: Intents) -> None:
    await installed.deployments.create(want())
    await installed.deployments.scale("web", 2, expected_generation=1)
    for asking in (
        installed.deployments.scale("web", 4, expected_generation=1),
        installed.deployments.pause("web", expected_generation=1),
        installed.deployments.restart("web", expected_generation=1),
        installed.deployments.delete("web", expected_generation=1),
    ):
        with pytest.raises(StaleRevision):
            await asking


async def test_what_scales_itself_is_not_scaled_by_hand(installed: Intents) -> None:
    autoscale = {"max": 5, "metrics": [{"type": "cpu", "target": 50}]}
    await installed.deployments.create(want(autoscale=autoscale))
    with pytest.raises(WrongState, match="scaled by itself"):
        await installed.deployments.scale("web", 4)
    with pytest.raises(WrongState, match="scaled by itself"):
        await installed.deployments.edit("web", patch(replicas=4))
    assert (await installed.deployments.edit("web", patch(autoscale={"max": 7}))).spec.autoscale.max == 7  # type: ignore[union-attr]
    assert (await installed.deployments.edit("web", lambda d: {**d, "autoscale": None, "replicas": 4})).spec.replicas == 4


async def test_pause_and_resume(installed: Intents, store: Store) -> None:
    await installed.deployments.create(want())
    paused = await installed.deployments.pause("web")
    assert paused.spec.paused and await installed.deployments.pause("web") == paused
    with pytest.raises(WrongState, match="paused"):
        await installed.deployments.restart("web")
    resumed = await installed.deployments.resume("web")
    assert (resumed.spec.paused, resumed.spec.promoted) == (False, 0)
    waiting = await note(store, resumed, rollout=Rollout(phase="Waiting", revision=1, promoted=0))
    promoted = await installed.deployments.resume("web")
    assert promoted.spec.promoted == 1
    assert await installed.deployments.resume("web") == promoted, "it was not looked at yet"
    await note(store, promoted, rollout=msgspec.structs.replace(waiting.status.rollout, promoted=1))
    assert (await installed.deployments.resume("web")).spec.promoted == 2


async def test_a_restart_is_a_revision_of_the_same(installed: Intents) -> None:
    await installed.deployments.create(want())
    restarted = await installed.deployments.restart("web")
    assert restarted.spec.target == 2 and restarted.spec.vm == VMSpec(plugin="nginx")
    newest, first = await installed.deployments.revisions("web")
    assert (newest.revision.spec.token, newest.changed, newest.revision.spec.reason) == (1, ("restart",), "restart")
    assert newest.revision.spec.vm == first.revision.spec.vm and newest.revision.spec.hash != first.revision.spec.hash
    await installed.deployments.undo("web", 1)
    again = await installed.deployments.restart("web")
    tokens = [one.revision.spec.token for one in await installed.deployments.revisions("web")]
    assert again.spec.target == 4 and tokens == [2, 0, 1, 0], "no restart is one that was before"


async def test_undo_goes_back_to_what_was_before(installed: Intents, store: Store) -> None:
    await installed.deployments.create(want(vm_labels={"tier": "a"}))
    await installed.deployments.edit("web", patch(vm={"memory_mb": 256}, vm_labels={"tier": "b"}))
    undone = await installed.deployments.undo("web", author=Author(by="ada"))
    assert (undone.spec.target, undone.spec.vm.memory_mb, undone.spec.vm_labels) == (3, 128, {"tier": "a"})
    newest, _, first = await installed.deployments.revisions("web")
    assert newest.revision.spec.hash == first.revision.spec.hash
    assert (newest.revision.spec.reason, newest.revision.spec.by) == ("undo to revision 1", "ada")
    with pytest.raises(WrongState, match="as revision 1 says already"):
        await installed.deployments.undo("web", 1)
    with pytest.raises(NotFound, match="no revision 9"):
        await installed.deployments.undo("web", 9)
    forth = await installed.deployments.undo("web")
    assert forth.spec.vm.memory_mb == 256 and forth.spec.target == 4
    # While a rollout is under way an undo leads to where it began, whatever the numbers say.
    await note(store, forth, rollout=Rollout(phase="Progressing", revision=4, before=3))
    assert (await installed.deployments.undo("web")).spec.vm.memory_mb == 128


async def test_undo_does_not_lead_to_what_failed(installed: Intents, store: Store) -> None:
    await installed.deployments.create(want())
    await installed.deployments.edit("web", patch(vm={"memory_mb": 256}))
    undone = await installed.deployments.undo("web")
    await note(store, undone, rollout=Rollout(phase="RolledBack", revision=3, before=3, message="no progress"))
    with pytest.raises(WrongState, match="rolled back already: no progress"):
        await installed.deployments.undo("web")
    assert (await installed.deployments.undo("web", 2)).spec.vm.memory_mb == 256


async def test_there_may_be_nothing_to_go_back_to(installed: Intents) -> None:
    await installed.deployments.create(want())
    with pytest.raises(WrongState, match="never anything else"):
        await installed.deployments.undo("web")


async def test_undo_needs_its_plugin_still(installed: Intents) -> None:
    await installed.deployments.create(want())
    await installed.plugins.install(make_manifest("other"))
    await installed.deployments.edit("web", patch(vm={"plugin": "other"}))
    await installed.plugins.remove("nginx")
    with pytest.raises(InvalidInput, match="no plugin named"):
        await installed.deployments.undo("web")


async def make_replica(intents: Intents, deployment: Deployment, index: int, revision: int) -> VM:
    labels = {DEPLOYMENT_LABEL: deployment.name, REVISION_LABEL: str(revision)}
    wanted = Wanted(name=f"{deployment.name}-{index}", labels=labels, spec=VMSpec(plugin="nginx", ports=()))
    return await intents.vms.create(wanted, owner=deployment.uid)


async def test_a_plan_names_the_vms(installed: Intents) -> None:
    made = await installed.deployments.create(want(replicas=2, strategy={"max_surge": 1}))
    for index in range(2):
        await make_replica(installed, made, index, 1)
    plans = installed.deployments
    grown = await plans.plan(await plans.scale("web", 3, dry_run=True))
    assert (grown.preview.created, grown.preview.kept) == (("web-2",), ("web-0", "web-1"))
    assert [(one.path, one.before, one.after, one.effect) for one in grown.differences] == [("replicas", 2, 3, "live")]
    shrunk = await plans.plan(await plans.scale("web", 1, dry_run=True))
    assert (shrunk.preview.removed, shrunk.preview.kept) == (("web-1",), ("web-0",))
    other = await plans.plan(await plans.edit("web", patch(vm={"memory_mb": 256}, strategy={"max_surge": 2}), dry_run=True))
    assert (other.preview.replaced, other.preview.created) == (("web-0", "web-1"), ())
    assert {(one.path, one.effect) for one in other.differences} == {("vm.memory_mb", "replace"), ("strategy.max_surge", "live")}
    anew = await plans.plan(await plans.restart("web", dry_run=True))
    assert anew.preview.replaced == ("web-0", "web-1") and anew.differences == ()
    still = await plans.plan(await plans.edit("web", patch(paused=True, vm={"memory_mb": 256}), dry_run=True))
    assert still.preview.kept == ("web-0", "web-1") and still.preview.replaced == ()
    assert await plans.get("web") == made


async def test_a_plan_of_an_undo_keeps_what_is_of_it_still(installed: Intents) -> None:
    made = await installed.deployments.create(want(replicas=2))
    await make_replica(installed, made, 0, 1)
    await installed.deployments.edit("web", patch(vm={"memory_mb": 256}))
    await make_replica(installed, made, 1, 2)
    plan = await installed.deployments.plan(await installed.deployments.undo("web", dry_run=True))
    assert (plan.preview.kept, plan.preview.replaced) == (("web-0",), ("web-1",))


async def test_a_plan_of_the_words_of_an_older_revision_is_of_its_token_too(installed: Intents) -> None:
    made = await installed.deployments.create(want(replicas=1))
    await make_replica(installed, made, 0, 1)
    first = (await installed.deployments.revision("web", 1)).revision
    await installed.deployments.restart("web")
    await installed.deployments.edit("web", patch(vm={"memory_mb": 256}))
    # The whole of the first, as an undo writes it; but begun anew since.
    whole = {**to_builtins(first.spec.vm), "ports": None}
    written = await installed.deployments.edit("web", lambda document: {**document, "vm": whole}, dry_run=True)
    assert (await installed.deployments.plan(written)).preview.replaced == ("web-0",)
    undone = await installed.deployments.undo("web", 1, dry_run=True)
    assert undone.spec == written.spec
    assert (await installed.deployments.plan(undone)).preview.kept == ("web-0",)


async def test_a_plan_of_undoing_a_restart_keeps_what_was_not_begun_anew(installed: Intents) -> None:
    made = await installed.deployments.create(want(replicas=2))
    await make_replica(installed, made, 0, 1)
    await installed.deployments.restart("web")
    await make_replica(installed, made, 1, 2)
    await installed.deployments.undo("web", 1)
    await installed.deployments.undo("web", 2)
    plan = await installed.deployments.plan(await installed.deployments.undo("web", 1, dry_run=True))
    assert (plan.preview.kept, plan.preview.replaced, plan.differences) == (("web-0",), ("web-1",), ())


async def test_a_plan_tells_whose_names_are_taken(installed: Intents) -> None:
    await installed.vms.create(from_wire(VM, {"name": "web-1", "plugin": "nginx"}))
    plan = await installed.deployments.plan(await installed.deployments.create(want(), dry_run=True))
    assert plan.taken == ("web-1",)


async def test_history_counts_only_its_own(installed: Intents) -> None:
    made = await installed.deployments.create(want())
    await make_replica(installed, made, 0, 1)
    await installed.vms.create(
        Wanted(name="web-9", labels={DEPLOYMENT_LABEL: "web", REVISION_LABEL: "1"}, spec=VMSpec(plugin="nginx")), owner="another"
    )
    (entry,) = await installed.deployments.revisions("web")
    assert entry.vms == 1
    with pytest.raises(NotFound):
        await installed.deployments.revision("web", 2)


async def test_delete_marks_it_once(installed: Intents) -> None:
    await installed.deployments.create(want())
    gone = await installed.deployments.delete("web")
    assert gone.deleting and await installed.deployments.delete("web") == gone
    with pytest.raises(WrongState, match="being deleted"):
        await installed.deployments.scale("web", 1)
    with pytest.raises(NotFound):
        await installed.deployments.delete("web", uid="other")
