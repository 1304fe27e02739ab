"""What another user than root can run here."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import msgspec

import volant

NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
PACKAGES = [str(Path(module.__file__ or "").parents[1]) for module in (volant, msgspec)]
"""Where this code and its libraries lie."""

WHY_NOT = "needs fakeroot, setpriv, and an interpreter and packages that anybody may read"


def find_python() -> str | None:
    """An interpreter of this version that nobody may run, fakeroot to run it under, and packages to read; else None.

    This interpreter may lie in somebody's home.
    """
    if not (shutil.which("fakeroot") and shutil.which("setpriv")):
        return None
    if subprocess.run([*NOBODY, "ls", *PACKAGES], capture_output=True, check=False).returncode != 0:
        return None
    for python in (sys.executable, f"/usr/bin/python3.{sys.version_info.minor}"):
        # Not by setpriv itself, which still has root's capabilities when it starts a program.
        tried = subprocess.run([*NOBODY, "sh", "-c", '"$0" -c "import encodings"', python], capture_output=True, check=False)
        if tried.returncode == 0:
            return python
    return None
