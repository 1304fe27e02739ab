"""``volar vms create``."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import msgspec

from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, complete_plugins, complete_snapshots, pass_session
from volant.cli.vm_wait import Duration, describe_start, follow_vm, tell_failure
from volant.core.errors import InvalidInput, NotFound
from volant.core.ids import Digest
from volant.core.resource import to_wire
from volant.core.vm import VM
from volant.core.wait import Goal

if TYPE_CHECKING:
    from volant.client.client import Client

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
      volar vms create box --plugin busybox -- sh -c 'while sleep 60; do date; done'
      volar vms create shop --plugin nginx --publish 8080:80 --auto-suspend 5m
      volar vms create web3 --snapshot before-upgrade
      volar vms create dev --plugin nginx --kernel ./bzImage --kernel-cmdline "loglevel=7 nokaslr" --dry-run
    """
)
@click.argument("name", required=False)
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
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
@click.option("--network", metavar="NETWORK", help="The network of its card; default unless said.")
@click.option(
    "--network-mode",
    type=click.Choice(["bridged", "dhcp", "vsock"]),
    help="An address that Volant chose, one that it asks for, or no network card at all; as the plugin says unless said.",
)
@click.option(
    "--extra-network", "extra_networks", multiple=True, metavar="NETWORK", help="One more card, in this network; may be repeated."
)
@click.option("--add-disk", "add_disk", multiple=True, metavar="NAME=MIB", help="One more disk, empty at first; may be repeated.")
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
@click.option("--kernel", metavar="FILE|DIGEST", help="Boot this instead of the plugin's; a file is uploaded.")
@click.option("--initramfs", metavar="FILE|DIGEST", help="Likewise.")
@click.option("--kernel-cmdline", metavar="WORDS", help="Added to the kernel's command line, of the words that the host allows.")
@click.option("--dry-run", is_flag=True, help="Say what would be made, and make nothing.")
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
    add_disk: tuple[str, ...],
    kernel: str | None,
    initramfs: str | None,
    stopped: bool,
    dry_run: bool,
    no_wait: bool,
    timeout: float,
    output: str,
    **given: Any,
) -> None:
    """Create a VM named NAME and wait until it is ready, or has failed. It runs COMMAND, or else what its plugin runs."""
    wanted = read_vm_file(file) if file is not None else {}
    wanted.update({key: value for key, value in given.items() if value is not None and value != ()})
    if add_disk:
        wanted["disks"] = [*wanted.get("disks", []), *read_disks(add_disk)]
    for key, pairs, what in (("env", env, "--env"), ("labels", label, "--label")):
        if pairs:
            wanted[key] = {**wanted.get(key, {}), **read_pairs(pairs, what)}
    if publish:
        wanted["ports"] = read_ports(publish)
    if wanted.get("snapshot") and not wanted.get("plugin"):
        wanted["plugin"] = session.client.snapshots.get(str(wanted["snapshot"])).status.plugin
    for field, boot_file in (("kernel", kernel), ("initramfs", initramfs)):
        if boot_file is not None:
            wanted[field] = read_boot_file(session.client, boot_file, f"--{field}", upload=not dry_run)
    if stopped:
        wanted["power"] = "stopped"
    for key, option in (("name", "NAME"), ("plugin", "--plugin")):
        if not wanted.get(key):
            raise InvalidInput(f"{option} is missing", hint="volar vms create NAME --plugin PLUGIN")
    vm = session.client.vms.create(wanted, dry_run=dry_run)
    if dry_run:
        _tell_plan(vm, output)
        return
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


def _tell_plan(vm: VM, output: str) -> None:
    if output == "json":
        print_document(to_wire(vm))
    elif output == "name":
        click.echo(vm.name)
    else:
        size = f"{vm.spec.cpu_cores} CPU, {vm.spec.memory_mb} MiB of memory, {vm.spec.disk_mb} MiB of disk"
        at = f" at {vm.status.addresses[0].ip}" if vm.status.addresses and vm.status.addresses[0].ip else ""
        click.echo(f"{vm.name} would be created from {vm.spec.plugin} with {size}{at}")


def read_boot_file(client: Client, given: str, option: str, *, upload: bool) -> str:
    """The digest of what a VM is to boot: given as one, or of a file, which is uploaded unless it is stored.

    Raises:
        InvalidInput: there is no such file.
    """
    if given.startswith("sha256:"):
        return given
    path = Path(given)
    digest = hashlib.sha256()
    try:
        with path.open("rb") as opened:
            while chunk := opened.read(1024 * 1024):
                digest.update(chunk)
    except OSError as error:
        raise InvalidInput(f"{option} {given}: {error.strerror}", hint="a file, or sha256:… of a stored one") from error
    found = Digest(f"sha256:{digest.hexdigest()}")
    if client.artifacts.size(found) is None and upload:
        client.artifacts.upload(found, path)
    return found


def read_vm_file(file: str) -> dict[str, Any]:
    """The VM that a file describes. Raises InvalidInput."""
    found = read_json_file(file)
    if not isinstance(found, dict):
        raise InvalidInput(f"{file} does not hold one object", hint="one VM a file, as volar vms get NAME --json prints it")
    return found


def read_json_file(file: str) -> Any:
    """What a file, or stdin for ``-``, holds. Raises InvalidInput."""
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
    return read_json_text(content, file)


def read_json_text(content: bytes | str, what: str) -> Any:
    """Raises InvalidInput, naming ``what``."""
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{what} is not JSON: {error}") from error


def read_ports(words: tuple[str, ...]) -> list[dict[str, int]]:
    """``HOST:GUEST`` words as the ports of a spec. Raises InvalidInput."""
    found: list[dict[str, int]] = []
    for word in words:
        host, colon, guest = word.partition(":")
        if not colon or not all(part.isascii() and part.isdecimal() for part in (host, guest)):
            raise InvalidInput(f"--publish {word!r} is not HOST:GUEST", hint="two ports, as in 8080:80")
        found.append({"host_port": int(host), "port": int(guest)})
    return found


def read_disks(given: tuple[str, ...]) -> list[dict[str, Any]]:
    """``NAME=MIB`` of each as the API takes it. Raises InvalidInput."""
    disks = []
    for each in given:
        name, _, size = each.partition("=")
        if not name or not size.isdecimal():
            raise InvalidInput(f"--add-disk {each!r} is not NAME=MIB", hint="for example --add-disk scratch=512")
        disks.append({"name": name, "size_mb": int(size)})
    return disks


def read_pairs(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """``KEY=VALUE`` words as a mapping. Raises InvalidInput."""
    found: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise InvalidInput(f"{option} {pair!r} is not KEY=VALUE")
        found[key] = value
    return found
