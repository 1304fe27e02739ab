"""Single steps of a plan, by hand; what holds over all of them is in test_deployment_model.py."""

from __future__ import annotations

from typing import Any

from volant.core.deployment import Budget, Strategy
from volant.reconcile.deployment.plan import Plan, Wish, plan
from volant.reconcile.deployment.replica import Replica

ROLLING = Strategy(max_surge=1, max_unavailable=0)


def replica(index: int, **facts: Any) -> Replica:
    return Replica(**{"index": index, "uid": f"{index:032x}", "available": True, **facts})


def old(index: int, **facts: Any) -> Replica:
    return replica(index, current=False, **facts)


def names(steps: Plan) -> dict[str, list[int]]:
    found = {
        "make": list(steps.make),
        "make_old": list(steps.make_old),
        "remove": [one.index for one in steps.remove],
        "take": [one.index for one in steps.take],
        "restart": [one.index for one in steps.restart],
    }
    return {name: indices for name, indices in found.items() if indices}


def roll(wanted: int, *replicas: Replica, strategy: Strategy = ROLLING, **wish: Any) -> dict[str, list[int]]:
    return names(plan(Wish(wanted=wanted, strategy=strategy, rolling=True, **wish), replicas))


def rest(wanted: int, *replicas: Replica, strategy: Strategy = ROLLING, **wish: Any) -> dict[str, list[int]]:
    return names(plan(Wish(wanted=wanted, strategy=strategy, **wish), replicas))


def test_a_rolling_update_step_by_step() -> None:
    assert roll(2, old(0), old(1)) == {"make": [2]}
    assert roll(2, old(0), old(1), replica(2, available=False)) == {}
    assert roll(2, old(0), old(1), replica(2)) == {"take": [1]}
    assert roll(2, old(0), old(1, going=True), replica(2)) == {}, "its name is not free yet"
    assert roll(2, old(0), replica(2)) == {"make": [1]}
    assert roll(2, old(0), replica(1), replica(2)) == {"take": [0]}
    assert roll(2, replica(1), replica(2)) == {"make": [0]}
    assert roll(2, replica(0), replica(1), replica(2)) == {"take": [2]}


def test_broken_old_ones_go_first_and_at_once() -> None:
    assert roll(3, old(0, available=False), old(1), old(2, available=False)) == {"remove": [2, 0], "make": [3]}


def test_what_somebody_else_stops_counts_as_missing() -> None:
    loose = Strategy(max_surge=0, max_unavailable=1)
    assert roll(3, old(0), old(1), old(2), strategy=loose) == {"take": [2]}
    assert roll(3, old(0), old(1), old(2, available=False, disrupted=True), strategy=loose) == {"remove": [2]}
    assert roll(3, old(0), old(1), replica(2, available=False, disrupted=True), strategy=loose) == {}


def test_recreate_ends_with_the_lowest_names() -> None:
    strategy = Strategy(type="recreate")
    assert roll(1, replica(2, available=False), strategy=strategy) == {"remove": [2]}
    assert roll(2, replica(0), replica(2), replica(1, going=True), strategy=strategy) == {"take": [2]}


def test_recreate_waits_until_the_last_old_one_is_gone() -> None:
    strategy = Strategy(type="recreate")
    assert roll(2, old(0), old(1), strategy=strategy) == {"take": [1, 0]}
    assert roll(2, old(0, going=True), strategy=strategy) == {}
    assert roll(2, strategy=strategy) == {"make": [0, 1]}


def test_blue_green_keeps_the_old_set_until_its_time_is_over() -> None:
    strategy = Strategy(type="blue-green")
    green = [old(0, serving=True), old(1, serving=True)]
    assert roll(2, *green, strategy=strategy) == {"make": [2, 3]}
    assert roll(2, *green, replica(2), replica(3), strategy=strategy) == {}
    assert roll(2, *green, replica(2), replica(3), strategy=strategy, switched=True) == {}
    assert roll(2, *green, replica(2), replica(3), strategy=strategy, switched=True, is_over=True) == {"take": [1, 0]}
    assert roll(2, old(0, serving=True), replica(2), replica(3), strategy=strategy) == {"make_old": [1]}, "what serves is healed"


def test_a_canary_is_so_many_and_the_others_stay() -> None:
    assert roll(3, old(0), old(1), old(2), cap=1) == {"make": [3]}
    assert roll(3, old(0), old(1), old(2), replica(3), cap=1) == {"take": [2]}
    assert roll(3, old(0), old(1), replica(3), cap=1) == {}
    assert roll(3, old(0), replica(3), cap=1) == {"make_old": [1]}


def test_at_rest_the_lowest_come_and_the_highest_go() -> None:
    assert rest(4, replica(1)) == {"make_old": [0, 2, 3]}
    assert rest(1, replica(0), replica(1), replica(2)) == {"take": [2, 1]}
    assert rest(3, replica(0), replica(2), replica(1, going=True, available=False)) == {}, "it comes again under its name"
    assert rest(2, replica(4), replica(5)) == {}, "names stay where they are"


def test_what_is_not_available_keeps_its_name_while_another_stands_in() -> None:
    assert rest(2, replica(0, available=False), replica(1), replica(2)) == {}
    assert rest(2, replica(0), replica(1), replica(2, available=False)) == {"remove": [2]}


def test_a_restart_waits_for_its_turn_or_gets_a_stand_in() -> None:
    due = replica(1, restart_due=True)
    assert rest(2, replica(0), due) == {"make_old": [2]}
    assert rest(2, replica(0), due, replica(2)) == {"restart": [1]}
    loose = Strategy(max_surge=0, max_unavailable=1)
    assert rest(3, *(replica(index, restart_due=True) for index in range(3)), strategy=loose) == {"restart": [0]}
    tight = Budget(max_unavailable=0)
    assert rest(2, replica(0), due, strategy=Strategy(max_surge=1, max_unavailable=1), budget=tight) == {"make_old": [2]}
    assert rest(2, replica(0), replica(1, restart_due=True, available=False)) == {"restart": [1]}
