"""Pages of many resources: chosen, in order, from one place on. Only what is on a page is decoded; the rest is looked at."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Generic, TypeVar

import msgspec

from volant.core.errors import InvalidInput
from volant.core.resource import Resource
from volant.core.selector import Selector
from volant.store.cache import Cache
from volant.store.contract import Store, Stored
from volant.store.records import read_resource

R = TypeVar("R", bound=Resource[Any, Any])

CURSOR_MAX_CHARS = 1024

SortValue = str | int | float | None
Read = Callable[[Mapping[str, Any]], SortValue]
"""Reads one value out of a record's plain data."""


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """What a listing is narrowed to. ``equals`` names a field of the kind and the values that it may have; ``text`` must be in
    one of the kind's texts, whatever its case."""

    selector: Selector = Selector()
    equals: Mapping[str, tuple[str, ...]] = {}
    text: str = ""


class Ask(msgspec.Struct, frozen=True, kw_only=True):
    """``limit`` None is all; ``cursor`` is what the page before said; ``sort`` is a field of the kind."""

    filters: Filters = Filters()
    sort: str = "name"
    descending: bool = False
    limit: int | None = None
    cursor: str | None = None


class Page(msgspec.Struct, Generic[R], frozen=True):
    """``total``: how many there are on all pages. ``next``: the cursor of the page after, None on the last."""

    items: tuple[R, ...]
    total: int
    next: str | None
    revision: int


class Kind(msgspec.Struct, Generic[R], frozen=True, kw_only=True):
    """How the resources of one kind are listed. ``fields`` can be filtered and sorted by, ``texts`` are searched."""

    cls: type[R]
    fields: Mapping[str, Read]
    texts: Callable[[Mapping[str, Any]], Sequence[str]]
    shows: Callable[[Mapping[str, Any]], bool] = lambda data: True


class Lister:
    """Reads from the cache where the kind is in it, as new as the store was when it was asked; else from the store."""

    def __init__(self, store: Store, cache: Cache | None = None) -> None:
        self._store = store
        self._cache = cache

    async def list_page(self, kind: Kind[R], project: str | None, ask: Ask) -> Page[R]:
        """Raises InvalidInput for a field that the kind has not, or a cursor of another question."""
        records, revision = await self._read(kind.cls, project)
        return choose_page(kind, records, revision, ask)

    async def _read(self, cls: type[R], project: str | None) -> tuple[Sequence[Stored], int]:
        if self._cache is not None and self._cache.holds(cls.kind) and await self._cache.catch_up():
            return self._cache.list(cls.kind, project), self._cache.revision
        listing = await self._store.list(cls.kind, project)
        return listing.items, listing.revision


def choose_page(kind: Kind[R], records: Sequence[Stored], revision: int, ask: Ask) -> Page[R]:
    """The page of ``records``, which are in key order. Raises as Lister.list_page."""
    check_ask(kind, ask)
    read = kind.fields[ask.sort]
    chosen = [stored for stored in records if kind.shows(stored.data)]
    if ask.filters != Filters():
        chosen = [stored for stored in chosen if _matches(kind, stored.data, ask.filters)]
    places = [(_place(read(stored.data), stored), stored) for stored in chosen]
    places.sort(key=_first, reverse=ask.descending)
    start = 0
    if ask.cursor is not None:
        after = _read_cursor(ask.cursor, ask)
        start = next(
            (i for i, (place, _) in enumerate(places) if (place < after if ask.descending else place > after)), len(places)
        )
    end = len(places) if ask.limit is None else start + ask.limit
    shown = places[start:end]
    more = end < len(places) and bool(shown)
    return Page(
        items=tuple(read_resource(kind.cls, stored) for _, stored in shown),
        total=len(places),
        next=_write_cursor(shown[-1][0], ask) if more else None,
        revision=revision,
    )


_Place = tuple[int, float, str, str, str]
"""Where a record stands: absent values first, numbers before texts, and records of one value by project and name."""


def _place(value: SortValue, stored: Stored) -> _Place:
    key = stored.key
    if isinstance(value, str):
        return 2, 0.0, value, key.project, key.name
    return (0, 0.0, "", key.project, key.name) if value is None else (1, float(value), "", key.project, key.name)


def _first(pair: tuple[_Place, Stored]) -> _Place:
    return pair[0]


def _matches(kind: Kind[Any], data: Mapping[str, Any], filters: Filters) -> bool:
    if filters.selector.requirements and not filters.selector.matches(data["meta"]["labels"]):
        return False
    for field, values in filters.equals.items():
        value = kind.fields[field](data)
        if ("" if value is None else str(value)).casefold() not in values:
            return False
    if not filters.text:
        return True
    wanted = filters.text.casefold()
    return any(wanted in text.casefold() for text in kind.texts(data))


def check_ask(kind: Kind[Any], ask: Ask) -> None:
    """Raises InvalidInput for a field that the kind has not."""
    for field in (ask.sort, *ask.filters.equals):
        if field not in kind.fields:
            raise InvalidInput(
                f"{field[:40]!r} is nothing that is listed by", field="sort", hint="one of: " + ", ".join(sorted(kind.fields))
            )


def is_chosen(kind: Kind[Any], data: Mapping[str, Any], filters: Filters) -> bool:
    """Whether a list of ``kind`` under ``filters`` has this record."""
    return kind.shows(data) and (filters == Filters() or _matches(kind, data, filters))


def _digest(ask: Ask) -> str:
    """What stands for the question, but for how much of the answer is wanted."""
    asked = (
        str(ask.filters.selector),
        sorted((field, sorted(values)) for field, values in ask.filters.equals.items()),
        ask.filters.text,
        ask.sort,
        ask.descending,
    )
    return hashlib.sha256(msgspec.json.encode(asked)).hexdigest()[:16]


def _write_cursor(place: _Place, ask: Ask) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode((_digest(ask), *place))).decode().rstrip("=")


def _read_cursor(text: str, ask: Ask) -> _Place:
    try:
        if len(text) > CURSOR_MAX_CHARS:
            raise ValueError("too long")
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
        digest, *place = msgspec.json.decode(decoded, type=tuple[str, int, float, str, str, str])
    except (ValueError, msgspec.DecodeError) as error:
        raise InvalidInput("the cursor is none that was given here", field="cursor", hint="begin without one") from error
    if digest != _digest(ask):
        raise InvalidInput(
            "the cursor is of another question", field="cursor", hint="filters and order stay the same from page to page"
        )
    rank, number, word, project, name = place
    return rank, number, word, project, name  # type: ignore[return-value]  # decoded as just these
