"""Plugins to registries and back: the directory that ``fledge build`` wrote, as one OCI artifact (registry/plugin.py)."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from volant.artifact.disk import explain_disk, finish
from volant.artifact.registry.documents import OCI_MANIFEST, Descriptor, describe_bytes
from volant.artifact.registry.plugin import (
    DOCUMENT_NAMES,
    MANIFEST_NAME,
    ROLE_TYPES,
    SIGNATURE_SUFFIX,
    Bundle,
    BundleFile,
    Role,
    check_plugin,
    list_media,
    read_bundle_manifest,
    write_bundle_manifest,
)
from volant.core.errors import ChecksumMismatch, HostError, InUse, InvalidInput, NotFound, Unavailable, VolantError
from volant.core.failure import first_error
from volant.core.ids import Digest
from volant.core.manifest import MANIFEST_MAX_BYTES, Manifest, read_manifest

if TYPE_CHECKING:
    from volant.artifact.registry.client import RegistryClient
    from volant.artifact.registry.download import Report
    from volant.artifact.registry.reference import ImageReference

_STAGING = ".volant-pull-"


class OpenBundle(msgspec.Struct, frozen=True):
    """A plugin in a registry: ``digest`` of the artifact, its manifest (checked, and as it was signed), and its files.

    A caller with a store of its own streams each of ``bundle.files`` with ``client.open_blob(reference, file.descriptor)``.
    """

    reference: ImageReference
    digest: Digest
    bundle: Bundle
    manifest: Manifest
    content: bytes


async def push_bundle(
    directory: Path, reference: ImageReference, client: RegistryClient, progress: Report | None = None
) -> Digest:
    """Send the plugin in ``directory``: ``manifest.json``, the files that it names, and the records and signatures beside it.

    Only what the registry lacks is sent. The artifact's manifest goes last, so nobody finds a name with half of its files.

    Raises:
        NotFound: there is no manifest. InvalidInput: it, or what it names, cannot be right. ChecksumMismatch: a file is not
        what the manifest says. Others: as ``RegistryClient.push_blob``.
    """
    content = await asyncio.to_thread(_read_manifest_file, directory / MANIFEST_NAME)
    plugin = read_manifest(content)
    files = await asyncio.to_thread(_collect_files, directory, plugin)
    config = describe_bytes(content, "")
    document = write_bundle_manifest(config, files, plugin)
    check_plugin(content, Bundle(config, files), str(directory))
    sources: dict[Digest, tuple[Descriptor, Path | bytes]] = {
        file.descriptor.digest: (file.descriptor, directory / file.name) for file in files
    }
    sources[config.digest] = (config, content)
    try:
        async with asyncio.TaskGroup() as group:
            for descriptor, source in sources.values():
                group.create_task(client.push_blob(reference, descriptor, source, report=progress))
    except ExceptionGroup as errors:
        raise first_error(errors) from errors
    return await client.push_manifest(reference, document, OCI_MANIFEST)


async def open_bundle(reference: ImageReference, client: RegistryClient) -> OpenBundle:
    """Find the plugin and read its manifest; nothing large is fetched yet.

    Raises:
        InvalidInput: it is no plugin, or one that is not whole. ChecksumMismatch: its manifest means other files than it holds.
        Others: as ``RegistryClient.fetch_document``.
    """
    what = str(reference)
    document = await client.fetch_document(reference)
    bundle = read_bundle_manifest(document.content, what)
    content = await client.read_blob(reference, bundle.config, MANIFEST_MAX_BYTES)
    return OpenBundle(reference, document.descriptor.digest, bundle, check_plugin(content, bundle, what), content)


async def pull_bundle(
    reference: ImageReference, directory: Path, client: RegistryClient, progress: Report | None = None
) -> Digest:
    """Write the plugin into ``directory``, made when missing, and return the artifact's digest.

    Files that are there already are not fetched. The others arrive in a staging directory within it and move when all are
    whole, the manifest last. An interrupted pull leaves the staging directory, and the next one goes on from it.

    Raises:
        InUse: somebody else writes there. Others: as ``open_bundle`` and ``RegistryClient.fetch_blob``.
    """
    found = await open_bundle(reference, client)
    async with _lock_directory(directory):
        missing = await asyncio.to_thread(_find_missing, directory, found.bundle)
        staging = directory / f"{_STAGING}{found.digest.removeprefix('sha256:')[:16]}"
        await asyncio.to_thread(staging.mkdir, exist_ok=True)
        try:
            async with asyncio.TaskGroup() as group:
                for file in missing:
                    group.create_task(
                        client.fetch_blob(reference, file.descriptor, staging / file.name, partials=staging, report=progress)
                    )
        except ExceptionGroup as errors:
            error = first_error(errors)
            if isinstance(error, VolantError) and not isinstance(error, Unavailable):
                await asyncio.to_thread(shutil.rmtree, staging)
            raise error from errors
        await finish(asyncio.to_thread(_publish, directory, staging, missing, found))
    return found.digest


def _read_manifest_file(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MANIFEST_MAX_BYTES + 1)
    except FileNotFoundError as error:
        raise NotFound(f"there is no {path}", hint="give the directory that fledge build wrote") from error
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error


def _collect_files(directory: Path, plugin: Manifest) -> tuple[BundleFile, ...]:
    files: list[BundleFile] = []
    for role, name, checksum in list_media(plugin):
        file = _describe_file(directory, name, role)
        if checksum and file.descriptor.digest != checksum:
            raise ChecksumMismatch(f"{directory / name} is not what the manifest says", hint="build it again: fledge build")
        files.append(file)
    files += [_describe_file(directory, name, role) for name, role in DOCUMENT_NAMES.items() if (directory / name).exists()]
    for name in (MANIFEST_NAME, *(file.name for file in files)):
        if (directory / (name + SIGNATURE_SUFFIX)).exists():
            files.append(_describe_file(directory, name + SIGNATURE_SUFFIX, "signature"))
    return tuple(files)


def _describe_file(directory: Path, name: str, role: Role) -> BundleFile:
    path = directory / name
    try:
        if not path.is_file():
            raise InvalidInput(f"{path} is no file", field=role, hint="build it again: fledge build")
        with path.open("rb") as stream:
            digest = Digest(f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}")
            size = stream.tell()
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}", field=role) from error
    return BundleFile(name, role, Descriptor(media_type=ROLE_TYPES[role], digest=digest, size=size))


def _find_missing(directory: Path, bundle: Bundle) -> list[BundleFile]:
    def is_here(file: BundleFile) -> bool:
        path = directory / file.name
        if path.is_symlink() or not path.is_file() or path.stat().st_size != file.descriptor.size:
            return False
        with path.open("rb") as stream:
            return f"sha256:{hashlib.file_digest(stream, 'sha256').hexdigest()}" == file.descriptor.digest

    with explain_disk(directory):
        return [file for file in bundle.files if not is_here(file)]


def _publish(directory: Path, staging: Path, files: list[BundleFile], found: OpenBundle) -> None:
    target = directory / MANIFEST_NAME
    with explain_disk(target):
        with (staging / MANIFEST_NAME).open("wb") as stream:
            stream.write(found.content)
            stream.flush()
            os.fsync(stream.fileno())
        if files:
            target.unlink(missing_ok=True)
        for file in files:
            (staging / file.name).replace(directory / file.name)
        _remove_strangers(directory, {file.name for file in found.bundle.files})
        (staging / MANIFEST_NAME).replace(target)
        for left in directory.glob(f"{_STAGING}*"):
            shutil.rmtree(left)


def _remove_strangers(directory: Path, names: set[str]) -> None:
    """Records and signatures of another build would be read as this one's."""
    for name in DOCUMENT_NAMES:
        if name not in names:
            (directory / name).unlink(missing_ok=True)
    for signed in (MANIFEST_NAME, *DOCUMENT_NAMES, *names):
        if signed + SIGNATURE_SUFFIX not in names:
            (directory / (signed + SIGNATURE_SUFFIX)).unlink(missing_ok=True)


@asynccontextmanager
async def _lock_directory(directory: Path) -> AsyncIterator[None]:
    """The lock that ``fledge build`` takes, too."""
    try:
        await asyncio.to_thread(directory.mkdir, parents=True, exist_ok=True)
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise HostError(f"{directory} cannot be made: {error.strerror}", hint="choose another directory") from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise InUse(f"somebody else writes into {directory}", hint="wait for it, or choose another directory") from error
        yield
    finally:
        os.close(descriptor)
