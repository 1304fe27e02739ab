"""Schedules as crontab(5) writes them, and the moments that they name.

Where clocks are put forward or back by summer time it is as vixie-cron has it: what is due at a certain time of the day runs
once a day, right after the gap when its time falls into one; what has ``*`` for its minute or hour goes by the time that really
passes.
"""

from __future__ import annotations

import zoneinfo
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import lru_cache

import msgspec

from volant.core.errors import InvalidInput

_MINUTE = timedelta(minutes=1)
_DAY = timedelta(days=1)
_HORIZON_YEARS = 9
"""A schedule with a moment has one within so many years: 29 February may be eight years away."""

_ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_DAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 7, {name: number for number, name in enumerate(_DAYS)}),
)
_MAX_CHARS = 256


class Schedule(msgspec.Struct, frozen=True, kw_only=True):
    """``either_day``: both fields of days are restricted, and a day that one of them names is enough. ``is_fixed``: it names
    times of the day, rather than how often."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    is_fixed: bool

    def has_day(self, day: datetime) -> bool:
        if day.month not in self.months:
            return False
        by_month, by_week = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return (by_month or by_week) if self.either_day else (by_month and by_week)


@lru_cache(maxsize=1024)
def parse_schedule(text: str) -> Schedule:
    """Raises InvalidInput for what is no schedule, or has no moment in any year."""
    if len(text) > _MAX_CHARS:
        raise InvalidInput("that is too long for a schedule", field="schedule")
    words = _ALIASES.get(text.strip().lower(), text).split()
    if len(words) != len(_FIELDS):
        named = ", ".join(name for name, *_ in _FIELDS)
        raise InvalidInput(
            f"{text[:80]!r} is no schedule: it has {len(words)} fields, not {len(_FIELDS)}",
            field="schedule",
            hint=f"as in crontab(5): {named}; for example '30 4 * * mon-fri', or @daily",
        )
    minutes, hours, days, months, weekdays = (_read_field(word, *field) for word, field in zip(words, _FIELDS, strict=True))
    schedule = Schedule(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(day % 7 for day in weekdays),
        either_day=words[2][0] != "*" and words[4][0] != "*",
        is_fixed=words[0][0] != "*" and words[1][0] != "*",
    )
    if next_moment(schedule, zoneinfo.ZoneInfo("UTC"), datetime(2096, 3, 1, tzinfo=UTC)) is None:
        raise InvalidInput(f"{text[:80]!r} names a day that never comes", field="schedule")
    return schedule


def read_timezone(name: str) -> zoneinfo.ZoneInfo:
    """Raises InvalidInput for what is no IANA timezone that this host knows."""
    try:
        if not name or len(name) > _MAX_CHARS:
            raise ValueError("no name")
        return zoneinfo.ZoneInfo(name)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise InvalidInput(
            f"{name[:80]!r} is no timezone that is known here", field="timezone", hint="as in Europe/Berlin, or UTC"
        ) from error


def next_moment(schedule: Schedule, zone: zoneinfo.ZoneInfo, after: datetime) -> datetime | None:
    """The first moment later than ``after``, in UTC; None when there is none in years."""
    after = after.astimezone(UTC)
    if schedule.is_fixed:
        return _next_fixed(schedule, zone, after)
    return _next_passing(schedule, zone, after)


def last_moment(schedule: Schedule, zone: zoneinfo.ZoneInfo, after: datetime, until: datetime) -> datetime | None:
    """The last moment that is later than ``after`` and not later than ``until``, in UTC; None when there is none."""
    found = next_moment(schedule, zone, after)
    if found is None or found > until:
        return None
    end = until.astimezone(UTC)
    while True:
        middle = found + max((end - found) / 2, _MINUTE / 2)
        later = next_moment(schedule, zone, middle - _MINUTE / 2)
        if later is not None and found < later <= until:
            found = later
        elif middle >= end:
            return found
        else:
            end = middle


def _next_fixed(schedule: Schedule, zone: zoneinfo.ZoneInfo, after: datetime) -> datetime | None:
    # Local times in order are moments in order, but for those that a gap makes one: the first that is late enough is it.
    start = after.astimezone(zone).replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0, fold=0) - _DAY
    for day in _list_days(schedule, start):
        if _to_moment(day + 2 * _DAY, zone) <= after:
            continue
        for hour in schedule.hours:
            for minute in schedule.minutes:
                moment = _to_moment(day.replace(hour=hour, minute=minute), zone)
                if moment > after:
                    return moment
    return None


def _next_passing(schedule: Schedule, zone: zoneinfo.ZoneInfo, after: datetime) -> datetime | None:
    moment = after.replace(second=0, microsecond=0) + _MINUTE
    last_year = moment.year + _HORIZON_YEARS
    while True:
        local = moment.astimezone(zone)
        if local.year > last_year:
            return None
        if not schedule.has_day(local):
            tomorrow = local.replace(tzinfo=None, hour=0, minute=0, second=0, microsecond=0, fold=0) + _DAY
            while tomorrow.month not in schedule.months and tomorrow.year <= last_year:
                tomorrow = (tomorrow.replace(day=1) + 31 * _DAY).replace(day=1)
            moment = max(moment + _MINUTE, tomorrow.replace(tzinfo=zone).astimezone(UTC))
        elif local.hour not in schedule.hours:
            moment += (60 - local.minute) * _MINUTE
        elif local.minute not in schedule.minutes:
            moment += _MINUTE
        else:
            return moment


def _list_days(schedule: Schedule, start: datetime) -> Iterator[datetime]:
    """Days of the schedule from ``start`` on, as midnights without a timezone."""
    day = start
    while day.year <= start.year + _HORIZON_YEARS:
        if day.month not in schedule.months:
            day = (day.replace(day=1) + 31 * _DAY).replace(day=1)
            continue
        if schedule.has_day(day):
            yield day
        day += _DAY


def _to_moment(local: datetime, zone: zoneinfo.ZoneInfo) -> datetime:
    """When a clock in ``zone`` first shows ``local``, in UTC; the end of the gap when none ever does."""
    moment = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if moment.astimezone(zone).replace(tzinfo=None) == local:
        return moment
    # The gap ends between the two readings of a time in it (PEP 495).
    before, offset = local.replace(tzinfo=zone, fold=1).astimezone(UTC), moment.astimezone(zone).utcoffset()
    while moment - before > _MINUTE:
        middle = before + (moment - before) / 2
        if middle.astimezone(zone).utcoffset() == offset:
            moment = middle
        else:
            before = middle
    # Offsets are whole minutes, and so are the moments at which they change.
    return moment.replace(second=0, microsecond=0)


def _read_field(word: str, name: str, low: int, high: int, names: dict[str, int]) -> set[int]:
    found: set[int] = set()
    for part in word.split(","):
        span, slash, step_word = part.partition("/")
        step = 1
        if slash:
            if not (step_word.isascii() and step_word.isdecimal() and 1 <= int(step_word[:6]) <= high):
                raise _refuse(part, name, f"a step is a number of 1 to {high}")
            step = int(step_word[:6])
        if span == "*":
            # 7 is another word for Sunday, and no day of its own.
            first, last = low, 6 if names and low == 0 else high
        else:
            begin, dash, end = span.partition("-")
            first = _read_value(begin, part, name, low, high, names)
            last = _read_value(end, part, name, low, high, names) if dash else (high if slash else first)
            if last < first:
                raise _refuse(part, name, "a range goes upwards")
        found.update(range(first, last + 1, step))
    return found


def _read_value(word: str, part: str, name: str, low: int, high: int, names: dict[str, int]) -> int:
    value = names.get(word.lower())
    if value is None and word.isascii() and word.isdecimal() and len(word) <= 4:
        value = int(word)
    if value is None or not low <= value <= high:
        more = f", or {min(names, key=names.__getitem__)} to {max(names, key=names.__getitem__)}" if names else ""
        raise _refuse(part, name, f"{low} to {high}{more}; lists, ranges and steps of them")
    return value


def _refuse(part: str, name: str, hint: str) -> InvalidInput:
    return InvalidInput(f"{part[:40]!r} cannot be the {name} of a schedule", field="schedule", hint=hint)
