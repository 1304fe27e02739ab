"""The commands of some pages do, in their order, what the pages say of them, on the whole of volantd with a simulated host."""

from __future__ import annotations

import re
import shlex
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from tests.contract.api.plane import SimulatedVolantd

from volant.cli.volar import run
from volant.client.client import Client

HOWTO = Path(__file__).parents[2] / "docs" / "howto"
_BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PROMPT = "# "


class Command(NamedTuple):
    """``output`` is what the page shows of it; nothing where it shows nothing."""

    line: str
    output: tuple[str, ...]


class Page(NamedTuple):
    """``files`` are where the commands are run, by name. ``instead`` is run in place of words of the page that take long, or need
    a workload of one's own. ``before`` is run ahead of a line, ``codes`` are the exit codes of lines that are to fail."""

    plugins: tuple[str, ...] = ("nginx",)
    files: Mapping[str, str] = {}
    instead: Mapping[str, str] = {}
    before: Mapping[str, str] = {}
    codes: Mapping[str, int] = {}


ORIGINAL = {"name": "web", "desired_replicas": 2, "config": {"plugin": "nginx", "env": {"MODE": "fast"}}}

PAGES = {
    "deployments.md": Page(
        files={"web.json": msgspec.json.encode(ORIGINAL).decode()},
        instead={'"pause_s": 60': '"pause_s": 0'},
    ),
    "declarative.md": Page(
        files={"shop.yaml": "yaml", "shop/shop.yaml": "yaml"},
        before={"volar apply -f shop/ --prune -l app=shop": "volar apply -f shop.yaml --force-conflicts"},
        codes={"volar apply -f shop.yaml": 4},
        instead={"-l app=shop": "-l app=shop --yes"},
    ),
    "jobs.md": Page(
        plugins=("nginx", "shop", "busybox", "backup"),
        instead={"sh -c 'echo part $VOLANT_JOB_INDEX'": "echo part", "./manage.py migrate": "echo migrated"},
    ),
}


def read_blocks(page: str) -> list[tuple[str, str]]:
    """``(language, text)``."""
    return _BLOCK.findall((HOWTO / page).read_text(encoding="utf-8"))


def read_commands(page: str) -> Iterator[Command]:
    for language, text in read_blocks(page):
        if language not in ("", "console"):
            continue
        line, output = "", list[str]()
        for each in text.splitlines():
            if each.startswith(_PROMPT):
                if line:
                    yield Command(line, tuple(output))
                line, output = each.removeprefix(_PROMPT), []
            elif line:
                output.append(each)
        if line:
            yield Command(line, tuple(output))


Run = Callable[[str], tuple[int, str]]


@pytest.fixture
def volantd() -> Iterator[SimulatedVolantd]:
    with tempfile.TemporaryDirectory() as directory, SimulatedVolantd(Path(directory)) as running:
        yield running


@pytest.fixture
def run_line(
    volantd: SimulatedVolantd, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Run:
    """Type a line in ``tmp_path``; returns the exit code and all that was shown."""
    monkeypatch.setenv("VOLANT_API", volantd.unix)
    monkeypatch.chdir(tmp_path)

    def type_line(line: str) -> tuple[int, str]:
        line, _, kept_in = line.partition(" > ")
        program, *words = shlex.split(line)
        assert program == "volar", line
        code = run(words)
        captured = capfd.readouterr()
        if kept_in:
            Path(kept_in).write_text(captured.out, encoding="utf-8")
        return code, captured.out + captured.err

    return type_line


@pytest.mark.parametrize("name", PAGES)
def test_the_commands_of_a_page_do_what_it_says(name: str, volantd: SimulatedVolantd, run_line: Run, tmp_path: Path) -> None:
    page = PAGES[name]
    client = Client(volantd.unix)
    manifest = client.plugins.manifest("nginx")
    for plugin in page.plugins:
        resources = {"cpu_cores": 1, "memory_mb": 128}
        client.plugins.install({**manifest, "name": plugin, "resources": resources, "version": "2.0"})
    documents = [text for language, text in read_blocks(name) if language == "yaml"]
    for path, text in page.files.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_text(documents[0] if text == "yaml" else text, encoding="utf-8")
    for document in documents:
        (tmp_path / "document.yaml").write_text(document, encoding="utf-8")
        assert run_line("volar apply --dry-run -f document.yaml")[0] == 0, document
    commands = list(read_commands(name))
    assert len(commands) >= 5
    for line, output in commands:
        if line in page.before:
            assert run_line(page.before[line])[0] == 0, line
        done = line
        for words, others in page.instead.items():
            done = done.replace(words, others)
        code, shown = run_line(done)
        is_refused = bool(output) and output[0].startswith("volar: ")
        assert code == (page.codes.get(line, 0) if is_refused else 0), f"{line}: {shown}"
        missing = [each for each in output if each not in shown.splitlines()]
        assert not missing, f"{line}: {shown}"


def test_a_page_is_read_with_what_it_shows() -> None:
    found = dict(read_commands("declarative.md"))
    assert found["volar delete -f shop.yaml"] == ("deployment/shop is not there",)
    assert found["volar diff -f shop.yaml"] == ()
