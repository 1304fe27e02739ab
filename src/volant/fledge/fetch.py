"""One file from an https or file URL, which is what its digest says or nothing."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urljoin, urlsplit

from volant.core.errors import ChecksumMismatch, HostError, InvalidInput, TimedOut, TooLarge
from volant.fledge.content import CHUNK

if TYPE_CHECKING:
    import httpx2

_Take = Callable[[bytes], object]

FETCH_TIMEOUT_S = 900.0
STALL_TIMEOUT_S = 30.0
REDIRECTS_MAX = 5


async def fetch_file(
    url: str, target: Path, *, sha256: str, max_bytes: int, field: str, transport: httpx2.AsyncBaseTransport | None = None
) -> None:
    """Write what ``url`` names to ``target``. ``field`` is the key that named it, ``transport`` stands in for the network.

    Raises:
        InvalidInput: the URL cannot be right. ChecksumMismatch: it is another file.
        TooLarge, TimedOut, HostError: it cannot be had.
    """
    check_url(url, field)
    digest = hashlib.sha256()
    parts = urlsplit(url)
    try:
        with target.open("xb") as writer:
            if parts.scheme == "file":
                await asyncio.to_thread(_copy, Path(unquote(parts.path)), writer.write, digest.update, max_bytes, field)
            else:
                async with asyncio.timeout(FETCH_TIMEOUT_S):
                    await _download(url, writer.write, digest.update, max_bytes, transport)
    except TimeoutError as error:
        raise TimedOut(f"{url} was not there after {FETCH_TIMEOUT_S:g} s", hint="check the network") from error
    if digest.hexdigest() != sha256.lower():
        raise ChecksumMismatch(
            f"{url} has the digest {digest.hexdigest()}, not {sha256.lower()}", hint="is the digest in the recipe right?"
        )


def check_url(url: str, field: str) -> None:
    """Raises InvalidInput unless ``url`` is ``https://HOST/PATH`` or ``file:///PATH``."""
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise InvalidInput(f"{url[:80]!r} is no URL", field=field) from error
    if parts.scheme == "file" and not parts.netloc and parts.path.startswith("/"):
        return
    if parts.scheme != "https" or not parts.hostname:
        raise InvalidInput(f"{url[:80]!r} is not fetched", field=field, hint="https://HOST/PATH or file:///PATH")


async def _download(url: str, write: _Take, update: _Take, max_bytes: int, transport: httpx2.AsyncBaseTransport | None) -> None:
    import httpx2

    try:
        async with httpx2.AsyncClient(transport=transport, timeout=STALL_TIMEOUT_S, follow_redirects=False) as client:
            for _ in range(REDIRECTS_MAX + 1):
                async with client.stream("GET", url, headers={"Accept-Encoding": "identity"}) as response:
                    if not response.is_redirect:
                        await _take_answer(response, url, write, update, max_bytes)
                        return
                    url = urljoin(url, response.headers["location"])
                if urlsplit(url).scheme != "https":
                    raise HostError(f"the host sends on to {url[:80]!r}", hint="only https is followed")
    except httpx2.HTTPError as error:
        raise HostError(
            f"{url} cannot be fetched: {error or type(error).__name__}", hint="check the network and the URL"
        ) from error
    raise HostError(f"{url} is sent on more than {REDIRECTS_MAX} times", hint="give the URL where it ends")


async def _take_answer(response: httpx2.Response, url: str, write: _Take, update: _Take, max_bytes: int) -> None:
    if response.status_code != 200:
        raise HostError(f"{url} answers {response.status_code}", hint="check the URL")
    taken = 0
    async for chunk in response.aiter_raw():
        taken += len(chunk)
        if taken > max_bytes:
            raise _too_large(url, max_bytes)
        update(chunk)
        write(chunk)


def _copy(path: Path, write: _Take, update: _Take, max_bytes: int, field: str) -> None:
    taken = 0
    try:
        with path.open("rb") as reader:
            while chunk := reader.read(CHUNK):
                taken += len(chunk)
                if taken > max_bytes:
                    raise _too_large(str(path), max_bytes)
                update(chunk)
                write(chunk)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}", field=field) from error


def _too_large(what: str, max_bytes: int) -> TooLarge:
    return TooLarge(f"{what} is larger than {max_bytes} bytes", hint="check the URL")
