"""``volar templates``: the group, and its short commands."""

from __future__ import annotations

import click
import msgspec

from volant.cli.measure import format_key, format_since, format_size
from volant.cli.output import format_option, print_document, print_table
from volant.cli.progress import show_progress
from volant.cli.session import Session, complete_plugins, pass_session
from volant.core.template import Template

_HEADER = ("KEY", "KIND", "PLUGIN", "CPU", "MEMORY", "SIZE", "USERS", "LOADED", "USED")


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar templates build nginx
      volar templates list
      volar templates prune
    """,
)
def templates() -> None:
    """Look after templates: booted guests that VMs start from without a boot. The first VM of a kind leaves one behind."""


@templates.command(name="list", epilog="\b\nExamples:\n  volar templates list\n  volar templates list --json")
@format_option("table", "wide", "json", "name")
@pass_session
def list_(session: Session, output: str) -> None:
    """List templates, those used last first. USERS counts VMs and snapshots that stand on it."""
    found = session.client.templates.list()
    if output == "json":
        print_document({"items": found})
    elif output == "name":
        for one in found:
            click.echo(one.key)
    elif not found:
        click.echo(
            "there are no templates; the first VM of a plugin leaves one behind, or: volar templates build PLUGIN", err=True
        )
    elif output == "wide":
        print_table((*_HEADER, "HYPERVISOR", "ACCELERATOR"), ([*_row(one), one.hypervisor, one.accelerator] for one in found))
    else:
        print_table(_HEADER, (_row(one) for one in found))


@templates.command(
    epilog="\b\nExamples:\n  volar templates build nginx\n  volar templates build nginx --cpu 2 --memory 512",
)
@click.argument("plugin", shell_complete=complete_plugins)
@click.option("--cpu", "cpu_cores", type=int, metavar="CORES", help="Of the VMs that are to start from it; as the plugin says.")
@click.option("--memory", "memory_mb", type=int, metavar="MIB", help="Of the VMs that are to start from it; as the plugin says.")
@format_option("table", "json", "name")
@pass_session
def build(session: Session, plugin: str, cpu_cores: int | None, memory_mb: int | None, output: str) -> None:
    """Make the template that VMs of PLUGIN start from, so that the first of them need not boot. One that is there stays."""
    with show_progress(quiet=output != "table") as say:
        say(f"making the template of {plugin}: a guest boots and is saved")
        made = session.client.templates.build(plugin, cpu_cores=cpu_cores, memory_mb=memory_mb)
    if output == "json":
        print_document(msgspec.to_builtins(made))
    elif output == "name":
        click.echo(made.key)
    else:
        click.echo(f"template {_describe(made)} is there ({made.cpu_cores} CPU, {made.memory_mb} MiB)")


@templates.command(epilog="\b\nExamples:\n  volar templates prune")
@format_option("table", "json", "name")
@pass_session
def prune(session: Session, output: str) -> None:
    """Remove every template that no VM and no snapshot stands on."""
    gone = session.client.templates.prune()
    if output == "json":
        print_document({"items": gone})
        return
    for one in gone:
        click.echo(one.key if output == "name" else f"template {_describe(one)} is removed")
    if output == "table":
        click.echo(f"{format_size(sum(one.size_bytes for one in gone))} given back" if gone else "nothing to remove")


def _describe(template: Template) -> str:
    return f"{format_key(template.key)} of {template.plugin}, {template.kind}, {format_size(template.size_bytes)}"


def _row(template: Template) -> list[str]:
    return [
        format_key(template.key),
        template.kind,
        template.plugin,
        str(template.cpu_cores),
        f"{template.memory_mb} MiB",
        format_size(template.size_bytes),
        str(template.users),
        "yes" if template.loaded else "no",
        f"{format_since(template.used_at)} ago",
    ]
