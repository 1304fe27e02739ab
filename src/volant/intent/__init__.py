"""May this be asked? Names, references, limits, defaults; then it is written down in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from volant.intent.apply import ApplyIntent
from volant.intent.configuration import ConfigurationIntent
from volant.intent.cron_jobs import CronJobIntent
from volant.intent.deployments import DeploymentIntent
from volant.intent.drain import DrainIntent
from volant.intent.events import EventIntent
from volant.intent.jobs import JobIntent
from volant.intent.kept_answers import KeptAnswers
from volant.intent.networks import NetworkIntent
from volant.intent.nodes import NodeIntent
from volant.intent.plugins import PluginIntent
from volant.intent.pools import PoolIntent
from volant.intent.queues import QueueIntent
from volant.intent.quotas import QuotaIntent
from volant.intent.snapshots import SnapshotIntent
from volant.intent.system import SystemIntent
from volant.intent.vms import VMIntent


@dataclass(frozen=True, kw_only=True)
class Intents:
    """Everything that the API may ask."""

    vms: VMIntent
    plugins: PluginIntent
    events: EventIntent
    system: SystemIntent
    snapshots: SnapshotIntent
    pools: PoolIntent
    configuration: ConfigurationIntent
    networks: NetworkIntent
    nodes: NodeIntent
    drains: DrainIntent
    quotas: QuotaIntent
    jobs: JobIntent
    cron_jobs: CronJobIntent
    deployments: DeploymentIntent
    queues: QueueIntent | None = None
    """None: there are no controllers to look at."""
    apply: ApplyIntent | None = None
    """None: no files are applied."""
    kept_answers: KeptAnswers | None = None
    """None: an Idempotency-Key is passed over."""


__all__ = [
    "ApplyIntent",
    "ConfigurationIntent",
    "CronJobIntent",
    "DeploymentIntent",
    "DrainIntent",
    "EventIntent",
    "Intents",
    "JobIntent",
    "NetworkIntent",
    "NodeIntent",
    "PluginIntent",
    "PoolIntent",
    "QuotaIntent",
    "SnapshotIntent",
    "SystemIntent",
    "VMIntent",
]
