"""Where an image or a plugin is: Docker's grammar of references (distribution/reference), and ``oci://`` for plugins."""

from __future__ import annotations

import re

import msgspec

from volant.core.errors import InvalidInput
from volant.core.ids import Digest, check_digest

DEFAULT_REGISTRY = "docker.io"
DEFAULT_TAG = "latest"
NAME_MAX = 255
"""Characters of registry and repository together."""

PLUGIN_SCHEME = "oci://"

_COMPONENT = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_LABEL = r"(?:[A-Za-z0-9]|[A-Za-z0-9][A-Za-z0-9-]*[A-Za-z0-9])"
_REPOSITORY = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::(?P<port>[0-9]{{1,5}}))?")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_IDENTIFIER = re.compile(r"[0-9a-f]{64}")
_DOCKER_NAMES = frozenset({"docker.io", "index.docker.io", "registry-1.docker.io"})


class ImageReference(msgspec.Struct, frozen=True, kw_only=True):
    """``registry`` is HOST[:PORT]. At least one of ``tag`` and ``digest`` is given; the digest decides."""

    registry: str
    repository: str
    tag: str = ""
    digest: Digest | None = None

    def __str__(self) -> str:
        return self.name + (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    @property
    def name(self) -> str:
        return f"{self.registry}/{self.repository}"

    @property
    def selector(self) -> str:
        """What stands for it in ``/manifests/…``."""
        return self.digest or self.tag


def parse_image_reference(text: str) -> ImageReference:
    """Read ``[REGISTRY/]NAME[:TAG][@DIGEST]``, also with ``docker://`` before it, as Docker does.

    Without a registry it is Docker Hub's, where names without a ``/`` lie under ``library/``; without tag and digest it is
    ``latest``. What stands before the first ``/`` is a registry when it has a dot, a port or an upper-case letter, or is
    ``localhost``.

    Raises:
        InvalidInput: it is none; the message says which part.
    """
    rest = text.removeprefix("docker://")
    if "://" in rest:
        raise _refuse(text, f"{rest.partition('://')[0]!r} is no way to an image", "write REGISTRY/NAME:TAG")
    head, slash, tail = rest.partition("/")
    if slash and (any(mark in head for mark in ".:[") or head == "localhost" or head != head.lower()):
        registry, rest = head, tail
    else:
        registry = DEFAULT_REGISTRY
    return _read_rest(text, registry, rest)


def parse_plugin_reference(text: str) -> ImageReference:
    """Read ``oci://REGISTRY/NAME[:TAG][@DIGEST]``. The registry is never guessed: plugins have no home by default.

    Raises:
        InvalidInput: it is none; the message says which part.
    """
    form = f"write {PLUGIN_SCHEME}REGISTRY/NAME:TAG, for example {PLUGIN_SCHEME}registry.example.org/plugins/nginx:1.0"
    registry, slash, rest = text.removeprefix(PLUGIN_SCHEME).partition("/")
    if not text.startswith(PLUGIN_SCHEME):
        raise _refuse(text, f"it does not begin with {PLUGIN_SCHEME}", form)
    if not slash or not (any(mark in registry for mark in ".:[") or registry == "localhost"):
        raise _refuse(text, "it names no registry", form)
    return _read_rest(text, registry, rest)


def _read_rest(text: str, registry: str, rest: str) -> ImageReference:
    if registry in _DOCKER_NAMES:
        registry = DEFAULT_REGISTRY
    rest, at, digest = rest.partition("@")
    repository, colon, tag = rest.partition(":")
    if at and not digest.startswith("sha256:"):
        raise _refuse(text, f"{digest[:80]!r} is not a sha256 digest", "only sha256 is known here: NAME@sha256:…")
    checked = check_digest(digest, "reference") if at else None
    if colon and not _TAG.fullmatch(tag):
        raise _refuse(
            text, f"{tag[:80]!r} is not a tag", "letters, digits, '_', '.' and '-', at most 128, beginning with none of '.-'"
        )
    if registry == DEFAULT_REGISTRY and "/" not in repository:
        if _IDENTIFIER.fullmatch(repository):
            raise _refuse(text, "64 hexadecimal digits are an id on one machine, not a name", f"write NAME@sha256:{repository}")
        repository = f"library/{repository}"
    host = _HOST.fullmatch(registry)
    if not host or not 0 < int(host["port"] or 1) < 65536:
        raise _refuse(text, f"{registry[:80]!r} is not HOST or HOST:PORT", "for example registry.example.org:5000")
    if not _REPOSITORY.fullmatch(repository):
        hint = "lower-case letters and digits, between them '.', '_', '__' or '-', parts separated by '/'"
        raise _refuse(text, f"{repository.removeprefix('library/')[:80]!r} is not a repository's name", hint)
    if len(registry) + 1 + len(repository) > NAME_MAX:
        raise _refuse(text, f"the name has more than {NAME_MAX} characters", "shorten it")
    if not colon and not at:
        tag = DEFAULT_TAG
    return ImageReference(registry=registry.lower(), repository=repository, tag=tag, digest=checked)


def _refuse(text: str, reason: str, hint: str) -> InvalidInput:
    shown = text if len(text) <= 160 else text[:157] + "..."
    return InvalidInput(f"{shown!r} is not an image reference: {reason}", field="reference", hint=hint)
