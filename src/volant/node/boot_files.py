"""A look into artifacts that VMs are to boot from."""

from __future__ import annotations

import asyncio
import os
from typing import Protocol

from volant.core.errors import NotFound
from volant.core.ids import Digest


class Artifacts(Protocol):
    """What a look needs of the artifact store."""

    def open(self, digest: Digest) -> int: ...


class BootFileReader:
    def __init__(self, artifacts: Artifacts) -> None:
        self._artifacts = artifacts

    async def read_head(self, digest: Digest, size: int) -> bytes | None:
        """The first ``size`` bytes of an artifact; None when it is not stored."""
        return await asyncio.to_thread(self._read, digest, size)

    def _read(self, digest: Digest, size: int) -> bytes | None:
        try:
            descriptor = self._artifacts.open(digest)
        except NotFound:
            return None
        try:
            return os.pread(descriptor, size, 0)
        finally:
            os.close(descriptor)
