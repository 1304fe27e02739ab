"""The words that the parts of a simulated guest share."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Literal, Protocol

from volant.core.errors import InvalidInput
from volant.guest.document import Document, decode_document

CAPABILITIES: tuple[str, ...] = (
    "exec", "logs", "http_probe", "renew", "freeze", "sync", "clone", "tty", "attach", "connect", "files",
    "probes", "hooks", "ulimits", "dhcp", "stats2", "mounts",
)  # fmt: skip

Misbehaviour = Literal[
    "", "silent", "garbage", "lying_length", "endless_message", "flood_notices", "flood_pings", "flood_logs", "opens_streams"
]

ServePort = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
"""Serves one connection from its beginning to its end."""


class Machinelike(Protocol):
    """What is needed to know of a machine."""

    @property
    def uid(self) -> str: ...


class Writer(Protocol):
    """The stream of who writes to the workload."""

    @property
    def is_over(self) -> bool: ...


class Refusal(Exception):
    """An error answer: a code of docs/guest-protocol.md, section 4, and a message."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


def read_document(content: bytes) -> Document:
    """Raises Refusal as kestrel would."""
    try:
        return decode_document(content)
    except InvalidInput as error:
        raise Refusal("malformed", error.message) from error
