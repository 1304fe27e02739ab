"""``volar system queues`` and ``volar system info``."""

from __future__ import annotations

from typing import Any

import click

from volant.cli.output import format_option, format_table, print_document, print_fields, print_line_document, print_table
from volant.cli.screen import show_again
from volant.cli.session import Session, pass_session
from volant.cli.vm_wait import Duration

_HEADER = ("CONTROLLER", "WAITING", "OLDEST", "IN HAND", "PLANNED", "FAILING", "PASSES", "MEAN", "MAX", "STATE")
_KEY_HEADER = ("PROJECT", "NAME", "STATE", "FOR", "DUE IN", "WHY", "FAILURES", "ERROR")


@click.command(
    epilog="""
    \b
    Examples:
      volar system queues
      volar system queues vm
      volar system queues --watch
      volar system queues vm --json | jq '.keys[] | select(.failures > 0)'

    A controller looks at what changed. WAITING is what waits for its turn, OLDEST since when; PLANNED is to be looked at later;
    FAILING failed at its last look. MEAN and MAX are what a look takes. With CONTROLLER: each key, and why it waits.
    """
)
@click.argument("controller", required=False)
@click.option("-w", "--watch", is_flag=True, help="Show it again and again.")
@click.option("--interval", type=Duration(), default="2s", show_default=True, help="How often, with --watch.")
@click.option("--limit", type=click.IntRange(0, 10_000), default=200, show_default=True, help="So many keys at most.")
@format_option("table", "json")
@pass_session
def queues(session: Session, controller: str | None, watch: bool, interval: float, limit: int, output: str) -> None:
    """Show what waits in volantd's controllers, and why."""

    def read() -> dict[str, Any]:
        if controller is None:
            return {"items": session.client.system.queues()}
        return session.client.system.queue(controller, limit=limit)

    def draw() -> list[str]:
        found = read()
        return [*format_table(*_table(found)), *_describe_rest(found)]

    def tell() -> list[str]:
        print_line_document(read())
        return []

    if watch and output == "json":
        show_again(tell, interval)
    elif watch:
        show_again(draw, interval)
    elif output == "json":
        print_document(read())
    else:
        found = read()
        print_table(*_table(found))
        for line in _describe_rest(found):
            click.echo(line, err=True)


@click.command(epilog="\b\nExamples:\n  volar system info\n  volar system info --json")
@format_option("table", "json")
@pass_session
def info(session: Session, output: str) -> None:
    """Show volantd's version, and which node leads: it looks after what is not one node's own."""
    health, leader = session.client.system.health(), session.client.system.leader()
    if output == "json":
        print_document({"version": health["version"], "leader": leader})
        return
    said = leader["node"] or "nobody yet"
    if leader["here"]:
        said += ", this volantd"
    print_fields((("version", str(health["version"])), ("leader", said), ("leads since", leader["since"] or "-")))


def _table(found: dict[str, Any]) -> tuple[tuple[str, ...], list[list[str]]]:
    if "items" in found:
        return _HEADER, [_queue_row(queue) for queue in found["items"]]
    return _KEY_HEADER, [_key_row(key) for key in found["keys"]]


def _queue_row(queue: dict[str, Any]) -> list[str]:
    mean_s = queue["seconds"] / queue["passes"] if queue["passes"] else 0.0
    return [
        queue["name"],
        str(queue["waiting"]),
        _format_s(queue["oldest_wait_s"]) if queue["waiting"] else "-",
        str(queue["in_hand"]),
        str(queue["planned"]),
        str(queue["failing"]),
        str(queue["passes"]),
        _format_s(mean_s),
        _format_s(queue["seconds_max"]),
        _describe_state(queue),
    ]


def _describe_state(queue: dict[str, Any]) -> str:
    if not queue["running"]:
        return "not leading"
    if queue["hung"]:
        return f"{queue['hung']} hung"
    return f"{queue['limited']} held back" if queue["limited"] else "ok"


def _key_row(key: dict[str, Any]) -> list[str]:
    return [
        key["project"] or "-",
        key["name"],
        "hung" if key["hung"] else key["state"].replace("_", " "),
        _format_s(key["for_s"]),
        "-" if key["due_in_s"] is None else _format_s(key["due_in_s"]),
        key["why"],
        str(key["failures"]),
        key["error"][:100] or "-",
    ]


def _describe_rest(found: dict[str, Any]) -> list[str]:
    if "items" in found:
        return []
    lines = []
    if not found["keys"]:
        lines.append("nothing waits" if found["queue"]["running"] else "this node does not lead, so nothing waits here")
    if found["left_out"]:
        lines.append(f"and {found['left_out']} more")
    tenants = [f"{one['project'] or '-'} {one['waiting']}" for one in found["queue"]["tenants"][:10]]
    return [*lines, f"waiting by project: {', '.join(tenants)}"] if len(tenants) > 1 else lines


def _format_s(seconds: float) -> str:
    if seconds < 1:
        return f"{seconds * 1000:.1f}ms"
    return f"{seconds:.1f}s" if seconds < 120 else f"{seconds / 60:.0f}m"
