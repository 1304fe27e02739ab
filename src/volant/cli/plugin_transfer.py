"""Plugins on their way to volantd: files that are sent to it, and those that it fetches; both shown as they go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

import click

from volant.cli.failure import printable
from volant.cli.measure import format_size
from volant.cli.plugin_files import LocalFile, LocalManifest
from volant.client.client import Client
from volant.core.plugin import Plugin
from volant.core.plugin_source import FetchProgress

if TYPE_CHECKING:
    from rich.progress import Progress

REMOTE_SCHEMES = ("oci://", "https://", "http://")


def is_remote(given: str) -> bool:
    """True for what volantd fetches, or would if it were to be trusted."""
    return given.startswith(REMOTE_SCHEMES)


def send_files(client: Client, local: LocalManifest, *, quiet: bool) -> int:
    """Upload the files that volantd lacks; returns how many those were."""
    return sum(_send_file(client, file, quiet) for file in local.files)


def fetch_plugin(
    client: Client,
    source: str,
    checksum: str = "",
    *,
    name: str = "",
    version: str = "",
    as_default: bool = True,
    replace: bool = False,
    quiet: bool,
) -> tuple[Plugin, bool, int]:
    """Have volantd fetch and install it: the plugin, whether it is new, and how many files had to be fetched."""
    fetched: set[str] = set()
    with _show_fetches(quiet) as show:

        def hear(progress: FetchProgress) -> None:
            fetched.add(progress.file)
            show(progress)

        plugin, created = client.plugins.install_from(
            source, checksum, name=name, version=version, as_default=as_default, replace=replace, on_progress=hear
        )
    return plugin, created, len(fetched)


def _send_file(client: Client, file: LocalFile, quiet: bool) -> bool:
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
        with _open_bars() as bars:
            task = bars.add_task(f"uploading {file.role}", total=file.size_bytes)
            yield lambda sent: bars.update(task, completed=sent)
    else:
        click.echo(f"uploading {file.role} ({format_size(file.size_bytes)})", err=True)
        yield lambda _sent: None


@contextlib.contextmanager
def _show_fetches(quiet: bool) -> Iterator[Callable[[FetchProgress], None]]:
    if quiet:
        yield lambda _progress: None
    elif sys.stderr.isatty():
        with _open_bars() as bars:
            yield _bar_of_each(bars)
    else:
        yield _line_of_each()


def _bar_of_each(bars: Progress) -> Callable[[FetchProgress], None]:
    tasks = {}

    def show(progress: FetchProgress) -> None:
        if progress.file not in tasks:
            tasks[progress.file] = bars.add_task(f"fetching {printable(progress.file)}", total=None)
        bars.update(tasks[progress.file], completed=progress.done_bytes, total=progress.size_bytes or None)

    return show


def _line_of_each() -> Callable[[FetchProgress], None]:
    told: set[str] = set()

    def show(progress: FetchProgress) -> None:
        if progress.file not in told:
            told.add(progress.file)
            size = f" ({format_size(progress.size_bytes)})" if progress.size_bytes else ""
            click.echo(f"fetching {printable(progress.file)}{size}", err=True)

    return show


def _open_bars() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(binary_units=True), TransferSpeedColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True)
