"""``volar plugins install``."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click

from volant.cli.failure import FAILED, print_error
from volant.cli.measure import format_size
from volant.cli.output import format_option, print_document
from volant.cli.plugin_files import LocalFile, read_local_manifest
from volant.cli.session import Ended, Session, pass_session
from volant.client.client import Client
from volant.core.resource import to_wire


@click.command(
    epilog="""
    \b
    Examples:
      volar plugins install out/nginx/manifest.json
      volar plugins install out/nginx
    """
)
@click.argument("manifest", type=click.Path(path_type=Path))
@format_option("table", "json", "name")
@pass_session
def install(session: Session, manifest: Path, output: str) -> None:
    """Install the plugin that MANIFEST describes: a manifest.json, or the directory that holds it.

    Files beside the manifest are checked against their checksums and uploaded unless volantd has them.
    """
    document, files = read_local_manifest(manifest)
    uploaded = [file for file in files if _upload(session.client, file, quiet=output != "table")]
    plugin, created = session.client.plugins.install(document, wait=True)
    if output == "json":
        print_document(to_wire(plugin))
    elif output == "name":
        click.echo(plugin.name)
    if plugin.status.phase == "Failed":
        print_error(f"plugin {plugin.name} failed: {plugin.status.message or plugin.status.reason}")
        raise Ended(FAILED)
    if output == "table":
        what = f"{len(files)} files, {len(uploaded)} uploaded"
        did = "is installed" if created else "was installed already"
        click.echo(f"plugin {plugin.name} {plugin.spec.version} {did} ({what})")


def _upload(client: Client, file: LocalFile, quiet: bool) -> bool:
    """True when it had to be sent."""
    if client.artifacts.size(file.digest) is not None:
        return False
    with _show_upload(file, quiet) as on_progress:
        client.artifacts.upload(file.digest, file.path, on_progress)
    return True


@contextlib.contextmanager
def _show_upload(file: LocalFile, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet:
        yield lambda _sent: None
    elif sys.stderr.isatty():
        from rich.console import Console
        from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

        columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
        with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
            task = progress.add_task(f"uploading {file.role}", total=file.size_bytes)
            yield lambda sent: progress.update(task, completed=sent)
    else:
        click.echo(f"uploading {file.role} ({format_size(file.size_bytes)})", err=True)
        yield lambda _sent: None
