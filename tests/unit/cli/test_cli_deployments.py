"""The options that describe a deployment, and what a plan looks like. The commands run in tests/contract/api."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from volant.cli.deployment_options import read_change, read_deployment_file
from volant.cli.deployment_plan import changes_anything, print_plan
from volant.cli.volar import run
from volant.core.errors import InvalidInput


def test_options_become_a_patch() -> None:
    given: dict[str, Any] = {
        "plugin": "nginx",
        "memory_mb": 256,
        "env": ("A=1", "B-"),
        "label": ("team=shop",),
        "vm_label": ("tier=web", "old-"),
        "strategy": "canary",
        "max_surge": "2",
        "max_unavailable": "25%",
        "min_ready_s": 5.0,
        "replicas": 3,
        "auto_rollback": False,
        "publish": ("8080:80",),
        "settings": ('strategy.steps=[{"replicas": 1}]', "vm.env.C.D=7", "vm_labels.a.b/c=true", "budget-", "autoscale.max=4"),
    }
    assert read_change(given) == {
        "vm": {"plugin": "nginx", "memory_mb": 256, "env": {"A": "1", "B": None, "C.D": "7"}},
        "labels": {"team": "shop"},
        "vm_labels": {"tier": "web", "old": None, "a.b/c": "true"},
        "strategy": {"type": "canary", "max_surge": 2, "max_unavailable": "25%", "steps": [{"replicas": 1}]},
        "min_ready_s": 5,
        "replicas": 3,
        "auto_rollback": False,
        "ports": [{"host_port": 8080, "port": 80}],
        "budget": None,
        "autoscale": {"max": 4},
    }
    assert read_change({"plugin": None, "env": ()}) == {}


@pytest.mark.parametrize("word", ["strategy", "=1", "a..b=1", "budget=1 budget.x=2"])
def test_a_setting_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(InvalidInput, match="--set"):
        read_change({"settings": tuple(word.split(" "))})


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"name": "web", "vm": {"plugin": "nginx"}}, {"name": "shop", "vm": {"plugin": "nginx"}}),
        ({"plugin": "nginx"}, {"name": "shop", "vm": {"plugin": "nginx"}}),
        ({"runtime": "nginx"}, {"name": "shop", "vm": {"plugin": "nginx"}}),
        ({"name": "x", "replicas": 2, "config": {"plugin": "nginx"}}, {"name": "shop", "replicas": 2, "vm": {"plugin": "nginx"}}),
    ],
)
def test_files_of_both_kinds_are_read(tmp_path: Path, document: Any, expected: Any) -> None:
    file = tmp_path / "web.json"
    file.write_text(json.dumps(document))
    assert read_deployment_file(str(file), "shop") == expected


def test_a_file_without_a_name_needs_one(tmp_path: Path) -> None:
    file = tmp_path / "web.json"
    file.write_text('{"plugin": "nginx"}')
    with pytest.raises(InvalidInput, match="NAME is missing"):
        read_deployment_file(str(file), None)


def plan(**preview: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {field: [] for field in ("created", "replaced", "removed", "kept", "passing")}
    return {"resource": {"name": "web"}, "preview": {**empty, **preview}, "taken": [], "differences": []}


def test_a_plan_names_vms_by_what_becomes_of_them(capsys: pytest.CaptureFixture[str]) -> None:
    many = [f"web-{index}" for index in range(25)]
    print_plan(plan(created=["web-2"], replaced=many, removed=["web-30"], passing=["web-31"], kept=["web-1"]))
    said = capsys.readouterr().out
    assert said.startswith("web would change\n") and "+ 1 VM made: web-2\n" in said
    assert "~ 25 VMs replaced: web-0, " in said and "web-19 and 5 more\n" in said
    assert "- 1 VM removed: web-30\n" in said and "± 1 VM made on the way" in said and "1 VM kept: web-1" in said


def test_a_plan_of_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    nothing = plan(kept=["web-0"])
    print_plan(nothing)
    assert capsys.readouterr().out == "web would be as it is\n" and not changes_anything(nothing)


@pytest.mark.parametrize(
    "words",
    [
        *(("deployments", command) for command in ("list", "get", "create", "update", "diff", "scale", "delete", "rollout")),
        *(("deployments", "rollout", verb) for verb in ("status", "history", "diff", "undo", "pause", "resume", "restart")),
    ],
)
def test_every_command_has_examples(words: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    assert run((*words, "--help")) == 0
    assert "Examples:" in capsys.readouterr().out
