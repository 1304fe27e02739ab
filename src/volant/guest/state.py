"""What is known of a guest, as its link reports it."""

from __future__ import annotations

from datetime import datetime

import msgspec

from volant.guest.protocol import HealthNotice, Hello, NetworkNotice, StoppingNotice, WorkloadNotice

MAIN = "main"


class AgentState(msgspec.Struct, frozen=True, kw_only=True):
    """``since`` is when ``connected`` last changed; ``reason`` says why there is no connection, "" while there is one.

    What the guest said stays known while the link is down, so that a reconnect shows no flap, and goes when a guest
    with another ``boot_id`` answers. ``workload`` and ``health`` are those of ``main``. After ``configure`` or ``renew`` was
    accepted ``hello`` shows the new state and digest. ``network``: what it was given by DHCP; None until it has told.
    """

    connected: bool = False
    hello: Hello | None = None
    workload: WorkloadNotice | None = None
    health: HealthNotice | None = None
    network: NetworkNotice | None = None
    stopping: StoppingNotice | None = None
    since: datetime
    reason: str = ""
