"""The routes of VMs."""

from __future__ import annotations

import threading

import pytest

from volant.client.connection import Connection
from volant.core.errors import (
    AlreadyExists,
    InvalidInput,
    Malformed,
    NotFound,
    PreconditionFailed,
    TimedOut,
    TooLarge,
    Unavailable,
    WrongMediaType,
    WrongMethod,
)

from .served import Served

VMS = "/api/v1/vms"
WEB = {"name": "web", "plugin": "nginx"}


def test_create_answers_with_the_object_its_place_and_its_generation(api: Connection) -> None:
    answer = api.request("POST", VMS, document={**WEB, "labels": {"tier": "web"}, "memory_mb": 128})

    assert answer.status == 201
    assert answer.headers["Location"] == "/api/v1/vms/web"
    assert answer.headers["ETag"].startswith('"1.')
    made = answer.json()
    assert (made["kind"], made["name"], made["memory_mb"], made["labels"]) == ("VM", "web", 128, {"tier": "web"})
    assert made["status"]["phase"] == "Pending"
    assert api.get_json(f"{VMS}/web") == made


def test_what_was_read_can_be_edited_and_sent_back(api: Connection) -> None:
    api.request("POST", VMS, document=WEB)
    again = api.request("POST", VMS, document={**api.get_json(f"{VMS}/web"), "name": "web2"})
    assert again.json()["name"] == "web2"


def test_list_narrows_by_labels(api: Connection) -> None:
    api.request("POST", VMS, document={**WEB, "labels": {"tier": "web", "zone": "a"}})
    api.request("POST", VMS, document={"name": "db", "plugin": "nginx", "labels": {"tier": "db"}})

    assert [vm["name"] for vm in api.get_json(VMS)["items"]] == ["db", "web"]
    assert [vm["name"] for vm in api.get_json(VMS, {"labels": "tier=web,zone=a"})["items"]] == ["web"]
    assert api.get_json(VMS, {"labels": "tier=cache"})["items"] == []


def test_two_creates_with_one_name_conflict(api: Connection) -> None:
    api.request("POST", VMS, document=WEB)
    with pytest.raises(AlreadyExists, match="web"):
        api.request("POST", VMS, document=WEB)


@pytest.mark.parametrize(
    ("document", "field"),
    [
        ({"name": "Web!", "plugin": "nginx"}, "name"),
        ({"name": "web", "plugin": "nginx", "memory_mb": 1}, "memory_mb"),
        ({"name": "web", "plugin": "nginx", "memroy_mb": 256}, None),
        ({"name": "web"}, None),
        ({"plugin": "nginx"}, "name"),
        ({"name": "web", "plugin": "absent"}, "plugin"),
        ([], None),
    ],
)
def test_a_vm_that_cannot_be_right_is_refused_by_name(api: Connection, document: object, field: str | None) -> None:
    with pytest.raises(InvalidInput) as refused:
        api.request("POST", VMS, document=document)
    assert refused.value.field == field
    assert api.get_json(VMS)["items"] == []


def test_wait_answers_when_it_is_ready(served: Served, api: Connection) -> None:
    answers: list[object] = []
    asking = threading.Thread(
        target=lambda: answers.append(api.request("POST", VMS, query={"wait": "ready", "timeout": "20s"}, document=WEB).json())
    )
    asking.start()
    served.run(_when_there(served, "web"))
    served.run(served.plane.settle("web", "Starting"))
    served.run(served.plane.make_ready("web"))
    asking.join()
    assert answers[0]["status"]["ready"] is True  # type: ignore[index]


def test_wait_that_takes_too_long_says_where_it_stands(api: Connection) -> None:
    with pytest.raises(TimedOut, match="is not ready: Pending"):
        api.request("POST", VMS, query={"wait": "ready", "timeout": "1ms"}, document=WEB)
    assert api.get_json(f"{VMS}/web")["name"] == "web"


def test_power_takes_a_precondition(api: Connection) -> None:
    api.request("POST", VMS, document=WEB)
    stopped = api.request("POST", f"{VMS}/web/stop", headers={"If-Match": '"1"'})
    assert (stopped.status, stopped.json()["power"], stopped.headers["ETag"].partition(".")[0]) == (200, "stopped", '"2')
    with pytest.raises(PreconditionFailed, match="generation 2, not 1"):
        api.request("POST", f"{VMS}/web/start", headers={"If-Match": '"1"'})
    with pytest.raises(Malformed, match="If-Match"):
        api.request("POST", f"{VMS}/web/start", headers={"If-Match": 'W/"x"'})
    assert api.request("POST", f"{VMS}/web/restart", headers={"If-Match": "*"}).json()["power"] == "running"


def test_delete_says_202_then_204_once_it_is_gone(served: Served, api: Connection) -> None:
    api.request("POST", VMS, document=WEB)
    answer = api.request("DELETE", f"{VMS}/web")
    assert (answer.status, answer.json()["deleting_at"]) == (202, "2026-01-31T12:00:00.000000Z")

    served.run(served.plane.vms.table.drop("web"))
    with pytest.raises(NotFound):
        api.request("DELETE", f"{VMS}/web")

    api.request("POST", VMS, document=WEB)
    statuses: list[int] = []
    asking = threading.Thread(
        target=lambda: statuses.append(api.request("DELETE", f"{VMS}/web", query={"wait": "deleted"}).status)
    )
    asking.start()
    served.run(_when_deleting(served, "web"))
    served.run(served.plane.vms.table.drop("web"))
    asking.join()
    assert statuses == [204]


def test_delete_of_another_uid_touches_nothing(api: Connection) -> None:
    api.request("POST", VMS, document=WEB)
    with pytest.raises(NotFound):
        api.request("DELETE", f"{VMS}/web", query={"uid": "0" * 32})
    assert "deleting_at" not in api.get_json(f"{VMS}/web")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"wiat": "ready"}, "wiat"),
        ({"wait": "deleted"}, "wait"),
        ({"wait": "ready", "timeout": "60"}, "timeout"),
        ({"timeout": "2h"}, "timeout"),
        ({"timeout": "0s"}, "timeout"),
    ],
)
def test_query_parameters_that_cannot_be_right_are_refused(api: Connection, query: dict[str, str], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        api.request("POST", VMS, query=query, document=WEB)
    assert refused.value.field == field
    assert api.get_json(VMS)["items"] == []


def test_bodies_that_cannot_be_read_are_refused(api: Connection) -> None:
    for headers, body, error in [
        ({"Content-Type": "text/plain"}, b"{}", WrongMediaType),
        ({}, b"{}", WrongMediaType),
        ({"Content-Type": "application/json"}, b"{", Malformed),
        ({"Content-Type": "application/json"}, b'{"name": "\xff"}', Malformed),
        ({"Content-Type": "application/json; charset=utf-8"}, b" " * (1024 * 1024 + 1), TooLarge),
    ]:
        with pytest.raises(error), api._open("POST", VMS, None, None, headers, 20.0, [body]):
            pass


def test_unknown_addresses_and_methods_are_problems(api: Connection) -> None:
    with pytest.raises(NotFound, match="nothing at this address") as absent:
        api.request("GET", "/api/v1/pods")
    assert absent.value.hint is not None
    with pytest.raises(WrongMethod):
        api.request("PUT", f"{VMS}/web/start")


def test_what_nobody_foresaw_is_a_problem_with_an_id(served: Served, api: Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    async def break_down(*_: object, **__: object) -> None:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(served.plane.vms, "list_page", break_down)
    with pytest.raises(Exception, match="did not foresee") as told:
        api.get_json(VMS)
    assert "secret" not in str(told.value)


def test_a_wait_is_cut_when_the_server_stops(served: Served, api: Connection) -> None:
    failures: list[Exception] = []

    def ask() -> None:
        try:
            api.request("POST", VMS, query={"wait": "ready"}, document=WEB)
        except Unavailable as error:
            failures.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    served.run(_when_there(served, "web"))
    served.stop()
    asking.join()
    assert "stopping" in str(failures[0])


async def _when_there(served: Served, name: str) -> None:
    table = served.plane.vms.table
    async with table._changed:
        await table._changed.wait_for(lambda: name in table.rows)


async def _when_deleting(served: Served, name: str) -> None:
    table = served.plane.vms.table
    async with table._changed:
        await table._changed.wait_for(lambda: table.rows[name].deleting)
