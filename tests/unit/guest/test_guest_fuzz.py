"""Whatever a guest sends: decoders return or raise Breach, in whatever pieces it comes, and hold a bounded rest."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volant.guest.breach import Breach
from volant.guest.file_records import MAX_RECORD_BYTES, FileDecoder, FileEntry, FilesEnd, FilesFailed, FileType, encode_record
from volant.guest.frame import FrameDecoder
from volant.guest.message import MessageDecoder, decode_body, encode_message
from volant.guest.notices import apply_notice
from volant.guest.protocol import build_error
from volant.guest.records import ExecDecoder, ExecType, LogDecoder, encode_exec
from volant.guest.state import AgentState

HARNESS = Path(__file__).parents[2] / "fuzz" / "guest_decoders.py"
FUZZ_RUNS = 20_000

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.tuples(st.integers(0, 7), st.binary(max_size=80) | JSON.map(lambda value: json.dumps(value).encode()))
ENTRIES = st.fixed_dictionaries(
    {"path": st.sampled_from([".", "a", "a/b", "../up", "/etc", "a//b", "", "a\0", "x" * 5000]) | st.text(max_size=30)},
    optional={
        "type": st.sampled_from(["file", "directory", "symlink", "fifo", "device"]),
        "mode": st.integers(-1, 2**17),
        "uid": st.integers(-1, 2**33),
        "mtime_ns": st.integers(-(2**65), 2**65),
        "size": st.integers(-1, 2**65),
        "target": st.text(max_size=10),
    },
)


def feed_in_pieces(decoder: Any, content: bytes, step: int) -> tuple[list[Any], str | None]:
    found: list[Any] = []
    try:
        for at in range(0, len(content), step):
            found += decoder.feed(content[at : at + step])
    except Breach as breach:
        return found, str(breach)
    return found, None


@pytest.mark.parametrize(
    "make", [lambda: ExecDecoder("guest"), lambda: ExecDecoder("host"), FileDecoder, LogDecoder, FrameDecoder]
)
@given(content=st.binary(max_size=600), step=st.integers(1, 600))
def test_noise_is_decoded_or_refused(make: Callable[[], Any], content: bytes, step: int) -> None:
    feed_in_pieces(make(), content, step)


@given(st.lists(RECORDS, max_size=6), st.integers(1, 200))
def test_how_exec_records_are_cut_changes_nothing(records: list[tuple[int, bytes]], step: int) -> None:
    content = b"".join(bytes([kind]) + len(data).to_bytes(4, "big") + data for kind, data in records)
    whole, broken = feed_in_pieces(ExecDecoder("guest"), content, max(1, len(content)))
    cut, cut_broken = feed_in_pieces(ExecDecoder("guest"), content, step)
    assert broken == cut_broken
    assert broken or whole == cut
    assert all(kind in (ExecType.STDOUT, ExecType.STDERR, ExecType.END) for kind, _ in cut)


@given(st.lists(ENTRIES.map(lambda entry: (0, json.dumps(entry).encode())) | RECORDS, max_size=6), st.integers(1, 200))
def test_no_file_entry_leads_out_and_no_content_is_more_than_was_announced(records: list[tuple[int, bytes]], step: int) -> None:
    content = b"".join(bytes([kind]) + len(data).to_bytes(4, "big") + data for kind, data in records)
    decoder = FileDecoder()
    found, _ = feed_in_pieces(decoder, content, step)
    announced = sum(item.size for item in found if isinstance(item, FileEntry))
    came = sum(len(item) for item in found if isinstance(item, bytes))
    assert came <= announced
    for item in found:
        if isinstance(item, FileEntry):
            assert item.path == "." or not {"", ".", ".."} & set(item.path.split("/"))
            assert "\0" not in item.path + item.target
        elif isinstance(item, FilesFailed):
            assert build_error(item.error, "it was not read").message.isprintable()
    assert decoder.incomplete_bytes <= MAX_RECORD_BYTES + 5


@given(JSON)
def test_the_end_of_a_copy_is_numbers_or_an_error(value: Any) -> None:
    try:
        (item,) = FileDecoder().feed(encode_record(FileType.END, json.dumps(value).encode()))
    except Breach:
        return
    assert isinstance(item, (FilesEnd, FilesFailed))


@settings(max_examples=300)
@given(
    st.dictionaries(
        st.sampled_from(["type", "workload", "state", "pid", "exit", "interfaces", "hello", "version"]), JSON, max_size=6
    )
)
def test_a_notice_of_anything_changes_the_state_or_is_refused(content: dict[str, Any]) -> None:
    state = AgentState(since=datetime(2026, 1, 31, tzinfo=UTC))
    decoder = MessageDecoder()
    decoder.feed(encode_message(content))
    body = decoder.next_body()
    assert body is not None
    for greeted in (False, True):
        try:
            apply_notice(state, decode_body(body), greeted=greeted)
        except Breach:
            continue


def test_how_a_program_ended_is_one_of_both() -> None:
    for end in (b"{}", b'{"code":1,"signal":2}', b"[]", b'{"code":"1"}'):
        with pytest.raises(Breach):
            ExecDecoder("guest").feed(encode_exec(ExecType.END, end))


@pytest.mark.spawns
def test_the_harness_finds_nothing_in_bounded_runs(tmp_path: Path) -> None:
    pytest.importorskip("atheris", reason="atheris is not installed: pip install atheris")
    done = subprocess.run(
        [sys.executable, HARNESS, f"-runs={FUZZ_RUNS}", "-seed=1", "-max_len=4096", f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr.decode(errors="replace")[-3000:]
