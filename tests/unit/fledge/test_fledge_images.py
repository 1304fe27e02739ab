"""What becomes of a build: kept in the store, listed, compared, exported, removed; nothing made twice."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from volant.artifact.store import ArtifactStore
from volant.core.ids import Digest

from .project import NEEDS, RECIPE, call, make_project, make_web_image, read_files

pytestmark = NEEDS


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    make_project(tmp_path, monkeypatch)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def list_images(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    code, out, _ = call(capsys, "images", "list", "--json")
    assert code == 0
    return json.loads(out)  # type: ignore[no-any-return]


def age(project: Path) -> None:
    """As if all of the store had come long ago: inode change times cannot be set, so what is new is asked for by its age."""
    for path in (project / "cache/artifacts/images").glob("*.json"):
        record = json.loads(path.read_text())
        path.write_text(json.dumps({**record, "built_at": record["built_at"] - 86400}))


def test_a_build_without_an_output_is_in_the_store_and_can_be_exported(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "build", "-q")[:2] == (0, "web:v7\n")
    (image,) = list_images(capsys)
    assert (image["name"], image["version"], image["source"]) == ("web", "v7", "oci:web")

    call(capsys, "build", "-q", "-o", "out")
    assert call(capsys, "images", "export", "-q", "web", "-o", "exported")[:2] == (0, "exported/manifest.json\n")
    assert read_files(Path("exported")) == read_files(Path("out"))


def test_an_image_says_what_is_in_it(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q", "-o", "out")
    by_name, by_directory, by_manifest = (
        call(capsys, *words)[1]
        for words in (("images", "inspect", "-q", "web:v7"), ("inspect", "-q", "out"), ("inspect", "-q", "out/manifest.json"))
    )
    assert by_name == by_directory == by_manifest
    for line in ("plugin    web v7", "runs      /web", "ports     80/tcp", "packages  1 Debian", "signed    no"):
        assert line in by_name.splitlines()
    assert "deb  web  7-1" in call(capsys, "inspect", "-q", "out", "--packages")[1]
    document = json.loads(call(capsys, "inspect", "-q", "--json", "out")[1])
    assert document["manifest"]["workload"]["entrypoint"] == ["/web"]
    assert document["packages"] == [{"type": "deb", "name": "web", "version": "7-1"}]


@pytest.mark.parametrize(("damage", "message"), [("change", "is not what the manifest says"), ("remove", "is not there")])
def test_an_artifact_that_is_not_whole_is_said(
    project: Path, capsys: pytest.CaptureFixture[str], damage: str, message: str
) -> None:
    call(capsys, "build", "-q", "-o", "out")
    if damage == "change":
        Path("out/rootfs.erofs").write_bytes(b"x")
    else:
        Path("out/rootfs.erofs").unlink()
    code, _, err = call(capsys, "inspect", "-q", "out")
    assert code == 1
    assert message in err
    assert "rootfs" in err


def test_two_artifacts_are_compared_down_to_the_file(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q", "-o", "one")
    call(capsys, "build", "-q", "-o", "two")
    assert call(capsys, "diff", "-q", "one", "two")[:2] == (0, "the same to the byte\n")

    shutil.rmtree("web")
    make_web_image(project / "web", b"another", "v8")
    call(capsys, "build", "-q", "-o", "two")
    code, out, _ = call(capsys, "diff", "-q", "web:v7", "two")
    assert code == 1
    lines = out.splitlines()
    assert "manifest  version  changed: v7 → v8" in lines
    assert "packages  web  changed: 7-1 → 8-1" in lines
    assert any(line.startswith("files  /web  content: ") for line in lines)
    assert any(line.startswith("build  source.manifest_digest  changed") for line in lines)
    document = json.loads(call(capsys, "diff", "-q", "--json", "one", "two")[1])
    assert document["same"] is False
    assert {"part": "manifest", "at": "version", "what": "changed", "left": "v7", "right": "v8"} in document["differences"]


def test_pruning_takes_what_was_replaced_and_nothing_that_is_needed(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q")
    age(project)
    shutil.rmtree("web")
    make_web_image(project / "web", b"another", "v7")
    call(capsys, "build", "-q")
    newest, replaced = (image["digest"] for image in list_images(capsys))

    trial = json.loads(call(capsys, "images", "prune", "-q", "--dry-run", "--json")[1])
    assert [image["digest"] for image in trial["images"]] == [replaced]
    assert len(list_images(capsys)) == 2
    done = json.loads(call(capsys, "images", "prune", "-q", "--json")[1])
    assert [image["digest"] for image in done["images"]] == [replaced]
    assert done["freed_bytes"] == trial["freed_bytes"] > 0
    assert [image["digest"] for image in list_images(capsys)] == [newest]
    assert call(capsys, "images", "inspect", "-q", "web")[0] == 0, "the kernel that both have is still there"


def test_what_volantd_holds_stays(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q", "-o", "out")
    manifest = json.loads(Path("out/manifest.json").read_text())
    store = ArtifactStore(project / "cache/artifacts")
    root = Digest(manifest["rootfs"]["checksum"])
    asyncio.run(store.hold(root))

    assert call(capsys, "images", "prune", "-q", "web")[0] == 0
    assert store.has(root)
    assert not store.has(Digest(manifest["boot"]["kernel"]["checksum"]))
    assert list_images(capsys) == []


def test_a_root_that_is_gone_from_the_store_is_made_again(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q", "-o", "out")
    call(capsys, "images", "prune", "-q", "web")
    assert "Unpacking" not in call(capsys, "kernel", "fetch", "--deb", "kernel.deb")[2]
    assert "Writing rootfs.erofs" in call(capsys, "build", "-o", "again")[2]
    assert read_files(Path("again")) == read_files(Path("out"))
    assert "Writing rootfs.erofs" not in call(capsys, "build", "-o", "again")[2], "and not a third time"


def test_a_build_that_was_killed_holds_nothing_for_ever(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    call(capsys, "build", "-q")
    holds = project / "cache/artifacts/holds"
    gone = os.fork()
    if gone == 0:
        os._exit(0)
    os.waitpid(gone, 0)
    (holds / f"building-{gone}").mkdir()
    (holds / f"building-{gone}" / ("0" * 64)).touch()
    (holds / f"building-{os.getppid()}").mkdir()
    list_images(capsys)
    left = sorted(path.name for path in holds.iterdir() if path.name.startswith("building-"))
    assert left == [f"building-{os.getppid()}"], "another build that runs keeps what it holds"


@pytest.mark.parametrize("words", [("images", "inspect"), ("inspect",), ("images", "prune")])
def test_what_is_not_there_is_said_with_what_to_do(
    project: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    code, out, err = call(capsys, *words, "-q", "lost")
    assert (code, out) == (1, "")
    assert "there is no image 'lost' (fledge images list shows those there are)" in err


def test_a_second_build_under_other_conditions_is_the_same(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capsys, "build", "--verify")
    assert (code, out) == (0, "web:v7\n"), err
    assert "two builds are the same to the byte" in err


def test_a_build_that_is_not_repeatable_is_found_out(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make = project / "make.py"
    # Each run puts its own process id into a layer.
    make.write_text(
        f"import os, sys\nsys.path.insert(0, {str(Path(__file__).parents[3])!r})\nfrom pathlib import Path\n"
        "from tests.unit.fledge.project import make_web_image\n"
        "make_web_image(Path(sys.argv[1]), str(os.getpid()).encode(), 'v7')\n"
    )
    (project / "image.sh").write_text(f'#!/bin/sh\nset -eu\nrm -rf "$1"\nexec {sys.executable} {make} "$1"\n')
    (project / "image.sh").chmod(0o755)
    (project / "fledge.toml").write_text(
        RECIPE.replace('image = "oci:web"', 'script = "image.sh"') + '[plugin]\nname = "scripted"\n'
    )
    code, _, err = call(capsys, "build", "-q", "--verify")
    assert code == 1
    assert "two builds differ" in err
    assert "files /web (content)" in err
