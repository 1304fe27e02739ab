"""YAML as plain data, with the line of everything in it. Only what means the same to every reader of YAML is read."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from volant.core.errors import InvalidInput

MAX_DEPTH = 64
MAX_VALUES = 100_000
"""Of one file, what aliases repeat included."""

MAX_CHARS = 16 * 1024 * 1024

Place = tuple[str | int, ...]

_NULL = re.compile(r"(?:~|null|Null|NULL|)")
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)")
_HEX = re.compile(r"0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?(?:[0-9]+\.[0-9]*|\.[0-9]+)(?:[eE][-+][0-9]+)?")
_NOT_A_NUMBER = re.compile(r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)")
_TRUE_TO_SOME = frozenset({"yes", "on"})
_NO_TEXT = tuple(f"tag:yaml.org,2002:{name}" for name in ("bool", "int", "float"))
_STRING = "tag:yaml.org,2002:str"
_MERGE = "<<"


@dataclass
class YamlDocument:
    """``lines`` has the line of each value, from 1, by its place."""

    line: int
    content: Any = None
    lines: dict[Place, int] = field(default_factory=dict)


@dataclass
class _Open:
    """A map or list that is being read."""

    value: Any
    line: int
    place: Place
    anchor: str | None
    values: int
    """How many there were before it, so that an alias of it counts what it repeats."""
    chars: int
    key: str | None = None
    is_merge: bool = False
    merges: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class _Anchored:
    value: Any
    values: int
    chars: int


def read_yaml(text: str, what: str) -> list[YamlDocument]:
    """Every document in ``text``, those left out that hold nothing.

    Raises:
        InvalidInput: it is no YAML, is too large once its aliases are read, says a key twice, or holds a word that one reader
            takes for a number or a truth, and another for text. The line is named, and ``what``.
    """
    return list(_Reader(what).read(text))


class _Reader:
    def __init__(self, what: str) -> None:
        self._what = what
        self._values = 0
        self._chars = 0
        self._document = YamlDocument(1)
        self._open: list[_Open] = []
        self._anchors: dict[str, _Anchored | None] = {}

    def read(self, text: str) -> Iterator[YamlDocument]:
        loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            for event in yaml.parse(text, Loader=loader):
                line = 1 if event.start_mark is None else event.start_mark.line + 1
                match event:
                    case yaml.DocumentStartEvent():
                        self._document, self._open, self._anchors = YamlDocument(line), [], {}
                    case yaml.DocumentEndEvent():
                        if self._document.content is not None:
                            yield self._document
                    case yaml.MappingStartEvent() | yaml.SequenceStartEvent():
                        self._begin({} if isinstance(event, yaml.MappingStartEvent) else [], event, line)
                    case yaml.MappingEndEvent() | yaml.SequenceEndEvent():
                        self._end()
                    case yaml.ScalarEvent():
                        self._add_scalar(event, line)
                    case yaml.AliasEvent():
                        self._add_alias(str(event.anchor), line)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            why = " ".join(part for part in (error.problem, error.context) if part)
            raise self._refuse(f"this is no YAML: {why}", 1 if mark is None else mark.line + 1) from error
        except yaml.YAMLError as error:
            raise self._refuse(f"this is no YAML: {error}", 1) from error

    def _begin(self, value: Any, event: Any, line: int) -> None:
        if event.tag not in (None, "!", "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"):
            raise self._refuse(f"the tag {event.tag[:80]} is not read here", line, hint="leave it out")
        if len(self._open) >= MAX_DEPTH:
            raise self._refuse(f"it lies more than {MAX_DEPTH} deep", line)
        self._count(1, 0, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = None
        if self._open and isinstance(self._open[-1].value, dict) and self._open[-1].key is None:
            raise self._refuse("a key is text", line)
        self._open.append(_Open(value, line, self._place(), event.anchor, self._values - 1, self._chars))

    def _end(self) -> None:
        done = self._open.pop()
        for merged in done.merges:
            for key, value in merged.items():
                done.value.setdefault(key, value)
        if done.anchor is not None:
            self._anchors[done.anchor] = _Anchored(done.value, self._values - done.values, self._chars - done.chars)
        self._put(done.value, done.line)

    def _add_scalar(self, event: Any, line: int) -> None:
        self._count(1, len(event.value), line)
        above = self._open[-1] if self._open else None
        if above is not None and isinstance(above.value, dict) and above.key is None:
            self._read_key(above, event, line)
            return
        value = self._resolve(event, line)
        if event.anchor is not None:
            self._anchors[event.anchor] = _Anchored(value, 1, len(event.value))
        self._put(value, line)

    def _read_key(self, above: _Open, event: Any, line: int) -> None:
        # Also a key that looks like a number is text: env may have one.
        key = str(event.value)
        if event.implicit[0] and not _is_plain(key) and _is_ambiguous(key):
            raise self._ambiguous(key, line)
        if key in above.value:
            raise self._refuse(f"{key[:80]!r} is said twice", line)
        above.key = key
        above.is_merge = key == _MERGE and bool(event.implicit[0])

    def _add_alias(self, anchor: str, line: int) -> None:
        if anchor not in self._anchors:
            raise self._refuse(f"there is no anchor &{anchor[:80]} before this", line)
        known = self._anchors[anchor]
        if known is None:
            raise self._refuse(f"*{anchor[:80]} lies in what it stands for", line)
        self._count(known.values, known.chars, line)
        if self._open and isinstance(self._open[-1].value, dict) and self._open[-1].key is None:
            raise self._refuse("an alias is no key", line)
        self._put(known.value, line)

    def _put(self, value: Any, line: int) -> None:
        self._document.lines.setdefault(self._place(), line)
        if not self._open:
            self._document.content = value
            return
        above = self._open[-1]
        if isinstance(above.value, list):
            above.value.append(value)
            return
        assert above.key is not None
        if above.is_merge:
            merged = value if isinstance(value, list) else [value]
            if not all(isinstance(one, dict) for one in merged):
                raise self._refuse("<< takes a map, or a list of maps", line)
            above.merges += merged
        else:
            above.value[above.key] = value
        above.key = None

    def _place(self) -> Place:
        if not self._open:
            return ()
        above = self._open[-1]
        return (*above.place, len(above.value) if isinstance(above.value, list) else above.key or "")

    def _resolve(self, event: Any, line: int) -> Any:
        text = str(event.value)
        if event.tag == _STRING or (event.tag in (None, "!") and not event.implicit[0]):
            return text
        if event.tag not in (None, "!"):
            raise self._refuse(f"the tag {event.tag[:80]} is not read here", line, hint="leave it out")
        if _NULL.fullmatch(text):
            return None
        if text in _TRUE or text in _FALSE:
            return text in _TRUE
        if _INT.fullmatch(text) and len(text) < 400:
            return int(text)
        if _HEX.fullmatch(text):
            return int(text, 16)
        if _FLOAT.fullmatch(text):
            return float(text)
        if _NOT_A_NUMBER.fullmatch(text):
            raise self._refuse(f"{text} is no number that JSON knows", line, hint=f'text is written "{text}"')
        if _is_ambiguous(text):
            raise self._ambiguous(text, line)
        return text

    def _ambiguous(self, text: str, line: int) -> InvalidInput:
        if text.isalpha():
            truth = "true" if text.lower() in _TRUE_TO_SOME else "false"
            return self._refuse(
                f"{text} is {truth} to YAML 1.1 and text to YAML 1.2", line, hint=f'write {truth}, or for the text "{text}"'
            )
        return self._refuse(
            f"{text[:80]} is one thing to YAML 1.1 and another to YAML 1.2",
            line,
            hint=f'write the number in plain decimal digits, or for the text "{text[:80]}"',
        )

    def _count(self, values: int, chars: int, line: int) -> None:
        self._values += values
        self._chars += chars
        if self._values > MAX_VALUES or self._chars > MAX_CHARS:
            raise self._refuse("it is too large, what its aliases repeat included", line)

    def _refuse(self, why: str, line: int, hint: str | None = None) -> InvalidInput:
        return InvalidInput(f"{self._what}, line {line}: {why}", hint=hint)


def _is_plain(text: str) -> bool:
    """True for a number or a truth to every reader, so that as a key it is only a key."""
    return text in (*_TRUE, *_FALSE) or any(each.fullmatch(text) for each in (_INT, _HEX, _FLOAT))


def _is_ambiguous(text: str) -> bool:
    """True for what YAML 1.1 takes for a number or a truth, of what YAML 1.2 takes for text or another number."""
    resolvers = yaml.SafeLoader.yaml_implicit_resolvers
    return any(tag in _NO_TEXT and known.match(text) for tag, known in resolvers.get(text[:1], ()))
