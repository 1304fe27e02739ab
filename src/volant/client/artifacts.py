"""Artifacts through the API."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

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
