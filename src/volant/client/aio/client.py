# Made of volant/client/client.py by volant.client.generate: change that, and make this anew.
"""The client: one attribute a kind."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from volant.client.aio.connection import RECONNECT_S, RETRY_S, Connection

if TYPE_CHECKING:
    from volant.client.aio.apply import Applications
    from volant.client.aio.artifacts import Artifacts
    from volant.client.aio.configurations import Configurations
    from volant.client.aio.cron_jobs import CronJobs
    from volant.client.aio.deployments import Deployments
    from volant.client.aio.events import Events
    from volant.client.aio.inspection import Inspections
    from volant.client.aio.jobs import Jobs
    from volant.client.aio.networks import Networks
    from volant.client.aio.nodes import Nodes
    from volant.client.aio.plugin_indexes import PluginIndexes
    from volant.client.aio.plugins import Plugins
    from volant.client.aio.pools import Pools
    from volant.client.aio.quotas import Quotas
    from volant.client.aio.snapshots import Snapshots
    from volant.client.aio.system import System
    from volant.client.aio.templates import Templates
    from volant.client.aio.vms import VMs
    from volant.client.aio.workloads import Workloads


class AsyncClient:
    """Talks to one volantd. Every method raises VolantErrors: those the server names, Unavailable when there is none."""

    def __init__(
        self,
        address: str | None = None,
        *,
        token_file: str | None = None,
        retry_s: float = RETRY_S,
        reconnect_s: float = RECONNECT_S,
    ) -> None:
        """``address`` is ``unix:///path`` or ``http://127.0.0.1:7777``; over TCP ``token_file`` vouches for this client.

        A volantd that went away is asked again for ``retry_s`` seconds, and for ``reconnect_s`` by what follows events; nothing
        is done twice by that.
        """
        self.connection = Connection(address, token_file=token_file, retry_s=retry_s, reconnect_s=reconnect_s)

    @cached_property
    def vms(self) -> VMs:
        from volant.client.aio.vms import VMs

        return VMs(self.connection)

    @cached_property
    def configurations(self) -> Configurations:
        from volant.client.aio.configurations import Configurations

        return Configurations(self.connection)

    @cached_property
    def plugins(self) -> Plugins:
        from volant.client.aio.plugins import Plugins

        return Plugins(self.connection)

    @cached_property
    def plugin_indexes(self) -> PluginIndexes:
        from volant.client.aio.plugin_indexes import PluginIndexes

        return PluginIndexes(self.connection)

    @cached_property
    def artifacts(self) -> Artifacts:
        from volant.client.aio.artifacts import Artifacts

        return Artifacts(self.connection)

    @cached_property
    def events(self) -> Events:
        from volant.client.aio.events import Events

        return Events(self.connection)

    @cached_property
    def system(self) -> System:
        from volant.client.aio.system import System

        return System(self.connection)

    @cached_property
    def snapshots(self) -> Snapshots:
        from volant.client.aio.snapshots import Snapshots

        return Snapshots(self.connection)

    @cached_property
    def templates(self) -> Templates:
        from volant.client.aio.templates import Templates

        return Templates(self.connection)

    @cached_property
    def pools(self) -> Pools:
        from volant.client.aio.pools import Pools

        return Pools(self.connection)

    @cached_property
    def networks(self) -> Networks:
        from volant.client.aio.networks import Networks

        return Networks(self.connection)

    @cached_property
    def deployments(self) -> Deployments:
        from volant.client.aio.deployments import Deployments

        return Deployments(self.connection)

    @cached_property
    def nodes(self) -> Nodes:
        from volant.client.aio.nodes import Nodes

        return Nodes(self.connection)

    @cached_property
    def quotas(self) -> Quotas:
        from volant.client.aio.quotas import Quotas

        return Quotas(self.connection)

    @cached_property
    def inspections(self) -> Inspections:
        from volant.client.aio.inspection import Inspections

        return Inspections(self.connection)

    @cached_property
    def workloads(self) -> Workloads:
        from volant.client.aio.workloads import Workloads

        return Workloads(self.connection)

    @cached_property
    def applications(self) -> Applications:
        from volant.client.aio.apply import Applications

        return Applications(self.connection)

    @cached_property
    def jobs(self) -> Jobs:
        from volant.client.aio.jobs import Jobs

        return Jobs(self.connection)

    @cached_property
    def cron_jobs(self) -> CronJobs:
        from volant.client.aio.cron_jobs import CronJobs

        return CronJobs(self.connection)
