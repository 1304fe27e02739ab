"""Jobs and schedules as people see them: API, clients and commands, on the whole of volantd with simulated guests."""

from __future__ import annotations

import http.client
import json
from collections.abc import Iterator
from typing import Any

import pytest

from volant.cli.volar import run
from volant.client.aio.client import AsyncClient
from volant.client.client import Client
from volant.core.errors import (
    AlreadyExists,
    InvalidInput,
    Malformed,
    NotFound,
    PreconditionFailed,
    TimedOut,
    WrongMediaType,
)
from volant.core.job import JOB_LABEL

from .plane import SimulatedVolantd

LIMIT_S = 60.0


@pytest.fixture
def client(volantd: SimulatedVolantd) -> Iterator[Client]:
    """Leaves no job behind."""
    client = Client(volantd.unix)
    yield client
    for cron in client.cron_jobs.list():
        client.cron_jobs.delete(cron.name, wait=True, timeout_s=LIMIT_S)
    for job in client.jobs.list():
        client.jobs.delete(job.name, wait=True, timeout_s=LIMIT_S)


def volar(volantd: SimulatedVolantd, *words: str) -> int:
    return run(["--api", volantd.unix, *words])


def want(name: str, *command: str, **spec: Any) -> dict[str, Any]:
    return {"name": name, "vm": {"plugin": "nginx", "command": list(command)}, **spec}


def test_a_job_lives(client: Client) -> None:
    done = client.jobs.create(want("sum", "echo", "hello", completions=2), wait=True, timeout_s=LIMIT_S)
    assert (done.status.phase, done.status.succeeded) == ("Succeeded", 2)
    assert [vm.name for vm in client.vms.list({JOB_LABEL: "sum"})] == ["sum-0-0", "sum-1-0"]
    assert "hello" in [line["text"] for line in client.vms.logs("sum-1-0")]
    assert client.jobs.get("sum").status.phase == "Succeeded"
    assert client.jobs.wait("sum", timeout_s=1).status == done.status
    assert client.jobs.delete("sum", wait=True, timeout_s=LIMIT_S) is None
    assert client.vms.list({JOB_LABEL: "sum"}) == []
    with pytest.raises(NotFound, match="there is no job named 'sum'"):
        client.jobs.get("sum")


def test_it_is_changed_as_far_as_it_may_be(client: Client) -> None:
    made = client.jobs.create(want("long", "sleep", "600"))
    with pytest.raises(TimedOut, match="the job 'long' is"):
        client.jobs.wait("long", timeout_s=0.2)
    changed = client.jobs.edit("long", {"parallelism": 4, "labels": {"a": "b"}})
    assert (changed.spec.parallelism, changed.meta.labels, changed.meta.generation) == (4, {"a": "b"}, 2)
    assert client.jobs.edit("long", {"labels": {"a": None}}).meta.labels == {}
    with pytest.raises(PreconditionFailed):
        client.jobs.edit("long", {"retries": 1}, generation=made.meta.generation)
    assert client.jobs.edit("long", {"retries": 1}, dry_run=True).spec.retries == 1
    assert client.jobs.get("long").spec.retries == 3
    assert client.jobs.suspend("long").spec.suspended
    assert not client.jobs.resume("long").spec.suspended
    # What was read may be edited and sent back.
    again = client.jobs.replace("long", {**want("long", "sleep", "600"), "keep_s": 60})
    assert (again.spec.keep_s, again.spec.parallelism) == (60, 1)
    for change, field in (
        ({"completions": 2}, "completions"),
        ({"vm": {"command": ["true"]}}, "vm.command"),
        ({"vm": {"plugin": "nothing"}}, "vm.plugin"),
        ({"parallelism": 0}, "parallelism"),
        ({"nonsense": None}, "nonsense"),
        ({"vm": {"ports": [{"port": 80, "host_port": 80}]}}, "vm.ports"),
    ):
        with pytest.raises(InvalidInput) as refused:
            client.jobs.edit("long", change)
        assert field in (refused.value.field or refused.value.message)
    with pytest.raises(AlreadyExists):
        client.jobs.create(want("long", "true"))


def test_a_dry_run_makes_nothing(client: Client) -> None:
    planned = client.jobs.create(want("later", "true"), dry_run=True)
    assert (planned.spec.vm.plugin, planned.spec.vm.restart_policy, planned.spec.vm.memory_mb) == ("nginx@1.0", "never", 256)
    assert client.jobs.list() == []


def test_lists_come_in_pages_and_by_what_is_asked(client: Client) -> None:
    for name, command in (("a", "true"), ("b", "false"), ("c", "true")):
        client.jobs.create({**want(name, command, retries=0), "labels": {"team": name}}, wait=True, timeout_s=LIMIT_S)
    page, cursor, total = client.jobs.list_page(filters={"limit": 2, "sort": "name", "order": "desc"})
    assert ([job.name for job in page], total) == (["c", "b"], 3)
    assert [
        job.name for job in client.jobs.list_page(filters={"limit": 2, "sort": "name", "order": "desc"}, cursor=cursor)[0]
    ] == ["a"]
    assert [job.name for job in client.jobs.list(phase="Failed")] == ["b"]
    assert [job.name for job in client.jobs.list("team in (a,c)", plugin="nginx")] == ["a", "c"]
    assert client.jobs.list(cronjob="tick") == []


def ask(
    volantd: SimulatedVolantd, method: str, path: str, body: bytes = b"", media_type: str = "application/json"
) -> tuple[int, Any]:
    host = volantd.url.removeprefix("http://")
    connection = http.client.HTTPConnection(host, timeout=LIMIT_S)
    connection.request(method, path, body, {"Authorization": f"Bearer {volantd.token}", "Content-Type": media_type})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, json.loads(content) if content else None


def test_patches_are_merge_patches_and_nothing_else(volantd: SimulatedVolantd, client: Client) -> None:
    client.jobs.create(want("long", "sleep", "600"))
    status, changed = ask(volantd, "PATCH", "/api/v1/jobs/long", b'{"retries": 7}', "application/merge-patch+json")
    assert (status, changed["retries"], changed["vm"]["plugin"]) == (200, 7, "nginx@1.0")
    for body, media_type, error in (
        (b"[]", "application/json", InvalidInput),
        (b"{", "application/json", Malformed),
        (b"{}", "text/plain", WrongMediaType),
    ):
        status, problem = ask(volantd, "PATCH", "/api/v1/jobs/long", body, media_type)
        assert (status, problem["code"]) == (error.status, error.code)


def test_a_schedule_lives(client: Client) -> None:
    wanted = {
        "name": "tick",
        "schedule": "30 4 * * mon-fri",
        "timezone": "Europe/Berlin",
        "job": {"vm": {"plugin": "nginx", "command": ["true"]}},
    }
    assert client.cron_jobs.create(wanted, dry_run=True).name == "tick"
    assert client.cron_jobs.list() == []
    client.cron_jobs.create(wanted)
    with pytest.raises(AlreadyExists):
        client.cron_jobs.create(wanted)
    job = client.cron_jobs.trigger("tick")
    assert job.name.startswith("tick-20")
    assert client.jobs.wait(job.name, timeout_s=LIMIT_S).status.phase == "Succeeded"
    assert [one.name for one in client.jobs.list(cronjob="tick")] == [job.name]
    assert client.cron_jobs.suspend("tick").spec.suspended
    assert [one.name for one in client.cron_jobs.list(suspended="true")] == ["tick"]
    assert not client.cron_jobs.resume("tick").spec.suspended
    assert client.cron_jobs.edit("tick", {"schedule": "@daily"}).spec.schedule == "@daily"
    assert client.cron_jobs.replace("tick", {**wanted, "concurrency": "replace"}).spec.concurrency == "replace"
    with pytest.raises(PreconditionFailed):
        client.cron_jobs.edit("tick", {"schedule": "@daily"}, generation=1)
    assert client.cron_jobs.delete("tick", wait=True, timeout_s=LIMIT_S) is None
    assert client.jobs.list() == []
    with pytest.raises(NotFound, match="there is no schedule named 'tick'"):
        client.cron_jobs.trigger("tick")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"schedule": "61 * * * *"}, "schedule"),
        ({"schedule": "0 0 31 2 *"}, "schedule"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"job": {"vm": {"plugin": "nothing"}}}, "job.vm.plugin"),
        ({"job": {"vm": {"plugin": "nginx", "command": [""]}}}, "job.vm.command"),
        ({"job": {"vm": {"plugin": "nginx"}, "suspended": True}}, "job.suspended"),
        ({"name": "x" * 50}, "name"),
        ({"labels": {"volant.x": "y"}}, "labels"),
    ],
)
def test_a_schedule_that_cannot_be(client: Client, change: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        client.cron_jobs.create({"name": "tick", "schedule": "@daily", "job": {"vm": {"plugin": "nginx"}}, **change})
    assert refused.value.field == field
    assert client.cron_jobs.list() == []


async def test_the_asynchronous_client_does_the_same(volantd: SimulatedVolantd, client: Client) -> None:
    other = AsyncClient(volantd.unix)
    done = await other.jobs.create(want("sum", "true"), wait=True, timeout_s=LIMIT_S)
    assert done.status.phase == "Succeeded"
    assert [job.name for job in await other.jobs.list()] == ["sum"]
    assert await other.cron_jobs.list() == []


def test_run_shows_what_is_written_and_ends_as_the_job_does(
    volantd: SimulatedVolantd, client: Client, capfd: pytest.CaptureFixture[str]
) -> None:
    assert volar(volantd, "jobs", "run", "one", "--plugin", "nginx", "-q", "--", "echo", "out of one") == 0
    assert capfd.readouterr().out.splitlines() == ["echo out of one started", "out of one"]
    assert (
        volar(volantd, "jobs", "run", "many", "-p", "nginx", "--completions", "2", "--parallelism", "2", "--", "echo", "hi") == 0
    )
    found = capfd.readouterr()
    assert sorted(line for line in found.out.splitlines() if line.endswith("| hi")) == ["many-0-0 | hi", "many-1-0 | hi"]
    assert found.err == "many is done: 2 runs ended well\n"
    assert volar(volantd, "jobs", "run", "bad", "-p", "nginx", "--retries", "0", "--", "sh", "-c", "exit 7") == 7
    assert "bad failed: 1 run failed, and 0 may" in capfd.readouterr().err
    assert volar(volantd, "jobs", "run", "late", "-p", "nginx", "--deadline", "1s", "--", "sleep", "600") == 124
    assert "late failed: it was not done 1 s after its first start" in capfd.readouterr().err


def test_the_other_commands(volantd: SimulatedVolantd, client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    assert (
        volar(volantd, "jobs", "run", "sum", "-p", "nginx", "-d", "-m", "192m", "-e", "A=b", "--keep", "1h", "--", "echo", "hi")
        == 0
    )
    assert capfd.readouterr().out == "sum is begun: one run of nginx@1.0 with 192 MiB; its end: volar jobs wait sum\n"
    assert volar(volantd, "jobs", "wait", "sum") == 0
    assert capfd.readouterr().err == "sum is done: 1 run ended well\n"
    assert volar(volantd, "jobs", "list", "-o", "wide") == 0
    header, row = capfd.readouterr().out.splitlines()
    assert header.split()[:3] == ["NAME", "PHASE", "DONE"] and row.split()[:3] == ["sum", "Succeeded", "1/1"]
    assert volar(volantd, "jobs", "get", "sum") == 0
    assert "sum-0-0  done" in capfd.readouterr().out
    assert volar(volantd, "jobs", "logs", "-f", "sum") == 0
    assert "hi" in capfd.readouterr().out.splitlines()
    assert volar(volantd, "jobs", "get", "sum", "--json") == 0
    document = json.loads(capfd.readouterr().out)
    assert (document["kind"], document["keep_s"], document["vm"]["env"]) == ("Job", 3600, {"A": "b"})
    assert volar(volantd, "jobs", "suspend", "sum") == 0
    assert volar(volantd, "jobs", "resume", "sum") == 0
    assert volar(volantd, "jobs", "delete", "sum", "nobody") == 3
    found = capfd.readouterr()
    assert "sum is deleted" in found.out and "there is no job named 'nobody'" in found.err
    assert volar(volantd, "jobs", "run", "x", "-p", "nothing", "--", "true") == 2
    assert "there is no plugin named 'nothing'" in capfd.readouterr().err
    assert volar(volantd, "jobs", "run", "x", "-p", "nginx", "--dry-run", "--", "true") == 0
    assert capfd.readouterr().out == "x would be one run of nginx@1.0 with 256 MiB\n"
    assert volar(volantd, "jobs", "list") == 0
    assert "there are no jobs; run one" in capfd.readouterr().err


def test_the_commands_of_schedules(volantd: SimulatedVolantd, client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    words = ("cron", "create", "tick", "--schedule", "30 4 * * *", "--timezone", "Europe/Berlin", "-p", "nginx", "--", "true")
    assert volar(volantd, *words) == 0
    assert capfd.readouterr().out == "tick runs at '30 4 * * *' (Europe/Berlin)\n"
    assert volar(volantd, "cron", "trigger", "tick", "-o", "name") == 0
    name = capfd.readouterr().out.strip()
    assert volar(volantd, "jobs", "wait", "-q", name) == 0
    assert volar(volantd, "cron", "list") == 0
    assert capfd.readouterr().out.splitlines()[1].split()[0] == "tick"
    assert volar(volantd, "cron", "get", "tick") == 0
    assert "30 4 * * * (Europe/Berlin)" in capfd.readouterr().out
    for verb in ("suspend", "resume"):
        assert volar(volantd, "cron", verb, "tick") == 0
    capfd.readouterr()
    assert volar(volantd, "cron", "create", "bad", "--schedule", "x", "-p", "nginx") == 2
    assert "is no schedule" in capfd.readouterr().err
    assert volar(volantd, "cron", "delete", "tick") == 0
    assert capfd.readouterr().out == "tick is deleted\n"


def test_a_vm_runs_a_command_of_its_own(volantd: SimulatedVolantd, client: Client, capfd: pytest.CaptureFixture[str]) -> None:
    assert volar(volantd, "vms", "create", "box", "-p", "nginx", "--restart-policy", "never", "--", "sleep", "600") == 0
    assert client.vms.get("box").spec.command == ("sleep", "600")
    assert "sleep 600 started" in [line["text"] for line in client.vms.logs("box")]
    assert volar(volantd, "vms", "create", "bad", "-p", "nginx", "--", "") == 2
    assert "a command begins with a program" in capfd.readouterr().err
    client.vms.delete("box", wait=True)
