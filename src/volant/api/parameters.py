"""The query parameters that routes share."""

from __future__ import annotations

from typing import Any

from volant.api.operation import Query
from volant.core.duration import parse_duration
from volant.core.errors import InvalidInput
from volant.core.ids import check_name
from volant.core.moment import parse_time

WAIT_DEFAULT_S = 60.0
WAIT_MAX_S = 3600.0
COUNT_MAX = 1_000_000


def read_timeout(text: str, name: str) -> float:
    seconds = parse_duration(text, name)
    if not 0 < seconds <= WAIT_MAX_S:
        raise InvalidInput(f"{text!r} is not a time to wait", field=name, hint="more than 0s and at most 1h")
    return seconds


def read_flag(text: str, name: str) -> bool:
    if text in ("true", "1", ""):
        return True
    if text in ("false", "0"):
        return False
    raise InvalidInput(f"{text[:40]!r} is neither true nor false", field=name)


def read_count(text: str, name: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 7 and int(text) <= COUNT_MAX:
        return int(text)
    raise InvalidInput(f"{text[:40]!r} is not a number of 0 to {COUNT_MAX}", field=name)


def read_labels(text: str, name: str) -> dict[str, str]:
    labels: dict[str, str] = {}
    for pair in text.split(","):
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidInput(f"{pair[:80]!r} is not a label", field=name, hint="write labels=tier=web,zone=a")
        labels[key] = value
    return labels


def read_moment(text: str, name: str) -> str:
    try:
        moment = parse_time(text)
    except ValueError as error:
        raise InvalidInput(f"{text[:40]!r} is not a time", field=name, hint="as in 2026-01-31T12:00:00Z") from error
    if moment.tzinfo is None:
        raise InvalidInput(f"{text[:40]!r} names no time zone", field=name, hint="as in 2026-01-31T12:00:00Z")
    return text


def _read_word(text: str, name: str) -> str:
    if len(text) > 253:
        raise InvalidInput("that is too long", field=name)
    return text


def wait_for(*goals: str) -> tuple[Query, Query]:
    """``wait`` and ``timeout`` of a write that can be followed to one of ``goals``."""

    def read_goal(text: str, name: str) -> str:
        if text not in goals:
            raise InvalidInput(f"{text[:40]!r} is not something to wait for", field=name, hint="one of: " + ", ".join(goals))
        return text

    return (
        Query("wait", "Answer when this is reached, or out of reach.", read_goal, {"type": "string", "enum": list(goals)}),
        Query("timeout", "How long to wait, as 500ms, 60s or 5m; 60s unless said.", read_timeout, _DURATION),
    )


_DURATION: dict[str, Any] = {"type": "string", "pattern": r"^\d{1,9}(\.\d{1,6})?(ms|s|m|h)$", "examples": ["60s"]}
_COUNT = {"type": "integer", "minimum": 0, "maximum": COUNT_MAX}
_FLAG = {"type": "string", "enum": ["true", "false", "1", "0", ""]}

LABELS = Query("labels", "Only those with all of these labels: a=b,c=d.", read_labels, {"type": "string"})
FOLLOW = Query("follow", "Go on with what comes.", read_flag, _FLAG)
FOLLOW_LIST = Query("watch", "Go on with what changes, as a stream of events.", read_flag, _FLAG)
PREVIOUS = Query("previous", "Of the run before this one.", read_flag, _FLAG)
TAIL = Query("tail", "Only the last so many lines.", read_count, _COUNT)
TAIL_BYTES = Query("tail_bytes", "Only the last so many bytes.", read_count, _COUNT)
SINCE = Query("since", "Only what came after this moment (RFC 3339).", read_moment, {"type": "string", "format": "date-time"})
LIMIT = Query("limit", "The latest so many.", read_count, _COUNT)
ABOUT_KIND = Query("about_kind", "Only about resources of this kind.", _read_word, {"type": "string", "maxLength": 253})
ABOUT_NAME = Query("about_name", "Only about the resource of this name.", check_name, {"type": "string", "maxLength": 63})
FORCE = Query("force", "At once, without asking the guest.", read_flag, _FLAG)
DISRUPT = Query("disrupt", "Also when the disruption budget of its deployment forbids it.", read_flag, _FLAG)
DRY_RUN = Query("dry_run", "Answer what would be, and write nothing.", read_flag, _FLAG)
UID = Query("uid", "Only when it still has this uid.", _read_word, {"type": "string", "maxLength": 253})
