"""Layers against a model of what the specification says of them (image-spec v1.1, layer.md): no order, no deeds."""

from __future__ import annotations

import asyncio
import os
import random
import stat
import tarfile
import tempfile
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from .layer_files import EPOCH_S, Entries, read_tree, unpack
from .oci_layouts import make_entry

pytestmark = [pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")]

DIRECTORY, LINK, SYMLINK = tarfile.DIRTYPE, tarfile.LNKTYPE, tarfile.SYMTYPE


class Node(msgspec.Struct, frozen=True):
    """What the model has of an entry. A hard link is the same object under two paths."""

    kind: bytes
    mode: int
    uid: int
    mtime: int
    content: bytes
    serial: int


class Layer(msgspec.Struct, frozen=True):
    entries: dict[str, Node]
    links: dict[str, str]
    whiteouts: list[str]
    opaques: list[str]


Tree = dict[str, Node]


def above(path: str) -> list[str]:
    """All directories on the way, the root ("") first."""
    parts = path.split("/")
    return ["", *("/".join(parts[:number]) for number in range(1, len(parts)))]


def is_directory(node: Node | None) -> bool:
    return node is not None and node.kind == DIRECTORY


def apply_layer(lower: Tree, layer: Layer) -> Tree:
    """The union that image-spec's layer.md describes, put in terms of what is hidden."""

    def is_hidden(path: str, node: Node) -> bool:
        ways = above(path)
        return (
            any(whiteout == path or whiteout in ways for whiteout in layer.whiteouts)
            or any(opaque in ways for opaque in layer.opaques)
            or any(way in layer.entries and not is_directory(layer.entries[way]) for way in ways)
            or (path in layer.entries and not (is_directory(node) and is_directory(layer.entries[path])))
        )

    found = {path: node for path, node in lower.items() if not is_hidden(path, node)} | layer.entries
    implied = Node(DIRECTORY, 0o755, 0, EPOCH_S, b"", 0)
    for path in layer.entries:
        for way in above(path)[1:]:
            found.setdefault(way, implied)
    return found


MODEL_PATHS = st.lists(st.sampled_from("abc"), min_size=1, max_size=3).map("/".join)


@st.composite
def draw_layer(draw: st.DrawFn, lower: Tree, first_serial: int) -> Layer:
    """A layer that a sane program would write upon ``lower``: nothing in it lies below what is no directory."""
    entries: Tree = {}
    links: dict[str, str] = {}

    def has_way(path: str) -> bool:
        return all(
            is_directory(entries[way]) if way in entries else way not in lower or is_directory(lower[way])
            for way in above(path)[1:]
        )

    whiteouts = draw(st.lists(MODEL_PATHS, max_size=2))
    opaques = draw(st.lists(st.one_of(st.just(""), MODEL_PATHS), max_size=1))
    for number, path in enumerate(sorted(draw(st.sets(MODEL_PATHS, max_size=7)))):
        kind = draw(st.sampled_from([tarfile.REGTYPE, DIRECTORY, DIRECTORY, SYMLINK, LINK]))
        if not has_way(path):
            continue
        if kind == LINK:
            targets = [other for other, node in entries.items() if not is_directory(node)]
            if targets:
                links[path] = draw(st.sampled_from(targets))
                entries[path] = entries[links[path]]
            continue
        mode, uid, mtime = draw(st.sampled_from([0o644, 0o4711])), draw(st.integers(0, 3)), draw(st.integers(0, 9))
        # Links that lead nowhere: where they lead is for other tests.
        content = b"" if kind == DIRECTORY else f"nowhere{number}".encode()
        entries[path] = Node(kind, 0o777 if kind == SYMLINK else mode, uid, mtime, content, first_serial + number)

    def is_plain(path: str) -> bool:
        return all(way not in tree or is_directory(tree[way]) for tree in (lower, entries) for way in above(path)[1:])

    return Layer(
        entries,
        links,
        [path for path in whiteouts if is_plain(path)],
        [path for path in opaques if is_plain(f"{path}/x".lstrip("/"))],
    )


def write_entries(layer: Layer, shuffle: random.Random) -> Entries:
    made = []
    for path, node in layer.entries.items():
        if path in layer.links:
            made.append(make_entry(path, kind=LINK, linkname=layer.links[path]))
        else:
            content = node.content if node.kind == tarfile.REGTYPE else b""
            link = node.content.decode() if node.kind == SYMLINK else ""
            made.append(make_entry(path, content, kind=node.kind, mode=node.mode, uid=node.uid, mtime=node.mtime, linkname=link))
    for path in layer.whiteouts:
        parent, _, name = path.rpartition("/")
        made.insert(shuffle.randint(0, len(made)), make_entry(f"{parent}/.wh.{name}".lstrip("/")))
    for path in layer.opaques:
        made.insert(shuffle.randint(0, len(made)), make_entry(f"{path}/.wh..wh..opq".lstrip("/")))
    return made


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.data())
def test_layers_are_the_union_that_the_specification_describes(data: st.DataObject) -> None:
    tree: Tree = {}
    layers = []
    shuffle = random.Random(data.draw(st.integers(0, 1000)))
    for number in range(data.draw(st.integers(1, 4))):
        layer = data.draw(draw_layer(tree, number * 100 + 1))
        layers.append(write_entries(layer, shuffle))
        tree = apply_layer(tree, layer)

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(unpack(Path(directory), *layers))
        root = Path(directory, "root")
        found = {os.fsdecode(path): facts for path, facts in read_tree(root).items() if path != b"."}
        inodes: dict[int, set[str]] = {}
        for path in found:
            inodes.setdefault((root / path).lstat().st_ino, set()).add(path)

    assert found.keys() == tree.keys()
    for path, node in tree.items():
        facts = found[path]
        kind = {stat.S_IFREG: tarfile.REGTYPE, stat.S_IFDIR: DIRECTORY, stat.S_IFLNK: SYMLINK}[stat.S_IFMT(facts.mode)]
        assert (kind, stat.S_IMODE(facts.mode), facts.uid, facts.mtime_ns, facts.content) == (
            node.kind, node.mode, node.uid, node.mtime * 10**9, node.content,
        ), path  # fmt: skip
    same: dict[int, set[str]] = {}
    for path, node in tree.items():
        if not is_directory(node):
            same.setdefault(node.serial, set()).add(path)
    assert {frozenset(paths) for paths in inodes.values() if not is_directory(tree[min(paths)])} == set(
        map(frozenset, same.values())
    )
