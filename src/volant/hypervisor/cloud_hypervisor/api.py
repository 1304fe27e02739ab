"""Requests to one VM process (Cloud Hypervisor's OpenAPI description, version 0.3.0): HTTP/1.1 on its UNIX socket.

A connection carries one request. Descriptors travel with its first byte (SCM_RIGHTS, unix(7)), which is how the process gets
its taps. What it answers is bounded and validated: a process that was taken over by its guest may say anything.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from volant.core.errors import HostError, Unavailable
from volant.hypervisor.cloud_hypervisor.work import API
from volant.hypervisor.socket import connect_socket

ANSWER_TIMEOUT_S = 5.0
ANSWER_MAX_BYTES = 4 << 20
"""What the process itself takes of a request."""

HEAD_MAX_BYTES = 16 << 10
WORDS_MAX = 500
DESCRIPTORS_MAX = 64

T = TypeVar("T")


class Refused(HostError):
    """The process answered with an error; ``http_status`` is its."""

    def __init__(self, message: str, http_status: int) -> None:
        super().__init__(message)
        self.http_status = http_status


class Ping(msgspec.Struct, frozen=True):
    version: str
    build_version: str = ""


class Info(msgspec.Struct, frozen=True):
    """Of ``vm.info`` what we look at."""

    state: str
    memory_actual_size: int | None = None
    device_tree: dict[str, Any] | None = None


class Api:
    """One VM process's API. It does one thing after the other, so there is one request at a time."""

    def __init__(self, sockets: Path) -> None:
        self._sockets = sockets
        self._asking = asyncio.Lock()

    async def ping(self) -> Ping:
        """Raises as ``put``."""
        return _decode(await self._ask("GET", "vmm.ping", b"", (), ANSWER_TIMEOUT_S), Ping, "vmm.ping")

    async def info(self) -> Info:
        """Raises as ``put``."""
        return _decode(await self._ask("GET", "vm.info", b"", (), ANSWER_TIMEOUT_S), Info, "vm.info")

    async def counters(self) -> dict[str, dict[str, int]]:
        """By the device's id. Raises as ``put``."""
        content = await self._ask("GET", "vm.counters", b"", (), ANSWER_TIMEOUT_S)
        return _decode(content, dict[str, dict[str, int]], "vm.counters")

    async def put(
        self,
        action: str,
        body: object = None,
        *,
        descriptors: Sequence[int] = (),
        timeout_s: float = ANSWER_TIMEOUT_S,
    ) -> None:
        """Have ``action`` (``vm.boot``) done. ``descriptors`` stay the caller's.

        Raises:
            Unavailable: the process does not answer. Refused: it says why it did not do it.
        """
        content = b"" if body is None else msgspec.json.encode(body)
        await self._ask("PUT", action, content, descriptors, timeout_s)

    async def _ask(self, method: str, action: str, content: bytes, descriptors: Sequence[int], timeout_s: float) -> bytes:
        assert len(descriptors) <= DESCRIPTORS_MAX
        try:
            async with asyncio.timeout(timeout_s), self._asking:
                status, answer = await self._exchange(_build_request(method, action, content), descriptors)
        except TimeoutError as error:
            raise Unavailable(f"the VM process did not answer {action} within {timeout_s:g} s") from error
        except EOFError as error:
            raise Unavailable(f"the VM process did not answer {action}: it hung up") from error
        except (OSError, ValueError) as error:
            raise Unavailable(f"the VM process did not answer {action}: {error}") from error
        if status >= 300:
            raise Refused(f"the VM process refused {action}: {_read_words(answer) or f'status {status}'}", status)
        return answer

    async def _exchange(self, request: bytes, descriptors: Sequence[int]) -> tuple[int, bytes]:
        connection = connect_socket(self._sockets, API)
        try:
            # A socket that was just opened has room for the first bytes, and descriptors go with those.
            sent = socket.send_fds(connection, [request], list(descriptors)) if descriptors else connection.send(request)
            reader, writer = await asyncio.open_unix_connection(sock=connection, limit=HEAD_MAX_BYTES)
        except BaseException:
            connection.close()
            raise
        try:
            writer.write(request[sent:])
            await writer.drain()
            head = await reader.readuntil(b"\r\n\r\n")
            status, length = _read_head(head)
            return status, await reader.readexactly(length)
        except asyncio.LimitOverrunError as error:
            raise ValueError("the head of its answer has no end") from error
        finally:
            writer.transport.abort()


def _build_request(method: str, action: str, content: bytes) -> bytes:
    lines = [f"{method} /api/v1/{action} HTTP/1.1", "Host: localhost", "Accept: */*"]
    if content:
        # One without a body must not be announced with one, not even an empty one.
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join([*lines, "", ""]).encode() + content


def _read_head(head: bytes) -> tuple[int, int]:
    """Status and length of the body. Raises ValueError."""
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ", 2)
    if len(words) < 2 or not words[0].startswith("HTTP/1.") or not (words[1].isascii() and words[1].isdecimal()):
        raise ValueError(f"it answers {first[:80]!r}")
    length = 0
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip().lower() == "content-length":
            text = value.strip()
            if not (text.isascii() and text.isdecimal()) or len(text) > 12 or int(text) > ANSWER_MAX_BYTES:
                raise ValueError(f"it announces {text[:20]!r} bytes")
            length = int(text)
    return int(words[1]), length


def _read_words(answer: bytes) -> str:
    """The error's own words: a list of them from the outside in, in versions before 49 plain text."""
    try:
        words = msgspec.json.decode(answer, type=list[str])
    except (msgspec.DecodeError, UnicodeDecodeError):
        words = [answer.decode("utf-8", "replace")]
    text = ": ".join(word.strip() for word in words if word.strip())
    return "".join(c if c.isprintable() else " " for c in text)[:WORDS_MAX]


def _decode(content: bytes, kind: type[T], action: str) -> T:
    try:
        return msgspec.json.decode(content, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"the VM process answers {action} with something else: {error}") from error
