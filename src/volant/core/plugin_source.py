"""Plugins that lie elsewhere: what must be known of one before its files are fetched, and who fetches them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol

import msgspec

from volant.core.trust import SignedManifest

SOURCE_LABEL = "volant.source"
"""The label of a plugin that volantd fetched itself: where from, and the digest of what it found there."""


class FoundPlugin(msgspec.Struct, frozen=True, kw_only=True):
    """``manifest`` names every file by its content; ``source`` is the place and the digest of what lies there now."""

    source: str
    manifest: dict[str, Any]
    signed: SignedManifest | None


class FetchProgress(msgspec.Struct, frozen=True, kw_only=True):
    """``file`` is the manifest's field. ``size_bytes`` is 0 while nobody has said how large it is."""

    file: str
    done_bytes: int
    size_bytes: int


Report = Callable[[FetchProgress], None]


class OpenPlugin(Protocol):
    """A plugin elsewhere of which only the small parts were read."""

    @property
    def found(self) -> FoundPlugin: ...

    async def fetch(self, report: Report) -> None:
        """Bring the files that are not stored yet; ``report`` hears of each when it begins, and then of every MiB.

        Raises:
            ChecksumMismatch: a file is not what the manifest says. NotFound, Forbidden, Unavailable: nobody gives it.
            DiskFull: no room. TimedOut: it takes hours. What came of a file that broke off is taken up by the next attempt
            within a day; of one that is not what the manifest says nothing is kept.
        """
        ...


class PluginFetcher(Protocol):
    def open(self, source: str, checksum: str) -> AbstractAsyncContextManager[OpenPlugin]:
        """Read the manifest and the signature at ``source``, whose manifest is ``checksum`` where that is given.

        Raises:
            InvalidInput: the place cannot be right, or what lies there is no whole plugin. ChecksumMismatch, NotFound,
            Forbidden, Unavailable: as ``fetch``.
        """
        ...
