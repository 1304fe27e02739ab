"""Images from a Dockerfile, by buildah: steps run as root in a chroot, layers are kept, and the same inputs give the same image.

A chroot is no sandbox: whoever writes the Dockerfile can do to this host what root can, but for what namespaces hide.
"""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Literal

import msgspec

from volant.core.errors import CommandFailed, HostError, InvalidInput, TimedOut
from volant.fledge.cache import Workspace, derive_key
from volant.fledge.dockerfile.buildah import Buildah, open_buildah
from volant.fledge.dockerfile.containment import Contained, Report, may_contain
from volant.fledge.dockerfile.dockerignore import find_ignore_file, is_ignored, read_patterns
from volant.fledge.dockerfile.instructions import read_bases, refuse_heredocs
from volant.fledge.source.directory import digest_directory
from volant.fledge.source.docker_archive import unpack_docker_archive
from volant.fledge.source.oci import machine_platform

FORMAT = 2
"""Goes up when the same inputs give another image."""

BUILD_TIMEOUT_S = 3600.0
PULL_TIMEOUT_S = 1800.0
PUSH_TIMEOUT_S = 1800.0
DOCKERFILE_MAX_BYTES = 1024 * 1024
SECRET_MAX_BYTES = 500 * 1024
"""As BuildKit has it."""

NAME, TAG = "fledge", "latest"
SAID_LINES = 5
"""How much of a failed step's output its error carries."""

_ID = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
_ARGUMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PLATFORM = re.compile(r"linux/[a-z0-9_]+(/[a-z0-9]+)?")
_STEP = re.compile(r"STEP \d+/\d+: ")
_FAILED = re.compile(r"""Error: (?:error )?building at STEP (?P<step>".*"): (?P<why>.*)""")


class BuildSecret(msgspec.Struct, frozen=True):
    """What ``RUN --mount=type=secret,id=ID`` sees. Neither key nor record nor image knows what is in it."""

    id: str
    path: Path


class DockerfileRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``dockerfile`` is ``Dockerfile`` or ``Containerfile`` in the context unless given; ``platform`` is that of this machine.

    ``epoch_s`` becomes the time of all files that the build makes and of the image itself; builds with another share no layers.
    ``network`` is what RUN steps have: base images are pulled in either case. ``pull`` says when a base that is kept is asked for
    again.
    """

    context: Path
    dockerfile: Path | None = None
    target: str = ""
    build_args: dict[str, str] = {}
    secrets: tuple[BuildSecret, ...] = ()
    platform: str = ""
    network: Literal["host", "none"] = "host"
    pull: Literal["newer", "missing", "always", "never"] = "newer"
    auth_file: Path | None = None
    epoch_s: int
    timeout_s: float = BUILD_TIMEOUT_S


async def digest_context(request: DockerfileRequest) -> str:
    """64 hexadecimal digits over all of the request and of its context that can change the image, base images apart.

    A secret counts by its id alone, as in buildah's own cache of layers: what is in it leaves no trace.

    Raises:
        InvalidInput: a part of the request cannot be.
    """
    dockerfile = await asyncio.to_thread(check_request, request)

    def digest() -> str:
        patterns = read_patterns(find_ignore_file(request.context, dockerfile))
        has_exceptions = any(pattern.is_exception for pattern in patterns)
        # Only without exceptions does nothing below an ignored directory come back.
        return digest_directory(
            request.context, is_left_out=lambda path, is_dir: is_ignored(path, patterns) and not (is_dir and has_exceptions)
        )

    text = await asyncio.to_thread(dockerfile.read_bytes)
    return derive_key(
        "dockerfile", FORMAT, await asyncio.to_thread(digest), text, request.target, request.build_args,
        [secret.id for secret in request.secrets], request.platform, request.network, request.epoch_s,
    )  # fmt: skip


async def build_dockerfile(
    request: DockerfileRequest, layout: Path, storage: Path, workspace: Workspace, report: Report | None = None
) -> None:
    """Build the image and write it to ``layout``, absent or empty, as an OCI layout with the tag ``latest``. Paths are absolute.

    Layers are kept in the directory ``storage`` (see ``buildah``); ``report`` gets what the build prints. When this returns or
    raises, nothing that the build started runs any more.

    Raises:
        InvalidInput: a part of the request cannot be. HostError: a step failed, or this host cannot build.
        TimedOut: no end after ``request.timeout_s``.
    """
    dockerfile = await asyncio.to_thread(check_request, request)
    if not await asyncio.to_thread(may_contain):
        raise HostError("only root can build a Dockerfile: its steps run as root in a chroot", hint="run fledge with sudo")
    secrets = await asyncio.to_thread(_read_secrets, request.secrets)

    def say(line: str) -> None:
        if report is not None:
            report(_hide(line, secrets))

    kind = f"{request.epoch_s}-{request.platform or machine_platform()}".replace("/", "-")
    async with open_buildah(storage, kind, workspace) as buildah:
        if request.network == "none":
            await _pull_bases(buildah, request, dockerfile, say)
        id_file = workspace.path / "image-id"
        ended = await _run_steps(buildah, request, dockerfile, id_file, say)
        if ended.exit_status != 0:
            raise _explain(dockerfile, [_hide(line, secrets) for line in ended.tail], ended.exit_status)
        image_id = (await asyncio.to_thread(id_file.read_text)).strip()
        archive = workspace.path / "image.tar"
        # In Docker's own format and as its archive, for OCI's has no place for HEALTHCHECK.
        pushed = await buildah.run(
            ["push", *buildah.policy_options, "--quiet", image_id, f"docker-archive:{archive}:{NAME}:{TAG}"],
            timeout_s=PUSH_TIMEOUT_S, is_online=False,
        )  # fmt: skip
        if pushed.exit_status != 0:
            raise HostError(f"buildah cannot write the image: {_last_line(pushed)}")
    await asyncio.to_thread(layout.mkdir, exist_ok=True)
    await asyncio.to_thread(unpack_docker_archive, archive, layout, TAG, is_settled=True)


def check_request(request: DockerfileRequest) -> Path:
    """The Dockerfile of a request whose every part can be. Raises InvalidInput, whose ``field`` is a key of ``[source]``."""
    if not request.context.is_dir():
        raise InvalidInput(f"the build context {request.context} is no directory", field="source.context")
    dockerfile = _find_dockerfile(request)
    for name in request.build_args:
        if not _ARGUMENT.fullmatch(name):
            raise InvalidInput(f"{name!r} is no name of a build argument", field="source.build_args")
    for secret in request.secrets:
        if not _ID.fullmatch(secret.id):
            raise InvalidInput(f"{secret.id!r} is no id of a build secret", field="source.secrets")
        if "," in str(secret.path.absolute()):
            raise InvalidInput(f"the path of the build secret {secret.id} has a comma, which ends it", field="source.secrets")
    if request.platform and not _PLATFORM.fullmatch(request.platform):
        raise InvalidInput(f"{request.platform!r} is no platform", field="source.platform", hint="for example linux/amd64")
    if request.target.startswith("-"):
        raise InvalidInput(f"{request.target!r} is no build stage", field="source.target")
    with dockerfile.open("rb") as stream:
        content = stream.read(DOCKERFILE_MAX_BYTES + 1)
    if len(content) > DOCKERFILE_MAX_BYTES:
        raise InvalidInput(f"{dockerfile} is larger than {DOCKERFILE_MAX_BYTES} bytes", field="source.dockerfile")
    refuse_heredocs(content.decode("utf-8", "replace"), dockerfile)
    return dockerfile


def _find_dockerfile(request: DockerfileRequest) -> Path:
    if request.dockerfile is not None:
        if not request.dockerfile.is_file():
            raise InvalidInput(f"there is no Dockerfile {request.dockerfile}", field="source.dockerfile")
        return request.dockerfile.absolute()
    for name in ("Dockerfile", "Containerfile"):
        if (request.context / name).is_file():
            return (request.context / name).absolute()
    raise InvalidInput(f"{request.context} has no Dockerfile", field="source.dockerfile", hint="name it with --dockerfile")


def _read_secrets(wanted: tuple[BuildSecret, ...]) -> tuple[str, ...]:
    found = []
    for secret in wanted:
        try:
            with secret.path.open("rb") as stream:
                content = stream.read(SECRET_MAX_BYTES + 1)
        except OSError as error:
            raise InvalidInput(
                f"the build secret {secret.id}: {secret.path} cannot be read: {error.strerror}", field="source.secrets"
            ) from error
        if len(content) > SECRET_MAX_BYTES:
            raise InvalidInput(f"the build secret {secret.id} is larger than {SECRET_MAX_BYTES} bytes", field="source.secrets")
        # Output comes in lines, so a secret is looked for line by line; three letters would be found everywhere.
        found += [line for line in content.decode("utf-8", "replace").split() if len(line) > 3]
    return tuple(found)


def _hide(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, "***")
    return text


async def _pull_bases(buildah: Buildah, request: DockerfileRequest, dockerfile: Path, report: Report) -> None:
    policy = {"newer": "ifnewer", "missing": "missing", "always": "always", "never": "never"}[request.pull]
    text = await asyncio.to_thread(dockerfile.read_text, "utf-8", "replace")
    for base in read_bases(text, request.build_args):
        pulled = await buildah.run(
            [
                "pull", *buildah.policy_options, "--quiet", "--policy", policy,
                *_platform_options(request), *_auth_options(request), "--", base,
            ],
            timeout_s=PULL_TIMEOUT_S, report=report,
        )  # fmt: skip
        if pulled.exit_status != 0:
            raise HostError(f"{base} cannot be pulled: {_last_line(pulled)}", hint="check its name and that you may read it")


async def _run_steps(buildah: Buildah, request: DockerfileRequest, dockerfile: Path, id_file: Path, report: Report) -> Contained:
    pull = {"newer": "true", "missing": "false", "always": "always", "never": "never"}[request.pull]
    ignore_file = find_ignore_file(request.context, dockerfile)
    step = dockerfile.name

    def watch(line: str) -> None:
        nonlocal step
        if _STEP.match(line):
            step = line
        report(line)

    try:
        return await buildah.run(
            [
                "bud", *buildah.policy_options, "--isolation", "chroot", "--layers", "--force-rm", "--format", "docker",
                "--identity-label=false", "--timestamp", str(request.epoch_s), "--uts", "host", "--network", "host",
                "--iidfile", id_file, "--file", dockerfile, "--pull=" + ("never" if request.network == "none" else pull),
                *(["--ignorefile", str(ignore_file)] if ignore_file is not None else []),
                *(["--target", request.target] if request.target else []),
                *(f"--build-arg={name}={value}" for name, value in request.build_args.items()),
                *(f"--secret=id={secret.id},src={secret.path.absolute()}" for secret in request.secrets),
                *_platform_options(request), *_auth_options(request), "--", request.context.absolute(),
            ],
            timeout_s=request.timeout_s, is_online=request.network == "host", report=watch,
        )  # fmt: skip
    except TimedOut as error:
        raise TimedOut(
            f"{dockerfile}: no end after {request.timeout_s:g} s, in {step}", hint="mend the step, or give the build more time"
        ) from error


def _platform_options(request: DockerfileRequest) -> list[str]:
    return ["--platform", request.platform] if request.platform else []


def _auth_options(request: DockerfileRequest) -> list[str]:
    return ["--authfile", str(request.auth_file.absolute())] if request.auth_file is not None else []


def _explain(dockerfile: Path, tail: list[str], exit_status: int) -> HostError:
    printed = [line for line in tail if not line.startswith(("subprocess exited", "STEP ", "--> "))]
    at = next((at for at, line in enumerate(printed) if _FAILED.match(line)), None)
    if at is None:
        return CommandFailed(("buildah",), exit_status, "\n".join(printed))
    failed = _FAILED.match(printed[at])
    assert failed is not None
    said = f"; it said: {' | '.join(printed[max(0, at - SAID_LINES) : at])}" if at else ""
    return HostError(
        f"{dockerfile}: the step {failed['step']} failed: {failed['why']}{said}",
        hint="mend the step and build again: the steps before it are kept",
    )


def _last_line(ended: Contained) -> str:
    return ended.tail[-1].removeprefix("Error: ") if ended.tail else f"status {ended.exit_status}"
