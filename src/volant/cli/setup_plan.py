"""What there is to do on a host, one step at a time, and the record of what was done, by which it is taken away again."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, NamedTuple

import msgspec

from volant.cli.setup_files import Wanted
from volant.core.errors import InvalidInput, WrongState

RECORD = "/etc/volant/setup.json"
Action = Literal["make", "write", "update", "keep", "remove", "leave"]


class Step(NamedTuple):
    """``leave`` is for what was changed since, ``keep`` for what is as it should be."""

    action: Action
    path: str
    why: str
    content: str | None = None
    mode: int = 0o644


class Record(msgspec.Struct, kw_only=True):
    """What setup made: files with the sha256 of their content, directories, and the group when it was not there before.

    ``data_dir`` is where volantd was told to keep its data, whoever made that."""

    files: dict[str, str] = {}
    directories: list[str] = []
    group: bool = False
    data_dir: str = ""


class Host:
    """The file system that is set up, seen from ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def at(self, path: str) -> Path:
        return self.root / path.lstrip("/")

    def read_record(self) -> Record:
        """Raises InvalidInput for one that setup did not write."""
        try:
            return msgspec.json.decode(self.at(RECORD).read_bytes(), type=Record)
        except FileNotFoundError:
            return Record()
        except (OSError, msgspec.DecodeError) as error:
            raise InvalidInput(f"{self.at(RECORD)} cannot be read: {error}") from error

    def write_record(self, record: Record) -> None:
        self.write(RECORD, msgspec.json.format(msgspec.json.encode(record), indent=2).decode() + "\n", 0o644)

    def digest(self, path: str) -> str | None:
        """None when nothing is there. Raises WrongState for what is no regular file."""
        found = self.at(path)
        try:
            mode = found.lstat().st_mode
        except FileNotFoundError:
            return None
        if not stat.S_ISREG(mode):
            raise WrongState(f"{found} is there and is no file", hint="move it away, then run volar setup again")
        return hashlib.sha256(found.read_bytes()).hexdigest()

    def write(self, path: str, content: str, mode: int) -> None:
        """Whole or not at all, with the directories that lead there."""
        target = self.at(path)
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.volant-setup")
        try:
            with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode), "w", encoding="utf-8") as file:  # noqa: PTH123
                file.write(content)
                os.fchmod(file.fileno(), mode)
                file.flush()
                os.fsync(file.fileno())
            beside.replace(target)
        except OSError:
            beside.unlink(missing_ok=True)
            raise


def plan_setup(
    host: Host, record: Record, directories: Iterable[tuple[str, int]], files: Iterable[Wanted]
) -> tuple[list[Step], list[str]]:
    """The steps, and what stands in the way: files that setup did not write, or that somebody changed since."""
    steps: list[Step] = []
    in_the_way: list[str] = []
    for path, mode in directories:
        there = host.at(path)
        if there.exists() and not there.is_dir():
            in_the_way.append(f"{there} is no directory")
        else:
            steps.append(Step("keep" if there.is_dir() else "make", path, "", mode=mode))
    for wanted in files:
        found = host.digest(wanted.path)
        is_right = found == digest_of(wanted.content)
        if found is None:
            steps.append(Step("write", wanted.path, wanted.why, wanted.content))
        elif is_right or wanted.is_config:
            steps.append(Step("keep", wanted.path, wanted.why, wanted.content if is_right else None))
        elif found == record.files.get(wanted.path):
            steps.append(Step("update", wanted.path, wanted.why, wanted.content))
        else:
            in_the_way.append(f"{host.at(wanted.path)} is somebody else's, or was changed")
    return steps, in_the_way


def carry_out(host: Host, record: Record, steps: Iterable[Step]) -> None:
    """Do the steps; the record is written before each, so that what was begun can be taken away."""
    for step in steps:
        if step.action == "make":
            record.directories.append(step.path)
            host.write_record(record)
            host.at(step.path).mkdir(mode=step.mode, parents=True, exist_ok=True)
            host.at(step.path).chmod(step.mode)
        elif step.action in ("write", "update"):
            assert step.content is not None
            record.files[step.path] = digest_of(step.content)
            host.write_record(record)
            host.write(step.path, step.content, step.mode)


def plan_removal(host: Host, record: Record, *, purge: bool = False) -> list[Step]:
    """What setup made, as far as it is still that; with ``purge`` the data directory too, with all that it holds."""
    steps: list[Step] = []
    if purge and record.data_dir and host.at(record.data_dir).is_dir():
        steps.append(Step("remove", record.data_dir, "with all that it holds"))
    for path, digest in record.files.items():
        found = host.digest(path)
        if found is not None:
            steps.append(Step("remove" if found == digest else "leave", path, "" if found == digest else "it was changed"))
    for path in reversed(record.directories):
        there = host.at(path)
        if not there.is_dir() or (purge and path == record.data_dir):
            continue
        left = {each.name for each in there.iterdir()}
        gone = {Path(step.path).name for step in steps if step.action == "remove" and Path(step.path).parent == Path(path)}
        gone |= {Path(RECORD).name} if path == str(Path(RECORD).parent) else set()
        steps.append(Step("remove", path, "") if left <= gone else Step("leave", path, "it is not empty"))
    return steps


def remove(host: Host, record: Record, steps: Iterable[Step], *, purge: bool = False) -> None:
    import shutil

    host.at(RECORD).unlink(missing_ok=True)
    for step in steps:
        if step.action != "remove":
            continue
        there = host.at(step.path)
        if not there.is_dir():
            there.unlink(missing_ok=True)
        elif purge and step.path == record.data_dir:
            shutil.rmtree(there)
        else:
            with contextlib.suppress(OSError):  # somebody put something in it just now: theirs
                there.rmdir()


def digest_of(content: str) -> str:
    return hashlib.sha256(content.encode()).hexdigest()
