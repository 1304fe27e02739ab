"""``volar deployments create``."""

from __future__ import annotations

from typing import Any

import click

from volant.cli.deployment_options import changing_options, describing_options, read_change, read_deployment_file
from volant.cli.output import format_option, print_document
from volant.cli.session import Ended, Session, pass_session
from volant.core.deployment import Deployment
from volant.core.errors import InvalidInput
from volant.core.resource import to_wire


@click.command(
    epilog="""
    \b
    Examples:
      volar deployments create web --plugin nginx --replicas 3 --publish 8080:80
      volar deployments create web --plugin nginx --replicas 4 --strategy blue-green --min-ready 5s
      volar deployments create web --plugin nginx --env MODE=fast --set budget.max_unavailable=1
      volar deployments create web --config web.json --replicas 2 --dry-run

    A file is a deployment as volar deployments get NAME --json prints it, or the config that the first Volant took.
    """
)
@click.argument("name", required=False)
@click.option("-f", "--config", "--file", "file", metavar="FILE", help="A deployment as JSON, - for stdin; options win over it.")
@describing_options
@changing_options
@format_option("table", "json", "name")
@pass_session
def create(
    session: Session,
    /,
    name: str | None,
    file: str | None,
    reason: str,
    dry_run: bool,
    no_wait: bool,
    timeout: float,
    output: str,
    **given: Any,
) -> None:
    """Create a deployment named NAME and wait until all its VMs are available, or it has failed."""
    from volant.core.patch import merge_patch

    wanted: dict[str, Any] = {"name": name} if file is None else read_deployment_file(file, name)
    wanted = merge_patch(wanted, read_change(given))
    for found, option in ((wanted.get("name"), "NAME"), (wanted.get("vm", {}).get("plugin"), "--plugin")):
        if not found:
            raise InvalidInput(f"{option} is missing", hint="volar deployments create NAME --plugin PLUGIN --replicas N")
    client = session.client
    if dry_run:
        from volant.cli.deployment_plan import tell_plan

        tell_plan(client.deployments.preview("create", str(wanted["name"]), wanted), output)
        return
    made = client.deployments.create(wanted, reason=reason)
    finish(session, made, f"{made.name} is being created", no_wait=no_wait, timeout_s=timeout, output=output)


def finish(session: Session, deployment: Deployment, begun: str, *, no_wait: bool, timeout_s: float, output: str) -> None:
    """Follow what was asked for unless that is not wanted, and tell how it went: ``begun`` when it goes on."""
    if no_wait:
        if output == "json":
            print_document(to_wire(deployment))
        else:
            click.echo(deployment.name if output == "name" else begun)
        return
    from volant.cli.deployment_follow import describe_done, follow_rollout, tell_rollout
    from volant.cli.progress import show_progress
    from volant.core.deployment_wait import describe_rollout
    from volant.core.errors import NotFound

    with show_progress(quiet=output != "table") as say:
        followed = follow_rollout(session.client, deployment, timeout_s, say)
    current = followed.deployment
    if current is None:
        raise NotFound(f"{deployment.name} was deleted in the meantime")
    if output == "json":
        print_document(to_wire(current))
    elif output == "name":
        click.echo(current.name)
    if followed.outcome in ("waiting", "paused") and output != "table":
        return
    if followed.outcome == "paused":
        # It is as was asked; that its VMs are not yet is what a pause is for.
        click.echo(f"{current.name} is paused: {describe_rollout(current)}")
        click.echo(f"  hint: volar deployments rollout resume {current.name}", err=True)
        return
    if followed.outcome != "done":
        raise Ended(tell_rollout(session.client, followed))
    if output == "table":
        click.echo(describe_done(current))
