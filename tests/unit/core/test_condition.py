from __future__ import annotations

from volant.core.condition import Condition, find_condition, is_true, set_condition

UP = Condition(type="Ready", status="True", reason="Ready")


def test_the_time_moves_only_with_the_status() -> None:
    first = set_condition((), UP, "t1")
    again = set_condition(first, Condition(type="Ready", status="True", reason="StillReady"), "t2")
    down = set_condition(again, Condition(type="Ready", status="False"), "t3")
    assert [c[0].last_transition_at for c in (first, again, down)] == ["t1", "t1", "t3"]
    assert find_condition(again, "Ready") is not None and not is_true(down, "Ready")


def test_an_unchanged_set_is_the_same_object() -> None:
    first = set_condition((), UP, "t1")
    assert set_condition(first, UP, "t2") is first


def test_others_stay_in_their_order() -> None:
    conditions = set_condition(set_condition((), Condition(type="A", status="True"), "t"), UP, "t")
    changed = set_condition(conditions, Condition(type="A", status="False"), "u")
    assert [c.type for c in changed] == ["A", "Ready"]
    assert find_condition(changed, "B") is None
