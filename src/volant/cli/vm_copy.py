"""``volar vms cp``."""

from __future__ import annotations

import os
import posixpath
import re
import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from volant.cli.output import print_document
from volant.cli.progress import Say, show_progress
from volant.cli.session import Session, pass_session
from volant.core.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from volant.client.vms import VMs

STREAM = "-"
SAY_EVERY_BYTES = 1024 * 1024
_REMOTE = re.compile(r"([a-z0-9][a-z0-9.-]*):(.*)", re.DOTALL)
_LINKS = 40


class Place(NamedTuple):
    """``vm`` is empty for this machine. ``of_contents``: written with ``/.`` at its end."""

    vm: str
    path: str

    @property
    def is_directory_wanted(self) -> bool:
        return self.path.endswith(("/", "/.")) or self.path == "."

    @property
    def of_contents(self) -> bool:
        return self.path.endswith("/.") or self.path == "."


@click.command(
    name="cp",
    epilog="""
    \b
    Examples:
      volar vms cp site/. web:/srv/www
      volar vms cp web:/etc/nginx/nginx.conf .
      volar vms cp web:/var/log/nginx logs
      tar c site | volar vms cp - web:/srv
      volar vms cp a:/data - | volar vms cp - b:/

    One of both is VM:PATH; a path of this machine with a colon in it is written ./PATH. A directory goes into a directory
    that is there; SRC/. stands for what is in it. What is copied into a VM is root's there, unless --owner or --archive say
    otherwise. Modes and times are kept.
    """,
)
@click.argument("source", metavar="SRC")
@click.argument("target", metavar="DST")
@click.option("-L", "--follow-link", is_flag=True, help="Copy what SRC points to, when it is a link.")
@click.option("-a", "--archive", is_flag=True, help="Keep numeric owners.")
@click.option("--owner", metavar="UID[:GID]", help="Into a VM: whose all of it becomes.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print how much it was as JSON.")
@pass_session
def copy(
    session: Session,
    source: str,
    target: str,
    follow_link: bool,
    archive: bool,
    owner: str | None,
    quiet: bool,
    as_json: bool,
) -> None:
    """Copy files from SRC to DST, one of which is in a VM."""
    here, there = read_place(source), read_place(target)
    if bool(here.vm) == bool(there.vm):
        hint = f"through this machine: volar vms cp {source} - | volar vms cp - {there.vm}:DIRECTORY" if here.vm else "VM:PATH"
        raise InvalidInput("one of SRC and DST is in a VM", hint=hint)
    if owner is not None and (archive or here.vm):
        raise InvalidInput("--owner is for copies into a VM, and not together with --archive", field="--owner")
    vms = session.client.vms
    with show_progress(quiet or as_json or STREAM in (source, target)) as say:
        done = (
            _copy_out(vms, here, target, follow=follow_link, owners=archive, say=say)
            if here.vm
            else _copy_in(vms, source, there, follow=follow_link, owner=owner if owner or archive else "0:0", say=say)
        )
    if as_json and target != STREAM:
        print_document(done._asdict())
    elif not quiet and (done.skipped or done.torn):
        if done.skipped:
            click.echo(f"volar: {done.skipped} sockets or devices were passed over", err=True)
        if done.torn:
            click.echo(f"volar: {done.torn} files shrank while they were read, and were padded with zeros", err=True)


class Copied(NamedTuple):
    entries: int
    bytes: int
    skipped: int = 0
    torn: int = 0


def read_place(text: str) -> Place:
    found = _REMOTE.fullmatch(text)
    if found is None:
        return Place("", text)
    path = found[2]
    if not path:
        raise InvalidInput(f"{text} names no path", hint=f"{text}/")
    return Place(found[1], path if path.startswith("/") else f"/{path}")


def _copy_out(vms: VMs, source: Place, target: str, *, follow: bool, owners: bool, say: Say) -> Copied:
    from volant.client.extract import Extractor, extract

    path = _follow(vms, source) if follow else source.path
    if target == STREAM:
        with vms.read_files(source.vm, path) as archive:
            size = 0
            for chunk in archive:
                sys.stdout.buffer.write(chunk)
                size += len(chunk)
            sys.stdout.buffer.flush()
            return Copied(0, size, archive.skipped, archive.torn)
    # What is there decides where it goes, so the question is asked before anything is made here.
    found = vms.stat_file(source.vm, path)
    directory, rename = _place_here(target, is_directory=found["type"] == "directory", contents=source.of_contents)
    if rename is None:
        rename = posixpath.basename(posixpath.normpath(source.path)) or "root"
    with vms.read_files(source.vm, path) as archive:
        with Extractor(directory, rename=rename, owners=owners) as extractor:
            done = extract(_counted(archive, say, f"from {source.vm}"), extractor)
        return Copied(done.entries, done.bytes, archive.skipped, archive.torn)


def _place_here(target: str, *, is_directory: bool, contents: bool) -> tuple[str, str | None]:
    """The directory to unpack in; what the first part of names becomes, None for the last of the source's path."""
    if os.path.isdir(target):  # noqa: PTH112  # pathlib starts slower
        return target, "" if contents and is_directory else None
    if os.path.lexists(target):
        if is_directory:
            raise InvalidInput(f"{target} is there and is no directory", hint="name a directory to copy into")
        return _split(target)
    if target.endswith("/") and not is_directory:
        raise InvalidInput(f"{target} is not there", hint="make the directory first")
    return _split(target)


def _split(target: str) -> tuple[str, str]:
    directory, name = os.path.split(target.rstrip("/"))
    return directory or ".", name


def _copy_in(vms: VMs, source: str, target: Place, *, follow: bool, owner: str | None, say: Say) -> Copied:
    if source == STREAM:
        made = vms.write_files(
            target.vm, target.path, _counted(_read_stdin(), say, f"to {target.vm}"), owner=None if owner == "0:0" else owner
        )
        return Copied(int(made["entries"]), int(made["bytes"]))
    from volant.client.pack import Packer

    if not os.path.lexists(source):
        raise InvalidInput(f"{source} is not there", field="SRC")
    place = Place("", source)
    is_directory = os.path.isdir(source) and (follow or place.is_directory_wanted or not os.path.islink(source))  # noqa: PTH112, PTH114
    directory, name = _place_there(vms, place, target, is_directory=is_directory)
    packer = Packer(source, name, follow=follow or place.is_directory_wanted)
    made = vms.write_files(target.vm, directory, _counted(packer, say, f"to {target.vm}"), owner=owner)
    return Copied(int(made["entries"]), int(made["bytes"]), packer.skipped, packer.torn)


def _place_there(vms: VMs, source: Place, target: Place, *, is_directory: bool) -> tuple[str, str]:
    """The directory in the VM, and what the names in it begin with."""
    base = os.path.basename(os.path.abspath(source.path))  # noqa: PTH100, PTH119
    kind = _type_there(vms, target)
    if kind == "directory":
        return target.path, "." if is_directory and source.of_contents else base
    if kind and is_directory:
        raise InvalidInput(f"{target.vm}:{target.path} is there and is no directory", hint="name a directory to copy into")
    if not kind and not is_directory and target.is_directory_wanted:
        raise NotFound(f"{target.vm}:{target.path} is not there", hint=f"volar vms exec {target.vm} -- mkdir -p {target.path}")
    directory, name = posixpath.split(posixpath.normpath(target.path))
    return directory, name


def _type_there(vms: VMs, place: Place) -> str:
    """What is at a path of a VM, a link to a directory being one; empty for nothing."""
    try:
        found = vms.stat_file(place.vm, place.path)
        if found["type"] == "symlink":
            found = vms.stat_file(place.vm, _follow(vms, place))
    except NotFound as error:
        vms.get(place.vm)  # it may be the VM that is not there
        del error
        return ""
    return str(found["type"])


def _follow(vms: VMs, place: Place) -> str:
    """The path of what the links at ``place`` lead to."""
    path = place.path
    for _ in range(_LINKS):
        found = vms.stat_file(place.vm, path)
        if found["type"] != "symlink":
            return path
        path = posixpath.normpath(posixpath.join(posixpath.dirname(path.rstrip("/")), str(found["target"])))
    raise InvalidInput(f"{place.vm}:{place.path} is a link that leads nowhere")


def _read_stdin() -> Iterator[bytes]:
    while chunk := os.read(0, 64 * 1024):
        yield chunk


def _counted(chunks: Iterable[bytes], say: Say, where: str) -> Iterator[bytes]:
    seen = said = 0
    for chunk in chunks:
        seen += len(chunk)
        if seen - said >= SAY_EVERY_BYTES and sys.stderr.isatty():
            said = seen
            say(f"{seen // SAY_EVERY_BYTES} MiB {where}")
        yield chunk
