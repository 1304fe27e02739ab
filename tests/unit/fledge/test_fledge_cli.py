from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from volant import __version__
from volant.fledge.cli import main


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as caught:
        main(list(arguments))
    printed = capsys.readouterr()
    assert isinstance(caught.value.code, int)
    return caught.value.code, printed.out, printed.err


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["build", "--help"]):
        code, out, _ = call(capsys, *arguments)
        assert code == 0
        assert "fledge build -o out" in out


@pytest.mark.parametrize("command", ["fetch", "build"])
def test_each_kernel_command_explains_itself(capsys: pytest.CaptureFixture[str], command: str) -> None:
    code, out, _ = call(capsys, "kernel", command, "--help")

    assert code == 0
    assert f"fledge kernel {command} " in out
    for option in ("--output", "--deb", "--cache-dir", "--no-cache", "--json", "--quiet"):
        assert option in out


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert call(capsys, "version") == (0, f"fledge {__version__}\n", "")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["build"], "fledge.toml cannot be read"),
        (["build", "a", "-c", "b"], "either a source or -c"),
        (["build", ".", "--build-arg", "x"], "is not NAME=VALUE"),
        (["build", "."], "has neither fledge.toml nor a Dockerfile"),
        (["build", "oci:gone"], "there is nothing at"),
        (["validate"], "fledge.toml cannot be read"),
        (["build", "-o", "out"], "fledge.toml cannot be read"),
        (["bulid"], "No such command 'bulid'"),
        (["build", "-o", "out", "--josn"], "No such option"),
        (["kernel", "biuld"], "No such command 'biuld'"),
        (["kernel", "build", "--jobs", "0"], "0 is not in the range"),
    ],
)
def test_bad_input_is_one_line_with_a_hint_and_status_2(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)

    code, out, err = call(capsys, *arguments)

    assert (code, out) == (2, "")
    assert err.startswith("fledge: ")
    assert message in err
    assert err.count("\n") == 1
    assert err.endswith(")\n")
    assert not (tmp_path / "out").exists()


def test_a_part_that_is_missing_is_status_1(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("VOLANT_KESTREL", str(tmp_path / "lost"))
    (tmp_path / "image.sh").touch()
    (tmp_path / "fledge.toml").write_text('version = "1"\nstrategy = "oci_rootfs"\n[source]\nscript = "image.sh"\n')
    (tmp_path / "file").touch()

    code, out, err = call(
        capsys, "build", "-c", str(tmp_path / "fledge.toml"), "-o", str(tmp_path / "out"), "--cache-dir", str(tmp_path / "file")
    )

    assert (code, out) == (1, "")
    assert "cannot be used" in err
    assert err.count("\n") == 1


@pytest.mark.spawns
def test_help_loads_no_more_than_it_needs() -> None:
    code = (
        "import sys; from volant.fledge.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: print(sorted({'rich', 'asyncio', 'msgspec', 'tarfile'} & set(sys.modules)), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stderr.strip() == "[]"
