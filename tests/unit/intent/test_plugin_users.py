"""What keeps a plugin: what was made from it, and what would make VMs from it again."""

from __future__ import annotations

import msgspec
import pytest
from tests.unit.intent.conftest import make_manifest

from volant.core.deployment import Deployment, DeploymentSpec
from volant.core.errors import InUse
from volant.core.job import CronJobSpec, Job, JobSpec, run_name
from volant.core.resource import Wanted
from volant.core.vm import VMSpec
from volant.intent import Intents
from volant.store.contract import Store
from volant.store.plugin_users import PluginUsers, count_plugin_users
from volant.store.records import delete_of, get_resource, update_of

OLD, NEW = "nginx@1.0", "nginx@2.0"


async def install(intents: Intents, version: str) -> None:
    await intents.plugins.install(make_manifest(version=version))


async def deploy(intents: Intents) -> str:
    spec = DeploymentSpec(vm=VMSpec(plugin="nginx"))
    return (await intents.deployments.create(Wanted(name="web", labels={}, spec=spec))).uid


async def users(intents: Intents, reference: str) -> PluginUsers:
    return await intents.plugins.removal.find_users(reference)


async def set_completed(store: Store, number: int) -> None:
    """As its controller says of a rollout that is done."""
    deployment = await get_resource(store, Deployment, "default", "web")
    rollout = msgspec.structs.replace(deployment.status.rollout, phase="Complete", revision=number, before=number)
    status = msgspec.structs.replace(deployment.status, rollout=rollout)
    await store.transact([update_of(msgspec.structs.replace(deployment, status=status))])


async def set_ended(store: Store, name: str) -> None:
    job = await get_resource(store, Job, "default", name)
    status = msgspec.structs.replace(job.status, phase="Succeeded", ended_at="2026-01-01T00:00:00Z")
    await store.transact([update_of(msgspec.structs.replace(job, status=status))])


async def test_a_deployment_keeps_what_it_is_of_and_where_a_rollback_leads(intents: Intents, store: Store) -> None:
    await install(intents, "1.0")
    await deploy(intents)
    await set_completed(store, 1)
    await install(intents, "2.0")
    assert (await users(intents, OLD)).deployments == ("web",)
    assert (await users(intents, NEW)).count == 0
    await intents.deployments.edit("web", lambda document: {**document, "vm": {**document["vm"], "plugin": NEW}})
    # On the way from one to the other it needs both.
    assert (await users(intents, OLD)).deployments == (await users(intents, NEW)).deployments == ("web",)
    with pytest.raises(InUse, match="is needed by the deployments web") as refused:
        await intents.plugins.remove(OLD)
    assert "volar deployments delete NAME" in str(refused.value.hint)
    await set_completed(store, 2)
    assert (await users(intents, OLD)).count == 0
    assert (await intents.plugins.remove(OLD)).deleting


async def test_a_replica_is_named_by_its_deployment_and_one_that_is_left_over_by_itself(intents: Intents, store: Store) -> None:
    await install(intents, "1.0")
    uid = await deploy(intents)
    await intents.vms.create(Wanted(name="web-0", labels={}, spec=VMSpec(plugin=OLD)), owner=uid)
    await intents.vms.create(Wanted(name="other", labels={}, spec=VMSpec(plugin=OLD)))
    found = await users(intents, "nginx")
    assert (found.deployments, found.vms) == (("web",), ("other",))
    await install(intents, "2.0")
    await intents.deployments.edit("web", lambda document: {**document, "vm": {**document["vm"], "plugin": NEW}})
    await set_completed(store, 2)
    assert (await users(intents, OLD)).vms == ("other", "web-0")


async def test_a_job_keeps_it_until_it_has_ended_and_while_it_has_vms(intents: Intents, store: Store) -> None:
    await install(intents, "1.0")
    job = await intents.jobs.create(Wanted(name="sum", labels={}, spec=JobSpec(vm=VMSpec(plugin="nginx"))))
    run = run_name("sum", 0, 0)
    await intents.vms.create(Wanted(name=run, labels={}, spec=VMSpec(plugin=OLD)), owner=job.uid)
    await set_ended(store, "sum")
    assert (await users(intents, OLD)) == PluginUsers(jobs=("sum",))
    await store.transact([delete_of(await intents.vms.get(run))])
    assert (await users(intents, OLD)).count == 0
    await intents.jobs.create(Wanted(name="next", labels={}, spec=JobSpec(vm=VMSpec(plugin="nginx"))))
    with pytest.raises(InUse, match="is needed by the jobs next"):
        await intents.plugins.remove(OLD)


async def test_a_schedule_keeps_what_its_name_means(intents: Intents) -> None:
    await install(intents, "1.0")
    spec = CronJobSpec(schedule="@daily", job=JobSpec(vm=VMSpec(plugin="nginx")))
    await intents.cron_jobs.create(Wanted(name="nightly", labels={}, spec=spec))
    with pytest.raises(InUse, match="is needed by the schedules nightly"):
        await intents.plugins.remove("nginx")
    await install(intents, "2.0")
    assert (await users(intents, NEW)).cron_jobs == ("nightly",)
    assert (await intents.plugins.remove(OLD)).deleting


async def test_all_that_needs_it_is_named_and_goes_with_force(intents: Intents, store: Store) -> None:
    await install(intents, "1.0")
    uid = await deploy(intents)
    await intents.vms.create(Wanted(name="web-0", labels={}, spec=VMSpec(plugin=OLD)), owner=uid)
    await intents.vms.create(Wanted(name="other", labels={}, spec=VMSpec(plugin=OLD)))
    await intents.jobs.create(Wanted(name="sum", labels={}, spec=JobSpec(vm=VMSpec(plugin="nginx"))))
    cron = CronJobSpec(schedule="@daily", job=JobSpec(vm=VMSpec(plugin="nginx")))
    await intents.cron_jobs.create(Wanted(name="nightly", labels={}, spec=cron))
    with pytest.raises(InUse, match="the deployments web, the schedules nightly, the jobs sum, the VMs other"):
        await intents.plugins.remove("nginx")
    assert not (await intents.plugins.get("nginx")).deleting
    plugin = await intents.plugins.remove("nginx", force=True)
    assert plugin.deleting
    assert (await intents.deployments.get("web")).deleting
    assert (await intents.jobs.get("sum")).deleting
    assert (await intents.cron_jobs.get("nightly")).deleting
    assert (await intents.vms.get("other")).deleting
    # Its controller goes by the same count.
    assert await count_plugin_users(store, plugin) == 4
