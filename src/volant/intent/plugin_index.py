"""The plugin indexes that this volantd knows, and what they know."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

import msgspec

from volant.core.clock import Clock, format_time
from volant.core.errors import AlreadyExists, Conflict, Exhausted, InvalidInput, NotFound, StaleRevision, Unavailable
from volant.core.ids import check_name, new_uid
from volant.core.plugin_index import (
    INDEX_MAX_BYTES,
    IndexedPlugin,
    PluginIndex,
    PluginIndexSpec,
    PluginIndexStatus,
    find_indexed,
    is_match,
    read_index,
)
from volant.core.resource import Meta
from volant.store.contract import Store
from volant.store.records import create_of, delete_of, find_resource, list_resources, update_of

MAX_INDEXES = 16
FOUND_MAX = 500
ATTEMPTS = 8


class IndexReader(Protocol):
    """Who brings small signed documents from elsewhere."""

    async def read_document(self, url: str, max_bytes: int, key: str = "") -> bytes:
        """What lies at ``url``, signed by ``key`` where that is given. Raises Untrusted when it is not, and as PluginFetcher."""
        ...

    def check_document(self, content: bytes, signature: str, key: str) -> None:
        """Raises Untrusted."""
        ...


class IndexUpload(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """``content`` is the file itself when ``source`` is ``file:///…`` of whoever sends it, with its ``signature``."""

    name: str
    source: str
    key: str = ""
    content: str = ""
    signature: str = ""


class FoundInIndex(msgspec.Struct, frozen=True, kw_only=True):
    """One version of a plugin, and the index that knows it."""

    index: str
    name: str
    version: str
    description: str
    labels: dict[str, str]
    digest: str
    source: str
    versions: tuple[str, ...] = ()


class PluginIndexes:
    def __init__(self, store: Store, clock: Clock, reader: IndexReader | None) -> None:
        self._store = store
        self._clock = clock
        self._reader = reader

    async def add(self, upload: IndexUpload, *, project: str = "default") -> PluginIndex:
        """Know an index, or the newer content of one that is known by that name and source.

        Raises:
            InvalidInput: it is no index. Untrusted: its key did not sign it. AlreadyExists: the name is another's. Exhausted.
        """
        check_name(upload.name)
        content = await self._read(upload)
        for _ in range(ATTEMPTS):
            known = await find_resource(self._store, PluginIndex, project, upload.name)
            if known is not None and known.spec != PluginIndexSpec(source=upload.source, key=upload.key):
                raise AlreadyExists(
                    f"there is an index named {upload.name!r} already", hint=f"volar plugins index remove {upload.name}"
                )
            status = self._describe(content, upload.source)
            try:
                if known is not None:
                    changed = msgspec.structs.replace(known, status=status)
                    return msgspec.structs.replace(changed, revision=await self._store.transact([update_of(changed)]))
                others, _ = await list_resources(self._store, PluginIndex, project)
                if len(others) >= MAX_INDEXES:
                    raise Exhausted(f"there are {len(others)} indexes, as many as there may be")
                meta = Meta(name=upload.name, uid=new_uid(), project=project, created_at=format_time(self._clock.now()))
                made = PluginIndex(meta=meta, spec=PluginIndexSpec(source=upload.source, key=upload.key), status=status)
                return msgspec.structs.replace(made, revision=await self._store.transact([create_of(made)]))
            except (StaleRevision, AlreadyExists, NotFound):
                continue
        raise Conflict(f"the index {upload.name!r} changes all the time", hint="try again")

    async def update(self, name: str, *, project: str = "default") -> PluginIndex:
        """Read an index anew from where it lies. Raises NotFound, and InvalidInput for a file, which volantd does not open."""
        index = await self.get(name, project=project)
        return await self.add(IndexUpload(name=name, source=index.spec.source, key=index.spec.key), project=project)

    async def get(self, name: str, *, project: str = "default") -> PluginIndex:
        index = await find_resource(self._store, PluginIndex, project, name)
        if index is None:
            raise NotFound(f"there is no index named {name[:80]!r}", hint="volar plugins index list")
        return index

    async def list(self, *, project: str = "default") -> Sequence[PluginIndex]:
        return (await list_resources(self._store, PluginIndex, project))[0]

    async def remove(self, name: str, *, project: str = "default") -> None:
        """What was installed from it stays."""
        index = await self.get(name, project=project)
        await self._store.transact([delete_of(index)])

    async def search(self, text: str, *, project: str = "default") -> Sequence[FoundInIndex]:
        """The newest version of every plugin with all words of ``text`` in it; all for none."""
        words = tuple(text.split())
        found = []
        for index in await self.list(project=project):
            found += [_describe(index, plugin, "") for plugin in index.status.plugins if is_match(plugin, words)]
        return [one for one in found if one is not None][:FOUND_MAX]

    async def resolve(self, name: str, version: str = "", *, project: str = "default") -> FoundInIndex:
        """Where an index says that it is; the first index by name that knows it. Raises NotFound."""
        for index in await self.list(project=project):
            plugin = next((one for one in index.status.plugins if one.name == name), None)
            found = None if plugin is None else _describe(index, plugin, version)
            if found is not None:
                return found
        wanted = f"{name}@{version}" if version else name
        raise NotFound(f"no index knows {wanted[:200]!r}", hint="volar plugins search; volar plugins index update")

    async def _read(self, upload: IndexUpload) -> bytes:
        if upload.source.startswith("https://"):
            return await self._read_by().read_document(upload.source, INDEX_MAX_BYTES, upload.key)
        if not upload.source.startswith("file:///") or not upload.content:
            raise InvalidInput(
                "volantd opens no files that others name", field="source", hint="volar plugins index add NAME FILE sends it along"
            )
        content = upload.content.encode()
        if upload.key:
            self._read_by().check_document(content, upload.signature, upload.key)
        return content

    def _read_by(self) -> IndexReader:
        if self._reader is None:
            raise Unavailable("this volantd reads no indexes from elsewhere, and checks none")
        return self._reader

    def _describe(self, content: bytes, source: str) -> PluginIndexStatus:
        return PluginIndexStatus(
            digest=f"sha256:{hashlib.sha256(content).hexdigest()}",
            updated_at=format_time(self._clock.now()),
            plugins=read_index(content, source),
        )


def _describe(index: PluginIndex, plugin: IndexedPlugin, version: str) -> FoundInIndex | None:
    found = find_indexed((plugin,), plugin.name, version)
    if found is None:
        return None
    return FoundInIndex(
        index=index.name,
        name=plugin.name,
        version=found.version,
        description=plugin.description,
        labels=dict(plugin.labels),
        digest=found.digest,
        source=found.source,
        versions=tuple(one.version for one in plugin.versions),
    )
