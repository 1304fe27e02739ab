"""Deployments as people see them: the API, both clients and the commands, on the whole of volantd with simulated guests."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

import volant
from volant.cli.volar import run
from volant.client.client import Client
from volant.core.deployment import DEPLOYMENT_LABEL, Deployment
from volant.core.errors import AlreadyExists, InvalidInput, NotFound, PreconditionFailed, WrongState

from .plane import SimulatedVolantd

LIMIT_S = 60.0


@pytest.fixture
def client(volantd: SimulatedVolantd) -> Iterator[Client]:
    """Leaves no deployment behind."""
    client = Client(volantd.unix)
    yield client
    for one in client.deployments.list():
        client.deployments.delete(one.name, wait=True, timeout_s=LIMIT_S)


def make(client: Client, name: str = "shop", **changes: Any) -> Deployment:
    wanted = {"name": name, "replicas": 2, "vm": {"plugin": "nginx"}, **changes}
    return client.deployments.create(wanted, wait="complete", timeout_s=LIMIT_S)


def names_of(client: Client, name: str = "shop") -> list[str]:
    return [vm.name for vm in client.vms.list({DEPLOYMENT_LABEL: name})]


def test_one_lives(client: Client) -> None:
    made = make(client)
    assert (made.status.available, made.status.rollout.phase, made.spec.target) == (2, "Complete", 1)
    assert names_of(client) == ["shop-0", "shop-1"]
    scaled = client.deployments.scale("shop", 3, wait="complete", timeout_s=LIMIT_S)
    assert (scaled.status.available, names_of(client)) == (3, ["shop-0", "shop-1", "shop-2"])
    before = {vm.name: vm.uid for vm in client.vms.list({DEPLOYMENT_LABEL: "shop"})}
    changed = client.deployments.edit("shop", {"vm": {"memory_mb": 192}}, wait="complete", timeout_s=LIMIT_S, reason="more")
    after = {vm.name: (vm.uid, vm.spec.memory_mb) for vm in client.vms.list({DEPLOYMENT_LABEL: "shop"})}
    assert changed.spec.target == 2 and after.keys() == before.keys()
    assert all(memory == 192 and uid != before[name] for name, (uid, memory) in after.items())
    newest, first = client.deployments.revisions("shop")
    assert (newest["reason"], newest["vms"], newest["target"], newest["changed"]) == ("more", 3, True, ["vm.memory_mb"])
    assert first["vms"] == 0 and client.deployments.revision("shop", 1)["vm"]["plugin"].startswith("nginx@")
    undone = client.deployments.undo("shop", wait="complete", timeout_s=LIMIT_S)
    assert undone.spec.target == 3 and {vm.spec.memory_mb for vm in client.vms.list({DEPLOYMENT_LABEL: "shop"})} != {192}
    assert client.deployments.delete("shop", wait=True, timeout_s=LIMIT_S) is None
    assert names_of(client) == []
    with pytest.raises(NotFound):
        client.deployments.get("shop")


def test_the_originals_documents_are_taken(client: Client) -> None:
    config = {"plugin": "nginx", "runtime": "nginx", "resources": {"cpu_cores": 1, "memory_mb": 160}, "metadata": {"a": "b"}}
    made = client.deployments.create({"name": "old", "replicas": 1, "config": config}, wait="complete", timeout_s=LIMIT_S)
    assert (made.spec.replicas, made.spec.vm.memory_mb, made.spec.vm_labels) == (1, 160, {"a": "b"})
    assert client.deployments.edit("old", {"replicas": 2}).spec.replicas == 2
    with pytest.raises(InvalidInput) as refused:
        client.deployments.create({"name": "old2", "replicas": 1, "config": {**config, "manifest": {"name": "x"}}})
    assert refused.value.field == "config.manifest"


def test_plans_say_and_do_nothing(client: Client) -> None:
    plan = client.deployments.preview("create", "shop", {"name": "shop", "replicas": 2, "vm": {"plugin": "nginx"}})
    assert plan["preview"]["created"] == ["shop-0", "shop-1"] and plan["resource"]["kind"] == "Deployment"
    made = make(client)
    assert client.deployments.preview("scale", "shop", {"replicas": 1})["preview"]["removed"] == ["shop-1"]
    plan = client.deployments.preview("edit", "shop", {"vm": {"memory_mb": 192}})
    assert plan["preview"]["replaced"] == ["shop-0", "shop-1"]
    assert [one["path"] for one in plan["differences"]] == ["vm.memory_mb"]
    assert client.deployments.preview("restart", "shop")["preview"]["replaced"] == ["shop-0", "shop-1"]
    assert client.deployments.get("shop").meta.generation == made.meta.generation


def test_preconditions_and_conflicts(client: Client) -> None:
    made = make(client)
    with pytest.raises(AlreadyExists):
        make(client)
    client.deployments.scale("shop", 1, generation=made.meta.generation)
    for write in (
        lambda: client.deployments.scale("shop", 2, generation=made.meta.generation),
        lambda: client.deployments.edit("shop", {"paused": True}, generation=made.meta.generation),
        lambda: client.deployments.restart("shop", generation=made.meta.generation),
        lambda: client.deployments.delete("shop", generation=made.meta.generation),
    ):
        with pytest.raises(PreconditionFailed):
            write()
    with pytest.raises(WrongState):
        client.deployments.undo("shop")


def test_what_cannot_be_changed_names_its_verb(client: Client) -> None:
    make(client)
    with pytest.raises(InvalidInput) as refused:
        client.deployments.edit("shop", {"target": 7})
    assert refused.value.field == "target" and "rollout undo" in str(refused.value.hint)


def test_a_watch_tells_every_state_and_the_end(client: Client) -> None:
    client.deployments.create({"name": "shop", "replicas": 1, "vm": {"plugin": "nginx"}})
    seen: list[str] = []
    for state in client.deployments.watch("shop", timeout_s=LIMIT_S):
        if state is None:
            break
        seen.append(state.status.phase)
        if state.status.phase == "Available" and not state.deleting:
            client.deployments.delete("shop")
    else:
        raise AssertionError("the stream ended before it was gone")
    assert seen[0] == "Pending" and "Available" in seen
    changes = client.deployments.watch_all(timeout_s=LIMIT_S)
    assert next(changes).type == "synced"


def test_a_list_is_filtered_and_paged(client: Client) -> None:
    for name in ("a", "b", "c"):
        client.deployments.create({"name": name, "replicas": 0, "vm": {"plugin": "nginx"}, "labels": {"n": name}})
    assert [one.name for one in client.deployments.list("n in (a,c)", sort="name", order="desc")] == ["c", "a"]
    page, cursor, total = client.deployments.list_page(filters={"limit": 2})
    assert ([one.name for one in page], total) == (["a", "b"], 3) and cursor
    assert [one.name for one in client.deployments.list_page(filters={"limit": 2}, cursor=cursor)[0]] == ["c"]


async def test_the_asynchronous_client_does_the_same(volantd: SimulatedVolantd, client: Client) -> None:
    talking = volant.AsyncClient(volantd.unix)
    made = await talking.deployments.create(
        {"name": "shop", "replicas": 1, "vm": {"plugin": "nginx"}}, wait="complete", timeout_s=LIMIT_S
    )
    assert made.status.available == 1
    assert (await talking.deployments.preview("scale", "shop", {"replicas": 0}))["preview"]["removed"] == ["shop-0"]
    assert await talking.deployments.delete("shop", wait=True, timeout_s=LIMIT_S) is None


def test_a_body_that_is_no_patch_is_refused(volantd: SimulatedVolantd, client: Client) -> None:
    make(client, replicas=0)
    for content, media_type, status in (
        ("[]", "application/merge-patch+json", 422),
        ("{", "application/json", 400),
        ("{}", "text/plain", 415),
        ("{}", "application/json-patch+json", 415),
    ):
        connection = http.client.HTTPConnection(volantd.url.removeprefix("http://"))
        headers = {"Content-Type": media_type, "Authorization": f"Bearer {volantd.token}"}
        connection.request("PATCH", "/api/v1/deployments/shop", content, headers)
        assert connection.getresponse().status == status, content
        connection.close()


class Ran(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture
def volar(
    volantd: SimulatedVolantd, client: Client, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    monkeypatch.setenv("VOLANT_API", volantd.unix)

    def run_volar(*arguments: str) -> Ran:
        code = run(("deployments", *arguments))
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    return run_volar


def test_the_commands_from_its_making_to_its_end(volar: Callable[..., Ran], tmp_path: Any) -> None:
    dry = volar("create", "shop", "-p", "nginx", "-r", "2", "--dry-run")
    assert dry.code == 0 and "+ 2 VMs made: shop-0, shop-1" in dry.out
    made = volar("create", "shop", "-p", "nginx", "-r", "2", "--vm-label", "tier=web", "--max-surge", "1", "--timeout", "60s")
    assert (made.code, made.out) == (0, "shop is complete: 2 of 2 available, revision 1\n"), made.err
    listed = volar("list")
    header, line = listed.out.splitlines()
    assert header.split() == ["NAME", "READY", "UP-TO-DATE", "AVAILABLE", "WANTED", "REVISION", "PHASE", "AGE"]
    assert line.split()[:7] == ["shop", "2/2", "2", "2", "2", "1", "Available"]
    shown = volar("get", "shop")
    assert shown.code == 0 and "shop-0" in shown.out and "no limit" in shown.out and "rolling, at most 1 more" in shown.out
    assert volar("diff", "shop", "--replicas", "2").code == 0
    diff = volar("diff", "shop", "--memory", "192")
    assert diff.code == 1 and "~ 2 VMs replaced: shop-0, shop-1" in diff.out and "vm.memory_mb" in diff.out
    updated = volar("update", "shop", "--memory", "192", "--reason", "more", "--timeout", "60s")
    assert (updated.code, updated.out) == (0, "shop is complete: 2 of 2 available, revision 2\n"), updated.err
    history = volar("rollout", "history", "shop")
    assert history.out.splitlines()[1].split()[:2] == ["2", "*"] and "more" in history.out
    assert "vm.memory_mb = 192" in volar("rollout", "history", "shop", "--revision", "2").out
    assert "vm.memory_mb: " in volar("rollout", "diff", "shop").out
    assert volar("rollout", "status", "shop").out == "shop is complete: 2 of 2 available, revision 2\n"
    assert volar("rollout", "undo", "shop", "--timeout", "60s").out == "shop is complete: 2 of 2 available, revision 3\n"
    assert volar("rollout", "restart", "shop", "--timeout", "60s").out == "shop is complete: 2 of 2 available, revision 4\n"
    scaled = volar("scale", "shop", "1", "--timeout", "60s")
    assert scaled.out == "shop is complete: 1 of 1 available, revision 4\n"
    whole = tmp_path / "shop.json"
    whole.write_text(volar("get", "shop", "--json").out)
    assert volar("diff", "shop", "--config", str(whole)).out == "shop would be as it is\n"
    assert volar("delete", "shop").out == "shop is deleted\n"
    assert volar("get", "shop").code == 3


def test_a_pause_is_told_and_ended(volar: Callable[..., Ran], client: Client) -> None:
    make(client)
    assert volar("rollout", "pause", "shop").out == "shop is paused\n"
    updated = volar("update", "shop", "--env", "A=1", "--timeout", "60s")
    assert updated.code == 0 and "shop is paused" in updated.out and "rollout resume shop" in updated.err
    status = volar("rollout", "status", "shop", "--timeout", "60s")
    assert status.code == 1 and "shop is paused" in status.err
    assert volar("rollout", "restart", "shop").code == 4
    resumed = volar("rollout", "resume", "shop", "--watch", "--timeout", "60s")
    assert (resumed.code, resumed.out) == (0, "shop is complete: 2 of 2 available, revision 2\n"), resumed.err
    assert "neither paused nor waiting" in volar("rollout", "resume", "shop").out


def test_a_canary_waits_for_somebody(volar: Callable[..., Ran], client: Client) -> None:
    make(client, strategy={"type": "canary", "steps": [{"replicas": 1}]})
    asked = volar("update", "shop", "--env", "A=1", "--timeout", "60s")
    assert asked.code == 0 and asked.out.startswith("shop waits for you: 1 of 2 updated") and "rollout resume" in asked.err
    looked = volar("rollout", "status", "shop", "--watch=false")
    assert looked.code == 0 and looked.out.startswith("shop: 1 of 2 updated")
    assert volar("rollout", "resume", "shop", "--watch", "--timeout", "60s").code == 0
    assert client.deployments.get("shop").status.rollout.phase == "Complete"


def test_bad_input_ends_with_2_and_changes_nothing(volar: Callable[..., Ran], client: Client, tmp_path: Any) -> None:
    for arguments in (
        ("create", "shop"),
        ("create", "Shop", "-p", "nginx"),
        ("create", "shop", "-p", "nothing"),
        ("create", "shop", "-p", "nginx", "--max-surge", "many"),
        ("create", "shop", "-p", "nginx", "--set", "strategy"),
        ("create", "shop", "-p", "nginx", "--set", "nothing=1"),
        ("create", "shop", "-p", "nginx", "--publish", "80"),
        ("create", "shop", "-p", "nginx", "--config", str(tmp_path / "none.json")),
    ):
        ran = volar(*arguments)
        assert ran.code == 2 and ran.err.startswith("volar: ") and not ran.out, arguments
    assert client.deployments.list() == []
    make(client)
    assert volar("update", "shop").code == 2
    assert volar("update", "nobody", "--memory", "192").code == 3
    assert volar("scale", "shop", "-1").code == 2


def test_an_originals_config_file_is_taken(volar: Callable[..., Ran], client: Client, tmp_path: Any) -> None:
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"plugin": "nginx", "resources": {"memory_mb": 160, "cpu_cores": 1}, "env": {"A": "1"}}))
    made = volar("create", "old", "--config", str(file), "--replicas", "1", "--timeout", "60s")
    assert made.code == 0, made.err
    found = client.deployments.get("old")
    assert (found.spec.replicas, found.spec.vm.memory_mb, found.spec.vm.env) == (1, 160, {"A": "1"})
    file.write_text(json.dumps({"plugin": "nginx", "resources": {"memory_mb": 224}}))
    assert volar("update", "old", "--config", str(file), "--no-wait").code == 0
    assert (client.deployments.get("old").spec.replicas, client.deployments.get("old").spec.vm.memory_mb) == (1, 224)
