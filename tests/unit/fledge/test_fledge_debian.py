from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import volant.fledge.debian
from volant.core.errors import CommandFailed, HostError, InvalidInput
from volant.fledge.debian import DebianPackage, PackageSet, choose_packages, read_installed, resolve_packages
from volant.run import Completed

WANTED = PackageSet(("nginx-light",), "bookworm", ())
Answer = Callable[[list[str]], Completed]


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Callable[[Answer], None]:
    """Let a function answer for the programs that would be run."""

    def install(answering: Answer) -> None:
        async def run(command: list[Any], **_: Any) -> Completed:
            return answering([str(word) for word in command])

        monkeypatch.setattr(volant.fledge.debian, "run", run)

    return install


async def test_the_hosts_own_archives_of_the_suite_are_used(answer: Callable[[Answer], None]) -> None:
    listing = (
        b"/usr/share/keyrings/debian-archive-keyring.gpg|http://mirror/debian/|bookworm|main\n"
        b"/usr/share/keyrings/debian-archive-keyring.gpg|http://mirror/debian/|bookworm|main\n"
        b"|http://mirror/security/|bookworm-security|main\n"
        b"|http://mirror/debian/|trixie|main\n"
    )
    answer(lambda command: Completed(0, listing, b""))

    assert (await choose_packages(("nginx-light",), "", "")).mirrors == (
        "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http://mirror/debian/ bookworm main",
        "deb http://mirror/security/ bookworm-security main",
    )
    assert (await choose_packages(("nginx-light",), "sid", "")).mirrors == ()
    assert (await choose_packages(("nginx-light",), "sid", "http://mine")).mirrors == ("http://mine",)


@pytest.mark.parametrize(
    ("package", "suite"), [("--hook", ""), ("a,b", ""), ("nginx light", ""), ("nginx", "--help"), ("nginx", "a b")]
)
async def test_names_that_could_be_options_are_refused(package: str, suite: str) -> None:
    with pytest.raises(InvalidInput, match=r"is no package name|is no suite"):
        await choose_packages((package,), suite, "http://mine")


async def test_the_resolved_packages_are_read_from_apts_simulation(answer: Callable[[Answer], None]) -> None:
    simulated = (
        b"I: running apt-get update...\n"
        b"Inst libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64]) []\n"
        b"Inst base-files (12.4+deb12u15 Debian:12.15/oldstable, Debian-Security:12/oldstable-security [amd64])\n"
        b"Inst nginx-common (1.22.1-9 Debian:12.15/oldstable [all])\n"
        b"Conf libc6 (2.36-9+deb12u14 Debian:12.15/oldstable [amd64])\n"
    )
    answer(lambda command: Completed(0, b"", simulated))

    assert await resolve_packages(WANTED) == (
        DebianPackage("base-files", "12.4+deb12u15", "amd64"),
        DebianPackage("libc6", "2.36-9+deb12u14", "amd64"),
        DebianPackage("nginx-common", "1.22.1-9", "all"),
    )


async def test_what_apt_complains_about_is_passed_on(answer: Callable[[Answer], None]) -> None:
    def fail(command: list[str]) -> Completed:
        raise CommandFailed(tuple(command), 25, "I: running\nE: Unable to locate package lost\nE: mmdebstrap failed to run\n")

    answer(fail)

    with pytest.raises(HostError, match="bookworm cannot be installed: Unable to locate package lost"):
        await resolve_packages(WANTED)


def test_installed_packages_are_read_from_dpkgs_database(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").write_text(
        "Package: b\nStatus: install ok installed\nVersion: 1:2-3\nArchitecture: amd64\nDescription: x\n more: text\n\n"
        "Package: gone\nStatus: deinstall ok config-files\nVersion: 1\nArchitecture: all\n\n"
        "Package: a\nStatus: install ok installed\nArchitecture: all\nVersion: 1\n"
    )

    assert read_installed(tmp_path) == (DebianPackage("a", "1", "all"), DebianPackage("b", "1:2-3", "amd64"))
