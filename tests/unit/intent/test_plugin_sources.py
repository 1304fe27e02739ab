"""Installing what lies elsewhere: what is refused before it is fetched, and what is written down afterwards."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from volant.artifact.trust import Trust
from volant.core.errors import AlreadyExists, ChecksumMismatch, InvalidInput, Unavailable, Untrusted
from volant.core.plugin_source import SOURCE_LABEL, FetchProgress, FoundPlugin, Report
from volant.core.simulated_clock import SimulatedClock
from volant.core.trust import SignedManifest
from volant.intent import PluginIntent
from volant.store.contract import Store

from .conftest import artifact_size, make_manifest

SOURCE = "oci://registry.example.org/nginx@sha256:" + "cd" * 32


class Elsewhere:
    """One plugin; remembers what was fetched."""

    def __init__(self) -> None:
        self.manifest: Any = make_manifest()
        self.signed: SignedManifest | None = None
        self.error: Exception | None = None
        self.asked: list[tuple[str, str]] = []
        self.fetched = 0
        self.closed = 0

    @asynccontextmanager
    async def open(self, source: str, checksum: str) -> AsyncIterator[Elsewhere]:
        self.asked.append((source, checksum))
        try:
            yield self
        finally:
            self.closed += 1

    @property
    def found(self) -> FoundPlugin:
        return FoundPlugin(source=SOURCE, manifest=self.manifest, signed=self.signed)

    async def fetch(self, report: Report) -> None:
        self.fetched += 1
        report(FetchProgress(file="rootfs", done_bytes=1, size_bytes=2))
        if self.error is not None:
            raise self.error


@pytest.fixture
def elsewhere() -> Elsewhere:
    return Elsewhere()


@pytest.fixture
def plugins(store: Store, trust: Trust, elsewhere: Elsewhere) -> PluginIntent:
    return PluginIntent(store, SimulatedClock(), artifact_size, trust, elsewhere)


async def test_what_was_fetched_is_installed_and_says_where_it_was(plugins: PluginIntent, elsewhere: Elsewhere) -> None:
    told: list[FetchProgress] = []
    plugin, created = await plugins.install_from("oci://registry.example.org/nginx", report=told.append)
    assert created and plugin.meta.labels == {SOURCE_LABEL: SOURCE}
    assert (await plugins.get("nginx")).meta.labels == {SOURCE_LABEL: SOURCE}
    assert elsewhere.asked == [("oci://registry.example.org/nginx", "")] and elsewhere.closed == 1
    assert told == [FetchProgress(file="rootfs", done_bytes=1, size_bytes=2)]
    again, created = await plugins.install_from("oci://registry.example.org/nginx")
    assert (again.uid, created) == (plugin.uid, False)


async def test_a_manifest_cannot_say_where_it_was(plugins: PluginIntent) -> None:
    manifest = make_manifest(labels={SOURCE_LABEL: "oci://bank.example.org/nginx", "tier": "web"})
    plugin, _ = await plugins.install(manifest)
    assert plugin.meta.labels == {"tier": "web"}


async def test_another_plugin_of_that_name_is_refused_before_anything_is_fetched(
    plugins: PluginIntent, elsewhere: Elsewhere
) -> None:
    await plugins.install(make_manifest(resources={"cpu_cores": 2, "memory_mb": 128}))
    with pytest.raises(AlreadyExists, match=r"version 1\.0"):
        await plugins.install_from("oci://registry.example.org/nginx")
    assert (elsewhere.fetched, elsewhere.closed) == (0, 1)


@pytest.mark.parametrize("changes", [{"name": "Bad Name"}, {"boot": None}, {"devices": {"pci_passthrough": ["0000:01:00.0"]}}])
async def test_what_cannot_be_installed_is_not_fetched(
    plugins: PluginIntent, elsewhere: Elsewhere, changes: dict[str, Any]
) -> None:
    elsewhere.manifest = make_manifest() | changes
    with pytest.raises(InvalidInput):
        await plugins.install_from("oci://registry.example.org/nginx")
    assert elsewhere.fetched == 0


async def test_what_is_not_trusted_is_not_fetched(store: Store, keys: Path, elsewhere: Elsewhere) -> None:
    plugins = PluginIntent(store, SimulatedClock(), artifact_size, Trust("enforce", keys), elsewhere)
    with pytest.raises(Untrusted, match="it is not signed"):
        await plugins.install_from("oci://registry.example.org/nginx")
    assert elsewhere.fetched == 0


async def test_a_fetch_that_fails_installs_nothing(plugins: PluginIntent, elsewhere: Elsewhere) -> None:
    elsewhere.error = ChecksumMismatch("it is another one")
    with pytest.raises(ChecksumMismatch):
        await plugins.install_from("oci://registry.example.org/nginx")
    assert (await plugins.list())[0] == [] and elsewhere.closed == 1


async def test_without_a_fetcher_it_is_said(store: Store, trust: Trust) -> None:
    with pytest.raises(Unavailable, match="fetches nothing"):
        await PluginIntent(store, SimulatedClock(), artifact_size, trust).install_from("oci://registry.example.org/nginx")
