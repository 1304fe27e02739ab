"""What every command has at hand: the client, and the ways to end."""

from __future__ import annotations

import os
from functools import cached_property
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from volant.client.client import Client


RECONNECT_S = 15.0
"""How long a person waits for a volantd that went: long enough for a restart of it."""


class Session:
    """Made once a run; the client is made when first asked for."""

    def __init__(self, address: str | None = None, context: str | None = None) -> None:
        self.address = address
        self.context = context

    @cached_property
    def client(self) -> Client:
        """Raises NotFound, InvalidInput for a context that is not there or cannot be read."""
        from volant.client.client import Client

        if self.address or (os.environ.get("VOLANT_API") and not self.context):
            return Client(self.address, reconnect_s=RECONNECT_S)
        from volant.cli.context import choose_context

        chosen = choose_context(self.context)
        if chosen is None:
            return Client(reconnect_s=RECONNECT_S)
        return Client(chosen.address, token_file=chosen.token_file, reconnect_s=RECONNECT_S)


pass_session = click.make_pass_decorator(Session, ensure=True)


class Ended(Exception):
    """Ends the command with ``exit_code``; what there was to say has been said."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(exit_code)
        self.exit_code = exit_code


def complete_vms(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of VMs for the shell's completion; none when volantd does not answer."""
    from volant.core.errors import VolantError

    try:
        return [vm.name for vm in _session_of(ctx).client.vms.list() if vm.name.startswith(incomplete)]
    except VolantError:
        return []


def complete_plugins(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from volant.core.errors import VolantError

    try:
        return [one.name for one in _session_of(ctx).client.plugins.list() if one.name.startswith(incomplete)]
    except VolantError:
        return []


def complete_snapshots(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    from volant.core.errors import VolantError

    try:
        return [one.name for one in _session_of(ctx).client.snapshots.list() if one.name.startswith(incomplete)]
    except VolantError:
        return []


def _session_of(ctx: click.Context) -> Session:
    given = ctx.find_root().params
    return ctx.find_object(Session) or Session(given.get("api"), given.get("context"))
