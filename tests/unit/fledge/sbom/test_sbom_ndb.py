from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.fledge.sbom.ndb import convert_ndb

from .trees import make_ndb

HEADERS = [(1, b"first" * 100), (7, b""), (3, bytes(5000))]
WHOLE = make_ndb(HEADERS)


def convert(directory: Path, content: bytes, max_bytes: int = 1 << 20) -> list[tuple[int, bytes]]:
    source, target = directory / "Packages.db", directory / "rpmdb.sqlite"
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    convert_ndb(source, target, max_bytes)
    with contextlib.closing(sqlite3.connect(target)) as database:
        return database.execute("select hnum, blob from Packages").fetchall()


def test_every_header_arrives_with_its_number(tmp_path: Path) -> None:
    assert convert(tmp_path, WHOLE) == sorted(HEADERS)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "ends early"),
        (b"RpmX" + WHOLE[4:], "does not begin like"),
        (WHOLE[:12] + b"\xff\xff\xff\x7f" + WHOLE[16:], "does not begin like"),
        (WHOLE[:32] + b"slot" + WHOLE[36:], "list of packages is damaged"),
        (WHOLE[:4096], "ends early"),
        (WHOLE[:-100], "package 3 ends early"),
        (WHOLE[:4100] + b"\x02" + WHOLE[4101:], "package 1 is damaged"),
        (WHOLE[:4108] + b"\xff\xff\xff\xff" + WHOLE[4112:], "package 1 is damaged"),
        (make_ndb([(1, b"a"), (1, b"b")]), "two packages of the number 1"),
    ],
)
def test_what_is_damaged_is_refused(tmp_path: Path, content: bytes, why: str) -> None:
    with pytest.raises(InvalidInput, match=why):
        convert(tmp_path, content)


def test_headers_that_lie_over_each_other_are_counted(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="more than 1000 bytes"):
        convert(tmp_path, WHOLE, 1000)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 200), st.binary(max_size=64))
def test_no_damage_raises_anything_else(tmp_path: Path, at: int, noise: bytes) -> None:
    where = at if at < 100 else 4096 + at - 100
    with contextlib.suppress(InvalidInput):
        convert(tmp_path, WHOLE[:where] + noise + WHOLE[where + len(noise) :])
