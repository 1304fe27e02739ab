"""The synchronous client: one attribute a kind.

>>> client = Client()                     # $VOLANT_API, or /run/volant/volantd.sock
>>> client.vms.get("web").status.phase    # doctest: +SKIP
'Running'
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from volant.client.connection import Connection

if TYPE_CHECKING:
    from volant.client.artifacts import Artifacts
    from volant.client.events import Events
    from volant.client.plugins import Plugins
    from volant.client.pools import Pools
    from volant.client.snapshots import Snapshots
    from volant.client.system import System
    from volant.client.templates import Templates
    from volant.client.vms import VMs


class Client:
    """Talks to one volantd. Every method raises VolantErrors: those the server names, Unavailable when there is none."""

    def __init__(self, address: str | None = None) -> None:
        self.connection = Connection(address)

    @cached_property
    def vms(self) -> VMs:
        from volant.client.vms import VMs

        return VMs(self.connection)

    @cached_property
    def plugins(self) -> Plugins:
        from volant.client.plugins import Plugins

        return Plugins(self.connection)

    @cached_property
    def artifacts(self) -> Artifacts:
        from volant.client.artifacts import Artifacts

        return Artifacts(self.connection)

    @cached_property
    def events(self) -> Events:
        from volant.client.events import Events

        return Events(self.connection)

    @cached_property
    def system(self) -> System:
        from volant.client.system import System

        return System(self.connection)

    @cached_property
    def snapshots(self) -> Snapshots:
        from volant.client.snapshots import Snapshots

        return Snapshots(self.connection)

    @cached_property
    def templates(self) -> Templates:
        from volant.client.templates import Templates

        return Templates(self.connection)

    @cached_property
    def pools(self) -> Pools:
        from volant.client.pools import Pools

        return Pools(self.connection)
