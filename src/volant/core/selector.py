"""Label selectors as Kubernetes writes them: ``app=web,tier!=db,zone in (a, b),!old``.

Spec: kubernetes.io, "Labels and Selectors", both the equality and the set based requirements. Labels of Volant may hold any
text; a key or a value with white space, a comma or a parenthesis in it cannot be selected by.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Literal

import msgspec

from volant.core.errors import InvalidInput

Operator = Literal["in", "notin", "exists", "absent"]

SELECTOR_MAX_CHARS = 4096
REQUIREMENTS_MAX = 64

_KEY = r"[^\s,=!()]+"
_VALUE = r"[^\s,()=!][^\s,()]*"
_SPACE = re.compile(r"\s*")
_EQUALITY = re.compile(rf"({_KEY})\s*(==|=|!=)\s*({_VALUE})?\s*(?=,|\Z)")
_SET = re.compile(rf"({_KEY})\s+(in|notin)\s*\(([^()]*)\)\s*(?=,|\Z)")
_PRESENCE = re.compile(rf"(!?)\s*({_KEY})\s*(?=,|\Z)")
_ONE_VALUE = re.compile(rf"(?:{_VALUE})?")


class Requirement(msgspec.Struct, frozen=True):
    """One condition on one label. ``values`` are sorted and without doubles; empty for ``exists`` and ``absent``."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """``notin`` holds too where there is no such label, as in Kubernetes."""
        match self.operator:
            case "in":
                return labels.get(self.key) in self.values
            case "notin":
                return self.key not in labels or labels[self.key] not in self.values
            case "exists":
                return self.key in labels
            case "absent":
                return self.key not in labels

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "absent":
                return f"!{self.key}"
            case "in" | "notin" if len(self.values) != 1:
                return f"{self.key} {self.operator} ({','.join(self.values)})"
            case _:
                return f"{self.key}{'=' if self.operator == 'in' else '!='}{self.values[0]}"


class Selector(msgspec.Struct, frozen=True):
    """All of ``requirements`` must hold; without any everything matches. ``str`` gives a text that parses to the same."""

    requirements: tuple[Requirement, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        return all(requirement.matches(labels) for requirement in self.requirements)

    @property
    def exact(self) -> dict[str, str]:
        """Labels that whatever matches is sure to have: what an index can be asked for. Necessary, not sufficient."""
        found: dict[str, str] = {}
        for one in self.requirements:
            if one.operator == "in" and len(one.values) == 1:
                found.setdefault(one.key, one.values[0])
        return found

    def __str__(self) -> str:
        return ",".join(map(str, self.requirements))


def select_labels(labels: Mapping[str, str]) -> Selector:
    """What has all of ``labels``."""
    return Selector(tuple(Requirement(key, "in", (value,)) for key, value in labels.items()))


def parse_selector(text: str, field: str = "labels") -> Selector:
    """The selector that ``text`` is; an empty one selects everything.

    Raises:
        InvalidInput: it cannot be read; ``field`` is named, and the message holds the place.
    """
    if len(text) > SELECTOR_MAX_CHARS:
        raise InvalidInput(f"the selector is longer than {SELECTOR_MAX_CHARS} characters", field=field)
    found: list[Requirement] = []
    place = _skip_space(text, 0)
    while place < len(text):
        requirement, place = _read_requirement(text, place, field)
        found.append(requirement)
        if len(found) > REQUIREMENTS_MAX:
            raise InvalidInput(f"the selector has more than {REQUIREMENTS_MAX} requirements", field=field)
        if place == len(text):
            break
        place = _skip_space(text, place + 1)  # after the comma
        if place == len(text):
            raise _unreadable(text, place, field)
    return Selector(tuple(found))


def _read_requirement(text: str, place: int, field: str) -> tuple[Requirement, int]:
    if match := _EQUALITY.match(text, place):
        operator: Operator = "notin" if match[2] == "!=" else "in"
        return Requirement(match[1], operator, (match[3] or "",)), match.end()
    if match := _SET.match(text, place):
        values = [value.strip() for value in match[3].split(",")]
        if not match[3].strip() or not all(_ONE_VALUE.fullmatch(value) for value in values):
            raise _unreadable(text, match.start(3), field)
        return Requirement(match[1], "in" if match[2] == "in" else "notin", _order(values)), match.end()
    if match := _PRESENCE.match(text, place):
        return Requirement(match[2], "absent" if match[1] else "exists"), match.end()
    raise _unreadable(text, place, field)


def _order(values: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(set(values)))


def _skip_space(text: str, place: int) -> int:
    match = _SPACE.match(text, place)
    assert match is not None
    return match.end()


def _unreadable(text: str, place: int, field: str) -> InvalidInput:
    rest = text[place : place + 40]
    what = f"cannot be read from {rest!r} on" if rest else "ends with a comma"
    return InvalidInput(
        f"the selector {text[:80]!r} {what}", field=field, hint="write app=web,tier!=db or zone in (a,b), app, !old"
    )
