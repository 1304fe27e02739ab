"""The formula, by tables and by what must hold whatever is measured."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.reconcile.autoscale.recommend import STEP_UP_MIN, TOLERANCE, Measured, clamp, recommend, recommend_by


def measured(*values: float, missing: int = 0, target: float = 50.0) -> Measured:
    return Measured(target=target, values=values, missing=missing)


@pytest.mark.parametrize(
    ("metric", "current", "wanted"),
    [
        (measured(50.0, 50.0), 2, 2),
        (measured(100.0, 100.0), 2, 4),
        (measured(54.0, 54.0), 2, 2),  # within the tolerance
        (measured(46.0, 46.0, 46.0), 3, 3),
        (measured(56.0, 56.0), 2, 3),  # beyond it
        (measured(10.0, 10.0, 10.0, 10.0), 4, 1),
        (measured(0.0, 0.0, 0.0), 3, 0),
        (measured(100.0), 4, 4),  # three are not ready: what comes to the one is as much as four shall have together at most
        (measured(300.0), 4, 6),
        (measured(10.0, 10.0, missing=2), 4, 3),  # who is not known counts as busy as it should be
        (measured(100.0, 100.0, missing=2), 4, 4),  # or as idle, when there is much to do
        (measured(200.0, 200.0, missing=2), 4, 8),
        (measured(), 3, None),
        (measured(missing=3), 3, None),
        (Measured(target=10.0, total=45.0), 2, 5),
        (Measured(target=10.0, total=21.0), 2, 2),
        (Measured(target=10.0, total=0.0), 2, 0),
        (measured(0.3, 0.3, 0.3, target=0.1), 3, 9),  # and not ten, for the sake of a last digit
    ],
)
def test_what_one_metric_asks_for(metric: Measured, current: int, wanted: int | None) -> None:
    assert recommend_by(metric, current) == wanted


def test_the_metric_that_asks_for_most_decides() -> None:
    metrics = [measured(50.0, 50.0), measured(100.0, 100.0), measured(75.0, 75.0)]
    assert recommend(metrics, 2, least=1, most=10) == (4, 1)


def test_of_two_that_ask_alike_the_first_is_named() -> None:
    assert recommend([measured(100.0, 100.0)] * 2, 2, least=1, most=10) == (4, 0)


def test_while_one_is_not_known_nothing_is_taken_away() -> None:
    metrics = [measured(10.0, 10.0, 10.0, 10.0), measured(missing=4)]
    assert recommend(metrics, 4, least=1, most=10) == (4, None)
    assert recommend([measured(100.0, 100.0), measured(missing=2)], 2, least=1, most=10) == (4, 0), "but more are made"


def test_where_none_is_known_nothing_changes() -> None:
    assert recommend([measured(missing=3)], 3, least=1, most=10) == (3, None)
    assert recommend([], 3, least=1, most=10) == (3, None)


@pytest.mark.parametrize(("current", "wanted"), [(1, 5), (3, 7), (5, 10), (40, 80)])
def test_in_one_look_it_is_at_most_doubled_or_raised_by_four(current: int, wanted: int) -> None:
    assert recommend([measured(*[5000.0] * current)], current, least=1, most=1000) == (wanted, 0)


_values = st.lists(st.floats(min_value=0, max_value=1e12), max_size=12).map(tuple)
_metrics = st.builds(
    Measured,
    target=st.floats(min_value=1e-6, max_value=1e6),
    values=_values,
    missing=st.integers(min_value=0, max_value=5),
    total=st.none() | st.floats(min_value=0, max_value=1e12),
)


@given(st.lists(_metrics, max_size=4), st.integers(1, 100), st.integers(1, 50), st.integers(50, 100))
def test_it_stays_within_its_bounds_and_its_step(metrics: list[Measured], current: int, least: int, most: int) -> None:
    replicas, _ = recommend(metrics, current, least=least, most=most)
    assert least <= replicas <= most
    assert replicas <= max(least, 2 * current, current + STEP_UP_MIN)


@given(
    _values,
    st.integers(0, 3),
    st.integers(1, 40),
    st.floats(min_value=0.01, max_value=1e3),
    st.floats(min_value=0, max_value=1e6),
)
def test_more_work_never_asks_for_fewer(
    values: tuple[float, ...], missing: int, current: int, target: float, more: float
) -> None:
    before = recommend_by(Measured(target=target, values=values, missing=missing), current)
    after = recommend_by(Measured(target=target, values=tuple(v + more for v in values), missing=missing), current)
    assert (before is None) == (after is None)
    assert before is None or (after is not None and after >= before)


@given(
    st.floats(min_value=0, max_value=1e6),
    st.floats(min_value=0.1, max_value=1e4),
    st.integers(1, 100),
    st.integers(100, 200),
    st.booleans(),
)
def test_under_a_constant_load_it_comes_to_rest(load: float, target: float, current: int, most: int, as_one: bool) -> None:
    """The load is spread evenly over however many there are."""
    seen = [current]
    for _ in range(30):
        metric = (
            Measured(target=target, total=load)
            if as_one
            else Measured(target=target, values=tuple(load / current for _ in range(current)))
        )
        current, _ = recommend([metric], current, least=1, most=most)
        seen.append(current)
    assert seen[-1] == seen[-2], "it rests"
    rising = [b - a for a, b in itertools.pairwise(seen)]
    assert all(step >= 0 for step in rising) or all(step <= 0 for step in rising), "and never turned round"
    needed = clamp(math.ceil(round(load / target, 9)), 1, most)
    within = load / current / target <= 1 + TOLERANCE + 1e-6
    assert current == most or within
    assert current <= max(needed, math.ceil(load / target / (1 - TOLERANCE)) + 1)
