"""Whatever bytes come, in whatever pieces: the decoders find what was sent, or refuse it, and hold no more than a frame."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput, TooLarge
from volant.core.log import LogRecord, LogSource
from volant.guest.breach import Breach
from volant.guest.document import Document, Root, Workload, decode_document, encode_document
from volant.guest.frame import HEADER_BYTES, MAX_PAYLOAD_BYTES, Frame, FrameDecoder, encode_frame
from volant.guest.message import MAX_MESSAGE_BYTES, MessageDecoder, decode_body, encode_message
from volant.guest.preamble import ZERO_SECRET, AnswerScanner, PreambleDetector, encode_answer, encode_preamble
from volant.guest.records import ExecDecoder, ExecType, LogDecoder, encode_exec, encode_log

U32 = st.integers(0, 2**32 - 1)
FRAMES = st.one_of(
    st.builds(
        lambda flags, stream, payload: Frame(0, flags, stream, len(payload), payload),
        st.integers(0, 15),
        st.integers(1, 2**32 - 1),
        st.binary(max_size=200),
    ),
    st.builds(lambda flags, stream, delta: Frame(1, flags, stream, delta), st.integers(0, 15), st.integers(1, 2**32 - 1), U32),
    st.builds(lambda kind, flags, value: Frame(kind, flags, 0, value), st.sampled_from([2, 3]), st.integers(0, 15), U32),
)
JSON = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=20),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
        max_leaves=8,
    ),
    max_size=4,
)


def cut(content: bytes, sizes: list[int]) -> list[bytes]:
    """``content`` in pieces of ``sizes``, the last of them repeated."""
    pieces, at, turn = [], 0, 0
    while at < len(content):
        size = sizes[turn % len(sizes)]
        pieces.append(content[at : at + size])
        at += size
        turn += 1
    return pieces


SIZES = st.lists(st.integers(1, 300), min_size=1, max_size=5)


@given(st.lists(FRAMES, max_size=12), SIZES)
def test_frames_survive_any_cutting(frames: list[Frame], sizes: list[int]) -> None:
    decoder = FrameDecoder()
    found = [frame for piece in cut(b"".join(map(encode_frame, frames)), sizes) for frame in decoder.feed(piece)]
    assert found == frames
    assert decoder.incomplete_bytes == 0


@given(st.binary(max_size=4000), SIZES)
def test_frame_decoder_holds_at_most_a_frame_of_garbage(garbage: bytes, sizes: list[int]) -> None:
    decoder = FrameDecoder()
    with contextlib.suppress(Breach):
        for piece in cut(garbage, sizes):
            list(decoder.feed(piece))
            assert decoder.incomplete_bytes <= HEADER_BYTES + MAX_PAYLOAD_BYTES


@given(st.lists(JSON, max_size=5), SIZES)
def test_messages_survive_any_cutting(contents: list[dict[str, Any]], sizes: list[int]) -> None:
    decoder = MessageDecoder()
    found = []
    for piece in cut(b"".join(map(encode_message, contents)), sizes):
        decoder.feed(piece)
        while (body := decoder.next_body()) is not None:
            found.append(decode_body(body))
    assert found == contents


@given(st.binary(max_size=200) | st.text(alphabet='{}[]",:\\u0d8ae1tf ', max_size=200).map(str.encode))
def test_a_body_is_an_object_or_a_breach(body: bytes) -> None:
    try:
        content = decode_body(body)
    except Breach:
        return
    assert content == json.loads(body)
    assert isinstance(content, dict)


def test_what_is_too_large_or_no_text_is_not_sent() -> None:
    with pytest.raises(TooLarge):
        encode_message({"a": "x" * MAX_MESSAGE_BYTES})
    with pytest.raises(InvalidInput):
        encode_message({"a": "\udc80"})


@given(st.lists(st.tuples(st.sampled_from([ExecType.STDOUT, ExecType.STDERR]), st.binary(max_size=100)), max_size=10), SIZES)
def test_exec_records_survive_any_cutting(records: list[tuple[ExecType, bytes]], sizes: list[int]) -> None:
    decoder = ExecDecoder("guest")
    sent = b"".join(encode_exec(kind, data) for kind, data in records) + encode_exec(ExecType.END, b'{"signal": 9}')
    found = [record for piece in cut(sent, sizes) for record in decoder.feed(piece)]
    assert found[:-1] == records
    assert decoder.end is not None
    assert decoder.end.signal == 9


@given(st.binary(max_size=2000), SIZES, st.sampled_from(["guest", "host"]))
def test_record_decoders_refuse_or_wait(garbage: bytes, sizes: list[int], sender: Any) -> None:
    for decoder in (ExecDecoder(sender), LogDecoder()):
        with contextlib.suppress(Breach):
            for piece in cut(garbage, sizes):
                decoder.feed(piece)
        assert decoder.incomplete_bytes <= len(garbage)


LOGS = st.lists(
    st.tuples(
        st.integers(1, 1000), st.integers(0, 2**64 - 1), st.sampled_from(LogSource), st.integers(0, 1), st.binary(max_size=60)
    ),
    max_size=10,
)


@given(LOGS, SIZES)
def test_log_records_survive_any_cutting(lines: list[tuple[int, int, LogSource, int, bytes]], sizes: list[int]) -> None:
    seq = 0
    records = []
    for step, *rest in lines:
        seq += step
        records.append(LogRecord(seq, *rest))
    decoder = LogDecoder()
    found = [record for piece in cut(b"".join(map(encode_log, records)), sizes) for record in decoder.feed(piece)]
    assert found == records


@given(st.binary(max_size=200), st.binary(min_size=16, max_size=16), st.binary(max_size=50), SIZES)
def test_the_answer_is_found_behind_anything_else(before: bytes, nonce: bytes, after: bytes, sizes: list[int]) -> None:
    scanner = AnswerScanner(nonce)
    rest: bytes | None = None
    for piece in cut(before + encode_answer(nonce) + after, sizes):
        rest = scanner.feed(piece) if rest is None else rest + piece
    assert rest is not None
    assert rest.endswith(after)


@given(st.lists(st.binary(min_size=1, max_size=80), max_size=8), st.binary(min_size=16, max_size=16))
def test_no_byte_is_lost_on_its_way_through_the_detector(reads: list[bytes], nonce: bytes) -> None:
    detector = PreambleDetector()
    passed = b""
    for read in reads:
        found = detector.feed(read, ZERO_SECRET)
        passed += found.before + found.first
        assert found.nonce is None or found.nonce in b"".join(reads)
    assert passed + detector.release() == b"".join(reads)
    assert detector.feed(encode_preamble(ZERO_SECRET, nonce) + b"x", ZERO_SECRET) == (b"", nonce, b"x")


def make_document(**members: Any) -> Document:
    known: dict[str, Any] = {
        "channel_secret": "ab" * 32,
        "entropy": "cd" * 64,
        "unix_ns": 1,
        "hostname": "web",
        "machine_id": "0" * 32,
        "root": Root(writable="disk", disk="data"),
        "workloads": (Workload(argv=("nginx",), env={"B": "2", "A": "1"}),),
    }
    return Document(**(known | members))


def test_the_canonical_text_is_sorted_compact_and_whole() -> None:
    document = make_document()
    content = encode_document(document)
    assert content == json.dumps(json.loads(content), sort_keys=True, separators=(",", ":")).encode()
    assert decode_document(content) == document
    assert "health" not in json.loads(content)["workloads"][0]


def test_equal_documents_have_equal_text_whatever_the_order_of_their_environment() -> None:
    turned = make_document(workloads=(Workload(argv=("nginx",), env={"A": "1", "B": "2"}),))
    assert encode_document(turned) == encode_document(make_document())


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"hostname": "a b"}, "hostname"),
        ({"workloads": (Workload(argv=()),)}, "workloads[0].argv"),
        ({"workloads": (Workload(argv=("x",), env={"A=": "b"}),)}, "workloads[0].env"),
        ({"root": Root(writable="disk")}, "root.disk"),
    ],
)
def test_a_document_that_the_guest_would_refuse_is_not_made(members: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        encode_document(make_document(**members))
    assert caught.value.field == field
    assert msgspec.json.encode(make_document(**members))
