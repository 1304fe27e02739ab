"""Images in the storage of a Docker or podman on this machine.

Taken out by their own ``save``, not by skopeo: the programs know their sockets, contexts and storage, and the skopeo of Debian 12
speaks an API that newer Dockers refuse.
"""

from __future__ import annotations

import asyncio
import os
import re
import shutil
from pathlib import Path

import msgspec

from volant.core.errors import CommandFailed, DiskFull, HostError, InvalidInput
from volant.fledge.cache import Workspace
from volant.fledge.source.docker_archive import unpack_docker_archive
from volant.run import build_environment, run

PROGRAMS = ("docker", "podman")
LOOK_TIMEOUT_S = 15.0
SAVE_TIMEOUT_S = 1800.0

# What says where Docker's daemon or podman's storage is.
_PASSED_ON = (
    "DOCKER_HOST", "DOCKER_CONTEXT", "DOCKER_CONFIG", "DOCKER_CERT_PATH", "DOCKER_TLS_VERIFY", "SSH_AUTH_SOCK",
    "CONTAINER_HOST", "CONTAINERS_CONF", "CONTAINERS_STORAGE_CONF", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME", "XDG_DATA_HOME",
)  # fmt: skip
_IMAGE_ID = re.compile(r"(?:sha256:)?([0-9a-f]{64})")
_REFERENCE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:/@-]{0,511}")


class LocalImage(msgspec.Struct, frozen=True):
    """``image_id`` is ``sha256:…`` and changes with the image; which program has it says ``program``."""

    program: str
    reference: str
    image_id: str


async def find_local_image(reference: str, platform: str = "") -> LocalImage | None:
    """The image called ``reference`` that Docker, or else podman, has here; None when neither has it or answers.

    With ``platform`` (``os/arch``) an image for another one is passed over.

    Raises:
        InvalidInput: no image can be called so.
    """
    if not _REFERENCE.fullmatch(reference):
        raise InvalidInput(f"{reference!r} is no name of an image", field="source.image", hint="for example nginx:1.25")
    for program in PROGRAMS:
        if shutil.which(program, path=build_environment()["PATH"]) is None:
            continue
        try:
            looked = await run(
                [program, "image", "inspect", "--format", "{{.Id}} {{.Os}}/{{.Architecture}}", reference],
                timeout_s=LOOK_TIMEOUT_S, env=_read_environment(),
            )  # fmt: skip
        except CommandFailed:
            continue  # not there, or no daemon behind the program
        image_id, _, found = looked.text.strip().partition(" ")
        named = _IMAGE_ID.fullmatch(image_id)
        if named and (not platform or "/".join(platform.split("/")[:2]) == found):
            return LocalImage(program, reference, f"sha256:{named[1]}")
    return None


async def export_local_image(image: LocalImage, layout: Path, workspace: Workspace) -> None:
    """Write ``image`` into the empty directory ``layout`` as an OCI layout. The workspace must have room for it once more.

    Raises:
        HostError: it cannot be taken out. DiskFull: there is no room.
    """
    archive = workspace.path / "saved.tar"
    try:
        # By its id: the name may lead to another image by now.
        await run(
            [image.program, "save", "--output", archive, image.image_id],
            timeout_s=SAVE_TIMEOUT_S, env=_read_environment(), pass_fds=(workspace.lock_fd,),
        )  # fmt: skip
    except CommandFailed as error:
        if "no space left" in error.stderr_tail.lower():
            raise DiskFull(f"no room for {image.reference}", hint="move the cache with --cache-dir") from error
        raise HostError(
            f"{image.program} has {image.reference} and does not hand it out: {error}",
            hint=f"try {image.program} save --output image.tar {image.reference}, and give that file",
        ) from error
    try:
        await asyncio.to_thread(unpack_docker_archive, archive, layout)
    finally:
        archive.unlink(missing_ok=True)


def _read_environment() -> dict[str, str]:
    return {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
