"""What is inside an artifact, from its own papers; every file is checked to be what the manifest says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec

from volant.artifact.signature import format_key_id, read_signature, read_statement
from volant.core.errors import ChecksumMismatch, InvalidInput, NotFound
from volant.core.manifest import MANIFEST_MAX_BYTES, Manifest, Media, RootFilesystem, read_manifest
from volant.core.plugin import wanted_artifacts
from volant.fledge.build_record import BUILD_RECORD, MANIFEST, BuildRecord
from volant.fledge.content import FileRecord, record_file
from volant.fledge.kept.contents import FILE as CONTENTS
from volant.fledge.papers.write import PROVENANCE, SBOM
from volant.fledge.progress import format_size

SIGNATURE = f"{MANIFEST}.minisig"
PAPER_MAX_BYTES = 256 * 1024 * 1024
_KINDS = {"deb": "Debian", "apk": "Alpine", "rpm": "RPM", "pypi": "Python", "npm": "Node"}


class Package(msgspec.Struct, frozen=True, order=True):
    type: str
    name: str
    version: str


class Artifact(msgspec.Struct, frozen=True, kw_only=True):
    """``digest`` is that of manifest.json. ``record``, ``packages``, ``signer`` are there when the papers are."""

    digest: str
    manifest: Manifest
    files: dict[str, FileRecord]
    record: BuildRecord | None = None
    packages: tuple[Package, ...] = ()
    signer: str = ""


def find_files(given: Path) -> dict[str, Path]:
    """The files of the artifact at ``given``, a directory or its manifest.json, by name. Raises NotFound."""
    directory = given if given.is_dir() else given.parent
    manifest = directory / MANIFEST if given.is_dir() else given
    if not manifest.is_file():
        raise NotFound(
            f"there is no {manifest}", hint="name what fledge build -o wrote, or an image that fledge images list shows"
        )
    names = {path.name for path in directory.iterdir() if path.is_file() and not path.name.startswith(".")}
    return {name: directory / name for name in sorted(names)} | {MANIFEST: manifest}


def examine_files(files: Mapping[str, Path]) -> Artifact:
    """Read an artifact's papers and check the files that its manifest names.

    Raises:
        InvalidInput: a paper is not what it should be. ChecksumMismatch: a file is damaged. NotFound: one is missing.
    """
    content = _read(files[MANIFEST], MANIFEST_MAX_BYTES)
    manifest = read_manifest(content)
    records = {name: record_file(path) for name, path in sorted(files.items())}
    _check_media(manifest, records)
    return Artifact(
        digest=f"sha256:{records[MANIFEST].sha256}",
        manifest=manifest,
        files=records,
        record=_read_record(files),
        packages=_read_packages(files),
        signer=_read_signer(files),
    )


def _check_media(manifest: Manifest, records: Mapping[str, FileRecord]) -> None:
    found = {f"sha256:{record.sha256}" for record in records.values()}
    for role, digest in wanted_artifacts(manifest).items():
        if digest not in found:
            named = _urls(manifest).get(role, role)
            if named in records:
                raise ChecksumMismatch(f"{named} is not what the manifest says: {digest}", hint="build it again")
            raise NotFound(f"{named}, which the manifest names, is not there", hint="copy it with the others, or build again")


def _urls(manifest: Manifest) -> dict[str, str]:
    boot = manifest.boot
    media: dict[str, Media | RootFilesystem | None] = {
        "kernel": boot.kernel if boot is not None else None,
        "boot_initramfs": boot.initramfs if boot is not None else None, "rootfs": manifest.rootfs,
        "initramfs": manifest.initramfs,
    }  # fmt: skip
    return {role: medium.url for role, medium in media.items() if medium is not None}


def _read(path: Path, max_bytes: int) -> bytes:
    try:
        with path.open("rb") as stream:
            content = stream.read(max_bytes + 1)
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error
    if len(content) > max_bytes:
        raise InvalidInput(f"{path} is larger than {max_bytes} bytes")
    return content


def _read_record(files: Mapping[str, Path]) -> BuildRecord | None:
    if BUILD_RECORD not in files:
        return None
    try:
        return msgspec.json.decode(_read(files[BUILD_RECORD], PAPER_MAX_BYTES), type=BuildRecord)
    except msgspec.MsgspecError as error:
        raise InvalidInput(f"{BUILD_RECORD} is not what fledge writes: {error}") from error


def _read_packages(files: Mapping[str, Path]) -> tuple[Package, ...]:
    """From the SBOM: what has a package URL of a kind that databases list."""
    if SBOM not in files:
        return ()
    try:
        document = msgspec.json.decode(_read(files[SBOM], PAPER_MAX_BYTES))
        found = [_read_package(one) for one in document["packages"]]
    except (msgspec.MsgspecError, LookupError, TypeError) as error:
        raise InvalidInput(f"{SBOM} is not what fledge writes: {error}") from error
    return tuple(sorted(package for package in found if package is not None))


def _read_package(described: Mapping[str, Any]) -> Package | None:
    if described["SPDXID"].startswith("SPDXRef-Component-"):
        return None
    purl = described["externalRefs"][0]["referenceLocator"]
    return Package(purl.removeprefix("pkg:").partition("/")[0], described["name"], described.get("versionInfo", ""))


def _read_signer(files: Mapping[str, Path]) -> str:
    if SIGNATURE not in files:
        return ""
    signature = read_signature(_read(files[SIGNATURE], 64 * 1024), SIGNATURE)
    statement = read_statement(signature)
    what = f" of {statement.name} {statement.version}" if statement is not None else ""
    return f"key {format_key_id(signature)}{what}, not verified here: fledge verify"


def describe_artifact(artifact: Artifact) -> str:
    """For people, a line a fact."""
    manifest, record = artifact.manifest, artifact.record
    workload = manifest.workload
    lines = [("plugin", f"{manifest.name} {manifest.version}"), ("digest", artifact.digest)]
    if record is not None:
        source = record.source
        lines.append(("source", " ".join(filter(None, (source.kind, source.reference, source.manifest_digest or source.sha256)))))
        lines.append(("kernel", f"{record.kernel_label} ({record.kernel_release})"))
    if manifest.rootfs is not None:
        lines.append(("root", f"{manifest.rootfs.filesystem}, read-only, {resources_of(manifest)}"))
    else:
        lines.append(("root", f"initramfs in memory, {resources_of(manifest)}"))
    lines.append(("runs", " ".join(workload.entrypoint)))
    lines.append(("as", f"{workload.user} in {workload.workdir}, ended by {workload.stop_signal}"))
    if manifest.network.expose:
        lines.append(("ports", ", ".join(f"{one.port}/{one.protocol}" for one in manifest.network.expose)))
    if manifest.health_check is not None:
        lines.append(("health", f"GET {workload.base_url}{manifest.health_check.endpoint}"))
    if artifact.packages:
        counted = Counter(package.type for package in artifact.packages)
        lines.append(("packages", ", ".join(f"{count} {_KINDS.get(kind, kind)}" for kind, count in sorted(counted.items()))))
    lines.append(("signed", artifact.signer or "no"))
    lines += [("file", f"{name}  {format_size(one.size)}  sha256:{one.sha256}") for name, one in artifact.files.items()]
    width = max(len(name) for name, _ in lines)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in lines)


def resources_of(manifest: Manifest) -> str:
    """``1 core, 128 MiB of memory, 1024 MiB to write``."""
    resources = manifest.resources
    cores = f"{resources.cpu_cores} core{'s' if resources.cpu_cores > 1 else ''}"
    disk = f", {resources.disk_mb} MiB to write" if manifest.rootfs is not None else ""
    return f"{cores}, {resources.memory_mb} MiB of memory{disk}"


PAPERS = (BUILD_RECORD, SBOM, PROVENANCE, CONTENTS)
"""What lies beside a manifest and tells of the artifact."""
