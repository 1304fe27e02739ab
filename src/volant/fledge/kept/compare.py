"""What differs between two built artifacts, and why: from what each says of itself, down to single files."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import msgspec

from volant.fledge.kept.contents import Entry

_ASPECTS = ("kind", "mode", "uid", "gid", "size", "mtime_ns", "sha256", "link", "device", "xattrs")


class Difference(msgspec.Struct, frozen=True, omit_defaults=True):
    """``part`` is the document or ``files``, ``at`` the key or path in it; what is absent on a side is ``""``."""

    part: str
    at: str
    what: str
    left: str = ""
    right: str = ""


def compare_documents(part: str, left: Any, right: Any, at: str = "") -> Iterator[Difference]:
    """The leaves that differ of two JSON documents."""
    if isinstance(left, dict) and isinstance(right, dict):
        for key in sorted({*left, *right}):
            yield from compare_documents(part, left.get(key), right.get(key), f"{at}.{key}" if at else key)
    elif isinstance(left, list) and isinstance(right, list) and len(left) == len(right):
        for index, (one, other) in enumerate(zip(left, right, strict=True)):
            yield from compare_documents(part, one, other, f"{at}[{index}]")
    elif left != right:
        what = "added" if left is None else "removed" if right is None else "changed"
        yield Difference(part, at, what, _show(left), _show(right))


def compare_packages(left: Iterable[tuple[str, str]], right: Iterable[tuple[str, str]]) -> Iterator[Difference]:
    """Two lists of names and versions."""
    versions = tuple(_group(side) for side in (left, right))
    for name in sorted({*versions[0], *versions[1]}):
        one, other = (side.get(name, "") for side in versions)
        if one != other:
            what = "added" if not one else "removed" if not other else "changed"
            yield Difference("packages", name, what, one, other)


def compare_contents(left: Iterator[Entry], right: Iterator[Entry]) -> Iterator[Difference]:
    """Two listings, each in the order in which ``list_tree`` gives them."""
    sides = [{entry.path: entry for entry in side} for side in (left, right)]
    for path in sorted({*sides[0], *sides[1]}):
        one, other = (side.get(path) for side in sides)
        if one is None or other is None:
            entry = one or other
            assert entry is not None
            yield Difference("files", path, "added" if one is None else "removed", *_place(one, other))
        elif one != other:
            differing = [name for name in _ASPECTS if getattr(one, name) != getattr(other, name)]
            what = "content" if "sha256" in differing else ", ".join(differing)
            yield Difference("files", path, what, _show_aspects(one, differing), _show_aspects(other, differing))


def _place(one: Entry | None, other: Entry | None) -> tuple[str, str]:
    return ("" if one is None else one.kind, "" if other is None else other.kind)


def _group(packages: Iterable[tuple[str, str]]) -> dict[str, str]:
    grouped: dict[str, list[str]] = {}
    for name, version in packages:
        grouped.setdefault(name, []).append(version)
    return {name: ", ".join(sorted(found)) for name, found in grouped.items()}


def _show_aspects(entry: Entry, names: list[str]) -> str:
    values = []
    for name in names:
        value = getattr(entry, name)
        values.append(f"{name} {value:04o}" if name == "mode" else f"{name} {_show(value)}")
    return ", ".join(values)


def _show(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()
