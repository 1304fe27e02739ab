from __future__ import annotations

from datetime import UTC, datetime, timedelta

from volant.core.moment import seconds_left

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)


def test_what_is_left_of_a_time() -> None:
    assert seconds_left(NOW - timedelta(seconds=4), 10, NOW) == 6
    assert seconds_left(NOW - timedelta(seconds=14), 10, NOW) == -4
    assert seconds_left(NOW, 10, NOW) == 10


def test_nobody_waits_for_a_moment_that_the_clock_was_put_back_from() -> None:
    assert seconds_left(NOW + timedelta(hours=1), 10, NOW) <= 0
