from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.cron import last_moment, next_moment, parse_schedule, read_timezone
from volant.core.errors import InvalidInput
from volant.core.indexes import format_indexes, read_indexes

ZONES = ("UTC", "Europe/Berlin", "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "Pacific/Chatham", "America/Havana")
MINUTE = timedelta(minutes=1)


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def list_moments(schedule: str, zone: str, after: datetime, count: int) -> list[str]:
    found = []
    for _ in range(count):
        moment = next_moment(parse_schedule(schedule), ZoneInfo(zone), after)
        assert moment is not None
        after = moment
        found.append(moment.astimezone(ZoneInfo(zone)).isoformat(timespec="minutes"))
    return found


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("*/20 * * * *", ["2026-03-01T10:20+00:00", "2026-03-01T10:40+00:00", "2026-03-01T11:00+00:00"]),
        ("@hourly", ["2026-03-01T11:00+00:00", "2026-03-01T12:00+00:00", "2026-03-01T13:00+00:00"]),
        ("5,10-12 9 * * mon-FRI", ["2026-03-02T09:05+00:00", "2026-03-02T09:10+00:00", "2026-03-02T09:11+00:00"]),
        ("0 0 1 * *", ["2026-04-01T00:00+00:00", "2026-05-01T00:00+00:00", "2026-06-01T00:00+00:00"]),
        ("0 0 13 * 5", ["2026-03-06T00:00+00:00", "2026-03-13T00:00+00:00", "2026-03-20T00:00+00:00"]),
        ("0 0 */10 * 7", ["2026-05-31T00:00+00:00", "2026-06-21T00:00+00:00", "2026-10-11T00:00+00:00"]),
        ("0 0 29 feb *", ["2028-02-29T00:00+00:00", "2032-02-29T00:00+00:00", "2036-02-29T00:00+00:00"]),
        ("30/15 6 * * *", ["2026-03-02T06:30+00:00", "2026-03-02T06:45+00:00", "2026-03-03T06:30+00:00"]),
    ],
)
def test_moments(schedule: str, expected: list[str]) -> None:
    assert list_moments(schedule, "UTC", at("2026-03-01T10:00:30+00:00"), 3) == expected


def test_a_time_that_a_gap_swallows_is_right_after_it_and_once() -> None:
    start = at("2026-03-28T12:00:00+00:00")
    found = list_moments("30 2 * * *", "Europe/Berlin", start, 2)
    assert found == ["2026-03-29T03:00+02:00", "2026-03-30T02:30+02:00"]
    # Two times in one gap are one moment.
    assert list_moments("10,50 2 * * *", "Europe/Berlin", start, 2) == ["2026-03-29T03:00+02:00", "2026-03-30T02:10+02:00"]


def test_a_time_that_comes_twice_counts_once() -> None:
    found = list_moments("30 2 * * *", "Europe/Berlin", at("2026-10-24T12:00:00+00:00"), 2)
    assert found == ["2026-10-25T02:30+02:00", "2026-10-26T02:30+01:00"]


def test_what_goes_by_passing_time_has_no_gap_and_no_doubt() -> None:
    assert list_moments("*/30 * * * *", "Europe/Berlin", at("2026-03-29T00:15:00+00:00"), 3) == [
        "2026-03-29T01:30+01:00",
        "2026-03-29T03:00+02:00",
        "2026-03-29T03:30+02:00",
    ]
    assert list_moments("0 * * * *", "Europe/Berlin", at("2026-10-24T23:30:00+00:00"), 3) == [
        "2026-10-25T02:00+02:00",
        "2026-10-25T02:00+01:00",
        "2026-10-25T03:00+01:00",
    ]


@pytest.mark.parametrize(
    "text",
    ["", "* * * *", "* * * * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "5-1 * * * *",
     "*/0 * * * *",
     "a * * * *", "@reboot", "1,, * * * *", "* * * * mon-", "0 0 30 2 *", "0 0 31 4,6 *", "-1 * * * *", "*" * 300, "١ * * * *"],
)  # fmt: skip
def test_what_is_no_schedule(text: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_schedule(text)
    assert caught.value.field == "schedule"


@pytest.mark.parametrize("name", ["", "Mars/Olympus", "../../etc/passwd", "/etc/localtime", "x" * 300, "Europe"])
def test_what_is_no_timezone(name: str) -> None:
    with pytest.raises(InvalidInput):
        read_timezone(name)


def make_field(low: int, high: int) -> st.SearchStrategy[str]:
    number = st.integers(low, high)
    span = st.tuples(number, number).map(lambda pair: f"{min(pair)}-{max(pair)}")
    stepped = st.tuples(st.one_of(st.just("*"), span), st.integers(1, max(2, high // 2))).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.one_of(
        st.just("*"), number.map(str), stepped, st.lists(number, min_size=1, max_size=3).map(lambda n: ",".join(map(str, n)))
    )


SCHEDULES = st.tuples(make_field(0, 59), make_field(0, 23), make_field(1, 28), st.just("*"), make_field(0, 7)).map(" ".join)
STARTS = st.datetimes(datetime(2025, 1, 1), datetime(2027, 12, 1)).map(lambda start: start.replace(tzinfo=UTC))  # noqa: DTZ001


@settings(max_examples=150, deadline=None)
@given(SCHEDULES, st.sampled_from(ZONES), STARTS)
def test_as_by_looking_at_every_minute(text: str, zone_name: str, after: datetime) -> None:
    schedule, zone = parse_schedule(text), ZoneInfo(zone_name)
    found = next_moment(schedule, zone, after)
    assert found is not None and found > after and (found.second, found.microsecond) == (0, 0)

    def matches(moment: datetime) -> bool:
        local = moment.astimezone(zone)
        return schedule.has_day(local) and local.hour in schedule.hours and local.minute in schedule.minutes

    minute = after.replace(second=0, microsecond=0) + MINUTE
    limit = minute + timedelta(days=3)
    while minute < min(found, limit):
        # Only the second of two equal readings may be passed over, and only by what names times of the day.
        assert not matches(minute) or (schedule.is_fixed and minute.astimezone(zone).fold == 1)
        minute += MINUTE
    local = found.astimezone(zone)
    jumped = local.utcoffset() != (found - MINUTE).astimezone(zone).utcoffset()
    assert matches(found) or (schedule.is_fixed and jumped)


@settings(max_examples=100, deadline=None)
@given(SCHEDULES, st.sampled_from(ZONES), STARTS, st.integers(0, 4000))
def test_the_last_moment_is_the_one_that_none_follows(text: str, zone_name: str, after: datetime, minutes: int) -> None:
    schedule, zone, until = parse_schedule(text), ZoneInfo(zone_name), after + minutes * MINUTE
    found = last_moment(schedule, zone, after, until)
    first = next_moment(schedule, zone, after)
    assert first is not None
    if found is None:
        assert first > until
        return
    assert after < first <= found <= until
    following = next_moment(schedule, zone, found)
    assert following is not None and following > until


@given(st.sets(st.integers(0, 10_000), max_size=50))
def test_indexes_come_back(indexes: set[int]) -> None:
    assert read_indexes(format_indexes(indexes)) == indexes


def test_indexes_are_short() -> None:
    assert format_indexes([7, 3, 0, 1, 2, 4]) == "0-4,7"
    assert format_indexes([]) == ""
