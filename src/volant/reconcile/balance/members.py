"""The replicas of one deployment as its ports see them: who may be given a connection, and who has how many."""

from __future__ import annotations

from typing import Literal

import msgspec

from volant.core.clock import Clock
from volant.core.deployment import REVISION_LABEL, Deployment
from volant.core.ids import Uid
from volant.core.vm import VM
from volant.net.pipe import Pipe
from volant.reconcile.balance.rota import Rota

SUSPECT_S = 1.0
"""For so long who could not be reached is asked only when nobody else is there."""

Rank = Literal["ready", "leaving", "perhaps", "none"]
"""``leaving``: ready still, and somebody is about to stop it. ``perhaps``: it runs, and what it says is more than we know."""

_RANKS: tuple[Rank, ...] = ("ready", "leaving", "perhaps")
_ANSWERS_PERHAPS = frozenset({"Unhealthy", "AgentSilent"})


class Member(msgspec.Struct, eq=False):
    vm: VM
    rank: Rank = "none"
    connections: int = 0
    """Those that lead to it, and those that are on the way."""
    suspect_until: float = 0.0
    drain_since: float | None = None
    """When it was first about to be stopped, on the monotonic clock."""


def is_ending(vm: VM) -> bool:
    """True when its run is to end or to stand still, so that nobody may be sent there any more."""
    return vm.deleting or vm.spec.power != "running" or vm.status.started_token not in (None, vm.spec.restart_token)


def rank_replica(vm: VM, deployment: Deployment) -> Rank:
    """How well ``vm`` can serve who connects to ``deployment`` now."""
    serving = deployment.status.serving
    if is_ending(vm) or (serving and vm.meta.labels.get(REVISION_LABEL) != str(serving)):
        return "none"
    if vm.status.ready:
        return "leaving" if vm.uid in deployment.status.disrupted else "ready"
    return "perhaps" if vm.status.phase == "Running" and vm.status.reason in _ANSWERS_PERHAPS else "none"


class Members:
    """Kept from changes; to choose one costs the same however many there are."""

    def __init__(self, clock: Clock, deployment: Deployment) -> None:
        self._clock = clock
        self._deployment = deployment
        self._members: dict[Uid, Member] = {}
        self._rotas: dict[Rank, Rota] = {rank: Rota() for rank in _RANKS}

    def __len__(self) -> int:
        return len(self._members)

    @property
    def uids(self) -> list[Uid]:
        return list(self._members)

    @property
    def has_some(self) -> bool:
        """True when there is anybody to choose."""
        return any(self._rotas.values())

    def find(self, uid: Uid) -> Member | None:
        return self._members.get(uid)

    def judge_all(self, deployment: Deployment) -> None:
        """The deployment changed in what decides who serves."""
        self._deployment = deployment
        for member in self._members.values():
            self._judge(member)

    def update(self, vm: VM) -> Member:
        """Take in what became of a replica; what is older than what is known is passed over."""
        member = self._members.get(vm.uid)
        if member is None:
            member = self._members[vm.uid] = Member(vm)
        elif vm.revision < member.vm.revision:
            return member
        member.vm = vm
        self._judge(member)
        return member

    def remove(self, uid: Uid) -> Member | None:
        member = self._members.pop(uid, None)
        if member is not None:
            member.rank = "none"
            for rota in self._rotas.values():
                rota.drop(uid)
        return member

    def choose(self, tried: frozenset[Uid] | set[Uid] = frozenset()) -> Member | None:
        """Whose turn it is, of those that were not ``tried``; who could not be reached of late comes last."""
        now = self._clock.monotonic()
        suspect: Member | None = None
        for rank in _RANKS:
            for uid in self._rotas[rank]:
                if uid in tried:
                    continue
                member = self._members[uid]
                if member.suspect_until <= now:
                    return member
                suspect = suspect or member
        return suspect

    def note_unreachable(self, member: Member) -> None:
        member.suspect_until = self._clock.monotonic() + SUSPECT_S

    def take(self, member: Member) -> None:
        """One more connection is its."""
        member.connections += 1
        self._place(member)

    def give_back(self, member: Member) -> None:
        member.connections -= 1
        self._place(member)

    def _judge(self, member: Member) -> None:
        before, member.rank = member.rank, rank_replica(member.vm, self._deployment)
        if not is_ending(member.vm):
            member.drain_since = None
        if before != member.rank and before != "none":
            self._rotas[before].drop(member.vm.uid)
        self._place(member)

    def _place(self, member: Member) -> None:
        if member.rank != "none":
            self._rotas[member.rank].put(member.vm.uid, member.connections)


class Link(msgspec.Struct, eq=False):
    """One connection of a client. ``member`` is None while it is held."""

    pipe: Pipe
    moved_at: float
    member: Member | None = None
