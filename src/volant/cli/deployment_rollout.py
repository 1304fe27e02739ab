"""``volar deployments rollout``: how a deployment becomes another, and goes back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import click

from volant.cli.deployment_create import finish
from volant.cli.deployment_options import TIMEOUT, changing_options, name_argument
from volant.cli.failure import printable
from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document, print_fields, print_table
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.errors import InvalidInput, NotFound
from volant.core.resource import to_wire


@click.group(
    no_args_is_help=True,
    epilog="""
    \b
    Examples:
      volar deployments rollout status web
      volar deployments rollout history web
      volar deployments rollout undo web
      volar deployments rollout restart web
    """,
)
def rollout() -> None:
    """Follow, pause, undo and restart rollouts."""


@rollout.command(
    epilog="""
    \b
    Examples:
      volar deployments rollout status web
      volar deployments rollout status web --watch=false
      volar deployments rollout status web --json | jq .status.rollout

    \b
    Exit codes: 0 when it is complete, or goes on with --watch=false; 1 when it failed, was rolled back, is paused, or is not done
    in time; 3 when there is no such deployment.
    """
)
@name_argument
@click.option("-w", "--watch", type=bool, default=True, metavar="true|false", show_default=True, help="Follow it to its end.")
@click.option("--timeout", type=Duration(), default="30m", show_default=True, help="How long to follow it.")
@format_option("table", "json")
@pass_session
def status(session: Session, name: str, watch: bool, timeout: float, output: str) -> None:
    """Follow the rollout of the deployment NAME until it is done, and say how it went."""
    from volant.cli.deployment_follow import Followed, describe_done, follow_rollout, tell_rollout
    from volant.cli.progress import show_progress
    from volant.core.deployment_wait import describe_rollout, rollout_outcome

    deployment = session.client.deployments.get(name)
    followed = Followed(deployment, rollout_outcome(deployment))
    if watch and followed.outcome in ("", "waiting"):
        with show_progress(quiet=output != "table") as say:
            followed = follow_rollout(session.client, deployment, timeout, say, past_waiting=True)
    current = followed.deployment
    if current is None:
        raise NotFound(f"{name} was deleted in the meantime")
    outcome = followed.outcome
    if output == "json":
        print_document(to_wire(current))
    if outcome in ("", "waiting") and not watch:
        if output == "table":
            click.echo(f"{name}: {describe_rollout(current)}")
    elif outcome != "done":
        raise Ended(tell_rollout(session.client, followed))
    elif output == "table":
        click.echo(describe_done(current))


@rollout.command(
    epilog="\b\nExamples:\n  volar deployments rollout history web\n  volar deployments rollout history web --revision 2"
)
@name_argument
@click.option("--revision", "number", type=click.IntRange(min=1), metavar="N", help="All of this one.")
@format_option("table", "json")
@pass_session
def history(session: Session, name: str, number: int | None, output: str) -> None:
    """List the revisions of the deployment NAME, newest first."""
    deployments = session.client.deployments
    if number is not None:
        _print_revision(deployments.revision(name, number), output)
        return
    found = deployments.revisions(name)
    if output == "json":
        print_document({"items": found})
        return
    rows = (
        (
            f"{one['revision']}{' *' if one['target'] else ''}",
            str(one["vms"]),
            format_since(one["at"]),
            one["by"],
            one["vm"]["plugin"],
            ", ".join(one["changed"]),
            one["reason"],
        )
        for one in found
    )
    print_table(("REVISION", "VMS", "AGE", "BY", "PLUGIN", "CHANGED", "REASON"), rows)


@rollout.command(
    name="diff", epilog="\b\nExamples:\n  volar deployments rollout diff web\n  volar deployments rollout diff web 1 3 --json"
)
@name_argument
@click.argument("before", type=click.IntRange(min=1), required=False, metavar="[FROM]")
@click.argument("after", type=click.IntRange(min=1), required=False, metavar="[TO]")
@format_option("table", "json")
@pass_session
def diff(session: Session, name: str, before: int | None, after: int | None, output: str) -> None:
    """Compare two revisions of the deployment NAME: the one that it is with the one before, unless said."""
    from volant.cli.vm_change import format_difference

    known = session.client.deployments.revisions(name)
    new = next(one for one in known if one["target"]) if after is None else _find(known, after, name)
    if before is None:
        earlier = [one for one in known if one["revision"] < new["revision"]]
        old = earlier[0] if earlier else new
    else:
        old = _find(known, before, name)
    differences = _compare(old, new)
    if output == "json":
        print_document({"before": old["revision"], "after": new["revision"], "differences": differences})
        return
    click.echo(f"revision {old['revision']} -> {new['revision']}")
    if not differences:
        click.echo("  they do not differ" if old["hash"] == new["hash"] else "  only begun anew (restart)")
    for each in differences:
        click.echo(f"  {format_difference(each['path'], each['before'], each['after'])}")


@rollout.command(
    epilog="""
    \b
    Examples:
      volar deployments rollout undo web
      volar deployments rollout undo web --to 3 --reason "500s since 12:10"
      volar deployments rollout undo web --dry-run
    """
)
@name_argument
@click.option(
    "--to", "number", type=click.IntRange(min=1), metavar="N", help="The revision to go back to; the one before unless said."
)
@changing_options
@format_option("table", "json", "name")
@pass_session
def undo(
    session: Session, name: str, number: int | None, reason: str, dry_run: bool, no_wait: bool, timeout: float, output: str
) -> None:
    """Have the VMs of the deployment NAME be as they were before. That is a new revision."""
    if dry_run:
        from volant.cli.deployment_plan import tell_plan

        tell_plan(session.client.deployments.preview("undo", name, {"revision": number}), output)
        return
    undone = session.client.deployments.undo(name, number, reason=reason)
    finish(session, undone, f"{name} is going back", no_wait=no_wait, timeout_s=timeout, output=output)


@rollout.command(
    epilog="\b\nExamples:\n  volar deployments rollout restart web\n  volar deployments rollout restart web --no-wait"
)
@name_argument
@changing_options
@format_option("table", "json", "name")
@pass_session
def restart(session: Session, name: str, reason: str, dry_run: bool, no_wait: bool, timeout: float, output: str) -> None:
    """Replace the VMs of the deployment NAME by new ones of the same description, as its strategy says."""
    if dry_run:
        from volant.cli.deployment_plan import tell_plan

        tell_plan(session.client.deployments.preview("restart", name), output)
        return
    restarted = session.client.deployments.restart(name, reason=reason)
    finish(session, restarted, f"{name} is being restarted", no_wait=no_wait, timeout_s=timeout, output=output)


@rollout.command(epilog="\b\nExamples:\n  volar deployments rollout pause web")
@name_argument
@format_option("table", "json", "name")
@pass_session
def pause(session: Session, name: str, output: str) -> None:
    """Roll nothing out of the deployment NAME until it is resumed. It is healed and scaled all the same."""
    paused = session.client.deployments.pause(name)
    finish(session, paused, f"{name} is paused", no_wait=True, timeout_s=0, output=output)


@rollout.command(epilog="\b\nExamples:\n  volar deployments rollout resume web\n  volar deployments rollout resume web --watch")
@name_argument
@click.option("-w", "--watch", is_flag=True, help="Follow it until it is done.")
@click.option("--timeout", type=Duration(), default=TIMEOUT, show_default=True, help="How long to follow it.")
@format_option("table", "json", "name")
@pass_session
def resume(session: Session, name: str, watch: bool, timeout: float, output: str) -> None:
    """Go on with a rollout of the deployment NAME that is paused, or that waits for somebody: at a step of a canary, or before
    the switch of a blue-green."""
    before = session.client.deployments.get(name)
    resumed = session.client.deployments.resume(name)
    waits = resumed.meta.generation == before.meta.generation
    begun = f"{name} is neither paused nor waiting for somebody" if waits else f"{name} goes on"
    finish(session, resumed, begun, no_wait=not watch, timeout_s=timeout, output=output)


def _print_revision(found: dict[str, Any], output: str) -> None:
    if output == "json":
        print_document(found)
        return
    by = f" by {found['by']}" if found["by"] else ""
    fields = [("Revision", f"{found['revision']}{', the one that VMs are to be of' if found['target'] else ''}")]
    fields += [("Made", f"{format_since(found['at'])} ago{by}"), ("Reason", found["reason"] or "-"), ("VMs", str(found["vms"]))]
    print_fields(fields)
    for line in _flatten({"vm": found["vm"], "vm_labels": found["vm_labels"]}, ""):
        click.echo(printable(line))


def _flatten(document: dict[str, Any], prefix: str) -> Iterator[str]:
    """``vm.memory_mb = 256``: what says something, by path."""
    for field, value in document.items():
        if isinstance(value, dict):
            yield from _flatten(value, f"{prefix}{field}.")
        elif value not in (None, "", [], 0, False):
            yield f"{prefix}{field} = {value}"


def _find(known: Sequence[dict[str, Any]], number: int, name: str) -> dict[str, Any]:
    for one in known:
        if one["revision"] == number:
            return one
    raise InvalidInput(f"{name} has no revision {number}", hint=f"volar deployments rollout history {name}")


def _compare(old: dict[str, Any], new: dict[str, Any]) -> list[dict[str, Any]]:
    from volant.core.changes import compare_configs

    found = [(f"vm.{each.path}", each) for each in compare_configs(old["vm"], new["vm"])]
    found += [(each.path, each) for each in compare_configs({"vm_labels": old["vm_labels"]}, {"vm_labels": new["vm_labels"]})]
    return [{"path": path, "before": each.before, "after": each.after} for path, each in found]
