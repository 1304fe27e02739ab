"""Nodes and quotas through the API, as both clients and the command line see them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import volant
from volant.cli.volar import run
from volant.core.errors import (
    AlreadyExists,
    InvalidInput,
    NotFound,
    PreconditionFailed,
    QuotaExceeded,
    WrongMediaType,
    WrongState,
)

from .plane import SimulatedVolantd


@pytest.fixture
def client(volantd: SimulatedVolantd) -> Iterator[volant.Client]:
    made = volant.Client(volantd.unix)
    yield made
    made.nodes.replace("here", {"name": "here"})
    for quota in made.quotas.list():
        made.quotas.delete(quota.name)


def test_a_node_is_read_with_what_is_given_out(client: volant.Client) -> None:
    node = client.nodes.get("here")
    assert [one.name for one in client.nodes.list()] == ["here"]
    assert node.status.given.vms >= 1 and node.status.given.memory_mb >= 32
    assert node.status.free.memory_mb > 1_000_000
    assert client.nodes.list("zone=a") == [] and client.nodes.list(state="lost,deleting") == []
    assert [one.name for one in client.nodes.list(state="ready")] == ["here"]
    page, following, total = client.nodes.list_page(filters={"limit": 1, "sort": "memory_mb", "order": "desc"})
    assert (len(page), following, total) == (1, None, 1)
    with pytest.raises(NotFound):
        client.nodes.get("nowhere")


def test_what_is_decided_of_a_node_is_changed_in_part_and_as_a_whole(client: volant.Client) -> None:
    before = client.nodes.get("here")
    planned = client.nodes.edit("here", {"cpu_overcommit": 2}, dry_run=True)
    assert planned.spec.cpu_overcommit == 2 and client.nodes.get("here").spec == before.spec
    changed = client.nodes.edit("here", {"labels": {"zone": "a"}, "taints": [{"key": "gpu"}]}, generation=before.meta.generation)
    assert changed.meta.labels == {"zone": "a"} and changed.spec.taints[0].effect == "NoSchedule"
    assert changed.meta.generation == before.meta.generation + 1
    with pytest.raises(PreconditionFailed):
        client.nodes.edit("here", {"unschedulable": True}, generation=before.meta.generation)
    whole = client.nodes.replace("here", {"name": "here", "reserved_memory_mb": 1024})
    assert whole.meta.labels == {} and whole.spec.taints == () and whole.spec.reserved_memory_mb == 1024
    assert client.nodes.edit("here", {"reserved_memory_mb": None}).spec.reserved_memory_mb == 512


@pytest.mark.parametrize(
    "change",
    [
        {"cpu_overcommit": 0},
        {"reserved_memory_mb": -1},
        {"labels": {"volant.x": "1"}},
        {"taints": [{"key": ""}]},
        {"taints": [{"key": "a:b"}]},
        {"taints": [{"key": "a"}, {"key": "a"}]},
        {"taints": [{"key": "a", "effect": "Maybe"}]},
        {"name": "other"},
        {"colour": "red"},
        {"colour": None},
    ],
)
def test_what_a_node_cannot_be_is_refused_and_nothing_is_changed(client: volant.Client, change: dict[str, Any]) -> None:
    before = client.nodes.get("here")
    with pytest.raises(InvalidInput):
        client.nodes.edit("here", change)
    assert client.nodes.get("here").spec == before.spec


def test_a_patch_is_an_object_of_its_kind(client: volant.Client) -> None:
    path = "/api/v1/nodes/here"
    with pytest.raises(InvalidInput):
        client.connection.request("PATCH", path, document=[], headers={"Content-Type": "application/merge-patch+json"})
    with pytest.raises(WrongMediaType):
        client.connection.request("PATCH", path, document={}, headers={"Content-Type": "application/json-patch+json"})


def test_a_job_that_has_ended_keeps_no_drain_waiting(client: volant.Client) -> None:
    job = client.jobs.create({"name": "over", "vm": {"plugin": "nginx", "command": ["true"]}}, wait=True, timeout_s=30)
    assert job.status.phase == "Succeeded"
    assert [one.vm for one in client.nodes.drain("here").blocked] == ["web"]
    client.jobs.delete("over", wait=True, timeout_s=30)


def test_a_drain_takes_steps_and_a_living_node_stays(client: volant.Client) -> None:
    step = client.nodes.drain("here")
    assert not step.is_done and [one.vm for one in step.blocked] == ["web"]
    assert client.nodes.get("here").spec.unschedulable
    with pytest.raises(WrongState):
        client.nodes.delete("here")
    with pytest.raises(NotFound):
        client.nodes.drain("nowhere")


def test_a_quota_is_made_changed_and_removed(client: volant.Client) -> None:
    assert client.quotas.create({"name": "dry", "vms": 5}, dry_run=True).spec.vms == 5
    assert client.quotas.list() == []
    made = client.quotas.create({"name": "lab", "vms": 1, "labels": {"team": "a"}})
    assert (made.status.vms, made.spec.memory_mb) == (1, None)
    with pytest.raises(AlreadyExists):
        client.quotas.create({"name": "lab", "vms": 1})
    with pytest.raises(InvalidInput):
        client.quotas.create({"name": "all"})
    with pytest.raises(QuotaExceeded) as refused:
        client.vms.create({"name": "second", "plugin": "nginx"})
    assert "allows 1, of which 1 are used" in refused.value.message
    with pytest.raises(QuotaExceeded):
        client.vms.create({"name": "second", "plugin": "nginx"}, dry_run=True)
    assert client.quotas.edit("lab", {"vms": None, "jobs": 3}).spec.vms is None
    client.vms.create({"name": "second", "plugin": "nginx", "power": "stopped"})
    assert client.quotas.get("lab").status.vms == 2
    client.vms.delete("second", wait=True)
    assert client.quotas.get("lab").status.vms == 1
    with pytest.raises(InvalidInput):
        client.quotas.edit("lab", {"jobs": None})
    assert client.quotas.replace("lab", {"name": "lab", "cpu_cores": 8}).spec.jobs is None
    with pytest.raises(PreconditionFailed):
        client.quotas.delete("lab", generation=1)
    client.quotas.delete("lab")
    with pytest.raises(NotFound):
        client.quotas.get("lab")


async def test_the_asynchronous_client_does_the_same(volantd: SimulatedVolantd, client: volant.Client) -> None:
    asynchronous = volant.AsyncClient(volantd.unix)
    assert (await asynchronous.nodes.get("here")).name == "here"
    assert (await asynchronous.quotas.create({"name": "lab", "vms": 9})).spec.vms == 9
    assert [one.name for one in await asynchronous.quotas.list()] == ["lab"]


def volar(volantd: SimulatedVolantd, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run(("--api", volantd.unix, *arguments))
    told = capsys.readouterr()
    return code, told.out, told.err


def test_the_command_line_shows_and_changes_nodes(
    volantd: SimulatedVolantd, client: volant.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(*words: str) -> tuple[int, str, str]:
        return volar(volantd, capsys, *words)

    assert call("nodes", "list", "-o", "name") == (0, "here\n", "")
    code, out, _ = call("nodes", "get", "here")
    assert code == 0 and "Given out:" in out and "State:       Ready" in out
    assert call("nodes", "set", "here", "--reserved-memory", "1G", "--cpu-overcommit", "8")[0] == 0
    assert client.nodes.get("here").spec.reserved_memory_mb == 1024
    assert call("nodes", "taint", "here", "gpu=yes:NoSchedule", "old:NoExecute")[0] == 0
    assert call("nodes", "taint", "here", "gpu=no:NoSchedule")[0] == 0
    assert [(one.key, one.value) for one in client.nodes.get("here").spec.taints] == [("old", ""), ("gpu", "no")]
    assert call("nodes", "untaint", "here", "gpu", "old:NoExecute")[0] == 0
    assert client.nodes.get("here").spec.taints == ()
    assert call("nodes", "label", "here", "zone=a", "disk=ssd")[0] == 0
    assert call("nodes", "label", "here", "disk-")[1] == "here has the labels zone=a\n"
    assert call("nodes", "cordon", "here")[0] == 0
    assert "Cordoned" in call("nodes", "list")[1]
    assert call("nodes", "uncordon", "here")[0] == 0
    code, out, err = call("nodes", "drain", "here", "--no-wait")
    assert code == 1 and "web stays for now: nobody makes it again elsewhere; --stop stops it" in err
    assert "here is cordoned, and 1 VMs are still there" in err


@pytest.mark.parametrize(
    ("words", "code"),
    [
        (("nodes", "taint", "here", "gpu"), 2),
        (("nodes", "untaint", "here", "nothing"), 2),
        (("nodes", "label", "here", "zone"), 2),
        (("nodes", "set", "here"), 2),
        (("nodes", "set", "here", "--reserved-memory", "many"), 2),
        (("nodes", "get", "nowhere"), 3),
        (("nodes", "delete", "here"), 4),
        (("quotas", "create", "lab"), 2),
        (("quotas", "create", "lab", "--vms", "-1"), 2),
        (("quotas", "set", "nothing", "--vms", "1"), 3),
        (("quotas", "delete", "nothing"), 3),
    ],
)
def test_bad_input_is_told_in_a_line(
    volantd: SimulatedVolantd,
    client: volant.Client,
    capsys: pytest.CaptureFixture[str],
    words: tuple[str, ...],
    code: int,
) -> None:
    told, out, err = volar(volantd, capsys, *words)
    assert told == code and not out
    assert err.startswith("volar: ")


def test_the_command_line_makes_and_changes_quotas(
    volantd: SimulatedVolantd, client: volant.Client, capsys: pytest.CaptureFixture[str]
) -> None:
    assert volar(volantd, capsys, "quotas", "create", "lab", "--vms", "5", "--memory", "8G")[0] == 0
    assert client.quotas.get("lab").spec.memory_mb == 8192
    assert "1 of 5" in volar(volantd, capsys, "quotas", "list")[1]
    assert volar(volantd, capsys, "quotas", "set", "lab", "--vms", "none")[0] == 0
    assert client.quotas.get("lab").spec.vms is None
    assert "Memory:" in volar(volantd, capsys, "quotas", "get", "lab")[1]
    assert volar(volantd, capsys, "quotas", "delete", "lab")[:2] == (0, "lab is deleted\n")
