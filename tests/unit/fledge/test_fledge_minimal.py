"""The minimal kernel's way through the cache, with a compiler that only pretends."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

import volant.fledge.kernel.minimal
from volant.core.errors import CommandFailed, DiskFull, HostError, Unavailable
from volant.fledge.cache import Cache
from volant.fledge.cli import main
from volant.fledge.debian.apt import Package
from volant.fledge.kernel.boot import KernelChoice, open_boot_files
from volant.fledge.kernel.kconfig import MINIMAL_CONFIG
from volant.fledge.kernel.minimal import MinimalRecord, derive_minimal_key, describe_build, label_minimal, open_minimal
from volant.fledge.kernel.toolchain import Toolchain
from volant.fledge.progress import Progress
from volant.native import find_native
from volant.run import Completed

from .test_fledge_cpio import read_archive

pytestmark = pytest.mark.spawns  # workspaces are removed by rm

QUIET = Progress(sys.stderr, quiet=True)
SOURCE = Package(name="linux-source-6.1", version="6.1.192-2", file="linux-source-6.1_6.1.192-2_all.deb", sha256="5" * 64)
TOOLCHAIN = Toolchain(compiler="gcc 12", linker="ld 2.40")
PACKED_S = 1_795_000_000


class Compiler:
    """Stands for dpkg-deb, tar, make and strip."""

    def __init__(self) -> None:
        self.compiled = 0
        self.configuration: str | None = None
        self.failing: dict[str, str] = {}
        self.variables: dict[str, str] = {}

    async def run(self, command: list[Any], **keywords: Any) -> Completed:
        words = [str(word) for word in command]
        if words[0] in self.failing:
            raise CommandFailed(tuple(words), 2, self.failing[words[0]])
        self.pretend(words, keywords.get("env") or {}, keywords.get("cwd") or Path())
        return Completed(0, b"", b"")

    def pretend(self, words: list[str], env: dict[str, str], cwd: Path) -> None:
        match words:
            case ["dpkg-deb", "-x", _, package]:
                archive = Path(package) / "usr/src/linux-source-6.1.tar.xz"
                archive.parent.mkdir(parents=True)
                archive.touch()
                os.utime(archive, (PACKED_S, PACKED_S))
            case ["make", "-s", "allnoconfig"]:
                asked = Path(env["KCONFIG_ALLCONFIG"]).read_text()
                (cwd / ".config").write_text(asked if self.configuration is None else self.configuration)
            case ["make", "-s", "-j2", "vmlinux"]:
                self.compiled += 1
                self.variables = env
                (cwd / "include/config").mkdir(parents=True)
                (cwd / "include/config/kernel.release").write_text("6.1.192-volant\n")
                (cwd / "vmlinux").write_bytes(b"\x7fELF with symbols")
            case ["strip", "--strip-all", "-o", target, source]:
                Path(target).write_bytes(Path(source).read_bytes().removesuffix(b" with symbols"))
            case _:
                assert words[0] == "tar"


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    compiler = Compiler()

    async def find() -> Toolchain:
        return TOOLCHAIN

    async def read(_: Path) -> Package:
        return SOURCE

    monkeypatch.setattr(volant.fledge.kernel.minimal, "run", compiler.run)
    monkeypatch.setattr(volant.fledge.kernel.minimal, "find_toolchain", find)
    monkeypatch.setattr(volant.fledge.kernel.minimal, "read_package", read)
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    return compiler


@pytest.fixture
async def cache(tmp_path: Path) -> Cache:
    cache = Cache(tmp_path / "cache")
    await cache.open()
    return cache


async def compile_kernel(cache: Cache) -> tuple[MinimalRecord, bytes]:
    async with open_minimal(cache, Path("source.deb"), QUIET, 2) as kernel:
        return kernel.record, kernel.vmlinux.read_bytes()


async def test_a_kernel_is_compiled_once_and_kept(compiler: Compiler, cache: Cache) -> None:
    record, vmlinux = await compile_kernel(cache)
    again, _ = await compile_kernel(cache)

    assert vmlinux == b"\x7fELF"
    assert again == record
    assert record.vmlinux.sha256 == hashlib.sha256(b"\x7fELF").hexdigest()
    assert (record.source, record.toolchain, record.release) == (SOURCE, TOOLCHAIN, "6.1.192-volant")
    assert label_minimal(record) == f"minimal 6.1.192-2 {record.options_sha256[:12]}"
    assert compiler.compiled == 1
    assert list((cache.root / "tmp").iterdir()) == []


async def test_another_configuration_is_another_kernel(
    compiler: Compiler, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = await compile_kernel(cache)
    config = tmp_path / "minimal.config"
    monkeypatch.setattr(volant.fledge.kernel.minimal, "MINIMAL_CONFIG", config)
    config.write_text(f"# Another comment\n{MINIMAL_CONFIG.read_text()}")
    commented, _ = await compile_kernel(cache)
    config.write_text(f"{MINIMAL_CONFIG.read_text()}CONFIG_XFS_FS=y\n")
    other, _ = await compile_kernel(cache)

    assert commented == first
    assert label_minimal(other) != label_minimal(first)
    assert compiler.compiled == 2


def test_the_key_follows_all_that_decides_what_comes_out() -> None:
    options = {"SMP": "y"}
    keys = {
        derive_minimal_key(SOURCE, options, TOOLCHAIN),
        derive_minimal_key(msgspec.structs.replace(SOURCE, sha256="6" * 64), options, TOOLCHAIN),
        derive_minimal_key(SOURCE, {"SMP": None}, TOOLCHAIN),
        derive_minimal_key(SOURCE, options, Toolchain(compiler="gcc 13", linker="ld 2.40")),
        derive_minimal_key(SOURCE, options, Toolchain(compiler="gcc 12", linker="ld 2.41")),
    }

    assert len(keys) == 5
    renamed = msgspec.structs.replace(SOURCE, file="kept.deb")
    assert derive_minimal_key(renamed, options, TOOLCHAIN) in keys


async def test_what_a_kernel_says_of_its_making_names_no_machine(compiler: Compiler, cache: Cache) -> None:
    await compile_kernel(cache)

    assert compiler.variables == describe_build("6.1.192-2", PACKED_S)
    assert compiler.variables["KBUILD_BUILD_VERSION_TIMESTAMP"] == "Debian 6.1.192-2 (2026-11-18)"
    assert compiler.variables["KBUILD_BUILD_TIMESTAMP"] == "2026-11-18 11:06:40 UTC"


async def test_an_option_that_the_kernel_does_not_take_ends_the_build_before_it_compiles(
    compiler: Compiler, cache: Cache
) -> None:
    compiler.configuration = MINIMAL_CONFIG.read_text().replace("CONFIG_PVH=y", "# CONFIG_PVH is not set")

    with pytest.raises(HostError, match=r"did not take PVH \(asked y, got n\)"):
        await compile_kernel(cache)

    assert compiler.compiled == 0
    assert list((cache.root / "tmp").iterdir()) == []


@pytest.mark.parametrize(
    ("tool", "says", "error", "message"),
    [
        ("tar", "tar: write: No space left on device", DiskFull, "cannot be unpacked: there is no room"),
        ("make", "a.c:1: error: no\nmake: *** [all] Error 2", HostError, "cannot be compiled: a.c:1: error: no"),
        ("make", "as: No space left on device", DiskFull, "cannot be compiled: there is no room"),
    ],
)
async def test_a_tool_that_fails_is_explained(
    compiler: Compiler, cache: Cache, tool: str, says: str, error: type[HostError], message: str
) -> None:
    compiler.failing[tool] = says

    with pytest.raises(error, match=message):
        await compile_kernel(cache)


async def test_another_machine_is_told_to_take_the_distributions(
    compiler: Compiler, cache: Cache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.machine", lambda: "aarch64")

    with pytest.raises(Unavailable, match="no configuration for aarch64") as caught:
        await compile_kernel(cache)

    assert "debian" in (caught.value.hint or "")


async def test_its_initramfs_holds_kestrel_and_no_list_of_modules(
    compiler: Compiler, cache: Cache, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kestrel").write_bytes(b"\x7fELF kestrel")
    monkeypatch.setenv("VOLANT_KESTREL", str(tmp_path / "kestrel"))
    choice = KernelChoice(source="minimal", deb=Path("source.deb"), jobs=2)

    async with open_boot_files(cache, choice, filesystem="erofs", kestrel=find_native("kestrel"), progress=QUIET) as boot:
        names = [name for name, _, _ in read_archive(boot.initramfs.read_bytes())]
        record = boot.record
        vmlinux = boot.vmlinux.read_bytes()

    assert "init" in names
    assert not [name for name in names if "modules" in name or name.startswith("lib")]
    assert (record.modules, record.kernel, record.kernel_release) == ((), SOURCE, "6.1.192-volant")
    assert record.label.startswith("minimal 6.1.192-2 ")
    assert record.tools == {"gcc": "gcc 12", "ld": "ld 2.40"}
    assert record.vmlinux.sha256 == hashlib.sha256(vmlinux).hexdigest()


@pytest.fixture
def project(compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "kestrel").write_bytes(b"\x7fELF kestrel")
    monkeypatch.setenv("VOLANT_KESTREL", str(tmp_path / "kestrel"))
    monkeypatch.setenv("FLEDGE_CACHE", str(tmp_path / "cache"))
    return tmp_path


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(["kernel", *map(str, arguments)])
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, printed.out, printed.err


def test_the_command_says_where_which_and_what(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "build", "-j2", "--deb", "source.deb")

    path, version, digest = out.splitlines()
    assert code == 0
    assert Path(path).read_bytes() == b"\x7fELF"
    assert version.startswith("minimal 6.1.192-2 ")
    assert version.endswith(" (6.1.192-volant)")
    assert digest.removeprefix("sha256:") == hashlib.sha256(b"\x7fELF").hexdigest()
    assert [line.partition(" ")[2].partition(" ")[0] for line in err.splitlines()] == ["Unpacking", "Compiling", "Compiling"]


def test_the_files_are_copied_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = call(capsys, "build", "-q", "-j2", "--json", "-o", project / "out", "--deb", "source.deb")

    document = json.loads(out)
    assert code == 0
    assert sorted(path.name for path in (project / "out").iterdir()) == ["boot.cpio", "kernel.json", "vmlinux"]
    assert document["path"] == str(project / "out/vmlinux")
    assert json.loads((project / "out/kernel.json").read_text()) == {
        key: value for key, value in document.items() if key != "path"
    }


def test_two_packages_are_one_too_many(capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "fetch", "--package", "linux-image-amd64", "--deb", "kernel.deb")

    assert (code, out) == (2, "")
    assert "either --package or --deb" in err
