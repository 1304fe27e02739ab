from __future__ import annotations

import shutil
from typing import Any

import pytest

import volant.fledge.kernel.toolchain
from volant.core.errors import Unavailable
from volant.fledge.kernel.toolchain import find_toolchain
from volant.run import Completed


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """What the machine has: programs, and files that its compiler finds."""
    have = {*volant.fledge.kernel.toolchain.TOOLS, *volant.fledge.kernel.toolchain.LIBRARIES}

    async def run(command: list[str], **_: Any) -> Completed:
        file = command[1].removeprefix("-print-file-name=")
        if file == command[1]:
            return Completed(0, f"{command[0]} (Debian) 12.2\nCopyright\n".encode(), b"")
        return Completed(0, f"{'/usr/lib/' if file in have else ''}{file}\n".encode(), b"")

    monkeypatch.setattr(shutil, "which", lambda tool, path: f"/usr/bin/{tool}" if tool in have else None)
    monkeypatch.setattr(volant.fledge.kernel.toolchain, "run", run)
    return have


async def test_the_versions_are_what_the_tools_say_first(installed: set[str]) -> None:
    toolchain = await find_toolchain()

    assert (toolchain.compiler, toolchain.linker) == ("gcc (Debian) 12.2", "ld (Debian) 12.2")


@pytest.mark.parametrize(
    ("missing", "message", "hint"),
    [
        ({"flex", "bison", "libelf.so"}, "for want of flex, bison, libelf.so", "apt-get install bison flex libelf-dev"),
        ({"crt1.o"}, "for want of crt1.o", "apt-get install libc6-dev"),
        ({"gcc"}, "for want of gcc", "apt-get install gcc libc6-dev libelf-dev"),
    ],
)
async def test_what_is_missing_is_named_with_its_packages(
    installed: set[str], missing: set[str], message: str, hint: str
) -> None:
    installed -= missing

    with pytest.raises(Unavailable, match=message) as caught:
        await find_toolchain()

    assert caught.value.hint == hint
