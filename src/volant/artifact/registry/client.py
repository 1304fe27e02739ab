"""The door to registries. Import it where it is used: it brings an HTTP client, which takes long to load."""

from __future__ import annotations

import random as system_random
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from types import TracebackType

import httpx2

from volant.artifact.registry.credentials import CredentialStore
from volant.artifact.registry.destination import Lookup, lookup_host
from volant.artifact.registry.documents import Descriptor, Platform
from volant.artifact.registry.download import Downloads, Report
from volant.artifact.registry.exchange import Exchange
from volant.artifact.registry.layout import write_image
from volant.artifact.registry.platform import host
from volant.artifact.registry.reference import ImageReference
from volant.artifact.registry.resolve import Document, ResolvedImage, fetch_document, fetch_small_blob, resolve_image
from volant.artifact.registry.settings import RegistrySettings
from volant.artifact.registry.upload import Uploads
from volant.core.clock import Clock
from volant.core.ids import Digest


class RegistryClient:
    """``async with RegistryClient() as client``. Many tasks may use one at once; connections and tokens are shared.

    All its errors are VolantErrors: NotFound, Forbidden (no leave), Unavailable (after all retries), TooLarge, InvalidInput,
    ChecksumMismatch, DiskFull, HostError. The last four parameters are for tests.
    """

    def __init__(
        self, settings: RegistrySettings | None = None, credentials: CredentialStore | None = None, *, clock: Clock | None = None,
        random: Callable[[], float] = system_random.random, lookup: Lookup = lookup_host,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._exchange = Exchange(
            settings or RegistrySettings(), credentials or CredentialStore(), clock=clock, random=random, lookup=lookup,
            transport=transport,
        )  # fmt: skip
        self._downloads = Downloads(self._exchange)
        self._uploads = Uploads(self._exchange)

    async def __aenter__(self) -> RegistryClient:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._exchange.close()

    async def resolve(self, reference: ImageReference, platform: Platform | None = None) -> ResolvedImage:
        """The image for ``platform`` (this machine's when None): its digest, manifest, configuration and layers."""
        return await resolve_image(self._exchange, reference, platform or host())

    async def fetch_document(self, reference: ImageReference) -> Document:
        """The manifest or index itself, as it is."""
        return await fetch_document(self._exchange, reference)

    async def read_blob(self, reference: ImageReference, blob: Descriptor, max_bytes: int) -> bytes:
        """A small blob, whole. Raises TooLarge when its descriptor says more than ``max_bytes``."""
        return await fetch_small_blob(self._exchange, reference, blob, max_bytes)

    async def fetch_image(self, image: ResolvedImage, layout: Path, *, tag: str = "", report: Report | None = None) -> int:
        """Write an OCI layout, under ``tag`` or the reference's own, or ``latest``; returns how many layers were missing.

        What a broken transfer got is kept in ``layout/partial`` for the next one.
        """
        name = tag or image.reference.tag or "latest"
        return await write_image(self._downloads, image, layout, self._exchange.clock, tag=name, report=report)

    async def fetch_blob(
        self,
        reference: ImageReference,
        blob: Descriptor,
        target: Path,
        *,
        partials: Path | None = None,
        report: Report | None = None,
    ) -> bool:
        """Bring a blob into a file; False when it was there. See ``Downloads.fetch``."""
        return await self._downloads.fetch(reference, blob, target, partials=partials, report=report)

    def open_blob(self, reference: ImageReference, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """A blob as a stream, retried and resumed inside, verified at its end. See ``Downloads.stream``."""
        return self._downloads.stream(reference, blob)

    async def push_blob(
        self,
        reference: ImageReference,
        blob: Descriptor,
        source: Path | bytes,
        *,
        mount_from: str = "",
        report: Report | None = None,
    ) -> bool:
        """Send a blob; False when the registry had it. See ``Uploads.push_blob``."""
        return await self._uploads.push_blob(reference, blob, source, mount_from=mount_from, report=report)

    async def push_manifest(self, reference: ImageReference, content: bytes, media_type: str) -> Digest:
        """Put a manifest, after everything that it names. See ``Uploads.push_manifest``."""
        return await self._uploads.push_manifest(reference, content, media_type)
