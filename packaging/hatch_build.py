"""Builds kestrel and the holder when the package is built, and puts them into the wheel."""

from __future__ import annotations

import platform
import subprocess
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

BINARIES = ("kestrel", "holder", "tsc", "settle")


class NativeBuildHook(BuildHookInterface):  # type: ignore[type-arg]  # hatchling's generic parameter is its own concern
    """A wheel carries the binaries of its architecture; an editable install uses the build folder."""

    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name != "wheel":
            return
        out = Path(self.root) / "build" / "native"
        subprocess.run(["make", "-s", "-C", str(Path(self.root) / "native"), f"OUT={out}"], check=True)
        if version == "editable":
            return
        architecture = platform.machine()
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-linux_{architecture}"
        for name in BINARIES:
            build_data["force_include"][str(out / architecture / name)] = f"volant/_native/{architecture}/{name}"
