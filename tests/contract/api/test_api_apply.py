"""Files are applied to a whole volantd on a simulated host, by the API, by the client and by volar."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from volant.cli.volar import run
from volant.client.client import Client
from volant.core.errors import FieldConflict, InvalidInput, NotFound, WrongState

from .plane import SimulatedVolantd

DEPLOYMENT = {
    "kind": "Deployment",
    "name": "shop",
    "labels": {"app": "shop"},
    "replicas": 1,
    "vm": {"plugin": "nginx", "env": {"MODE": "fast"}},
}
NETWORK = {"kind": "Network", "name": "back", "subnet": "10.77.0.0/24", "labels": {"app": "shop"}}


@dataclass
class Ran:
    """How one command ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def client(volantd: SimulatedVolantd) -> Iterator[Client]:
    client = Client(volantd.unix)
    yield client
    for kind, plural in (
        ("deployment", "deployments"),
        ("cronjob", "cronjobs"),
        ("job", "jobs"),
        ("vm", "vms"),
        ("network", "networks"),
        ("quota", "quotas"),
    ):
        for one in client.connection.get_json(f"/api/v1/{plural}")["items"]:
            if (kind, one["name"]) not in (("vm", "web"), ("network", "default")):
                client.applications.delete(plural, one["name"], wait=True)


@pytest.fixture
def volar(
    volantd: SimulatedVolantd, client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    monkeypatch.setenv("VOLANT_API", volantd.unix)

    def run_volar(*arguments: str) -> Ran:
        code = run(arguments)
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run_volar


def write(path: Path, *documents: Any) -> str:
    path.write_text("---\n".join(yaml.safe_dump(one, sort_keys=False) for one in documents))
    return str(path)


def test_what_is_applied_twice_is_changed_once(client: Client) -> None:
    first = client.applications.apply(DEPLOYMENT)
    assert (first["action"], first["changes"]) == ("created", [])
    assert first["resource"]["managers"] == {"volar": ["labels.app", "replicas", "vm.env.MODE", "vm.plugin"]}
    again = client.applications.apply(DEPLOYMENT)
    assert again["action"] == "unchanged"
    assert again["resource"]["generation"] == first["resource"]["generation"]
    more = client.applications.apply({**DEPLOYMENT, "replicas": 2})
    assert more["action"] == "changed"
    assert more["changes"] == [{"path": "replicas", "before": 1, "after": 2, "effect": "live"}]
    faster = client.applications.apply({**DEPLOYMENT, "replicas": 2, "vm": {"plugin": "nginx"}})
    assert faster["changes"] == [{"path": "vm.env.MODE", "before": "fast", "after": None, "effect": "rollout"}]
    assert client.deployments.get("shop").spec.vm.env == {}


def test_a_dry_run_writes_nothing(client: Client) -> None:
    would = client.applications.apply(DEPLOYMENT, dry_run=True)
    assert (would["action"], would["before"], would["resource"]["replicas"]) == ("created", None, 1)
    with pytest.raises(NotFound):
        client.deployments.get("shop")
    client.applications.apply(DEPLOYMENT)
    would = client.applications.apply({**DEPLOYMENT, "replicas": 3}, dry_run=True)
    assert (would["before"]["replicas"], would["resource"]["replicas"]) == (1, 3)
    assert client.deployments.get("shop").spec.replicas == 1
    # Who decides is not changed either.
    client.applications.apply(DEPLOYMENT, manager="ops", dry_run=True)
    assert set(client.deployments.get("shop").meta.managers) == {"volar"}


def test_a_change_by_hand_is_a_conflict_that_says_whose(client: Client) -> None:
    client.applications.apply(DEPLOYMENT)
    client.deployments.scale("shop", 2)
    with pytest.raises(FieldConflict, match=r"replicas is decided by api \(2, not 1\)") as refused:
        client.applications.apply(DEPLOYMENT)
    assert refused.value.fields == (("replicas", "api"),)
    without = {key: value for key, value in DEPLOYMENT.items() if key != "replicas"}
    assert client.applications.apply(without)["action"] == "unchanged"
    assert client.deployments.get("shop").spec.replicas == 2
    taken = client.applications.apply(DEPLOYMENT, force=True)
    assert taken["resource"]["replicas"] == 1
    assert "api" not in taken["resource"]["managers"]


def test_a_change_by_hand_may_be_anothers(client: Client) -> None:
    client.applications.apply(DEPLOYMENT)
    client.connection.request(
        "PATCH", "/api/v1/deployments/shop", document={"paused": True}, headers={"Volant-Manager": "night-shift"}
    )
    assert client.deployments.get("shop").meta.managers["night-shift"] == ("paused",)
    with pytest.raises(InvalidInput):
        client.connection.request(
            "PATCH", "/api/v1/deployments/shop", document={"paused": True}, headers={"Volant-Manager": "a b"}
        )


def test_nobody_applies_as_the_one_who_edits(client: Client) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.applications.apply(DEPLOYMENT, manager="api")
    assert refused.value.field == "manager"


def test_a_vm_is_applied_in_part(client: Client) -> None:
    vm = {"kind": "VM", "name": "one", "plugin": "nginx", "memory_mb": 512, "env": {"A": "1"}}
    assert client.applications.apply(vm)["action"] == "created"
    assert client.applications.standing("VM", "one", timeout_s=30)["settled"]
    changed = client.applications.apply({**vm, "env": {"A": "1", "B": "2"}})
    assert changed["changes"] == [{"path": "env.B", "before": None, "after": "2", "effect": "restart"}]
    # Somebody else's file names one field alone.
    client.applications.apply({"kind": "VM", "name": "one", "labels": {"team": "x"}}, manager="ops")
    found = client.vms.get("one")
    assert found.meta.managers["ops"] == ("labels.team",)
    assert client.applications.apply({**vm, "env": {"A": "1", "B": "2"}})["action"] == "unchanged"
    # What is left out goes back to what the plugin says.
    gone = client.applications.apply({"kind": "VM", "name": "one", "plugin": "nginx"})
    assert {change["path"] for change in gone["changes"]} == {"memory_mb", "env.A", "env.B"}
    client.vms.stop("one", wait="stopped")
    assert client.vms.get("one").meta.managers["api"] == ("power",)
    with pytest.raises(FieldConflict, match="power is decided by api"):
        client.applications.apply({"kind": "VM", "name": "one", "plugin": "nginx", "power": "running"})
    with pytest.raises(InvalidInput, match="cannot be changed") as refused:
        client.applications.apply({"kind": "VM", "name": "one", "plugin": "nginx", "network": "other"})
    assert refused.value.field == "network"


def test_what_is_printed_can_be_applied(client: Client, volar: Callable[..., Ran], tmp_path: Path) -> None:
    documents = [
        client.connection.get_json(f"/api/v1/{path}") for path in ("vms/web", "plugins/nginx", "networks/default", "nodes/here")
    ]
    client.applications.apply(DEPLOYMENT)
    documents.append(client.connection.get_json("/api/v1/deployments/shop"))
    ran = volar("apply", "-f", write(tmp_path / "all.yaml", *documents), "-o", "json")
    assert (ran.code, ran.err) == (0, "")
    assert {one["action"] for one in ran.json["items"]} == {"unchanged"}


def test_every_kind_is_applied(client: Client) -> None:
    documents: list[dict[str, Any]] = [
        {"kind": "Node", "name": "here", "labels": {"zone": "a"}, "reserved_memory_mb": 256},
        {"kind": "Quota", "name": "all", "vms": 1000},
        NETWORK,
        {"kind": "Plugin", "name": "nginx", "pool": 0},
        {"kind": "Job", "name": "once", "vm": {"plugin": "nginx"}, "suspended": True},
        {"kind": "CronJob", "name": "nightly", "schedule": "0 3 * * *", "suspended": True, "job": {"vm": {"plugin": "nginx"}}},
        DEPLOYMENT,
    ]
    for document in documents:
        assert client.applications.apply(document)["action"] in ("created", "changed"), document
        assert client.applications.apply(document)["action"] == "unchanged", document
        # Another who wants the same decides it, too; and what was filled in is nobody's.
        assert client.applications.apply(document, manager="ops")["action"] == "unchanged", document
    listed = [one["kind"] for one in client.applications.list_applied("ops")]
    assert listed == [document["kind"] for document in documents]
    assert [one["name"] for one in client.applications.list_applied("ops", {"app": "shop"})] == ["back", "shop"]
    # The last who decides it takes it away.
    assert client.applications.apply({"kind": "Node", "name": "here"})["action"] == "unchanged"
    assert client.applications.apply({"kind": "Node", "name": "here"}, manager="ops")["action"] == "changed"
    client.applications.apply({"kind": "Plugin", "name": "nginx"})
    client.applications.apply({"kind": "Plugin", "name": "nginx"}, manager="ops")


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"name": "x"}, "kind"),
        ({"kind": "Snapshot", "name": "x"}, "kind"),
        ({"kind": "VM"}, "name"),
        ({"kind": "VM", "name": "x", "plugin": "nginx", "memory": 1}, None),
        ({"kind": "VM", "name": "x", "plugin": "nginx", "memory_mb": "much"}, "memory_mb"),
        ({"kind": "Deployment", "name": "x", "vm": {"plugin": "gone"}}, "vm.plugin"),
        ({"kind": "VM", "name": "x", "api": "v9", "plugin": "nginx"}, "api"),
        ({"kind": "Plugin", "name": "gone", "pool": 1}, "manifest"),
    ],
)
def test_what_cannot_be_is_refused(client: Client, document: dict[str, Any], field: str | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.applications.apply(document)
    assert field is None or refused.value.field == field


def test_a_node_is_not_made_by_a_file(client: Client) -> None:
    with pytest.raises(NotFound, match="no node named"):
        client.applications.apply({"kind": "Node", "name": "nowhere"})


def test_a_network_keeps_its_subnet(client: Client) -> None:
    client.applications.apply(NETWORK)
    assert client.applications.apply({**NETWORK, "labels": {"app": "shop", "tier": "back"}})["action"] == "changed"
    with pytest.raises(InvalidInput, match="subnet of a network cannot be changed"):
        client.applications.apply({**NETWORK, "subnet": "10.78.0.0/24"})


def test_a_plugins_version_is_installed_from_a_document(client: Client, volantd: SimulatedVolantd) -> None:
    manifest = client.plugins.manifest("nginx")
    newer = {**manifest, "version": "9.0"}
    would = client.applications.apply({"kind": "Plugin", "name": "nginx", "manifest": newer}, dry_run=True)
    assert (would["action"], would["resource"]["version"]) == ("changed", "9.0")
    assert client.plugins.get("nginx").spec.version == manifest["version"]
    made = client.applications.apply({"kind": "Plugin", "name": "nginx", "manifest": newer})
    assert made["resource"]["version"] == "9.0"
    assert client.applications.apply({"kind": "Plugin", "name": "nginx", "manifest": newer})["action"] == "unchanged"
    back = client.applications.apply({"kind": "Plugin", "name": "nginx", "manifest": manifest})
    assert back["resource"]["version"] == manifest["version"]
    assert client.plugins.get("nginx").meta.managers["volar"] == ("manifest",)
    client.plugins.remove("nginx@9.0", wait=True)
    client.applications.apply({"kind": "Plugin", "name": "nginx"})


def test_what_is_being_deleted_is_not_applied(client: Client, volantd: SimulatedVolantd) -> None:
    client.applications.apply({"kind": "VM", "name": "one", "plugin": "nginx"})
    held = volantd.plane.vms
    client.vms.delete("one")
    try:
        client.applications.apply({"kind": "VM", "name": "one", "plugin": "nginx"})
    except WrongState as refused:
        assert "is being deleted" in refused.message
    assert held is volantd.plane.vms


def test_schemas_are_served(client: Client) -> None:
    schema = client.applications.schema("deployment")
    assert schema["title"] == "Deployment"
    assert schema["$schema"].endswith("2020-12/schema")
    with pytest.raises(NotFound):
        client.applications.schema("snapshot")


# volar


def test_volar_applies_diffs_and_deletes(volar: Callable[..., Ran], tmp_path: Path) -> None:
    file = write(tmp_path / "shop.yaml", DEPLOYMENT, NETWORK)
    ran = volar("diff", "-f", file)
    assert ran.code == 1
    assert "+++ deployment/shop (would be)" in ran.out
    ran = volar("apply", "-f", file, "--dry-run")
    assert (ran.code, ran.out) == (0, "network/back created (dry run)\ndeployment/shop created (dry run)\n")
    ran = volar("apply", "-f", file, "--wait")
    assert (ran.code, ran.out) == (0, "network/back created\ndeployment/shop created\n"), ran.err
    ran = volar("diff", "-f", file)
    assert (ran.code, ran.out) == (0, "")
    file = write(tmp_path / "shop.yaml", {**DEPLOYMENT, "replicas": 2}, NETWORK)
    ran = volar("diff", "-f", file)
    assert ran.code == 1
    assert "-replicas: 1\n+replicas: 2" in ran.out
    ran = volar("apply", "-f", file)
    assert ran.out == "network/back unchanged\ndeployment/shop changed (replicas 1 -> 2)\n"
    ran = volar("delete", "-f", file)
    assert (ran.code, ran.out) == (0, "deployment/shop deleted\nnetwork/back deleted\n")
    ran = volar("delete", "-f", file)
    assert (ran.code, ran.out) == (0, "deployment/shop is not there\nnetwork/back is not there\n")


def test_volar_prunes_what_is_no_longer_in_the_files(volar: Callable[..., Ran], client: Client, tmp_path: Path) -> None:
    both = write(tmp_path / "both.yaml", DEPLOYMENT, NETWORK)
    one = write(tmp_path / "one.yaml", DEPLOYMENT)
    client.applications.apply({**NETWORK, "name": "other", "subnet": "10.79.0.0/24"}, manager="ops")
    assert volar("apply", "-f", both, "--wait").code == 0
    # A replica goes with its deployment, whatever was applied to it.
    client.applications.apply({"kind": "VM", "name": "shop-0", "labels": {"app": "shop"}})
    ran = volar("apply", "-f", one, "--prune")
    assert (ran.code, "needs the label" in ran.err) == (2, True)
    ran = volar("apply", "-f", one, "--prune", "-l", "app=shop")
    assert (ran.code, "nobody to ask" in ran.err) == (2, True)
    ran = volar("apply", "-f", one, "--prune", "-l", "app=shop", "--dry-run")
    assert (ran.code, ran.out) == (0, "deployment/shop unchanged (dry run)\nnetwork/back pruned (dry run)\n")
    assert client.networks.get("back")
    ran = volar("apply", "-f", one, "--prune", "-l", "app=shop", "--yes")
    assert (ran.code, ran.out) == (0, "deployment/shop unchanged\nnetwork/back pruned\n")
    assert {network.name for network in client.networks.list()} == {"default", "other"}


def test_volar_says_of_which_document_an_error_is(volar: Callable[..., Ran], tmp_path: Path) -> None:
    file = tmp_path / "two.yaml"
    file.write_text(
        "kind: Network\nname: back\nsubnet: 10.77.0.0/24\n---\n"
        "kind: VM\nname: one\nplugin: nginx\nmemory_mb: 3\n---\n"
        "kind: Deployment\nname: shop\nvm:\n  plugin: nginx\n"
    )
    ran = volar("apply", "-f", str(file))
    assert ran.code == 2
    assert ran.out == "network/back created\n"
    assert f"{file}, line 8, document 2 (VM one): memory_mb: " in ran.err
    assert "1 more document not applied" in ran.err
    ran = volar("apply", "-f", str(file), "--keep-going")
    assert (ran.code, ran.out) == (2, "network/back unchanged\ndeployment/shop created\n")


def test_volar_says_whose_a_field_is(volar: Callable[..., Ran], client: Client, tmp_path: Path) -> None:
    file = write(tmp_path / "shop.yaml", DEPLOYMENT)
    assert volar("apply", "-f", file).code == 0
    client.deployments.scale("shop", 2)
    ran = volar("apply", "-f", file)
    assert ran.code == 4
    assert "replicas is decided by api (2, not 1)" in ran.err
    assert "--force-conflicts" in ran.err
    ran = volar("apply", "-f", file, "--force-conflicts")
    assert ran.out == "deployment/shop changed (replicas 2 -> 1)\n"


def test_volar_checks_all_before_it_sends_any(volar: Callable[..., Ran], client: Client, tmp_path: Path) -> None:
    file = write(tmp_path / "bad.yaml", NETWORK, {"kind": "Vm", "name": "x"}, {"kind": "VM", "name": "x", "memory": 1})
    ran = volar("apply", "-f", file)
    assert ran.code == 2
    assert "document 2 (Vm x): kind: no file holds a 'Vm'" in ran.err
    assert "hint: kind: VM" in ran.err
    assert "a VM has no field 'memory'" in ran.err
    assert [network.name for network in client.networks.list()] == ["default"]


def test_volar_waits_and_tells_what_failed(volar: Callable[..., Ran], tmp_path: Path) -> None:
    file = write(tmp_path / "one.yaml", {"kind": "VM", "name": "one", "plugin": "nginx"}, DEPLOYMENT)
    ran = volar("apply", "-f", file, "--wait", "--timeout", "60s")
    assert ran.code == 0, ran.err
    assert volar("vms", "get", "one", "-o", "jsonpath={.status.phase}").out == "Running"
