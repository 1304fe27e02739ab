"""The routes of configuration, and lists in pages, over the real intents and the real store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from volant.client.client import Client
from volant.core.errors import (
    AlreadyExists,
    InvalidInput,
    Malformed,
    NotFound,
    PreconditionFailed,
    WrongMediaType,
    WrongState,
)

from .real_plane import DIGESTS, INITRAMFS, KERNEL, RealPlane

VMS = "/api/v1/vms"


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    with RealPlane(tmp_path) as plane:
        yield Client(plane.address)


def make(client: Client, name: str = "web", **spec: Any) -> Any:
    return client.vms.create({"name": name, "plugin": "job", **spec})


def test_a_configuration_is_changed_looked_at_and_rolled_back(client: Client) -> None:
    vm = make(client)
    first = client.configurations.get("web")
    assert (first["version"], first["config"]["memory_mb"]) == (1, 128)
    assert set(first) == {"version", "updated_at", "config"}
    changed = client.configurations.patch("web", {"memory_mb": 64, "env": {"A": "ü"}}, reason="weniger, größer")
    assert (changed.spec.memory_mb, changed.meta.generation) == (64, vm.meta.generation + 1)
    newest, oldest = client.configurations.history("web")
    assert (newest["version"], newest["reason"], newest["changed"]) == (2, "weniger, größer", ["memory_mb", "env.A"])
    assert newest["by"].endswith(")") and "uid " in newest["by"], "whoever the kernel says is there"
    assert oldest["version"] == 1 and client.configurations.history("web", limit=1) == [newest]
    assert client.configurations.version("web", 2) == newest
    difference = client.configurations.diff("web")
    assert [each["path"] for each in difference["differences"]] == ["memory_mb", "env.A"]
    back = client.configurations.rollback("web", 1)
    assert (back["version"], back["config"]) == (3, first["config"])
    assert client.configurations.history("web")[0]["reason"] == "rollback to version 1"
    with pytest.raises(NotFound):
        client.configurations.rollback("web", 9)
    with pytest.raises(NotFound):
        client.configurations.get("nothing")


def test_etags_guard_every_change(client: Client) -> None:
    vm = make(client)
    answer = client.connection.request("GET", f"{VMS}/web/config")
    assert answer.headers["etag"].startswith('"1.')
    client.configurations.patch("web", {"memory_mb": 64}, generation=1)
    for late in (
        lambda: client.configurations.patch("web", {"memory_mb": 65}, generation=1),
        lambda: client.configurations.patch_json("web", [], generation=1),
        lambda: client.configurations.rollback("web", 1, generation=1),
        lambda: client.configurations.replace("web", {"name": "web", "plugin": "job"}, generation=1),
    ):
        with pytest.raises(PreconditionFailed):
            late()
    assert client.vms.get("web").meta.generation == vm.meta.generation + 1


def test_the_original_patch_of_the_configuration_answers_with_it(client: Client) -> None:
    make(client)
    answer = client.connection.request("PATCH", f"{VMS}/web/config", document={"memory_mb": 64})
    assert (answer.json()["version"], answer.json()["config"]["memory_mb"], answer.headers["etag"].partition(".")[0]) == (
        2,
        64,
        '"2',
    )
    dry = client.connection.request("PATCH", f"{VMS}/web/config", query={"dry_run": True}, document={"memory_mb": 65})
    assert (dry.json()["version"], dry.json()["config"]["memory_mb"]) == (3, 65)
    assert client.configurations.get("web")["config"]["memory_mb"] == 64


def test_a_patch_is_of_a_kind_that_is_known(client: Client) -> None:
    make(client)
    operations = [{"op": "test", "path": "/memory_mb", "value": 128}, {"op": "add", "path": "/env/A", "value": "b"}]
    assert client.configurations.patch_json("web", operations).spec.env == {"A": "b"}
    with pytest.raises(WrongState):
        client.configurations.patch_json("web", [{"op": "test", "path": "/memory_mb", "value": 1}])
    merge = {"Content-Type": "application/merge-patch+json"}
    client.connection.request("PATCH", f"{VMS}/web", document={"env": None}, headers=merge)
    assert client.vms.get("web").spec.env == {}
    with pytest.raises(WrongMediaType):
        client.connection.request("PATCH", f"{VMS}/web", document={}, headers={"Content-Type": "text/plain"})
    with pytest.raises(InvalidInput):
        client.connection.request("PATCH", f"{VMS}/web", document=[])
    with pytest.raises(InvalidInput) as refused:
        client.configurations.patch("web", {"surprise": None})
    assert refused.value.field == "surprise"
    with pytest.raises(InvalidInput, match="one line"):
        client.configurations.patch("web", {"memory_mb": 64}, reason="x" * 501)
    with pytest.raises(Malformed):
        client.connection.request("PATCH", f"{VMS}/web", document={}, headers={"If-Match": "W/x"})


def test_a_dry_run_answers_what_would_be(client: Client) -> None:
    planned = client.vms.create({"name": "web", "plugin": "job"}, dry_run=True)
    assert (planned.spec.memory_mb, planned.revision, planned.status.addresses[0].ip) == (128, 0, "10.9.0.2")
    with pytest.raises(NotFound):
        client.vms.get("web")
    make(client)
    with pytest.raises(AlreadyExists):
        client.vms.create({"name": "web", "plugin": "job"}, dry_run=True)
    assert client.configurations.patch("web", {"memory_mb": 64}, dry_run=True).spec.memory_mb == 64
    assert client.configurations.replace("web", {"name": "web", "plugin": "job", "memory_mb": 64}, dry_run=True)
    assert client.configurations.rollback("web", 1, dry_run=True)["version"] == 1
    assert client.vms.get("web").meta.generation == 1


def test_overrides_are_stored_files_of_the_right_kind(client: Client) -> None:
    vm = make(client, kernel=DIGESTS[KERNEL], initramfs=DIGESTS[INITRAMFS], kernel_cmdline=" quiet  loglevel=7")
    assert (vm.spec.kernel, vm.spec.kernel_cmdline) == (DIGESTS[KERNEL], "quiet loglevel=7")
    for wrong, field in (
        ({"kernel": DIGESTS[INITRAMFS]}, "kernel"),
        ({"initramfs": DIGESTS[KERNEL]}, "initramfs"),
        ({"kernel": "sha256:" + "0" * 64}, "kernel"),
        ({"kernel": "../../etc/passwd"}, "kernel"),
        ({"kernel_cmdline": "root=/dev/sda"}, "kernel_cmdline"),
    ):
        with pytest.raises(InvalidInput) as refused:
            make(client, "other", **wrong)
        assert refused.value.field == field


def test_a_list_comes_in_pages(client: Client) -> None:
    for number in range(7):
        make(client, f"vm-{number}", labels={"parity": "odd" if number % 2 else "even"}, memory_mb=40 - number)
    names: list[str] = []
    cursor: str | None = None
    while True:
        page, cursor, total = client.vms.list_page("parity in (odd,even)", {"limit": 3, "sort": "memory_mb"}, cursor)
        names += [vm.name for vm in page]
        assert total == 7
        if cursor is None:
            break
    assert names == [f"vm-{number}" for number in range(6, -1, -1)]
    answer = client.connection.request("GET", VMS, query={"limit": 2, "labels": "parity!=odd", "order": "desc"})
    assert [vm["name"] for vm in answer.json()["items"]] == ["vm-6", "vm-4"]
    assert answer.headers["Volant-Total-Count"] == "4"
    link = answer.headers["Link"]
    assert link.startswith(f"<{VMS}?labels=parity%21%3Dodd&limit=2&order=desc&cursor=") and link.endswith('>; rel="next"')
    assert [vm.name for vm in client.vms.list(phase="pending", q="VM-3")] == ["vm-3"]
    assert client.vms.list(status="Running") == [] and client.vms.list(plugin="other") == []
    for query, field in (
        ({"limit": 0}, "limit"),
        ({"limit": 1001}, "limit"),
        ({"sort": "secret"}, "sort"),
        ({"order": "up"}, "order"),
        ({"cursor": "x"}, "cursor"),
        ({"labels": "a in (b"}, "labels"),
    ):
        with pytest.raises(InvalidInput) as refused:
            client.connection.get_json(VMS, query)
        assert refused.value.field == field


def test_force_crosses_the_api(client: Client) -> None:
    make(client)
    assert not client.vms.stop("web").spec.force_stop
    assert client.vms.stop("web", force=True).spec.force_stop
    deleted = client.vms.delete("web", force=True)
    assert deleted is not None and deleted.spec.force_stop and deleted.deleting
    with pytest.raises(InvalidInput):
        client.connection.request("POST", f"{VMS}/web/start", query={"force": True})
