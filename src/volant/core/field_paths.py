"""Places in a document of plain data: ``strategy.type``, ``env.MODE``, ``labels["app.kubernetes.io/name"]``."""

from __future__ import annotations

import inspect
import json
import re
import types
import typing
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

import msgspec

Path = tuple[str, ...]

MISSING: Final = object()
"""What ``find_value`` gives where there is nothing; null is something."""

_PLAIN = re.compile(r'[^.\[\]"]+')
_PART = re.compile(r'\.?(?:([^.\[\]"]+)|\[("(?:[^"\\]|\\.)*")\])')


def format_path(path: Path) -> str:
    """The path as people read it. A key that holds one of ``. [ ] "``, or nothing, stands in brackets as JSON text."""
    text = ""
    for part in path:
        if _PLAIN.fullmatch(part):
            text += f".{part}" if text else part
        else:
            text += f"[{json.dumps(part, ensure_ascii=False)}]"
    return text


def parse_path(text: str) -> Path:
    """The inverse of ``format_path``. Raises ValueError for what it does not write."""
    parts: list[str] = []
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            raise ValueError(f"{text[:80]!r} is no path")
        parts.append(found[1] if found[1] is not None else json.loads(found[2]))
        at = found.end()
    path = tuple(parts)
    if format_path(path) != text:
        raise ValueError(f"{text[:80]!r} is no path")
    return path


class PathSet:
    """Paths of which it is found without a walk whether one holds another, or lies in it."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self.paths = frozenset(paths)
        self._above = frozenset(path[:length] for path in self.paths for length in range(1, len(path)))

    def __contains__(self, path: Path) -> bool:
        return path in self.paths

    def holds(self, path: Path) -> bool:
        """True when ``path`` is one of them, or lies in one."""
        return any(path[:length] in self.paths for length in range(1, len(path) + 1))

    def has_below(self, path: Path) -> bool:
        """True when one of them lies in ``path``, and is not it."""
        return path in self._above

    def overlaps(self, path: Path) -> bool:
        return self.holds(path) or self.has_below(path)


def list_leaves(
    document: Mapping[str, Any], whole: Collection[Path] = (), *, keep_null: bool = False
) -> Iterator[tuple[Path, Any]]:
    """Every value that is no map with something in it, and what lies at ``whole``, in the document's order.

    A list is one value, however much is in it. Without ``keep_null`` null is as if it was not written.
    """
    yield from _list_below((), document, whole, keep_null)


def _list_below(above: Path, value: Mapping[str, Any], whole: Collection[Path], keep_null: bool) -> Iterator[tuple[Path, Any]]:
    for key, item in value.items():
        path = (*above, str(key))
        if isinstance(item, dict) and item and path not in whole:
            yield from _list_below(path, item, whole, keep_null)
        elif item is not None or keep_null:
            yield path, item


def find_value(document: Any, path: Path) -> Any:
    """What lies there, or ``MISSING``."""
    for part in path:
        if not isinstance(document, dict) or part not in document:
            return MISSING
        document = document[part]
    return document


def put_value(document: dict[str, Any], path: Path, value: Any) -> None:
    """Put it there, in place; what is no map on the way becomes one. ``{}`` leaves a map that is there as it is."""
    for part in path[:-1]:
        below = document.get(part)
        if not isinstance(below, dict):
            below = document[part] = {}
        document = below
    if not (value == {} and isinstance(value, dict) and isinstance(document.get(path[-1]), dict)):
        document[path[-1]] = value


def take_away(document: dict[str, Any], path: Path) -> None:
    """Take it away, in place, when it is there."""
    above = find_value(document, path[:-1])
    if isinstance(above, dict):
        above.pop(path[-1], None)


def same_value(left: Any, right: Any) -> bool:
    """As JSON has it: true is no number, and ``MISSING`` is like nothing else."""
    if left is MISSING or right is MISSING or isinstance(left, bool) or isinstance(right, bool):
        return left is right
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same_value(left[key], right[key]) for key in left)
    if isinstance(left, list) and isinstance(right, list):
        return len(left) == len(right) and all(map(same_value, left, right))
    return bool(left == right)


def spell_out(value: Any) -> Any:
    """Plain data of a record, with every field, also those that its own encoding leaves out since they are as by default."""
    if isinstance(value, msgspec.Struct):
        return {field: spell_out(getattr(value, field)) for field in value.__struct_fields__}
    if isinstance(value, Mapping):
        return {str(key): spell_out(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [spell_out(item) for item in value]
    return value


def find_records(cls: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    """Every type of record that one of ``cls`` may hold, also in lists and maps."""
    waiting, known = [cls], {cls}
    while waiting:
        for hint in typing.get_type_hints(waiting.pop(), include_extras=True).values():
            for record in _records_of(hint, anywhere=True):
                if record not in known:
                    known.add(record)
                    waiting.append(record)
                    yield record


class Shape(NamedTuple):
    """``optional``: where a record holds another record only when somebody says so. ``required``: what has no default."""

    optional: frozenset[Path]
    required: frozenset[Path]


NO_SHAPE = Shape(frozenset(), frozenset())


@lru_cache(maxsize=64)
def find_shape(cls: type[msgspec.Struct]) -> Shape:
    """Of a record, and of the records in it."""
    found = list(_find_fields((), cls))
    return Shape(
        frozenset(path for path, field, record in found if record and field.default is None),
        frozenset(path for path, field, _ in found if field.required),
    )


def _find_fields(above: Path, cls: type[msgspec.Struct]) -> Iterator[tuple[Path, msgspec.structs.FieldInfo, bool]]:
    hints = typing.get_type_hints(cls, include_extras=True)
    for field in msgspec.structs.fields(cls):
        path = (*above, field.name)
        records = list(_records_of(hints[field.name]))
        yield path, field, bool(records)
        for record in records:
            yield from _find_fields(path, record)


def _records_of(hint: Any, *, anywhere: bool = False) -> Iterator[type[msgspec.Struct]]:
    if inspect.isclass(hint) and issubclass(hint, msgspec.Struct):
        yield hint
    elif anywhere or typing.get_origin(hint) in (typing.Annotated, typing.Union, types.UnionType):
        for each in typing.get_args(hint):
            yield from _records_of(each, anywhere=anywhere)
