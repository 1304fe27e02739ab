"""Licences as SPDX licence expressions (SPDX 2.3, annex D); what is none is not guessed at."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from pathlib import Path

NOASSERTION = "NOASSERTION"

_LIST = Path(__file__).with_name("licences.txt")
_TOKEN = re.compile(r"\s*(?:(?P<parenthesis>[()])|(?P<word>[A-Za-z0-9.+-]+))\s*")
_OPERATORS = frozenset({"AND", "OR"})
_PARENTHESES_MAX = 16

# The trove classifiers that mean one licence only; "BSD License" and "Apache Software License" may be several.
_CLASSIFIERS = {
    "Boost Software License 1.0 (BSL-1.0)": "BSL-1.0",
    "CC0 1.0 Universal (CC0 1.0) Public Domain Dedication": "CC0-1.0",
    "European Union Public Licence 1.2 (EUPL 1.2)": "EUPL-1.2",
    "GNU Affero General Public License v3": "AGPL-3.0-only",
    "GNU Affero General Public License v3 or later (AGPLv3+)": "AGPL-3.0-or-later",
    "GNU General Public License v2 (GPLv2)": "GPL-2.0-only",
    "GNU General Public License v2 or later (GPLv2+)": "GPL-2.0-or-later",
    "GNU General Public License v3 (GPLv3)": "GPL-3.0-only",
    "GNU General Public License v3 or later (GPLv3+)": "GPL-3.0-or-later",
    "GNU Lesser General Public License v2 (LGPLv2)": "LGPL-2.0-only",
    "GNU Lesser General Public License v2 or later (LGPLv2+)": "LGPL-2.0-or-later",
    "GNU Lesser General Public License v3 (LGPLv3)": "LGPL-3.0-only",
    "GNU Lesser General Public License v3 or later (LGPLv3+)": "LGPL-3.0-or-later",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "MIT No Attribution License (MIT-0)": "MIT-0",
    "Mozilla Public License 1.1 (MPL 1.1)": "MPL-1.1",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "The Unlicense (Unlicense)": "Unlicense",
    "Zero-Clause BSD (0BSD)": "0BSD",
}  # fmt: skip


class _Invalid(Exception):
    pass


def choose_licence(text: str) -> str | None:
    """``text`` with identifiers and operators spelt as the list has them, or None when it is no valid expression.

    An own ``LicenseRef-`` counts as none: its text would have to be in the document.
    """
    try:
        return _spell(_split(text))
    except _Invalid:
        return None


def read_classifiers(classifiers: Iterable[str]) -> str:
    """The licence that trove classifiers name, ``""`` when they name none or one that may be several.

    Several are joined by AND: the classifiers do not say which of both is meant, and this promises less.
    """
    names = [value.rpartition(" :: ")[2].strip() for value in classifiers if value.startswith("License :: ")]
    found = [_CLASSIFIERS.get(name, "") for name in names if name != "OSI Approved"]
    return " AND ".join(sorted(set(found))) if all(found) else ""


def _split(text: str) -> list[str]:
    words = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise _Invalid
        words.append(match["parenthesis"] or match["word"])
        at = match.end()
    return words


def _spell(words: list[str]) -> str:
    """Operands and operators in turn, without recursion: the text is a stranger's."""
    licences, exceptions = _read_list()
    spelt: list[str] = []
    depth = 0
    previous = "operator"
    for word in words:
        upper = word.upper()
        if previous == "with":
            spelt.append(_look_up(exceptions, word))
            previous = "operand"
        elif previous == "operator" and word == "(" and depth < _PARENTHESES_MAX:
            depth += 1
            spelt.append(word)
        elif previous == "operator":
            spelt.append(_look_up(licences, word))
            previous = "licence"
        elif word == ")" and depth:
            depth -= 1
            spelt.append(word)
            previous = "operand"
        elif upper in _OPERATORS:
            spelt.append(upper)
            previous = "operator"
        elif upper == "WITH" and previous == "licence":
            spelt.append(upper)
            previous = "with"
        else:
            raise _Invalid
    if depth or previous in ("operator", "with"):
        raise _Invalid
    return " ".join(spelt).replace("( ", "(").replace(" )", ")")


def _look_up(known: dict[str, str], word: str) -> str:
    """The identifier as the list has it. ``Apache-2.0+``: that version or a later one."""
    name = known.get(word.lower())
    if name is None and word.endswith("+"):
        name = f"{known[word[:-1].lower()]}+" if word[:-1].lower() in known else None
    if name is None:
        raise _Invalid
    return name


@functools.cache
def _read_list() -> tuple[dict[str, str], dict[str, str]]:
    licences, exceptions = _LIST.read_text("ascii").split("\nWITH\n")
    return _index(licences), _index(exceptions)


def _index(text: str) -> dict[str, str]:
    return {line.lower(): line for line in text.splitlines() if line and not line.startswith("#")}
