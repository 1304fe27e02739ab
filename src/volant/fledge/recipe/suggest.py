"""``fledge init``: what a directory looks like, and the ``fledge.toml`` that would build it."""

from __future__ import annotations

import re
import tarfile
import tomllib
from collections.abc import Callable
from pathlib import Path

import msgspec

from volant.core.errors import AlreadyExists, NotFound

FILE = "fledge.toml"
READ_MAX_BYTES = 256 * 1024
_ELF = b"\x7fELF"
_DOCKERFILES = ("Dockerfile", "Containerfile")
_ROOT_DIRECTORIES = {"bin", "etc", "usr", "sbin", "lib", "var"}


class Suggestion(msgspec.Struct, frozen=True):
    """``seen`` says what was recognised, ``source`` are the lines of ``[source]``; ``rest`` are the sections after it."""

    seen: str
    source: str
    rest: str = ""
    missing: str = ""
    """What the writer has to fill in."""


def write_suggestion(directory: Path, *, replace: bool) -> tuple[Path, Suggestion]:
    """Write ``fledge.toml`` into ``directory``.

    Raises:
        NotFound: there is no such directory. AlreadyExists: it has one, and ``replace`` is false.
    """
    if not directory.is_dir():
        raise NotFound(f"there is no directory {directory}")
    path = directory / FILE
    if path.exists() and not replace:
        raise AlreadyExists(f"{path} is there already", hint="--force replaces it")
    suggestion = suggest(directory)
    temporary = path.with_name(f".{FILE}.new")
    temporary.write_text(render(directory, suggestion))
    temporary.replace(path)
    return path, suggestion


def suggest(directory: Path) -> Suggestion:
    """The first of the recognisers that knows what ``directory`` is."""
    for recognise in _RECOGNISERS:
        found = recognise(directory)
        if found is not None:
            return found
    return Suggestion(
        "nothing that fledge knows",
        'packages = ["busybox-static"]  # or image = "nginx:1.27", dockerfile = "Dockerfile", binary = "server"\n',
        '[workload]\nentrypoint = ["/bin/busybox", "httpd", "-f", "-p", "80", "-h", "/srv"]\nbase_url = "http://127.0.0.1:80"\n',
        "what to build from, and what to run",
    )


def render(directory: Path, suggestion: Suggestion) -> str:
    """The text of the file."""
    todo = f"# To fill in: {suggestion.missing}.\n" if suggestion.missing else ""
    head = f"# Written by fledge init, which found {suggestion.seen}. Every key: docs/reference/fledge.md\n{todo}"
    parts = [
        f'version = "1"\nstrategy = "oci_rootfs"\n\n[plugin]\nname = "{_name_of(directory)}"\nversion = "0.1.0"',
        f"[source]\n{suggestion.source.strip()}",
        suggestion.rest.strip(),
        "[resources]\ncpu_cores = 1\nmemory_mb = 256",
    ]
    return head + "\n\n".join(part for part in parts if part) + "\n"


def _name_of(directory: Path) -> str:
    cleaned = re.sub(r"[^a-z0-9]+", "-", directory.resolve().name.lower()).strip("-")[:63].strip("-")
    return cleaned or "plugin"


def _see_dockerfile(directory: Path) -> Suggestion | None:
    for name in _DOCKERFILES:
        if (directory / name).is_file():
            return Suggestion(f"a {name}", f'dockerfile = "{name}"\n')
    return None


def _see_layout(directory: Path) -> Suggestion | None:
    for path in [directory, *_list_directories(directory)]:
        if (path / "oci-layout").is_file() and (path / "index.json").is_file():
            where = "." if path == directory else path.name
            return Suggestion("an OCI layout", f'image = "oci:{where}"\n')
    return None


def _see_archive(directory: Path) -> Suggestion | None:
    for path in sorted(directory.glob("*.tar*")):
        try:
            with tarfile.open(path, mode="r:*") as tar:
                names = {member.name.removeprefix("./") for _, member in zip(range(64), tar, strict=False)}
        except (tarfile.TarError, OSError, EOFError):
            continue
        if "index.json" in names:
            return Suggestion(f"the OCI archive {path.name}", f'image = "oci-archive:{path.name}"\n')
        if "manifest.json" in names:
            return Suggestion(f"the docker save archive {path.name}", f'image = "docker-archive:{path.name}"\n')
    return None


def _see_root(directory: Path) -> Suggestion | None:
    for path in [directory, *_list_directories(directory)]:
        names = {entry.name for entry in path.iterdir()}
        if len(names & _ROOT_DIRECTORIES) >= 3 and "etc" in names:
            where = "." if path == directory else path.name
            return Suggestion(
                "a root file system", f'directory = "{where}"\n', '[workload]\nentrypoint = ["/bin/sh"]\n', "what to run"
            )
    return None


def _see_node(directory: Path) -> Suggestion | None:
    package = _read(directory / "package.json")
    if package is None:
        return None
    try:
        document = msgspec.json.decode(package)
    except msgspec.DecodeError:
        return None
    main = document.get("main", "index.js") if isinstance(document, dict) else "index.js"
    return Suggestion(
        "a Node package",
        'packages = ["nodejs"]\n',
        f'[mappings]\n"." = "/srv/app"\n\n[workload]\nentrypoint = ["/usr/bin/node", "{main}"]\nworkdir = "/srv/app"\n'
        'base_url = "http://127.0.0.1:3000"\n',
        "the port that it listens on",
    )


def _see_python(directory: Path) -> Suggestion | None:
    if not any((directory / name).is_file() for name in ("pyproject.toml", "requirements.txt", "setup.py")):
        return None
    module = "app"
    document = _read(directory / "pyproject.toml")
    if document is not None:
        try:
            module = str(tomllib.loads(document.decode()).get("project", {}).get("name", module)).replace("-", "_")
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, AttributeError):
            module = "app"
    return Suggestion(
        "a Python project",
        'packages = ["python3"]\n',
        f'[mappings]\n"." = "/srv/app"\n\n[workload]\nentrypoint = ["/usr/bin/python3", "-m", "{module}"]\nworkdir = "/srv/app"\n'
        'base_url = "http://127.0.0.1:8000"\n',
        "the packages that it needs, and the port that it listens on",
    )


def _see_site(directory: Path) -> Suggestion | None:
    if not (directory / "index.html").is_file():
        return None
    return Suggestion(
        "a web site",
        'packages = ["nginx-light"]\n',
        '[mappings]\n"." = "/var/www/html"\n\n[workload]\nentrypoint = ["/usr/sbin/nginx", "-g", "daemon off;"]\n'
        'base_url = "http://127.0.0.1:80"\nstop_signal = "SIGQUIT"\n\n[health_check]\nendpoint = "/"\n',
    )


def _see_binary(directory: Path) -> Suggestion | None:
    programs = [path for path in sorted(directory.iterdir()) if path.is_file() and _is_program(path)]
    if len(programs) != 1:
        return None
    return Suggestion(
        f"the program {programs[0].name}",
        f'binary = "{programs[0].name}"\n',
        '[workload]\nbase_url = "http://127.0.0.1:8080"\n',
        "the port that it listens on",
    )


_RECOGNISERS: tuple[Callable[[Path], Suggestion | None], ...] = (
    _see_dockerfile, _see_layout, _see_archive, _see_root, _see_node, _see_python, _see_site, _see_binary,
)  # fmt: skip
"""The most telling first."""


def _list_directories(directory: Path) -> list[Path]:
    return [path for path in sorted(directory.iterdir()) if path.is_dir() and not path.name.startswith(".")]


def _is_program(path: Path) -> bool:
    with path.open("rb") as stream:
        return stream.read(4) == _ELF and path.stat().st_mode & 0o111 != 0


def _read(path: Path) -> bytes | None:
    try:
        with path.open("rb") as stream:
            return stream.read(READ_MAX_BYTES)
    except OSError:
        return None
