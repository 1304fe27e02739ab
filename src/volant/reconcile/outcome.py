"""What a reconcile pass ends in: exactly one of these."""

from __future__ import annotations

import msgspec


class Done(msgspec.Struct, frozen=True):
    """What is matches what was asked; look again when something changes or at the next resync."""


class Again(msgspec.Struct, frozen=True):
    """A step was made; take the next one at once."""


class After(msgspec.Struct, frozen=True):
    """Look again in ``seconds``; it is no failure."""

    seconds: float


Outcome = Done | Again | After
