"""Artifacts through the API."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from volant.client.connection import Connection
from volant.core.errors import NotFound
from volant.core.ids import Digest

PATH = "/api/v1/artifacts"
CHUNK_BYTES = 1024 * 1024
ANSWER_S = 300.0
"""Between two chunks, and for the sync to disk at the end."""


class Artifacts:
    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def size(self, digest: Digest) -> int | None:
        """How many bytes it has; None when it is not stored."""
        try:
            answer = self._connection.request("HEAD", f"{PATH}/{digest}")
        except NotFound:
            return None
        return int(answer.headers.get("Volant-Size", "0"))

    def list(self) -> list[dict[str, Any]]:
        """Every stored file: ``digest``, ``size_bytes`` and ``needed_by``."""
        found: list[dict[str, Any]] = self._connection.get_json(PATH)["items"]
        return found

    def remove(self, digest: Digest) -> None:
        """Raises InUse while something needs it."""
        self._connection.request("DELETE", f"{PATH}/{digest}")

    def prune(self, *, dry_run: bool = False) -> Sequence[dict[str, Any]]:
        """The files that went because nothing needs them, or would."""
        answer = self._connection.request("POST", f"{PATH}/prune", query={"dry_run": True} if dry_run else None)
        found: Sequence[dict[str, Any]] = answer.json()["items"]
        return found

    def upload(self, digest: Digest, file: Path, on_progress: Callable[[int], None] = lambda _sent: None) -> None:
        """Store a file under its digest; ``on_progress`` hears how many bytes went so far."""
        with file.open("rb") as content:
            size = os.fstat(content.fileno()).st_size
            self._connection.upload(f"{PATH}/{digest}", _read_chunks(content, on_progress), size, timeout_s=ANSWER_S)


def _read_chunks(content: BinaryIO, on_progress: Callable[[int], None]) -> Iterator[bytes]:
    sent = 0
    while chunk := content.read(CHUNK_BYTES):
        yield chunk
        sent += len(chunk)
        on_progress(sent)
