"""The program that stands for Cloud Hypervisor in these tests, as one file that a jail can hold."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import Any

import yaml

HERE = Path(__file__).parent
INTERPRETER = "/usr/bin/python3"


def read_description() -> dict[str, Any]:
    content: dict[str, Any] = yaml.safe_load((HERE / "cloud_hypervisor_api.yaml").read_text())
    return content


def write_program(place: Path) -> Path:
    """An executable at ``place``: the directory ``cloud_hypervisor_server`` and the API's description as JSON."""
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for module in sorted((HERE / "cloud_hypervisor_server").glob("*.py")):
            archive.write(module, module.name)
        archive.writestr("api/__init__.py", "")
        archive.writestr("api/api.json", json.dumps(read_description(), default=str))
    place.write_bytes(f"#!{INTERPRETER} -IB\n".encode() + content.getvalue())
    place.chmod(0o755)
    return place
