"""How an artifact came to be: an in-toto Statement v1 that holds SLSA provenance v1.

The statement is not signed here. It says nothing of when, where or by whom: the same build gives the same bytes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
from packageurl import PackageURL

from volant.core.errors import InvalidInput
from volant.fledge.debian.apt import Package
from volant.fledge.debian.lock import LockedPackage

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE = "https://slsa.dev/provenance/v1"
MEDIA_TYPE = "application/vnd.in-toto+json"

BUILD_TYPE = "https://volant.invalid/fledge/build/v1"
"""One run of ``fledge build`` (SLSA provenance v1, ``buildType``).

``externalParameters``: ``recipe``, the ``fledge.toml`` as data without what is empty, where ``source.secrets`` is the sorted list
of their ids; ``options``, what the command line or the environment added to it (``platform``, ``sourceDateEpoch``).
``internalParameters``: what fledge chose by itself, above all the versions of the ``tools`` that it ran.
``resolvedDependencies``: what the recipe's names led to, each with its digest where there is one.

To build the same again: the same fledge with this recipe and these options, given these dependencies and tools.
"""

BUILDER_ID = "https://volant.invalid/fledge/builder/v1"
"""fledge on a machine of the user's: no isolation from whoever runs it is claimed, which is SLSA Build L1."""

_SHA256 = re.compile(r"[0-9a-f]{64}")
# A tag or a digest, and a transport in front of a bare name.
_IMAGE_NAME = re.compile(r"^[a-z-]+:(?=.*:)|[:@].*$")
_USERINFO = re.compile(r"(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*://)[^/@\s?#]*@")


class Dependency(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """An in-toto ResourceDescriptor: ``uri`` or ``sha256`` is there, ``media_type`` where it helps."""

    name: str = ""
    uri: str = ""
    sha256: str = ""
    media_type: str = ""


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What the statement is about. ``outputs`` and ``byproducts`` name files and their SHA-256, 64 hexadecimal digits each.

    ``recipe`` is the record that was built; of its ``source.secrets`` only the ids are told, and ``secret_ids`` adds those that
    came from elsewhere.
    """

    outputs: Mapping[str, str]
    recipe: object
    secret_ids: tuple[str, ...] = ()
    options: Mapping[str, object] = {}
    tools: Mapping[str, str] = {}
    dependencies: tuple[Dependency, ...] = ()
    byproducts: Mapping[str, str] = {}
    fledge_version: str


def write_provenance(build: Build) -> bytes:
    """The statement, the same bytes for the same build.

    Raises:
        InvalidInput: there is no output, or a digest is none.
    """
    if not build.outputs:
        raise InvalidInput("provenance needs something that was built", hint="give it the output files and their digests")
    statement = {
        "_type": STATEMENT_TYPE,
        "subject": [_describe_file(name, sha256) for name, sha256 in sorted(build.outputs.items())],
        "predicateType": PREDICATE_TYPE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": {
                    "recipe": _tell_recipe(build.recipe, build.secret_ids),
                    "options": _hide_passwords(msgspec.to_builtins(build.options)),
                },
                "internalParameters": {"tools": dict(build.tools)},
                "resolvedDependencies": [_describe_dependency(item) for item in sorted(set(build.dependencies))],
            },
            "runDetails": {
                "builder": {"id": BUILDER_ID, "version": {"fledge": build.fledge_version}},
                "byproducts": [_describe_file(name, sha256) for name, sha256 in sorted(build.byproducts.items())],
            },
        },
    }
    return (json.dumps(statement, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode("utf-8", "replace")


def depend_on_image(reference: str, manifest_digest: str, layer_digests: Iterable[str] = ()) -> tuple[Dependency, ...]:
    """The image that ``reference`` led to, and its layers; digests as OCI writes them (``sha256:…``). Raises InvalidInput."""
    sha256 = _read_digest(manifest_digest)
    name = _IMAGE_NAME.sub("", _hide_password(reference).rstrip("/").rpartition("/")[2]) or "image"
    image = Dependency(
        name=_hide_password(reference),
        uri=PackageURL("oci", None, name, manifest_digest).to_string(),
        sha256=sha256,
        media_type="application/vnd.oci.image.manifest.v1+json",
    )
    return image, *(Dependency(name="layer", sha256=_read_digest(digest)) for digest in layer_digests)


def depend_on_kernel(package: Package) -> Dependency:
    """The package file of the kernel, or of the source that it was compiled from."""
    return Dependency(name=package.file, uri=_deb_purl(package.name, package.version, "", "debian"), sha256=package.sha256)


def depend_on_debs(packages: Iterable[LockedPackage], *, distribution: str = "debian") -> tuple[Dependency, ...]:
    """The packages that were installed, with the SHA-256 of their files."""
    return tuple(
        Dependency(
            name=f"{item.name}:{item.architecture}",
            uri=_deb_purl(item.name, item.version, item.architecture, distribution),
            sha256=item.sha256,
        )
        for item in packages
    )


def depend_on_file(name: str, sha256: str) -> Dependency:
    """A file or a tree that the recipe names: a mapping, a static binary, a package that was kept."""
    return Dependency(name=name, sha256=sha256)


def _tell_recipe(recipe: object, secret_ids: tuple[str, ...]) -> Any:
    data = _drop_empty(msgspec.to_builtins(recipe))
    if isinstance(data, dict):
        source = data.get("source")
        kept = source.pop("secrets", {}) if isinstance(source, dict) else {}
        ids = sorted({*kept, *secret_ids})
        if ids:
            data.setdefault("source", {})["secrets"] = ids
    return _hide_passwords(data)


def _drop_empty(value: Any) -> Any:
    """Without what is empty: a key that a later version adds must not change what is said of a build that does not use it."""
    if not isinstance(value, dict):
        return value
    kept = {key: _drop_empty(item) for key, item in value.items()}
    return {key: item for key, item in kept.items() if item is not None and item not in ("", [], {}, ())}


def _hide_passwords(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _hide_passwords(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_hide_passwords(item) for item in value]
    return _hide_password(value) if isinstance(value, str) else value


def _hide_password(text: str) -> str:
    """URLs without the user and password before their host (RFC 3986, 3.2.1)."""
    return _USERINFO.sub(lambda match: match["scheme"], text)


def _describe_dependency(dependency: Dependency) -> dict[str, Any]:
    if not dependency.uri and not dependency.sha256:
        raise InvalidInput(f"the dependency {dependency.name!r} has neither a URI nor a digest")
    described: dict[str, Any] = {}
    if dependency.name:
        described["name"] = dependency.name
    if dependency.uri:
        described["uri"] = dependency.uri
    if dependency.sha256:
        described["digest"] = {"sha256": _check_sha256(dependency.sha256, dependency.name)}
    if dependency.media_type:
        described["mediaType"] = dependency.media_type
    return described


def _describe_file(name: str, sha256: str) -> dict[str, Any]:
    return {"name": name, "digest": {"sha256": _check_sha256(sha256, name)}}


def _check_sha256(sha256: str, name: str) -> str:
    if not _SHA256.fullmatch(sha256):
        raise InvalidInput(f"{sha256!r} of {name!r} is no SHA-256", hint="64 hexadecimal digits, in lower case")
    return sha256


def _read_digest(digest: str) -> str:
    algorithm, _, value = digest.partition(":")
    if algorithm != "sha256":
        raise InvalidInput(f"the digest {digest!r} is no SHA-256", hint="sha256: and 64 hexadecimal digits")
    return _check_sha256(value, digest)


def _deb_purl(name: str, version: str, architecture: str, namespace: str) -> str:
    return PackageURL("deb", namespace, name, version, {"arch": architecture} if architecture else None).to_string()
