"""The text format: what well-behaved programs write, and what a hostile one may."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.errors import InvalidInput
from volant.core.prometheus_text import MAX_LABELS, MAX_TEXT_BYTES, find_samples, read_sample, read_total

EXAMPLE = b"""\
# HELP http_requests_total The total number of HTTP requests.
# TYPE http_requests_total counter
http_requests_total{method="post",code="200"} 1027 1395066363000
http_requests_total{method="post",code="400"}    3 1395066363000

# Escaping in label values:
msdos_file_access_time_seconds{path="C:\\\\DIR\\\\FILE.TXT",error="Cannot find file:\\n\\"FILE.TXT\\""} 1.458255915e9

# Minimalistic line:
metric_without_timestamp_and_labels 12.47

# A weird metric from before the epoch:
something_weird{problem="division by zero"} +Inf -3982045

# A histogram, which has a pretty complex representation in the text format:
http_request_duration_seconds_bucket{le="0.05"} 24054
http_request_duration_seconds_bucket{le="+Inf"} 144320
http_request_duration_seconds_sum 53423
http_request_duration_seconds_count 144320

# Finally a summary, which has a complex representation, too:
rpc_duration_seconds{quantile="0.01",} 3102
"""
"""The example of the format's own documentation."""


@pytest.mark.parametrize(
    ("name", "labels", "total"),
    [
        ("http_requests_total", {}, 1030.0),
        ("http_requests_total", {"code": "400"}, 3.0),
        ("http_requests_total", {"code": "400", "method": "get"}, None),
        ("http_requests_total", {"zone": ""}, 1030.0),
        ("metric_without_timestamp_and_labels", {}, 12.47),
        ("something_weird", {}, None),
        ("http_request_duration_seconds_sum", {}, 53423.0),
        ("http_request_duration_seconds", {}, None),
        ("rpc_duration_seconds", {"quantile": "0.01"}, 3102.0),
        ("http_requests", {}, None),
        ("# HELP", {}, None),
    ],
)
def test_what_programs_write_is_read(name: str, labels: dict[str, str], total: float | None) -> None:
    assert read_total(EXAMPLE, name, labels) == total


def test_escapes_are_taken_back() -> None:
    (sample,) = find_samples(EXAMPLE, "msdos_file_access_time_seconds")
    assert sample.labels == {"path": "C:\\DIR\\FILE.TXT", "error": 'Cannot find file:\n"FILE.TXT"'}
    assert sample.value == 1.458255915e9


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("queued", "value"),
        ("queued one", "no number"),
        ("queued 0x10", "no number"),
        ("queued 1_000", "no number"),
        ("queued 1 2 3", "value"),
        ("queued 1 now", "milliseconds"),
        ("queued{kind=mail} 1", "labels"),
        ('queued{kind="mail" 1', "commas"),
        ('queued{kind="mail"zone="a"} 1', "commas"),
        ('queued{kind="mail",kind="post"} 1', "twice"),
        ("queued{" + ",".join(f'l{n}="x"' for n in range(MAX_LABELS + 1)) + "} 1", "more than"),
        ('queued{kind="' + "x" * 20_000 + '"} 1', "longer"),
    ],
)
def test_a_line_that_is_no_sample_is_refused_by_its_number(line: str, said: str) -> None:
    with pytest.raises(InvalidInput, match="line 2: .*" + said):
        find_samples(b"other 1\n" + line.encode() + b"\n", "queued")


def test_lines_of_other_names_may_be_anything() -> None:
    assert read_total(b"\xff\xfe\x00 }{ \nqueuedness \xff\nqueued 7\n" + b"x" * 100_000, "queued") == 7.0


def test_what_is_too_long_is_refused() -> None:
    with pytest.raises(InvalidInput, match="longer"):
        read_total(b"\n" * (MAX_TEXT_BYTES + 1), "queued")


_names = st.from_regex(r"[a-zA-Z_:][a-zA-Z0-9_:]{0,20}", fullmatch=True)
_labels = st.dictionaries(st.from_regex(r"[a-zA-Z_][a-zA-Z0-9_]{0,10}", fullmatch=True), st.text(max_size=20), max_size=5)


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


@given(_names, _labels, st.floats())
def test_what_is_written_by_the_rules_is_read(name: str, labels: dict[str, str], value: float) -> None:
    inner = ",".join(f'{label}="{_escape(text)}"' for label, text in labels.items())
    sample = read_sample(f"{name}{{{inner}}} {value!r}")
    assert sample.name == name and sample.labels == labels
    assert sample.value == value or (math.isnan(sample.value) and math.isnan(value))


@given(st.binary(max_size=400), _names)
def test_anything_is_read_or_refused(content: bytes, name: str) -> None:
    try:
        total = read_total(content, name)
    except InvalidInput:
        return
    assert total is None or math.isfinite(total)


@given(
    st.lists(st.sampled_from(["queued", "{", "}", '"', "\\", ",", "=", " ", "\n", "1", "e", "Inf", "#", "a", "\t"]), max_size=40)
)
def test_what_looks_much_like_it_is_read_or_refused(parts: list[str]) -> None:
    try:
        total = read_total("".join(["queued", *parts]).encode(), "queued")
    except InvalidInput:
        return
    assert total is None or math.isfinite(total)
