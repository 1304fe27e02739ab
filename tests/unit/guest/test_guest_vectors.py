"""The vectors that both ends of the guest protocol must pass."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from volant.core.errors import InvalidInput
from volant.guest.breach import Breach
from volant.guest.document import decode_document, digest_document
from volant.guest.frame import Flag, FrameDecoder, FrameType
from volant.guest.message import MessageDecoder, decode_body
from volant.guest.preamble import AnswerScanner, PreambleDetector
from volant.guest.records import ExecDecoder, LogDecoder

sys.path.insert(0, str(Path(__file__).parent))
from guest_vectors import each_case, expand

TYPE_NAMES = {FrameType.DATA: "data", FrameType.WINDOW_UPDATE: "window", FrameType.PING: "ping", FrameType.GO_AWAY: "go_away"}


@each_case("yamux")
def test_frames(case: dict[str, Any]) -> None:
    decoder = FrameDecoder()
    if "violation" in case:
        with pytest.raises(Breach):
            list(decoder.feed(expand(case["hex"])))
        return
    found = [
        {
            "type": TYPE_NAMES[FrameType(frame.type)],
            "flags": [flag.name for flag in Flag if flag and frame.flags & flag],
            "stream": frame.stream_id,
            "length": frame.value,
            **({"payload": frame.payload} if frame.type == FrameType.DATA else {}),
        }
        for frame in decoder.feed(expand(case["hex"]))
    ]
    wanted = [{**frame, "payload": expand(frame["payload"])} if "payload" in frame else frame for frame in case["frames"]]
    assert found == wanted
    assert decoder.incomplete_bytes == case["incomplete_bytes"]


@each_case("echo")
def test_the_answer_is_found_behind_whatever_came_before(case: dict[str, Any]) -> None:
    scanner = AnswerScanner(expand(case["nonce"]))
    rest: bytes | None = None
    for read in case["reads"]:
        rest = scanner.feed(expand(read)) if rest is None else rest + expand(read)
    assert rest == (None if case["rest"] is None else expand(case["rest"]))


@each_case("preamble")
def test_preambles_are_noticed_at_the_start_of_reads_only(case: dict[str, Any]) -> None:
    detector = PreambleDetector()
    sessions: list[dict[str, bytes]] = []
    for read in case["reads"]:
        found = detector.feed(expand(read), expand(case["secret"]))
        if sessions:
            sessions[-1]["bytes"] += found.before
        if found.nonce is not None:
            sessions.append({"nonce": found.nonce, "bytes": found.first})
    wanted = [{name: expand(value) for name, value in session.items()} for session in case["sessions"]]
    assert sessions == wanted


@each_case("message")
def test_messages(case: dict[str, Any]) -> None:
    decoder = MessageDecoder()
    decoder.feed(expand(case["hex"]))
    if "violation" in case:
        with pytest.raises(Breach):
            decode_body(decoder.next_body() or b"")
        return
    body = decoder.next_body()
    assert (None if body is None else decode_body(body)) == case["message"]
    assert decoder.take_rest() == expand(case["rest"])


@each_case("exec")
def test_exec_records(case: dict[str, Any]) -> None:
    decoder = ExecDecoder(case["from"], tty=case.get("tty", False))
    if "violation" in case:
        with pytest.raises(Breach):
            decoder.feed(expand(case["hex"]))
        return
    assert decoder.feed(expand(case["hex"])) == [(record["type"], expand(record["bytes"])) for record in case["records"]]
    assert decoder.incomplete_bytes == case["incomplete_bytes"]


@each_case("log")
def test_log_records(case: dict[str, Any]) -> None:
    decoder = LogDecoder()
    if "violation" in case:
        with pytest.raises(Breach):
            decoder.feed(expand(case["hex"]))
        return
    found = [
        {
            "sequence": record.seq,
            "unix_ns": record.time_ns,
            "source": record.source.name.lower(),
            "continued": record.continues,
            "bytes": record.data,
        }
        for record in decoder.feed(expand(case["hex"]))
    ]
    assert found == [{**record, "bytes": expand(record["bytes"])} for record in case["records"]]
    assert decoder.incomplete_bytes == case["incomplete_bytes"]


@each_case("config")
def test_the_host_judges_a_document_as_the_guest_does(case: dict[str, Any]) -> None:
    content = case["document"].encode()
    if "malformed" in case:
        with pytest.raises(InvalidInput) as caught:
            decode_document(content)
        assert caught.value.field == case["malformed"]
        return
    decode_document(content)
    assert digest_document(content) == case["digest"]
