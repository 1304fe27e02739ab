"""The deployment controller: looks at the replicas, moves the cursor of a rollout, writes down what is, and takes the steps
that may be taken now."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import structlog

from volant.core.clock import Clock, format_time
from volant.core.condition import Condition, set_condition
from volant.core.deployment import REPLICA_FAILURE, Deployment, DeploymentRevision, replica_name, wanted_replicas
from volant.core.errors import AlreadyExists, NotFound, StaleRevision, Unavailable, VolantError
from volant.core.ids import Uid
from volant.reconcile.deployment.deletion import Deleter
from volant.reconcile.deployment.healing import AT_A_TIME, Healing, heal
from volant.reconcile.deployment.history import find_superfluous, go_back, remove_revisions
from volant.reconcile.deployment.observe import Observed, Observer
from volant.reconcile.deployment.plan import Plan, Wish, bound, plan
from volant.reconcile.deployment.replica import Replica
from volant.reconcile.deployment.retry import Retries
from volant.reconcile.deployment.rollout import FINISHED, Cursor, advance, canary_cap, is_kept_long_enough, stand
from volant.reconcile.deployment.status import project_status
from volant.reconcile.deployment.steps import Made, Steps
from volant.reconcile.outcome import After, Again, Done, Outcome
from volant.reconcile.owner import VMMaker
from volant.reconcile.recorder import Note, event_operation
from volant.store.cache import Cache
from volant.store.contract import Key, Operation, Store
from volant.store.plugins import find_plugin
from volant.store.records import create_of, find_resource, update_of

log = structlog.get_logger()

SEEN_LIMIT_S = 10.0
CHANGED_AGAIN_S = 0.05
SOON_S = 0.02
MAX_NOTES = 20
"""Of one pass, so that they fit into its transaction."""

A_LOOK_S = 0.0001
A_CHANGE_S = 0.002
GATHER_MAX_S = 1.0
"""So long changes of replicas are gathered for each that there is, and for each that is on its way and will change again, so
that many at once are one look; never longer than that."""


class DeploymentController:
    """Implements engine.Controller for deployments."""

    kind = Deployment.kind

    def __init__(self, store: Store, cache: Cache, clock: Clock, vms: VMMaker) -> None:
        self._store = store
        self._cache = cache
        self._clock = clock
        self._steps = Steps(store, cache, clock, vms)
        self._observer = Observer(cache, clock)
        self._retries = Retries(clock)
        self._deleter = Deleter(store, cache, clock, self._steps)
        self._owed: dict[Uid, int] = {}

    def gather_s(self, uid: Uid) -> float:
        """How long to wait for more after a replica of the deployment changed."""
        return choose_gather_s(self._observer.size(uid), self._observer.count_unsettled(uid))

    async def reconcile(self, key: Key) -> Outcome:
        deployment = await find_resource(self._store, Deployment, key.project, key.name)
        if deployment is None:
            return Done()
        await self._catch_up(deployment)
        observed = self._observer.observe(deployment)
        if deployment.deleting:
            outcome, revision = await self._deleter.step(deployment, observed)
            self._owe(deployment, revision)
            if isinstance(outcome, Done):
                self._forget(deployment.uid)
            return outcome
        if deployment.spec.target not in observed.revisions:
            raise Unavailable(f"revision {deployment.spec.target} of {deployment.name} is not there")
        self._retries.begin(deployment.uid, deployment.meta.generation)
        try:
            return await self._step(deployment, observed)
        except StaleRevision:
            # What it was decided on has changed, and the cache will soon say how.
            return After(CHANGED_AGAIN_S)

    async def report_failure(self, key: Key, error: VolantError, failures: int) -> None:
        deployment = await find_resource(self._store, Deployment, key.project, key.name)
        if deployment is None:
            return
        message = str(error) + (f" ({error.hint})" if error.hint else "")
        now = self._steps.now
        failure = Condition(type=REPLICA_FAILURE, status="True", reason="StepFailed", message=message)
        conditions = set_condition(deployment.status.conditions, failure, now)
        status = msgspec.structs.replace(deployment.status, message=message, conditions=conditions)
        if status != deployment.status:
            await self._save(msgspec.structs.replace(deployment, status=status), [Note("Warning", "StepFailed", message)])

    # One pass

    async def _step(self, deployment: Deployment, observed: Observed) -> Outcome:
        now = self._clock.now()
        wanted, is_asleep = await self._find_wanted(deployment, observed)
        cursor = self._advance(deployment, observed, wanted, is_asleep)
        if cursor.roll_back:
            return await self._roll_back(deployment, observed, cursor)
        rollout = cursor.rollout
        if cursor.serving != deployment.status.serving:
            observed = observed.with_serving(cursor.serving)
        healing = heal(deployment, observed.replicas, self._observer, now, sleeping=is_asleep)
        wish = Wish(
            wanted=wanted,
            strategy=deployment.spec.strategy,
            budget=deployment.spec.budget,
            rolling=self._is_rolling(deployment, cursor, healing.replicas),
            cap=canary_cap(deployment, rollout, wanted),
            switched=rollout.switched_at is not None and rollout.phase not in FINISHED,
            is_over=is_kept_long_enough(deployment, rollout, now),
            sleeping=is_asleep,
        )
        steps = plan(wish, healing.replicas)
        retry_s, jobs = self._choose_jobs(deployment, observed, cursor, steps)
        status = project_status(
            deployment,
            observed.replicas,
            rollout,
            serving=cursor.serving,
            wanted=wanted,
            least=bound(wish).least,
            sleeping=is_asleep,
            trouble=self._retries.trouble(deployment.uid),
            now=format_time(now),
        )
        is_new = deployment.status.rollout.revision != deployment.spec.target
        status = msgspec.structs.replace(status, replaced=healing.count_replaced(status.replaced, wanted, anew=is_new))
        notes = [*cursor.notes, *healing.notes, *_note_scale(deployment, wanted, is_asleep)]
        notes += _note_gone(deployment, rollout.phase, wanted, jobs)
        deployment = await self._write(deployment, status, healing, steps, observed, notes)
        acted = await self._act(deployment, healing, steps, jobs, observed)
        if acted or cursor.next_s == 0.0 or healing.replace or steps.restart:
            return Again()
        superfluous = find_superfluous(deployment, observed)
        if superfluous:
            self._owe(deployment, await remove_revisions(self._store, superfluous))
            return Again()
        moments = [one for one in (cursor.next_s, observed.next_s, healing.next_s, retry_s) if one is not None]
        return After(max(CHANGED_AGAIN_S, min(moments))) if moments else Done()

    async def _find_wanted(self, deployment: Deployment, observed: Observed) -> tuple[int, bool]:
        """How many there are to be, and whether it sleeps: then one that can be suspended stays."""
        wanted = wanted_replicas(deployment)
        autoscale = deployment.spec.autoscale
        if wanted or autoscale is None or autoscale.min:
            return wanted, False
        reference = observed.revisions[deployment.spec.target].spec.vm.plugin
        plugin = await find_plugin(self._store, deployment.meta.project, reference)
        can_sleep = plugin is not None and plugin.manifest.agent != "none"
        return (1 if can_sleep else 0), True

    def _advance(self, deployment: Deployment, observed: Observed, wanted: int, is_asleep: bool) -> Cursor:
        revisions, status = observed.revisions, deployment.status
        standing = stand(observed.replicas, wanted)
        if is_asleep:
            # Nothing of it has to be available, and the one that stays keeps its name.
            standing = msgspec.structs.replace(standing, wanted=0, beyond=0)
        target = revisions[deployment.spec.target]
        serving = revisions.get(status.serving)
        before = revisions.get(status.rollout.before)
        standing = msgspec.structs.replace(standing, serves_target=serving is not None and serving.spec.hash == target.spec.hash)
        can_go_back = before is not None and before.spec.hash != target.spec.hash and status.rollout.phase != "RollingBack"
        stalled_s = self._observer.stalled_s(deployment)
        return advance(deployment, standing, self._clock.now(), stalled_s=stalled_s, can_go_back=can_go_back)

    def _is_rolling(self, deployment: Deployment, cursor: Cursor, replicas: Sequence[Replica]) -> bool:
        if deployment.spec.paused:
            return False
        return cursor.rollout.phase not in FINISHED or any(not one.current and not one.going for one in replicas)

    def _choose_jobs(
        self, deployment: Deployment, observed: Observed, cursor: Cursor, steps: Plan
    ) -> tuple[float | None, list[tuple[int, DeploymentRevision]]]:
        """What to make now, with the revision each is made of, and when what waits may be tried again."""
        target = observed.revisions[deployment.spec.target]
        asked = [(index, target) for index in steps.make]
        asked += [(index, self._left_revision(deployment, observed, cursor, index)) for index in steps.make_old]
        self._retries.drop(deployment.uid, {index for index, _ in asked})
        left = {index: self._retries.left_s(deployment.uid, index) for index, _ in asked}
        waits = [seconds for seconds in left.values() if seconds > 0]
        return min(waits, default=None), [(index, revision) for index, revision in asked if left[index] <= 0]

    def _left_revision(self, deployment: Deployment, observed: Observed, cursor: Cursor, index: int) -> DeploymentRevision:
        """Of what a replica is made while it may not be made of the target: of what was there."""
        revisions, rollout = observed.revisions, cursor.rollout
        target = revisions[deployment.spec.target]
        if rollout.phase in FINISHED:
            return target
        if cursor.serving in revisions:
            return revisions[cursor.serving]
        if deployment.spec.paused:
            last = self._observer.last_revision(deployment, index)
            if last in revisions:
                return revisions[last]
        return revisions.get(rollout.before, target)

    async def _write(
        self,
        deployment: Deployment,
        status: object,
        healing: Healing,
        steps: Plan,
        observed: Observed,
        notes: list[Note],
    ) -> Deployment:
        """Write the status, with the replicas that are replaced or restarted: whoever reads one reads the other."""
        assert isinstance(status, type(deployment.status))
        now = self._steps.now
        operations: list[Operation] = []
        disrupted = dict(status.disrupted)
        for replica in healing.replace:
            operations.append(update_of(self._steps.mark_deleting(self._steps.read(deployment, replica))))
        counted = [one for one in observed.replicas if one.counts]
        for replica in steps.restart[:AT_A_TIME]:
            vm = self._steps.read(deployment, replica)
            spec = msgspec.structs.replace(vm.spec, restart_token=vm.spec.restart_token + 1)
            meta = msgspec.structs.replace(vm.meta, generation=vm.meta.generation + 1)
            operations.append(update_of(msgspec.structs.replace(vm, meta=meta, spec=spec)))
            notes.append(Note("Normal", "Restarted", f"{replica.name} is restarted, to have what its revision says"))
            if replica.counts:
                disrupted[replica.uid] = now
        if steps.restart:
            operations += self._steps.guard(deployment, counted, but=steps.restart[:AT_A_TIME])
        status = msgspec.structs.replace(status, disrupted=disrupted)
        if status == deployment.status and not operations and not notes:
            return deployment
        return await self._save(msgspec.structs.replace(deployment, status=status), notes, operations)

    async def _save(self, deployment: Deployment, notes: Sequence[Note], operations: Sequence[Operation] = ()) -> Deployment:
        """Raises StaleRevision when somebody else wrote first."""
        now = self._steps.now
        writes: list[Operation] = [update_of(deployment), *operations]
        events = [event_operation(self._cache, deployment, note, now) for note in [*dict.fromkeys(notes)][:MAX_NOTES]]
        try:
            revision = await self._store.transact([*writes, *events])
        except (AlreadyExists, NotFound):
            # The cache had not seen that an event came, or that it was swept; what happened matters more than its count.
            revision = await self._store.transact(writes)
        self._owe(deployment, revision)
        return msgspec.structs.replace(deployment, revision=revision)

    async def _act(
        self,
        deployment: Deployment,
        healing: Healing,
        steps: Plan,
        jobs: list[tuple[int, DeploymentRevision]],
        observed: Observed,
    ) -> bool:
        """Take the steps; True when anything was written, so that there is something new to see."""
        repairs = [
            (one, observed.revisions[one.revision if one.revision in observed.revisions else deployment.spec.target])
            for one in healing.repair
        ]
        repairs += [(one, observed.revisions[deployment.spec.target]) for one in self._find_relabelled(deployment, observed)]
        acted = False
        if repairs:
            acted |= self._took(deployment, await self._steps.repair(deployment, repairs))
        if healing.wake:
            acted |= self._took(deployment, await self._steps.wake(deployment, healing.wake))
        if healing.suspend:
            acted |= self._took(deployment, await self._steps.suspend(deployment, healing.suspend))
        if steps.remove:
            acted |= self._took(deployment, await self._steps.remove(deployment, steps.remove))
        if steps.take:
            counted = [one for one in observed.replicas if one.counts]
            acted |= self._took(deployment, await self._steps.take(deployment, steps.take, counted))
        if jobs:
            made = await self._steps.make(deployment, jobs)
            self._retries.note(deployment.uid, made.done, made.failed)
            acted |= self._took(deployment, made) or bool(made.failed)
        return acted

    def _took(self, deployment: Deployment, made: Made) -> bool:
        # First what was written: the next pass must not decide by what was before it.
        self._owe(deployment, made.revision)
        if made.error is not None:
            raise made.error
        return bool(made.done)

    def _find_relabelled(self, deployment: Deployment, observed: Observed) -> list[Replica]:
        """Replicas that are of the target, by another number: after a rollback they are those that were never replaced."""
        if deployment.status.rollout.phase not in FINISHED:
            return []
        target = deployment.spec.target
        return [one for one in observed.replicas if one.current and not one.going and one.revision != target and not one.drift]

    async def _roll_back(self, deployment: Deployment, observed: Observed, cursor: Cursor) -> Outcome:
        moved = msgspec.structs.replace(
            deployment, status=msgspec.structs.replace(deployment.status, rollout=cursor.rollout, serving=cursor.serving)
        )
        changed, revision = go_back(moved, observed, cursor.rollout, cursor.roll_back, self._clock)
        log.warning("rolled_back", deployment=deployment.name, why=cursor.roll_back)
        note = Note("Warning", "RolledBack", changed.status.rollout.message)
        await self._save(changed, [*cursor.notes, note], [create_of(revision)])
        return Again()

    # What is remembered

    async def _catch_up(self, deployment: Deployment) -> None:
        """Have the cache know what was written so far: else what was made just now would be made again."""
        try:
            async with asyncio.timeout(SEEN_LIMIT_S):
                await self._cache.wait_revision(max(deployment.revision, self._owed.get(deployment.uid, 0)))
        except TimeoutError as error:
            raise Unavailable("the cache lags behind the store") from error

    def _owe(self, deployment: Deployment, revision: int) -> None:
        self._owed[deployment.uid] = max(revision, self._owed.get(deployment.uid, 0))

    def _forget(self, uid: Uid) -> None:
        self._observer.forget(uid)
        self._retries.forget(uid)
        self._owed.pop(uid, None)


def _note_scale(deployment: Deployment, wanted: int, is_asleep: bool) -> list[Note]:
    status = deployment.status
    after = 0 if is_asleep else wanted
    if not status.observed_generation and not after:
        return []
    if after > status.wanted:
        return [Note("Normal", "ScaledUp", f"from {status.wanted} to {after} replicas")]
    return [Note("Normal", "ScaledDown", f"from {status.wanted} to {after} replicas")] if after < status.wanted else []


def _note_gone(deployment: Deployment, phase: str, wanted: int, jobs: list[tuple[int, DeploymentRevision]]) -> list[Note]:
    """A replica that is missing although nobody asked for fewer is told of."""
    status = deployment.status
    was_whole = phase in FINISHED and status.rollout.phase in FINISHED and status.wanted == wanted
    if not was_whole or len(jobs) > 10 or deployment.meta.generation != status.observed_generation:
        return []
    names = (replica_name(deployment.name, index) for index, _ in jobs if str(index) not in status.replaced)
    return [Note("Normal", "Replaced", f"{name} was gone, and is made anew") for name in names]


def choose_gather_s(size: int, unsettled: int) -> float:
    """For how long changes are gathered where there are ``size`` replicas and ``unsettled`` of them will change again soon."""
    return min(SOON_S + A_LOOK_S * size + A_CHANGE_S * unsettled, GATHER_MAX_S)
