"""``volar vms create``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click
import msgspec

from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, complete_plugins, complete_snapshots, pass_session
from volant.cli.vm_wait import Duration, describe_start, follow_vm, tell_failure
from volant.core.errors import InvalidInput, NotFound
from volant.core.resource import to_wire
from volant.core.wait import Goal

FILE_MAX_BYTES = 1024 * 1024


class Idle(click.ParamType[int]):
    """``0`` for never, or a duration of a second at least; the value is whole seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value in ("0", 0):
            return 0
        seconds = Duration().convert(value, param, ctx)
        if seconds < 1:
            self.fail(f"{str(value)[:40]!r} is less than a second", param, ctx)
        return round(seconds)


@click.command(
    epilog="""
    \b
    Examples:
      volar vms create web --plugin nginx
      volar vms create web --plugin nginx --cpu 2 --memory 512 --env MODE=fast --label tier=web
      volar vms get web --json | jq '.name = "web2"' | volar vms create -f -
      volar vms create batch --plugin job --restart-policy never --no-wait
      volar vms create shop --plugin nginx --publish 8080:80 --auto-suspend 5m
      volar vms create web3 --snapshot before-upgrade
    """
)
@click.argument("name", required=False)
@click.option("-p", "--plugin", help="The plugin to make it from.", shell_complete=complete_plugins)
@click.option("--cpu", "cpu_cores", type=int, metavar="CORES", help="Instead of what the plugin says.")
@click.option("--memory", "memory_mb", type=int, metavar="MIB", help="Instead of what the plugin says.")
@click.option("--disk", "disk_mb", type=int, metavar="MIB", help="Size of its writable disk, instead of what the plugin says.")
@click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="Added to the workload's environment; may be repeated.")
@click.option("-l", "--label", "label", multiple=True, metavar="KEY=VALUE", help="To find it by; may be repeated.")
@click.option("--root", type=click.Choice(["disk", "ephemeral"]), help="Where what it writes lies: a disk that stays, or memory.")
@click.option("--restart-policy", type=click.Choice(["always", "on-failure", "never"]), help="When it ends unasked.")
@click.option("--isolation", type=click.Choice(["any", "hardware"]), help="hardware refuses to run under emulation.")
@click.option("--grace", "stop_grace_s", type=int, metavar="SECONDS", help="Between the stop signal and the end.")
@click.option(
    "--start",
    type=click.Choice(["auto", "cold", "template"]),
    help="From a template where that can be, by a boot always, or from a template or not at all.",
)
@click.option("--snapshot", metavar="SNAPSHOT", help="Begin from this snapshot.", shell_complete=complete_snapshots)
@click.option(
    "-P", "--publish", multiple=True, metavar="HOST:GUEST", help="Lead a port of the host to one of it; may be repeated."
)
@click.option(
    "--auto-suspend", "auto_suspend_s", type=Idle(), help="Suspend it after so long without traffic, as in 5m; 0 is never."
)
@click.option("--stopped", is_flag=True, help="Create it without starting it.")
@click.option("-f", "--file", "file", metavar="FILE", help="A VM as JSON, - for stdin; options win over what it says.")
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="120s", show_default=True, help="How long to wait.")
@format_option("table", "json", "name")
@pass_session
def create(
    session: Session,
    /,
    file: str | None,
    env: tuple[str, ...],
    label: tuple[str, ...],
    publish: tuple[str, ...],
    stopped: bool,
    no_wait: bool,
    timeout: float,
    output: str,
    **given: Any,
) -> None:
    """Create a VM named NAME and wait until it is ready, or has failed."""
    wanted = read_vm_file(file) if file is not None else {}
    wanted.update({key: value for key, value in given.items() if value is not None})
    for key, pairs, what in (("env", env, "--env"), ("labels", label, "--label")):
        if pairs:
            wanted[key] = {**wanted.get(key, {}), **read_pairs(pairs, what)}
    if publish:
        wanted["ports"] = read_ports(publish)
    if wanted.get("snapshot") and not wanted.get("plugin"):
        wanted["plugin"] = session.client.snapshots.get(str(wanted["snapshot"])).status.plugin
    if stopped:
        wanted["power"] = "stopped"
    for key, option in (("name", "NAME"), ("plugin", "--plugin")):
        if not wanted.get(key):
            raise InvalidInput(f"{option} is missing", hint="volar vms create NAME --plugin PLUGIN")
    vm = session.client.vms.create(wanted)
    goal: Goal = "stopped" if vm.spec.power == "stopped" else "ready"
    if not no_wait:
        with show_progress(quiet=output != "table") as say:
            followed = follow_vm(session.client, vm, goal, timeout, say)
        if followed is None:
            raise NotFound(f"{vm.name} was deleted in the meantime")
        vm = followed
    if output == "json":
        print_document(to_wire(vm))
    if not no_wait and (vm.status.phase == "Failed" or (goal == "ready" and not vm.status.ready)):
        raise Ended(tell_failure(session.client, vm))
    if output == "name":
        click.echo(vm.name)
    elif output == "table":
        click.echo(
            f"{vm.name} is being created" if no_wait else describe_start(vm) if goal == "ready" else f"{vm.name} is stopped"
        )


def read_vm_file(file: str) -> dict[str, Any]:
    """The VM that a file describes. Raises InvalidInput."""
    try:
        if file == "-":
            content = sys.stdin.buffer.read(FILE_MAX_BYTES + 1)
        else:
            with Path(file).open("rb") as opened:
                content = opened.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{file}: {error.strerror}") from error
    if len(content) > FILE_MAX_BYTES:
        raise InvalidInput(f"{file} is larger than {FILE_MAX_BYTES} bytes")
    try:
        found = msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{file} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} does not hold one object", hint="one VM a file, as volar vms get NAME --json prints it")
    return found


def read_ports(words: tuple[str, ...]) -> list[dict[str, int]]:
    """``HOST:GUEST`` words as the ports of a spec. Raises InvalidInput."""
    found: list[dict[str, int]] = []
    for word in words:
        host, colon, guest = word.partition(":")
        if not colon or not all(part.isascii() and part.isdecimal() for part in (host, guest)):
            raise InvalidInput(f"--publish {word!r} is not HOST:GUEST", hint="two ports, as in 8080:80")
        found.append({"host_port": int(host), "port": int(guest)})
    return found


def read_pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping. Raises InvalidInput."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidInput(f"{option} {pair!r} is not KEY=VALUE")
        found[key] = value
    return found
