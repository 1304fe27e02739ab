"""``fledge keygen``, ``sign`` and ``verify``, and Debian's minisign on the other side of each."""

from __future__ import annotations

import hashlib
import json
import os
import pty
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from volant.artifact.signature import read_signature
from volant.core.errors import AlreadyExists, ChecksumMismatch, InvalidInput, NotFound, Untrusted
from volant.fledge.cli import fledge
from volant.fledge.signing.cli import keygen, sign, verify
from volant.fledge.signing.files import sign_paths, verify_paths
from volant.fledge.signing.key import (
    KeyCost,
    create_keys,
    default_secret_key,
    open_public_key,
    open_secret_key,
    read_password,
)

pytestmark = pytest.mark.spawns
needs_minisign = pytest.mark.skipif(shutil.which("minisign") is None, reason="minisign is not installed")

CHEAP = KeyCost(operations=32768, memory_bytes=1 << 24)
FILES = {"vmlinux": b"a kernel", "boot.cpio": b"an initramfs", "rootfs.erofs": b"a root" * 1000}

# minisign -G, with the password "correct horse"; it takes a gigabyte and some seconds to open.
MINISIGNS_KEY = """\
untrusted comment: minisign encrypted secret key
RWRTY0IyVGISnXENJYa29MuXbeuOQVrbC4R5V60yPsVl1A6xjyEAAAACAAAAAAAAAEAAAAAA8L8TvBl86WMMCh0IoxiE+6E4jYCUxBX6U/E3aSmu8rNjkxuaAtF6dVfYm4Iwon+KveSvAZdNgknvdjJ9agCsrW0Lv5xnJiy5heIs3WQiRep8IGyt5hKo2/YlzI+SL7wxKpzZItFpBEc=
"""
MINISIGNS_PUBLIC_KEY = "RWSV+nknRal61qj87yasUuO+vXbioG4ZDGu46z4JLq+tIpvlNr9xj/1V"


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


@pytest.fixture
def build(tmp_path: Path) -> Path:
    """What ``fledge build`` leaves."""
    directory = tmp_path / "out"
    directory.mkdir()
    for name, content in FILES.items():
        (directory / name).write_bytes(content)
    media = {name: {"url": name, "checksum": digest(content)} for name, content in FILES.items()}
    manifest = {
        "schema_version": "v1",
        "name": "nginx",
        "version": "1.25",
        "workload": {"type": "exec", "entrypoint": ["nginx"]},
        "boot": {"kernel": media["vmlinux"], "initramfs": media["boot.cpio"]},
        "rootfs": media["rootfs.erofs"],
    }
    (directory / "manifest.json").write_text(json.dumps(manifest, indent=2))
    (directory / "build.json").write_text("{}")
    return directory


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    secret, public = tmp_path / "keys" / "acme.key", tmp_path / "acme.pub"
    create_keys(secret, public, None)
    return secret, public


def no_password() -> str:
    raise AssertionError("a key without a password asks for none")


def sign_all(keys: tuple[Path, Path], *paths: Path, text: str = "") -> None:
    with open_secret_key(keys[0], no_password) as key:
        sign_paths(paths, key, text)


def run_minisign(*words: str | Path) -> str:
    done = subprocess.run(["minisign", *words], capture_output=True, text=True, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_build_is_signed_whole_and_verified_whole(build: Path, keys: tuple[Path, Path]) -> None:
    sign_all(keys, build, text="for the spring release")
    files = [*FILES, "build.json", "manifest.json"]
    assert sorted(path.name for path in build.iterdir()) == sorted([*files, *(f"{name}.minisig" for name in files)])
    verified = verify_paths([build], open_public_key(keys[1]))
    assert sorted(Path(one.path).name for one in verified) == sorted(files)
    assert {one.by for one in verified} == {"signature"}
    comment = read_signature((build / "rootfs.erofs.minisig").read_bytes()).trusted_comment
    content = FILES["rootfs.erofs"]
    assert (
        comment
        == f"volant:1 name=nginx version=1.25 file=rootfs.erofs {digest(content).replace(':', '=')}\tfor the spring release"
    )


def test_signing_again_gives_the_same_bytes(build: Path, keys: tuple[Path, Path]) -> None:
    sign_all(keys, build)
    first = {path.name: path.read_bytes() for path in build.glob("*.minisig")}
    sign_all(keys, build)
    assert first == {path.name: path.read_bytes() for path in build.glob("*.minisig")} and len(first) == 5


def test_the_manifests_signature_alone_vouches_for_the_artifacts(build: Path, keys: tuple[Path, Path]) -> None:
    sign_all(keys, build)
    for name in FILES:
        (build / f"{name}.minisig").unlink()
    verified = verify_paths([build], open_public_key(keys[1]))
    assert {Path(one.path).name for one in verified if one.by == "manifest"} == set(FILES)


@pytest.mark.parametrize(
    ("name", "error"),
    [
        ("vmlinux", ChecksumMismatch),
        ("rootfs.erofs", ChecksumMismatch),
        ("manifest.json", Untrusted),
        ("build.json", Untrusted),
        ("manifest.json.minisig", InvalidInput),
        ("boot.cpio.minisig", InvalidInput),
    ],
)
def test_a_changed_file_is_found(build: Path, keys: tuple[Path, Path], name: str, error: type[Exception]) -> None:
    sign_all(keys, build)
    (build / name).write_bytes((build / name).read_bytes()[:-5])
    with pytest.raises(error, match=name):
        verify_paths([build], open_public_key(keys[1]))


@pytest.mark.parametrize("name", ["manifest.json", "build.json"])
def test_what_nothing_vouches_for_is_said_to_be_unsigned(build: Path, keys: tuple[Path, Path], name: str) -> None:
    sign_all(keys, build)
    (build / f"{name}.minisig").unlink()
    with pytest.raises(Untrusted, match=rf"{name} is not signed: there is no {name}\.minisig"):
        verify_paths([build], open_public_key(keys[1]))


def test_a_missing_artifact_is_not_found(build: Path, keys: tuple[Path, Path]) -> None:
    sign_all(keys, build)
    (build / "vmlinux").unlink()
    with pytest.raises(NotFound, match="vmlinux"):
        verify_paths([build], open_public_key(keys[1]))


def test_a_good_signature_of_another_file_is_refused(build: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign_all(keys, build)
    for ending in ("", ".minisig"):
        shutil.copy(build / f"build.json{ending}", tmp_path / f"provenance.json{ending}")
    with pytest.raises(Untrusted, match=r"was signed as 'build\.json'"):
        verify_paths([tmp_path / "provenance.json"], open_public_key(keys[1]))
    # The same name, the same key, another plugin's.
    other = json.loads((build / "manifest.json").read_text()) | {"name": "mysql"}
    (build / "manifest.json").write_text(json.dumps(other))
    sign_all(keys, build / "manifest.json")
    with pytest.raises(Untrusted, match=r"was signed for 'nginx 1\.25', and lies with mysql 1\.25"):
        verify_paths([build], open_public_key(keys[1]))


def test_another_key_is_refused(build: Path, keys: tuple[Path, Path], tmp_path: Path) -> None:
    sign_all(keys, build)
    stranger = create_keys(tmp_path / "s.key", tmp_path / "s.pub", None)
    with pytest.raises(Untrusted, match="is signed with key"):
        verify_paths([build], stranger)


def test_a_build_that_is_not_what_its_manifest_says_is_not_signed(build: Path, keys: tuple[Path, Path]) -> None:
    (build / "rootfs.erofs").write_bytes(b"another")
    with pytest.raises(ChecksumMismatch, match=r"rootfs\.erofs is not what its manifest says"):
        sign_all(keys, build)
    assert list(build.glob("*.minisig")) == []


@pytest.mark.parametrize("url", ["../elsewhere", "/etc/hostname", "file:///etc/hostname"])
def test_nothing_outside_the_directory_is_touched(build: Path, keys: tuple[Path, Path], url: str) -> None:
    manifest = json.loads((build / "manifest.json").read_text())
    manifest["rootfs"]["url"] = url
    (build / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(InvalidInput, match="which lies elsewhere"):
        sign_all(keys, build)


def test_keys_are_not_replaced_and_the_secret_one_is_its_owners(keys: tuple[Path, Path], tmp_path: Path) -> None:
    secret, public = keys
    assert secret.stat().st_mode & 0o777 == 0o600 and secret.parent.stat().st_mode & 0o777 == 0o700
    before = secret.read_bytes()
    for pair in ((secret, tmp_path / "new.pub"), (tmp_path / "new.key", public)):
        with pytest.raises(AlreadyExists, match="is there already"):
            create_keys(*pair, None)
    assert secret.read_bytes() == before and not (tmp_path / "new.key").exists()
    create_keys(secret, public, None, replace=True)
    assert secret.read_bytes() != before


def test_a_key_with_a_password_opens_with_it_alone(tmp_path: Path) -> None:
    create_keys(tmp_path / "k", tmp_path / "k.pub", "correct horse", cost=CHEAP)
    with pytest.raises(InvalidInput, match="wrong password"), open_secret_key(tmp_path / "k", lambda: "battery"):
        pass
    with open_secret_key(tmp_path / "k", lambda: "correct horse") as key:
        assert key.get_public_key() == open_public_key(tmp_path / "k.pub")
    assert key.is_wiped()


@pytest.mark.parametrize("content", [b"", b"\xff" * 100, b"untrusted comment: x\nRWQ=\n", b"one\ntwo\nthree\n"])
def test_what_is_no_key_is_invalid(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k").write_bytes(content)
    with pytest.raises(InvalidInput, match="no minisign secret key"), open_secret_key(tmp_path / "k", no_password):
        pass
    with pytest.raises(InvalidInput, match="no minisign public key"):
        open_public_key(tmp_path / "k")


def test_a_password_is_the_first_line_of_its_file(tmp_path: Path) -> None:
    for content, password in ((b"word", "word"), (b"two words\r\nmore\n", "two words"), ("ä\n".encode(), "ä")):
        (tmp_path / "p").write_bytes(content)
        assert read_password(tmp_path / "p") == password
    (tmp_path / "p").write_bytes(b"\xff\n")
    with pytest.raises(InvalidInput, match="holds no text"):
        read_password(tmp_path / "p")


def test_keys_lie_where_minisign_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/somebody")
    assert default_secret_key({}) == Path("/home/somebody/.minisign/minisign.key")
    assert default_secret_key({"MINISIGN_CONFIG_DIR": "/keys"}) == Path("/keys/minisign.key")


@needs_minisign
def test_minisign_verifies_what_was_signed_here(build: Path, keys: tuple[Path, Path]) -> None:
    sign_all(keys, build)
    for name in (*FILES, "manifest.json", "build.json"):
        said = run_minisign("-V", "-p", keys[1], "-m", build / name)
        assert "Signature and comment signature verified" in said
        assert f"name=nginx version=1.25 file={name}" in said


@needs_minisign
def test_what_minisign_signed_with_its_own_keys_is_verified_here(build: Path, tmp_path: Path) -> None:
    run_minisign("-G", "-W", "-s", tmp_path / "m.key", "-p", tmp_path / "m.pub")
    run_minisign("-S", "-s", tmp_path / "m.key", "-m", build / "manifest.json")
    run_minisign("-S", "-l", "-s", tmp_path / "m.key", "-m", build / "build.json", "-t", "a legacy one")
    key = open_public_key(tmp_path / "m.pub")
    by = {Path(one.path).name: one for one in verify_paths([build], key)}
    assert by["build.json"].comment == "a legacy one" and by["manifest.json"].comment.endswith("hashed")
    # And its secret key signs here.
    sign_all((tmp_path / "m.key", tmp_path / "m.pub"), build)
    assert "verified" in run_minisign("-V", "-p", tmp_path / "m.pub", "-m", build / "vmlinux")


@needs_minisign
def test_minisign_signs_with_a_key_that_was_made_here(build: Path, keys: tuple[Path, Path]) -> None:
    run_minisign("-S", "-s", keys[0], "-m", build / "manifest.json")
    assert verify_paths([build / "manifest.json"], open_public_key(keys[1]))


@needs_minisign
def test_minisign_opens_a_key_with_a_password_that_was_made_here(build: Path, tmp_path: Path) -> None:
    create_keys(tmp_path / "k", tmp_path / "k.pub", "correct horse", cost=CHEAP)
    said = answer_terminal(["minisign", "-S", "-s", tmp_path / "k", "-m", build / "manifest.json"], "correct horse")
    assert b"done" in said
    assert verify_paths([build / "manifest.json"], open_public_key(tmp_path / "k.pub"))


def test_a_key_with_a_password_that_minisign_made_opens_here(tmp_path: Path) -> None:
    (tmp_path / "k").write_text(MINISIGNS_KEY)
    with open_secret_key(tmp_path / "k", lambda: "correct horse") as key:
        assert key.get_public_key().to_base64().decode() == MINISIGNS_PUBLIC_KEY


def answer_terminal(command: list[Any], answer: str) -> bytes:
    """Run ``command`` on a terminal of its own, answer its first question, and return all that it said."""
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.execvp(command[0], [str(word) for word in command])
        finally:
            os._exit(127)
    said = b""
    answered = False
    while True:
        try:
            chunk = os.read(terminal, 4096)
        except OSError:  # the other side was closed
            chunk = b""
        if not chunk:
            break
        said += chunk
        if not answered and b"assword" in said:
            os.write(terminal, answer.encode() + b"\n")
            answered = True
    os.close(terminal)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0, said
    return said


# The command line, as cli.py registers it


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Any:
    from volant.fledge import cli

    for command in (keygen, sign, verify):
        if command.name not in fledge.commands:
            fledge.add_command(command)

    def run(*words: str | Path) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as ended:
            cli.main([str(word) for word in words])
        printed = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return ended.value.code, printed.out, printed.err

    return run


def test_the_commands_make_keys_sign_and_verify(call: Any, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINISIGN_CONFIG_DIR", str(tmp_path / "mine"))
    code, public, err = call("keygen", "--no-password")
    assert code == 0 and len(public.strip()) == 56
    assert err == f"{tmp_path}/mine/minisign.key is the secret key: keep it, and keep it secret\n"
    code, out, _ = call("sign", build, "-t", "by hand")
    assert (code, out.splitlines()[-1]) == (0, str(build / "manifest.json.minisig"))
    code, out, _ = call("verify", build)
    assert code == 0 and len(out.splitlines()) == 5
    assert out.startswith(f"{build}/manifest.json: signed (volant:1 name=nginx")
    assert call("verify", build, "-P", public.strip()) == (0, out, "")
    assert len(json.loads(call("verify", build, "--json")[1])["items"]) == 5
    (build / "vmlinux").write_bytes(b"another kernel")
    code, out, err = call("verify", build)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert "vmlinux is not what its manifest says" in err


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["keygen", "-W", "--password-file", "x"], 2, "either --no-password or a password file"),
        (["sign", "."], 1, "there is no lost/minisign.key"),
        (["sign", "absent", "-s", "acme.key"], 1, "there is no absent"),
        (["sign", ".", "-s", "acme.key"], 1, "there is no manifest.json"),
        (["verify", "."], 1, "there is no minisign.pub"),
        (["verify", ".", "-P", "nonsense"], 2, "-P is no minisign public key"),
        (["verify", "acme.pub", "-p", "acme.pub"], 1, "acme.pub is not signed"),
        (["verify", "x", "-p", "acme.pub", "-P", "y"], 2, "either -p or -P"),
        (["sign"], 2, "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    call: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: list[str], code: int, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MINISIGN_CONFIG_DIR", "lost")
    create_keys(Path("acme.key"), Path("acme.pub"), None)
    found, out, err = call(*words)
    assert (found, out, err.count("\n")) == (code, "", 1)
    assert said in err


def test_a_password_comes_from_a_file_or_a_terminal_and_from_nowhere_else(
    call: Any, build: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    create_keys(tmp_path / "k", tmp_path / "k.pub", "correct horse", cost=CHEAP)
    (tmp_path / "password").write_text("correct horse\n")
    with (tmp_path / "password").open() as no_terminal:
        monkeypatch.setattr(sys, "stdin", no_terminal)
        code, _, err = call("sign", build, "-s", tmp_path / "k")
    assert code == 2 and "there is no terminal to ask for it" in err and "MINISIGN_PASSWORD_FILE" in err
    assert call("sign", build, "-s", tmp_path / "k", "--password-file", tmp_path / "password")[0] == 0
    monkeypatch.setenv("MINISIGN_PASSWORD_FILE", str(tmp_path / "password"))
    assert call("sign", build, "-s", tmp_path / "k")[0] == 0


def test_a_terminal_is_asked_for_the_password(build: Path, tmp_path: Path) -> None:
    create_keys(tmp_path / "k", tmp_path / "k.pub", "correct horse", cost=CHEAP)
    program = "import sys; from volant.fledge.signing.cli import sign; sign(sys.argv[1:])"
    said = answer_terminal([sys.executable, "-c", program, build, "-s", tmp_path / "k"], "correct horse")
    assert b"correct horse" not in said, "what is typed is not shown"
    assert verify_paths([build], open_public_key(tmp_path / "k.pub"))


def test_the_commands_explain_themselves(call: Any) -> None:
    for command in ("keygen", "sign", "verify"):
        code, out, _ = call(command, "--help")
        assert code == 0 and f"fledge {command} " in out and "Examples:" in out
