"""The routes of sleep, snapshots, forks, templates, pools and what VMs use."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from volant.client.connection import Connection
from volant.core.errors import (
    AlreadyExists,
    InvalidInput,
    Malformed,
    NotFound,
    PreconditionFailed,
    TimedOut,
    Unavailable,
    WrongState,
)
from volant.node.door import VMStats

from .fast_starts import make_template
from .served import Served

VMS = "/api/v1/vms"
SNAPSHOTS = "/api/v1/snapshots"
TEMPLATES = "/api/v1/templates"
WEB = {"name": "web", "plugin": "nginx"}


@pytest.fixture
def web(api: Connection) -> dict[str, Any]:
    made: dict[str, Any] = api.request("POST", VMS, document=WEB).json()
    return made


def test_a_vm_is_suspended_and_resumed_under_a_precondition(api: Connection, web: dict[str, Any]) -> None:
    asleep = api.request("POST", f"{VMS}/web/suspend", headers={"If-Match": '"1"'})
    assert (asleep.status, asleep.json()["power"], asleep.headers["ETag"].partition(".")[0]) == (200, "suspended", '"2')
    with pytest.raises(PreconditionFailed):
        api.request("POST", f"{VMS}/web/resume", headers={"If-Match": '"1"'})
    assert api.request("POST", f"{VMS}/web/resume").json()["power"] == "running"
    api.request("POST", f"{VMS}/web/stop")
    with pytest.raises(WrongState, match="does not run"):
        api.request("POST", f"{VMS}/web/suspend")
    with pytest.raises(InvalidInput):
        api.request("POST", f"{VMS}/web/suspend", query={"wait": "ready"})


def test_suspend_waits_until_it_sleeps(served: Served, api: Connection, web: dict[str, Any]) -> None:
    answers: list[dict[str, Any]] = []
    query = {"wait": "suspended", "timeout": "20s"}
    asking = threading.Thread(target=lambda: answers.append(api.request("POST", f"{VMS}/web/suspend", query=query).json()))
    asking.start()
    served.run(_when_power(served, "web", "suspended"))
    served.run(served.plane.settle("web", "Suspending"))
    served.run(served.plane.settle("web", "Suspended"))
    asking.join()
    assert answers[0]["status"]["phase"] == "Suspended"


def test_restore_names_its_snapshot(api: Connection, web: dict[str, Any]) -> None:
    restored = api.request("POST", f"{VMS}/web/restore", document={"snapshot": "before"}, headers={"If-Match": '"1"'})
    assert (restored.status, restored.json()["snapshot"], restored.headers["ETag"].partition(".")[0]) == (200, "before", '"2')
    with pytest.raises(PreconditionFailed):
        api.request("POST", f"{VMS}/web/restore", document={"snapshot": "before"}, headers={"If-Match": '"1"'})
    for document in ({}, {"snapshot": 3}, {"snapshot": "before", "disk": True}, []):
        with pytest.raises(InvalidInput):
            api.request("POST", f"{VMS}/web/restore", document=document)
    with pytest.raises(TimedOut):
        api.request("POST", f"{VMS}/web/restore", document={"snapshot": "before"}, query={"wait": "ready", "timeout": "1ms"})


def test_a_fork_answers_with_all_that_it_made(api: Connection, web: dict[str, Any]) -> None:
    answer = api.request("POST", f"{VMS}/web/fork", document={"names": ["web-1", "web-2"]})
    assert answer.status == 201
    made = answer.json()["items"]
    assert [vm["name"] for vm in made] == ["web-1", "web-2"]
    assert {vm["plugin"] for vm in made} == {"nginx"}
    assert [vm["name"] for vm in api.get_json(VMS)["items"]] == ["web", "web-1", "web-2"]
    with pytest.raises(NotFound):
        api.request("POST", f"{VMS}/absent/fork", document={"names": ["a"]})


@pytest.mark.parametrize(
    "document", [{"names": []}, {"names": ["a", "a"]}, {"names": [f"n{i}" for i in range(101)]}, {"names": "a"}, {}]
)
def test_forks_that_cannot_be_right_are_refused(api: Connection, web: dict[str, Any], document: Any) -> None:
    with pytest.raises(InvalidInput):
        api.request("POST", f"{VMS}/web/fork", document=document)
    assert len(api.get_json(VMS)["items"]) == 1


def test_stats_are_those_of_one_that_runs(served: Served, api: Connection, web: dict[str, Any]) -> None:
    with pytest.raises(WrongState):
        api.get_json(f"{VMS}/web/stats")
    served.plane.door.stats[web["uid"]] = make_stats()
    found = api.get_json(f"{VMS}/web/stats")
    assert (found["name"], found["memory_private_bytes"], found["guest_load1"]) == ("web", 2_900_000, None)
    with pytest.raises(NotFound):
        api.get_json(f"{VMS}/absent/stats")


def make_stats() -> VMStats:
    return VMStats(
        memory_private_bytes=2_900_000,
        memory_shared_bytes=61_000_000,
        process_private_bytes=43_000_000,
        process_shared_bytes=80_000_000,
        cpu_s=1.5,
    )


def test_a_snapshot_is_taken_listed_and_deleted(api: Connection, web: dict[str, Any]) -> None:
    document = {"name": "before", "vm": "web", "labels": {"keep": "yes"}}
    answer = api.request("POST", SNAPSHOTS, document=document, query={"wait": "ready"})
    assert (answer.status, answer.headers["Location"]) == (201, "/api/v1/snapshots/before")
    taken = answer.json()
    assert (taken["kind"], taken["vm"], taken["memory"], taken["status"]["phase"]) == ("Snapshot", "web", True, "Ready")
    assert api.get_json(f"{SNAPSHOTS}/before") == taken
    # What was read may be edited and sent back.
    again = api.request("POST", SNAPSHOTS, document={**taken, "name": "again", "memory": False, "labels": {}}).json()
    assert (again["memory"], again["status"]["phase"]) == (False, "Pending")
    assert [one["name"] for one in api.get_json(SNAPSHOTS)["items"]] == ["again", "before"]
    assert [one["name"] for one in api.get_json(SNAPSHOTS, {"labels": "keep=yes"})["items"]] == ["before"]
    with pytest.raises(AlreadyExists):
        api.request("POST", SNAPSHOTS, document=document)
    assert api.request("DELETE", f"{SNAPSHOTS}/again").status == 202
    assert api.request("DELETE", f"{SNAPSHOTS}/before", query={"wait": "deleted"}).status == 204
    with pytest.raises(NotFound):
        api.get_json(f"{SNAPSHOTS}/before")


def test_a_snapshot_that_failed_is_answered_as_it_is(served: Served, api: Connection, web: dict[str, Any]) -> None:
    served.plane.snapshots.outcome = {"phase": "Failed", "reason": "WrongState", "message": "it does not run"}
    answer = api.request("POST", SNAPSHOTS, document={"name": "before", "vm": "web"}, query={"wait": "ready"})
    assert (answer.status, answer.json()["status"]["message"]) == (201, "it does not run")


def test_transient_snapshots_are_a_forks_alone(api: Connection, web: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput) as refused:
        api.request("POST", SNAPSHOTS, document={"name": "before", "vm": "web", "transient": True})
    assert refused.value.field == "transient"
    api.request("POST", f"{VMS}/web/fork", document={"names": ["web-1"]})
    assert api.get_json(SNAPSHOTS)["items"] == []
    assert api.get_json(f"{SNAPSHOTS}/fork-web-1")["transient"] is True


@pytest.mark.parametrize("document", [{"name": "a"}, {"vm": "web"}, {"name": "a", "vm": "web", "memroy": True}])
def test_snapshots_that_cannot_be_right_are_refused(api: Connection, web: dict[str, Any], document: Any) -> None:
    with pytest.raises(InvalidInput):
        api.request("POST", SNAPSHOTS, document=document)
    with pytest.raises(NotFound):
        api.request("POST", SNAPSHOTS, document={"name": "a", "vm": "absent"})


def test_templates_are_listed_built_and_pruned(served: Served, api: Connection) -> None:
    served.plane.door.templates.found = [make_template("a", "job", users=2)]
    built = api.request("POST", TEMPLATES, document={"plugin": "nginx", "memory_mb": 512})
    assert (built.status, built.json()["plugin"], built.json()["memory_mb"], built.json()["cpu_cores"]) == (200, "nginx", 512, 1)
    assert [one["plugin"] for one in api.get_json(TEMPLATES)["items"]] == ["job", "nginx"]
    gone = api.request("POST", f"{TEMPLATES}/prune").json()["items"]
    assert [one["key"] for one in gone] == ["b" * 64]
    assert [one["users"] for one in api.get_json(TEMPLATES)["items"]] == [2]
    with pytest.raises(NotFound):
        api.request("POST", TEMPLATES, document={"plugin": "absent"})
    for document in ({}, {"plugin": "nginx", "memory_mb": 1}, {"plugin": "nginx", "cores": 2}):
        with pytest.raises(InvalidInput):
            api.request("POST", TEMPLATES, document=document)


def test_a_build_is_cut_when_the_server_stops(served: Served, api: Connection) -> None:
    failures: list[Exception] = []
    begun = threading.Event()

    async def build(*_: object, **__: object) -> Any:
        begun.set()
        await served.plane.door.templates.built.wait()

    served.plane.door.templates.built.clear()
    served.plane.door.templates.build_template = build  # type: ignore[method-assign]

    def ask() -> None:
        try:
            api.request("POST", TEMPLATES, document={"plugin": "nginx"})
        except Unavailable as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert begun.wait(20)
    served.stop()
    asking.join()
    assert "stopping" in str(failures[0])


def test_pools_are_set_and_listed(api: Connection) -> None:
    assert api.get_json("/api/v1/pools")["items"] == []
    path = "/api/v1/plugins/nginx/pool"
    changed = api.request("PUT", path, document={"size": 3}, headers={"If-Match": '"1"'})
    assert (changed.status, changed.json()["pool"], changed.headers["ETag"].partition(".")[0]) == (200, 3, '"2')
    assert api.get_json("/api/v1/pools")["items"] == [
        {"plugin": "nginx", "wanted": 3, "parked": 1, "reserved_mb": 256, "message": "the host is short of memory"}
    ]
    with pytest.raises(PreconditionFailed):
        api.request("PUT", path, document={"size": 4}, headers={"If-Match": '"1"'})
    assert api.request("PUT", path, document={"size": None}).json()["pool"] is None
    for document in ({}, {"size": 257}, {"size": "3"}):
        with pytest.raises(InvalidInput):
            api.request("PUT", path, document=document)
    with pytest.raises(Malformed):
        api.request("PUT", path, document={"size": 1}, headers={"If-Match": "x"})
    with pytest.raises(NotFound):
        api.request("PUT", "/api/v1/plugins/absent/pool", document={"size": 1})


async def _when_power(served: Served, name: str, power: str) -> None:
    table = served.plane.vms.table
    async with table._changed:
        await table._changed.wait_for(lambda: table.rows[name].spec.power == power)
