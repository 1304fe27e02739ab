"""``volar`` on sleep, forks, snapshots, templates, pools and what VMs use."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from volant.cli.measure import format_period, format_size
from volant.cli.snapshot_write import name_snapshot
from volant.core.vm import StartRecord, SuspendRecord

from ..api.fast_starts import make_template  # noqa: TID252  # importlib mode knows no top-level name for it
from ..api.served import Served  # noqa: TID252  # likewise
from ..api.test_api_fast_starts import make_stats  # noqa: TID252  # likewise

Volar = Callable[..., Any]
CREATE = ("vms", "create", "web", "--plugin", "nginx", "--no-wait")
KEY = "a1" * 32


def _settle_when(served: Served, verb: str, phase: str, **status: Any) -> None:
    """What a reconciler does once ``verb`` is written down."""
    vms = served.plane.vms
    change = getattr(vms, verb)

    async def change_and_settle(name: Any, *args: Any, **named: Any) -> Any:
        vm = await change(name, *args, **named)
        await served.plane.settle(vm.name, phase, **status)
        return vm

    setattr(vms, verb, change_and_settle)


def test_create_takes_what_fast_starts_add(volar: Volar) -> None:
    words = "--start template -P 8080:80 --publish 8443:443 --auto-suspend 5m --json"
    made = volar(*CREATE, *words.split()).json
    assert made["start"] == "template"
    assert [(port["host_port"], port["port"]) for port in made["ports"]] == [(8080, 80), (8443, 443)]
    assert made["auto_suspend_s"] == 300
    never = volar("vms", "create", "db", "-p", "nginx", "--no-wait", "--auto-suspend", "0", "--json").json
    assert (never["auto_suspend_s"], never["start"], never["ports"]) == (0, "auto", None)


def test_create_from_a_snapshot_needs_no_plugin(volar: Volar) -> None:
    volar(*CREATE)
    volar("snapshots", "create", "web", "--name", "before")
    made = volar("vms", "create", "web2", "--snapshot", "before", "--no-wait", "--json").json
    assert (made["plugin"], made["snapshot"]) == ("nginx", "before")
    assert volar("vms", "create", "web3", "--snapshot", "absent", "--no-wait").code == 3


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        ((*CREATE, "-P", "8080"), 2, "is not HOST:GUEST"),
        ((*CREATE, "-P", "a:b"), 2, "is not HOST:GUEST"),
        ((*CREATE, "-P", "0:80"), 2, "ports"),
        ((*CREATE, "--auto-suspend", "5"), 2, "not a duration"),
        ((*CREATE, "--auto-suspend", "100ms"), 2, "less than a second"),
        ((*CREATE, "--start", "warm"), 2, "warm"),
        (("vms", "suspend", "absent"), 3, "there is no VM"),
        (("vms", "stats", "absent"), 3, "there is no VM"),
        (("vms", "fork", "absent"), 3, "there is no VM"),
        (("vms", "fork", "absent", "--as", "a", "--count", "2"), 2, "--as says every name"),
        (("vms", "fork", "absent", "--count", "0"), 2, "--count"),
        (("snapshots", "show", "absent"), 3, "there is no snapshot"),
        (("snapshots", "restore", "absent"), 3, "there is no snapshot"),
        (("snapshots", "delete", "absent"), 3, "there is no snapshot"),
        (("snapshots", "create", "absent"), 3, "there is no VM"),
        (("templates", "build", "absent"), 3, "there is no plugin"),
        (("pools", "set", "absent", "1"), 3, "there is no plugin"),
        (("pools", "set", "nginx"), 2, "say how many, or --default"),
        (("pools", "set", "nginx", "2", "--default"), 2, "say how many, or --default"),
        (("pools", "set", "nginx", "1000"), 2, "1000"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(volar: Volar, arguments: tuple[str, ...], code: int, said: str) -> None:
    ran = volar(*arguments)
    assert (ran.code, ran.out) == (code, "")
    assert said in next(line for line in ran.err.splitlines() if line.startswith("volar: "))


def test_suspend_says_what_lies_on_the_disk(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    record = SuspendRecord(at="2026-01-31T12:00:00.000000Z", size_bytes=3 * 1024 * 1024, duration_ms=31)
    _settle_when(served, "suspend", "Suspended", suspended=record)
    ran = volar("vms", "suspend", "web")
    assert (ran.code, ran.out) == (0, "web is suspended (3.0 MiB on disk, 31 ms)\n")
    out = volar("vms", "get", "web").out
    assert "Phase:       Suspended\n" in out
    assert "3.0 MiB on disk, saved in 31 ms" in out
    assert volar("vms", "suspend", "web", "--no-wait").out == "web is being suspended\n"
    assert volar("vms", "suspend", "web", "-o", "name").out == "web\n"


def test_suspend_of_one_that_cannot_be_saved_fails(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    _settle_when(served, "suspend", "Stopped", reason="NotSaved", message="it ended before it could be suspended")
    ran = volar("vms", "suspend", "web")
    assert (ran.code, ran.out) == (1, "")
    assert "web is stopped, not suspended: NotSaved: it ended before" in ran.err


def test_suspend_of_one_that_was_woken_meanwhile_says_so(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    suspend = served.plane.vms.suspend

    async def suspend_and_wake(name: str, **named: Any) -> Any:
        vm = await suspend(name, **named)
        await served.plane.vms.resume(name)
        await served.plane.make_ready(name)
        return vm

    served.plane.vms.suspend = suspend_and_wake  # type: ignore[method-assign]
    assert volar("vms", "suspend", "web").out == "web was woken again and is running\n"


def test_resume_waits_until_it_is_ready(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    served.run(served.plane.make_ready("web"))
    volar("vms", "suspend", "web", "--no-wait")
    start = StartRecord(kind="resume", duration_ms=31)
    _settle_when(served, "resume", "Running", ready=True, start=start)
    assert volar("vms", "resume", "web").out == "web is ready at 192.168.127.2 (resumed, 0.03 s)\n"


def test_get_tells_how_it_started(served: Served, volar: Volar) -> None:
    volar(*CREATE, "-P", "8080:80", "--auto-suspend", "5m")
    served.run(served.plane.make_ready("web"))
    steps = {"prepare": 12, "launch": 48, "resume": 5, "connect": 9, "identity": 20}
    start = StartRecord(kind="template", template=KEY, duration_ms=143, steps_ms=steps)
    served.run(served.plane.settle("web", "Running", ready=True, template=KEY, start=start))
    lines = volar("vms", "get", "web").out.splitlines()
    assert "Template:    a1a1a1a1a1a1" in lines
    assert "Steps:       prepare 12 ms, launch 48 ms, resume 5 ms, connect 9 ms, identity 20 ms" in lines
    assert "Ports:       8080 of the host to 80" in lines
    assert "Sleeps:      after 5m without traffic (auto-suspend)" in lines
    assert not any(line.startswith("Why cold") for line in lines)
    header, row = volar("vms", "list", "-o", "wide").out.splitlines()
    assert row[header.index(" START") + 1 :].startswith("template, 0.14 s")
    assert row[header.index("PORTS") :].startswith("8080:80")

    cold = StartRecord(kind="cold", reason="there was no template yet")
    served.run(served.plane.settle("web", "Running", ready=True, start=cold))
    assert "Why cold:    there was no template yet" in volar("vms", "get", "web").out


def _settle_forks(served: Served) -> None:
    fork = served.plane.snapshots.fork

    async def fork_and_settle(name: str, names: tuple[str, ...]) -> Any:
        made = await fork(name, names)
        for vm in made:
            await served.plane.make_ready(vm.name)
        return made

    served.plane.snapshots.fork = fork_and_settle  # type: ignore[method-assign, assignment]


def test_fork_finds_names_and_waits_for_all(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    volar("vms", "create", "web-2", "--plugin", "nginx", "--no-wait")
    _settle_forks(served)
    ran = volar("vms", "fork", "web", "--count", "2")
    assert ran.code == 0
    assert ran.out == (
        "web-1 is ready at 192.168.127.2 (cold start, 2.41 s)\nweb-3 is ready at 192.168.127.2 (cold start, 2.41 s)\n"
    )
    assert volar("vms", "fork", "web", "-o", "name").out == "web-4\n"
    assert volar("vms", "fork", "web", "-c", "2", "--name", "try-{}-x", "-o", "name").out == "try-1-x\ntry-2-x\n"
    assert volar("vms", "fork", "web", "--name", "copy", "-o", "name").out == "copy-1\n"
    named = volar("vms", "fork", "web", "--as", "blue", "--as", "green", "--json").json
    assert [(vm["name"], vm["status"]["ready"]) for vm in named["items"]] == [("blue", True), ("green", True)]


def test_fork_may_be_left_to_itself(volar: Volar) -> None:
    volar(*CREATE)
    assert volar("vms", "fork", "web", "--count", "2", "--no-wait").out == "web-1 is starting\nweb-2 is starting\n"


def test_a_fork_that_does_not_get_ready_fails_alone(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    _settle_forks(served)
    settle = served.plane.make_ready

    async def settle_one(name: str) -> Any:
        if name == "web-1":
            return await served.plane.settle(name, "Failed", reason="StartFailed", message="no memory left")
        return await settle(name)

    served.plane.make_ready = settle_one  # type: ignore[method-assign]
    ran = volar("vms", "fork", "web", "--count", "2")
    assert (ran.code, ran.out) == (1, "web-2 is ready at 192.168.127.2 (cold start, 2.41 s)\n")
    assert "web-1 failed: StartFailed: no memory left" in ran.err


def test_stats_are_a_table_of_those_that_run(served: Served, volar: Volar) -> None:
    empty = volar("vms", "stats")
    assert (empty.code, empty.out, empty.err) == (0, "", "no VM runs\n")
    uid = volar(*CREATE, "--json").json["uid"]
    volar("vms", "create", "db", "--plugin", "nginx", "--no-wait")
    served.plane.door.stats[uid] = make_stats()
    header, row = volar("vms", "stats").out.splitlines()
    assert header.split() == ["NAME", "CPU", "PRIVATE", "SHARED", "PROCESS", "GUEST", "DISK", "R/W", "NET", "IN/OUT", "LOAD"]
    assert row.split() == ["web", "0.0%", "2.8", "MiB", "58.2", "MiB", "41.0", "MiB", "-", "-", "-", "-"]
    assert [one["name"] for one in volar("vms", "stats", "--json").json["items"]] == ["web"]
    assert volar("vms", "stats", "web", "--json").json["memory_shared_bytes"] == 61_000_000
    both = volar("vms", "stats", "web", "db")
    assert (both.code, len(both.out.splitlines())) == (4, 2)
    assert "does not run" in both.err


def test_snapshots_are_taken_and_shown(served: Served, volar: Volar) -> None:
    assert "there are no snapshots" in volar("snapshots", "list").err
    volar(*CREATE)
    ran = volar("snapshots", "create", "web", "--name", "before")
    assert (ran.code, ran.out) == (0, "before is taken (3.0 MiB, web stood still for 35 ms)\n")
    served.plane.snapshots.outcome = {"phase": "Ready", "size_bytes": 1024, "parent": "before"}
    assert volar("snapshots", "create", "web", "--name", "disk", "--disk-only").out == "disk is taken (1.0 KiB of the disk)\n"
    served.plane.snapshots.outcome = {"phase": "Ready", "size_bytes": 1024, "parent": "disk"}
    named = volar("snapshots", "create", "web", "-o", "name").out.strip()
    assert named.startswith("web-20")

    lines = [line.split() for line in volar("snapshots", "list").out.splitlines()]
    assert lines[0] == ["NAME", "VM", "PHASE", "SIZE", "MEMORY", "AGE", "PARENT"]
    assert (lines[1][0], lines[1][5], lines[1][-1]) == ("before", "yes", "-")
    assert (lines[2][0], lines[2][5], lines[2][-1]) == ("disk", "no", "before")
    assert "PLUGIN" in volar("snapshots", "list", "-o", "wide").out
    assert f"Descends:    {named} < disk < before" in volar("snapshots", "show", named).out.splitlines()
    assert volar("snapshots", "show", "before", "--json").json["status"]["paused_ms"] == 35
    assert volar("snapshots", "create", "web", "--name", "before").code == 4
    gone = volar("snapshots", "delete", "before", "absent", "disk")
    assert (gone.code, gone.out) == (3, "before is deleted\ndisk is deleted\n")
    assert volar("snapshots", "list", "-o", "name").out == f"{named}\n"


def test_a_snapshot_that_failed_says_why(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    served.plane.snapshots.outcome = {"phase": "Failed", "reason": "WrongState", "message": "it does not run"}
    ran = volar("snapshots", "create", "web", "--name", "before")
    assert (ran.code, ran.out) == (1, "")
    assert "volar: before failed: it does not run\n" in ran.err
    late = volar("snapshots", "create", "web", "--name", "later", "--no-wait")
    assert (late.code, late.out) == (0, "later is being taken\n")


def test_restore_in_place_says_what_is_lost(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    volar("snapshots", "create", "web", "--name", "before")
    _settle_when(served, "restore", "Running", ready=True, start=StartRecord(kind="snapshot", duration_ms=120))
    ran = volar("snapshots", "restore", "before")
    assert (ran.code, ran.out) == (0, "web is ready (snapshot start, 0.12 s)\n")
    assert "what it did since is lost" in ran.err.splitlines()[0]
    assert volar("vms", "get", "web", "--json").json["snapshot"] == "before"


def test_restore_as_a_new_vm_leaves_the_old_one(served: Served, volar: Volar) -> None:
    volar(*CREATE, "-P", "8080:80")
    volar("snapshots", "create", "web", "--name", "before")
    ran = volar("snapshots", "restore", "before", "--as", "web2", "--no-wait", "--json")
    assert (ran.json["name"], ran.json["snapshot"], ran.json["ports"], ran.err) == ("web2", "before", [], "")
    assert volar("vms", "get", "web", "--json").json["snapshot"] == ""


def test_templates_are_listed_built_and_pruned(served: Served, volar: Volar) -> None:
    assert "there are no templates" in volar("templates", "list").err
    served.plane.door.templates.found = [make_template("a", "job", users=2, loaded=True)]
    built = volar("templates", "build", "nginx", "--cpu", "2", "--memory", "512")
    assert built.out == "template bbbbbbbbbbbb of nginx, booted, 90.0 MiB is there (2 CPU, 512 MiB)\n"
    assert "making the template of nginx" in built.err
    lines = [line.split() for line in volar("templates", "list").out.splitlines()]
    assert lines[0] == ["KEY", "KIND", "PLUGIN", "CPU", "MEMORY", "SIZE", "USERS", "LOADED", "USED"]
    assert lines[1][:10] == ["aaaaaaaaaaaa", "booted", "job", "1", "256", "MiB", "90.0", "MiB", "2", "yes"]
    assert [one["key"] for one in volar("templates", "list", "--json").json["items"]] == ["a" * 64, "b" * 64]
    assert volar("templates", "list", "-o", "name").out == f"{'a' * 64}\n{'b' * 64}\n"
    assert volar("templates", "prune").out == (
        "template bbbbbbbbbbbb of nginx, booted, 90.0 MiB is removed\n90.0 MiB given back\n"
    )
    assert volar("templates", "prune").out == "nothing to remove\n"
    assert volar("templates", "prune", "--json").json == {"items": []}


def test_pools_are_set_and_listed(volar: Volar) -> None:
    assert "no plugin keeps a pool" in volar("pools", "list").err
    assert volar("pools", "set", "nginx", "2").out == "nginx keeps 2 clones ready\n"
    header, row = volar("pools", "list").out.splitlines()
    assert header.split() == ["PLUGIN", "WANTED", "PARKED", "RESERVED", "MESSAGE"]
    assert row.split()[:5] == ["nginx", "2", "1", "256", "MiB"]
    assert volar("pools", "list", "--json").json["items"][0]["reserved_mb"] == 256
    assert volar("pools", "set", "nginx", "1").out == "nginx keeps 1 clone ready\n"
    assert volar("pools", "set", "nginx", "--default").out == "nginx keeps no pool\n"
    assert volar("pools", "set", "nginx", "0", "--json").json["pool"] == 0


def test_what_a_guest_wrote_cannot_command_the_terminal_here_either(served: Served, volar: Volar) -> None:
    volar(*CREATE)
    served.plane.snapshots.outcome = {"phase": "Failed", "message": "\x1b]0;owned\x07\nvolar: all is well"}
    for arguments in (
        ("snapshots", "create", "web", "--name", "s"),
        ("snapshots", "show", "s"),
        ("snapshots", "list", "-o", "wide"),
    ):
        ran = volar(*arguments)
        assert "owned" in ran.out + ran.err
        assert not {"\x1b", "\x07"} & set(ran.out + ran.err)


def test_sizes_periods_and_names_are_made_for_people() -> None:
    assert [format_size(size) for size in (0, 812, 3480, 137_000_000, 5 << 30)] == [
        "0 B",
        "812 B",
        "3.4 KiB",
        "131 MiB",
        "5.0 GiB",
    ]
    assert [format_period(seconds) for seconds in (45, 90, 300, 7200)] == ["45s", "90s", "5m", "2h"]
    moment = datetime(2026, 1, 31, 12, 0, 5, tzinfo=UTC)
    assert name_snapshot("web", moment) == "web-20260131t120005"
    assert len(name_snapshot("a" * 46 + "-" + "b" * 16, moment)) <= 63
    assert name_snapshot("a" * 46 + "-" + "b" * 16, moment) == "a" * 46 + "-20260131t120005"
