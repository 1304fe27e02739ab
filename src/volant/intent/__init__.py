"""May this be asked? Names, references, limits, defaults; then it is written down in one transaction."""

from __future__ import annotations

from dataclasses import dataclass

from volant.intent.events import EventIntent
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


__all__ = ["EventIntent", "Intents", "PluginIntent", "PoolIntent", "SnapshotIntent", "SystemIntent", "VMIntent"]
