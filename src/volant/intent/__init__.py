"""May this be asked? Names, references, limits, defaults; then it is written down in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from volant.intent.configuration import ConfigurationIntent
from volant.intent.events import EventIntent
from volant.intent.kept_answers import KeptAnswers
from volant.intent.networks import NetworkIntent
from volant.intent.plugins import PluginIntent
from volant.intent.pools import PoolIntent
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
    kept_answers: KeptAnswers | None = None
    """None: an Idempotency-Key is passed over."""


__all__ = [
    "ConfigurationIntent",
    "EventIntent",
    "Intents",
    "NetworkIntent",
    "PluginIntent",
    "PoolIntent",
    "SnapshotIntent",
    "SystemIntent",
    "VMIntent",
]
