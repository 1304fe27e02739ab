"""Taking plugins away: refused while something needs them, unless that is to go with them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import InUse, NotFound, StaleRevision, TimedOut
from volant.core.plugin import Plugin
from volant.core.plugin_versions import check_reference, is_default
from volant.intent.cron_jobs import CronJobIntent
from volant.intent.deployments import DeploymentIntent
from volant.intent.follow import follow_resource
from volant.intent.jobs import JobIntent
from volant.intent.plugin_versions import PluginVersions
from volant.intent.snapshots import SnapshotIntent
from volant.intent.vms import VMIntent
from volant.store.contract import Store
from volant.store.plugin_users import PluginUsers, find_plugin_users
from volant.store.records import key_of, update_of

_WORDS = {
    "deployments": ("the deployments", "volar deployments delete NAME"),
    "cron_jobs": ("the schedules", "volar cron delete NAME"),
    "jobs": ("the jobs", "volar jobs delete NAME"),
    "vms": ("the VMs", "volar vms delete NAME"),
    "snapshots": ("the snapshots", "volar snapshots delete NAME"),
}
"""In the order in which they are deleted: nobody makes again what was just taken away."""


class PluginRemoval:
    def __init__(self, store: Store, clock: Clock, versions: PluginVersions) -> None:
        self._store = store
        self._clock = clock
        self._versions = versions
        self._vms = VMIntent(store, clock)
        jobs = JobIntent(store, clock, self._vms)
        self._delete: dict[str, Callable[..., Awaitable[Any]]] = {
            "deployments": DeploymentIntent(store, clock, self._vms).delete,
            "cron_jobs": CronJobIntent(store, clock, jobs).delete,
            "jobs": jobs.delete,
            "vms": self._delete_vm,
            "snapshots": SnapshotIntent(store, clock, self._vms).delete,
        }

    async def find_users(self, reference: str, *, project: str = "default") -> PluginUsers:
        """Of one version, or of all where only the plugin is named. Raises NotFound."""
        return await find_plugin_users(self._store, project, await self._find(reference, project))

    async def remove(self, reference: str, *, force: bool = False, project: str = "default") -> Plugin:
        """Mark one version, or all where only the plugin is named; their artifacts go with them unless others need them.

        With ``force`` what needs them is deleted first.

        Raises:
            NotFound. InUse: something needs one of them, or it is the default and there are others.
        """
        while True:
            plugins = await self._find(reference, project)
            self._check_default(reference, plugins, await self._versions.list(plugins[0].name.partition("@")[0], project=project))
            left = [plugin for plugin in plugins if not plugin.deleting]
            # What is made after this look and before the mark keeps the plugin: its reconciler waits for the last user.
            users = await find_plugin_users(self._store, project, plugins if force else left)
            if not force:
                _refuse_in_use(reference, users)
            now = format_time(self._clock.now())
            marked = {
                plugin.name: msgspec.structs.replace(plugin, meta=msgspec.structs.replace(plugin.meta, deleting_at=now))
                for plugin in left
            }
            if marked:
                try:
                    revision = await self._store.transact([update_of(plugin) for plugin in marked.values()])
                except StaleRevision:
                    continue
                marked = {name: msgspec.structs.replace(plugin, revision=revision) for name, plugin in marked.items()}
            if force:
                await self._delete_users(users, project)
            first = plugins[0]
            return marked.get(first.name, first)

    async def wait_gone(self, reference: str, *, timeout_s: float, project: str = "default") -> None:
        """Until all that ``reference`` named is gone. Raises TimedOut."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    try:
                        plugins = await self._find(reference, project)
                    except NotFound:
                        return
                    plugin = next((one for one in plugins if one.deleting), None)
                    if plugin is None:
                        return  # another was installed under the name
                    async for current in follow_resource(self._store, Plugin, key_of(plugin), plugin.uid):
                        if current is None:
                            break
        except TimeoutError:
            raise TimedOut(f"the plugin {reference!r} is not gone after {timeout_s:g} s") from None

    async def _find(self, reference: str, project: str) -> list[Plugin]:
        name, version = check_reference(reference)
        if version:
            return [await self._versions.get(reference, project=project)]
        return await self._versions.list(name, project=project)

    def _check_default(self, reference: str, plugins: list[Plugin], installed: list[Plugin]) -> None:
        """Raises InUse for the default alone: its name would mean nothing while there are others."""
        name, version = check_reference(reference)
        others = [one.spec.version for one in installed if one.name != plugins[0].name and not one.deleting]
        if version and is_default(plugins[0].name) and others:
            raise InUse(
                f"{version} is what {name!r} means, and there are other versions",
                hint=f"volar plugins default {name} {others[0]} first, or remove all: volar plugins remove {name}",
            )

    async def _delete_users(self, users: PluginUsers, project: str) -> None:
        for kind in _WORDS:
            for name in getattr(users, kind):
                with contextlib.suppress(NotFound):
                    await self._delete[kind](name, project=project)

    async def _delete_vm(self, name: str, *, project: str) -> None:
        await self._vms.delete(name, project=project, disrupt=True)


def name_users(users: PluginUsers) -> str:
    """All kinds of them; nothing where nothing needs it."""
    return ", ".join(f"{words} {name_some(names)}" for kind, (words, _) in _WORDS.items() if (names := getattr(users, kind)))


def _refuse_in_use(reference: str, users: PluginUsers) -> None:
    if not users.count:
        return
    delete = "; ".join(command for kind, (_, command) in _WORDS.items() if getattr(users, kind))
    raise InUse(
        f"the plugin {reference!r} is needed by {name_users(users)}",
        hint=f"delete those first ({delete}), or with it: volar plugins remove {reference} --force",
    )


def name_some(names: tuple[str, ...]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
