"""settle: a tree seen through it is the same whatever file system holds it, and what is not the tree's is untouched."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import Unavailable
from volant.native import find_native

pytestmark = pytest.mark.spawns

# Python's own scandir and stat call readdir, fstatat and statx; time.time() calls clock_gettime, os.urandom getrandom.
LOOK = """
import ctypes, json, os, sys, time
root = sys.argv[1]
def show(facts):
    return [facts.st_dev, facts.st_ino, facts.st_nlink, facts.st_size, facts.st_blocks,
            facts.st_atime_ns, facts.st_mtime_ns, facts.st_ctime_ns]
seen = {}
def visit(path, name):
    facts = os.lstat(path)
    seen[name] = show(facts)
    if not os.path.islink(path) and os.path.isdir(path):
        entries = list(os.scandir(path))
        seen[name + "/"] = [[entry.name, entry.inode()] for entry in entries]
        for entry in entries:
            visit(entry.path, name + "/" + entry.name)
visit(root, "")
uuid = (ctypes.c_ubyte * 16)()
settle = ctypes.CDLL(os.environ["LD_PRELOAD"]) if "LD_PRELOAD" in os.environ else None
if settle and os.environ.get("VOLANT_SETTLE_SEED"):
    settle.uuid_generate_time(uuid)
print(json.dumps({
    "tree": seen,
    "fd": show(os.fstat(os.open(root, os.O_RDONLY))),
    "outside": show(os.stat(sys.argv[2]))[:5] + show(os.stat(sys.argv[2]))[6:],
    "attributes": os.listxattr(sys.argv[3]),
    "time": time.time(), "random": os.urandom(20).hex(), "uuid": bytes(uuid).hex(),
}))
"""


@pytest.fixture(scope="module")
def settle() -> Path:
    try:
        return find_native("settle")
    except Unavailable as error:
        pytest.skip(f"{error.message}: {error.hint}")


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    if not os.access("/dev/shm", os.W_OK):
        pytest.skip("needs /dev/shm")
    with tempfile.TemporaryDirectory(dir="/dev/shm") as path:
        yield Path(path)


def make_tree(root: Path, seed: int) -> Path:
    names = [*(f"file-{number}" for number in range(200)), "Z", "a", "\u00e9"]
    random.Random(seed).shuffle(names)
    (root / "below" / "deeper").mkdir(parents=True)
    for name in names:
        (root / name).write_text(name)
    with (root / "sparse").open("wb") as file:
        file.truncate(1 << 20)
    (root / "below" / "link").symlink_to("../a")
    os.link(root / "a", root / "below" / "again")
    os.link(root / "Z", root.parent / f"outside-{seed}")
    for path in [*root.rglob("*"), root]:
        os.utime(path, ns=(seed, 1000 * 10**9 + 7), follow_symlinks=False)
    return root


def look(root: Path, outside: Path, attributed: Path, settle: Path | None, **variables: str) -> dict[str, Any]:
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **variables}
    if settle is not None:
        environment["LD_PRELOAD"] = str(settle)
    command = [sys.executable, "-c", LOOK, root, outside, attributed]
    done = subprocess.run(command, env=environment, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def set_attributes(path: Path, names: list[str]) -> Path:
    path.touch()
    for name in names:
        os.setxattr(path, name, b"x")
    return path


def test_a_tree_looks_the_same_on_two_file_systems(settle: Path, tmp_path: Path, elsewhere: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text("outside")
    seen = [
        look(
            make_tree(place / "tree", seed), outside, outside, settle, VOLANT_SETTLE_TREE=str(place / "tree"),
            VOLANT_SETTLE_TIME_S="1500000000", VOLANT_SETTLE_SEED="ab12",
        )
        for seed, place in enumerate((tmp_path, elsewhere))
    ]  # fmt: skip

    assert seen[0] == seen[1]
    tree = seen[0]["tree"]
    names = [name for name, _ in tree["/"]]
    assert names == sorted(names, key=os.fsencode)
    assert names[0] == "Z"
    assert seen[0]["fd"] == tree[""]
    assert tree[""][1] == 256
    assert tree["/a"] == tree["/below/again"]
    assert tree["/a"][2] == 2
    # The other name of this one is not in the tree.
    assert tree["/Z"][2] == 1
    assert tree["/below"][2:4] == [3, 4096]
    assert tree["/sparse"][4] == 2048
    assert tree["/a"][5:] == [1000 * 10**9] * 3
    assert seen[0]["time"] == 1500000000.0
    assert seen[0]["uuid"][12] == "4"


def test_what_is_not_the_trees_is_as_it_is(settle: Path, tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "tree", 1)
    other = make_tree(tmp_path / "other", 2)
    plain = look(other, other / "a", other / "a", None)

    settled = look(other, other / "a", other / "a", settle, VOLANT_SETTLE_TREE=str(tree))

    # Access times move by being looked at.
    assert settled["outside"] == plain["outside"]
    assert {path: facts[:5] for path, facts in settled["tree"].items() if not path.endswith("/")} == {
        path: facts[:5] for path, facts in plain["tree"].items() if not path.endswith("/")
    }
    assert settled["time"] > 1600000000
    assert settled["random"] != plain["random"]


def test_times_stay_within_their_limits(settle: Path, tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    for name, time_s in (("early", 10), ("late", 10**10), ("between", 2000)):
        (tree / name).touch()
        os.utime(tree / name, (time_s, time_s))

    seen = look(
        tree, tree, tree, settle, VOLANT_SETTLE_TREE=str(tree), VOLANT_SETTLE_EARLIEST_S="1000", VOLANT_SETTLE_LATEST_S="3000"
    )["tree"]

    assert [seen[f"/{name}"][6] // 10**9 for name in ("early", "between", "late")] == [1000, 2000, 3000]


def test_attributes_are_listed_by_name(settle: Path, tmp_path: Path) -> None:
    names = ["user.m", "user.z", "user.a", "user.b"]
    forward, backward = set_attributes(tmp_path / "one", names), set_attributes(tmp_path / "two", names[::-1])

    assert look(tmp_path, tmp_path, forward, settle)["attributes"] == sorted(names)
    assert look(tmp_path, tmp_path, backward, settle)["attributes"] == sorted(names)


def test_chance_follows_from_the_seed(settle: Path, tmp_path: Path) -> None:
    first, again, other = (
        look(tmp_path, tmp_path, tmp_path, settle, VOLANT_SETTLE_SEED=seed, VOLANT_SETTLE_TIME_S="1")
        for seed in ("aa", "aa", "bb")
    )

    assert (first["random"], first["uuid"]) == (again["random"], again["uuid"])
    assert first["random"] != other["random"]
    assert first["uuid"] != other["uuid"]


@pytest.mark.parametrize(
    ("variable", "value", "said"),
    [
        ("VOLANT_SETTLE_TREE", "/nonexistent", "cannot open /nonexistent"),
        ("VOLANT_SETTLE_TIME_S", "noon", "cannot read VOLANT_SETTLE_TIME_S"),
    ],
)
def test_what_it_cannot_do_ends_the_program(settle: Path, variable: str, value: str, said: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import os, time; os.stat('/'); time.time()"],
        env={"PATH": os.environ["PATH"], "LD_PRELOAD": str(settle), variable: value}, capture_output=True, text=True, check=False,
    )  # fmt: skip

    assert done.returncode == 1
    assert said in done.stderr
