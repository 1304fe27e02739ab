"""The commands that say what may be placed on a node: ``cordon``, ``taint``, ``label``, ``set``."""

from __future__ import annotations

from typing import Any, get_args

import click

from volant.cli.output import format_option, print_document
from volant.cli.quotas import read_size_mb
from volant.cli.session import Session, pass_session
from volant.core.errors import InvalidInput, PreconditionFailed
from volant.core.node import Node, Taint, TaintEffect
from volant.core.resource import to_wire

ATTEMPTS = 5
EFFECTS: tuple[str, ...] = get_args(TaintEffect)


@click.command(epilog="\b\nExamples:\n  volar nodes cordon node-a")
@click.argument("name")
@pass_session
def cordon(session: Session, name: str) -> None:
    """Place nothing new on the node NAME. What runs there stays."""
    session.client.nodes.edit(name, {"unschedulable": True})
    click.echo(f"{name} is cordoned: nothing new is placed on it")


@click.command(epilog="\b\nExamples:\n  volar nodes uncordon node-a")
@click.argument("name")
@pass_session
def uncordon(session: Session, name: str) -> None:
    """Let new VMs be placed on the node NAME again."""
    session.client.nodes.edit(name, {"unschedulable": False})
    click.echo(f"{name} takes VMs again")


@click.command(
    epilog="""
    \b
    Examples:
      volar nodes taint node-a gpu=yes:NoSchedule
      volar nodes taint node-a old:NoExecute

    \b
    NoSchedule keeps away new VMs that do not tolerate it, NoExecute also moves away the replicas that are there,
    PreferNoSchedule only prefers other nodes.
    """
)
@click.argument("name")
@click.argument("taints", metavar="KEY[=VALUE]:EFFECT...", nargs=-1, required=True)
@pass_session
def taint(session: Session, name: str, taints: tuple[str, ...]) -> None:
    """Keep VMs that do not tolerate it away from the node NAME."""
    new = [_read_taint(text) for text in taints]
    named = {(one.key, one.effect) for one in new}

    def change(node: Node) -> dict[str, Any]:
        kept = [one for one in node.spec.taints if (one.key, one.effect) not in named]
        return {"taints": [_write_taint(one) for one in (*kept, *new)]}

    _edit(session, name, change)
    click.echo(f"{name} is tainted {', '.join(taints)}")


@click.command(
    epilog="""
    \b
    Examples:
      volar nodes untaint node-a gpu
      volar nodes untaint node-a gpu:NoExecute
    """
)
@click.argument("name")
@click.argument("taints", metavar="KEY[:EFFECT]...", nargs=-1, required=True)
@pass_session
def untaint(session: Session, name: str, taints: tuple[str, ...]) -> None:
    """Take taints away from the node NAME."""
    gone = {tuple(text.partition(":")[::2]) for text in taints}

    def change(node: Node) -> dict[str, Any]:
        kept = [one for one in node.spec.taints if not {(one.key, ""), (one.key, one.effect)} & gone]
        missing = [key for key, effect in sorted(gone) if not _has(node, key, effect)]
        if missing:
            raise InvalidInput(f"{name} is not tainted {missing[0]}", field="taints", hint=f"volar nodes get {name}")
        return {"taints": [_write_taint(one) for one in kept]}

    _edit(session, name, change)
    click.echo(f"{name} is no longer tainted {', '.join(taints)}")


@click.command(
    epilog="""
    \b
    Examples:
      volar nodes label node-a zone=a disk=ssd
      volar nodes label node-a disk-
    """
)
@click.argument("name")
@click.argument("labels", metavar="KEY=VALUE|KEY-...", nargs=-1, required=True)
@pass_session
def label(session: Session, name: str, labels: tuple[str, ...]) -> None:
    """Give the node NAME labels, or take them away."""
    change: dict[str, str | None] = {}
    for text in labels:
        key, equals, value = text.partition("=")
        if not equals and not key.endswith("-"):
            raise InvalidInput(
                f"{text[:80]!r} is neither a label nor one to be taken away", field="labels", hint="zone=a, or zone-"
            )
        change[key if equals else key.removesuffix("-")] = value if equals else None
    node = session.client.nodes.edit(name, {"labels": change})
    words = ", ".join(f"{key}={value}" for key, value in sorted(node.meta.labels.items()))
    click.echo(f"{name} has the labels {words}" if words else f"{name} has no labels")


@click.command(
    name="set",
    epilog="""
    \b
    Examples:
      volar nodes set node-a --cpu-overcommit 8 --reserved-memory 1G
    """,
)
@click.argument("name")
@click.option("--cpu-overcommit", type=float, help="Cores that are given out for each that there is.")
@click.option("--memory-overcommit", type=float, help="MiB of memory that are given out for each that there is.")
@click.option("--reserved-cpu", type=float, help="Cores for the host itself.")
@click.option("--reserved-memory", metavar="SIZE", help="Memory for the host itself, as 512M or 1G.")
@click.option("--dry-run", is_flag=True, help="Check it, and write nothing.")
@format_option("table", "json", "name")
@pass_session
def set_(
    session: Session,
    name: str,
    cpu_overcommit: float | None,
    memory_overcommit: float | None,
    reserved_cpu: float | None,
    reserved_memory: str | None,
    dry_run: bool,
    output: str,
) -> None:
    """Say how much of the node NAME is given out. VMs that run keep what they have."""
    given = {
        "cpu_overcommit": cpu_overcommit,
        "memory_overcommit": memory_overcommit,
        "reserved_cpu_cores": reserved_cpu,
        "reserved_memory_mb": None if reserved_memory is None else read_size_mb(reserved_memory, "reserved_memory"),
    }
    change = {field: value for field, value in given.items() if value is not None}
    if not change:
        raise InvalidInput("nothing is to be changed", hint="volar nodes set --help shows what can be")
    node = session.client.nodes.edit(name, change, dry_run=dry_run)
    if output == "json":
        print_document(to_wire(node))
    elif output == "name":
        click.echo(name)
    else:
        free = node.status.free
        click.echo(
            f"{name} {'would have' if dry_run else 'has'} {free.cpu_cores:g} cores and {free.memory_mb} MiB of memory free"
        )


def _edit(session: Session, name: str, change: Any) -> None:
    """Change a list of the node as it is now, and nothing that somebody else changed meanwhile."""
    for attempt in range(ATTEMPTS):
        node = session.client.nodes.get(name)
        try:
            session.client.nodes.edit(name, change(node), generation=node.meta.generation)
        except PreconditionFailed:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        return


def _has(node: Node, key: str, effect: str) -> bool:
    return any(one.key == key and effect in ("", one.effect) for one in node.spec.taints)


def _read_taint(text: str) -> Taint:
    words, colon, effect = text.rpartition(":")
    key, _, value = words.partition("=")
    if not colon or effect not in EFFECTS or not key:
        raise InvalidInput(f"{text[:80]!r} is no taint", field="taints", hint=f"KEY[=VALUE]:EFFECT; one of {', '.join(EFFECTS)}")
    return Taint(key=key, value=value, effect=effect)  # type: ignore[arg-type]  # it is one of them


def _write_taint(taint: Taint) -> dict[str, str]:
    return {"key": taint.key, "value": taint.value, "effect": taint.effect}
