"""Which volantd is spoken to: contexts, and what overrides what."""

from __future__ import annotations

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from volant.cli.context import Context, Contexts, config_file, read_contexts, write_contexts
from volant.client.address import Address, read_address
from volant.core.errors import InvalidInput

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("VOLANT_CONTEXT", raising=False)
    return tmp_path


def test_the_file_says_what_was_written(home: Path) -> None:
    contexts = Contexts((Context('a"b\\c', "unix:///run/v.sock"), Context("lab", "http://[::1]:7", "/tmp/té")), "lab")
    write_contexts(config_file(), contexts)
    assert read_contexts(config_file()) == contexts
    assert stat.S_IMODE(config_file().stat().st_mode) == 0o600
    assert [path.name for path in config_file().parent.iterdir()] == ["config.toml"]


def test_the_first_context_is_in_use_and_speaks(served: Served, volar: Volar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("VOLANT_API")
    assert volar("context", "add", "here", "--api", served.address).out == "context here is added and in use\n"
    assert volar("context", "add", "gone", "--api", "unix:///nowhere").out == "context gone is added\n"
    assert volar("plugins", "list", "-o", "name").out == "nginx\n"
    refused = volar("--context", "gone", "plugins", "list")
    assert (refused.code, "no volantd answers at /nowhere" in refused.err) == (1, True)
    assert volar("context", "list", "-o", "name").out == "here\ngone\n"
    assert [line.split()[0] for line in volar("context", "list").out.splitlines()] == ["USED", "*", "-"]


def test_what_overrides_what(served: Served, volar: Volar, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        volar("context", "add", name, "--api", f"unix:///{name}")
    monkeypatch.setenv("VOLANT_CONTEXT", "two")
    assert volar("plugins", "list").code == 0, "VOLANT_API comes before VOLANT_CONTEXT"
    assert "at /one " in volar("--context", "one", "plugins", "list").err, "--context comes before VOLANT_API"
    monkeypatch.delenv("VOLANT_API")
    assert "at /two " in volar("plugins", "list").err, "VOLANT_CONTEXT comes before the one in use"
    monkeypatch.delenv("VOLANT_CONTEXT")
    assert "at /one " in volar("plugins", "list").err
    assert volar("--api", served.address, "plugins", "list").code == 0
    assert volar("context", "use", "--none").out == "no context is in use\n"
    assert "at /run/volant/volantd.sock " in volar("plugins", "list").err


def test_a_context_goes_and_is_replaced(volar: Volar) -> None:
    volar("context", "add", "lab", "--api", "unix:///a")
    assert volar("context", "add", "lab", "--api", "unix:///b").code == 4
    volar("context", "add", "lab", "--api", "http://127.0.0.1:7777", "--token-file", "/t", "--replace")
    assert volar("context", "show", "--json").json == {
        "name": "lab", "address": "http://127.0.0.1:7777", "token_file": "/t", "current": True,
    }  # fmt: skip
    assert volar("context", "remove", "lab").code == 0
    assert read_contexts(config_file()) == Contexts()
    missing = volar("context", "use", "lab")
    assert (missing.code, "there is no context named 'lab'" in missing.err) == (3, True)


@pytest.mark.parametrize(
    "content", ["current = 1", "x = 1", "[contexts.a]", '[contexts.a]\naddress = "b"\nother = "c"', "not toml", 'contexts = "a"']
)
def test_a_file_that_is_something_else_is_refused(volar: Volar, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    monkeypatch.delenv("VOLANT_API")
    config_file().parent.mkdir(parents=True)
    config_file().write_text(content)
    ran = volar("plugins", "list")
    assert (ran.code, str(config_file()) in ran.err) == (2, True)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("unix:///run/v.sock", Address(path="/run/v.sock")),
        ("unix:relative.sock", Address(path="relative.sock")),
        ("http://127.0.0.1:7777", Address(host="127.0.0.1", port=7777)),
        ("http://[::1]:80/", Address(host="::1", port=80)),
    ],
)
def test_an_address_is_read(text: str, address: Address) -> None:
    assert read_address(text) == address
    assert read_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    [
        "",
        "unix:",
        "unix://host/x",
        "http://h",
        "http://h:0",
        "http://h:x",
        "http://u@h:1",
        "http://h:1/p",
        "https://h:1",
        "/run/v",
    ],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        read_address(text)


def test_every_list_prints_what_was_asked_for(served: Served, volar: Volar) -> None:
    volar("vms", "create", "web", "--plugin", "nginx", "--no-wait")
    assert volar("vms", "list", "-o", "jsonpath={.items[*].name}").out == "web"
    assert volar("vms", "list", "-o", "custom-columns=N:.name", "--no-headers").out == "web\n"
    assert "plugin: nginx\n" in volar("vms", "get", "web", "-o", "yaml").out
    assert volar("vms", "list", "--no-headers").out.startswith("web")
    refused = volar("vms", "list", "-o", "xml")
    assert (refused.code, "'xml' is no format" in refused.err) == (2, True)
    assert volar("vms", "get", "web", "-o", "jsonpath={.a").code == 2


def test_colours_are_for_terminals_or_those_who_insist(served: Served, volar: Volar) -> None:
    volar("vms", "create", "web", "--plugin", "nginx", "--no-wait")
    assert "\x1b[" not in volar("vms", "list").out
    assert "\x1b[33mPending" in volar("--color", "always", "vms", "list").out
    assert "\x1b[" not in volar("--color", "never", "vms", "list").out
