"""Record types made ready before threads share them.

msgspec (0.22) works out what it must know of a type when it first reads one. Two threads that both do so for the first time crash
the process: the second one sees what the first has half made.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator

import msgspec

_preparing = threading.Lock()
_prepared: set[type[msgspec.Struct]] = set()
"""A cache of what msgspec itself keeps for the life of the process; it only grows."""


def prepare_types(*types: type[msgspec.Struct]) -> None:
    """Return once each of ``types``, and all that they hold, may be read by any thread. Costs nothing the second time."""
    if _prepared.issuperset(types):
        return
    with _preparing:
        for each in types:
            msgspec.json.Decoder(each)
            _prepared.add(each)


def prepare_all_types() -> None:
    """``prepare_types`` of every record type that was imported so far and can be read."""
    with _preparing:
        for each in _subclasses(msgspec.Struct):
            if each.__module__.startswith("volant.") and each not in _prepared:
                try:
                    msgspec.json.Decoder(each)
                except (TypeError, NameError):
                    continue  # nobody reads one: it holds what JSON cannot say
                _prepared.add(each)


def _subclasses(cls: type[msgspec.Struct]) -> Iterator[type[msgspec.Struct]]:
    for each in cls.__subclasses__():
        yield each
        yield from _subclasses(each)
