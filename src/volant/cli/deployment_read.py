"""``volar deployments list`` and ``volar deployments get``."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from volant.cli.deployment_options import name_argument
from volant.cli.measure import format_since
from volant.cli.output import format_option, print_document, print_fields, print_resources, print_table
from volant.cli.session import Session, complete_plugins, pass_session
from volant.core.deployment import REVISION_LABEL, Deployment
from volant.core.resource import to_wire
from volant.core.vm import VM

PAGE = 500
SORTS = ("name", "created_at", "phase", "plugin", "replicas", "available")


@click.command(
    name="list",
    epilog="""
    \b
    Examples:
      volar deployments list
      volar deployments list -l app=shop --phase Degraded -o wide
      volar deployments list --json | jq -r '.items[] | select(.status.available < .status.wanted) | .name'
    """,
)
@click.option("-l", "--selector", "--label", "selector", multiple=True, metavar="SELECTOR", help="Only those that it selects.")
@click.option("--phase", metavar="PHASE", help="Only those in it; several with commas.")
@click.option("--plugin", metavar="PLUGIN", help="Only those of it.", shell_complete=complete_plugins)
@click.option("-q", "--search", "q", metavar="TEXT", help="Only those with it in the name, the plugin or a label.")
@click.option("--sort-by", "sort", type=click.Choice(SORTS), help="By what; by name unless said.")
@click.option("--desc", is_flag=True, help="The other way round.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="Only the first so many.")
@format_option()
@pass_session
def list_(
    session: Session, /, selector: tuple[str, ...], desc: bool, limit: int | None, output: str, **filters: str | None
) -> None:
    """List deployments."""
    found: list[Deployment] = []
    cursor: str | None = None
    asked = {**filters, "order": "desc" if desc else None}
    while True:
        size = PAGE if limit is None else min(PAGE, limit - len(found))
        page, cursor, total = session.client.deployments.list_page(",".join(selector), {**asked, "limit": size}, cursor)
        found += page
        if cursor is None or len(found) == limit:
            break
    chosen = bool(selector) or any(filters[name] for name in ("phase", "plugin", "q"))
    make_one = "there are no deployments; make one: volar deployments create NAME --plugin PLUGIN --replicas N"
    if total > len(found) and output in ("table", "wide"):
        click.echo(f"{len(found)} of {total}; the rest with a higher --limit", err=True)
    nothing = "there are no such deployments" if chosen else make_one
    print_resources(found, output, lambda wide: _tabulate(found, wide), nothing)


@click.command(
    epilog="""
    \b
    Examples:
      volar deployments get web
      volar deployments get web --json > web.json
    """
)
@name_argument
@format_option()
@pass_session
def get(session: Session, name: str, output: str) -> None:
    """Show the deployment NAME: where its rollout stands, and each of its VMs."""
    deployment = session.client.deployments.get(name)
    if output == "json":
        print_document(to_wire(deployment))
        return
    if output == "name":
        click.echo(deployment.name)
        return
    from volant.cli.deployment_follow import list_replicas

    replicas = list_replicas(session.client, deployment)
    print_fields(_describe(deployment, replicas, output == "wide"))
    if replicas:
        click.echo()
        print_table(
            ("VM", "REVISION", "PHASE", "READY", "NODE", "RESTARTS", "AGE", "MESSAGE"), (_row(deployment, vm) for vm in replicas)
        )


def _tabulate(found: Sequence[Deployment], wide: bool) -> tuple[Sequence[str], Iterable[Sequence[str]]]:
    header = ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "WANTED", "REVISION", "PHASE", "AGE"]
    if wide:
        header += ["PLUGIN", "STRATEGY", "PORTS", "MESSAGE"]
    return header, (_line(one, wide) for one in found)


def _line(deployment: Deployment, wide: bool) -> list[str]:
    spec, status = deployment.spec, deployment.status
    line = [
        deployment.name,
        f"{status.ready}/{status.wanted}",
        str(status.updated),
        str(status.available),
        str(status.wanted),
        str(spec.target),
        "Deleting" if deployment.deleting else status.phase,
        format_since(deployment.meta.created_at),
    ]
    if wide:
        ports = ",".join(f"{port.host_port}:{port.port}" for port in spec.ports)
        line += [spec.vm.plugin, spec.strategy.type, ports or "-", status.rollout.message or status.message or "-"]
    return line


def _row(deployment: Deployment, vm: VM) -> list[str]:
    revision = vm.meta.labels.get(REVISION_LABEL, "-")
    message = ": ".join(part for part in (vm.status.reason, vm.status.message) if part)
    if vm.uid in deployment.status.disrupted:
        message = f"stopped on purpose; {message}".removesuffix("; ")
    return [
        vm.name,
        revision if revision == str(deployment.spec.target) else f"{revision} (old)",
        "Deleting" if vm.deleting else vm.status.phase,
        "yes" if vm.status.ready else "no",
        vm.status.node or "-",
        str(vm.status.restarts),
        format_since(vm.meta.created_at),
        message or "-",
    ]


def _describe(deployment: Deployment, replicas: Sequence[VM], wide: bool) -> Iterable[tuple[str, str]]:
    from volant.core.deployment_wait import describe_rollout

    spec, status = deployment.spec, deployment.status
    yield "Name", deployment.name
    yield "Phase", ("Deleting" if deployment.deleting else status.phase) + (f": {status.message}" if status.message else "")
    yield "Replicas", f"{status.ready} ready, {status.available} available, {status.updated} updated of {status.wanted} wanted"
    yield "Rollout", f"{status.rollout.phase}, revision {spec.target}: {describe_rollout(deployment)}"
    yield "Strategy", _describe_strategy(deployment)
    yield "Plugin", spec.vm.plugin
    if spec.ports:
        yield "Ports", ", ".join(f"{port.host_port} of the host to {port.port}" for port in spec.ports)
    if status.serving:
        yield "Serving", f"revision {status.serving}"
    yield "Disruption", _describe_budget(deployment, replicas)
    yield from _describe_autoscale(deployment)
    if deployment.meta.labels:
        yield "Labels", ", ".join(f"{key}={value}" for key, value in sorted(deployment.meta.labels.items()))
    yield "Created", f"{format_since(deployment.meta.created_at)} ago"
    if wide:
        yield "Uid", deployment.uid
        yield "Generation", f"{deployment.meta.generation} (seen: {status.observed_generation})"
    for condition in status.conditions:
        told = f" {condition.reason}" if condition.reason else ""
        yield condition.type, condition.status + told + (f": {condition.message}" if condition.message else "")


def _describe_strategy(deployment: Deployment) -> str:
    spec, strategy = deployment.spec, deployment.spec.strategy
    words: list[str] = [strategy.type]
    if strategy.type in ("rolling", "canary"):
        words.append(f"at most {strategy.max_surge} more and {strategy.max_unavailable} missing")
    if strategy.type == "blue-green":
        words.append(f"switched {'by somebody' if strategy.promote == 'manual' else 'by itself'}")
        words.append(f"the old VMs stay {strategy.keep_old_s} s")
    if strategy.type == "canary":
        words.append("steps " + ", ".join(str(step.replicas) for step in strategy.steps))
    if spec.min_ready_s:
        words.append(f"ready for {spec.min_ready_s} s")
    words.append("goes back by itself" if spec.auto_rollback else "stays when it fails")
    return ", ".join(words)


def _describe_budget(deployment: Deployment, replicas: Sequence[VM]) -> str:
    from datetime import UTC, datetime

    from volant.core.deployment import wanted_replicas
    from volant.core.disruption import allowed_disruptions, describe_budget, is_available

    spec = deployment.spec
    now = datetime.now(UTC)
    stopped = deployment.status.disrupted
    available = sum(is_available(vm, spec.min_ready_s, now) and vm.uid not in stopped for vm in replicas)
    allowed = allowed_disruptions(spec.budget, wanted_replicas(deployment), available)
    if allowed is None:
        return "no limit"
    return f"{allowed} more may be stopped on purpose now: {describe_budget(spec.budget)}"


def _describe_autoscale(deployment: Deployment) -> Iterable[tuple[str, str]]:
    autoscale, status = deployment.spec.autoscale, deployment.status.autoscale
    if autoscale is None:
        return
    said = "nothing yet" if status.replicas is None else f"{status.replicas} now"
    yield "Autoscale", f"{autoscale.min} to {autoscale.max}, {said}" + (f": {status.message}" if status.message else "")
    for reading in status.readings:
        value = "unknown" if reading.value is None else f"{reading.value:g}"
        why = f" ({reading.message})" if reading.message else ""
        yield "", f"{reading.name or reading.type} is {value} of {reading.target:g}{why}"
