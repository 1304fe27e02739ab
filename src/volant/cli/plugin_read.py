"""``volar plugins list``, ``show`` and ``artifacts``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from volant.cli.measure import format_since, format_size
from volant.cli.output import format_option, print_document, print_fields, print_resources, print_table
from volant.cli.session import Session, complete_plugins, pass_session
from volant.core.plugin import Plugin
from volant.core.plugin_source import SOURCE_LABEL
from volant.core.plugin_versions import is_default, split_reference
from volant.core.resource import to_wire


@click.command(name="list", epilog="\b\nExamples:\n  volar plugins list\n  volar plugins list --json")
@format_option()
@pass_session
def list_(session: Session, output: str) -> None:
    """List plugins."""
    plugins = session.client.plugins.list()
    nothing = "there are no plugins; build one with fledge build, then: volar plugins install DIR/manifest.json"
    print_resources(plugins, output, lambda wide: _tabulate(plugins, wide), nothing)


@click.command(epilog="\b\nExamples:\n  volar plugins show nginx\n  volar plugins show nginx --manifest")
@click.argument("name", shell_complete=complete_plugins)
@click.option("--manifest", "manifest_only", is_flag=True, help="Print its manifest, as JSON, and nothing else.")
@format_option("table", "json", "name")
@pass_session
def show(session: Session, name: str, manifest_only: bool, output: str) -> None:
    """Show the plugin NAME, as its default version or as the one that is named: nginx@1.2.0."""
    if manifest_only:
        print_document(session.client.plugins.manifest(name))
        return
    plugin = session.client.plugins.get(name)
    if output == "json":
        print_document(to_wire(plugin))
    elif output == "name":
        click.echo(plugin.name)
    else:
        print_fields(_describe(plugin))


@click.command(epilog="\b\nExamples:\n  volar plugins artifacts nginx\n  volar plugins artifacts nginx@1.2.0 --json")
@click.argument("name", metavar="NAME[@VERSION]", shell_complete=complete_plugins)
@format_option("table", "json", "name")
@pass_session
def artifacts(session: Session, name: str, output: str) -> None:
    """List the files of the plugin NAME, of one version or of all, and which versions have them."""
    found = session.client.plugins.artifacts(name)
    if output == "json":
        print_document({"items": list(found)})
    elif output == "name":
        for one in found:
            click.echo(one["digest"])
    else:
        header = ("ROLE", "SIZE", "STATE", "VERSIONS", "DIGEST")
        print_table(
            header,
            (
                (one["role"], format_size(one["size_bytes"]), one["state"], ",".join(one["versions"]), one["digest"])
                for one in found
            ),
        )


KERNEL_LABEL = "volant.kernel"


def _tabulate(plugins: Sequence[Plugin], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "VERSION", "PHASE", "SIZE", "VMS", "AGE"] + (["TYPE", "MESSAGE"] if wide else [])
    return header, (_row(plugin, wide) for plugin in plugins)


def _row(plugin: Plugin, wide: bool) -> list[str]:
    row = [
        plugin.name,
        plugin.spec.version,
        plugin.status.phase,
        format_size(sum(artifact.size_bytes for artifact in plugin.status.artifacts)),
        str(plugin.status.vms),
        format_since(plugin.meta.created_at),
    ]
    if wide:
        row += [str(plugin.spec.manifest.get("workload", {}).get("type", "-")), plugin.status.message or "-"]
    return row


def _describe(plugin: Plugin) -> Iterable[tuple[str, str]]:
    manifest, status = plugin.manifest, plugin.status
    name, _ = split_reference(plugin.name)
    yield "Name", name
    yield "Version", plugin.spec.version + (", the default" if is_default(plugin.name) else "")
    if plugin.spec.previous:
        yield "Before", ", ".join(plugin.spec.previous)
    if not plugin.spec.enabled:
        yield "Enabled", f"no, no new VMs: volar plugins enable {plugin.name}"
    yield "Phase", status.phase
    if status.message:
        yield "Message", f"{status.reason}: {status.message}" if status.reason else status.message
    resources = manifest.resources
    yield "Size", f"{resources.cpu_cores} CPU, {resources.memory_mb} MiB of memory, {resources.disk_mb} MiB of disk"
    yield "Workload", " ".join(manifest.workload.entrypoint)
    if manifest.workload.base_url:
        yield "Listens", manifest.workload.base_url
    if manifest.health_check is not None:
        yield "Health", manifest.health_check.endpoint
    if KERNEL_LABEL in plugin.meta.labels:
        yield "Kernel", plugin.meta.labels[KERNEL_LABEL]
    if SOURCE_LABEL in plugin.meta.labels:
        yield "Source", plugin.meta.labels[SOURCE_LABEL]
    yield "Signed", _describe_trust(plugin)
    yield "Template", "with a workload that is ready" if manifest.start.template == "ready" else "booted"
    if plugin.wanted_pool:
        yield (
            "Pool",
            f"{status.pool.parked} of {plugin.wanted_pool} parked" + (f": {status.pool.message}" if status.pool.message else ""),
        )
    yield "VMs", str(status.vms)
    for artifact in status.artifacts:
        yield "File", f"{artifact.role}, {format_size(artifact.size_bytes)}, {artifact.state}, {artifact.digest}"
    yield "Installed", f"{format_since(plugin.meta.created_at)} ago"


def _describe_trust(plugin: Plugin) -> str:
    trust = plugin.status.trust
    if plugin.spec.signed is None:
        return "no" + (", and refused: the trust policy is enforce" if trust is not None and trust.refused else "")
    if trust is None:
        return "yes, and not looked at yet"
    by = f"by {trust.publisher or 'somebody unknown'} (key {trust.key_id})" if trust.key_id else "unreadably"
    return f"{by}, trusted" if trust.trusted else f"{by}, not trusted: {trust.message}"
