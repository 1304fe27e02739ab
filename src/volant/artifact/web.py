"""Files over https: bounded, resumed where a connection broke, redirected only where the place they began at may send anybody.

By the rules and with the parts of the registries (registry/), but nobody logs in here. Import it where it is used: it brings
an HTTP client, which takes long to load.
"""

from __future__ import annotations

import asyncio
import random as system_random
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from types import TracebackType

import httpx2

from volant.artifact.registry.connection import Connections, explain_failure
from volant.artifact.registry.destination import Destinations, Lookup, lookup_host
from volant.artifact.registry.download import PROGRESS_BYTES, Pace
from volant.artifact.registry.exchange import MAX_REDIRECTS, read_bounded, same_origin
from volant.artifact.registry.patience import Interrupted, Patience, read_retry_after
from volant.artifact.registry.settings import Endpoint, RegistrySettings
from volant.core.clock import Clock, HostClock
from volant.core.errors import ChecksumMismatch, Forbidden, HostError, InvalidInput, NotFound, TooLarge, VolantError

URL_MAX = 2048

_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_PASSING = frozenset({408, 425, 429, 500, 502, 503, 504})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-\d{1,18}/(\d{1,18}|\*)")

OnChunk = Callable[[int, int], None]
"""``(bytes so far, bytes in all)``; the second is 0 while the server has not said."""


class Web:
    """``async with Web(start)``. ``start`` is the url that somebody named: everything else is judged by where that lies.

    The last four parameters are for tests.
    """

    def __init__(
        self, start: str, settings: RegistrySettings | None = None, *, clock: Clock | None = None,
        random: Callable[[], float] = system_random.random, lookup: Lookup = lookup_host,
        transport: httpx2.AsyncBaseTransport | None = None,
    ) -> None:  # fmt: skip
        self._start = read_url(start)
        self._settings = settings or RegistrySettings()
        self._clock = clock or HostClock()
        self._random = random
        self._connections = Connections(self._settings, transport)
        self._destinations = Destinations(lookup)

    async def __aenter__(self) -> Web:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        await self._connections.close()

    def resolve(self, url: str) -> str:
        """``url`` as it stands in the document at the start (RFC 3986, section 5). Raises InvalidInput."""
        try:
            return str(read_url(str(self._start.join(url))))
        except (httpx2.InvalidURL, UnicodeError) as error:
            raise InvalidInput(f"{url[:160]!r} is not a url") from error

    async def read(self, url: str, max_bytes: int) -> bytes:
        """What lies at ``url``, whole.

        Raises:
            TooLarge: it has more than ``max_bytes``. NotFound, Forbidden, Unavailable, HostError: it cannot be had.
        """
        at = read_url(url)
        patience = self._patience()
        while True:
            try:
                async with asyncio.timeout(self._settings.document_timeout_s), self._get(at, 0) as response:
                    return await read_bounded(response, max_bytes, _show(at))
            except TimeoutError:
                await patience.wait(Interrupted(f"{at.host} took more than {self._settings.document_timeout_s:g} s to answer"))
            except Interrupted as error:
                await patience.wait(error)

    async def stream(
        self, url: str, max_bytes: int, on_chunk: OnChunk = lambda _done, _total: None, *, offset: int = 0
    ) -> AsyncGenerator[bytes, None]:
        """The content at ``url`` from ``offset`` on, in the pieces in which it comes, unverified. Use ``contextlib.aclosing``.

        Raises:
            As ``read``, and ChecksumMismatch: it changed between two connections.
        """
        at = read_url(url)
        patience = self._patience()
        done, total, since_failure = offset, -1, 0
        validator = ""
        while done != total:
            try:
                async with self._get(at, done, validator) as response:
                    validator = _read_validator(response) or validator
                    if done == offset > 0 and response.status_code == 416:
                        return  # nothing more, or another file: whoever has the beginning sees by its digest
                    skip, total = _read_extent(response, at, done, total)
                    if total > max_bytes:
                        raise TooLarge(f"{_show(at)} has {total} bytes, more than the {max_bytes} that it may have")
                    pace = Pace(self._settings.minimum_rate, self._settings.stall_timeout_s, self._clock)
                    async with aclosing(response.aiter_raw()) as chunks:
                        async for chunk in chunks:
                            pace.count(len(chunk), Endpoint(at.host, ""))
                            wanted = chunk[skip:] if skip else chunk
                            skip -= len(chunk) - len(wanted)
                            done += len(wanted)
                            since_failure += len(wanted)
                            if done > max_bytes:
                                raise TooLarge(f"{_show(at)} has more than the {max_bytes} bytes that it may have")
                            on_chunk(done, max(total, 0))
                            if wanted:
                                yield wanted
                    if total < 0:
                        return  # a chunked answer says itself where its end is
                    if done > total:
                        raise ChecksumMismatch(f"{_show(at)} gives more than the {total} bytes that it said")
                    if done < total:
                        raise Interrupted(f"{at.host} ended {at.path[:120]} {total - done} bytes early")
            except Interrupted as error:
                if since_failure >= PROGRESS_BYTES:
                    patience.renew()
                since_failure = 0
                await patience.wait(error)

    def _patience(self) -> Patience:
        return Patience(self._settings.attempts, self._clock, self._random)

    @asynccontextmanager
    async def _get(self, url: httpx2.URL, offset: int, validator: str = "") -> AsyncIterator[httpx2.Response]:
        """The answer to one question, its body unread. From ``offset`` on where the server does that, and still has what
        ``validator`` stands for (RFC 9110, section 13.1.5)."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        if offset and validator:
            headers["If-Range"] = validator
        at, hops = url, 0
        while True:
            addresses = await self._check(at)
            async with self._connections.send("GET", at, headers, None, addresses=addresses) as response:
                if response.status_code in _REDIRECTS:
                    hops += 1
                    if hops > MAX_REDIRECTS:
                        raise HostError(f"{url.host} redirects more than {MAX_REDIRECTS} times")
                    at = self._read_redirect(at, response.headers.get("location", ""))
                    continue
                if response.status_code != 200 and not (offset and response.status_code in (206, 416)):
                    raise self._explain(at, response)
                yield response
                return

    async def _check(self, url: httpx2.URL) -> tuple[str, ...]:
        """The addresses to speak to; without an allowance any for the host that somebody named. Raises Forbidden."""
        allowance = self._settings.allowance
        named = await self._destinations.check_named("https", url.host, url.port or 443, allowance)
        if same_origin(url, self._start):
            return named
        reach = await self._destinations.measure_registry("https", self._start.host, self._start.port or 443)
        return await self._destinations.check("https", url.host, url.port or 443, reach)

    def _read_redirect(self, at: httpx2.URL, location: str) -> httpx2.URL:
        with explain_failure(at):
            to = at.join(location)
        if to.scheme != "https" or not to.host or to.userinfo:
            raise Forbidden(f"{at.host} redirects to {to.scheme[:20]}://{to.host[:100]}, which is not followed: only https is")
        return to

    def _explain(self, url: httpx2.URL, response: httpx2.Response) -> VolantError:
        status = response.status_code
        if status in _PASSING or (status >= 500 and status != 501):
            after_s = read_retry_after(response.headers.get("retry-after"), self._clock)
            return Interrupted(f"{url.host} answers {status} for {url.path[:160]}", retry_after_s=after_s)
        if status in (404, 410):
            return NotFound(f"there is no {_show(url)}")
        if status in (401, 403):
            return Forbidden(f"{url.host} does not give {url.path[:160]} to everybody ({status})")
        return HostError(f"{url.host} answers {status} for {url.path[:160]}")


def read_url(text: str) -> httpx2.URL:
    """Raises InvalidInput unless it is an https url that names a host and nobody's password."""
    try:
        url = httpx2.URL(text)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise InvalidInput(f"{text[:160]!r} is not a url") from error
    if len(text) > URL_MAX:
        raise InvalidInput(f"{text[:80]!r}… is longer than {URL_MAX} characters")
    if url.scheme != "https" or not url.host:
        raise InvalidInput(f"{text[:160]!r} is not fetched: only https is", hint="https://HOST/PATH/manifest.json")
    if url.userinfo:
        raise InvalidInput(
            f"the url on {url.host} holds a password, which would be kept and shown", hint="leave USER:PASSWORD@ out"
        )
    return url


def _read_validator(response: httpx2.Response) -> str:
    """A strong entity tag; empty when there is none that says the bytes are the same."""
    tag: str = response.headers.get("etag", "")
    return tag if len(tag) <= 256 and tag.startswith('"') and tag.endswith('"') and tag.isascii() and tag.isprintable() else ""


def _read_extent(response: httpx2.Response, url: httpx2.URL, offset: int, known: int) -> tuple[int, int]:
    """How many bytes to pass over, and how many there are in all, -1 when the server does not say."""
    start, total = 0, response.headers.get("content-length", "")
    if response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        start, total = (int(match[1]), match[2]) if match else (-1, "")
    size = int(total) if total.isdecimal() and len(total) <= 18 else -1
    if response.status_code == 416 or not 0 <= start <= offset or (known >= 0 and size not in (-1, known)):
        raise ChecksumMismatch(f"{_show(url)} changed while it was fetched", hint="try again")
    return offset - start, known if size < 0 else size


def _show(url: httpx2.URL) -> str:
    """Without the query: it may hold a signature."""
    return f"https://{url.netloc.decode('ascii', 'replace')}{url.path}"[:300]
