"""Events as operations, so that they are written in the transaction of what they tell about."""

from __future__ import annotations

import hashlib
from typing import Any, Literal

import msgspec

from volant.core.event import Event, EventSpec, EventStatus
from volant.core.ids import Uid
from volant.core.resource import Meta, Resource, from_stored, to_stored
from volant.store.cache import Cache
from volant.store.contract import Create, Operation, Update
from volant.store.records import create_of, key_of

EventType = Literal["Normal", "Warning"]


class Note(msgspec.Struct, frozen=True):
    """Something to be told: ``reason`` is one CamelCase word, ``message`` a sentence."""

    type: EventType
    reason: str
    message: str


def event_operation(cache: Cache, about: Resource[Any, Any], note: Note, now: str) -> Operation:
    """Write ``note`` about a resource, or raise the count of the same one.

    Its name follows from what it says, so the same thing told a thousand times is one record.
    """
    said = hashlib.sha256(f"{note.type}\0{note.reason}\0{note.message}".encode()).hexdigest()
    name = f"{about.uid[:16]}.{said[:16]}"
    spec = EventSpec(
        type=note.type,
        reason=note.reason,
        message=note.message,
        about_kind=about.kind,
        about_name=about.name,
        about_uid=about.uid,
        at=now,
        first_at=now,
    )
    event = Event(
        meta=Meta(name=name, uid=Uid(said[:32]), project=about.meta.project, created_at=now), spec=spec, status=EventStatus()
    )
    stored = cache.get(key_of(event))
    if stored is None:
        return create_of(event)
    before = from_stored(Event, stored.data, stored.revision)
    counted = msgspec.structs.replace(spec, first_at=before.spec.first_at, count=before.spec.count + 1)
    return Update(key_of(event), to_stored(msgspec.structs.replace(before, spec=counted)))


__all__ = ["Create", "EventType", "Note", "event_operation"]
