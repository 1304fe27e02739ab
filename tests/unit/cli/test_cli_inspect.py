"""``volar vms inspect``, and the two routes behind it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from volant.client.client import Client
from volant.core.errors import NotFound, WrongState
from volant.core.security import Finding, ProcessSecurity

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]

FOUND = ProcessSecurity(
    pid=17,
    holder_pid=16,
    process=(
        Finding(name="capabilities", value="none"),
        Finding(name="virtual machine", value="emulated (tcg)", verdict="weak", why="emulation is no isolation boundary"),
        Finding(name="files", value="/data/" + "a" * 200),
    ),
    holder=(Finding(name="system calls", value="mode 2"),),
    limits=(Finding(name="memory", value="329 MiB"),),
    usage={"memory_bytes": 170 << 20, "cpu_s": 2.4, "tasks": 6},
)


@pytest.fixture
def web(served: Served) -> str:
    vm = Client(served.address).vms.create({"name": "web", "plugin": "nginx"})
    served.plane.door.security[vm.uid] = FOUND
    return vm.uid


def test_security_is_a_table_with_a_verdict_a_line(web: str, volar: Volar) -> None:
    ran = volar("vms", "inspect", "web", "--security")
    assert ran.code == 0
    lines = {" ".join(line.split()) for line in ran.out.splitlines()}
    assert "VM process (pid 17)" in lines and "Holder (pid 16)" in lines
    assert "virtual machine emulated (tcg) weak emulation is no isolation boundary" in lines
    assert "memory 329 MiB ok -" in lines
    assert "memory_bytes 170 MiB" in lines and "cpu_s 2.40 s" in lines and "tasks 6" in lines
    assert ran.out.splitlines()[-1] == "1 weak: virtual machine"
    assert max(map(len, ran.out.splitlines())) < 200


def test_check_is_an_exit_code(web: str, served: Served, volar: Volar) -> None:
    assert volar("vms", "inspect", "web", "--security", "--check").code == 1
    served.plane.door.security[web] = ProcessSecurity(pid=1, holder_pid=2, process=FOUND.process[:1])
    ran = volar("vms", "inspect", "web", "--security", "--check")
    assert (ran.code, ran.out.splitlines()[-1]) == (0, "nothing is weak")
    assert volar("vms", "inspect", "web", "--check").code == 2


def test_security_as_json_is_what_the_api_says(web: str, volar: Volar) -> None:
    document = volar("vms", "inspect", "web", "--security", "--json").json
    assert (document["name"], document["weak"], document["process"][2]["value"]) == ("web", 1, "/data/" + "a" * 200)


def test_inspect_shows_all_that_there_is(web: str, volar: Volar) -> None:
    document = volar("vms", "inspect", "web", "--json").json
    assert document["vm"]["plugin"] == "nginx"
    assert (document["run_state"], document["command"], document["security"]["pid"]) == ("running", ["vmm"], 17)
    assert document["state_directory"] == f"/data/{web}"
    table = volar("vms", "inspect", "web").out
    assert "running, pid 17" in table and f"/data/{web}" in table


def test_one_that_does_not_run_is_inspected_and_has_no_process(served: Served, volar: Volar) -> None:
    client = Client(served.address)
    client.vms.create({"name": "db", "plugin": "nginx"})
    assert client.inspections.inspect("db")["security"] is None
    assert "absent" in volar("vms", "inspect", "db").out
    with pytest.raises(WrongState):
        client.inspections.security("db")
    with pytest.raises(NotFound):
        client.inspections.inspect("nobody")
    assert volar("vms", "inspect", "nobody").code == 3
