"""The options that describe a deployment, and the document that they make."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

from volant.cli.session import Session, complete_plugins
from volant.cli.vm_wait import Duration
from volant.core.errors import InvalidInput

STRATEGIES = ("rolling", "recreate", "blue-green", "canary")
TIMEOUT = "10m"
_MAPS = ("vm.env", "vm_labels", "labels")
_VM_FIELDS = ("plugin", "cpu_cores", "memory_mb", "disk_mb", "network", "isolation", "root")
_SECONDS = ("min_ready_s", "progress_deadline_s")


def complete_deployments(ctx: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Names of deployments for the shell's completion; none when volantd does not answer."""
    from volant.core.errors import VolantError

    given = ctx.find_root().params
    session = ctx.find_object(Session) or Session(given.get("api"), given.get("context"))
    try:
        return [one.name for one in session.client.deployments.list() if one.name.startswith(incomplete)]
    except VolantError:
        return []


name_argument = click.argument("name", shell_complete=complete_deployments)


def describing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """What a deployment is; ``read_change`` reads them."""
    options = (
        click.option("-p", "--plugin", help="What its VMs are made from.", shell_complete=complete_plugins),
        click.option("-r", "--replicas", type=click.IntRange(0, 10_000), metavar="N", help="How many VMs there are to be."),
        click.option("--cpus", "--cpu", "cpu_cores", type=int, metavar="CORES", help="Of each VM."),
        click.option("--memory", "memory_mb", type=int, metavar="MIB", help="Of each VM."),
        click.option("--disk", "disk_mb", type=int, metavar="MIB", help="The writable disk of each VM."),
        click.option("-e", "--env", multiple=True, metavar="KEY=VALUE", help="A variable of the workload, KEY- for none."),
        click.option("-P", "--publish", "--port", multiple=True, metavar="HOST:GUEST", help="A port of the host for them."),
        click.option("-l", "--label", multiple=True, metavar="KEY=VALUE", help="A label of the deployment, KEY- for none."),
        click.option("--vm-label", multiple=True, metavar="KEY=VALUE", help="A label of each VM, KEY- for none."),
        click.option("--network", metavar="NETWORK", help="The network of its VMs' cards."),
        click.option("--root", type=click.Choice(["disk", "ephemeral"]), help="Where what a VM writes lies."),
        click.option("--isolation", type=click.Choice(["any", "hardware"]), help="hardware refuses emulation."),
        click.option("--strategy", type=click.Choice(STRATEGIES), help="How VMs become those of another description."),
        click.option("--max-surge", metavar="N|N%", help="So many VMs may be there beyond the wanted number."),
        click.option("--max-unavailable", metavar="N|N%", help="So many may be missing during a rollout."),
        click.option("--min-ready", "min_ready_s", type=Duration(), help="A VM counts once it has been ready for so long."),
        click.option("--progress-deadline", "progress_deadline_s", type=Duration(), help="A rollout without progress fails."),
        click.option("--auto-rollback/--no-auto-rollback", default=None, help="Whether a rollout that fails goes back."),
        click.option("--set", "settings", multiple=True, metavar="PATH=VALUE", help="Any field; PATH- takes it back."),
    )  # fmt: skip
    for option in reversed(options):
        command = option(command)
    return command


def changing_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """``--reason``, ``--dry-run``, ``--no-wait`` and ``--timeout``."""
    for option in (
        click.option("--timeout", type=Duration(), default=TIMEOUT, show_default=True, help="How long to wait."),
        click.option("--no-wait", is_flag=True, help="Return once it is written down."),
        click.option("--dry-run", is_flag=True, help="Say which VMs would be made, changed and removed, and do nothing."),
        click.option("--reason", default="", metavar="TEXT", help="Why; kept with the revision."),
    ):
        command = option(command)
    return command


def read_change(given: dict[str, Any]) -> dict[str, Any]:
    """The options as a merge patch of a deployment. Raises InvalidInput."""
    from volant.cli.vm_create import read_ports
    from volant.cli.vm_set import read_edits

    change: dict[str, Any] = {}
    vm = {field: given[field] for field in _VM_FIELDS if given.get(field) is not None}
    if given.get("env"):
        vm["env"] = read_edits(given["env"], "--env")
    if vm:
        change["vm"] = vm
    for field, option in (("label", "labels"), ("vm_label", "vm_labels")):
        if given.get(field):
            change[option] = read_edits(given[field], f"--{field.replace('_', '-')}")
    strategy: dict[str, Any] = {}
    if given.get("strategy"):
        strategy["type"] = given["strategy"]
    for field in ("max_surge", "max_unavailable"):
        if given.get(field) is not None:
            strategy[field] = read_amount(given[field])
    if strategy:
        change["strategy"] = strategy
    for field in _SECONDS:
        if given.get(field) is not None:
            change[field] = round(given[field])
    for field in ("replicas", "auto_rollback"):
        if given.get(field) is not None:
            change[field] = given[field]
    if given.get("publish"):
        change["ports"] = read_ports(given["publish"])
    for word in given.get("settings") or ():
        _set(change, word)
    return change


def read_amount(text: str) -> int | str:
    return int(text) if text.isascii() and text.isdecimal() else text


def _set(change: dict[str, Any], word: str) -> None:
    """``PATH=VALUE`` or ``PATH-``; a value is JSON where it can be, else text. Raises InvalidInput."""
    import msgspec

    path, equals, text = word.partition("=")
    value: Any = None
    if equals:
        try:
            value = msgspec.json.decode(text)
        except msgspec.DecodeError:
            value = text
    elif path.endswith("-"):
        path = path[:-1]
    else:
        raise InvalidInput(f"--set {word[:80]!r} is neither PATH=VALUE nor PATH-", hint="as in --set strategy.max_surge=2")
    parts = path.split(".")
    for prefix in _MAPS:
        if path.startswith(f"{prefix}."):
            # Names in such a map may have dots, and what they stand for is text, whatever it looks like.
            parts = [*prefix.split("."), path.removeprefix(f"{prefix}.")]
            value = text if equals else None
    if not all(parts):
        raise InvalidInput(f"--set {word[:80]!r} names nothing", hint="as in --set strategy.max_surge=2")
    place = change
    for part in parts[:-1]:
        inner = place.setdefault(part, {})
        if not isinstance(inner, dict):
            raise InvalidInput(f"--set {word[:80]!r} is within what is set as a whole", hint="set one or the other")
        place = inner
    place[parts[-1]] = value


def read_deployment_file(file: str, name: str | None) -> dict[str, Any]:
    """The deployment that a file describes, as of today: one as ``get --json`` prints it, or what the original took.

    Raises:
        InvalidInput: it is none.
    """
    from volant.cli.vm_create import read_json_file
    from volant.core.deployment_origin import is_origin, modernise_deployment

    document: Any = read_json_file(file)
    if not isinstance(document, dict):
        raise InvalidInput(f"{file} does not hold one object", hint="one deployment a file")
    if is_origin(document):
        document = modernise_deployment(document)
    elif "vm" not in document and not document.keys().isdisjoint(("plugin", "runtime")):
        # The original's --config FILE is the config alone.
        document = modernise_deployment({"name": name, "config": document})
    if name is not None:
        document["name"] = name
    if document.get("name") is None:
        raise InvalidInput("NAME is missing", hint="volar deployments create NAME --config FILE")
    found: dict[str, Any] = document
    return found
