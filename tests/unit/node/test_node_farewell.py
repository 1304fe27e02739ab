"""Finding what a guest left on its console, in a log that may have been rotated, for the run that it is of."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.core.errors import HostError
from volant.core.ids import Digest, Uid
from volant.guest.farewell import TAIL_BYTES, Farewell, encode_farewell
from volant.guest.protocol import Exit
from volant.node.farewell import read_farewell
from volant.node.unit import MAX_DOCUMENTS, Identity, Places, forget_identity, note_document, read_documents, write_identity

UID = Uid("a" * 32)
SEVEN = Farewell(reason="workload_ended", exit=Exit(code=7))


def digest_of(number: int) -> Digest:
    return Digest(f"sha256:{number:064x}")


@pytest.fixture
def places(tmp_path: Path) -> Places:
    places = Places(data=tmp_path, runtime=tmp_path / "run")
    places.make(UID)
    return places


def test_it_goes_by_what_the_guest_was_sent(places: Places) -> None:
    unit = places.unit(UID)
    places.console(UID).write_bytes(encode_farewell(digest_of(1), SEVEN))
    assert read_farewell(places, UID) is None
    note_document(unit, digest_of(1))
    assert read_farewell(places, UID) == SEVEN
    note_document(unit, digest_of(2))
    assert read_farewell(places, UID) == SEVEN, "whether it took the second is not known"
    forget_identity(unit)
    assert read_farewell(places, UID) is None, "it is of a run before"


def test_a_guest_that_an_earlier_version_configured(places: Places) -> None:
    write_identity(places.unit(UID), Identity(document=digest_of(1), of=""))
    places.console(UID).write_bytes(encode_farewell(digest_of(1), SEVEN))
    assert read_farewell(places, UID) == SEVEN


def test_the_newest_documents_are_kept(places: Places) -> None:
    unit = places.unit(UID)
    for number in (*range(20), 19, 15):
        note_document(unit, digest_of(number))
    kept = read_documents(unit)
    assert len(kept) == MAX_DOCUMENTS
    assert kept[-2:] == (digest_of(19), digest_of(15))


@pytest.mark.parametrize("cut", [0, 1, 40, 100])
def test_a_log_that_is_rotated_in_the_middle(places: Places, cut: int) -> None:
    note_document(places.unit(UID), digest_of(1))
    console, line = places.console(UID), encode_farewell(digest_of(1), SEVEN)
    console.with_name("console.log.1").write_bytes(b"x" * 3 * TAIL_BYTES + line[:cut])
    console.write_bytes(line[cut:] + b"reboot: Power down\n")
    assert read_farewell(places, UID) == SEVEN


def test_no_more_than_the_end_is_read(places: Places) -> None:
    note_document(places.unit(UID), digest_of(1))
    places.console(UID).write_bytes(encode_farewell(digest_of(1), SEVEN) + b"x" * TAIL_BYTES)
    assert read_farewell(places, UID) is None


def test_no_console_is_no_word_and_a_link_is_not_followed(places: Places, tmp_path: Path) -> None:
    note_document(places.unit(UID), digest_of(1))
    assert read_farewell(places, UID) is None
    target = tmp_path / "elsewhere"
    target.write_bytes(encode_farewell(digest_of(1), SEVEN))
    places.console(UID).symlink_to(target)
    with pytest.raises(HostError):
        read_farewell(places, UID)
