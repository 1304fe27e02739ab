"""From an OCI layout to a root that boots: fledge, and skopeo, umoci and the same mkfs by hand, on an image of over 200 MB."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.host import BIN
from bench.report import describe_machine, describe_times, judge

RATIO_BUDGET = 0.7
DISK_BYTES = 16 << 30
MEMORY_BUDGET_MB = 150.0
REBUILD_BUDGET_S = 0.5
RUNS = 3
REBUILDS = 7
PACKAGES = "nginx-light,python3,git,perl,locales,gcc"
TYPES = {
    "erofs": ["mkfs.erofs", "-zlz4", "-T0", "{target}", "{root}"],
    "squashfs, level 1": [
        "mksquashfs", "{root}", "{target}", "-comp", "zstd", "-Xcompression-level", "1", "-noappend", "-quiet", "-no-progress",
    ],
    "ext4": ["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal", "-m", "0", "-d", "{root}", "{target}", "{size}"],
    "squashfs": [
        "mksquashfs", "{root}", "{target}", "-comp", "zstd", "-Xcompression-level", "15", "-noappend", "-quiet", "-no-progress",
    ],
}  # fmt: skip
RECIPE = """\
version = "1"
strategy = "oci_rootfs"
[plugin]
name = "bench"
version = "1"
[source]
image = "oci:{layout}:bench"
[filesystem]
type = "{type}"
{more}
[workload]
entrypoint = ["/usr/sbin/nginx"]
"""


def make_layout(directory: Path) -> Path:
    """An OCI layout with an image of at least 200 MB, made once and kept beside the other build products."""
    layout = directory / "image-bench"
    if not (layout / "index.json").is_file():
        with tempfile.TemporaryDirectory(dir=directory) as name:
            root = Path(name) / "root"
            subprocess.run(
                ["mmdebstrap", "--mode=root", "--format=directory", "--variant=essential", f"--include={PACKAGES}", "bookworm",
                 root],
                check=True, stderr=subprocess.DEVNULL,
            )  # fmt: skip
            shutil.rmtree(layout, ignore_errors=True)
            for words in (
                ["init", "--layout", layout], ["new", "--image", f"{layout}:bench"],
                ["insert", "--image", f"{layout}:bench", root, "/"],
            ):  # fmt: skip
                subprocess.run(["umoci", *words], check=True)
    return layout


@contextmanager
def fresh_disk(build: Path) -> Iterator[Path]:
    """A new ext4 in a file. An old one does not give inodes that were freed out again for minutes, and looks for others one by
    one meanwhile, so that of two runs the second would pay for the first."""
    with tempfile.TemporaryDirectory(prefix="image-bench-", dir=build) as name:
        image, mounted = Path(name) / "disk.img", Path(name) / "disk"
        mounted.mkdir()
        with image.open("wb") as file:
            file.truncate(DISK_BYTES)
        subprocess.run(["mkfs.ext4", "-q", image], check=True)
        subprocess.run(["mount", "-o", "loop", image, mounted], check=True)
        try:
            yield mounted
        finally:
            subprocess.run(["umount", mounted], check=True)


def time_once(work: Callable[[], object]) -> float:
    began = time.monotonic()
    work()
    return time.monotonic() - began


def build_by_hand(layout: Path, kind: str, scratch: Path) -> tuple[float, float]:
    """Seconds in all, and of the mkfs alone."""
    copy, bundle, target = scratch / "copy", scratch / "bundle", scratch / f"by-hand.{kind}"
    began = time.monotonic()
    subprocess.run(["skopeo", "copy", "-q", f"oci:{layout}:bench", f"oci:{copy}:bench"], check=True)
    subprocess.run(["umoci", "raw", "unpack", "--image", f"{copy}:bench", bundle], check=True)
    unpacked = time.monotonic()
    size_kib = int(subprocess.run(["du", "-sk", bundle], check=True, capture_output=True).stdout.split()[0])
    words = [word.format(root=bundle, target=target, size=f"{size_kib * 5 // 4}K") for word in TYPES[kind]]
    if kind == "ext4":
        target.touch()
    mkfs = time_once(lambda: subprocess.run(words, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    return unpacked - began + mkfs, mkfs


def fledge(recipe: Path, scratch: Path, *more: str) -> tuple[float, dict[str, float]]:
    """Seconds of one ``fledge build``, and of its steps."""
    words = [BIN / "fledge", "build", "--json", "-c", recipe, "-o", scratch / "out", "--cache-dir", scratch / "cache", *more]
    began = time.monotonic()
    done = subprocess.run(words, check=True, capture_output=True)
    took = time.monotonic() - began
    events = [json.loads(line) for line in done.stderr.splitlines()]
    return took, {event["step"]: event["took_s"] for event in events if event["event"] == "done"}


def measure_own_memory(recipe: Path, scratch: Path, *more: str) -> float:
    """Peak of the fledge process itself, in MB; the programs that it runs are not counted."""
    code = "import sys; from volant.fledge.cli import main\ntry: main(sys.argv[1:])\nexcept SystemExit: pass\n"
    # Not ru_maxrss, which begins with the peak of the process that started this one.
    code += "print(next(line.split()[1] for line in open('/proc/self/status') if line.startswith('VmHWM')), file=sys.stderr)"
    words = [
        sys.executable,
        "-c",
        code,
        "build",
        "-q",
        "-c",
        recipe,
        "-o",
        scratch / "out",
        "--cache-dir",
        scratch / "cache",
        *more,
    ]
    done = subprocess.run(words, check=True, capture_output=True, text=True)
    return int(done.stderr.split()[-1]) / 1024


def measure_kind(kind: str, layout: Path, build: Path, ready: Path) -> None:
    more = f"compression_level = {TYPES[kind][6]}" if kind.startswith("squashfs") else ""
    text = RECIPE.format(layout=layout, type=kind.partition(",")[0], more=more)
    ours: list[float] = []
    theirs: list[float] = []
    bare: list[float] = []
    steps: dict[str, float] = {}
    for _ in range(RUNS):
        with fresh_disk(build) as disk:
            took, steps = fledge(write_recipe(text, disk, ready), disk)
            ours.append(took)
        with fresh_disk(build) as disk:
            by_hand, mkfs = build_by_hand(layout, kind, disk)
            theirs.append(by_hand)
            bare.append(mkfs)
    print(describe_times(f"{kind}: fledge build", ours))
    print(describe_times(f"{kind}: skopeo, umoci, mkfs by hand", theirs))
    print(describe_times(f"{kind}: the bare mkfs, the limit", bare))
    print(judge(f"{kind}: fledge to by hand", statistics.median(ours) / statistics.median(theirs), RATIO_BUDGET, " x"))
    print(f"  {'the bare mkfs to by hand':<38} {statistics.median(bare) / statistics.median(theirs):8.2f} x")
    print("  the last one's steps: " + ", ".join(f"{step.partition(' to /')[0]} {took:.1f} s" for step, took in steps.items()))


def write_recipe(text: str, disk: Path, ready: Path) -> Path:
    """The recipe on ``disk``, beside a cache that has the kernel, which the peer does not make."""
    subprocess.run(["cp", "-a", ready, disk / "cache"], check=True)
    recipe = disk / "fledge.toml"
    recipe.write_text(text)
    return recipe


def main() -> None:
    print(f"image_build, on {describe_machine()}")
    os.environ.pop("VOLANT_STORE", None)
    build = Path("build").absolute()
    build.mkdir(exist_ok=True)
    layout = make_layout(build)
    with tempfile.TemporaryDirectory(prefix="image-bench-", dir=build) as name:
        ready = Path(name) / "cache"
        plain = Path(name) / "fledge.toml"
        plain.write_text(RECIPE.format(layout=layout, type="erofs", more=""))
        # One build for each kind of boot initramfs.
        for kind in ("erofs", "squashfs", "ext4"):
            recipe = Path(name) / f"{kind}.toml"
            recipe.write_text(RECIPE.format(layout=make_small_layout(Path(name)), type=kind, more=""))
            fledge(recipe, Path(name))
        shutil.rmtree(ready / "roots")
        for kind in TYPES:
            measure_kind(kind, layout, build, ready)
        with fresh_disk(build) as disk:
            recipe = write_recipe(plain.read_text(), disk, ready)
            print(judge("fledge's own memory, peak", measure_own_memory(recipe, disk), MEMORY_BUDGET_MB, " MB"))
            with_kernel = measure_own_memory(recipe, disk, "--no-cache")
            print(f"  {'… making the kernel too, once':<38} {with_kernel:8.2f} MB")
            again = [fledge(recipe, disk)[0] for _ in range(REBUILDS)]
    print(describe_times("a rebuild with nothing changed", again))
    print(judge("a rebuild with nothing changed", statistics.median(again), REBUILD_BUDGET_S, " s"))
    floor = [time_once(lambda: subprocess.run([sys.executable, "-c", "pass"], check=True)) for _ in range(REBUILDS)]
    print(describe_times("python -c pass, the floor", floor))


def make_small_layout(directory: Path) -> Path:
    """An image of one empty layer."""
    layout = directory / "small"
    if not layout.exists():
        (directory / "empty").mkdir()
        for words in (
            ["init", "--layout", layout], ["new", "--image", f"{layout}:bench"],
            ["insert", "--image", f"{layout}:bench", directory / "empty", "/empty"],
        ):  # fmt: skip
            subprocess.run(["umoci", *words], check=True)
    return layout


if __name__ == "__main__":
    main()
