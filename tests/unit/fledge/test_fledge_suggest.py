from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from volant.core.errors import AlreadyExists, NotFound
from volant.fledge.recipe.read import read_recipe
from volant.fledge.recipe.suggest import write_suggestion

from .oci_layouts import LayoutWriter


def touch(*names: str, content: str = "") -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        for name in names:
            (directory / name).parent.mkdir(parents=True, exist_ok=True)
            (directory / name).write_text(content)

    return make


def make_archive(name: str, member: str) -> Callable[[Path], None]:
    def make(directory: Path) -> None:
        with tarfile.open(directory / name, "w") as tar:
            tar.addfile(tarfile.TarInfo(member), io.BytesIO())

    return make


def make_layout(directory: Path) -> None:
    LayoutWriter(directory / "image").tag({"digest": "sha256:0"}, None)


def make_program(directory: Path) -> None:
    (directory / "server").write_bytes(b"\x7fELF")
    (directory / "server").chmod(0o755)
    (directory / "notes").write_text("")


@pytest.mark.parametrize(
    ("make", "key", "value"),
    [
        (touch("Dockerfile", "index.html"), "dockerfile", "Dockerfile"),
        (touch("Containerfile"), "dockerfile", "Containerfile"),
        (make_layout, "image", "oci:image"),
        (make_archive("web.tar", "index.json"), "image", "oci-archive:web.tar"),
        (make_archive("web.tar", "manifest.json"), "image", "docker-archive:web.tar"),
        (touch("root/etc/passwd", "root/usr/bin/a", "root/bin/b"), "directory", "root"),
        (touch("package.json", content='{"main": "server.js"}'), "packages", ("nodejs",)),
        (touch("pyproject.toml", content='[project]\nname = "my-app"\n'), "packages", ("python3",)),
        (touch("index.html"), "packages", ("nginx-light",)),
        (make_program, "binary", "server"),
        (touch("what"), "packages", ("busybox-static",)),
    ],
)
def test_what_is_written_is_a_recipe(tmp_path: Path, make: Callable[[Path], None], key: str, value: object) -> None:
    directory = tmp_path / "My App"
    directory.mkdir()
    make(directory)
    path, suggestion = write_suggestion(directory, replace=False)
    recipe = read_recipe(path)
    assert getattr(recipe.source, key) == value
    assert recipe.plugin.name == "my-app"
    assert suggestion.seen in path.read_text()


def test_what_a_project_says_of_itself_is_used(tmp_path: Path) -> None:
    touch("pyproject.toml", content='[project]\nname = "my-app"\n')(tmp_path)
    path, _ = write_suggestion(tmp_path, replace=False)
    assert read_recipe(path).workload.entrypoint == ("/usr/bin/python3", "-m", "my_app")


def test_nothing_is_replaced_unasked(tmp_path: Path) -> None:
    (tmp_path / "fledge.toml").write_text("mine")
    with pytest.raises(AlreadyExists, match="is there already"):
        write_suggestion(tmp_path, replace=False)
    assert (tmp_path / "fledge.toml").read_text() == "mine"
    write_suggestion(tmp_path, replace=True)
    assert (tmp_path / "fledge.toml").read_text() != "mine"
    with pytest.raises(NotFound):
        write_suggestion(tmp_path / "gone", replace=False)
