"""A workload's HTTP answer on a terminal, or passed on as it is."""

from __future__ import annotations

import codecs
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from volant.cli.failure import BAD_INPUT, CONFLICT, DONE, FAILED, NOT_FOUND, print_error, printable
from volant.core.errors import InvalidInput

if TYPE_CHECKING:
    from volant.client.workloads import CallAnswer

CHUNK_BYTES = 64 * 1024
_TEXTS = ("text/", "application/json", "application/xml", "application/yaml", "application/x-ndjson", "application/problem")
_CODES = {400: BAD_INPUT, 422: BAD_INPUT, 404: NOT_FOUND, 410: NOT_FOUND, 409: CONFLICT, 412: CONFLICT}


def print_answer(answer: CallAnswer, *, include: bool) -> int:
    """Print it as it comes; return the exit code that its status means: 0 below 400, as volar's own above."""
    stdout = sys.stdout.buffer
    if include:
        click.echo(f"HTTP/1.1 {answer.status} {printable(answer.reason)}")
        for name, value in answer.headers.items():
            click.echo(f"{printable(name)}: {printable(value)}")
        click.echo()
    sys.stdout.flush()
    chunks = _for_terminal(answer) if sys.stdout.isatty() else iter(answer)
    for chunk in chunks:
        stdout.write(chunk)
        stdout.flush()
    if answer.status >= 400:
        print_error(f"the workload answered {answer.status} {answer.reason}".rstrip())
        return _CODES.get(answer.status, FAILED)
    return DONE


def _for_terminal(answer: CallAnswer) -> Iterator[bytes]:
    """Text without what terminals obey, and a line's end at the end. Raises InvalidInput for what is no text."""
    kind = answer.headers.get_content_type()
    if answer.headers.get("Content-Type") and not (kind.startswith(_TEXTS) or kind.endswith(("+json", "+xml", "+yaml"))):
        raise InvalidInput(f"the answer is {kind}, which is nothing for a terminal", hint="send it elsewhere: volar … > FILE")
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    last = "\n"
    for chunk in answer:
        text = "".join(c for c in decoder.decode(chunk) if c.isprintable() or c in "\n\t")
        last = text[-1:] or last
        yield text.encode()
    if last != "\n":
        yield b"\n"


def read_content(body: str | None, body_file: str | None) -> tuple[bytes | Iterator[bytes] | None, dict[str, str]]:
    """What is to be sent, and the headers that say how long it is. Raises InvalidInput."""
    if body is not None and body_file is not None:
        raise InvalidInput("--body and --body-file are one too many")
    if body is not None:
        return body.encode(), {}
    if body_file is None:
        return None, {}
    if body_file == "-":
        return _read_all(sys.stdin.buffer), {}
    path = Path(body_file)
    try:
        size = path.stat().st_size
        opened = path.open("rb")
    except OSError as error:
        raise InvalidInput(f"{body_file}: {error.strerror}", field="--body-file") from error
    return _read_all(opened), ({"Content-Length": str(size)} if path.is_file() else {})


def _read_all(stream: BinaryIO) -> Iterator[bytes]:
    with stream:
        while chunk := stream.read(CHUNK_BYTES):
            yield chunk


def read_headers(words: tuple[str, ...]) -> dict[str, str]:
    """``Name: value`` words. Raises InvalidInput."""
    found: dict[str, str] = {}
    for word in words:
        name, colon, value = word.partition(":")
        if not colon or not name.strip() or any(c.isspace() for c in name) or "\n" in value or "\r" in value:
            raise InvalidInput(f"--header {word[:80]!r} is not NAME:VALUE", hint="as in -H 'Accept: text/plain'")
        found[name] = value.strip()
    return found
