from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from license_expression import get_spdx_licensing

from volant.fledge.sbom.licence import choose_licence, read_classifiers


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("MIT", "MIT"),
        ("mit", "MIT"),
        ("Apache-2.0 or (mit and BSD-3-Clause)", "Apache-2.0 OR (MIT AND BSD-3-Clause)"),
        ("GPL-2.0-or-later WITH Classpath-exception-2.0", "GPL-2.0-or-later WITH Classpath-exception-2.0"),
        ("((MIT))", "((MIT))"),
        ("Apache-2.0+", "Apache-2.0+"),
        ("GPL-2.0+", "GPL-2.0+"),
    ],
)
def test_expressions_are_spelt_as_the_list_has_them(text: str, expression: str) -> None:
    assert choose_licence(text) == expression


@pytest.mark.parametrize(
    "text",
    [
        "", "GPL", "GPLv2+", "BSD", "MIT License", "MIT/X11", "MIT,", "MIT AND", "OR MIT", "MIT MIT", "(MIT", "MIT)", "()",
        "MIT WITH MIT", "MIT WITH", "(MIT) WITH Classpath-exception-2.0", "Classpath-exception-2.0", "LicenseRef-own", "NONE",
        "NOASSERTION", "UNLICENSED", "SEE LICENSE IN x", "MIT\x00", "Märchen", "(" * 99 + "MIT" + ")" * 99,
    ],
)  # fmt: skip
def test_what_is_no_expression_is_not_guessed_at(text: str) -> None:
    assert choose_licence(text) is None


@given(st.lists(st.sampled_from(["MIT", "Apache-2.0", "GPL-2.0-only", "AND", "OR", "WITH", "Classpath-exception-2.0", "(", ")"])))
def test_whatever_is_accepted_is_valid_elsewhere_too(words: list[str]) -> None:
    expression = choose_licence(" ".join(words))
    if expression is not None:
        assert get_spdx_licensing().validate(expression, strict=True).errors == []


@pytest.mark.parametrize(
    ("names", "expression"),
    [
        (["License :: OSI Approved :: MIT License"], "MIT"),
        (["License :: OSI Approved", "License :: OSI Approved :: ISC License (ISCL)", "Topic :: Software"], "ISC"),
        (["License :: OSI Approved :: MIT License", "License :: OSI Approved :: BSD License"], ""),
        (["License :: OSI Approved :: MIT License", "License :: OSI Approved :: ISC License (ISCL)"], "ISC AND MIT"),
        ([], ""),
    ],
)
def test_classifiers_count_only_when_they_mean_one_licence(names: list[str], expression: str) -> None:
    assert read_classifiers(names) == expression
