"""``volar deployments scale`` and ``volar deployments delete``."""

from __future__ import annotations

import click

from volant.cli.deployment_create import finish
from volant.cli.deployment_options import TIMEOUT, complete_deployments, name_argument
from volant.cli.failure import DONE, exit_code_of, print_volant_error
from volant.cli.output import format_option, print_document
from volant.cli.progress import show_progress
from volant.cli.session import Ended, Session, pass_session
from volant.cli.vm_wait import Duration
from volant.core.deployment import Deployment
from volant.core.errors import NotFound, TimedOut, VolantError
from volant.core.resource import to_wire


@click.command(epilog="\b\nExamples:\n  volar deployments scale web 5\n  volar deployments scale web 0 --dry-run")
@name_argument
@click.argument("replicas", type=click.IntRange(0, 10_000), metavar="N")
@click.option("--dry-run", is_flag=True, help="Say which VMs would be made and removed, and do nothing.")
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default=TIMEOUT, show_default=True, help="How long to wait.")
@format_option("table", "json", "name")
@pass_session
def scale(session: Session, name: str, replicas: int, dry_run: bool, no_wait: bool, timeout: float, output: str) -> None:
    """Have the deployment NAME consist of N VMs, and wait until they are available."""
    if dry_run:
        from volant.cli.deployment_plan import tell_plan

        tell_plan(session.client.deployments.preview("scale", name, {"replicas": replicas}), output)
        return
    scaled = session.client.deployments.scale(name, replicas)
    finish(session, scaled, f"{name} is being scaled to {replicas}", no_wait=no_wait, timeout_s=timeout, output=output)


@click.command(
    epilog="\b\nExamples:\n  volar deployments delete web\n  volar deployments delete web shop --no-wait\n"
    "  volar deployments list -o name | xargs volar deployments delete"
)
@click.argument("names", nargs=-1, required=True, metavar="NAME...", shell_complete=complete_deployments)
@click.option("--no-wait", is_flag=True, help="Return once it is written down.")
@click.option("--timeout", type=Duration(), default="5m", show_default=True, help="How long to wait for each.")
@format_option("table", "json", "name")
@pass_session
def delete(session: Session, names: tuple[str, ...], no_wait: bool, timeout: float, output: str) -> None:
    """Delete deployments with all their VMs, and what those wrote."""
    codes: dict[str, int] = {}
    deleted: list[Deployment] = []
    with show_progress(quiet=output != "table" or no_wait) as say:
        for name in dict.fromkeys(names):
            try:
                marked = session.client.deployments.delete(name)
                assert marked is not None  # it is None only when it was waited for
                deleted.append(marked)
                if not no_wait:
                    say(f"{name}: being deleted")
                    _await_end(session, marked, timeout)
            except VolantError as error:
                print_volant_error(error)
                codes[name] = exit_code_of(error)
                continue
            codes[name] = DONE
            if output == "name":
                click.echo(name)
            elif output == "table":
                click.echo(f"{name} is being deleted" if no_wait else f"{name} is deleted")
    if output == "json":
        documents = [to_wire(one) for one in deleted]
        print_document(documents[0] if len(names) == 1 and documents else {"items": documents})
    failed = [code for code in codes.values() if code != DONE]
    if failed:
        raise Ended(failed[0])


def _await_end(session: Session, deployment: Deployment, timeout_s: float) -> None:
    from volant.core.deployment_wait import describe_rollout

    last = deployment
    try:
        for current in session.client.deployments.watch(deployment.name, timeout_s=timeout_s):
            if current is None or current.uid != deployment.uid:
                return
            last = current
    except NotFound:
        return
    except TimedOut as error:
        raise TimedOut(
            f"{deployment.name} is not deleted after {timeout_s:g} s: {describe_rollout(last)}",
            hint=f"it goes on; look at it with: volar deployments get {deployment.name}",
        ) from error
