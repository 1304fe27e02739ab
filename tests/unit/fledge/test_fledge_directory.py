from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.core.errors import DiskFull, HostError, InvalidInput
from volant.fledge.source.directory import copy_directory, digest_directory

EPOCH_S = 1704067200

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners and device nodes")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    return source


@pytest.fixture
def target(tmp_path: Path) -> Path:
    target = tmp_path / "target"
    target.mkdir()
    return target


def describe(root: Path) -> dict[str, tuple[object, ...]]:
    """All that a copy must keep of each path, but for owners and times."""
    first: dict[int, str] = {}
    found = {}
    for path in sorted(root.rglob("*")):
        name, facts = str(path.relative_to(root)), path.lstat()
        link = os.readlink(path) if path.is_symlink() else ""
        content = path.read_bytes() if stat.S_ISREG(facts.st_mode) else b""
        attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in os.listxattr(path, follow_symlinks=False)}
        found[name] = (facts.st_mode, facts.st_rdev, link, content, attributes, first.setdefault(facts.st_ino, name))
    return found


@needs_root
def test_everything_but_owners_and_times_is_kept(source: Path, target: Path) -> None:
    (source / "program").write_bytes(b"#!/bin/sh\n")
    (source / "program").chmod(0o4755)
    (source / "also").hardlink_to(source / "program")
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep").chmod(0o2750)
    (source / "deep" / "again").hardlink_to(source / "program")
    (source / "away").symlink_to("/etc/passwd")
    (source / "up").symlink_to("../../..")
    os.mkfifo(source / "pipe", 0o640)
    os.mknod(source / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    (source / os.fsdecode(b"bytes-\xff\xfe")).touch()
    (source / ("n" * 255)).touch()
    os.setxattr(source / "program", "user.note", b"kept\0")
    os.setxattr(source / "deep", "user.note", b"too")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(source / "program", "security.capability", capability)
    os.chown(source / "program", 1234, 1234)
    (source / "program").chmod(0o4755)
    os.setxattr(source / "program", "security.capability", capability)

    digest = copy_directory(source, target, epoch_s=EPOCH_S)

    assert describe(target) == describe(source)
    facts = [path.lstat() for path in (target, *target.rglob("*"))]
    assert {(one.st_uid, one.st_gid, one.st_mtime_ns) for one in facts} == {(0, 0, EPOCH_S * 10**9)}
    assert digest == digest_directory(source) == digest_directory(target)


@needs_root
def test_owners_can_be_kept(source: Path, target: Path) -> None:
    (source / "file").touch()
    (source / "link").symlink_to("file")
    for name in ("file", "link"):
        os.chown(source / name, 70000, 80000, follow_symlinks=False)

    digest = copy_directory(source, target, owners="keep", epoch_s=0)

    assert {(one.lstat().st_uid, one.lstat().st_gid) for one in target.iterdir()} == {(70000, 80000)}
    assert digest == digest_directory(source, owners="keep") != digest_directory(source)


def test_holes_stay_holes(source: Path, target: Path) -> None:
    with (source / "sparse").open("wb") as stream:
        stream.seek(64 << 20)
        stream.write(b"end")
        stream.truncate(128 << 20)
    (source / "empty").touch()

    copy_directory(source, target, epoch_s=0)

    copied = (target / "sparse").stat()
    assert copied.st_size == 128 << 20
    assert copied.st_blocks * 512 < 1 << 20
    with (target / "sparse").open("rb") as stream:
        stream.seek(64 << 20)
        assert stream.read(4) == b"end\0"


def test_the_digest_is_of_bytes_not_of_holes(tmp_path: Path) -> None:
    for name in ("sparse", "plain"):
        (tmp_path / name).mkdir()
    with (tmp_path / "sparse" / "file").open("wb") as stream:
        stream.truncate(3 << 20)
    (tmp_path / "plain" / "file").write_bytes(bytes(3 << 20))

    assert digest_directory(tmp_path / "sparse") == digest_directory(tmp_path / "plain")


def test_who_checked_out_when_does_not_show(tmp_path: Path) -> None:
    for name, names in (("one", ("a", "b", "c")), ("two", ("c", "a", "b"))):
        (tmp_path / name / "sub").mkdir(parents=True)
        for file in names:
            (tmp_path / name / "sub" / file).write_text(file)
        os.utime(tmp_path / name / "sub" / "a", (len(name), hash(name) % 1000))

    assert digest_directory(tmp_path / "one") == digest_directory(tmp_path / "two")


@pytest.mark.parametrize(
    "change",
    [
        lambda root: (root / "file").write_text("other"),
        lambda root: (root / "file").chmod(0o755),
        lambda root: (root / "file").rename(root / "renamed"),
        lambda root: (root / "sub").rmdir(),
        lambda root: (root / "sub").chmod(0o700),
        lambda root: root.chmod(0o700),
        lambda root: ((root / "link").unlink(), (root / "link").symlink_to("fil")),
        lambda root: ((root / "hard").unlink(), (root / "hard").write_text("same")),
        lambda root: os.setxattr(root / "file", "user.a", b"b"),
        lambda root: os.mkfifo(root / "pipe"),
    ],
)
def test_every_change_changes_the_digest(source: Path, change: Callable[[Path], object]) -> None:
    (source / "file").write_text("same")
    (source / "hard").hardlink_to(source / "file")
    (source / "link").symlink_to("file")
    (source / "sub").mkdir()
    before = digest_directory(source)

    change(source)

    assert digest_directory(source) != before


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.binary(max_size=6), st.binary(max_size=6)), min_size=2, max_size=2, unique=True))
def test_names_and_contents_do_not_run_into_each_other(
    tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[bytes, bytes]]
) -> None:
    digests = []
    for name, content in pairs:
        root = tmp_path_factory.mktemp("tree")
        (root / ("n" + name.hex())).write_bytes(content)
        digests.append(digest_directory(root))

    assert digests[0] != digests[1]


def test_a_socket_is_refused_by_name(source: Path, target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (source / "run").mkdir()
    monkeypatch.chdir(source)
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("run/api.sock")

    with pytest.raises(InvalidInput, match=r"source/run/api\.sock is a socket") as caught:
        copy_directory(source, target, epoch_s=0)

    assert caught.value.field == "source.directory"


def test_links_out_are_neither_followed_nor_written_through(source: Path, target: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "canary").write_text("alive")
    (source / "out").symlink_to(outside)

    before = digest_directory(source)
    copy_directory(source, target, epoch_s=0)
    (outside / "canary").write_text("changed")

    assert (target / "out").is_symlink()
    assert digest_directory(source) == before


def test_a_tree_deeper_than_any_path_may_be_is_copied(source: Path, target: Path) -> None:
    descriptor = os.open(source, os.O_RDONLY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=descriptor)
        inner = os.open("d" * 200, os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = inner
    os.close(os.open("bottom", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)

    assert copy_directory(source, target, epoch_s=0) == digest_directory(source) == digest_directory(target)


def test_a_copy_into_itself_is_refused(source: Path) -> None:
    (source / "cache").mkdir()

    with pytest.raises(InvalidInput, match="holds the cache") as caught:
        copy_directory(source, source / "cache", epoch_s=0)

    assert caught.value.hint == "use --cache-dir"


@pytest.mark.parametrize("make", [lambda path: None, lambda path: path.write_text("x")])
def test_what_is_no_directory_is_refused(tmp_path: Path, make: Callable[[Path], object]) -> None:
    make(tmp_path / "source")

    with pytest.raises(InvalidInput, match="source cannot be read"):
        digest_directory(tmp_path / "source")


def test_the_source_itself_may_be_a_link(tmp_path: Path, source: Path, target: Path) -> None:
    (source / "file").touch()
    (tmp_path / "link").symlink_to(source)

    assert copy_directory(tmp_path / "link", target, epoch_s=0) == digest_directory(source)


@pytest.mark.parametrize(("number", "kind"), [("ENOSPC", DiskFull), ("EPERM", HostError), ("EIO", HostError)])
def test_what_cannot_be_written_is_said(
    source: Path, target: Path, monkeypatch: pytest.MonkeyPatch, number: str, kind: type[Exception]
) -> None:
    import errno

    def fail(*_: object) -> int:
        raise OSError(getattr(errno, number), "no")

    (source / "file").write_text("x")
    monkeypatch.setattr(os, "pwrite", fail)

    with pytest.raises(kind, match="copy of"):
        copy_directory(source, target, epoch_s=0)
