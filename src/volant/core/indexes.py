"""Sets of small numbers as people write them: ``0-4,7``."""

from __future__ import annotations

from collections.abc import Iterable


def format_indexes(indexes: Iterable[int]) -> str:
    """In order, each run of neighbours as one range."""
    parts: list[str] = []
    first = last = -2
    for index in sorted(set(indexes)):
        if index == last + 1:
            last = index
            continue
        if first >= 0:
            parts.append(_format_range(first, last))
        first = last = index
    if first >= 0:
        parts.append(_format_range(first, last))
    return ",".join(parts)


def read_indexes(text: str) -> set[int]:
    """The inverse of format_indexes. Raises ValueError."""
    found: set[int] = set()
    for part in filter(None, text.split(",")):
        first, dash, last = part.partition("-")
        found.update(range(int(first), int(last if dash else first) + 1))
    return found


def _format_range(first: int, last: int) -> str:
    return str(first) if first == last else f"{first}-{last}"
