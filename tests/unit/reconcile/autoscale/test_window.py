"""The stabilisation windows."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from volant.reconcile.autoscale.window import Window


def settle(window: Window, now_s: float, wish: int, current: int, up: float = 0, down: float = 300) -> int:
    return window.settle(now_s, wish, current, up_after_s=up, down_after_s=down, gap_s=105)


def test_more_is_made_at_once_and_less_after_a_whole_window() -> None:
    window = Window()
    assert settle(window, 0, 4, 2) == 4
    current, fell_at = 4, None
    for now_s in range(15, 400, 15):
        current = settle(window, now_s, 1, current)
        if current == 1:
            fell_at = now_s
            break
    assert fell_at == 300, "the wish of the beginning was for four"


def test_after_a_restart_nothing_is_taken_away_before_a_whole_window() -> None:
    window = Window()
    for now_s in range(1000, 1300, 15):
        assert settle(window, now_s, 1, 5) == 5
    assert settle(window, 1300, 1, 5) == 1


def test_it_falls_to_the_highest_wish_of_the_window() -> None:
    window = Window()
    for now_s in range(0, 300, 15):
        settle(window, now_s, 3 if now_s == 150 else 1, 5)
    assert settle(window, 300, 1, 5) == 3
    for now_s in range(315, 450, 15):
        settle(window, now_s, 1, 3)
    assert settle(window, 450, 1, 3) == 1


def test_a_moment_makes_no_more_when_that_has_to_last() -> None:
    window = Window()
    assert settle(window, 0, 1, 1, up=60) == 1
    assert settle(window, 15, 9, 1, up=60) == 1
    assert settle(window, 30, 1, 1, up=60) == 1
    for now_s in range(45, 90, 15):
        assert settle(window, now_s, 9, 1, up=60) == 1
    assert settle(window, 90, 6, 1, up=60) == 6, "the lowest wish of the last minute"


def test_after_a_long_time_without_a_look_it_begins_anew() -> None:
    window = Window()
    for now_s in range(0, 301, 15):
        settle(window, now_s, 1, 5)
    assert settle(window, 1000, 1, 5) == 5


@given(st.integers(0, 2**32), st.integers(0, 120), st.integers(0, 300))
def test_it_is_what_the_plain_rule_says_and_holds_little(seed: int, up: int, down: int) -> None:
    source = random.Random(seed)
    window, current, now_s = Window(), source.randint(1, 6), 0.0
    wishes: list[tuple[float, int]] = [(0.0, current)]
    for _ in range(80):
        wish = source.randint(1, 6)
        wishes.append((now_s, wish))
        lowest = min(w for at, w in wishes if at > now_s - up or (at, w) == wishes[-1])
        highest = max(w for at, w in wishes if at > now_s - down or (at, w) == wishes[-1])
        expected = min(max(current, lowest), highest)
        current = settle(window, now_s, wish, current, up=up, down=down)
        assert current == expected
        assert len(window._lowest) <= 6 and len(window._highest) <= 6
        now_s += source.choice((1, 5, 15, 30))
