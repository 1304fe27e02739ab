"""Kernel configurations: the options that are asked for, and whether a configuration that came out has them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from volant.core.errors import HostError, InvalidInput

MINIMAL_CONFIG = Path(__file__).with_name("minimal.config")

SHOWN_OPTIONS = 8
"""An error names no more than that."""

_SET = re.compile(r"CONFIG_(?P<name>[A-Z0-9][A-Za-z0-9_]*)=(?P<value>y|-?[0-9]+|0x[0-9a-f]+|\"[^\"\\]*\")")
_UNSET = re.compile(r"# CONFIG_(?P<name>[A-Z0-9][A-Za-z0-9_]*) is not set")

Options = Mapping[str, str | None]
"""Values by name, without ``CONFIG_`` in front and as they are written; None is an option that must not be set."""


def read_options(text: str) -> dict[str, str | None]:
    """The options of a fragment. Other lines are empty or comments.

    Raises:
        InvalidInput: a line is none of these (a module is not either), or an option stands there twice; the message has the line.
    """
    options: dict[str, str | None] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        wanted, unset = _SET.fullmatch(line), _UNSET.fullmatch(line)
        match = wanted or unset
        if match is None:
            if line and (not line.startswith("#") or "CONFIG_" in line):
                raise InvalidInput(f"line {number} is no option and no comment: {line[:80]}")
            continue
        name = match["name"]
        if name in options:
            raise InvalidInput(f"line {number} gives CONFIG_{name} again")
        options[name] = wanted["value"] if wanted else None
    return options


def write_options(options: Options) -> str:
    """The fragment in one form, whatever order and comments it had."""
    return "".join(
        f"# CONFIG_{name} is not set\n" if value is None else f"CONFIG_{name}={value}\n"
        for name, value in sorted(options.items())
    )


def digest_options(options: Options) -> str:
    """64 hexadecimal digits that change when an option does."""
    return hashlib.sha256(write_options(options).encode()).hexdigest()


def check_configuration(options: Options, configuration: str) -> None:
    """See that the ``.config`` that came out has every option as it was asked for.

    ``make`` says nothing of an option that the kernel does not know or whose conditions are not met.

    Raises:
        HostError: it does not; the message names the options.
    """
    got = dict(line.removeprefix("CONFIG_").split("=", 1) for line in configuration.splitlines() if line.startswith("CONFIG_"))
    wrong = [name for name, value in sorted(options.items()) if got.get(name) != value]
    if wrong:
        shown = ", ".join(f"{name} (asked {options[name] or 'n'}, got {got.get(name, 'n')})" for name in wrong[:SHOWN_OPTIONS])
        more = f" and {len(wrong) - SHOWN_OPTIONS} more" if len(wrong) > SHOWN_OPTIONS else ""
        raise HostError(
            f"the kernel's configuration did not take {shown}{more}",
            hint="this version of the kernel has another name or other conditions for it; mend minimal.config",
        )
