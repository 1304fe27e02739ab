"""Both clients have a method for every route, and the asynchronous one is what the synchronous one makes it."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import volant
from volant.api.app import HANDLERS
from volant.api.openapi import build_document
from volant.client import generate
from volant.client.aio import connection as aio
from volant.client.aio import websocket as aio_websocket
from volant.client.connection import Connection
from volant.client.websocket import WebSocketConnection
from volant.core.ids import Digest

DOCUMENT = build_document(HANDLERS, "0")
DIGEST = Digest("sha256:" + "0" * 64)
WANTED = {"name": "web", "plugin": "nginx"}

CALLS: dict[str, Callable[[Any], Any]] = {
    "list_queues": lambda c: c.system.queues(),
    "get_queue": lambda c: c.system.queue("vm"),
    "get_leader": lambda c: c.system.leader(),
    "list_vms": lambda c: c.vms.list(),
    "get_vm": lambda c: c.vms.get("web"),
    "create_vm": lambda c: c.vms.create(WANTED),
    "delete_vm": lambda c: c.vms.delete("web"),
    "start_vm": lambda c: c.vms.start("web"),
    "stop_vm": lambda c: c.vms.stop("web"),
    "restart_vm": lambda c: c.vms.restart("web"),
    "suspend_vm": lambda c: c.vms.suspend("web"),
    "resume_vm": lambda c: c.vms.resume("web"),
    "restore_vm": lambda c: c.vms.restore("web", "before"),
    "fork_vm": lambda c: c.vms.fork("web", ["a"]),
    "watch_vm": lambda c: c.vms.watch("web"),
    "replace_vm": lambda c: c.configurations.replace("web", WANTED),
    "edit_vm": lambda c: c.configurations.patch("web", {}),
    "get_vm_config": lambda c: c.configurations.get("web"),
    "edit_vm_config": lambda c: c.configurations.patch_config("web", {}),
    "list_vm_versions": lambda c: c.configurations.history("web"),
    "get_vm_version": lambda c: c.configurations.version("web", 1),
    "diff_vm_versions": lambda c: c.configurations.diff("web"),
    "rollback_vm": lambda c: c.configurations.rollback("web", 1),
    "read_vm_logs": lambda c: c.vms.logs("web"),
    "exec_in_vm": lambda c: c.vms.exec("web", ("true",)),
    "attach_to_vm": lambda c: c.vms.attach("web"),
    "read_vm_console": lambda c: c.vms.console("web"),
    "read_vm_files": lambda c: c.vms.read_files("web", "/etc"),
    "stat_vm_file": lambda c: c.vms.stat_file("web", "/etc"),
    "write_vm_files": lambda c: c.vms.write_files("web", "/etc", [b""]),
    "connect_to_vm_port": lambda c: c.vms.open_port("web", 80),
    "read_vm_security": lambda c: c.inspections.security("web"),
    "inspect_vm": lambda c: c.inspections.inspect("web"),
    "read_vm_stats": lambda c: c.vms.stats("web"),
    "read_stats": lambda c: c.vms.all_stats(),
    "list_vm_actions": lambda c: c.workloads.actions("web"),
    "call_vm_action": lambda c: c.workloads.action("web", "reload"),
    "call_vm_plugin_action": lambda c: c.workloads.action("web", "reload", plugin="nginx"),
    "read_vm_openapi": lambda c: c.workloads.openapi("web"),
    "list_vm_operations": lambda c: c.workloads.operations("web"),
    "list_snapshots": lambda c: c.snapshots.list(),
    "get_snapshot": lambda c: c.snapshots.get("before"),
    "create_snapshot": lambda c: c.snapshots.create("before", "web"),
    "delete_snapshot": lambda c: c.snapshots.delete("before"),
    "list_templates": lambda c: c.templates.list(),
    "build_template": lambda c: c.templates.build("nginx"),
    "prune_templates": lambda c: c.templates.prune(),
    "list_pools": lambda c: c.pools.list(),
    "set_plugin_pool": lambda c: c.pools.set("nginx", 1),
    "list_nodes": lambda c: c.nodes.list(),
    "get_node": lambda c: c.nodes.get("a"),
    "replace_node": lambda c: c.nodes.replace("a", {}),
    "edit_node": lambda c: c.nodes.edit("a", {}),
    "step_node_drain": lambda c: c.nodes.drain("a"),
    "delete_node": lambda c: c.nodes.delete("a"),
    "list_quotas": lambda c: c.quotas.list(),
    "get_quota": lambda c: c.quotas.get("lab"),
    "create_quota": lambda c: c.quotas.create({}),
    "replace_quota": lambda c: c.quotas.replace("lab", {}),
    "edit_quota": lambda c: c.quotas.edit("lab", {}),
    "delete_quota": lambda c: c.quotas.delete("lab"),
    "list_jobs": lambda c: c.jobs.list(),
    "get_job": lambda c: c.jobs.get("sum"),
    "create_job": lambda c: c.jobs.create({}),
    "replace_job": lambda c: c.jobs.replace("sum", {}),
    "edit_job": lambda c: c.jobs.edit("sum", {}),
    "delete_job": lambda c: c.jobs.delete("sum"),
    "list_cron_jobs": lambda c: c.cron_jobs.list(),
    "get_cron_job": lambda c: c.cron_jobs.get("backup"),
    "create_cron_job": lambda c: c.cron_jobs.create({}),
    "replace_cron_job": lambda c: c.cron_jobs.replace("backup", {}),
    "edit_cron_job": lambda c: c.cron_jobs.edit("backup", {}),
    "delete_cron_job": lambda c: c.cron_jobs.delete("backup"),
    "trigger_cron_job": lambda c: c.cron_jobs.trigger("backup"),
    "apply_document": lambda c: c.applications.apply({"kind": "VM", "name": "web"}),
    "list_applied": lambda c: c.applications.list_applied(),
    "get_standing": lambda c: c.applications.standing("VM", "web"),
    "get_document_schema": lambda c: c.applications.schema("VM"),
    "list_networks": lambda c: c.networks.list(),
    "get_network": lambda c: c.networks.get("lan"),
    "create_network": lambda c: c.networks.create("lan"),
    "delete_network": lambda c: c.networks.delete("lan"),
    "list_deployments": lambda c: c.deployments.list(),
    "get_deployment": lambda c: c.deployments.get("web"),
    "create_deployment": lambda c: c.deployments.create(WANTED),
    "replace_deployment": lambda c: c.deployments.replace("web", WANTED),
    "edit_deployment": lambda c: c.deployments.edit("web", {}),
    "delete_deployment": lambda c: c.deployments.delete("web"),
    "watch_deployment": lambda c: c.deployments.watch("web"),
    "scale_deployment": lambda c: c.deployments.scale("web", 3),
    "pause_deployment": lambda c: c.deployments.pause("web"),
    "resume_deployment": lambda c: c.deployments.resume("web"),
    "restart_deployment": lambda c: c.deployments.restart("web"),
    "undo_deployment": lambda c: c.deployments.undo("web"),
    "list_deployment_revisions": lambda c: c.deployments.revisions("web"),
    "get_deployment_revision": lambda c: c.deployments.revision("web", 1),
    "list_plugins": lambda c: c.plugins.list(),
    "get_plugin": lambda c: c.plugins.get("nginx"),
    "get_plugin_manifest": lambda c: c.plugins.manifest("nginx"),
    "install_plugin": lambda c: c.plugins.install({}),
    "remove_plugin": lambda c: c.plugins.remove("nginx"),
    "list_plugin_versions": lambda c: c.plugins.versions("nginx"),
    "list_plugin_artifacts": lambda c: c.plugins.artifacts("nginx"),
    "get_plugin_users": lambda c: c.plugins.users("nginx"),
    "set_plugin_default": lambda c: c.plugins.set_default("nginx", "1.0"),
    "roll_back_plugin": lambda c: c.plugins.roll_back("nginx"),
    "set_plugin_enabled": lambda c: c.plugins.set_enabled("nginx", True),
    "list_plugin_indexes": lambda c: c.plugin_indexes.list(),
    "add_plugin_index": lambda c: c.plugin_indexes.add("ours", "https://www.example.org/index.json"),
    "update_plugin_index": lambda c: c.plugin_indexes.update("ours"),
    "remove_plugin_index": lambda c: c.plugin_indexes.remove("ours"),
    "search_plugins": lambda c: c.plugin_indexes.search("nginx"),
    "resolve_plugin": lambda c: c.plugin_indexes.resolve("nginx"),
    "list_artifacts": lambda c: c.artifacts.list(),
    "delete_artifact": lambda c: c.artifacts.remove(DIGEST),
    "prune_artifacts": lambda c: c.artifacts.prune(),
    "head_artifact": lambda c: c.artifacts.size(DIGEST),
    "list_events": lambda c: c.events.list(),
    "get_health": lambda c: c.system.health(),
    "get_openapi_json": lambda c: c.system.openapi(),
    "list_checks": lambda c: c.system.checks(),
    "get_summary": lambda c: c.system.summary(),
    "drain_node": lambda c: c.system.drain(),
    "rotate_token": lambda c: c.system.rotate_token(),
    **{
        f"agent_{method.lower()}": lambda c, method=method: c.workloads.call("web", method, "/x")
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
    },
}
OTHERWISE = {
    "get_openapi",
    *(f"agent_root_{method}" for method in ("get", "head", "post", "put", "patch", "delete")),
}
"""Other addresses of what has a method: /openapi is /openapi.json, /agent is /agent/v1/."""


class Asked(BaseException):
    """What a client asked for. Not an Exception, so that nothing of it is handled."""


def _operation_of(method: str, target: str) -> str:
    path = target.partition("?")[0]
    for template, methods in DOCUMENT["paths"].items():
        pattern = re.sub(r"\\{path\\}", ".+", re.escape(template))
        if re.fullmatch(re.sub(r"\\{\w+\\}", "[^/]+", pattern), path) and method.lower() in methods:
            return str(methods[method.lower()]["operationId"])
    raise AssertionError(f"no route is {method} {target}")


@pytest.fixture
def upload(tmp_path: Path) -> Path:
    file = tmp_path / "file"
    file.write_bytes(b"x")
    return file


def _record(monkeypatch: pytest.MonkeyPatch) -> None:
    @contextmanager
    def open_(_self: object, method: str, path: str, *_: object, **__: object) -> Any:
        raise Asked(method, path)
        yield

    def connect(_self: object, _connection: object, path: str, *_: object) -> None:
        raise Asked("GET", path)

    async def ask(_self: object, method: str, path: str, *_: object, **__: object) -> None:
        raise Asked(method, path)

    async def enter(socket: Any) -> None:
        raise Asked("GET", socket._target)

    async def open_wire(_connection: object) -> Any:
        return _Wire()

    monkeypatch.setattr(Connection, "_open", open_)
    monkeypatch.setattr(Connection, "exchange", open_)
    monkeypatch.setattr(WebSocketConnection, "__init__", connect)
    monkeypatch.setattr(aio._Wire, "open", open_wire)
    monkeypatch.setattr(aio_websocket.WebSocketConnection, "__aenter__", enter)


class _Wire:
    async def ask(self, method: str, target: str, *_: object) -> None:
        raise Asked(method, target)

    def close(self) -> None:
        pass


def _run(result: Any) -> None:
    if hasattr(result, "__enter__"):
        result.__enter__()
    for _ in result:
        pass


async def _run_async(result: Any) -> None:
    if inspect.isawaitable(result):
        await result
    elif hasattr(result, "__aenter__"):
        await result.__aenter__()
    else:
        async for _ in result:
            pass


def _calls(upload: Path) -> dict[str, Callable[[Any], Any]]:
    return {**CALLS, "put_artifact": lambda c: c.artifacts.upload(DIGEST, upload)}


def test_every_route_has_a_method(monkeypatch: pytest.MonkeyPatch, upload: Path) -> None:
    _record(monkeypatch)
    client = volant.Client("unix:///nowhere")
    found = {}
    for operation, call in _calls(upload).items():
        with pytest.raises(Asked) as asked:
            _run(call(client))
        found[operation] = _operation_of(*asked.value.args)
    assert found == {operation: operation for operation in found}
    known = {operation["operationId"] for methods in DOCUMENT["paths"].values() for operation in methods.values()}
    assert known - set(found) == OTHERWISE


async def test_every_route_has_an_asynchronous_method(monkeypatch: pytest.MonkeyPatch, upload: Path) -> None:
    _record(monkeypatch)
    client = volant.AsyncClient("unix:///nowhere")
    for operation, call in _calls(upload).items():
        with pytest.raises(Asked) as asked:
            await _run_async(call(client))
        assert _operation_of(*asked.value.args) == operation


def test_the_asynchronous_client_is_fresh() -> None:
    for name in generate.kinds():
        written = (generate.HERE / "aio" / f"{name}.py").read_text(encoding="utf-8")
        assert _split(written) == _split(generate.make_twin(name)), f"make aio/{name}.py anew: python -m volant.client.generate"


def _split(source: str) -> tuple[set[str], str]:
    """What is imported, in whatever order, and the rest."""
    tree = ast.parse(source)
    imported = {
        ast.unparse(ast.ImportFrom(node.module, [alias], node.level) if isinstance(node, ast.ImportFrom) else ast.Import([alias]))
        for node in ast.walk(tree)
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [each for each in body if not isinstance(each, ast.Import | ast.ImportFrom)]  # type: ignore[attr-defined]
    return imported, ast.dump(tree)


def test_both_clients_have_the_same_methods() -> None:
    client, asynchronous = volant.Client("unix:///nowhere"), volant.AsyncClient("unix:///nowhere")
    for kind in (name for name in vars(volant.Client) if not name.startswith("_")):
        ours, theirs = getattr(client, kind), getattr(asynchronous, kind)
        names = [name for name, _ in inspect.getmembers(type(ours), inspect.isfunction) if not name.startswith("_")]
        assert names, kind
        for name in names:
            before = inspect.signature(getattr(ours, name)).parameters
            assert before.keys() == inspect.signature(getattr(theirs, name)).parameters.keys(), (kind, name)
