"""Files of a VM as tar archives."""

from __future__ import annotations

import http.client
from collections.abc import Iterator
from types import TracebackType

import msgspec

from volant.client.connection import Connection
from volant.client.problem import read_problem
from volant.core.errors import Unavailable
from volant.core.tar import PROBLEM, read_incidents

READ_BYTES = 64 * 1024
TAIL_BYTES = 64 * 1024
"""How much of the end is kept, to find in it why there is no more."""

SILENCE_S = 300.0


class Archive:
    """A tar archive as it comes. Iterate once for its bytes; then ``skipped`` and ``torn`` say what is not in it as it was."""

    def __init__(self, connection: Connection, path: str, source: str) -> None:
        self.skipped = self.torn = 0
        self._opened = connection.stream(
            path, query={"path": source}, headers={"Accept": "application/x-tar"}, silence_s=SILENCE_S
        )

    def __enter__(self) -> Archive:
        self._stream = self._opened.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._opened.__exit__(kind, error, trace)

    def __iter__(self) -> Iterator[bytes]:
        """Raises what volantd says went wrong, Unavailable when the archive ends without a word."""
        tail = bytearray()
        try:
            while chunk := self._stream.read_some(READ_BYTES):
                tail += chunk
                del tail[:-TAIL_BYTES]
                yield chunk
        except (OSError, http.client.HTTPException) as error:
            raise_told(bytes(tail))
            raise Unavailable("the copy was cut off", hint="is volantd still running?") from error
        self.skipped, self.torn = read_incidents(bytes(tail))


def raise_told(tail: bytes) -> None:
    """The problem that an archive which is not whole ends with, if it does."""
    _, found, after = tail.rpartition(f"{PROBLEM}=".encode())
    if not found:
        return
    try:
        problem = msgspec.json.decode(after.partition(b"\n")[0])
    except msgspec.DecodeError:
        return
    if isinstance(problem, dict):
        raise read_problem(int(problem.get("status", 500)), problem)
