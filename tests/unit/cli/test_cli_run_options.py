"""What Docker's users type after ``volar run``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click
import pytest

from volant.cli.run_options import (
    CommandAfter,
    WorkloadChanges,
    publish_all,
    read_cpus,
    read_environment,
    read_memory,
    read_published,
    read_restart,
)
from volant.core.errors import InvalidInput

DOCUMENT: dict[str, Any] = {
    "name": "web",
    "workload": {"entrypoint": ["nginx"], "base_url": "http://127.0.0.1:80", "restart": {"policy": "always"}},
    "health_check": {"endpoint": "/"},
    "probes": {"liveness": {"tcp": {"port": 80}}},
    "network": {"expose": [{"port": 443}, {"port": 80}, {"port": 53, "protocol": "udp"}]},
}


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("image", ("image", (), False, None)),
        ("-t image sh", ("image", ("sh",), True, None)),
        ("image -t sh", ("image", ("sh",), True, None)),
        ("image sh -t -p 1", ("image", ("sh", "-t", "-p", "1"), False, None)),
        ("image -p 80 sh -c ls", ("image", ("sh", "-c", "ls"), False, "80")),
        ("-tp 80 image sh", ("image", ("sh",), True, "80")),
        ("-tp80 image sh -x", ("image", ("sh", "-x"), True, "80")),
        ("--publish=80 image sh", ("image", ("sh",), False, "80")),
        ("--publish 80 image -- sh -t", ("image", ("sh", "-t"), False, "80")),
        ("image -- -t", ("image", ("-t",), False, None)),
        ("image - x", ("image", ("-", "x"), False, None)),
    ],
)
def test_where_the_command_begins(words: str, expected: tuple[Any, ...]) -> None:
    seen: list[tuple[Any, ...]] = []

    @click.command(cls=CommandAfter)
    @click.argument("image")
    @click.argument("command", nargs=-1, type=click.UNPROCESSED)
    @click.option("-t", "--tty", is_flag=True)
    @click.option("-p", "--publish")
    def program(image: str, command: tuple[str, ...], tty: bool, publish: str | None) -> None:
        seen.append((image, command, tty, publish))

    program.main(words.split(), standalone_mode=False)
    assert seen == [expected]


@pytest.mark.parametrize(
    ("text", "mib"), [("512", 512), ("512m", 512), ("1g", 1024), ("1GB", 1024), ("1GiB", 1024), ("1024k", 1), ("1t", 1048576)]
)
def test_memory_is_written_as_people_do(text: str, mib: int) -> None:
    assert read_memory(text) == mib


@pytest.mark.parametrize("text", ["", "0", "m", "-1m", "1x", "1.5g", "99999999999999g"])
def test_what_is_no_memory_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_memory(text)


def test_a_part_of_a_core_is_a_limit() -> None:
    assert read_cpus(2) == {"cpu_cores": 2}
    assert read_cpus(1.5) == {"cpu_cores": 2, "limits": {"cpu_percent": 150}}
    assert read_cpus(0.001) == {"cpu_cores": 1, "limits": {"cpu_percent": 1}}
    for cores in (0, -1, 65):
        with pytest.raises(InvalidInput):
            read_cpus(cores)


def test_ports_are_published() -> None:
    assert read_published(("8080:80", "1:2/tcp")) == [{"port": 80, "host_port": 8080}, {"port": 2, "host_port": 1}]
    chosen = read_published(("80", ":81", "82/tcp"))
    assert [each["port"] for each in chosen] == [80, 81, 82]
    assert all(1024 <= each["host_port"] <= 65535 for each in chosen)
    assert [each["port"] for each in publish_all(DOCUMENT)] == [80, 443]


@pytest.mark.parametrize("text", ["", "a:b", "80:", "0:80", "80:99999", "80:80/udp", "127.0.0.1:80:80", "::1:80:80", "80/sctp"])
def test_what_publishes_nothing_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_published((text,))
    assert refused.value.hint


def test_the_environment_comes_from_files_and_options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "env"
    file.write_text("# comment\nA=1\n\nB=x=y\n")
    monkeypatch.setenv("FROM_HERE", "yes")
    assert read_environment(("A=2", "FROM_HERE"), (str(file),)) == {"A": "2", "B": "x=y", "FROM_HERE": "yes"}
    for content in ("nothing\n", "=1\n", " A =1\n"):
        file.write_text(content)
        with pytest.raises(InvalidInput, match="line 1"):
            read_environment((), (str(file),))
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_environment((), (str(tmp_path / "none"),))
    with pytest.raises(InvalidInput):
        read_environment(("NOT_SET_ANYWHERE",), ())


def test_restart_policies_have_dockers_names() -> None:
    assert read_restart("no") == ("never", 0)
    assert read_restart("unless-stopped") == ("always", 0)
    assert read_restart("on-failure:5") == ("on-failure", 5)
    for text in ("sometimes", "always:3", "on-failure:", "on-failure:x"):
        with pytest.raises(InvalidInput):
            read_restart(text)


def test_a_command_of_ones_own_listens_nowhere() -> None:
    changed = WorkloadChanges(command=("sh",), tty=True, stdin=True, user="1000", workdir="/srv", max_restarts=3).apply(DOCUMENT)
    assert changed["workload"] == {
        "type": "exec", "entrypoint": ["sh"], "tty": True, "stdin": True, "user": "1000", "workdir": "/srv",
        "restart": {"policy": "always", "max_restarts": 3},
    }  # fmt: skip
    assert "health_check" not in changed
    assert "probes" not in changed
    assert DOCUMENT["workload"]["base_url"], "the manifest that there is stays as it is"


def test_a_terminal_alone_changes_nothing_else() -> None:
    changed = WorkloadChanges(tty=True).apply(DOCUMENT)
    assert changed["workload"]["base_url"] == "http://127.0.0.1:80"
    assert changed["health_check"] == DOCUMENT["health_check"]
