"""How a session ends. Neither is an error for users: the link turns both into a reason and connects again."""

from __future__ import annotations


class SessionOver(Exception):
    """The session has ended; ``str()`` says why in a sentence."""


class Breach(SessionOver):
    """The guest broke the protocol (docs/guest-protocol.md). Ends its session and nothing else."""
