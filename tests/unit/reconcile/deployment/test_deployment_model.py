"""Random worlds: what a strategy promises holds at every step, and every rollout comes to its end."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.amount import count_amount
from volant.core.deployment import CanaryStep, Strategy
from volant.reconcile.deployment.plan import Plan, Wish, bound
from volant.reconcile.deployment.replica import Replica

from .replica_world import ReplicaWorld, build_deployment

AMOUNTS = st.one_of(st.integers(0, 3), st.sampled_from(["0%", "25%", "50%", "100%"]))

STRATEGIES = st.builds(
    Strategy,
    type=st.sampled_from(["rolling", "recreate", "blue-green", "canary"]),
    max_surge=AMOUNTS,
    max_unavailable=AMOUNTS,
    keep_old_s=st.integers(0, 5),
    steps=st.sampled_from(
        [(), (CanaryStep(replicas=1, pause_s=3),), (CanaryStep(replicas="30%", pause_s=0), CanaryStep(replicas=3, pause_s=2))]
    ),
)
EVENTS = st.sampled_from(["crash", "delete", "scale", "good", "bad", "pause", "drift", "nothing", "nothing", "nothing"])


def check_step(wish: Wish, steps: Plan, before: tuple[Replica, ...]) -> None:
    bounds = bound(wish)
    made = len(steps.make) + len(steps.make_old)
    if made:
        assert len(before) + made <= bounds.most
    indices = [*steps.make, *steps.make_old]
    assert len(set(indices)) == len(indices)
    if wish.strategy.type in ("rolling", "canary") and indices:
        assert max(indices) < bounds.most, "a name beyond the wanted number and the surge"
    available = sum(one.counts for one in before)
    ours = [one for one in (*steps.take, *steps.restart) if one.counts]
    goes_freely = wish.rolling and wish.strategy.type == "recreate"
    if ours and not goes_freely:
        assert available - len(ours) >= bounds.least
    assert not any(one.counts for one in steps.remove)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, 2**32), st.integers(0, 6), STRATEGIES, st.integers(0, 2), st.lists(EVENTS, max_size=40))
def test_every_step_keeps_its_promise_and_all_comes_to_an_end(
    seed: int, replicas: int, strategy: Strategy, min_ready_s: int, events: list[str]
) -> None:
    world = ReplicaWorld(
        build_deployment(
            replicas=replicas, strategy=strategy, min_ready_s=min_ready_s, progress_deadline_s=40, replace_after_s=2
        ),
        seed,
    )
    for event in events:
        live = [index for index, one in world.replicas.items() if not one.going]
        if event == "crash" and live:
            world.crash(world.random.choice(live))
        elif event == "delete" and live:
            world.delete(world.random.choice(live))
        elif event == "drift" and live:
            index = world.random.choice(live)
            world._put(world.replicas[index], restart_due=True)
        elif event == "scale":
            world.change(replicas=world.random.randint(0, 6))
        elif event in ("good", "bad"):
            world.roll_out(bad=event == "bad")
        elif event == "pause":
            world.change(paused=not world.deployment.spec.paused)
        for _ in range(world.random.randint(1, 4)):
            check_step(*world.step())
            world.pass_time()
    world.change(paused=False)
    world.roll_out()
    for _ in range(600):
        check_step(*world.step())
        world.pass_time()
        if world.is_at_rest:
            break
    wanted = world.deployment.spec.replicas
    status = world.deployment.status
    assert status.rollout.phase == "Complete", (status, world.replicas)
    assert [one.index for one in world.observe() if one.counts and one.current] == sorted(world.replicas)
    assert len(world.replicas) == wanted
    if strategy.type != "blue-green":
        assert sorted(world.replicas) == list(range(wanted))
    assert not status.replaced or all(int(index) < 2 * wanted + 1 for index in status.replaced)


@settings(max_examples=150, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), STRATEGIES)
def test_a_revision_that_never_becomes_ready_goes_back_to_the_one_before(seed: int, replicas: int, strategy: Strategy) -> None:
    deployment = build_deployment(replicas=replicas, strategy=strategy, progress_deadline_s=20, replace_after_s=2)
    world = ReplicaWorld(deployment, seed)
    world.settle(60)
    assert world.deployment.status.rollout.phase == "Complete"
    world.roll_out(bad=True)
    least = replicas if strategy.type in ("canary", "rolling", "blue-green") else 0
    missing = count_amount(strategy.max_unavailable, replicas, up=False)
    surge = count_amount(strategy.max_surge, replicas, up=True)
    if strategy.type in ("canary", "rolling"):
        least -= min(replicas, max(missing, 0 if surge else 1))
    for _ in range(200):
        wish, steps, before = world.step()
        check_step(wish, steps, before)
        assert sum(one.counts for one in before) >= least
        world.pass_time()
    status = world.deployment.status
    assert status.rollout.phase == "RolledBack", status
    assert "RolledBack" in world.reasons
    assert all(one.counts and one.current for one in world.observe())
    assert len(world.replicas) == replicas


def test_replicas_that_fail_again_and_again_are_replaced_ever_later() -> None:
    world = ReplicaWorld(build_deployment(replicas=1, replace_after_s=5, progress_deadline_s=60), 1)
    world.bad.add(1)
    moments: list[int] = []
    made = 0
    for _ in range(500):
        world.step()
        if world.made > made:
            made = world.made
            moments.append(world.tick)
        world.pass_time()
    gaps = [after - before for before, after in itertools.pairwise(moments)]
    assert len(gaps) >= 4
    assert all(after > before for before, after in itertools.pairwise(gaps)), gaps
    assert "CrashLoop" in world.reasons
    assert world.deployment.status.phase == "Failed"
    world.roll_out()
    world.settle(60)
    assert world.deployment.status.rollout.phase == "Complete", "a loop does not keep a good revision away"
    assert world.deployment.status.replaced == {}
