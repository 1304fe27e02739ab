"""What a change of a deployment would do, as people read it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import click

from volant.cli.output import print_document
from volant.cli.vm_change import format_difference

_SHOWN = 20


def tell_plan(plan: dict[str, Any], output: str) -> None:
    """Print the answer of a dry run."""
    if output == "json":
        print_document(plan)
        return
    if output == "name":
        click.echo(plan["resource"]["name"])
        return
    print_plan(plan)


def print_plan(plan: dict[str, Any]) -> None:
    name, preview = plan["resource"]["name"], plan["preview"]
    if not changes_anything(plan):
        click.echo(f"{name} would be as it is")
        return
    click.echo(f"{name} would change")
    for each in plan["differences"]:
        click.echo(f"  {format_difference(each['path'], each['before'], each['after'])}")
    for field, sign, words in (
        ("created", "+", "made"),
        ("replaced", "~", "replaced"),
        ("removed", "-", "removed"),
        ("passing", "±", "made on the way, and removed at the end"),
    ):
        if preview[field]:
            click.echo(f"  {sign} {_count(preview[field])} {words}: {_name_some(preview[field])}")
    if preview["kept"]:
        click.echo(f"    {_count(preview['kept'])} kept: {_name_some(preview['kept'])}")
    if plan["taken"]:
        click.echo(f"  {_name_some(plan['taken'])} would not be made: the name is another VM's", err=True)
    resource = plan["resource"]
    if resource.get("paused") and any(each["effect"] == "replace" for each in plan["differences"]):
        click.echo(f"  it is paused: VMs are replaced after volar deployments rollout resume {name}", err=True)


def changes_anything(plan: dict[str, Any]) -> bool:
    preview = plan["preview"]
    return bool(plan["differences"]) or any(preview[field] for field in ("created", "replaced", "removed"))


def _count(names: Sequence[str]) -> str:
    return "1 VM" if len(names) == 1 else f"{len(names)} VMs"


def _name_some(names: Sequence[str]) -> str:
    shown = ", ".join(names[:_SHOWN])
    return shown + (f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else "")
