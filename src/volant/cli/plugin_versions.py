"""``volar plugins versions``, ``default``, ``rollback``, ``enable`` and ``disable``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from volant.cli.failure import exit_code_of, print_volant_error
from volant.cli.measure import format_since, format_size
from volant.cli.output import format_option, print_document, print_resources
from volant.cli.session import Ended, Session, complete_plugins, pass_session
from volant.core.errors import VolantError
from volant.core.plugin import Plugin
from volant.core.plugin_source import SOURCE_LABEL
from volant.core.plugin_versions import is_default, split_reference
from volant.core.resource import to_wire


@click.command(epilog="\b\nExamples:\n  volar plugins versions nginx\n  volar plugins versions nginx --json")
@click.argument("name", shell_complete=complete_plugins)
@format_option()
@pass_session
def versions(session: Session, name: str, output: str) -> None:
    """List the versions of the plugin NAME that are installed; the first is the one that the name means."""
    found = session.client.plugins.versions(name)
    print_resources(found, output, lambda wide: _tabulate(found, wide), f"there is no plugin {name}")


@click.command(epilog="\b\nExamples:\n  volar plugins default nginx 1.2.0")
@click.argument("name", shell_complete=complete_plugins)
@click.argument("version")
@format_option("table", "json", "name")
@pass_session
def default(session: Session, name: str, version: str, output: str) -> None:
    """Have the plugin NAME mean VERSION. VMs stay on the version that they were made from."""
    _tell(session.client.plugins.set_default(name, version), output)


@click.command(epilog="\b\nExamples:\n  volar plugins rollback nginx")
@click.argument("name", shell_complete=complete_plugins)
@format_option("table", "json", "name")
@pass_session
def rollback(session: Session, name: str, output: str) -> None:
    """Have the plugin NAME mean the version again that it meant before. VMs stay on the version that they were made from."""
    _tell(session.client.plugins.roll_back(name), output)


@click.command(epilog="\b\nExamples:\n  volar plugins enable nginx\n  volar plugins enable nginx@1.2.0")
@click.argument("names", metavar="NAME[@VERSION]...", nargs=-1, required=True, shell_complete=complete_plugins)
@pass_session
def enable(session: Session, names: tuple[str, ...]) -> None:
    """Let VMs be made from plugins again: from one version, or from all where only the plugin is named."""
    _set_enabled(session, names, True)


@click.command(epilog="\b\nExamples:\n  volar plugins disable nginx\n  volar plugins disable nginx@1.2.0")
@click.argument("names", metavar="NAME[@VERSION]...", nargs=-1, required=True, shell_complete=complete_plugins)
@pass_session
def disable(session: Session, names: tuple[str, ...]) -> None:
    """Refuse to make new VMs from plugins, at once: from one version, or from all where only the plugin is named.

    VMs that are there go on, and may be stopped and started.
    """
    _set_enabled(session, names, False)


def _set_enabled(session: Session, names: tuple[str, ...], enabled: bool) -> None:
    failed = 0
    for name in dict.fromkeys(names):
        try:
            changed = session.client.plugins.set_enabled(name, enabled)
        except VolantError as error:
            print_volant_error(error)
            failed = failed or exit_code_of(error)
            continue
        which = ", ".join(one.spec.version for one in changed)
        running = sum(one.status.vms for one in changed)
        left = "" if enabled or not running else f"; {running} {'VM of it stays' if running == 1 else 'VMs of it stay'}"
        click.echo(f"plugin {split_reference(name)[0]} ({which}) is {'enabled' if enabled else 'disabled'}{left}")
    if failed:
        raise Ended(failed)


def _tell(plugin: Plugin, output: str) -> None:
    if output == "json":
        print_document(to_wire(plugin))
    elif output == "name":
        click.echo(plugin.name)
    else:
        before = f" (before: {plugin.spec.previous[0]})" if plugin.spec.previous else ""
        click.echo(f"{plugin.name} means version {plugin.spec.version}{before}")


def _tabulate(plugins: Sequence[Plugin], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["VERSION", "DEFAULT", "ENABLED", "PHASE", "SIZE", "VMS", "AGE"] + (["SOURCE"] if wide else [])
    return header, (_row(plugin, wide) for plugin in plugins)


def _row(plugin: Plugin, wide: bool) -> list[str]:
    row = [
        plugin.spec.version,
        "yes" if is_default(plugin.name) else "",
        "yes" if plugin.spec.enabled else "no",
        "Deleting" if plugin.deleting else plugin.status.phase,
        format_size(sum(artifact.size_bytes for artifact in plugin.status.artifacts)),
        str(plugin.status.vms),
        format_since(plugin.meta.created_at),
    ]
    return [*row, plugin.meta.labels.get(SOURCE_LABEL, "-")] if wide else row
