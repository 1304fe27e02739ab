"""A plugin from wherever it is to volantd: what ``install`` and ``upgrade`` have in common."""

from __future__ import annotations

from pathlib import Path

import click
import msgspec

from volant.cli.failure import FAILED, print_error
from volant.cli.output import print_document
from volant.cli.plugin_files import read_local_manifest
from volant.cli.plugin_transfer import fetch_plugin, is_remote, send_files
from volant.cli.session import Ended
from volant.client.client import Client
from volant.core.errors import InvalidInput
from volant.core.plugin import Plugin
from volant.core.plugin_versions import is_default, split_reference
from volant.core.resource import to_wire


class Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Where it is, and how it is to be installed. ``name`` and ``version``: anything else that lies there is refused."""

    source: str
    checksum: str = ""
    as_default: bool = True
    replace: bool = False
    name: str = ""
    version: str = ""


class Brought(msgspec.Struct, frozen=True, kw_only=True):
    """``files`` it has, of which ``moved`` had to be ``how`` (uploaded or fetched)."""

    plugin: Plugin
    created: bool
    files: int
    moved: int
    how: str


def bring_plugin(client: Client, wish: Wish, *, quiet: bool) -> Brought:
    """Raises as reading, sending, fetching and installing do."""
    if is_remote(wish.source):
        fetched = fetch_plugin(
            client,
            wish.source,
            wish.checksum,
            name=wish.name,
            version=wish.version,
            as_default=wish.as_default,
            replace=wish.replace,
            quiet=quiet,
        )
        plugin, created, moved = fetched
        return Brought(plugin=plugin, created=created, files=len(plugin.status.artifacts), moved=moved, how="fetched")
    local = read_local_manifest(Path(wish.source), wish.checksum)
    found = (local.document["name"], local.document["version"])
    if wish.name and found != (wish.name, wish.version or found[1]):
        raise InvalidInput(f"that is {found[0]} {found[1]}, not {f'{wish.name} {wish.version}'.rstrip()}", field="SOURCE")
    moved = send_files(client, local, quiet=quiet)
    plugin, created = client.plugins.install(
        local.document, local.signed, as_default=wish.as_default, replace=wish.replace, wait=True
    )
    return Brought(plugin=plugin, created=created, files=len(local.files), moved=moved, how="uploaded")


def tell_brought(brought: Brought, output: str, *, hint: str = "") -> None:
    """Say what came of it. Raises Ended for a plugin that failed."""
    plugin = brought.plugin
    if output == "json":
        print_document(to_wire(plugin))
    elif output == "name":
        click.echo(plugin.name)
    name = split_reference(plugin.name)[0]
    if plugin.status.phase == "Failed":
        print_error(f"plugin {name} {plugin.spec.version} failed: {plugin.status.message or plugin.status.reason}")
        raise Ended(FAILED)
    if output != "table":
        return
    did = "is installed" if brought.created else "was installed already"
    click.echo(f"plugin {name} {plugin.spec.version} {did} ({brought.files} files, {brought.moved} {brought.how})")
    if not is_default(plugin.name):
        click.echo(f"{name} means another version; to change that: volar plugins default {name} {plugin.spec.version}", err=True)
    elif plugin.spec.previous and brought.created:
        click.echo(
            f"{name} meant {plugin.spec.previous[0]} before, and VMs made from that stay on it: volar plugins rollback {name}",
            err=True,
        )
