"""Many VMs at once: selecting them, waiting for them, their logs, stats and events."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from volant.cli.events import follow_events, read_about
from volant.cli.prefix import clean_line
from volant.cli.vm_goal import read_goal
from volant.cli.vm_select import each_at_once, read_choice
from volant.client.client import Client
from volant.core.errors import InvalidInput, NotFound, VolantError
from volant.node.door import VMStats

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]


@pytest.fixture
def shop(served: Served, volar: Volar) -> None:
    """Three VMs; two are of the shop."""
    for name, labels in (("web", "app=shop"), ("db", "app=shop"), ("other", "app=else")):
        assert volar("vms", "create", name, "--plugin", "nginx", "--no-wait", "--label", labels).code == 0


def _power(served: Served, name: str) -> str:
    power: str = served.plane.vms.table.get(name).spec.power
    return power


@pytest.mark.usefixtures("shop")
def test_a_selector_chooses(served: Served, volar: Volar) -> None:
    ran = volar("vms", "stop", "-l", "app in (shop),!gone", "--no-wait")
    assert (ran.code, sorted(ran.out.splitlines())) == (0, ["db is stopping", "web is stopping"])
    assert (_power(served, "web"), _power(served, "db"), _power(served, "other")) == ("stopped", "stopped", "running")
    assert volar("vms", "start", "--all", "--no-wait", "-o", "name").code == 0
    assert _power(served, "web") == "running"
    nothing = volar("vms", "stop", "-l", "app=absent")
    assert (nothing.code, nothing.out) == (0, "")
    assert "no VM has app=absent" in nothing.err


@pytest.mark.usefixtures("shop")
def test_selected_ones_are_deleted_and_counted(served: Served, volar: Volar) -> None:
    ran = volar("vms", "delete", "web", "absent", "db", "--no-wait")
    assert ran.code == 3
    assert "delete: 2 of 3 done, failed: absent" in ran.err
    assert volar("vms", "delete", "-l", "app=else", "--no-wait", "--json").json["items"][0]["name"] == "other"


@pytest.mark.parametrize(
    "arguments",
    [(), ("web", "--all"), ("web", "-l", "a=b"), ("-l", "a=b", "--all"), ("-l", "a=("), ("-l", "")],
)
def test_a_choice_is_said_in_one_way(volar: Volar, arguments: tuple[str, ...]) -> None:
    ran = volar("vms", "stop", *arguments)
    assert (ran.code, ran.out) == (2, "")


def test_a_choice_that_is_not_needed_is_all() -> None:
    assert read_choice((), None, False, required=False) == ((), "", False)
    with pytest.raises(InvalidInput):
        read_choice((), None, False)


def test_what_is_done_at_once_is_bounded_and_comes_whole() -> None:
    running = 0
    most = 0
    lock = threading.Lock()
    together = threading.Barrier(4)

    def work(number: int) -> int:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(10)
        with lock:
            running -= 1
        if number % 10 == 3:
            raise NotFound("gone")
        return number

    results = dict(each_at_once(range(20), work, 4))
    assert most == 4
    assert {number for number, result in results.items() if isinstance(result, VolantError)} == {3, 13}
    assert all(result == number for number, result in results.items() if isinstance(result, int))
    with pytest.raises(ZeroDivisionError):
        list(each_at_once([1, 0], lambda number: 1 // number))


@pytest.mark.usefixtures("shop")
def test_wait_says_where_each_stands(served: Served, volar: Volar) -> None:
    served.run(served.plane.make_ready("web"))
    ran = volar("vms", "wait", "web", "db", "--for", "phase=running", "--timeout", "300ms")
    assert (ran.code, ran.out) == (1, "web: phase=running\n")
    assert "db is not there after 0.3 s" in ran.err
    assert "1 of 2 are there" in ran.err
    assert volar("vms", "wait", "web", "--for", "jsonpath={.status.ready}=true", "--timeout", "5s").code == 0
    assert volar("vms", "wait", "web", "--for", "condition=booted").code == 0
    assert volar("vms", "wait", "absent").code == 3
    assert volar("vms", "wait", "absent", "--for", "delete").code == 0


@pytest.mark.usefixtures("shop")
def test_wait_sees_what_comes(served: Served, volar: Volar) -> None:
    def later() -> None:
        for name in ("web", "db"):
            served.run(served.plane.make_ready(name))

    timer = threading.Timer(0.2, later)
    timer.start()
    ran = volar("vms", "wait", "-l", "app=shop", "--for", "phase=Running", "--timeout", "20s", "-o", "name")
    timer.join()
    assert (ran.code, sorted(ran.out.split())) == (0, ["db", "web"])


@pytest.mark.parametrize(
    "goal",
    ["ready", "condition", "condition=", "condition=Ready=Maybe", "phase=Asleep", "jsonpath=.a", "jsonpath={}", "delete=x"],
)
def test_what_cannot_be_waited_for_is_refused(goal: str) -> None:
    with pytest.raises(InvalidInput):
        read_goal(goal)


def test_goals_are_judged(served: Served) -> None:
    client = Client(served.address)
    vm = client.vms.create({"name": "web", "plugin": "nginx"})
    assert read_goal("delete").reached(None)
    assert not read_goal("delete").reached(vm)
    assert not read_goal("condition=Ready").reached(None)
    assert not read_goal("condition=Ready=False").reached(vm)
    assert read_goal("condition=Ready=Unknown").reached(vm)
    assert read_goal("jsonpath='{.status.workload.restarts}'=0").reached(vm)
    assert not read_goal("jsonpath={.status.workload.restarts}=2").reached(vm)
    assert read_goal("jsonpath={.plugin}").reached(vm)
    assert "restarts is 0" in read_goal("jsonpath={.status.workload.restarts}=2").stand(vm)


@pytest.mark.usefixtures("shop")
def test_logs_of_several_are_told_apart_and_in_order(served: Served, volar: Volar) -> None:
    served.run(served.plane.door.write_line("hello"))
    served.run(served.plane.door.write_line("half", partial=True))
    served.run(served.plane.door.write_line("whole"))
    ran = volar("vms", "logs", "-l", "app=shop")
    assert ran.code == 0
    assert sorted(ran.out.splitlines()) == ["db  | halfwhole", "db  | hello", "web | halfwhole", "web | hello"]
    documents = [msgspec.json.decode(line) for line in volar("vms", "logs", "web", "db", "--json").out.splitlines()]
    assert {(one["vm"], one["seq"]) for one in documents} == {(name, seq) for name in ("web", "db") for seq in (1, 2, 3)}
    missing = volar("vms", "logs", "web", "absent")
    assert missing.code == 3
    assert "hello" in missing.out


@pytest.mark.usefixtures("shop")
def test_followed_logs_take_in_who_comes(served: Served, volar: Volar, monkeypatch: pytest.MonkeyPatch) -> None:
    heard: list[tuple[str, str]] = []
    enough = threading.Event()

    def record(_self: object, name: str, line: dict[str, Any]) -> None:
        heard.append((name, line["text"]))
        if {one for one, _ in heard} == {"web", "db", "late"}:
            enough.set()
            raise BrokenPipeError  # who reads has enough

    monkeypatch.setattr("volant.cli.vm_logs._Printer.print", record)
    served.run(served.plane.door.write_line("hello"))
    client = Client(served.address)

    def come() -> None:
        client.vms.create({"name": "late", "plugin": "nginx", "labels": {"app": "shop"}})
        served.run(served.plane.events.record("late", "Created", "it is"))

    timer = threading.Timer(0.3, come)
    timer.start()
    monkeypatch.setattr("volant.cli.volar.os.dup2", lambda *_: None)
    ran = volar("vms", "logs", "-f", "-l", "app=shop")
    timer.join()
    assert enough.is_set()
    assert ran.code == 1
    assert ("other", "hello") not in heard


def test_lines_are_clean_for_terminals_but_for_colours() -> None:
    assert clean_line("a\x1b[31mred\x1b[0m\tb") == "a\x1b[31mred\x1b[0m\tb\x1b[0m"
    assert clean_line("\x1b]0;title\x07x\x1b[2Jy\x9bz\r") == "]0;titlex[2Jyz"


def _stats(**given: Any) -> VMStats:
    return VMStats(
        memory_private_bytes=1024,
        memory_shared_bytes=2048,
        process_private_bytes=4096,
        process_shared_bytes=0,
        cpu_s=1.0,
        **given,
    )


@pytest.fixture
def busy(served: Served, shop: None) -> None:
    table = served.plane.vms.table
    served.plane.door.stats[table.get("web").uid] = _stats(cpu_percent=3.0, disk_read_bytes=1024, disk_written_bytes=0)
    served.plane.door.stats[table.get("other").uid] = _stats(
        cpu_percent=70.0, guest_memory_total_bytes=2048, guest_memory_available_bytes=1024, guest_load1=0.5
    )


@pytest.mark.usefixtures("busy")
def test_stats_of_all_that_run_in_one_answer(served: Served, volar: Volar) -> None:
    lines = volar("vms", "stats").out.splitlines()
    assert [line.split()[0] for line in lines] == ["NAME", "other", "web"]
    assert "1.0 KiB of 2.0 KiB" in lines[1]
    assert "1.0 KiB / 0 B" in lines[2]
    assert [one["name"] for one in volar("vms", "stats", "-l", "app=shop", "--json").json["items"]] == ["web"]
    named = volar("vms", "stats", "web", "db")
    assert named.code == 4
    assert "does not run" in named.err
    assert named.out.splitlines()[1].startswith("web")


@pytest.mark.usefixtures("busy")
def test_top_has_the_busiest_first(volar: Volar) -> None:
    lines = volar("top").out.splitlines()
    assert lines[0].startswith("2 VMs running; cpu 73.0%")
    assert [line.split()[0] for line in lines[3:]] == ["other", "web"]
    assert [one["name"] for one in volar("top", "--sort", "disk", "--json").json["items"]] == ["web", "other"]
    assert [one["name"] for one in volar("top", "--sort", "name", "-n", "1", "--json").json["items"]] == ["other"]
    assert volar("top", "--sort", "smell").code == 2


def test_events_are_narrowed(served: Served, volar: Volar) -> None:
    served.run(served.plane.events.record("web", "Ready", "it is"))
    assert "vm/web" in volar("events", "--for", "vm/web").out
    assert volar("events", "--for", "web", "--types", "Warning").out == ""
    assert volar("events", "--since", "2026-01-31T11:00:00Z", "--json").json["items"][0]["reason"] == "Ready"
    assert volar("events", "--since", "2026-01-31T13:00:00Z").out == ""
    for arguments in (("--for", "pod/web"), ("--types", "Loud"), ("--since", "soon"), ("--since", "9999T")):
        assert volar("events", *arguments).code == 2, arguments
    assert read_about("VMs/web") == ("VM", "web")
    assert read_about("vm/") == ("VM", None)


def test_followed_events_go_on_after_a_restart(tmp_path: Any) -> None:
    """The second server knows the first one's events, as the store does."""
    with Served(tmp_path) as first:
        first.run(first.plane.events.record("web", "One", "1"))
        client = Client(first.address)
        following = follow_events(client, "0", None, None)
        assert next(following).spec.reason == "One"
        kept = first.plane.events
    (tmp_path / "volantd.sock").unlink(missing_ok=True)
    with Served(tmp_path) as second:

        async def carry_on() -> None:
            second.plane.intents.events = second.plane.events
            second.plane.events._events = [*kept._events]
            await second.plane.events.record("web", "Two", "2")

        second.run(carry_on())
        assert next(following).spec.reason == "Two"
        following.close()


@pytest.mark.usefixtures("shop")
def test_a_program_runs_in_each(served: Served, volar: Volar) -> None:
    ran = volar("vms", "exec", "-l", "app=shop", "-u", "1", "-e", "A=b", "--", "echo", "-n", "hi")
    assert (ran.code, sorted(ran.out.splitlines())) == (0, ["db  | -n hi", "web | -n hi"])
    assert {(one.user, one.env["A"], one.stdin) for one in served.plane.door.requests} == {("1", "b", False)}
    failed = volar("vms", "exec", "--all", "fail", "7")
    assert failed.code == 7
    assert "web   | it went wrong" in failed.err
    assert "exec: 0 of 3 ended with 0" in failed.err
    for arguments in (("-l", "app=shop"), ("-l", "app=shop", "-t", "--", "echo"), ("--all", "-l", "a=b", "echo"), ()):
        assert volar("vms", "exec", *arguments).code == 2, arguments
