"""The whole build as another user, under fakeroot, in another place: the same bytes as root makes."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from .nobody import NOBODY, PACKAGES, WHY_NOT, find_python
from .project import NEEDS, call, make_project, read_files

pytestmark = NEEDS

BUILD = "import sys; from volant.fledge.cli import main; main(sys.argv[1:])"


@pytest.fixture
def open_directory() -> Iterator[Path]:
    """A directory where nobody may write: pytest's own may only be entered by who runs it."""
    with tempfile.TemporaryDirectory() as directory:
        yield Path(directory)


@pytest.mark.parametrize("kind", ["erofs", "squashfs", "ext4", "initramfs"])
def test_nobody_builds_what_root_builds(
    open_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    python = find_python()
    if python is None:
        pytest.skip(WHY_NOT)
    make_project(tmp_path, monkeypatch)
    recipe = (tmp_path / "fledge.toml").read_text()
    if kind == "initramfs":
        recipe = recipe.replace("oci_rootfs", "initramfs").replace("[kernel]", "busybox = false\n[kernel]")
    else:
        recipe += f'[filesystem]\ntype = "{kind}"\n'
    (tmp_path / "fledge.toml").write_text(recipe)
    code, _, err = call(capsys, "build", "-q", "-c", tmp_path / "fledge.toml", "-o", tmp_path / "out")
    assert code == 0, err

    theirs = open_directory / "theirs"
    theirs.mkdir()
    for name in ("web", "kernel.deb", "kestrel", "fledge.toml"):
        copy = shutil.copytree if (tmp_path / name).is_dir() else shutil.copy
        copy(tmp_path / name, theirs / name)
    for path in (open_directory, *open_directory.rglob("*")):
        os.chown(path, 65534, 65534)
    environment = {
        "PATH": os.environ["PATH"], "PYTHONPATH": ":".join(PACKAGES), "PYTHONDONTWRITEBYTECODE": "1", "HOME": "/nonexistent",
        "FLEDGE_CACHE": str(theirs / "cache"), "VOLANT_KESTREL": str(theirs / "kestrel"), "TZ": "Pacific/Kiritimati",
    }  # fmt: skip
    done = subprocess.run(
        [*NOBODY, "fakeroot", "--", python, "-c", BUILD, "build", "-q", "-o", "out"],
        cwd=theirs, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert read_files(theirs / "out") == read_files(tmp_path / "out")
    assert (theirs / "out/manifest.json").stat().st_uid == 65534
