"""``volar vms`` against a served control plane."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]
CREATE = ("vms", "create", "web", "--plugin", "nginx")


def _settle_at_create(served: Served, settle: str, **status: Any) -> None:
    """What a reconciler does once a VM is written down."""
    vms = served.plane.vms
    create = vms.create

    async def create_and_settle(wanted: Any, **named: Any) -> Any:
        vm = await create(wanted, **named)
        if settle == "Ready":
            await served.plane.make_ready(vm.name)
        else:
            await served.plane.settle(vm.name, settle, **status)
        return vm

    vms.create = create_and_settle  # type: ignore[method-assign]


def test_create_waits_and_says_where_it_is(served: Served, volar: Volar) -> None:
    _settle_at_create(served, "Ready")
    ran = volar(*CREATE)
    assert (ran.code, ran.out) == (0, "web is ready at 192.168.127.2 (cold start, 2.41 s)\n")
    assert "web: Pending" in ran.err


def test_create_that_fails_says_why_and_what_to_do(served: Served, volar: Volar) -> None:
    served.plane.door.console = b"\x1b[0mLinux version 6.1\r\nKernel panic - not syncing\r\n"
    _settle_at_create(served, "Failed", reason="BootFailed", message="the kernel panicked")
    ran = volar(*CREATE)
    assert (ran.code, ran.out) == (1, "")
    assert "volar: web failed: BootFailed: the kernel panicked\n" in ran.err
    assert "    | Kernel panic - not syncing\n" in ran.err
    assert "  hint: volar vms console web" in ran.err


def test_create_that_fails_still_prints_its_document(served: Served, volar: Volar) -> None:
    _settle_at_create(served, "Failed", reason="BootFailed", message="the kernel panicked")
    ran = volar(*CREATE, "--json")
    assert (ran.code, ran.json["status"]["phase"]) == (1, "Failed")


def test_create_takes_every_option(served: Served, volar: Volar) -> None:
    words = (
        "--cpu 2 --memory 512 --disk 128 -e A=b=c -e D= -l tier=web --root ephemeral --restart-policy never "
        "--isolation hardware --grace 3 --stopped --no-wait --json"
    )
    ran = volar(*CREATE, *words.split())
    assert ran.code == 0
    made = ran.json
    assert {key: made[key] for key in ("cpu_cores", "memory_mb", "env", "labels", "root", "restart_policy")} == {
        "cpu_cores": 2,
        "memory_mb": 512,
        "env": {"A": "b=c", "D": ""},
        "labels": {"tier": "web"},
        "root": "ephemeral",
        "restart_policy": "never",
    }
    assert (made["isolation"], made["stop_grace_s"], made["power"]) == ("hardware", 3, "stopped")


def test_create_from_a_file_that_options_change(served: Served, volar: Volar, tmp_path: Path) -> None:
    volar(*CREATE, "-l", "tier=web", "--no-wait")
    file = tmp_path / "vm.json"
    file.write_text(volar("vms", "get", "web", "--json").out)
    ran = volar("vms", "create", "web2", "-f", str(file), "-l", "zone=a", "--no-wait", "--json")
    assert (ran.json["name"], ran.json["plugin"], ran.json["labels"]) == ("web2", "nginx", {"tier": "web", "zone": "a"})


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("vms", "create", "web"), 2, "--plugin is missing"),
        (("vms", "create", "--plugin", "nginx"), 2, "NAME is missing"),
        (("vms", "create", "Web!", "--plugin", "nginx"), 2, "not a valid name"),
        (("vms", "create", "web", "--plugin", "absent"), 2, "there is no plugin named"),
        (("vms", "create", "web", "--plugin", "nginx", "--memory", "1"), 2, "memory_mb"),
        (("vms", "create", "web", "--plugin", "nginx", "-e", "A"), 2, "not KEY=VALUE"),
        (("vms", "create", "web", "--plugin", "nginx", "--timeout", "60"), 2, "not a duration"),
        (("vms", "create", "-f", "/absent.json"), 2, "No such file"),
        (("vms", "get", "absent"), 3, "there is no VM named 'absent'"),
        (("vms", "delete", "absent"), 3, "there is no VM named 'absent'"),
        (("vms", "logs", "absent"), 3, "there is no VM"),
        (("vms", "exec", "absent", "--", "true"), 3, "there is no VM"),
        (("vms", "frobnicate"), 2, "No such command"),
        (("vms", "list", "--frobnicate"), 2, "No such option"),
        (("vms", "list", "-o", "xml"), 2, "xml"),
    ],
)
def test_errors_are_one_line_and_an_exit_code(volar: Volar, arguments: tuple[str, ...], code: int, said: str) -> None:
    ran = volar(*arguments)
    assert (ran.code, ran.out) == (code, "")
    first, *rest = ran.err.splitlines()
    assert first.startswith("volar: ")
    assert said in first
    assert all(line.startswith("  hint: ") for line in rest)


def test_a_second_create_is_a_conflict(volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    ran = volar(*CREATE, "--no-wait")
    assert (ran.code, "already" in ran.err) == (4, True)


def test_create_that_takes_too_long_says_where_it_stands(volar: Volar) -> None:
    ran = volar(*CREATE, "--timeout", "50ms")
    assert ran.code == 1
    assert "volar: web is not ready after 0.05 s: Pending, waiting for Scheduled" in ran.err
    assert "  hint: it goes on" in ran.err


def test_list_prints_a_table_a_document_or_names(served: Served, volar: Volar) -> None:
    empty = volar("vms", "list")
    assert (empty.code, empty.out) == (0, "")
    assert "there are no VMs" in empty.err
    assert volar("vms", "list", "--json").json == {"items": []}
    volar(*CREATE, "--no-wait")
    served.run(served.plane.make_ready("web"))
    volar("vms", "create", "a-longer-name", "--plugin", "nginx", "--no-wait", "-l", "x=y")

    lines = volar("vms", "list").out.splitlines()
    assert lines[0].split() == ["NAME", "PHASE", "READY", "IP", "PLUGIN", "RESTARTS", "AGE"]
    assert lines[2].split()[:6] == ["web", "Running", "yes", "192.168.127.2", "nginx", "0"]
    assert lines[1].split()[:6] == ["a-longer-name", "Pending", "no", "-", "nginx", "0"]
    assert lines[0].index("PHASE") == lines[2].index("Running") == lines[1].index("Pending")
    assert "MEMORY" in volar("vms", "list", "-o", "wide").out
    assert volar("vms", "list", "-o", "name").out == "a-longer-name\nweb\n"
    assert volar("vms", "list", "-l", "x=y", "-o", "name").out == "a-longer-name\n"
    assert [vm["name"] for vm in volar("vms", "list", "-o", "json").json["items"]] == ["a-longer-name", "web"]


def test_what_a_guest_wrote_cannot_command_the_terminal(served: Served, volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    served.run(served.plane.settle("web", "Failed", reason="Unhealthy", message="\x1b]0;owned\x07\nvolar: all is well"))
    for arguments in (("vms", "get", "web"), ("vms", "list", "-o", "wide")):
        ran = volar(*arguments)
        assert "owned" in ran.out + ran.err
        assert not {"\x1b", "\x07"} & set(ran.out + ran.err)
        assert "\nvolar: all" not in ran.out + ran.err


def test_get_describes_one(served: Served, volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    served.run(served.plane.make_ready("web"))
    out = volar("vms", "get", "web").out
    assert "Phase:       Running, ready" in out
    assert "Address:     192.168.127.2/24 on default" in out
    assert volar("vms", "get", "web", "--json").json["status"]["addresses"][0]["ip"] == "192.168.127.2"


def test_several_names_are_asked_for_at_once(served: Served, volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    volar("vms", "create", "db", "--plugin", "nginx", "--no-wait")
    ran = volar("vms", "stop", "web", "absent", "db", "--no-wait")
    assert (ran.code, ran.out) == (3, "web is stopping\ndb is stopping\n")
    both = volar("vms", "start", "web", "db", "--no-wait", "--json").json
    assert [vm["power"] for vm in both["items"]] == ["running", "running"]
    assert volar("vms", "restart", "web", "--no-wait", "--json").json["name"] == "web"


def test_delete_waits_until_it_is_gone(served: Served, volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    vms = served.plane.vms
    mark = vms.delete

    async def delete_at_once(name: str, **named: Any) -> Any:
        vm = await mark(name, **named)
        await vms.table.drop(name)
        return vm

    vms.delete = delete_at_once  # type: ignore[method-assign]
    # It is gone before it can be watched, which is what was waited for.
    ran = volar("vms", "delete", "web")
    assert (ran.code, ran.out) == (0, "web is deleted\n")


def test_logs_keep_their_streams_apart(served: Served, volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    served.run(served.plane.door.write_line("to stdout"))
    served.run(served.plane.door.write_line("to stderr", "stderr"))
    served.run(served.plane.door.write_line("from pid 1", "kestrel"))
    ran = volar("vms", "logs", "web")
    assert (ran.out, ran.err) == ("to stdout\n", "to stderr\nkestrel: from pid 1\n")
    assert volar("vms", "logs", "-n", "1", "-t", "web").err == "2026-01-31T12:00:00.000000Z kestrel: from pid 1\n"
    lines = [json.loads(line) for line in volar("vms", "logs", "--json", "web").out.splitlines()]
    assert [line["seq"] for line in lines] == [1, 2, 3]
    assert volar("vms", "logs", "--previous", "web").code == 4
    assert volar("vms", "logs", "--since", "5m", "web").code == 0
    assert volar("vms", "logs", "--since", "later", "web").code == 2


def test_exec_ends_as_the_program_did(volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    assert volar("vms", "exec", "web", "--", "echo", "-n", "--json").out == "-n --json\n"
    ran = volar("vms", "exec", "web", "fail", "7")
    assert (ran.code, ran.out, ran.err) == (7, "", "it went wrong\n")
    ran = volar("vms", "exec", "web", "--", "unreachable")
    assert (ran.code, "does not answer" in ran.err) == (1, True)


def test_console_prints_what_there_was(served: Served, volar: Volar) -> None:
    volar(*CREATE, "--no-wait")
    assert volar("vms", "console", "web").out == "booting\r\n"
