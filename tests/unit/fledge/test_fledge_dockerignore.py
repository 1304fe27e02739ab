from __future__ import annotations

from pathlib import Path

import pytest

from volant.core.errors import InvalidInput
from volant.fledge.dockerfile.dockerignore import IGNORE_MAX_BYTES, find_ignore_file, is_ignored, read_patterns


def ignores(tmp_path: Path, text: str, path: str) -> bool:
    file = tmp_path / ".dockerignore"
    file.write_text(text)
    return is_ignored(path.encode(), read_patterns(file))


@pytest.mark.parametrize(
    ("text", "path", "ignored"),
    [
        ("logs", "logs", True),
        ("logs", "logs/today/a", True),
        ("logs", "sub/logs", False),
        ("logs", "logs2", False),
        ("/logs/", "logs/a", True),
        ("./logs", "logs", True),
        ("*/temp*", "a/temporary", True),
        ("*/temp*", "a/b/temporary", False),
        ("*/*/temp*", "a/b/temporary/c", True),
        ("temp?", "tempa", True),
        ("temp?", "temp", False),
        ("**/*.go", "main.go", True),
        ("**/*.go", "a/b/c.go", True),
        ("a/**", "a/b/c", True),
        ("a/**/z", "a/z", True),
        ("a/**/z", "a/b/c/z", True),
        ("*.md\n!README.md", "README.md", False),
        ("*.md\n!README.md", "other.md", True),
        ("!README.md\n*.md", "README.md", True),
        ("docs\n!docs/keep", "docs/keep", False),
        ("docs\n!docs/keep", "docs/lose", True),
        ("# logs\n\n", "logs", False),
        ("a.b", "aXb", False),
        ("*", "anything/at/all", True),
        ("a b", "a b", True),
    ],
)
def test_patterns_are_docker_s(tmp_path: Path, text: str, path: str, ignored: bool) -> None:
    assert ignores(tmp_path, text, path) is ignored


@pytest.mark.parametrize("text", ["log[s]", "lo\\gs", "a/../logs"])
def test_what_is_not_understood_hides_nothing(tmp_path: Path, text: str) -> None:
    assert not ignores(tmp_path, text, "logs")
    # An exception that is not understood may bring anything back.
    assert not ignores(tmp_path, f"logs\n!{text}", "logs")
    assert ignores(tmp_path, f"logs\n{text}", "logs")


def test_the_file_beside_the_dockerfile_comes_first(tmp_path: Path) -> None:
    found = [find_ignore_file(tmp_path, tmp_path / "web.Dockerfile")]
    for name in (".dockerignore", ".containerignore", "web.Dockerfile.dockerignore"):
        (tmp_path / name).touch()
        found.append(find_ignore_file(tmp_path, tmp_path / "web.Dockerfile"))

    assert [path.name if path else None for path in found] == [
        None, ".dockerignore", ".containerignore", "web.Dockerfile.dockerignore",
    ]  # fmt: skip


def test_a_file_that_is_too_large_is_refused(tmp_path: Path) -> None:
    file = tmp_path / ".dockerignore"
    file.write_bytes(b"a\n" * IGNORE_MAX_BYTES)

    with pytest.raises(InvalidInput, match="larger than"):
        read_patterns(file)


def test_without_a_file_nothing_is_ignored() -> None:
    assert not is_ignored(b".git", read_patterns(None))
