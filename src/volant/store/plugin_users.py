"""What needs a plugin: what was made from it, and what would still make VMs from it."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from volant.core.deployment import Deployment, DeploymentRevision, revision_name
from volant.core.ids import Uid
from volant.core.job import CronJob, Job, has_finished
from volant.core.plugin import Plugin
from volant.core.plugin_versions import is_made_from, split_reference, version_of, version_of_snapshot
from volant.core.snapshot import Snapshot
from volant.core.vm import VM, is_parked
from volant.store.contract import Store
from volant.store.records import list_resources, read_resource


class PluginUsers(msgspec.Struct, frozen=True, kw_only=True):
    """By name. VMs that go with a deployment or a job that is named are not named again, and a pool's clones, which are nobody's,
    not at all: they go by themselves."""

    vms: tuple[str, ...] = ()
    snapshots: tuple[str, ...] = ()
    deployments: tuple[str, ...] = ()
    """Whose replicas are to be of it, or would be again after a rollback."""
    jobs: tuple[str, ...] = ()
    """That have not ended, or keep VMs."""
    cron_jobs: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        return sum(len(getattr(self, kind)) for kind in self.__struct_fields__)


async def find_plugin_users(store: Store, project: str, plugins: Sequence[Plugin]) -> PluginUsers:
    """Of ``plugins``, which are versions of one plugin."""
    vms = [vm for vm in await _list_vms(store, project, plugins) if not is_parked(vm)]
    owners = {vm.meta.owner for vm in vms}
    # What was saved stands on its root file system.
    snapshots, _ = await list_resources(store, Snapshot, project)
    deployments = await _list_deployments(store, project, plugins)
    jobs, _ = await list_resources(store, Job, project)
    jobs = [job for job in jobs if job.uid in owners or (not has_finished(job) and _is_asked(plugins, job.spec.vm.plugin))]
    cron_jobs, _ = await list_resources(store, CronJob, project)
    named = {*(one.uid for one in deployments), *(job.uid for job in jobs)}
    return PluginUsers(
        vms=tuple(vm.name for vm in vms if vm.meta.owner not in named),
        snapshots=tuple(one.name for one in snapshots if _is_any(plugins, version_of_snapshot(one))),
        deployments=tuple(one.name for one in deployments),
        jobs=tuple(job.name for job in jobs),
        cron_jobs=tuple(cron.name for cron in cron_jobs if _is_asked(plugins, cron.spec.job.vm.plugin)),
    )


async def count_plugin_users(store: Store, plugin: Plugin) -> int:
    """How much needs this version now, the clones of its pool too."""
    project = plugin.meta.project
    users = await find_plugin_users(store, project, [plugin])
    return users.count + sum(is_parked(vm) for vm in await _list_vms(store, project, [plugin]))


async def _list_vms(store: Store, project: str, plugins: Sequence[Plugin]) -> list[VM]:
    names = {split_reference(plugin.name)[0] for plugin in plugins}
    listing = await store.list(VM.kind, project)
    chosen = [stored for stored in listing.items if split_reference(stored.data["spec"]["plugin"])[0] in names]
    vms = [read_resource(VM, stored) for stored in chosen]
    return [vm for vm in vms if _is_any(plugins, version_of(vm))]


async def _list_deployments(store: Store, project: str, plugins: Sequence[Plugin]) -> list[Deployment]:
    deployments, _ = await list_resources(store, Deployment, project)
    if not deployments:
        return []
    revisions, _ = await list_resources(store, DeploymentRevision, project)
    using = {one.name for one in revisions if _is_asked(plugins, one.spec.vm.plugin)}
    return [one for one in deployments if not using.isdisjoint(_name_needed(one))]


def _name_needed(deployment: Deployment) -> list[str]:
    """The records of its revisions that replicas are made from, or would be without being asked."""
    status = deployment.status
    numbers = {deployment.spec.target, status.rollout.before, status.serving} - {0}
    return [revision_name(Uid(deployment.uid), number) for number in numbers]


def _is_asked(plugins: Sequence[Plugin], reference: str) -> bool:
    """A plain name asks for the default."""
    return _is_any(plugins, split_reference(reference))


def _is_any(plugins: Sequence[Plugin], made: tuple[str, str]) -> bool:
    return any(is_made_from(plugin, made) for plugin in plugins)
