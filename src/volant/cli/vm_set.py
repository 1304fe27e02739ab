"""``volar vms set``, ``volar vms scale`` and ``volar vms label``: the changes that people make most."""

from __future__ import annotations

from typing import Any

import click

from volant.cli.output import format_option
from volant.cli.session import Session, complete_vms, pass_session
from volant.cli.vm_change import change_options
from volant.cli.vm_config import patch_vm
from volant.cli.vm_create import Idle, read_boot_file, read_ports
from volant.core.errors import InvalidInput

_name = click.argument("name", shell_complete=complete_vms)


@click.command(
    name="set",
    epilog="""
    \b
    Examples:
      volar vms set web --memory 512 --cpus 2 --restart
      volar vms set web --env MODE=fast --env OLD- --reason "new mode"
      volar vms set web --publish 8080:80 --auto-suspend 5m --dry-run
    """,
)
@_name
@click.option("--cpus", "--cpu", "cpu_cores", type=int, metavar="CORES", help="Cores.")
@click.option("--memory", "memory_mb", type=int, metavar="MIB", help="Memory; less, or back again, at once where it can be.")
@click.option("--disk", "disk_mb", type=int, metavar="MIB", help="A larger writable disk.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="A variable, KEY- for none; may be repeated.")
@click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="A label, KEY- for none; may be repeated.")
@click.option("-P", "--publish", multiple=True, metavar="HOST:GUEST", help="The ports to be published; may be repeated.")
@click.option("--publish-none", is_flag=True, help="Publish no port.")
@click.option("--restart-policy", type=click.Choice(["always", "on-failure", "never"]), help="When it ends unasked.")
@click.option("--auto-suspend", "auto_suspend_s", type=Idle(), help="Suspend it after so long without traffic; 0 is never.")
@click.option("--grace", "stop_grace_s", type=int, metavar="SECONDS", help="Between the stop signal and the end.")
@click.option("--isolation", type=click.Choice(["any", "hardware"]), help="hardware refuses to run under emulation.")
@click.option("--kernel", metavar="FILE|DIGEST", help="Boot this instead of the plugin's; - for the plugin's.")
@click.option("--initramfs", metavar="FILE|DIGEST", help="Likewise.")
@click.option("--kernel-cmdline", "kernel_cmdline", metavar="WORDS", help="Added to the kernel's command line.")
@change_options
@format_option("table", "json", "name")
@pass_session
def set_(
    session: Session,
    /,
    name: str,
    env: tuple[str, ...],
    label: tuple[str, ...],
    publish: tuple[str, ...],
    publish_none: bool,
    kernel: str | None,
    initramfs: str | None,
    *,
    output: str,
    reason: str,
    restart: bool,
    dry_run: bool,
    generation: int | None,
    **given: Any,
) -> None:
    """Change how the VM NAME is configured."""
    change: dict[str, Any] = {field: value for field, value in given.items() if value is not None}
    for field, words, option in (("env", env, "--env"), ("labels", label, "--label")):
        if words:
            change[field] = read_edits(words, option)
    if publish and publish_none:
        raise InvalidInput("--publish and --publish-none are not for one command")
    if publish or publish_none:
        change["ports"] = read_ports(publish)
    for field, file in (("kernel", kernel), ("initramfs", initramfs)):
        if file is not None:
            change[field] = None if file == "-" else read_boot_file(session.client, file, f"--{field}", upload=not dry_run)
    if not change:
        raise InvalidInput("nothing is to be changed", hint="volar vms set --help shows what can be")
    patch_vm(session, name, change, output=output, reason=reason, restart=restart, dry_run=dry_run, generation=generation)


@click.command(epilog="\b\nExamples:\n  volar vms scale web --memory 512\n  volar vms scale web --cpu 2 --restart")
@_name
@click.option("--cpu", "--cpus", "cpu_cores", type=int, metavar="CORES", help="Cores.")
@click.option("--memory", "memory_mb", type=int, metavar="MIB", help="Memory.")
@change_options
@format_option("table", "json", "name")
@pass_session
def scale(session: Session, /, name: str, cpu_cores: int | None, memory_mb: int | None, **options: Any) -> None:
    """Give the VM NAME another size."""
    change = {field: value for field, value in (("cpu_cores", cpu_cores), ("memory_mb", memory_mb)) if value is not None}
    if not change:
        raise InvalidInput("a size is missing", hint=f"volar vms scale {name} --cpu 2 --memory 512")
    patch_vm(session, name, change, **options)


@click.command(epilog="\b\nExamples:\n  volar vms label web tier=front zone=a\n  volar vms label web tier-")
@_name
@click.argument("edits", nargs=-1, required=True, metavar="KEY=VALUE... | KEY-...")
@change_options
@format_option("table", "json", "name")
@pass_session
def label(session: Session, /, name: str, edits: tuple[str, ...], **options: Any) -> None:
    """Label the VM NAME; KEY- takes a label away."""
    patch_vm(session, name, {"labels": read_edits(edits, "a label")}, **options)


def read_edits(words: tuple[str, ...], option: str) -> dict[str, str | None]:
    """``KEY=VALUE`` and ``KEY-`` words as a merge patch of a map. Raises InvalidInput."""
    found: dict[str, str | None] = {}
    for word in words:
        key, equals, value = word.partition("=")
        if not equals and key.endswith("-"):
            key = key[:-1]
        elif not equals:
            raise InvalidInput(f"{option} {word!r} is neither KEY=VALUE nor KEY-")
        if not key:
            raise InvalidInput(f"{option} {word!r} names nothing")
        found[key] = value if equals else None
    return found
