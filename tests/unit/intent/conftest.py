from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from volant.artifact.trust import Trust
from volant.core.network import NetworkSpec
from volant.core.node import NodeStatus
from volant.core.simulated_clock import SimulatedClock
from volant.intent import (
    ConfigurationIntent,
    CronJobIntent,
    DeploymentIntent,
    DrainIntent,
    EventIntent,
    Intents,
    JobIntent,
    NetworkIntent,
    NodeIntent,
    PluginIntent,
    PoolIntent,
    QuotaIntent,
    SnapshotIntent,
    SystemIntent,
    VMIntent,
)
from volant.intent.bootstrap import ensure_default_network, register_node
from volant.store.contract import Store
from volant.store.sqlite import open_store

DIGEST = "sha256:" + "ab" * 32
MISSING = "sha256:" + "ff" * 32


def make_manifest(name: str = "nginx", **changes: Any) -> dict[str, Any]:
    medium = {"url": "artifact:" + DIGEST, "checksum": DIGEST}
    return {
        "schema_version": "v1",
        "name": name,
        "version": "1.0",
        "resources": {"cpu_cores": 1, "memory_mb": 128},
        "workload": {"type": "http", "base_url": "http://127.0.0.1:80", "entrypoint": ["/usr/sbin/nginx"]},
        "boot": {"kernel": medium, "initramfs": medium},
        "rootfs": medium,
        **changes,
    }


async def artifact_size(digest: str) -> int | None:
    return None if digest == MISSING else 4096


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path / "volant.db", SimulatedClock()) as opened:
        yield opened


@pytest.fixture
def keys(tmp_path: Path) -> Path:
    """The directory of the trusted keys."""
    directory = tmp_path / "trust"
    directory.mkdir()
    return directory


@pytest.fixture
def trust(keys: Path) -> Trust:
    return Trust("off", keys)


@pytest.fixture
async def intents(store: Store, trust: Trust) -> Intents:
    clock = SimulatedClock()
    await register_node(store, clock, "here", NodeStatus(cpu_cores=2, memory_mb=1024))
    await ensure_default_network(store, clock, NetworkSpec(subnet="10.9.0.0/29"))
    vms = VMIntent(store, clock)
    plugins = PluginIntent(store, clock, artifact_size, trust)
    jobs = JobIntent(store, clock, vms)
    return Intents(
        vms=vms,
        plugins=plugins,
        events=EventIntent(store),
        system=SystemIntent(store, vms, plugins, NodeIntent(store, clock)),
        snapshots=SnapshotIntent(store, clock, vms),
        pools=PoolIntent(store),
        configuration=ConfigurationIntent(clock, vms),
        networks=NetworkIntent(store, clock),
        nodes=NodeIntent(store, clock),
        drains=DrainIntent(store, clock, NodeIntent(store, clock), vms),
        quotas=QuotaIntent(store, clock),
        jobs=jobs,
        cron_jobs=CronJobIntent(store, clock, jobs),
        deployments=DeploymentIntent(store, clock, vms),
    )
