"""``volar plugins install`` from where volantd fetches itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from volant.cli import plugin_transfer
from volant.core.errors import Untrusted
from volant.core.plugin_source import FetchProgress

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]
OCI = "oci://registry.example.org/web:1.0"
WEB = "https://www.example.org/web/manifest.json"


@pytest.fixture
def asked(served: Served) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []

    async def install_from(source: str, checksum: str = "", *, report: Any, how: Any = None, project: str = "default") -> Any:
        found.append((source, checksum))
        if source.endswith(":untrusted"):
            raise Untrusted("it is not signed", hint="sign it")
        if len(found) == 1:
            for file, size in (("boot.kernel", 0), ("rootfs", 66023424)):
                report(FetchProgress(file=file, done_bytes=0, size_bytes=size))
        return await served.plane.add_plugin("web"), len(found) == 1

    served.plane.plugins.install_from = install_from  # type: ignore[attr-defined]
    return found


def test_a_registry_is_named_and_what_is_fetched_is_told(asked: list[tuple[str, str]], volar: Volar) -> None:
    ran = volar("plugins", "install", OCI)
    assert (ran.code, ran.out) == (0, "plugin web 1.0 is installed (0 files, 2 fetched)\n")
    assert ran.err == "fetching boot.kernel\nfetching rootfs (63.0 MiB)\n"
    again = volar("plugins", "install", OCI)
    assert (again.out, again.err) == ("plugin web 1.0 was installed already (0 files, 0 fetched)\n", "")
    assert asked == [(OCI, ""), (OCI, "")]


def test_a_terminal_gets_bars(asked: list[tuple[str, str]], volar: Volar, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plugin_transfer.sys.stderr, "isatty", lambda: True)
    ran = volar("plugins", "install", OCI)
    assert (ran.code, ran.out) == (0, "plugin web 1.0 is installed (0 files, 2 fetched)\n")
    assert "fetching rootfs (" not in ran.err


def test_the_web_is_named_with_its_checksum(asked: list[tuple[str, str]], volar: Volar) -> None:
    ran = volar("plugins", "install", WEB, "--checksum", "sha256:ab", "--json")
    assert (ran.code, ran.json["name"], ran.err) == (0, "web", "")
    assert asked == [(WEB, "sha256:ab")]


def test_a_refusal_is_told_with_what_to_do(asked: list[tuple[str, str]], volar: Volar) -> None:
    ran = volar("plugins", "install", "oci://registry.example.org/web:untrusted")
    assert (ran.code, ran.err) == (1, "volar: it is not signed\n  hint: sign it\n")


def test_a_checksum_holds_for_a_local_manifest_too(asked: list[tuple[str, str]], volar: Volar, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}")
    ran = volar("plugins", "install", str(tmp_path), "--checksum", "sha256:" + "ab" * 32)
    assert ran.code == 2 and "not sha256:abab" in ran.err
    assert asked == []
