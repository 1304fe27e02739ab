"""An atheris harness: whatever a guest sends, a decoder returns or raises Breach, and holds no more than it may.

Run it with ``-runs=N`` (libFuzzer's flags); the first byte of an input chooses the decoder, the second the size of its pieces.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from datetime import UTC, datetime

import atheris

with atheris.instrument_imports():
    from volant.guest.breach import Breach
    from volant.guest.file_records import FileDecoder
    from volant.guest.frame import FrameDecoder
    from volant.guest.message import MessageDecoder, decode_body
    from volant.guest.notices import apply_notice
    from volant.guest.preamble import AnswerScanner
    from volant.guest.records import ExecDecoder, LogDecoder
    from volant.guest.state import AgentState

Feed = Callable[[bytes], object]


def frames() -> Feed:
    decoder = FrameDecoder()
    return lambda data: list(decoder.feed(data))


def messages() -> Feed:
    decoder = MessageDecoder()
    state = AgentState(since=datetime(2026, 1, 31, tzinfo=UTC))

    def feed(data: bytes) -> None:
        nonlocal state
        decoder.feed(data)
        while (body := decoder.next_body()) is not None:
            state = apply_notice(state, decode_body(body), greeted=state.hello is not None)

    return feed


DECODERS: tuple[Callable[[], Feed], ...] = (
    frames,
    messages,
    lambda: ExecDecoder("guest").feed,
    lambda: ExecDecoder("host", tty=True).feed,
    lambda: LogDecoder().feed,
    lambda: FileDecoder().feed,
    lambda: AnswerScanner(bytes(16)).feed,
)


def test_one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    feed = DECODERS[data[0] % len(DECODERS)]()
    step = 1 + data[1]
    try:
        for at in range(2, len(data), step):
            feed(data[at : at + step])
    except Breach:
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, test_one_input)
    atheris.Fuzz()
