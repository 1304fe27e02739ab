"""Disks of the right size with nothing in them: what the simulated driver and simulations run on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from volant.volume.disk import HostDisks


async def make_nothing(path: Path) -> None:
    """Leave ``path`` as it is: no file system."""


class SimulatedDisks(HostDisks):
    """Implements Disks with sparse files that are neither formatted nor waited for. ``before`` as in HostDisks."""

    def __init__(self, before: Callable[[str], None] = lambda step: None) -> None:
        super().__init__(make_nothing, durable=False, before=before)
