"""Numbers that programs tell in the Prometheus text exposition format, version 0.0.4.

https://prometheus.io/docs/instrumenting/exposition_formats/ is the spec. What is read here comes
out of guests: it may be anything, of any shape.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping

import msgspec

from volant.core.errors import InvalidInput

MAX_TEXT_BYTES = 1024 * 1024
MAX_LABELS = 64
MAX_LINE_BYTES = 16 * 1024

_NAME = re.compile(r"[a-zA-Z_:][a-zA-Z0-9_:]*")
_LABEL = re.compile(r"[ \t]*([a-zA-Z_][a-zA-Z0-9_]*)[ \t]*=[ \t]*\"((?:[^\"\\\n]|\\.)*)\"[ \t]*")
_CLOSING = re.compile(r"[ \t]*\}")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]+)?|[+-]?[Ii]nf(?:inity)?|[Nn]a[Nn]")
_ESCAPED = re.compile(r"\\(.)")
_ESCAPES = {"n": "\n", '"': '"', "\\": "\\"}


class Sample(msgspec.Struct, frozen=True):
    """One line: what is measured, of what, and how much. ``value`` may be infinite, or no number."""

    name: str
    labels: dict[str, str]
    value: float


def find_samples(content: bytes, name: str, labels: Mapping[str, str] | None = None) -> tuple[Sample, ...]:
    """The samples called ``name`` that have all of ``labels``, in their order. Lines of other names are not looked into.

    Raises:
        InvalidInput: it is longer than MAX_TEXT_BYTES, is no UTF-8, or a line that begins with ``name`` is no sample.
    """
    if len(content) > MAX_TEXT_BYTES:
        raise InvalidInput(f"it is longer than {MAX_TEXT_BYTES} bytes")
    wanted = labels or {}
    return tuple(
        sample
        for sample in _read_named(content, name)
        if all(sample.labels.get(label, "") == value for label, value in wanted.items())
    )


def read_total(content: bytes, name: str, labels: Mapping[str, str] | None = None) -> float | None:
    """The sum of what ``find_samples`` finds; None when there is none of it that is a finite number. Raises InvalidInput."""
    finite = [sample.value for sample in find_samples(content, name, labels) if math.isfinite(sample.value)]
    total = sum(finite)
    return total if finite and math.isfinite(total) else None


def read_sample(line: str) -> Sample:
    """One line that is no comment. Raises InvalidInput."""
    if len(line) > MAX_LINE_BYTES:
        raise InvalidInput(f"a line is longer than {MAX_LINE_BYTES} characters")
    line = line.strip(" \t\r")
    named = _NAME.match(line)
    if named is None:
        raise InvalidInput("a sample begins with its name")
    at = named.end()
    while at < len(line) and line[at] in " \t":
        at += 1
    labels: dict[str, str] = {}
    if at < len(line) and line[at] == "{":
        labels, at = _read_labels(line, at + 1)
    words = line[at:].split()
    if not 1 <= len(words) <= 2:
        raise InvalidInput("after its name and labels a sample has a value, and a time or none")
    if len(words) == 2 and not re.fullmatch(r"-?[0-9]+", words[1]):
        raise InvalidInput("the time of a sample is in whole milliseconds")
    return Sample(named.group(), labels, _read_number(words[0]))


def _read_named(content: bytes, name: str) -> Iterator[Sample]:
    begins = name.encode()
    for number, raw in enumerate(content.split(b"\n"), 1):
        line = raw.lstrip(b" \t")
        if not line.startswith(begins):
            continue
        named = _NAME.match(line[: len(begins) + 1].decode(errors="replace"))
        if named is None or named.group() != name:
            continue  # another name that begins alike
        try:
            yield read_sample(line.decode())
        except UnicodeDecodeError:
            raise InvalidInput(f"line {number} is no UTF-8") from None
        except InvalidInput as error:
            raise InvalidInput(f"line {number}: {error}") from None


def _read_labels(line: str, at: int) -> tuple[dict[str, str], int]:
    """The labels from ``at`` on, and where the line goes on behind their closing brace."""
    labels: dict[str, str] = {}
    while True:
        found = _LABEL.match(line, at)
        if found is None:
            closing = _CLOSING.match(line, at)
            if closing is None:
                raise InvalidInput('labels are written {name="value",…}')
            return labels, closing.end()
        if len(labels) >= MAX_LABELS:
            raise InvalidInput(f"a sample has more than {MAX_LABELS} labels")
        name = found.group(1)
        if name in labels:
            raise InvalidInput(f"it has the label {name} twice")
        labels[name] = _ESCAPED.sub(lambda escape: _ESCAPES.get(escape.group(1), escape.group()), found.group(2))
        at = found.end()
        if line[at : at + 1] == ",":
            at += 1
        elif line[at : at + 1] != "}":
            raise InvalidInput("labels are parted by commas")


def _read_number(word: str) -> float:
    if _NUMBER.fullmatch(word) is None:
        raise InvalidInput("its value is no number")
    return float(word)
