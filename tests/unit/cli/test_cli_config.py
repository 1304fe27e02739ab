"""The commands of configuration, on the real intents behind a served API; and the words that they take."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from volant.cli.vm_config import read_changes
from volant.cli.vm_set import read_edits
from volant.cli.volar import run
from volant.core.condition import Condition
from volant.core.errors import InvalidInput
from volant.core.vm import RESTART_REQUIRED

from ..api.real_plane import RealPlane  # noqa: TID252  # importlib mode knows no top-level name for it
from .conftest import Ran


@pytest.fixture
def plane(tmp_path: Path) -> Iterator[RealPlane]:
    with RealPlane(tmp_path) as running:
        yield running


@pytest.fixture
def volar(plane: RealPlane, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    monkeypatch.setenv("VOLANT_API", plane.address)

    def run_volar(*arguments: str) -> Ran:
        code = run(arguments)
        captured = capfd.readouterr()
        return Ran(code, captured.out, captured.err)

    assert run_volar("vms", "create", "web", "--plugin", "job", "--no-wait", "-l", "tier=web").code == 0
    return run_volar


def test_a_change_is_told_with_what_it_needs(volar: Callable[..., Ran], plane: RealPlane) -> None:
    plane.look_after("web", Condition(type=RESTART_REQUIRED, status="True", message="env"))
    done = volar("vms", "set", "web", "--memory", "64", "-e", "A=b", "--reason", "why not")
    assert done.code == 0, done.err
    assert done.out.splitlines() == ["web is configured anew, version 2", "  memory_mb: 128 -> 64", '  env.A: - -> "b"']
    assert "waits for a restart: env" in done.err and "volar vms restart web" in done.err
    history = volar("vms", "config", "history", "web").out
    assert "memory_mb, env.A" in history and "why not" in history
    assert volar("vms", "set", "web", "--memory", "64").out == "web is as it was\n"


def test_a_dry_run_says_and_does_nothing(volar: Callable[..., Ran]) -> None:
    done = volar("vms", "scale", "web", "--cpu", "2", "--memory", "64", "--dry-run")
    assert done.out.splitlines()[0] == "web would be configured anew"
    assert "  cpu_cores: 1 -> 2 (with a restart)" in done.out
    assert volar("vms", "config", "get", "web", "--json").json["version"] == 1
    made = volar("vms", "create", "db", "--plugin", "job", "--dry-run")
    assert made.out.startswith("db would be created from job with 1 CPU, 128 MiB")
    assert volar("vms", "list", "-o", "name").out == "web\n"


def test_labels_come_and_go(volar: Callable[..., Ran], plane: RealPlane) -> None:
    plane.look_after("web")
    assert volar("vms", "label", "web", "tier-", "zone=a").code == 0
    assert volar("vms", "get", "web", "--json").json["labels"] == {"zone": "a"}
    assert volar("vms", "list", "-l", "zone in (a,b)", "-o", "name").out == "web\n"
    assert volar("vms", "list", "-l", "zone!=a", "-o", "name").out == ""
    assert volar("vms", "list", "-l", "zone in (", "-o", "name").code == 2


def test_any_field_is_set_and_left_to_the_plugin_again(volar: Callable[..., Ran], plane: RealPlane) -> None:
    plane.look_after("web")
    assert volar("vms", "config", "set", "web", "memory_mb=64", "env.N=1", "kernel_cmdline=quiet").code == 0
    config = volar("vms", "config", "get", "web", "--json").json["config"]
    assert (config["memory_mb"], config["env"], config["kernel_cmdline"]) == (64, {"N": "1"}, "quiet")
    assert "env.N = 1" in volar("vms", "config", "get", "web").out
    assert volar("vms", "config", "set", "web", "memory_mb-", "env.N-").code == 0
    assert volar("vms", "config", "get", "web", "--json").json["config"]["memory_mb"] == 128
    assert volar("vms", "config", "get", "web", "--version", "2", "--json").json["config"]["memory_mb"] == 64
    differing = volar("vms", "config", "diff", "web", "--from", "1", "--to", "2")
    assert differing.out.splitlines()[0] == "version 1 -> 2" and "  memory_mb: 128 -> 64" in differing.out


def test_patches_and_rollbacks(volar: Callable[..., Ran], plane: RealPlane, tmp_path: Path) -> None:
    plane.look_after("web")
    assert volar("vms", "config", "patch", "web", '{"memory_mb": 64}').code == 0
    (tmp_path / "p.json").write_text(json.dumps([{"op": "add", "path": "/env/A", "value": "b"}]))
    assert volar("vms", "config", "patch", "web", "-f", str(tmp_path / "p.json")).code == 0
    planned = volar("vms", "config", "rollback", "web", "1", "--dry-run")
    assert planned.out.splitlines() == ["  memory_mb: 64 -> 128", '  env.A: "b" -> -']
    assert volar("vms", "config", "rollback", "web", "1", "--generation", "1").code == 4
    done = volar("vms", "config", "rollback", "web", "1", "--json")
    assert (done.json["memory_mb"], done.json["env"]) == (128, {})


def test_the_editor_is_given_the_configuration(
    volar: Callable[..., Ran], plane: RealPlane, monkeypatch: pytest.MonkeyPatch
) -> None:
    plane.look_after("web")

    def edit(text: str, **_: object) -> str:
        document: dict[str, Any] = json.loads(text)
        assert document["labels"] == {"tier": "web"}
        return json.dumps({**document, "labels": {}, "memory_mb": 64})

    monkeypatch.setattr("click.edit", edit)
    assert volar("vms", "config", "edit", "web").code == 0
    assert volar("vms", "get", "web", "--json").json["labels"] == {}
    monkeypatch.setattr("click.edit", lambda text, **_: text)
    assert "is as it was" in volar("vms", "config", "edit", "web").err


@pytest.mark.parametrize(
    ("words", "field"),
    [
        (("config", "set", "web", "plugin=other"), "plugin"),
        (("config", "set", "web", "surprise=1"), "surprise"),
        (("config", "set", "web", "memory_mb"), "memory_mb"),
        (("config", "patch", "web", "{"), "the patch"),
        (("config", "patch", "web", "7"), "a patch"),
        (("config", "patch", "web"), "one patch"),
        (("set", "web"), "nothing"),
        (("set", "web", "--publish", "80:80", "--publish-none"), "--publish-none"),
        (("set", "web", "--kernel", "/nonexistent"), "--kernel"),
        (("set", "web", "--kernel-cmdline", "init=/bin/sh"), "init="),
        (("scale", "web"), "size"),
        (("label", "web", "x"), "'x'"),
        (("list", "--limit", "0"), "--limit"),
        (("create", "other", "--plugin", "job", "--initramfs", "/nonexistent"), "--initramfs"),
    ],
)
def test_what_cannot_be_right_is_one_line_and_changes_nothing(
    volar: Callable[..., Ran], words: tuple[str, ...], field: str
) -> None:
    done = volar("vms", *words)
    assert done.code == 2 and field in done.err.splitlines()[0], done.err
    assert "Traceback" not in done.err and done.out == ""
    assert volar("vms", "config", "get", "web", "--json").json["version"] == 1


def test_a_boot_file_is_uploaded_once(volar: Callable[..., Ran], plane: RealPlane, tmp_path: Path) -> None:
    kernel = tmp_path / "vmlinux"
    kernel.write_bytes(b"\x7fELF" + b"mine" * 100)
    made = volar("vms", "create", "dev", "--plugin", "job", "--kernel", str(kernel), "--no-wait", "--json")
    assert made.code == 0, made.err
    digest = made.json["kernel"]
    assert plane.door.artifacts[digest] == kernel.read_bytes()
    plane.look_after("web")
    assert volar("vms", "set", "web", "--kernel", digest).code == 0
    assert volar("vms", "get", "web", "--json").json["kernel"] == digest
    assert volar("vms", "set", "web", "--kernel", "-").code == 0
    assert volar("vms", "get", "web", "--json").json["kernel"] is None


def test_a_long_list_is_read_in_pages(volar: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volant.cli.vm_read.PAGE", 2)
    for name in "abcd":
        volar("vms", "create", name, "--plugin", "job", "--no-wait")
    assert volar("vms", "list", "-o", "name").out.split() == ["a", "b", "c", "d", "web"]
    few = volar("vms", "list", "--limit", "3", "--desc", "--sort-by", "name")
    assert [line.split()[0] for line in few.out.splitlines()] == ["NAME", "web", "d", "c"]
    assert "3 of 5" in few.err
    assert "no such VMs" in volar("vms", "list", "--phase", "Running").err


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (("memory_mb=512",), {"memory_mb": 512}),
        (("env.PORT=80", "labels.a=true", "labels.b-"), {"env": {"PORT": "80"}, "labels": {"a": "true", "b": None}}),
        (("limits.pids=64", "root=ephemeral"), {"limits": {"pids": 64}, "root": "ephemeral"}),
        (('ports=[{"port": 80, "host_port": 8080}]',), {"ports": [{"port": 80, "host_port": 8080}]}),
        (("kernel_cmdline=loglevel=7 quiet", "kernel-"), {"kernel_cmdline": "loglevel=7 quiet", "kernel": None}),
    ],
)
def test_words_become_a_patch(words: tuple[str, ...], change: dict[str, Any]) -> None:
    assert read_changes(words) == change


def test_edits_of_a_map() -> None:
    assert read_edits(("a=b=c", "d-", "e="), "--env") == {"a": "b=c", "d": None, "e": ""}
    for wrong in ("x", "=y", "-"):
        with pytest.raises(InvalidInput):
            read_edits((wrong,), "--env")
