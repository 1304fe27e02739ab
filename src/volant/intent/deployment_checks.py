"""What cannot be right about a deployment, whatever else there is."""

from __future__ import annotations

from collections.abc import Iterator

from volant.core.amount import Amount, check_amount, count_amount
from volant.core.autoscale import Autoscale, Metric
from volant.core.deployment import MAX_REPLICAS, DeploymentSpec, Strategy
from volant.core.errors import InvalidInput
from volant.core.ids import NAME_MAX, check_name
from volant.core.vm import VMSpec
from volant.intent.ports import check_ports
from volant.intent.vm_checks import check_env, check_labels

LONGEST_INDEX = len("-19999")
NAME_MAX_CHARS = NAME_MAX - LONGEST_INDEX
"""So that the names of all its replicas are names of VMs."""

PATH_MAX_CHARS = 1024


def check_deployment_name(name: str) -> str:
    """Raises InvalidInput."""
    check_name(name)
    if len(name) > NAME_MAX_CHARS:
        raise InvalidInput(
            f"{name!r} is longer than {NAME_MAX_CHARS} characters",
            field="name",
            hint="the names of its VMs are this, a hyphen and a number, and have to be host names",
        )
    return name


def check_deployment(spec: DeploymentSpec, labels: dict[str, str]) -> None:
    """What can be told from the description alone. Raises InvalidInput; its field is the path, as in ``strategy.max_surge``."""
    check_labels(labels)
    _check_vm_labels(spec.vm_labels)
    _check_vm(spec.vm)
    check_ports(spec.ports)
    _check_strategy(spec.strategy, spec.replicas)
    _check_budget(spec)
    if spec.autoscale is not None:
        _check_autoscale(spec.autoscale, spec)


def _check_vm_labels(labels: dict[str, str]) -> None:
    try:
        check_labels(labels)
    except InvalidInput as error:
        raise InvalidInput(error.message, field="vm_labels", hint=error.hint) from error


def _check_vm(vm: VMSpec) -> None:
    for field, hint in _misplaced(vm):
        raise InvalidInput(f"{field} is nothing that a replica can have", field=f"vm.{field}", hint=hint)
    try:
        check_env(vm.env)
    except InvalidInput as error:
        raise InvalidInput(error.message, field="vm.env", hint=error.hint) from error


def _misplaced(vm: VMSpec) -> Iterator[tuple[str, str]]:
    if vm.ports:
        yield "ports", "use the deployment's own ports, which lead to every replica that is ready"
    if vm.power != "running":
        yield "power", "replicas run; for none of them: replicas 0"
    if vm.auto_suspend_s:
        yield "auto_suspend_s", "let the deployment sleep as a whole: autoscale with min 0"
    if vm.snapshot:
        yield "snapshot", "replicas begin alike, from their plugin's template"
    if vm.snapshot_token:
        yield "snapshot_token", "leave it out"
    if vm.restart_token:
        yield "restart_token", "volar deployments rollout restart NAME"
    if vm.force_stop:
        yield "force_stop", "leave it out"


def _check_strategy(strategy: Strategy, replicas: int) -> None:
    for field in ("max_surge", "max_unavailable"):
        amount = check_amount(getattr(strategy, field), f"strategy.{field}")
        if isinstance(amount, int) and amount > MAX_REPLICAS:
            raise InvalidInput(f"{amount} is more than the {MAX_REPLICAS} replicas that there may be", field=f"strategy.{field}")
    if strategy.promote == "manual" and strategy.type != "blue-green":
        raise InvalidInput(
            f"promote is for blue-green, and the strategy is {strategy.type}",
            field="strategy.promote",
            hint="a canary waits for somebody at each step without a pause_s",
        )
    if strategy.type != "canary":
        if strategy.steps:
            raise InvalidInput(f"steps are for a canary, and the strategy is {strategy.type}", field="strategy.steps")
        return
    if not strategy.steps:
        raise InvalidInput(
            "a canary needs steps", field="strategy.steps", hint='for example [{"replicas": "10%", "pause_s": 60}]'
        )
    before: Amount | None = None
    for index, step in enumerate(strategy.steps):
        field = f"strategy.steps[{index}].replicas"
        check_amount(step.replicas, field)
        if step.replicas in (0, "0%"):
            raise InvalidInput("a step of a canary has a replica at least", field=field)
        if before is not None and not _ascends(before, step.replicas, replicas):
            raise InvalidInput(f"{step.replicas} is not more than {before} of the step before", field=field)
        before = step.replicas


def _ascends(before: Amount, after: Amount, replicas: int) -> bool:
    if isinstance(before, str) and isinstance(after, str):
        return int(after.removesuffix("%")) > int(before.removesuffix("%"))
    if isinstance(before, int) and isinstance(after, int):
        return after > before
    return count_amount(after, replicas, up=True) >= count_amount(before, replicas, up=True)


def _check_budget(spec: DeploymentSpec) -> None:
    budget = spec.budget
    if budget.max_unavailable is not None and budget.min_available is not None:
        raise InvalidInput("a budget is max_unavailable or min_available, not both", field="budget", hint="leave one of them out")
    for field in ("max_unavailable", "min_available"):
        amount = getattr(budget, field)
        if amount is not None:
            check_amount(amount, f"budget.{field}")


def _check_autoscale(autoscale: Autoscale, spec: DeploymentSpec) -> None:
    if autoscale.min > autoscale.max:
        raise InvalidInput(f"min {autoscale.min} is more than max {autoscale.max}", field="autoscale.min")
    if not autoscale.metrics and autoscale.min > 0:
        raise InvalidInput("there is nothing to scale by", field="autoscale.metrics", hint='as [{"type": "cpu", "target": 70}]')
    if autoscale.min == 0 and not spec.ports:
        raise InvalidInput(
            "nobody could wake it: a deployment that sleeps is woken by a connection to its ports",
            field="autoscale.min",
            hint="give it ports, or min 1",
        )
    for index, metric in enumerate(autoscale.metrics):
        _check_metric(metric, f"autoscale.metrics[{index}]", has_ports=bool(spec.ports))


def _check_metric(metric: Metric, where: str, *, has_ports: bool) -> None:
    if metric.type == "workload":
        if not metric.name:
            raise InvalidInput("a metric of the workload's own needs its name", field=f"{where}.name")
        if metric.port is None:
            raise InvalidInput("a metric of the workload's own needs the port that tells it", field=f"{where}.port")
        is_path = metric.path.startswith("/") and metric.path.isprintable() and " " not in metric.path
        if not is_path or len(metric.path) > PATH_MAX_CHARS:
            raise InvalidInput(f"{metric.path[:80]!r} is no path", field=f"{where}.path", hint="as in /metrics")
        return
    for field in ("name", "labels", "port", "per_second"):
        if getattr(metric, field):
            raise InvalidInput(f"{field} is for a metric of the type workload", field=f"{where}.{field}", hint="leave it out")
    if metric.type in ("cpu", "memory") and metric.target > 100:
        raise InvalidInput(f"{metric.type} is a percentage, and {metric.target:g} is more than 100", field=f"{where}.target")
    if metric.type == "connections" and not has_ports:
        raise InvalidInput("connections are those to the deployment's ports, and it has none", field=f"{where}.type")
