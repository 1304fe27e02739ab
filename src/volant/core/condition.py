"""Conditions: named yes-or-no statements about a resource, each with a reason."""

from __future__ import annotations

from typing import Literal

import msgspec

Truth = Literal["True", "False", "Unknown"]


class Condition(msgspec.Struct, frozen=True, kw_only=True):
    """``reason`` is one CamelCase word for programs, ``message`` a sentence for people."""

    type: str
    status: Truth
    reason: str = ""
    message: str = ""
    last_transition_at: str = ""


Conditions = tuple[Condition, ...]


def find_condition(conditions: Conditions, type_: str) -> Condition | None:
    return next((c for c in conditions if c.type == type_), None)


def is_true(conditions: Conditions, type_: str) -> bool:
    found = find_condition(conditions, type_)
    return found is not None and found.status == "True"


def is_false(conditions: Conditions, type_: str) -> bool:
    """True only where it is said; what is unknown or was never looked at is not."""
    found = find_condition(conditions, type_)
    return found is not None and found.status == "False"


def set_condition(conditions: Conditions, new: Condition, now: str) -> Conditions:
    """``conditions`` with ``new`` in it. The transition time moves only with the status; an unchanged set comes back as is."""
    old = find_condition(conditions, new.type)
    at = old.last_transition_at if old is not None and old.status == new.status else now
    dated = msgspec.structs.replace(new, last_transition_at=at)
    if old == dated:
        return conditions
    if old is None:
        return (*conditions, dated)
    return tuple(dated if c.type == new.type else c for c in conditions)
