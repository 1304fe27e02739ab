"""``.dockerignore``: what of a build context buildah does not see, so that a digest need not see it either.

Patterns as Docker documents them (Dockerfile reference, ".dockerignore file"): ``*``, ``?``, ``**``, ``!`` for exceptions, the
last match wins, and what lies in an ignored directory is ignored. A pattern with a character class or an escape is not followed:
what it would hide is digested all the same, which at worst builds once more than needed.
"""

from __future__ import annotations

import re
from pathlib import Path

import msgspec

from volant.core.errors import InvalidInput

IGNORE_MAX_BYTES = 256 * 1024


class Pattern(msgspec.Struct, frozen=True):
    expression: re.Pattern[bytes]
    is_exception: bool


def find_ignore_file(context: Path, dockerfile: Path) -> Path | None:
    """``DOCKERFILE.dockerignore``, ``.containerignore`` or ``.dockerignore``, the first that there is."""
    candidates = (
        dockerfile.with_name(f"{dockerfile.name}.dockerignore"), context / ".containerignore", context / ".dockerignore",
    )  # fmt: skip
    return next((path for path in candidates if path.is_file()), None)


def read_patterns(path: Path | None) -> tuple[Pattern, ...]:
    """The patterns of an ignore file, none without one. Raises InvalidInput for a file that is too large."""
    if path is None:
        return ()
    with path.open("rb") as stream:
        content = stream.read(IGNORE_MAX_BYTES + 1)
    if len(content) > IGNORE_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {IGNORE_MAX_BYTES} bytes")
    patterns = []
    for line in content.removeprefix(b"\xef\xbb\xbf").splitlines():
        text = line.strip()
        if not text or line.startswith(b"#"):
            continue
        is_exception = text.startswith(b"!")
        if is_exception:
            text = text[1:].strip()
        if any(byte in text for byte in b"[\\"):
            if is_exception:
                return ()
            continue
        parts = [part for part in text.split(b"/") if part not in (b"", b".")]
        if b".." in parts or not parts:
            # Cleaning such a path needs care that superset digests can do without.
            if is_exception:
                return ()
            continue
        patterns.append(Pattern(_compile(parts), is_exception))
    return tuple(patterns)


def is_ignored(path: bytes, patterns: tuple[Pattern, ...]) -> bool:
    """Whether the last pattern that matches ``path`` (relative, with ``/``) or one of its parents ignores it."""
    names = path.split(b"/")
    candidates = [b"/".join(names[:depth]) for depth in range(len(names), 0, -1)]
    for pattern in reversed(patterns):
        if any(pattern.expression.fullmatch(candidate) for candidate in candidates):
            return not pattern.is_exception
    return False


def _compile(parts: list[bytes]) -> re.Pattern[bytes]:
    text = b""
    for at, part in enumerate(parts):
        last = at == len(parts) - 1
        if part == b"**":
            text += b".*" if last else b"(?:.*/)?"
            continue
        # "**" inside a name is more than "*": it crosses slashes.
        for piece in re.split(rb"(\*\*|\*|\?)", part):
            text += {b"**": b".*", b"*": b"[^/]*", b"?": b"[^/]"}.get(piece) or re.escape(piece)
        text += b"" if last else b"/"
    return re.compile(text, re.DOTALL)
