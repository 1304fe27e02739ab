"""Who does what only one node of a cluster does."""

from __future__ import annotations

import msgspec

LEADER = "leader"
"""The name of the lease, and of the record that says who took it last."""

LEADER_KIND = "Leader"


class LeaderStatus(msgspec.Struct, frozen=True, kw_only=True):
    """``node`` is the one that took the lead last, empty before anybody did; ``here`` is whether this volantd leads now."""

    node: str = ""
    since: str | None = None
    here: bool = False
