"""A plugin index: a JSON file that says which plugins there are somewhere, so that they are found and installed by name."""

from __future__ import annotations

from typing import Annotated, ClassVar
from urllib.parse import urljoin, urlsplit

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import Digest, check_digest, check_name
from volant.core.manifest import check_version
from volant.core.resource import Resource, Spec, Status, split_validation_error

INDEX_MAX_BYTES = 384 * 1024
"""So that an index fits one transaction of the store."""

SCHEMA_VERSION = "v1"
SOURCE_MAX_CHARS = 2048
Short = Annotated[str, msgspec.Meta(max_length=1024)]


class IndexedVersion(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``source`` is ``oci://…``, ``https://…/manifest.json``, or a path relative to the index; ``digest`` is the sha256 of the
    manifest.json there, or of the registry's manifest of an ``oci://`` source."""

    version: str
    digest: str
    source: Annotated[str, msgspec.Meta(max_length=SOURCE_MAX_CHARS)]


class IndexedPlugin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """``versions`` stand with the newest first: that is what the name alone means."""

    name: str
    description: Short = ""
    labels: dict[str, Short] = {}
    versions: Annotated[tuple[IndexedVersion, ...], msgspec.Meta(min_length=1, max_length=1000)]


class IndexFile(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    schema_version: str
    plugins: Annotated[tuple[IndexedPlugin, ...], msgspec.Meta(max_length=10_000)]


class PluginIndexSpec(Spec, frozen=True, kw_only=True):
    """``source`` is where it is read from, ``key`` the minisign public key that has to have signed it."""

    source: str
    key: str = ""


class PluginIndexStatus(Status, frozen=True, kw_only=True):
    digest: str = ""
    updated_at: str = ""
    plugins: tuple[IndexedPlugin, ...] = ()


class PluginIndex(Resource[PluginIndexSpec, PluginIndexStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "PluginIndex"
    plural: ClassVar[str] = "plugin-indexes"
    spec_type: ClassVar[type[Spec]] = PluginIndexSpec
    status_type: ClassVar[type[Status]] = PluginIndexStatus


def read_index(content: bytes, source: str) -> tuple[IndexedPlugin, ...]:
    """The plugins of an index that lies at ``source``, their own sources absolute.

    Raises:
        InvalidInput: it is no index; the field is named.
    """
    if len(content) > INDEX_MAX_BYTES:
        raise InvalidInput(f"an index has at most {INDEX_MAX_BYTES} bytes")
    try:
        file = msgspec.json.decode(content, type=IndexFile)
    except msgspec.ValidationError as error:
        said, field = split_validation_error(error)
        raise InvalidInput(f"that is no plugin index: {said}", field=field) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"that is no plugin index: {error}") from error
    if file.schema_version != SCHEMA_VERSION:
        raise InvalidInput(f"schema_version {file.schema_version[:40]!r} is not known", field="schema_version")
    seen: set[str] = set()
    plugins = []
    for plugin in file.plugins:
        if check_name(plugin.name) in seen:
            raise InvalidInput(f"{plugin.name!r} stands there twice", field="plugins")
        seen.add(plugin.name)
        versions = tuple(_settle(one, source) for one in plugin.versions)
        if len({one.version for one in versions}) != len(versions):
            raise InvalidInput(f"a version of {plugin.name!r} stands there twice", field="plugins")
        plugins.append(msgspec.structs.replace(plugin, versions=versions))
    return tuple(plugins)


def find_indexed(plugins: tuple[IndexedPlugin, ...], name: str, version: str = "") -> IndexedVersion | None:
    """What an index says of a plugin; its newest for no version."""
    plugin = next((one for one in plugins if one.name == name), None)
    if plugin is None:
        return None
    return next((one for one in plugin.versions if version in ("", one.version)), None)


def is_match(plugin: IndexedPlugin, words: tuple[str, ...]) -> bool:
    """Every word is in its name, its description or a label."""
    text = " ".join((plugin.name, plugin.description, *plugin.labels, *plugin.labels.values())).casefold()
    return all(word.casefold() in text for word in words)


def _settle(version: IndexedVersion, source: str) -> IndexedVersion:
    check_version(version.version)
    digest: Digest = check_digest(version.digest, "digest")
    at = version.source
    if not at.isprintable():
        raise InvalidInput("a source holds characters that no place has", field="source")
    scheme = urlsplit(at).scheme
    if scheme == "oci":
        # Whatever the tag means by then: only what the index vouches for is installed.
        at = f"{at.partition('@')[0]}@{digest}"
    elif scheme == "":
        at = urljoin(source, at)
        scheme = urlsplit(at).scheme
        # An index elsewhere points at nothing on the host of whoever reads it.
        if scheme not in ("https", "file") or scheme != urlsplit(source).scheme:
            raise InvalidInput(f"{version.source[:160]!r} leads nowhere from {source[:160]!r}", field="source")
    elif scheme != "https":
        raise InvalidInput(f"{at[:160]!r} is not fetched", field="source", hint="oci://, https:// or a relative path")
    return msgspec.structs.replace(version, digest=digest, source=at)
