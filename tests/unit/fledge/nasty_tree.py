"""A tree with everything that is easily lost, made in an order of one's choice; and what a tree holds, to compare."""

from __future__ import annotations

import errno
import hashlib
import os
import random
import stat
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

# cap_net_bind_service=ep, as the kernel keeps it (linux/capability.h, revision 2).
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
NO_ID = 0xFFFFFFFF
# u::rw- u:70000:r-- g::r-- m::r-- o::r--, as linux/posix_acl_xattr.h has it.
ACL = struct.pack("<I", 2) + b"".join(
    struct.pack("<HHI", *entry) for entry in ((1, 6, NO_ID), (2, 4, 70000), (4, 4, NO_ID), (0x10, 4, NO_ID), (0x20, 4, NO_ID))
)
ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
LONG = b"n" * 254
DEEP = b"/".join([b"deep" * 10] * 20)

Make = Callable[[], None]


def make_nasty_tree(root: Path, seed: int, *, with_acl: bool = True, with_root_attribute: bool = True) -> Path:
    """Files are made and attributes set in an order that ``seed`` chooses; the tree is the same whatever it is."""
    chance = random.Random(seed)
    base = os.fsencode(root)
    attributes: dict[bytes, dict[str, bytes]] = {
        b"bin/ping": {"security.capability": CAPABILITY, "user.note": b"kept", "user.a": b"1", "trusted.z": b"2",
                      "user.big": b"v" * 500},
        b"private": {"trusted.dir": b"y"},
        **({b"etc/acl": {ACCESS: ACL}, b"shared": {DEFAULT: ACL}} if with_acl else {}),
        **({b".": {"user.root": b"r", "trusted.root": b"s"}} if with_root_attribute else {}),
    }  # fmt: skip
    owners = {b"bin/far": (70000, 4000000000), b"bin/mail": (0, 8), b"etc/link": (5, 6), b".": (12, 34)}
    modes = {
        b"bin/su": 0o4755, b"bin/mail": 0o2755, b"bin/ping": 0o755, b"tmp": 0o1777, b"private": 0o700, b".": 0o751,
        b"dev/console": 0o600, b"dev/disk": 0o660,
    }  # fmt: skip
    times = {b"bin/one": 1234567890, b"old": 1, b"etc/link": 500}
    contents = {
        b"bin/su": b"suid", b"bin/mail": b"sgid", b"bin/ping": b"cap", b"bin/far": b"far", b"bin/one": b"one of three",
        b"etc/acl": b"acl", b"etc/with space": b"s", b"etc/new\nline": b"n", b"etc/:colon": b"c", b"etc/$": b"d",
        b"etc/\ttab": b"t", b"etc/back\\slash \"q\" 'q'": b"q", LONG: b"long", DEEP + b"/leaf": b"deep", b"caf\xe9": b"latin",
        b"empty": b"", b"old": b"o", b"big": bytes(range(256)) * 2000, b"block": b"B" * 4096, b"odd": b"O" * 4097,
        **{b"many/name-%d" % number: b"%d" % number for number in range(300)},
        **{b"crowd/a-rather-long-name-%d" % number: b"" for number in range(600)},
    }  # fmt: skip
    links = {b"bin/two": b"bin/one", b"etc/three": b"bin/one", b"dev/console2": b"dev/console"}

    jobs: list[Make] = [lambda path=path, content=content: _write(base, path, content) for path, content in contents.items()]
    jobs += [
        lambda: _write_sparse(base, b"sparse"),
        lambda: _make_node(base, b"dev/console", stat.S_IFCHR, os.makedev(5, 1)),
        lambda: _make_node(base, b"dev/disk", stat.S_IFBLK, os.makedev(254, 70000)),
        lambda: _make_node(base, b"run/pipe", stat.S_IFIFO, 0),
        lambda: _make_node(base, b"run/socket", stat.S_IFSOCK, 0),
        lambda: os.symlink(b"../../../bin/one", _prepare(base, b"etc/link")),
        lambda: os.symlink(b"/" + b"t" * 1000, _prepare(base, b"etc/longlink")),
        *(lambda name=name: os.makedirs(os.path.join(base, name)) for name in (b"void", b"tmp", b"private", b"shared")),
    ]  # fmt: skip
    chance.shuffle(jobs)
    root.mkdir()
    for job in jobs:
        job()
    for name, target in sorted(links.items(), key=lambda _: chance.random()):
        os.link(os.path.join(base, target), os.path.join(base, name), follow_symlinks=False)

    for directory, names, files in os.walk(base, topdown=False):
        for path in (*(os.path.join(directory, name) for name in files + names), *([base] if directory == base else [])):
            relative = os.path.relpath(path, base)
            os.chown(path, *owners.get(relative, (0, 0)), follow_symlinks=False)
            if not os.path.islink(path):
                os.chmod(path, modes.get(relative, 0o755 if os.path.isdir(path) else 0o644))
            for attribute, value in sorted(attributes.get(relative, {}).items(), key=lambda _: chance.random()):
                os.setxattr(path, attribute, value)
            time_s = times.get(relative, 900)
            os.utime(path, (time_s + chance.randrange(10**6), time_s), follow_symlinks=False)
    for name in (b"bin/two", b"etc/three"):
        os.utime(os.path.join(base, name), (1234567890, 1234567890))
    return root


def _prepare(base: bytes, path: bytes) -> bytes:
    whole = os.path.join(base, path)
    os.makedirs(os.path.dirname(whole), exist_ok=True)
    return whole


def _write(base: bytes, path: bytes, content: bytes) -> None:
    with open(_prepare(base, path), "wb") as file:
        file.write(content)


def _write_sparse(base: bytes, path: bytes) -> None:
    with open(_prepare(base, path), "wb") as file:
        file.seek(3 << 20)
        file.write(b"end")
        file.truncate(5 << 20)


def _make_node(base: bytes, path: bytes, kind: int, device: int) -> None:
    os.mknod(_prepare(base, path), kind | 0o644, device)


def list_tree(root: Path) -> dict[str, Any]:
    """Everything of a tree that a guest can see, by path; and which paths are one file."""
    base = os.fsencode(root)
    found: dict[str, Any] = {}
    names: dict[int, list[str]] = {}
    for directory, directories, files in os.walk(base):
        for path in (*(os.path.join(directory, name) for name in directories + files), *([base] if directory == base else [])):
            facts = os.lstat(path)
            content = ""
            if stat.S_ISLNK(facts.st_mode):
                content = os.readlink(path).decode("latin-1")
            elif stat.S_ISREG(facts.st_mode):
                with open(path, "rb") as file:
                    content = hashlib.sha256(file.read()).hexdigest()
            relative = os.path.relpath(path, base).decode("latin-1")
            if not stat.S_ISDIR(facts.st_mode):
                names.setdefault(facts.st_ino, []).append(relative)
            found[relative] = [
                oct(facts.st_mode), facts.st_uid, facts.st_gid, facts.st_mtime_ns, facts.st_rdev, content,
                _read_attributes(path),
            ]  # fmt: skip
    found["hard links"] = sorted(sorted(paths) for paths in names.values() if len(paths) > 1)
    return found


def _read_attributes(path: bytes) -> dict[str, str]:
    try:
        names = os.listxattr(path, follow_symlinks=False)
    except OSError as error:
        # A squashfs without any attribute says that it knows none.
        if error.errno != errno.ENOTSUP:
            raise
        names = []
    # xfs shows its access control lists a second time.
    return {name: os.getxattr(path, name, follow_symlinks=False).hex() for name in sorted(names) if ".SGI_ACL_" not in name}


if __name__ == "__main__":
    import json
    import sys

    if sys.argv[1] == "list":
        sys.stdout.write(json.dumps(list_tree(Path(sys.argv[2]))))
    else:
        make_nasty_tree(Path(sys.argv[2]), int(sys.argv[3]), with_acl=False, with_root_attribute=False)
