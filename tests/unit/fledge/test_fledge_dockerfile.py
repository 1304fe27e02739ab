from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.registry_server import HAS_REGISTRY, serve_registry

from volant.core.errors import HostError, InvalidInput, TimedOut
from volant.fledge.cache import Cache
from volant.fledge.dockerfile.build import BuildSecret, DockerfileRequest, build_dockerfile, digest_context
from volant.fledge.dockerfile.buildah import prune_builds
from volant.fledge.dockerfile.containment import run_contained
from volant.fledge.source.oci import machine_platform, read_image

BUSYBOX = Path("/bin/busybox")
MISSING = [name for name in ("buildah", "setpriv", "unshare", "ip") if shutil.which(name) is None]

pytestmark = [
    pytest.mark.spawns,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root: the steps of a Dockerfile run in a chroot"),
    pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}"),
    pytest.mark.skipif(not BUSYBOX.is_file(), reason="needs Debian's busybox-static for what runs in the images"),
]

HEAD = """\
FROM scratch AS base
COPY busybox /bin/busybox
RUN ["/bin/busybox", "--install", "-s", "/bin"]
"""


class Builder:
    """One cache, and what the builds in it printed."""

    def __init__(self, root: Path) -> None:
        self.cache = Cache(root)
        self.storage = root / "buildah" / f"1000-{machine_platform().replace('/', '-')}"
        self.lines: list[str] = []
        self.layouts = 0

    def request(self, context: Path, **more: Any) -> DockerfileRequest:
        return DockerfileRequest(context=context, **{"epoch_s": 1000, "timeout_s": 60.0, **more})

    async def build(self, context: Path, report: Callable[[str], None] | None = None, **more: Any) -> Path:
        """The layout."""
        self.layouts += 1
        layout = context.parent / f"layout-{self.cache.root.parent.name}-{self.cache.root.name}-{self.layouts}"
        await self.cache.open()
        async with self.cache.workspace() as workspace:
            await build_dockerfile(
                self.request(context, **more), layout, self.storage.parent, workspace, report or self.lines.append
            )
        return layout

    def leftovers(self) -> list[str]:
        """Marks, containers and mounts that a build left behind."""
        containers = self.storage / "store/overlay-containers/containers.json"
        left = [path.name for path in (self.storage / "running").iterdir()]
        left += [one["id"] for one in json.loads(containers.read_text())] if containers.exists() else []
        return left + [line for line in Path("/proc/mounts").read_text().splitlines() if str(self.cache.root) in line]


@pytest.fixture
def builder(tmp_path: Path) -> Builder:
    return Builder(tmp_path / "cache")


@pytest.fixture(scope="module")
def warm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that tests share, so that the steps of HEAD run once for all of them."""
    return tmp_path_factory.mktemp("warm") / "cache"


@pytest.fixture
def shared(warm: Path) -> Builder:
    return Builder(warm)


def write_context(context: Path, dockerfile: str, **files: str) -> Path:
    context.mkdir(parents=True)
    shutil.copy(BUSYBOX, context / "busybox")
    (context / "Dockerfile").write_text(dockerfile)
    for name, text in files.items():
        (context / name).write_text(text)
    return context


def read_boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text()


OWN = os.getpid()
LONG_S, LONGER_S, LONGEST_S = (f"{86397 + i}.{OWN}" for i in range(3))
"""How long steps sleep that are to be found again, which no other run of these tests has beside us: sleep(1) takes fractions."""


def find_processes(word: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command, state = (entry / "cmdline").read_bytes(), (entry / "stat").read_text().rpartition(")")[2].split()[0]
            except (FileNotFoundError, ProcessLookupError):
                continue
            if word.encode() in command and state not in "ZX":
                found.append(int(entry.name))
    return found


async def wait_for_end(pid: int) -> None:
    ended = asyncio.Event()
    descriptor = os.pidfd_open(pid)
    asyncio.get_running_loop().add_reader(descriptor, ended.set)
    await ended.wait()
    asyncio.get_running_loop().remove_reader(descriptor)
    os.close(descriptor)


async def test_an_image_comes_out_with_its_settings(shared: Builder, tmp_path: Path) -> None:
    context = write_context(
        tmp_path / "web", HEAD + 'RUN echo working\nENV A=b\nEXPOSE 80\nUSER 7\nWORKDIR /srv\nENTRYPOINT ["/bin/sh"]\n'
    )

    image = read_image(await shared.build(context))

    assert image.config.config is not None
    assert image.config.config.entrypoint == ("/bin/sh",)
    assert image.config.config.user == "7"
    assert image.config.config.exposed_ports == {"80/tcp": {}}
    assert not image.config.config.labels
    assert "working" in shared.lines
    assert shared.leftovers() == []


async def test_the_same_inputs_give_the_same_image_elsewhere_and_later(builder: Builder, tmp_path: Path) -> None:
    text = HEAD + "RUN hostname > /name; echo $HOSTNAME >> /name; umask >> /name; mkdir /made\nCOPY data /data\n"
    one = write_context(tmp_path / "one", text, data="x")
    two = write_context(tmp_path / "elsewhere" / "two", text, data="x")
    os.utime(two / "data", (5, 5))

    images = [read_image(await builder.build(one)), read_image(await Builder(tmp_path / "cache2").build(two))]

    assert images[0].digest == images[1].digest


async def test_steps_are_kept_between_builds(shared: Builder, tmp_path: Path) -> None:
    text = HEAD + "RUN echo slow step ran\nCOPY data /data\n"
    context = write_context(tmp_path / "web", text, data="x")
    first = read_image(await shared.build(context))
    assert shared.lines.count("slow step ran") == 1

    (context / "data").write_text("y")
    changed = read_image(await shared.build(context))
    (context / "data").write_text("x")
    again = read_image(await shared.build(context))

    assert shared.lines.count("slow step ran") == 1
    assert first.digest == again.digest != changed.digest


async def test_stages_arguments_and_ignored_files(shared: Builder, tmp_path: Path) -> None:
    text = (
        HEAD
        + "ARG WORD=none\nRUN [ $WORD = hello ]\nCOPY . /all\nRUN [ -e /all/seen -a ! -e /all/secret_notes ]\n"
        + "FROM base AS other\nRUN echo other\nFROM scratch\nCOPY --from=base /all /all\n"
    )
    context = write_context(tmp_path / "web", text, secret_notes="x", seen="y")
    (context / ".dockerignore").write_text("*_notes\n")

    await shared.build(context, target="base", build_args={"WORD": "hello"})

    assert "other" not in shared.lines
    with pytest.raises(HostError, match="WORD = hello"):
        await shared.build(context, target="base")


async def test_a_failing_step_is_named_with_what_it_said(shared: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "web", HEAD + "RUN echo the reason; exit 3\n")

    with pytest.raises(HostError, match=r'the step "RUN echo the reason; exit 3" failed: .*status 3; it said: .*the reason'):
        await shared.build(context)

    assert shared.leftovers() == []


@pytest.mark.parametrize(
    "step",
    [f"(setsid sleep {LONGEST_S} &); while :; do :; done", f"exec >&- 2>&-; sleep {LONGEST_S}"],
)
async def test_a_build_that_never_ends_is_ended_with_all_it_started(shared: Builder, tmp_path: Path, step: str) -> None:
    context = write_context(tmp_path / "web", HEAD + "RUN echo ready\n")
    await shared.build(context)
    (context / "Dockerfile").write_text(HEAD + f"RUN {step}\n")

    with pytest.raises(TimedOut, match="no end after 3 s, in STEP 4/4: RUN"):
        await shared.build(context, timeout_s=3.0)

    assert find_processes(LONGEST_S) == []
    assert find_processes(str(shared.storage)) == []
    assert shared.leftovers() == []


async def test_a_cancelled_build_is_ended_with_all_it_started(shared: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "web", HEAD + f"RUN echo begun; sleep {LONGER_S}\n")
    begun = asyncio.Event()
    task = asyncio.create_task(shared.build(context, lambda line: begun.set() if line == "begun" else None))
    async with asyncio.timeout(60):
        await begun.wait()

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert find_processes(LONGER_S) == []
    assert shared.leftovers() == []
    assert list((shared.cache.root / "tmp").iterdir()) == []


KILLED = """
import asyncio, sys
from pathlib import Path
from volant.fledge.cache import Cache
from volant.fledge.dockerfile.build import BuildSecret, DockerfileRequest, build_dockerfile

async def main(context, root, secret):
    cache = Cache(Path(root))
    await cache.open()
    request = DockerfileRequest(context=Path(context), secrets=(BuildSecret("token", Path(secret)),), epoch_s=1000)
    report = lambda line: print(line, flush=True)
    async with cache.workspace() as workspace:
        await build_dockerfile(request, workspace.path / "layout", cache.root / "buildah", workspace, report)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_a_killed_fledge_takes_its_build_along_and_the_next_one_works(builder: Builder, tmp_path: Path) -> None:
    step = f"RUN --mount=type=secret,id=token echo begun; [ -e /go ] || sleep {LONG_S}\n"
    context = write_context(tmp_path / "web", HEAD + step)
    secret = tmp_path / "token"
    secret.write_text("open-sesame")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", KILLED, context, builder.cache.root, secret, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    async with asyncio.timeout(60):
        while await process.stdout.readline() != b"begun\n":
            pass
    process.send_signal(signal.SIGKILL)
    async with asyncio.timeout(30):
        await asyncio.gather(process.wait(), *(wait_for_end(pid) for pid in find_processes(LONG_S)))
    assert builder.leftovers() != []

    (context / "Dockerfile").write_text(HEAD + "RUN --mount=type=secret,id=token echo mended\n")
    await builder.build(context, secrets=(BuildSecret("token", secret),))

    assert "mended" in builder.lines
    assert builder.leftovers() == []
    assert find_text(builder.cache.root, b"open-sesame") == []


def find_text(root: Path, text: bytes) -> list[Path]:
    return [path for path in root.rglob("*") if path.is_file() and not path.is_symlink() and text in path.read_bytes()]


async def test_a_secret_is_seen_by_its_step_and_nowhere_else(shared: Builder, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("open-sesame\n")
    step = "RUN --mount=type=secret,id=token cat /run/secrets/token; wc -c < /run/secrets/token; exit $CODE\n"
    context = write_context(tmp_path / "web", HEAD + "ARG CODE\n" + step)
    secrets = (BuildSecret("token", secret),)

    layout = await shared.build(context, secrets=secrets, build_args={"CODE": "0"})
    with pytest.raises(HostError) as caught:
        await shared.build(context, secrets=secrets, build_args={"CODE": "3"})

    assert "12" in shared.lines
    assert "***" in shared.lines
    assert "open-sesame" not in str(caught.value)
    assert find_text(layout, b"open-sesame") + find_text(shared.cache.root, b"open-sesame") == []
    request = shared.request(context, secrets=secrets)
    before = await digest_context(request)
    secret.write_text("another\n")
    assert await digest_context(request) == before


async def test_without_a_network_there_is_only_loopback(shared: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "web", HEAD + "RUN ping -c 1 127.0.0.1\nRUN [ $(ip -o link | wc -l) = 1 ]\n")

    await shared.build(context, network="none")

    assert any("STEP 5/5: RUN [ $(ip" in line for line in shared.lines)


async def test_two_builds_at_once_share_the_storage(shared: Builder, tmp_path: Path) -> None:
    contexts = [write_context(tmp_path / name, HEAD + f"RUN echo {name}\n") for name in ("one", "two")]

    layouts = await asyncio.gather(*(shared.build(context) for context in contexts))

    assert len({read_image(layout).digest for layout in layouts}) == 2
    assert shared.leftovers() == []


async def test_kept_layers_are_removed_only_while_nobody_builds(builder: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "web", HEAD + "RUN echo begun; while [ ! -e /stop ]; do sleep 1; done\n")
    begun = asyncio.Event()
    task = asyncio.create_task(builder.build(context, lambda line: begun.set() if line == "begun" else None))
    async with asyncio.timeout(60):
        await begun.wait()
    assert await prune_builds(builder.storage.parent) is False
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert await prune_builds(builder.storage.parent) is True
    assert [path.name for path in builder.storage.iterdir()] == ["lock"]
    (context / "Dockerfile").write_text(HEAD)
    await builder.build(context)


async def test_vfs_does_where_overlay_cannot(builder: Builder, tmp_path: Path) -> None:
    builder.storage.mkdir(parents=True)
    (builder.storage / "driver").write_text("vfs")

    layout = await builder.build(write_context(tmp_path / "web", HEAD + "RUN echo with vfs\n"))

    assert "with vfs" in builder.lines
    assert (builder.storage / "store" / "vfs").is_dir()
    assert len(read_image(layout).layers) == 3


@pytest.mark.parametrize("boots", ["this", "an earlier"])
async def test_a_damaged_storage_is_begun_anew(builder: Builder, tmp_path: Path, boots: str) -> None:
    context = write_context(tmp_path / "web", HEAD)
    await builder.build(context)
    (builder.storage / "running" / "killed").write_text(read_boot_id() if boots == "this" else "another")
    for name in (builder.storage / "store").glob("overlay-layers/*.json" if boots == "this" else "overlay/*/diff/bin/busybox"):
        name.write_text("[{")

    image = read_image(await builder.build(context))

    assert image.layers[0].path.stat().st_size > 100_000
    assert builder.leftovers() == []


async def test_layers_of_another_time_or_platform_are_not_taken(shared: Builder, builder: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "web", "FROM scratch\nCOPY data /data\n", data="x")
    await shared.build(context)

    later = read_image(await shared.build(context, epoch_s=2000))
    other = read_image(await shared.build(context, platform="linux/s390x"), wanted="linux/s390x")

    assert later.digest == read_image(await builder.build(context, epoch_s=2000)).digest
    assert other.config.architecture == "s390x"


async def test_nobody_but_root_builds(shared: Builder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = write_context(tmp_path / "web", HEAD)
    monkeypatch.setattr("volant.fledge.dockerfile.build.may_contain", lambda: False)

    with pytest.raises(HostError, match="only root can build a Dockerfile"):
        await shared.build(context)


@pytest.mark.parametrize(
    ("more", "field", "words"),
    [
        ({"dockerfile": Path("/nowhere")}, "source.dockerfile", "there is no Dockerfile"),
        ({"build_args": {"-v": "x"}}, "source.build_args", "no name of a build argument"),
        ({"secrets": (BuildSecret("a,b", Path("/x")),)}, "source.secrets", "no id of a build secret"),
        ({"secrets": (BuildSecret("a", Path("/nowhere")),)}, "source.secrets", "cannot be read"),
        ({"secrets": (BuildSecret("a", Path("/x,y")),)}, "source.secrets", "comma"),
        ({"platform": "windows/amd64"}, "source.platform", "no platform"),
        ({"target": "--help"}, "source.target", "no build stage"),
    ],
)
async def test_what_cannot_be_is_refused_before_anything_runs(
    builder: Builder, tmp_path: Path, more: dict[str, Any], field: str, words: str
) -> None:
    context = write_context(tmp_path / "web", HEAD)

    with pytest.raises(InvalidInput, match=words) as caught:
        await builder.build(context, **more)

    assert caught.value.field == field
    assert not builder.storage.exists()


async def test_the_digest_follows_what_the_build_reads(shared: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "web", HEAD, seen="x")
    (context / ".dockerignore").write_text("unseen\nlogs/\n!logs/kept\n")
    (context / "logs").mkdir()
    digests = [await digest_context(shared.request(context))]

    (context / "unseen").write_text("x")
    (context / "logs" / "lost").write_text("x")
    os.utime(context / "seen", (1, 1))
    assert await digest_context(shared.request(context)) == digests[0]
    for change in (
        lambda: (context / "seen").write_text("y"),
        lambda: (context / "seen").chmod(0o755),
        lambda: (context / "logs" / "kept").write_text("x"),
        lambda: (context / "link").symlink_to("/nowhere"),
    ):
        change()
        digests.append(await digest_context(shared.request(context)))
    for more in ({"target": "base"}, {"build_args": {"A": "1"}}, {"network": "none"}, {"epoch_s": 5}):
        digests.append(await digest_context(shared.request(context, **more)))

    assert len(set(digests)) == len(digests)


async def test_output_is_lines_without_control_characters() -> None:
    lines: list[str] = []
    script = r"printf '10%%\r20%%\r\033[31mred\033[0m\033]0;title\007 text\n\n'; head -c 10000 /dev/zero | tr '\0' x; exit 4"

    ended = await run_contained(["sh", "-c", script], timeout_s=30, report=lines.append)

    assert ended.exit_status == 4
    assert lines[:3] == ["10%", "20%", "red text"]
    assert "".join(lines[3:]) == "x" * 10000
    assert max(map(len, lines)) <= 4096


async def test_buildah_sees_no_more_of_the_context_than_the_digest(shared: Builder, tmp_path: Path) -> None:
    ignored = "node_modules\n*.log\n**/*.txt\n!a/b/keep.txt\n/a/nothing\nb/**\n!b/c\n?z\n*/deep\n[xy]w\n"
    context = write_context(tmp_path / "web", HEAD + "COPY . /ctx\nRUN find /ctx ! -type d\n")
    (context / ".dockerignore").write_text(ignored)
    names = [
        "node_modules/x",
        "top.log",
        "a/under.log",
        "a/b/keep.txt",
        "a/b/lose.txt",
        "a/nothing",
        "b/c",
        "b/d",
        "yz",
        "q/deep/f",
        "xw",
    ]
    for name in names:
        (context / name).parent.mkdir(parents=True, exist_ok=True)
        (context / name).touch()
    await shared.build(context)
    seen = {line.removeprefix("/ctx/") for line in shared.lines if line.startswith("/ctx/")}

    before = await digest_context(shared.request(context))
    noticed = set()
    for name in names:
        (context / name).write_text("changed")
        if await digest_context(shared.request(context)) != before:
            noticed.add(name)
        (context / name).write_text("")

    assert seen & set(names) == {"a/under.log", "a/b/keep.txt", "b/c"}
    assert noticed == (seen & set(names)) | {"xw"}  # character classes are not followed


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[str]:
    """Where Debian's docker-registry listens, empty."""
    if not HAS_REGISTRY:
        pytest.skip("docker-registry is not installed")
    with serve_registry(tmp_path / "registry") as server:
        yield server.host


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="skopeo is not installed")
@pytest.mark.parametrize("network", ["host", "none"])
async def test_base_images_are_pulled(shared: Builder, tmp_path: Path, registry: str, network: str) -> None:
    base = await shared.build(write_context(tmp_path / "base", HEAD + f"RUN echo base for {network}\nENV BASE=here\n"))
    pushed = await asyncio.create_subprocess_exec(
        "skopeo", "copy", "--quiet", "--dest-tls-verify=false", f"oci:{base}:latest", f"docker://{registry}/base:v1"
    )
    assert await pushed.wait() == 0
    context = write_context(tmp_path / "web", f"ARG TAG\nFROM {registry}/base:$TAG\nRUN [ $BASE = here ]\n")

    image = read_image(await shared.build(context, network=network, build_args={"TAG": "v1"}))

    assert len(image.layers) == 4
    with pytest.raises(HostError, match="v2"):
        await shared.build(context, network=network, build_args={"TAG": "v2"})


async def test_a_health_check_of_the_dockerfile_is_in_the_image(shared: Builder, tmp_path: Path) -> None:
    context = write_context(tmp_path / "web", HEAD + "HEALTHCHECK --interval=5s CMD wget -q http://localhost/\n")

    settings = read_image(await shared.build(context)).config.config

    assert settings is not None
    assert settings.healthcheck is not None
    assert settings.healthcheck.test == ("CMD-SHELL", "wget -q http://localhost/")
    assert settings.healthcheck.interval == 5 * 10**9
