"""Blobs from registries: resumed where they broke off, bounded by their descriptor, kept only when they are what it says."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from pathlib import Path

import httpx2

from volant.artifact.registry.documents import Descriptor, check_descriptor
from volant.artifact.registry.exchange import Exchange
from volant.artifact.registry.partial import BATCH_BYTES, PartialBlob, open_partial
from volant.artifact.registry.patience import Interrupted
from volant.artifact.registry.reference import ImageReference
from volant.artifact.registry.settings import Endpoint, list_endpoints
from volant.core.clock import Clock
from volant.core.errors import ChecksumMismatch, VolantError

PROGRESS_BYTES = 1024 * 1024
"""So much more than at the last failure makes the next one the first again."""

Report = Callable[[str, int, int], None]
"""``(digest, bytes done, bytes in all)``."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18}|\*)")


class Downloads:
    """At most ``settings.transfers`` blobs are fetched into files at once."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._slots = asyncio.Semaphore(exchange.settings.transfers)

    async def stream(self, reference: ImageReference, blob: Descriptor) -> AsyncGenerator[bytes, None]:
        """The content of ``blob`` in pieces of about a MiB, verified when the last one has been taken.

        Broken connections are taken up again inside. Use ``contextlib.aclosing`` when it may not be read to its end.

        Raises:
            ChecksumMismatch: it is not what its descriptor says. NotFound, Forbidden, Interrupted, HostError: nobody gives it.
        """
        check_descriptor(blob, str(reference))
        hasher = hashlib.sha256()
        async with aclosing(gather(self._stream(list_endpoints(reference, self._exchange.settings), blob, 0))) as batches:
            async for batch in batches:
                await asyncio.to_thread(hasher.update, batch)
                yield batch
        if f"sha256:{hasher.hexdigest()}" != blob.digest:
            raise ChecksumMismatch(f"{blob.size} bytes came for {blob.digest}, and they are sha256:{hasher.hexdigest()}")

    async def fetch(
        self,
        reference: ImageReference,
        blob: Descriptor,
        target: Path,
        *,
        partials: Path | None = None,
        report: Report | None = None,
    ) -> bool:
        """Bring ``blob`` to ``target``, unless it is there; False when it was.

        What an interrupted transfer got stays in ``partials`` (by default beside ``target``; on the same file system) and is
        taken up by the next one, of any process.

        Raises:
            As ``stream``, and DiskFull.
        """
        check_descriptor(blob, str(reference))
        endpoints = list_endpoints(reference, self._exchange.settings)
        async with self._slots, open_partial(partials or target.parent, blob, target, self._exchange.clock) as partial:
            if partial is None:
                return False
            for endpoint in endpoints[:-1]:
                try:
                    await self._fetch_from(endpoint, blob, partial, report)
                    break
                except VolantError:
                    continue
            else:
                await self._fetch_from(endpoints[-1], blob, partial, report)
            await partial.publish(target)
            return True

    async def _fetch_from(self, endpoint: Endpoint, blob: Descriptor, partial: PartialBlob, report: Report | None) -> None:
        is_resumed = partial.offset > 0
        try:
            await self._append(endpoint, blob, partial, report)
            await partial.verify(blob)
        except ChecksumMismatch:
            await partial.discard()
            if not is_resumed:
                raise
            # What lay there may be at fault, not what came.
            await self._append(endpoint, blob, partial, report)
            await partial.verify(blob)

    async def _append(self, endpoint: Endpoint, blob: Descriptor, partial: PartialBlob, report: Report | None) -> None:
        async with aclosing(gather(self._stream((endpoint,), blob, partial.offset))) as batches:
            if report is not None:
                report(blob.digest, partial.offset, blob.size)
            async for batch in batches:
                await partial.write(batch)
                if report is not None:
                    report(blob.digest, partial.offset, blob.size)

    async def _stream(self, endpoints: tuple[Endpoint, ...], blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        """From ``offset`` on, unverified, over as many connections and endpoints as it takes."""
        waiting = list(endpoints)
        patience = self._exchange.patience()
        since_failure = 0
        while offset < blob.size:
            try:
                async with aclosing(self._read_once(waiting[0], blob, offset)) as chunks:
                    async for chunk in chunks:
                        offset += len(chunk)
                        since_failure += len(chunk)
                        yield chunk
            except VolantError as error:
                if since_failure >= PROGRESS_BYTES:
                    patience.renew()
                since_failure = 0
                try:
                    if not isinstance(error, Interrupted):
                        raise
                    await patience.wait(error)
                except VolantError:
                    if len(waiting) == 1:
                        raise
                    del waiting[0]
                    patience = self._exchange.patience()

    async def _read_once(self, endpoint: Endpoint, blob: Descriptor, offset: int) -> AsyncGenerator[bytes, None]:
        url = await self._exchange.find_url(endpoint, f"/blobs/{blob.digest}")
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self._exchange.open(endpoint, "GET", url, headers=headers, expect=frozenset({200, 206, 416})) as response:
            skip = _check_start(response, endpoint, blob, offset)
            left = blob.size - offset
            pace = Pace(self._exchange.settings.minimum_rate, self._exchange.settings.stall_timeout_s, self._exchange.clock)
            async with aclosing(response.aiter_raw()) as chunks:
                async for chunk in chunks:
                    pace.count(len(chunk), endpoint)
                    wanted = chunk[skip:] if skip else chunk
                    skip -= len(chunk) - len(wanted)
                    left -= len(wanted)
                    if left < 0:
                        raise ChecksumMismatch(f"{endpoint.host} gives more than the {blob.size} bytes of {blob.digest}")
                    if wanted:
                        yield wanted
            if left:
                raise Interrupted(f"{endpoint.host} ended {blob.digest} {left} bytes early")


class Pace:
    """Refuses what comes slower than ``minimum_rate`` bytes a second over ``window_s`` seconds."""

    def __init__(self, minimum_rate: int, window_s: float, clock: Clock) -> None:
        self._minimum = minimum_rate * window_s
        self._window_s = window_s
        self._clock = clock
        self._began_s = clock.monotonic()
        self._bytes = 0

    def count(self, size: int, endpoint: Endpoint) -> None:
        """Raises Interrupted."""
        self._bytes += size
        now_s = self._clock.monotonic()
        if now_s - self._began_s < self._window_s:
            return
        if self._bytes < self._minimum:
            raise Interrupted(f"{endpoint.host} stalled: {self._bytes} bytes came in {now_s - self._began_s:.0f} s")
        self._began_s, self._bytes = now_s, 0


async def gather(chunks: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
    """The same bytes, BATCH_BYTES at a time: a hop to a thread for each piece of a network costs too much."""
    batch = bytearray()
    async with aclosing(chunks):
        try:
            async for chunk in chunks:
                batch += chunk
                while len(batch) >= BATCH_BYTES:
                    yield bytes(memoryview(batch)[:BATCH_BYTES])
                    del batch[:BATCH_BYTES]
        except VolantError:
            if batch:
                yield bytes(batch)  # it has come, and the next attempt begins behind it
            raise
    if batch:
        yield bytes(batch)


def _check_start(response: httpx2.Response, endpoint: Endpoint, blob: Descriptor, offset: int) -> int:
    """How many bytes to pass over because the registry began before ``offset``."""
    total: str = response.headers.get("content-length", "*")
    start = 0
    if response.status_code == 416:
        start, total = -1, response.headers.get("content-range", "").rpartition("/")[2]
    elif response.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(response.headers.get("content-range", ""))
        start, total = (int(match[1]), match[3]) if match else (-1, "*")
    if total.isdecimal() and int(total) != blob.size:
        raise ChecksumMismatch(f"{endpoint.host} has {total} bytes as {blob.digest}, which has {blob.size}")
    if start < 0 or start > offset:
        raise ChecksumMismatch(f"{endpoint.host} does not give {blob.digest} from byte {offset} on")
    return offset - start
