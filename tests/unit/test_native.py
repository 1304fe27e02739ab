from __future__ import annotations

from pathlib import Path

import pytest

import volant.native
from volant.core.errors import Unavailable
from volant.native import find_native


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed tree of our own: CHECKOUT/src/volant."""
    for variable in ("VOLANT_KESTREL", "VOLANT_HOLDER"):
        monkeypatch.delenv(variable, raising=False)
    package = tmp_path / "src" / "volant"
    package.mkdir(parents=True)
    monkeypatch.setattr(volant.native, "__file__", str(package / "native.py"))
    return package


def make_program(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def test_the_variable_comes_before_the_wheel_and_the_wheel_before_the_checkout(
    package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = make_program(tmp_path / "build" / "native" / "x86_64" / "kestrel")
    assert find_native("kestrel", architecture="x86_64") == built
    packaged = make_program(package / "_native" / "x86_64" / "kestrel")
    assert find_native("kestrel", architecture="x86_64") == packaged
    chosen = make_program(tmp_path / "mine")
    monkeypatch.setenv("VOLANT_KESTREL", str(chosen))
    assert find_native("kestrel", architecture="x86_64") == chosen


def test_a_program_that_is_nowhere_is_an_error_that_says_what_to_do(package: Path) -> None:
    with pytest.raises(Unavailable, match="holder for riscv64 is not built") as caught:
        find_native("holder", architecture="riscv64")

    assert caught.value.hint is not None
    assert "make setup" in caught.value.hint
    assert "VOLANT_HOLDER" in caught.value.hint


def test_a_variable_that_names_no_file_is_not_passed_over(package: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_program(package / "_native" / "x86_64" / "holder")
    monkeypatch.setenv("VOLANT_HOLDER", str(tmp_path / "lost"))

    with pytest.raises(Unavailable, match="which is no file"):
        find_native("holder", architecture="x86_64")
