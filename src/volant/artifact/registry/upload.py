"""Blobs and manifests to registries (distribution-spec v1.1, "Push"): only what is missing, broken uploads taken up again."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, aclosing
from pathlib import Path
from urllib.parse import quote

import httpx2
import msgspec

from volant.artifact.disk import explain_disk
from volant.artifact.registry.authority import name_scope
from volant.artifact.registry.documents import Descriptor, digest_bytes
from volant.artifact.registry.download import Report
from volant.artifact.registry.exchange import Exchange, read_faults, same_origin
from volant.artifact.registry.partial import BATCH_BYTES
from volant.artifact.registry.patience import Interrupted
from volant.artifact.registry.reference import ImageReference
from volant.artifact.registry.settings import Endpoint, list_endpoints
from volant.core.errors import ChecksumMismatch, HostError, InvalidInput, NotFound
from volant.core.ids import Digest

_RANGE = re.compile(r"(?:bytes=)?0-(\d{1,18})")
_PUSH = "pull,push"


class _SessionLost(HostError):
    """The registry no longer knows the upload, or knows it differently: it has to begin anew."""


class _Session(msgspec.Struct):
    """An upload under way: where the next piece goes, and how much the registry has."""

    url: httpx2.URL
    chunk_bytes: int
    offset: int = 0


class Uploads:
    """At most ``settings.transfers`` blobs are sent at once."""

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._slots = asyncio.Semaphore(exchange.settings.transfers)

    async def push_blob(
        self,
        reference: ImageReference,
        blob: Descriptor,
        source: Path | bytes,
        *,
        mount_from: str = "",
        report: Report | None = None,
    ) -> bool:
        """Send ``source``, unless the registry has it; False when nothing had to be sent.

        ``mount_from`` is another repository of the same registry that is known to have it (cross-repository mount).

        Raises:
            ChecksumMismatch: the registry received something else (the file changed meanwhile). Forbidden, Interrupted,
            TooLarge, HostError: it does not take it.
        """
        endpoint = list_endpoints(reference, self._exchange.settings, mirrored=False)[-1]
        async with self._slots:
            if await self._has_blob(endpoint, blob):
                return False
            patience = self._exchange.patience()
            while True:
                try:
                    session = await self._begin(endpoint, blob, mount_from)
                    if session is None:
                        return False
                    await self._send(endpoint, blob, source, session, report)
                    return True
                except _SessionLost as error:
                    await patience.wait(Interrupted(f"{endpoint.host} lost an upload: {error}"))

    async def push_manifest(self, reference: ImageReference, content: bytes, media_type: str) -> Digest:
        """Put a manifest under ``reference``'s tag (or under its digest when it has no tag), unless it is what is there.

        Raises:
            InvalidInput: the reference's digest is another. Others: as ``push_blob``.
        """
        digest = digest_bytes(content)
        if reference.digest not in (None, digest):
            raise InvalidInput(f"the manifest is {digest}, and {reference} asks for another", field="reference")
        endpoint = list_endpoints(reference, self._exchange.settings, mirrored=False)[-1]
        path = f"/manifests/{reference.tag or digest}"
        try:
            found = await self._exchange.ask(endpoint, "HEAD", path, actions=_PUSH, headers={"Accept": media_type})
            if found.headers.get("docker-content-digest") == digest:
                return digest
        except NotFound:
            pass
        headers = {"Content-Type": media_type}
        answer = await self._exchange.ask(
            endpoint, "PUT", path, actions=_PUSH, headers=headers, content=content, expect=frozenset({200, 201, 202})
        )
        stored = answer.headers.get("docker-content-digest", digest)
        if stored != digest:
            raise ChecksumMismatch(f"{endpoint.host} stored the manifest {digest} as {stored[:80]}")
        return digest

    async def _has_blob(self, endpoint: Endpoint, blob: Descriptor) -> bool:
        try:
            answer = await self._exchange.ask(endpoint, "HEAD", f"/blobs/{blob.digest}", actions=_PUSH)
        except NotFound:
            return False
        return answer.headers.get("content-length", str(blob.size)) == str(blob.size)

    async def _begin(self, endpoint: Endpoint, blob: Descriptor, mount_from: str) -> _Session | None:
        """None when the blob was mounted from another repository."""
        mount = f"?mount={blob.digest}&from={quote(mount_from, safe='')}" if mount_from else ""
        answer = await self._exchange.ask(
            endpoint, "POST", f"/blobs/uploads/{mount}", actions=_PUSH, headers={"Content-Length": "0"},
            expect=frozenset({201, 202}), more_scopes=name_scope(mount_from, "pull") if mount_from else "",
        )  # fmt: skip
        if answer.status == 201 and mount_from:
            return None
        start = await self._exchange.find_url(endpoint, "/blobs/uploads/")
        least = answer.headers.get("oci-chunk-min-length", "0")
        chunk_bytes = max(self._exchange.settings.chunk_bytes, int(least) if least.isdecimal() and len(least) < 12 else 0)
        return _Session(_join(start, answer.headers.get("location", ""), endpoint), chunk_bytes)

    async def _send(
        self, endpoint: Endpoint, blob: Descriptor, source: Path | bytes, session: _Session, report: Report | None
    ) -> None:
        patience = self._exchange.patience()
        while True:
            rest = blob.size - session.offset
            try:
                if rest <= session.chunk_bytes:
                    await self._send_last(endpoint, blob, read_pieces(source, session.offset, rest, blob, report), session)
                    return
                pieces = read_pieces(source, session.offset, session.chunk_bytes, blob, report)
                await self._send_chunk(endpoint, pieces, session)
                patience.renew()
            except Interrupted as error:
                await patience.wait(error)
                # The end may have arrived although the answer did not.
                if rest <= session.chunk_bytes and await self._has_blob(endpoint, blob):
                    return
                await self._look_again(endpoint, session, blob.size)

    async def _send_chunk(self, endpoint: Endpoint, pieces: AsyncGenerator[bytes, None], session: _Session) -> None:
        end = session.offset + session.chunk_bytes
        async with aclosing(pieces), self._open(endpoint, "PATCH", session.url, pieces, session.offset, end) as response:
            if response.status_code in (404, 416):
                raise _SessionLost(f"it answers {response.status_code} at byte {session.offset}")
            session.url = _join(session.url, response.headers.get("location", ""), endpoint)
            received = _RANGE.fullmatch(response.headers.get("range", ""))
            session.offset = min(int(received[1]) + 1, end) if received else end

    async def _send_last(
        self, endpoint: Endpoint, blob: Descriptor, pieces: AsyncGenerator[bytes, None], session: _Session
    ) -> None:
        url = httpx2.URL(f"{session.url}{'&' if session.url.query else '?'}digest={quote(blob.digest, safe=':')}")
        async with aclosing(pieces), self._open(endpoint, "PUT", url, pieces, session.offset, blob.size) as response:
            if response.status_code in (404, 416):
                raise _SessionLost(f"it answers {response.status_code} at the end")
            if response.status_code == 400:
                said = await read_faults(response) or "400"
                raise ChecksumMismatch(f"{endpoint.host} does not take {blob.digest}: {said}", hint="has the file changed?")

    def _open(
        self, endpoint: Endpoint, method: str, url: httpx2.URL, pieces: AsyncGenerator[bytes, None], start: int, end: int
    ) -> AbstractAsyncContextManager[httpx2.Response]:
        headers = {"Content-Type": "application/octet-stream", "Content-Length": str(end - start)}
        if method == "PATCH" or (start and end > start):
            headers["Content-Range"] = f"{start}-{end - 1}"
        return self._exchange.open(
            endpoint, method, url, actions=_PUSH, headers=headers, content=pieces if end > start else b"",
            expect=frozenset({201, 202, 204, 400, 404, 416}) if method == "PUT" else frozenset({202, 204, 404, 416}),
            answer_timeout_s=self._exchange.settings.commit_timeout_s,
        )  # fmt: skip

    async def _look_again(self, endpoint: Endpoint, session: _Session, size: int) -> None:
        """How much of a broken piece arrived."""
        try:
            async with self._exchange.open(
                endpoint, "GET", session.url, actions=_PUSH, expect=frozenset({200, 202, 204})
            ) as response:  # fmt: skip
                received = _RANGE.fullmatch(response.headers.get("range", ""))
                session.url = _join(session.url, response.headers.get("location", str(session.url)), endpoint)
        except (NotFound, HostError) as error:
            raise _SessionLost(str(error)) from error
        if received is None:
            raise _SessionLost("it does not say how much it has")
        # "0-0" is said of nothing as well as of one byte.
        session.offset = int(received[1]) + 1 if int(received[1]) else 0
        if session.offset > size:
            raise _SessionLost(f"it has {session.offset} bytes")


async def read_pieces(
    source: Path | bytes, offset: int, size: int, blob: Descriptor, report: Report | None
) -> AsyncGenerator[bytes, None]:
    """``size`` bytes of ``source`` from ``offset`` on; ``report`` is told what has been taken.

    Raises:
        ChecksumMismatch: a file became shorter. HostError: it cannot be read.
    """
    if isinstance(source, bytes):
        if size:
            yield source[offset : offset + size]
        if report is not None:
            report(blob.digest, offset + size, blob.size)
        return
    with explain_disk(source):
        stream = await asyncio.to_thread(source.open, "rb")
        with stream:
            stream.seek(offset)
            done = 0
            while done < size:
                piece = await asyncio.to_thread(stream.read, min(BATCH_BYTES, size - done))
                if not piece:
                    raise ChecksumMismatch(f"{source} became shorter while it was sent", hint="build again")
                done += len(piece)
                yield piece
                if report is not None:
                    report(blob.digest, offset + done, blob.size)


def _join(base: httpx2.URL, location: str, endpoint: Endpoint) -> httpx2.URL:
    """``Location`` of an upload, relative or absolute. Credentials go with it, so it may not lead elsewhere."""
    if not location:
        raise HostError(f"{endpoint.host} begins an upload and does not say where")
    try:
        url = base.join(location)
    except (httpx2.InvalidURL, UnicodeError) as error:
        raise HostError(f"{endpoint.host} sends an upload to what is no address") from error
    if not same_origin(url, base):
        raise HostError(
            f"{endpoint.host} sends an upload to {url.scheme}://{url.host}, which is not followed",
            hint="a registry behind a proxy has to know its own address: look at its configuration",
        )
    return url
