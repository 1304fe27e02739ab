"""A world of replicas without VMs: they start, become available, crash and go when they are told, and time is a number."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta

import msgspec

from volant.core.clock import format_time
from volant.core.deployment import Deployment, DeploymentSpec, DeploymentStatus
from volant.core.ids import Uid
from volant.core.resource import Meta
from volant.core.vm import VMSpec
from volant.reconcile.deployment.healing import heal
from volant.reconcile.deployment.plan import Plan, Wish, bound, plan
from volant.reconcile.deployment.replica import Fault, Replica
from volant.reconcile.deployment.rollout import FINISHED, advance, canary_cap, is_kept_long_enough, stand
from volant.reconcile.deployment.status import project_status

BEGIN = datetime(2026, 1, 1, tzinfo=UTC)


def build_deployment(**spec: object) -> Deployment:
    full = DeploymentSpec(vm=VMSpec(plugin="nginx"), target=1, **spec)  # type: ignore[arg-type]  # a test's own words
    return Deployment(meta=Meta(name="web", uid=Uid("d" * 32)), spec=full, status=DeploymentStatus())


class ReplicaWorld:
    """``contents`` says what each revision is: two with one content are current alike; those in ``bad`` never become ready."""

    def __init__(self, deployment: Deployment, seed: int = 0) -> None:
        self.deployment = deployment
        self.random = random.Random(seed)  # decides a test
        self.replicas: dict[int, Replica] = {}
        self.since: dict[str, int] = {}
        self.unwell: dict[str, int] = {}
        self.due: dict[str, int] = {}
        self.contents: dict[int, int] = {1: 1}
        self.bad: set[int] = set()
        self.tick = 0
        self.marked_at = 0
        self.mark = ""
        self.made = 0
        self.reasons: list[str] = []

    @property
    def now(self) -> datetime:
        return BEGIN + timedelta(seconds=self.tick)

    def unwell_s(self, deployment: Deployment, replica: Replica) -> float:
        return self.tick - self.unwell.get(replica.uid, self.tick)

    @property
    def is_at_rest(self) -> bool:
        """All that is wanted is there, and nothing is on its way."""
        status = self.deployment.status
        there = [one for one in self.observe() if one.counts and one.current]
        return (
            status.rollout.phase in FINISHED
            and status.rollout.revision == self.deployment.spec.target
            and len(there) == len(self.replicas) == self.deployment.spec.replicas
        )

    # What happens

    def change(self, **spec: object) -> None:
        changed = msgspec.structs.replace(self.deployment.spec, **spec)
        meta = msgspec.structs.replace(self.deployment.meta, generation=self.deployment.meta.generation + 1)
        self.deployment = msgspec.structs.replace(self.deployment, meta=meta, spec=changed)

    def roll_out(self, *, bad: bool = False) -> int:
        number = max(self.contents) + 1
        self.contents[number] = number
        if bad:
            self.bad.add(number)
        self.change(target=number)
        return number

    def crash(self, index: int) -> None:
        replica = self.replicas[index]
        self._put(replica, ready_since=None, ready=False, crashed=True)
        self.due[replica.uid] = self.tick + self.random.randint(1, 5)

    def delete(self, index: int) -> None:
        replica = self.replicas[index]
        if not replica.going:
            self._put(replica, going=True, ready_since=None, ready=False)
            self.due[replica.uid] = self.tick + self.random.randint(1, 4)

    def _put(self, replica: Replica, **changes: object) -> None:
        self.replicas[replica.index] = msgspec.structs.replace(replica, **changes)

    def pass_time(self) -> None:
        self.tick += 1
        for replica in list(self.replicas.values()):
            if self.due.get(replica.uid, 0) > self.tick:
                continue
            if replica.going:
                del self.replicas[replica.index]
            elif self.contents[replica.revision] in self.bad:
                self._put(replica, fault=Fault("CrashLoop", "it ends"), crashed=True)
                self.unwell.setdefault(replica.uid, self.tick)
            elif replica.ready_since is None:
                self._put(replica, ready_since=self.now, ready=True, was_ready=True, restart_due=False, power="running")

    # What the controller sees and does

    def observe(self) -> tuple[Replica, ...]:
        deployment = self.deployment
        target = self.contents[deployment.spec.target]
        serving = self.contents.get(deployment.status.serving)
        seen = []
        for replica in sorted(self.replicas.values(), key=lambda one: one.index):
            content = self.contents[replica.revision]
            since = replica.ready_since
            ready_for = timedelta(seconds=deployment.spec.min_ready_s)
            is_available = since is not None and not replica.going and since + ready_for <= self.now
            seen.append(
                msgspec.structs.replace(
                    replica,
                    current=content == target,
                    serving=serving is not None and content == serving,
                    available=is_available,
                    disrupted=not is_available and replica.uid in deployment.status.disrupted,
                )
            )
        return tuple(seen)

    def step(self) -> tuple[Wish, Plan, tuple[Replica, ...]]:
        """One pass: what was aimed at, what was done, and the replicas that it was decided on."""
        deployment, replicas = self.deployment, self.observe()
        wanted = deployment.spec.replicas
        status = deployment.status
        mark = f"{status.rollout.revision} {status.rollout.progressed_at} {status.phase == 'Paused'}"
        if mark != self.mark:
            self.mark, self.marked_at = mark, self.tick
        before, target = self.contents.get(status.rollout.before), self.contents[deployment.spec.target]
        standing = msgspec.structs.replace(stand(replicas, wanted), serves_target=self.contents.get(status.serving) == target)
        can_go_back = before not in (None, target) and status.rollout.phase != "RollingBack"
        stalled_s = float(self.tick - self.marked_at)
        cursor = advance(deployment, standing, self.now, stalled_s=stalled_s, can_go_back=can_go_back)
        self.reasons += [note.reason for note in cursor.notes]
        rollout = cursor.rollout
        if cursor.roll_back:
            number = max(self.contents) + 1
            self.contents[number] = self.contents[rollout.before]
            self.reasons.append("RolledBack")
            at = format_time(self.now)
            rollout = msgspec.structs.replace(
                rollout, phase="RollingBack", revision=number, step=0, step_at=None, switched_at=None, reached=0, progressed_at=at
            )
            status = msgspec.structs.replace(status, rollout=rollout, serving=cursor.serving, replaced={})
            self.deployment = msgspec.structs.replace(deployment, status=status)
            self.change(target=number)
            return Wish(wanted=wanted), Plan(), replicas
        serving = self.contents.get(cursor.serving)
        replicas = tuple(
            msgspec.structs.replace(one, serving=serving is not None and self.contents[one.revision] == serving)
            for one in replicas
        )
        healing = heal(deployment, replicas, self, self.now)
        self.reasons += [note.reason for note in healing.notes]
        rolling = not deployment.spec.paused and (
            rollout.phase not in FINISHED or any(not one.current and not one.going for one in healing.replicas)
        )
        wish = Wish(
            wanted=wanted,
            strategy=deployment.spec.strategy,
            budget=deployment.spec.budget,
            rolling=rolling,
            cap=canary_cap(deployment, rollout, wanted),
            switched=rollout.switched_at is not None and rollout.phase not in FINISHED,
            is_over=is_kept_long_enough(deployment, rollout, self.now),
        )
        steps = plan(wish, healing.replicas)
        status = project_status(
            deployment,
            replicas,
            rollout,
            serving=cursor.serving,
            wanted=wanted,
            least=bound(wish).least,
            sleeping=False,
            trouble="",
            now=format_time(self.now),
        )
        is_new = deployment.status.rollout.revision != deployment.spec.target
        status = msgspec.structs.replace(status, replaced=healing.count_replaced(status.replaced, wanted, anew=is_new))
        self.deployment = msgspec.structs.replace(deployment, status=status)
        for replica in (*healing.replace, *steps.remove, *steps.take):
            self.delete(replica.index)
        for replica in steps.restart:
            self._put(self.replicas[replica.index], ready_since=None, ready=False, was_ready=False)
            self.due[replica.uid] = self.tick + 3
        finished = rollout.phase in FINISHED
        left = rollout.before or deployment.spec.target
        if cursor.serving:
            left = cursor.serving
        for index in steps.make:
            self._make(index, deployment.spec.target)
        for index in steps.make_old:
            self._make(index, deployment.spec.target if finished else left)
        return wish, steps, replicas

    def _make(self, index: int, revision: int) -> None:
        assert index not in self.replicas, "a name was given twice"
        self.made += 1
        uid = f"{self.made:032x}"
        self.replicas[index] = Replica(name=f"web-{index}", index=index, uid=uid, revision=revision)
        self.due[uid] = self.tick + self.random.randint(1, 5)

    def settle(self, ticks: int = 400) -> None:
        """Let time pass until nothing changes any more."""
        for _ in range(ticks):
            self.step()
            self.pass_time()
