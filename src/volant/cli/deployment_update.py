"""``volar deployments update`` and ``volar deployments diff``."""

from __future__ import annotations

from typing import Any, NamedTuple

import click

from volant.cli.deployment_create import finish
from volant.cli.deployment_options import (
    changing_options,
    describing_options,
    name_argument,
    read_change,
    read_deployment_file,
)
from volant.cli.failure import FAILED
from volant.cli.output import format_option
from volant.cli.session import Ended, Session, pass_session
from volant.core.errors import InvalidInput

DIFFERS = FAILED


class _Change(NamedTuple):
    """Of the whole, or a merge patch. ``generation`` is what it was made of."""

    verb: str
    document: dict[str, Any]
    generation: int | None


_file = click.option(
    "-f", "--config", "--file", "file", metavar="FILE", help="The whole deployment as JSON, - for stdin; options win over it."
)


@click.command(
    epilog="""
    \b
    Examples:
      volar deployments update web --plugin nginx@1.3.0
      volar deployments update web --env MODE=fast --env OLD- --reason "new mode"
      volar deployments update web --strategy canary --set 'strategy.steps=[{"replicas": 1, "pause_s": 60}]'
      volar deployments update web --set autoscale.min=2 --set autoscale.max=8 --no-wait
      volar deployments get web --json | jq '.vm.memory_mb = 512' | volar deployments update web --config -
    """
)
@name_argument
@_file
@click.option("--generation", type=int, metavar="N", help="Only when the deployment is at it.")
@describing_options
@changing_options
@format_option("table", "json", "name")
@pass_session
def update(
    session: Session,
    /,
    name: str,
    file: str | None,
    generation: int | None,
    reason: str,
    dry_run: bool,
    no_wait: bool,
    timeout: float,
    output: str,
    **given: Any,
) -> None:
    """Change the deployment NAME and wait until its VMs are so. Another description of its VMs is rolled out as its strategy
    says, and is a revision that can be gone back to."""
    client = session.client
    change = _read(session, name, file, generation, given)
    if dry_run:
        from volant.cli.deployment_plan import tell_plan

        verb: Any = change.verb
        tell_plan(client.deployments.preview(verb, name, change.document, generation=change.generation), output)
        return
    if change.verb == "replace":
        changed = client.deployments.replace(name, change.document, generation=change.generation, reason=reason)
    else:
        changed = client.deployments.edit(name, change.document, generation=change.generation, reason=reason)
    finish(session, changed, f"{name} is being updated", no_wait=no_wait, timeout_s=timeout, output=output)


@click.command(
    epilog="""
    \b
    Examples:
      volar deployments diff web --memory 512
      volar deployments diff web --config web.json
      volar deployments diff web --replicas 5 --json | jq .preview

    \b
    Exit codes: 0 when nothing would change, 1 when something would.
    """
)
@name_argument
@_file
@describing_options
@format_option("table", "json")
@pass_session
def diff(session: Session, /, name: str, file: str | None, output: str, **given: Any) -> None:
    """Show what a change of the deployment NAME would make, change and remove, and change nothing."""
    from volant.cli.deployment_plan import changes_anything, tell_plan

    change = _read(session, name, file, None, given)
    verb: Any = change.verb
    plan = session.client.deployments.preview(verb, name, change.document)
    tell_plan(plan, output)
    if changes_anything(plan):
        raise Ended(DIFFERS)


def _read(session: Session, name: str, file: str | None, generation: int | None, given: dict[str, Any]) -> _Change:
    """Raises InvalidInput when there is nothing to be changed."""
    change = read_change(given)
    if file is None:
        if not change:
            raise InvalidInput("nothing is to be changed", hint="volar deployments update --help shows what can be")
        return _Change("edit", change, generation)
    from volant.core.patch import merge_patch

    document = read_deployment_file(file, name)
    if "replicas" not in document:
        # Who says nothing of it does not want one.
        document["replicas"] = session.client.deployments.get(name).spec.replicas
    return _Change("replace", merge_patch(document, change), generation)
