"""Where on this host VMs' control groups can be: the subtree that the service manager delegated to volantd, a place that the
configuration names, or the top."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath

import msgspec

from volant.hypervisor.cgroup import PROCS, ControlGroups, Hierarchy
from volant.hypervisor.cgroup_limits import CONTROLLERS

DEFAULT_DATA = Path("/var/lib/volant")
NONE = "none"
"""The setting that means: no control groups."""
OWN = "volantd"
"""The group that volantd itself is in, in a subtree that is its own: version 2 wants processes in leaves only."""

_ESCAPES = {r"\040": " ", r"\011": "\t", r"\012": "\n", r"\134": "\\"}
_COMMON = {"blkio": "io"}
_DELEGATED = ("user.delegate", "trusted.delegate")


class Mounted(msgspec.Struct, frozen=True):
    """A mounted hierarchy. ``root`` is what of it is mounted, ``own`` this process's group in it."""

    version: int
    controllers: tuple[str, ...]
    at: Path
    root: str
    own: str
    is_named: bool = False

    @property
    def own_place(self) -> Path | None:
        """This process's group; None when it is outside of what is mounted."""
        try:
            return self.at / PurePosixPath(self.own).relative_to(self.root)
        except ValueError:
            return None


def find_control_groups(setting: str, name: str, *, proc: Path = Path("/proc/self")) -> ControlGroups:
    """What there is, as far as can be seen without a change. ``setting`` is the configuration's, ``name`` is what volantd's
    directory is called. What cannot be had is told by ``problems``; nothing raises."""
    return _gather(setting, name, proc, _foresee)


def prepare(groups: ControlGroups, setting: str, name: str, *, proc: Path = Path("/proc/self")) -> None:
    """Make the place for VMs' groups, with the controllers that there are, and have ``groups`` say what came of it. In a subtree
    that is its own volantd moves aside, into a group beside them. Repeatable; nothing raises."""
    made = _gather(setting, name, proc, _make)
    groups.hierarchies, groups.problems = made.hierarchies, made.problems


def _gather(setting: str, name: str, proc: Path, settle: Callable[[Mounted, Path, str, bool], Hierarchy]) -> ControlGroups:
    if setting == NONE:
        return ControlGroups((), ("control groups are switched off (cgroup = none)",))
    mounted = find_mounted(proc)
    delegated = find_delegated(mounted)
    hierarchies: list[Hierarchy] = []
    problems: list[str] = []
    for mount in mounted:
        if mount.is_named:
            continue
        parent = choose_parent(mount, setting, delegated)
        try:
            hierarchy = settle(mount, parent, name, delegated is not None and not setting)
        except OSError as error:
            problems.append(f"{', '.join(mount.controllers)}: {error.filename or parent}: {error.strerror}")
            continue
        if hierarchy.controllers:
            hierarchies.append(hierarchy)
    found = {_COMMON.get(controller, controller) for hierarchy in hierarchies for controller in hierarchy.controllers}
    lacking = [controller for controller in CONTROLLERS[2] if controller not in found]
    if lacking:
        problems.append(f"no {', '.join(lacking)} controller is to be had")
    return ControlGroups(hierarchies, problems)


def name_groups(data: Path) -> str:
    """What volantd's directory is called: another for each data directory, so that two on one host do not meet."""
    if data == DEFAULT_DATA:
        return "volant"
    return f"volant-{hashlib.sha256(os.fsencode(data)).hexdigest()[:8]}"


def describe_place(groups: ControlGroups) -> str:
    """One line for people."""
    return "; ".join(f"{'+'.join(one.controllers)} (v{one.version}) in {one.place}" for one in groups.hierarchies)


def find_mounted(proc: Path) -> list[Mounted]:
    """From /proc/self/mountinfo and cgroup (proc(5), cgroups(7)); of several mounts of one hierarchy the first that is whole."""
    own: dict[str, str] = {}
    for line in _read(proc / "cgroup").splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    found: dict[str, Mounted] = {}
    for line in _read(proc / "mountinfo").splitlines():
        before, _, after = line.partition(" - ")
        fields = before.split()
        kind, _, options = [*after.split(" ", 2), "", "", ""][:3]
        if kind not in ("cgroup", "cgroup2") or len(fields) < 5:
            continue
        at, root = Path(_unescape(fields[4])), _unescape(fields[3])
        if kind == "cgroup2":
            mount = Mounted(2, CONTROLLERS[2], at, root, own.get("", "/"))
        else:
            words = options.split(",")
            controllers = tuple(name for name in CONTROLLERS[1] if name in words)
            named = next((word for word in words if word.startswith("name=")), "")
            if not controllers and not named:
                continue
            mount = Mounted(1, controllers, at, root, own.get((controllers or (named,))[0], "/"), is_named=not controllers)
        key = f"{mount.version} {mount.controllers or mount.at}"
        # One that was bound over a part of the tree shows less than the others.
        if key not in found or len(found[key].root) > len(mount.root):
            found[key] = mount
    return list(found.values())


def find_delegated(mounted: Sequence[Mounted]) -> str | None:
    """The group that systemd has given us to divide (systemd's CGROUP_DELEGATION.md); None when it has not.

    Of a service it is of use only with ``DelegateSubgroup=volantd``: the next volantd would otherwise be started in a group that
    has groups with controllers below it, the VMs' that outlived the last, and the kernel refuses that. A scope starts once.
    """
    for mount in mounted:
        if mount.own_place is None or (mount.version == 1 and not mount.is_named):
            continue
        own = PurePosixPath(mount.own)
        group = own.parent if own.name == OWN else own if own.suffix == ".scope" else None
        if group is not None and _is_delegated(msgspec.structs.replace(mount, own=str(group)).own_place):
            return str(group)
    return None


def _is_delegated(place: Path | None) -> bool:
    for attribute in _DELEGATED:
        with suppress(OSError):
            if place is not None and os.getxattr(place, attribute) == b"1":
                return True
    return False


def choose_parent(mount: Mounted, setting: str, delegated: str | None) -> Path:
    """Where volantd's directory goes. VMs outlive the session that volantd was started from, so a group that is not ours to
    divide, a terminal's, is not the place."""
    if setting:
        return mount.at / setting.strip("/")
    if delegated is None:
        return mount.at
    try:
        return mount.at / PurePosixPath(delegated).relative_to(mount.root)
    except ValueError:
        return mount.at


def _foresee(mount: Mounted, parent: Path, name: str, is_own: bool) -> Hierarchy:
    if mount.version == 1:
        return Hierarchy(1, parent / name, mount.controllers)
    above = next(place for place in (parent, *parent.parents) if place.exists())
    offered = _read(above / "cgroup.controllers").split()
    return Hierarchy(2, parent / name, tuple(controller for controller in CONTROLLERS[2] if controller in offered))


def _make(mount: Mounted, parent: Path, name: str, is_own: bool) -> Hierarchy:
    """Raises OSError."""
    place = parent / name
    if mount.version == 1:
        place.mkdir(parents=True, exist_ok=True)
        return Hierarchy(1, place, mount.controllers)
    if not set(_read(mount.at / "cgroup.controllers").split()) & set(CONTROLLERS[2]):
        return Hierarchy(2, place, ())  # one that is mounted for other purposes, beside those of version 1
    if is_own:
        _move_into_leaf(parent)
    parent.mkdir(parents=True, exist_ok=True)
    above = mount.at
    _enable(above)
    for part in parent.relative_to(mount.at).parts:
        above /= part
        _enable(above)
    place.mkdir(exist_ok=True)
    enabled = _enable(place)
    if not enabled:
        place.rmdir()
    return Hierarchy(2, place, enabled)


def _move_into_leaf(own: Path) -> None:
    """All that runs in the group that is ours is volantd's: itself, and the holders of its VMs."""
    leaf = own / OWN
    leaf.mkdir(exist_ok=True)
    for pid in (own / PROCS).read_text().split():
        with suppress(ProcessLookupError):
            (leaf / PROCS).write_text(pid)


def _enable(directory: Path) -> tuple[str, ...]:
    """Have the groups below ``directory`` limited by what it has; return what they are limited by."""
    control = directory / "cgroup.subtree_control"
    for controller in set(_read(directory / "cgroup.controllers").split()) & set(CONTROLLERS[2]):
        if controller not in _read(control).split():
            with suppress(OSError):  # it shows by what is enabled afterwards
                control.write_text(f"+{controller}")
    enabled = _read(control).split()
    return tuple(controller for controller in CONTROLLERS[2] if controller in enabled)


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""


def _unescape(text: str) -> str:
    for escaped, plain in _ESCAPES.items():
        text = text.replace(escaped, plain)
    return text
