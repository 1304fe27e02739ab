from __future__ import annotations

from pathlib import Path

import pytest

from volant.core.errors import InvalidInput
from volant.fledge.goal import Options, choose_job

RECIPE = 'version = "1"\nstrategy = "oci_rootfs"\n[source]\ndockerfile = "Dockerfile"\nbuild_args = { A = "1", B = "2" }\n'


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("recipe", "docker", "container", "both"):
        (tmp_path / name).mkdir()
    for name in ("recipe", "both"):
        (tmp_path / name / "fledge.toml").write_text(RECIPE)
    for name in ("docker/Dockerfile", "docker/Dockerfile.debug", "container/Containerfile", "both/Dockerfile"):
        (tmp_path / name).write_text("FROM scratch\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_directory_with_a_recipe_is_its_recipe(here: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = choose_job("both", here / "out", Options())
    assert (job.base, job.output, job.recipe.source.build_args) == (here / "both", here / "out", {"A": "1", "B": "2"})
    assert choose_job("both/fledge.toml", None, Options()).recipe == job.recipe
    assert choose_job(None, None, Options(config=Path("both/fledge.toml"))).recipe == job.recipe
    monkeypatch.chdir(here / "both")
    assert choose_job(None, None, Options()).recipe == job.recipe


@pytest.mark.parametrize(
    ("source", "options", "dockerfile", "base"),
    [
        ("docker", Options(), "Dockerfile", "docker"),
        ("container", Options(), "Containerfile", "container"),
        ("docker/Dockerfile.debug", Options(), "Dockerfile.debug", "docker"),
        ("docker/Dockerfile", Options(context=Path("container")), "../docker/Dockerfile", "container"),
        ("container", Options(dockerfile=Path("docker/Dockerfile")), "../docker/Dockerfile", "container"),
        (None, Options(context=Path("docker"), target="a"), "Dockerfile", "docker"),
        ("both", Options(target="a"), "Dockerfile", "both"),
    ],
)
def test_a_dockerfile_is_named_as_seen_from_its_context(
    here: Path, source: str | None, options: Options, dockerfile: str, base: str
) -> None:
    job = choose_job(source, None, options)
    assert (job.recipe.source.dockerfile, job.recipe.source.context, job.base) == (dockerfile, ".", here / base)
    assert job.recipe.source.target == options.target


def test_what_the_command_line_adds_goes_over_the_recipe(here: Path) -> None:
    options = Options(
        config=Path("recipe/fledge.toml"), build_args={"B": "3"}, secrets={"token": "token.txt"}, target="last", name="other",
        version="9", filesystem="squashfs", platform="linux/arm64",
    )  # fmt: skip
    recipe = choose_job(None, None, options).recipe
    assert recipe.source.build_args == {"A": "1", "B": "3"}
    assert recipe.source.secrets == {"token": str(here / "token.txt")}
    assert (recipe.source.target, recipe.source.platform) == ("last", "linux/arm64")
    assert (recipe.plugin.name, recipe.plugin.version) == ("other", "9")
    assert recipe.filesystem is not None
    assert recipe.filesystem.type == "squashfs"


def test_an_image_is_built_by_its_name(here: Path) -> None:
    job = choose_job("nginx:1.27", None, Options(platform="linux/arm64", is_initramfs=True))
    source = job.recipe.source
    assert (source.image, source.platform, job.recipe.strategy) == ("nginx:1.27", "linux/arm64", "initramfs")
    assert job.base == here


@pytest.mark.parametrize(
    ("source", "options", "message"),
    [
        (".", Options(), "has neither fledge.toml nor a Dockerfile"),
        ("a", Options(config=Path("b")), "either a source or -c"),
        ("nginx", Options(target="a"), "neither a directory nor a Dockerfile"),
        ("recipe", Options(is_initramfs=True), 'the recipe says strategy = "oci_rootfs"'),
        ("recipe", Options(filesystem="ntfs"), "Invalid enum value"),
    ],
)
def test_what_cannot_be_built_is_said(here: Path, source: str | None, options: Options, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        choose_job(source, None, options)
