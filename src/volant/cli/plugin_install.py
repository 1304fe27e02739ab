"""``volar plugins install``."""

from __future__ import annotations

from pathlib import Path

import click

from volant.cli.failure import FAILED, print_error
from volant.cli.output import format_option, print_document
from volant.cli.plugin_files import read_local_manifest
from volant.cli.plugin_transfer import fetch_plugin, is_remote, send_files
from volant.cli.session import Ended, Session, pass_session
from volant.core.errors import InvalidInput
from volant.core.plugin import Plugin
from volant.core.resource import to_wire


@click.command(
    epilog="""
    \b
    Examples:
      volar plugins install out/nginx/manifest.json
      volar plugins install out/nginx
      volar plugins install oci://registry.example.org/plugins/nginx:1.0
      volar plugins install https://www.example.org/nginx/manifest.json --checksum sha256:…
    """
)
@click.argument("source")
@click.option("--checksum", default="", metavar="sha256:…", help="Of the manifest that lies on the web.")
@format_option("table", "json", "name")
@pass_session
def install(session: Session, source: str, checksum: str, output: str) -> None:
    """Install the plugin at SOURCE: a manifest.json, the directory that holds it, or a place that volantd fetches it from.

    Files beside a manifest are checked against their checksums and uploaded unless volantd has them. A signature
    (manifest.json.minisig, as fledge sign writes it) is sent along.

    From a registry (oci://HOST/NAME[:TAG][@DIGEST], as fledge push leaves it) or the web (https://, with --checksum) volantd
    fetches itself what it does not have, and the signature with it. Ctrl-C ends that, and nothing is installed.
    """
    quiet = output != "table"
    if is_remote(source):
        plugin, created, moved = fetch_plugin(session.client, source, checksum, quiet=quiet)
        files, how = len(plugin.status.artifacts), "fetched"
    else:
        if checksum:
            raise InvalidInput("--checksum is for https://", hint="the files beside a manifest are checked against what it says")
        local = read_local_manifest(Path(source))
        moved = send_files(session.client, local, quiet=quiet)
        plugin, created = session.client.plugins.install(local.document, local.signed, wait=True)
        files, how = len(local.files), "uploaded"
    _tell(plugin, created, f"{files} files, {moved} {how}", output)


def _tell(plugin: Plugin, created: bool, what: str, output: str) -> None:
    if output == "json":
        print_document(to_wire(plugin))
    elif output == "name":
        click.echo(plugin.name)
    if plugin.status.phase == "Failed":
        print_error(f"plugin {plugin.name} failed: {plugin.status.message or plugin.status.reason}")
        raise Ended(FAILED)
    if output == "table":
        did = "is installed" if created else "was installed already"
        click.echo(f"plugin {plugin.name} {plugin.spec.version} {did} ({what})")
