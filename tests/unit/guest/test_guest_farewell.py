"""What a guest leaves on its console about its end, and what a host believes of what it finds there."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, get_args

import msgspec
from hypothesis import example, given
from hypothesis import strategies as st

from volant.guest.farewell import TAIL_BYTES, Farewell, StopReason, encode_farewell, find_farewell
from volant.guest.protocol import Exit

sys.path.insert(0, str(Path(__file__).parent))
from guest_vectors import each_case

DIGEST = "sha256:" + "5a" * 32
OTHER = "sha256:" + "a5" * 32

exits = st.none() | st.builds(Exit, code=st.integers(0, 255)) | st.builds(Exit, signal=st.integers(1, 64))
farewells = st.builds(Farewell, reason=st.sampled_from(get_args(StopReason)), exit=exits)
digests = st.binary(min_size=32, max_size=32).map(lambda raw: f"sha256:{raw.hex()}")
noise = st.binary(max_size=300)
kernel = st.lists(st.sampled_from([b"kestrel: power off\r\n", b"[   12.5] reboot: Power down\r\n", b"\r\n"])).map(b"".join)


@each_case("farewell")
def test_the_line(case: dict[str, Any]) -> None:
    farewell = msgspec.convert({"reason": case["reason"], "exit": case["exit"]}, Farewell)
    assert encode_farewell(case["digest"], farewell).decode() == case["line"]
    assert find_farewell(case["line"].encode(), [case["digest"]]) == farewell


@each_case("console")
def test_what_is_found_on_a_console(case: dict[str, Any]) -> None:
    wanted = None if case["found"] is None else msgspec.convert(case["found"], Farewell)
    assert find_farewell(case["console"].encode(), [case["digest"]]) == wanted


@given(noise, farewells, kernel, digests)
def test_it_is_found_behind_anything(before: bytes, farewell: Farewell, after: bytes, digest: str) -> None:
    line = encode_farewell(digest, farewell)
    for told in (line, line.replace(b"\n", b"\r\n")):
        assert find_farewell(before + told + after, [OTHER, digest]) == farewell


@given(noise, farewells)
def test_half_a_line_is_none(before: bytes, farewell: Farewell) -> None:
    line = encode_farewell(DIGEST, farewell)
    for length in range(len(line)):
        assert find_farewell(before + line[:length], [DIGEST]) is None


@given(noise, farewells, digests)
def test_nobody_elses_is_believed(before: bytes, farewell: Farewell, digest: str) -> None:
    if digest != DIGEST:
        assert find_farewell(before + encode_farewell(digest, farewell), [DIGEST]) is None
    assert find_farewell(before + encode_farewell(digest, farewell), []) is None


_PIECES = st.sampled_from(
    [
        b"\n",
        b"\r",
        b"kestrel: end ",
        DIGEST.encode(),
        b" ",
        b"exit=",
        b"signal=",
        b"exit=none",
        b"7",
        b"256",
        b"reason=",
        b"failed",
    ]
)


@given(st.lists(_PIECES | st.binary(max_size=3), max_size=30).map(b"".join))
@example(b"\nkestrel: end %s exit=7 reason=failed\n" % DIGEST.encode())
def test_what_is_believed_is_a_line_as_we_write_it(console: bytes) -> None:
    found = find_farewell(console, [DIGEST])
    if found is not None:
        assert encode_farewell(DIGEST, found).strip() in [line.rstrip(b"\r") for line in console.split(b"\n")]


def test_only_the_end_is_looked_at() -> None:
    line = encode_farewell(DIGEST, Farewell(reason="failed"))
    assert find_farewell(line + b"x" * (TAIL_BYTES - len(line)), [DIGEST]) is not None
    assert find_farewell(line + b"x" * (TAIL_BYTES - 1), [DIGEST]) is None
