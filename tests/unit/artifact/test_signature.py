"""minisign's formats, by signatures that minisign 0.11 wrote and by any bytes whatever."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import minisign
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.artifact import signature as signatures
from volant.artifact.signature import (
    KEY_MAX_BYTES,
    SIGNATURE_MAX_BYTES,
    Statement,
    format_key_id,
    read_public_key,
    read_signature,
    read_statement,
    sign_content,
    verify_content,
    write_statement,
)
from volant.core.errors import InvalidInput, TooLarge, Untrusted

# minisign -G -W; minisign -S -m file; minisign -S -l -m file -t 'an old one'
PUBLIC = b"""\
untrusted comment: minisign public key EC246B5C7D1AB13E
RWQ+sRp9XGsk7Fjy1uvXcrNpunH6X3d1Yfk81Oj25V9EMFrbfFUddXrg
"""
PREHASHED = b"""\
untrusted comment: signature from minisign secret key
RUQ+sRp9XGsk7E7tmJYXCiNM6kEuogYrXBUPQWs8bpSdx2oZ+SXPGR0VGg/s+r0dyX+8Bvb/eMGg7P4zPPSqjlIjgf5G2hSxXwI=
trusted comment: timestamp:1795684629\tfile:f\thashed
UcmLYSCUp0WqrlSkYC7iiL5r4ChbIdnOXXvXwNH6M5oTvJCEjJJFIsl2itMw/v5IJYWwMwZvW4JyXiJM3bKdCQ==
"""
LEGACY = b"""\
untrusted comment: signature from minisign secret key
RWQ+sRp9XGsk7KSQlJsku2rIlRtnc3zt6NUyZuEJhEnJTlA1Db1kRvOUbLivlHWOYBm3lNI+KGcFDjG7Ok4Ct/vWOUi9CReV8Q0=
trusted comment: an old one
XAemC1yAT0oJhOfLNcVP0SJb8PZ/es3B9oEQrh7N8RaXU2iZmm68clO4e9/wtTpulJFugr8inZnP6u9DTRisDg==
"""
SIGNED = ((b"hi\n", PREHASHED), (b"legacy", LEGACY))

STATEMENT = Statement(file="manifest.json", sha256="ab" * 32, name="nginx", version="1.25+deb12~1")


@pytest.fixture(scope="module")
def pair() -> minisign.KeyPair:
    return minisign.KeyPair.generate()


@pytest.mark.parametrize(("content", "signature"), SIGNED)
def test_what_minisign_signed_is_verified(content: bytes, signature: bytes) -> None:
    key = read_public_key(PUBLIC)
    verify_content(content, read_signature(signature), key)
    assert read_statement(read_signature(signature)) is None
    with pytest.raises(Untrusted, match="it is not what key EC246B5C7D1AB13E signed"):
        verify_content(content + b" ", read_signature(signature), key)


@pytest.mark.parametrize(("content", "signature"), SIGNED)
def test_no_byte_of_a_signature_can_be_changed_but_in_its_untrusted_comment(content: bytes, signature: bytes) -> None:
    begin = signature.index(b"\n") + 1
    unnoticed = []
    for position in range(begin, len(signature) - 1):
        if signature[position + 1 : position + 2] == b"=":
            continue  # of the last digit not every bit counts
        changed = bytearray(signature)
        changed[position] ^= 4
        try:
            verify_content(content, read_signature(bytes(changed)), read_public_key(PUBLIC))
        except (InvalidInput, Untrusted):
            continue
        unnoticed.append(position)
    assert unnoticed == []


def test_an_untrusted_comment_is_what_its_name_says() -> None:
    verify_content(b"hi\n", read_signature(PREHASHED.replace(b"from minisign", b"of somebody else's")), read_public_key(PUBLIC))


def test_a_key_is_read_from_its_line_alone_and_named_as_minisign_names_it() -> None:
    key = read_public_key(PUBLIC.splitlines()[1])
    assert format_key_id(key) == format_key_id(read_signature(LEGACY)) == "EC246B5C7D1AB13E"


def test_another_key_is_said_to_be_another(pair: minisign.KeyPair) -> None:
    with pytest.raises(Untrusted, match=f"signed with key EC246B5C7D1AB13E, not with {format_key_id(pair.public_key)}"):
        verify_content(b"hi\n", read_signature(PREHASHED), pair.public_key)


def test_a_legacy_signature_does_not_have_a_huge_file_read_into_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signatures, "LEGACY_MAX_BYTES", 5)
    (tmp_path / "file").write_bytes(b"legacy")
    with (tmp_path / "file").open("rb") as file, pytest.raises(TooLarge, match="has 6 bytes"):
        verify_content(file, read_signature(LEGACY), read_public_key(PUBLIC))


def test_the_same_content_and_statement_give_the_same_signature(pair: minisign.KeyPair) -> None:
    first = sign_content(b"content", pair.secret_key, STATEMENT)
    assert first == sign_content(io.BytesIO(b"content"), pair.secret_key, STATEMENT)
    signature = read_signature(first)
    verify_content(b"content", signature, pair.public_key)
    assert signature.is_prehashed()
    assert signature.trusted_comment == (f"volant:1 name=nginx version=1.25+deb12~1 file=manifest.json sha256={'ab' * 32}")
    assert read_statement(signature) == STATEMENT


@given(
    st.builds(Statement, file=st.text(min_size=1), sha256=st.text(min_size=1), name=st.text(), version=st.text()),
    st.text(alphabet=st.characters(min_codepoint=32, max_codepoint=126)),
)
def test_every_statement_can_be_read_again(statement: Statement, text: str) -> None:
    said = Statement(**{field: getattr(statement, field) for field in ("file", "sha256", "name", "version")}, text=text)
    comment = write_statement(said)
    assert "\n" not in comment and comment.isascii()
    assert read_statement(_saying(comment)) == said


@pytest.mark.parametrize(
    ("comment", "said"),
    [
        ("volant:2 file=x sha256=y", "unknown kind, 'volant:2'"),
        ("volant:1", "does not say which file"),
        ("volant:1 file=x", "does not say which file"),
        ("volant:1 file=x sha256=y file=z", "'file=z', which is not understood"),
        ("volant:1 file=x sha256=y surprise=1", "not understood"),
        ("volant:1 file=x sha256=y text=z", "not understood"),
        ("volant:1 file=x  sha256=y", "not understood"),
    ],
)
def test_a_statement_is_read_whole_or_refused(comment: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_statement(_saying(comment))


@pytest.mark.parametrize("text", ["two\nlines", "a \x1b[31mcolour", "x" * 9000])
def test_what_cannot_be_a_comment_is_not_signed(pair: minisign.KeyPair, text: str) -> None:
    with pytest.raises(InvalidInput, match=r"manifest\.json cannot be signed"):
        sign_content(b"content", pair.secret_key, Statement(file="manifest.json", sha256="ab", text=text))


_lines = st.sampled_from([*PREHASHED.splitlines(), *LEGACY.splitlines(), *PUBLIC.splitlines(), b"", b"untrusted comment: \xff"])


@given(st.one_of(st.binary(), st.lists(st.one_of(_lines, st.binary(max_size=80)), max_size=6).map(b"\n".join)))
def test_any_bytes_are_a_signature_or_invalid(content: bytes) -> None:
    try:
        signature = read_signature(content)
    except InvalidInput:
        return
    assert len(format_key_id(signature)) == 16
    try:
        read_statement(signature)
        verify_content(b"hi\n", signature, read_public_key(PUBLIC))
    except (InvalidInput, Untrusted):
        return


@given(st.one_of(st.binary(), st.lists(st.one_of(_lines, st.binary(max_size=60)), max_size=3).map(b"\n".join)))
def test_any_bytes_are_a_key_or_invalid(content: bytes) -> None:
    try:
        key = read_public_key(content)
    except InvalidInput:
        return
    assert len(format_key_id(key)) == 16


@given(st.binary(min_size=32, max_size=32))
def test_any_point_that_is_a_key_verifies_nothing(point: bytes) -> None:
    key = read_public_key(base64.b64encode(b"Ed" + bytes.fromhex("3eb11a7d5c6b24ec") + point))
    with pytest.raises(Untrusted):
        verify_content(b"hi\n", read_signature(PREHASHED), key)


def test_what_is_too_large_is_not_even_parsed() -> None:
    with pytest.raises(InvalidInput, match="larger than a minisign signature"):
        read_signature(PREHASHED + b" " * SIGNATURE_MAX_BYTES)
    with pytest.raises(InvalidInput, match="larger than a minisign key"):
        read_public_key(PUBLIC + b" " * KEY_MAX_BYTES)


def _saying(comment: str) -> minisign.Signature:
    lines = PREHASHED.splitlines()
    return read_signature(b"\n".join([*lines[:2], b"trusted comment: " + comment.encode(), lines[3]]))
