"""From a reference to one image: its manifest and configuration, every byte checked on the way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec

from volant.artifact.registry.documents import (
    ACCEPT,
    DOCUMENT_MAX_BYTES,
    INDEX_TYPES,
    Descriptor,
    Platform,
    check_content,
    check_descriptor,
    decode_document,
    digest_bytes,
    find_kind,
    read_index,
    read_manifest,
)
from volant.artifact.registry.exchange import Exchange
from volant.artifact.registry.platform import choose_platform, fits
from volant.artifact.registry.reference import ImageReference
from volant.artifact.registry.settings import Endpoint, list_endpoints
from volant.core.errors import ChecksumMismatch, InvalidInput, NotFound, VolantError
from volant.core.ids import Digest, check_digest

INDEX_MAX_DEPTH = 4

ResultT = TypeVar("ResultT")


class Document(msgspec.Struct, frozen=True):
    """A manifest or an index as it came; ``descriptor`` says its digest and which of the two it is."""

    descriptor: Descriptor
    content: bytes


class ResolvedImage(msgspec.Struct, frozen=True, kw_only=True):
    """``root`` is the digest that the reference stood for: of the image itself, or of the index that it was chosen from."""

    reference: ImageReference
    root: Digest
    descriptor: Descriptor
    manifest: bytes
    config_descriptor: Descriptor
    config: bytes
    layers: tuple[Descriptor, ...]
    platform: Platform

    @property
    def digest(self) -> Digest:
        return self.descriptor.digest


async def fetch_document(exchange: Exchange, reference: ImageReference, expected: Descriptor | None = None) -> Document:
    """The manifest or index of ``reference``, from the first mirror that has it, else from the registry.

    Raises:
        NotFound: there is none. ChecksumMismatch: it is not what its digest says. TooLarge: it has more than DOCUMENT_MAX_BYTES.
        InvalidInput: it is neither. Others: as ``Exchange.ask``.
    """

    async def fetch(endpoint: Endpoint) -> Document:
        return await _fetch_from(exchange, endpoint, reference, expected)

    return await try_endpoints(list_endpoints(reference, exchange.settings), fetch)


async def try_endpoints(endpoints: tuple[Endpoint, ...], action: Callable[[Endpoint], Awaitable[ResultT]]) -> ResultT:
    """The first success. A mirror's failures are passed over, the registry's own (the last) is raised."""
    for mirror in endpoints[:-1]:
        try:
            return await action(mirror)
        except VolantError:
            continue
    return await action(endpoints[-1])


async def resolve_image(exchange: Exchange, reference: ImageReference, wanted: Platform) -> ResolvedImage:
    """Find the image for ``wanted``, through indexes when there are any.

    Raises:
        NotFound: there is no such image, or none for the platform (the hint says what there is).
        InvalidInput: it is of a kind that is not taken. Others: as ``fetch_document``.
    """
    what = str(reference)
    document = await fetch_document(exchange, reference)
    root = document.descriptor.digest
    seen = {root}
    depth = 0
    while document.descriptor.media_type in INDEX_TYPES:
        depth += 1
        if depth > INDEX_MAX_DEPTH:
            raise InvalidInput(f"{what}: its indexes are nested more than {INDEX_MAX_DEPTH} deep", field="reference")
        chosen = choose_platform(read_index(document.content, what).manifests, wanted, what)
        check_descriptor(chosen, what, DOCUMENT_MAX_BYTES)
        if chosen.digest in seen:
            raise InvalidInput(f"{what}: its indexes lead in a circle", field="reference")
        seen.add(chosen.digest)
        document = await fetch_document(exchange, msgspec.structs.replace(reference, digest=chosen.digest), chosen)
    manifest = read_manifest(document.content, what)
    config = await fetch_small_blob(exchange, reference, manifest.config)
    platform = decode_document(config, Platform, f"{what}: the image configuration")
    # Artifacts and the odd old image do not say.
    if platform.architecture and platform.os and not fits(platform, wanted):
        raise NotFound(f"{what} has nothing for {wanted}", hint=f"it has: {platform}")
    return ResolvedImage(
        reference=msgspec.structs.replace(reference, digest=document.descriptor.digest),
        root=root, descriptor=document.descriptor, manifest=document.content,
        config_descriptor=manifest.config, config=config, layers=manifest.layers, platform=platform,
    )  # fmt: skip


async def fetch_small_blob(
    exchange: Exchange, reference: ImageReference, blob: Descriptor, max_bytes: int = DOCUMENT_MAX_BYTES
) -> bytes:
    """A blob that is read at once, an image configuration for example.

    Raises:
        TooLarge: its descriptor says more than ``max_bytes``. Others: as ``fetch_document``.
    """
    what = f"{reference}: the blob {blob.digest}"
    check_descriptor(blob, what, max_bytes)

    async def fetch(endpoint: Endpoint) -> bytes:
        answer = await exchange.ask(endpoint, "GET", f"/blobs/{blob.digest}", max_bytes=max(blob.size, 1))
        return check_content(answer.body, blob, what)

    return await try_endpoints(list_endpoints(reference, exchange.settings), fetch)


async def _fetch_from(exchange: Exchange, endpoint: Endpoint, reference: ImageReference, expected: Descriptor | None) -> Document:
    what = f"{endpoint}{'@' if reference.digest else ':'}{reference.selector}"
    limit = max(expected.size, 1) if expected is not None else DOCUMENT_MAX_BYTES
    answer = await exchange.ask(endpoint, "GET", f"/manifests/{reference.selector}", max_bytes=limit, headers={"Accept": ACCEPT})
    digest = digest_bytes(answer.body)
    named = answer.headers.get("docker-content-digest", "")
    promised = reference.digest or (check_digest(named, "reference") if named.startswith("sha256:") else digest)
    if digest != promised or (expected is not None and len(answer.body) != expected.size):
        raise ChecksumMismatch(
            f"{what}: {len(answer.body)} bytes came, and they are {digest}, not {promised}", hint="try again later"
        )
    declared = (expected.media_type if expected is not None else "") or answer.headers.get("content-type", "")
    kind = find_kind(answer.body, declared, what)
    return Document(Descriptor(media_type=kind, digest=digest, size=len(answer.body)), answer.body)
