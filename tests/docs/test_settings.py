"""Every setting and every field of the manifest is documented."""

from __future__ import annotations

from pathlib import Path

import pytest

from volant.config import Config
from volant.core.manifest import Manifest

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"


@pytest.mark.parametrize("name", Config.__struct_fields__)
def test_each_setting_has_its_row(name: str) -> None:
    assert f"| `{name}` |" in (REFERENCE / "configuration.md").read_text()


@pytest.mark.parametrize("name", Manifest.__struct_encode_fields__)
def test_each_field_of_the_manifest_is_named(name: str) -> None:
    assert f"`{name}" in (REFERENCE / "manifest.md").read_text()
