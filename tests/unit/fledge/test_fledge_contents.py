from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
import zstandard

from volant.core.errors import InvalidInput
from volant.fledge.kept.compare import Difference, compare_contents, compare_documents, compare_packages
from volant.fledge.kept.contents import Entry, list_tree, read_contents, write_contents

NOT_UTF8 = os.fsdecode(b"caf\xe9 \\ x")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "b/c").mkdir(parents=True)
    (root / "b/c/file").write_bytes(b"content")
    os.link(root / "b/c/file", root / "b/second")
    (root / "a").symlink_to(NOT_UTF8)
    (root / NOT_UTF8).write_bytes(b"")
    os.setxattr(root / "b/c/file", "user.note", b"\x00\xff")
    os.mkfifo(root / "pipe", 0o640)
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(1, 1234567890123456789), follow_symlinks=False)
    return root


def test_everything_is_listed_in_order(root: Path) -> None:
    found = list(list_tree(root))
    assert [entry.path for entry in found] == ["/", "/a", "/b", "/b/c", "/b/c/file", "/b/second", f"/{NOT_UTF8}", "/pipe"]
    entries = {entry.path: entry for entry in found}
    assert entries["/b/c/file"] == Entry(
        path="/b/c/file", kind="file", mode=0o644, uid=os.getuid(), gid=os.getgid(), size=7, mtime_ns=1234567890123456789,
        sha256="ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73", xattrs={"user.note": "00ff"},
    )  # fmt: skip
    assert (entries["/b/second"].link, entries["/b/second"].sha256) == ("/b/c/file", "")
    assert (entries["/a"].kind, entries["/a"].link) == ("symlink", NOT_UTF8)
    assert (entries["/pipe"].kind, entries["/pipe"].mode) == ("fifo", 0o640)


def test_it_is_written_and_read_the_same(root: Path, tmp_path: Path) -> None:
    write_contents(root, tmp_path / "one")
    write_contents(root, tmp_path / "two")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()
    assert list(read_contents(tmp_path / "one")) == list(list_tree(root))


def test_a_tree_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    for _ in range(30):
        os.mkdir("d" * 200, dir_fd=here)
        below = os.open("d" * 200, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = below
    os.close(here)
    assert len(list(list_tree(tmp_path))) == 31


@pytest.mark.parametrize("content", [b"", b"nonsense", zstandard.compress(b"nonsense\n"), zstandard.compress(b'{"path": 1}\n')])
def test_a_damaged_listing_is_bad_input(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "contents"
    path.write_bytes(content)
    if not content:
        assert list(read_contents(path)) == []
        return
    with pytest.raises(InvalidInput, match="is damaged"):
        list(read_contents(path))
    with pytest.raises(InvalidInput, match="cannot be read"):
        list(read_contents(tmp_path / "gone"))


def test_trees_are_compared_by_aspect(root: Path) -> None:
    before = list(list_tree(root))
    (root / "b/c/file").write_bytes(b"changed")
    (root / "b/c/file").chmod(stat.S_IRUSR)
    (root / "pipe").unlink()
    (root / "new").mkdir()
    for path in (root, root / "b/c/file"):
        os.utime(path, ns=(1, 1234567890123456789))
    found = list(compare_contents(iter(before), list_tree(root)))
    assert [(one.at, one.what) for one in found if one.at not in ("/b/second",)] == [
        ("/b/c/file", "content"), ("/new", "added"), ("/pipe", "removed"),
    ]  # fmt: skip
    assert "mode 0644" in found[0].left
    assert "mode 0400" in found[0].right
    assert list(compare_contents(list_tree(root), list_tree(root))) == []


def test_documents_are_compared_by_leaf() -> None:
    left = {"a": {"b": 1, "c": [1, 2]}, "d": "x", "gone": True}
    right = {"a": {"b": 2, "c": [1, 3]}, "d": "x", "new": None, "newer": "y"}
    assert list(compare_documents("manifest", left, right)) == [
        Difference("manifest", "a.b", "changed", "1", "2"),
        Difference("manifest", "a.c[1]", "changed", "2", "3"),
        Difference("manifest", "gone", "removed", "true", ""),
        Difference("manifest", "newer", "added", "", "y"),
    ]


def test_packages_are_compared_by_name() -> None:
    left = [("libc6", "1"), ("gone", "2"), ("twice", "1"), ("twice", "2")]
    right = [("libc6", "1+1"), ("new", "3"), ("twice", "2"), ("twice", "1")]
    assert list(compare_packages(left, right)) == [
        Difference("packages", "gone", "removed", "2", ""),
        Difference("packages", "libc6", "changed", "1", "1+1"),
        Difference("packages", "new", "added", "", "3"),
    ]
