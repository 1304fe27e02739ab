from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from volant.core.boot_files import tell_boot_file
from volant.core.errors import InvalidInput
from volant.core.kernel_words import DEFAULT_ALLOW, FORBIDDEN, MAX_CHARS, check_words


def test_words_that_are_allowed_pass_with_one_space_between() -> None:
    assert (
        check_words("  quiet   loglevel=7 mitigations=off,nosmt systemd.unit=x ")
        == "quiet loglevel=7 mitigations=off,nosmt systemd.unit=x"
    )
    assert check_words("") == ""


@pytest.mark.parametrize(
    "words",
    [
        "init=/bin/sh",
        "rdinit=/x",
        "root=/dev/vda",
        "volant.rootfs_device=x",
        "quiet init=/bin/sh",
        "console=ttyS0",
        "unknown",
        "loglevel",
        "quiet=1",
        'loglevel="7',
        "loglevel=7\x00",
        "-- quiet",
        "loglevel=" + "7" * MAX_CHARS,
    ],
)
def test_words_that_are_not_are_refused(words: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_words(words)
    assert refused.value.field == "kernel_cmdline"


@pytest.mark.parametrize("entry", FORBIDDEN)
def test_no_setting_allows_what_is_volants_own(entry: str) -> None:
    word = entry + "x" if entry.endswith(("=", ".")) else entry
    with pytest.raises(InvalidInput, match="Volant's to set"):
        check_words(word, (*DEFAULT_ALLOW, entry))


def test_a_hyphen_is_no_way_round() -> None:
    with pytest.raises(InvalidInput, match="Volant's"):
        check_words("tsc-early-khz=1", ("tsc-early-khz=",))


@given(st.text(max_size=60))
def test_what_passes_is_plain(text: str) -> None:
    try:
        passed = check_words(text, ("a=", "b"))
    except InvalidInput:
        return
    assert passed.isascii() and passed.isprintable() and '"' not in passed


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x7fELF" + bytes(100), "kernel"),
        (bytes(0x202) + b"HdrS" + bytes(10), "kernel"),
        (bytes(0x38) + b"ARM\x64", "kernel"),
        (b"070701" + bytes(100), "initramfs"),
        (b"\x1f\x8b\x08", "initramfs"),
        (b"\x28\xb5\x2f\xfd", "initramfs"),
        (b"kernel", "unknown"),
        (b"", "unknown"),
    ],
)
def test_a_boot_file_is_told_by_its_head(head: bytes, kind: str) -> None:
    assert tell_boot_file(head) == kind
