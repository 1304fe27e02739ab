"""``make bench``: all of them; ``make bench BENCH=cold_start`` one."""

from __future__ import annotations

import importlib
import sys

NAMES = ("footprint", "api", "cli_start", "channel", "cold_start", "template_start", "many", "scale", "image_build", "registry")

for name in sys.argv[1:] or NAMES:
    importlib.import_module(f"bench.{name}").main()
    print()
