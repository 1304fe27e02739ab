"""``source.image``: what it names, and where that is looked for."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path
from typing import Literal

import msgspec

from volant.core.errors import InvalidInput

Place = Literal["layout", "archive", "docker-archive", "registry", "local-storage", "anywhere"]
"""``anywhere`` is a bare name: in the storage of a Docker or podman on this machine, else in its registry."""

_FILES: dict[str, Place] = {"oci": "layout", "oci-archive": "archive", "docker-archive": "docker-archive"}
_ELSEWHERE = {
    "docker-daemon:": "local-storage",
    "containers-storage:": "local-storage",
    "docker://": "registry",
    "oci://": "registry",
}
MEMBERS_MAX = 4096
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")


class ImageReference(msgspec.Struct, frozen=True):
    """``path`` and ``tag`` for what lies in a file or directory; ``name`` for the rest, as its owner writes it."""

    place: Place
    path: Path = Path()
    tag: str = ""
    name: str = ""


def parse_image(text: str, base: Path) -> ImageReference:
    """Read ``oci:PATH[:TAG]``, ``oci-archive:PATH[:TAG]``, ``docker-archive:PATH[:TAG]``, ``docker://NAME``,
    ``docker-daemon:NAME``, ``containers-storage:NAME``, a path, or a name. A relative path begins at ``base``.

    Raises:
        InvalidInput: it names a transport that there is not, or a file that is not there.
    """
    for prefix, place in _ELSEWHERE.items():
        if text.startswith(prefix):
            name = text.removeprefix(prefix)
            return ImageReference("registry" if place == "registry" else "local-storage", name=name)
    scheme, _, rest = text.partition(":")
    if "://" in text or scheme == "dir":
        raise InvalidInput(
            f"source.image {text!r}: there is no transport {scheme!r}",
            field="source.image",
            hint="docker://NAME:TAG is a registry's",
        )
    if scheme in _FILES:
        return _find_file(text, rest, base, _FILES[scheme])
    if (base / text).exists() or text.startswith((".", "/")) or _split_tag(text, base) is not None:
        return _find_file(text, text, base, None)
    return ImageReference("anywhere", name=text)


def _find_file(text: str, location: str, base: Path, wanted: Place | None) -> ImageReference:
    found = (base / location, "") if (base / location).exists() else _split_tag(location, base)
    if found is None:
        raise InvalidInput(
            f"source.image {text!r}: there is nothing at {base / location}",
            field="source.image",
            hint="PATH is relative to the directory of fledge.toml",
        )
    path, tag = found
    place = _recognise(path)
    if wanted == "docker-archive" and place == "archive":
        place = "docker-archive"  # newer archives of Docker's are both
    if wanted not in (None, place):
        kind = {"layout": "a directory", "archive": "an OCI archive", "docker-archive": "an archive of docker save"}[place]
        right = {"layout": "oci", "archive": "oci-archive", "docker-archive": "docker-archive"}[place]
        raise InvalidInput(f"{path} is {kind}", field="source.image", hint=f"write {right}:{location}")
    return ImageReference(place, path=path, tag=tag)


def _recognise(path: Path) -> Place:
    if path.is_dir():
        return "layout"
    found = "archive"
    try:
        with tarfile.open(path, mode="r:*") as tar:
            # Archives of docker save that are OCI archives too are read as those.
            for _, member in zip(range(MEMBERS_MAX), tar, strict=False):
                name = member.name.removeprefix("./")
                if name == "index.json":
                    return "archive"
                if name == "manifest.json":
                    found = "docker-archive"
    except (tarfile.TarError, OSError, EOFError):
        return "archive"  # whoever reads it says what is wrong
    return "docker-archive" if found == "docker-archive" else "archive"


def _split_tag(location: str, base: Path) -> tuple[Path, str] | None:
    head, colon, tail = location.rpartition(":")
    if colon and head and _TAG.fullmatch(tail) and (base / head).exists():
        return base / head, tail
    return None
