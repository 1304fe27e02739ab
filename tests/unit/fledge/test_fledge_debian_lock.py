from __future__ import annotations

import tomllib
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import HostError, InvalidInput, VolantError
from volant.fledge.debian.lock import (
    LOCK_MAX_BYTES,
    LOCK_MAX_PACKAGES,
    Lock,
    LockedPackage,
    VersionChange,
    check_lock,
    compare_locks,
    make_lock,
    parse_lock,
    read_lock,
    render_lock,
    write_lock,
)


def package(name: str, version: str = "1", *, digest: str = "a", file: str = "", architecture: str = "amd64") -> LockedPackage:
    return LockedPackage(name, version, architecture, digest * 64, 7, file or f"pool/{name}.deb")


LOCK = make_lock(
    "bookworm", "amd64", ["nginx-light", "./my.deb"], [package("nginx-light", "1:2-3"), package("my", file="./my.deb")]
)
TEXT = b"""\
# The Debian packages of fledge.toml, by version and digest. Commit it; write it anew with: fledge build --update-lock

version = 1
suite = "bookworm"
architecture = "amd64"
request = [
    "./my.deb",
    "nginx-light",
]

[[package]]
name = "my"
version = "1"
architecture = "amd64"
sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
size = 7
file = "./my.deb"

[[package]]
name = "nginx-light"
version = "1:2-3"
architecture = "amd64"
sha256 = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
size = 7
file = "pool/nginx-light.deb"
"""


def test_a_lock_is_written_one_fact_a_line_and_sorted() -> None:
    assert render_lock(LOCK) == TEXT
    assert parse_lock(TEXT) == LOCK


def test_the_order_in_a_file_that_was_edited_does_not_matter() -> None:
    head, first, second = TEXT.decode().split("[[package]]\n")

    assert parse_lock(f"{head}[[package]]\n{second}[[package]]\n{first}".encode()) == LOCK


@pytest.mark.parametrize(
    ("before", "after", "message"),
    [
        ('version = "1:2-3"', 'version = "1 2"', r"line 21: package nginx-light: .*regex"),
        ("size = 7\nfile = \"pool", "size = 0\nfile = \"pool", r"line 24: package nginx-light: .*>= 1"),
        ("size = 7\nfile = \"pool", "file = \"pool", r"line 19: package nginx-light: .*missing required field `size`"),
        ('name = "my"', 'name = "my\\n"', r"line 12: package\[0\].name: .*regex"),
        ('name = "my"', "name = 3", r"line 12: package\[0\].name: Expected `str`"),
        ('name = "my"', 'name = "nginx-light"', r"line 20: package nginx-light: it is locked twice"),
        ('"pool/nginx-light.deb"', '"pool/../../x.deb"', r"line 25: package nginx-light: .*leads out of the archive"),
        ('"pool/nginx-light.deb"', '"/etc/passwd"', r"line 25: .*leads out of the archive"),
        ('"pool/nginx-light.deb"', '"../other.deb"', r"line 25: .*'../other.deb' is not in request"),
        ('version = "1"\narchitecture = "amd64"', 'version = "1"\narchitecture = "arm64"', "line 14: package my: .*arm64"),
        ('aaa"\nsize', 'aag"\nsize', r"line 15: package my: .*regex"),
        ("size = 7", "size = 7\nextra = 1", r"line 11: package my: .*unknown field `extra`"),
        ('suite = "bookworm"', "suite = 1", r"line 4: suite: Expected `str`"),
        ('suite = "bookworm"\n', "", "missing required field `suite`"),
        ("version = 1\n", "version = 2\n", "version is 2, and this fledge reads 1"),
        ("version = 1\n", "version = true\n", "version is True"),
        ("version = 1\n", "", "version is None"),
        ("[[package]]\nname = \"my\"", "<<<<<<< ours\n[[package]]\nname = \"my\"", r"no TOML: .*line 11"),
    ],
)  # fmt: skip
def test_what_cannot_be_a_lock_is_refused_with_its_line(before: str, after: str, message: str) -> None:
    assert before.encode() in TEXT

    with pytest.raises(InvalidInput, match=message) as caught:
        parse_lock(TEXT.replace(before.encode(), after.encode(), 1))

    assert "--update-lock" in (caught.value.hint or "")


def test_a_lock_without_end_is_refused_before_it_is_read() -> None:
    with pytest.raises(InvalidInput, match="larger than"):
        parse_lock(b"#" * (LOCK_MAX_BYTES + 1))
    with pytest.raises(InvalidInput, match=f"more than {LOCK_MAX_PACKAGES} packages"):
        parse_lock(b"version = 1\n" + b"[[package]]\n" * (LOCK_MAX_PACKAGES + 1))
    with pytest.raises(InvalidInput, match="no TOML"):
        parse_lock(b"version = " + b"[" * 100_000)


@given(st.binary(max_size=400) | st.text(max_size=200).map(str.encode))
def test_any_bytes_are_a_lock_or_bad_input(noise: bytes) -> None:
    for content in (noise, TEXT[:140] + noise, TEXT[:-20] + noise):
        try:
            lock = parse_lock(content)
        except VolantError as error:
            assert isinstance(error, InvalidInput)
        else:
            assert parse_lock(render_lock(lock)) == lock


names = st.from_regex(r"\A[a-z0-9][a-z0-9.+-]{1,20}\Z")
texts = st.text(st.characters(blacklist_categories=("Cc", "Cs"), blacklist_characters='"\\'), min_size=1, max_size=30)


@given(
    st.dictionaries(names, st.tuples(st.from_regex(r"\A[0-9][0-9A-Za-z.+:~-]{0,9}\Z"), st.integers(1, 1 << 33)), max_size=5),
    texts,
)
def test_every_lock_that_can_be_made_reads_back(made: dict[str, tuple[str, int]], entry: str) -> None:
    packages = [LockedPackage(name, version, "all", "0" * 64, size, f"pool/{name}") for name, (version, size) in made.items()]
    lock = make_lock("sid", "amd64", [entry], packages)

    assert parse_lock(render_lock(lock)) == lock
    assert tomllib.loads(render_lock(lock).decode())["request"] == [entry]


def test_what_a_new_lock_changes_is_told_by_name() -> None:
    before = make_lock("bookworm", "amd64", [], [package("a"), package("b"), package("c"), package("d")])
    after = make_lock("bookworm", "amd64", [], [package("a"), package("b", "2"), package("c", digest="b"), package("e", "3")])

    changes = compare_locks(before, after)

    assert changes.changed == (VersionChange("b", "1", "2"), VersionChange("c", "1", "1"))
    assert changes.describe() == ("+ e 3", "- d 1", "b 1 -> 2", "c 1 has another digest")
    assert changes
    assert not compare_locks(before, before)


@pytest.mark.parametrize(
    ("suite", "architecture", "request_", "message"),
    [
        ("sid", "amd64", ["nginx-light", "./my.deb"], "the suite was bookworm and is sid$"),
        ("bookworm", "arm64", ["nginx-light", "./my.deb"], "the architecture was amd64 and is arm64$"),
        ("bookworm", "amd64", ["nginx-light", "./my.deb", "curl", "jq"], "curl, jq came in addition$"),
        ("sid", "amd64", ["nginx-light"], "was bookworm and is sid; ./my.deb is asked for no more$"),
    ],
)
def test_a_lock_for_another_request_is_refused(suite: str, architecture: str, request_: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message) as caught:
        check_lock(LOCK, suite=suite, architecture=architecture, request=request_)

    assert caught.value.hint == "build with --update-lock to resolve the packages anew"


def test_the_order_of_a_request_does_not_matter() -> None:
    check_lock(LOCK, suite="bookworm", architecture="amd64", request=["./my.deb", "nginx-light", "nginx-light"])


def test_a_lock_file_is_replaced_whole(tmp_path: Path) -> None:
    path = tmp_path / "fledge.lock"
    assert read_lock(path) is None

    write_lock(path, LOCK)
    write_lock(path, msgspec.structs.replace(LOCK, packages=()))
    write_lock(path, LOCK)

    assert read_lock(path) == LOCK
    assert path.read_bytes() == TEXT
    assert path.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [path]


def test_a_lock_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "fledge.lock"
    path.mkdir()

    with pytest.raises(HostError, match="cannot be written"):
        write_lock(path, LOCK)

    assert list(tmp_path.iterdir()) == [path]


def test_errors_of_a_lock_file_name_it(tmp_path: Path) -> None:
    (tmp_path / "fledge.lock").write_bytes(b"version = 9\n")

    with pytest.raises(InvalidInput, match=r"fledge\.lock: version is 9"):
        read_lock(tmp_path / "fledge.lock")
    with pytest.raises(InvalidInput, match="cannot be read"):
        read_lock(tmp_path)
    assert read_lock(tmp_path / "fledge.lock", update=True) is None


def test_a_lock_knows_what_lies_beside_the_recipe() -> None:
    assert [entry.is_local for entry in Lock("s", "amd64", (), (package("a", file="../a.deb"), package("b"))).packages] == [
        True,
        False,
    ]
