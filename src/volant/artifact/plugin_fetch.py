"""Plugins from elsewhere into the store: each file verified, or not at all."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

from volant.artifact.disk import explain_disk
from volant.artifact.registry.credentials import CredentialStore
from volant.artifact.registry.reference import PLUGIN_SCHEME
from volant.artifact.registry.settings import RegistrySettings
from volant.artifact.signature import read_public_key, read_signature, verify_content
from volant.artifact.store import ArtifactStore
from volant.core.errors import InvalidInput, TimedOut, Untrusted, VolantError
from volant.core.failure import first_error
from volant.core.ids import Digest, check_digest
from volant.core.manifest import convert_manifest
from volant.core.plugin import wanted_artifacts
from volant.core.plugin_source import FetchProgress, FoundPlugin, Report

if TYPE_CHECKING:
    from volant.artifact.plugin_origin import OnChunk, Origin, RemoteFile

WEB_SCHEME = "https://"
REPORT_BYTES = 1024 * 1024
FETCH_LIMIT_S = 6 * 3600.0
TRANSFERS = 4
"""So many files are fetched at once, for all who install together."""

_ROUNDS = 3


class PluginFetch:
    """Implements core's PluginFetcher over one store. ``load_settings`` is asked each time: its file may have changed."""

    def __init__(
        self,
        store: ArtifactStore,
        load_settings: Callable[[], RegistrySettings] = RegistrySettings,
        credentials: CredentialStore | None = None,
    ) -> None:
        self._store = store
        self._load_settings = load_settings
        self._credentials = credentials or CredentialStore()
        self._slots = asyncio.Semaphore(TRANSFERS)
        self._fetching: WeakValueDictionary[Digest, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def open(self, source: str, checksum: str) -> AsyncIterator[RemotePlugin]:
        """See PluginFetcher.open."""
        async with AsyncExitStack() as stack:
            origin = await self._open(stack, source, checksum)
            await self._check_elsewhere(origin)
            yield RemotePlugin(origin, self)

    async def fetch(self, files: tuple[RemoteFile, ...], report: Report) -> None:
        """See OpenPlugin.fetch."""
        with explain_disk(self._store.partials):
            self._store.partials.mkdir(mode=0o700, exist_ok=True)
        await self._sweep()
        try:
            async with asyncio.timeout(FETCH_LIMIT_S):
                # What lay there at the beginning may have been swept by the end: nothing of it belongs to anybody yet.
                for _ in range(_ROUNDS):
                    missing = [file for file in files if await asyncio.to_thread(self._store.size, file.digest) is None]
                    if not missing:
                        return
                    await self._fetch_all(missing, report)
        except TimeoutError:
            raise TimedOut(f"the files did not come within {FETCH_LIMIT_S / 3600:g} hours") from None

    async def read_document(self, url: str, max_bytes: int, key: str = "") -> bytes:
        """See IndexReader.read_document."""
        await asyncio.to_thread(importlib.import_module, "volant.artifact.plugin_origin")
        from volant.artifact.plugin_origin import read_signed_document

        content, signature = await read_signed_document(url, max_bytes, self._load_settings(), with_signature=bool(key))
        if key:
            self.check_document(content, signature, key)
        return content

    def check_document(self, content: bytes, signature: str, key: str) -> None:
        """See IndexReader.check_document."""
        public = read_public_key(key.encode(), "the key of the index")
        try:
            verify_content(content, read_signature(signature.encode(), "the signature of the index"), public, "the index")
        except VolantError as error:
            raise Untrusted(f"the index is not signed by its key: {error.message}", hint=error.hint) from error

    async def _sweep(self) -> None:
        from volant.artifact.resumed import sweep_partials

        await sweep_partials(self._store.partials)

    async def _fetch_all(self, files: list[RemoteFile], report: Report) -> None:
        try:
            async with asyncio.TaskGroup() as group:
                for file in {file.digest: file for file in files}.values():
                    group.create_task(self._fetch_one(file, report))
        except ExceptionGroup as errors:
            raise first_error(errors) from errors

    async def _fetch_one(self, file: RemoteFile, report: Report) -> None:
        report(FetchProgress(file=file.field, done_bytes=0, size_bytes=file.size_bytes))
        async with self._fetching.setdefault(file.digest, asyncio.Lock()), self._slots:
            if await asyncio.to_thread(self._store.size, file.digest) is not None:
                return  # somebody else has fetched it meanwhile
            brought = await file.bring(self._store.partials, _tell(file, report))
            await self._store.take(brought, file.digest)
            brought.unlink(missing_ok=True)  # it was copied, or another brought it meanwhile
            size = await asyncio.to_thread(self._store.size, file.digest) or 0
        report(FetchProgress(file=file.field, done_bytes=size, size_bytes=size))

    async def _open(self, stack: AsyncExitStack, source: str, checksum: str) -> Origin:
        if not source.startswith((PLUGIN_SCHEME, WEB_SCHEME)):
            raise InvalidInput(
                f"{source[:160]!r} is nowhere that plugins are fetched from", field="source",
                hint="oci://HOST/NAME:TAG, or https://HOST/PATH/manifest.json",
            )  # fmt: skip
        # It brings an HTTP client: nobody waits for that who fetches nothing, nor does the event loop.
        await asyncio.to_thread(importlib.import_module, "volant.artifact.plugin_origin")
        from volant.artifact.plugin_origin import open_registry, open_web

        if source.startswith(PLUGIN_SCHEME):
            if checksum:
                raise InvalidInput(
                    "a registry's plugin is pinned by its digest", field="checksum", hint=f"{PLUGIN_SCHEME}HOST/NAME@sha256:…"
                )
            return await open_registry(stack, source, self._load_settings(), self._credentials)
        if not checksum:
            raise InvalidInput(
                "a manifest from the web needs its checksum", field="checksum", hint="--checksum sha256:…, as sha256sum says"
            )
        return await open_web(stack, source, check_digest(checksum, "checksum"), self._load_settings())

    async def _check_elsewhere(self, origin: Origin) -> None:
        """Raises InvalidInput when a file neither lies with the manifest nor is stored."""
        for field, url in origin.elsewhere.items():
            digest = _find_digest(origin.found, field)
            if not digest or await asyncio.to_thread(self._store.size, digest) is None:
                raise InvalidInput(
                    f"the file of {field} ({url[:160]!r}) does not lie where its manifest does, and is not stored here",
                    field=field, hint="upload it first: PUT /api/v1/artifacts/DIGEST",
                )  # fmt: skip


class RemotePlugin:
    """Implements core's OpenPlugin."""

    def __init__(self, origin: Origin, fetch: PluginFetch) -> None:
        self._origin = origin
        self._fetch = fetch

    @property
    def found(self) -> FoundPlugin:
        return self._origin.found

    async def fetch(self, report: Report) -> None:
        await self._fetch.fetch(self._origin.files, report)


def _find_digest(found: FoundPlugin, field: str) -> Digest | None:
    roles = {"boot.kernel": "kernel", "boot.initramfs": "boot_initramfs"}
    if field.startswith("disks["):
        roles[field] = f"disk:{field.removeprefix('disks[').removesuffix(']')}"
    return wanted_artifacts(convert_manifest(found.manifest)).get(roles.get(field, field))


def _tell(file: RemoteFile, report: Report) -> OnChunk:
    """Every MiB, not every piece."""
    told = 0

    def tell(done: int, total: int) -> None:
        nonlocal told
        if done - told >= REPORT_BYTES:
            told = done
            report(FetchProgress(file=file.field, done_bytes=done, size_bytes=total))

    return tell
