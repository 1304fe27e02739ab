from __future__ import annotations

from volant.core.ids import Uid
from volant.core.simulated_clock import SimulatedClock
from volant.reconcile.start_gate import LIMIT_S, LOOKS_A_SECOND, WAIT_S, StartGate


def uids(count: int) -> list[Uid]:
    return [Uid(str(number) * 32) for number in range(count)]


def test_so_many_start_and_the_others_follow_in_order() -> None:
    turns: list[Uid] = []
    gate = StartGate(SimulatedClock(), 2, turns.append)
    a, b, c, d = uids(4)
    assert [gate.enter(uid) for uid in (a, b, c, d)] == [True, True, False, False]
    assert gate.enter(a), "who is inside is inside"
    gate.leave(b)
    assert turns == [c]
    assert not gate.enter(d), "it is another's turn"
    assert gate.enter(c)
    gate.leave(a)
    assert turns == [c, d]
    assert gate.enter(d)


def test_one_that_gives_up_waiting_holds_nobody() -> None:
    turns: list[Uid] = []
    gate = StartGate(SimulatedClock(), 1, turns.append)
    a, b, c = uids(3)
    assert gate.enter(a)
    assert not gate.enter(b) and not gate.enter(c)
    gate.leave(b)
    assert turns == []
    gate.leave(a)
    assert turns == [c]
    gate.leave(a)
    assert turns == [c], "leaving twice is as once"


async def test_one_that_never_becomes_ready_is_not_waited_for_for_ever() -> None:
    clock = SimulatedClock()
    gate = StartGate(clock, 1, lambda uid: None)
    a, b = uids(2)
    assert gate.enter(a) and not gate.enter(b)
    await clock.advance(LIMIT_S + 1)
    assert gate.enter(b)


def test_all_places_that_come_free_at_once_are_taken() -> None:
    turns: list[Uid] = []
    gate = StartGate(SimulatedClock(), 2, turns.append)
    a, b, c, d = uids(4)
    assert [gate.enter(uid) for uid in (a, b, c, d)] == [True, True, False, False]
    gate.leave(a)
    gate.leave(b)
    assert set(turns) == {c}, "d is not the first in line"
    assert gate.enter(c)
    assert turns[-1] == d, "there is room for it as well, and nobody else leaves"
    assert gate.enter(d)


async def test_whoever_looks_finds_that_another_s_place_came_free() -> None:
    clock, turns = SimulatedClock(), list[Uid]()
    gate = StartGate(clock, 1, turns.append)
    a, b, c = uids(3)
    assert gate.enter(a) and not gate.enter(b) and not gate.enter(c)
    await clock.advance(LIMIT_S + 1)
    assert not gate.enter(c), "it is another's turn"
    assert turns == [b]


def test_however_many_wait_few_look_in_a_second() -> None:
    gate = StartGate(SimulatedClock(), 1, lambda uid: None)
    for number in range(100):
        gate.enter(Uid(f"{number:032}"))
    assert gate.retry_s == WAIT_S
    for number in range(100, 10_000):
        gate.enter(Uid(f"{number:032}"))
    assert 9_998 / gate.retry_s <= LOOKS_A_SECOND
