"""Events: what happened to which resource, and why, for people to read."""

from __future__ import annotations

from typing import ClassVar, Literal

from volant.core.ids import Uid
from volant.core.resource import Resource, Spec, Status


class EventSpec(Spec, frozen=True, kw_only=True):
    type: Literal["Normal", "Warning"]
    reason: str
    """One CamelCase word for programs."""
    message: str
    about_kind: str
    about_name: str
    about_uid: Uid
    at: str
    first_at: str
    count: int = 1
    """How often the same thing happened in a row."""


class EventStatus(Status, frozen=True, kw_only=True):
    pass


class Event(Resource[EventSpec, EventStatus], frozen=True, kw_only=True):
    kind: ClassVar[str] = "Event"
    plural: ClassVar[str] = "events"
    spec_type: ClassVar[type[Spec]] = EventSpec
    status_type: ClassVar[type[Status]] = EventStatus
