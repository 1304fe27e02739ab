"""Who decides which field of a resource: those that apply files, each its own fields, and those that edit by hand.

As in Kubernetes' server-side apply: who applies a file decides what stands in it. A field that another decides is a conflict,
unless both want the same, and then both decide it. A field that is no longer in the file is left to others, or to its default.
Who edits by hand takes what they change from everybody else.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from volant.core.changes import EFFECTS
from volant.core.errors import FieldConflict, InvalidInput
from volant.core.field_paths import (
    MISSING,
    NO_SHAPE,
    Path,
    PathSet,
    Shape,
    find_value,
    format_path,
    list_leaves,
    parse_path,
    put_value,
    same_value,
    spell_out,
    take_away,
)
from volant.core.resource import Resource

EDITOR = "api"
"""Who decides what is changed by a request of its own, unless the request says another name."""

MAX_MANAGERS = 32
MAX_PATHS = 2000
MAX_NAME_CHARS = 63

Managers = Mapping[str, tuple[str, ...]]

NOT_CONFIGURED: dict[str, frozenset[str]] = {
    "VM": frozenset(field for field, effect in EFFECTS.items() if effect == "steering" and field != "power"),
    "Deployment": frozenset({"target", "promoted"}),
    # Its labels, too, are its manifest's.
    "Plugin": frozenset({"labels", "version", "previous"}),
}
"""Fields that verbs of the API change, or that follow from others. A file may hold them, as it was printed, and they are passed
over."""

AT_FIRST: dict[str, frozenset[str]] = {"VM": frozenset({"snapshot"})}
"""Of those, fields that a file decides when the resource is made."""

WHOLE: dict[str, frozenset[Path]] = {"Plugin": frozenset({("manifest",), ("signed",)})}
"""Maps that are decided as one."""

OWN_LABELS = "volant."


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """What is asked for when one applies: the fields of the resource, and who decides them once that is so."""

    document: dict[str, Any]
    mine: tuple[Path, ...]


def check_manager(name: str, field: str = "manager") -> str:
    """Return ``name`` when one may decide under it. Raises InvalidInput."""
    if not 0 < len(name) <= MAX_NAME_CHARS or not all(c.isascii() and (c.isalnum() or c in "-_./@") for c in name):
        raise InvalidInput(
            f"{name[:80]!r} cannot be a manager's name",
            field=field,
            hint=f"1 to {MAX_NAME_CHARS} letters, digits and - _ . / @",
        )
    return name


def describe_fields(resource: Resource[Any, Any]) -> dict[str, Any]:
    """What somebody decides of a resource, as a flat object that leaves no default out."""
    left_out = NOT_CONFIGURED.get(resource.kind, frozenset())
    labels = {key: value for key, value in resource.meta.labels.items() if not key.startswith(OWN_LABELS)}
    fields = {"labels": labels, **spell_out(resource.spec)}
    return {field: value for field, value in fields.items() if field not in left_out}


def plan_apply(
    kind: str,
    before: dict[str, Any] | None,
    managers: Managers,
    manager: str,
    applied: dict[str, Any],
    shape: Shape = NO_SHAPE,
) -> Plan:
    """What ``manager`` asks for with the fields ``applied``, of a resource that is ``before``, or is to be made.

    By the ``shape`` of its spec, an optional map goes whole with the last of its fields that somebody decides, and what has no
    default stays as it is.

    Raises:
        InvalidInput: too many fields.
    """
    left_out = NOT_CONFIGURED.get(kind, frozenset())
    leaves = {
        path: value for path, value in list_leaves(applied, WHOLE.get(kind, ())) if path[0] not in left_out and not _is_own(path)
    }
    if len(leaves) > MAX_PATHS:
        raise InvalidInput(f"a document has at most {MAX_PATHS} values, and this has {len(leaves)}")
    document = copy.deepcopy(before or {})
    others = PathSet(path for name, paths in managers.items() if name != manager for path in read_paths(paths))
    mine = PathSet(leaves)
    held = PathSet((*mine.paths, *others.paths))
    for path in read_paths(managers.get(manager, ())):
        if path not in mine and not mine.has_below(path) and path not in others and not others.has_below(path):
            _let_go(document, path, held, shape)
    for path, value in leaves.items():
        put_value(document, path, value)
    if before is None:
        document |= {field: applied[field] for field in AT_FIRST.get(kind, ()) if applied.get(field) is not None}
    return Plan(document=document, mine=tuple(leaves))


def decide_managers(
    plan: Plan,
    before: dict[str, Any] | None,
    after: dict[str, Any],
    managers: Managers,
    manager: str,
    *,
    force: bool = False,
) -> dict[str, tuple[str, ...]]:
    """Who decides what, once a resource that is ``before`` has become ``after`` as ``plan`` wants it.

    Raises:
        FieldConflict: another decides something else, and ``force`` does not take it over. InvalidInput: too many managers.
    """
    mine = PathSet(plan.mine)
    kept: dict[str, tuple[str, ...]] = {}
    conflicts: list[tuple[str, str]] = []
    for name, texts in managers.items():
        if name == manager:
            continue
        lost = {path for path in read_paths(texts) if _collide(mine, path, before or {}, after)}
        conflicts += [(format_path(path), name) for path in sorted(lost)]
        kept[name] = tuple(text for text in texts if text not in {format_path(path) for path in lost})
    if conflicts and not force:
        raise _conflict(conflicts, before or {}, after)
    if manager not in managers and len(kept) >= MAX_MANAGERS:
        raise InvalidInput(f"{len(kept)} managers decide fields of it, as many as there may be", field="manager")
    made = {name: paths for name, paths in kept.items() if paths or name not in managers or not managers[name]}
    made[manager] = tuple(sorted(format_path(path) for path in plan.mine))
    return dict(sorted(made.items()))


def note_edit(kind: str, before: dict[str, Any], after: dict[str, Any], managers: Managers, editor: str) -> Managers:
    """Who decides what, once ``editor`` has made ``after`` of ``before`` by hand: what was changed is theirs, and what was taken
    away is nobody's."""
    whole = WHOLE.get(kind, ())
    old, new = dict(list_leaves(before, whole, keep_null=True)), dict(list_leaves(after, whole, keep_null=True))
    changed = [path for path, value in new.items() if not same_value(find_value(before, path), value)]
    gone = [path for path in old if find_value(after, path) is MISSING]
    # An empty map is no value of its own where its members came or went.
    changed = [path for path in changed if new[path] != {} or not isinstance(find_value(before, path), dict)]
    if not changed and not gone:
        return managers
    edits = PathSet((*changed, *gone))
    made: dict[str, tuple[str, ...]] = {}
    for name, texts in managers.items():
        lost = {path for path in read_paths(texts) if _is_lost(path, edits, after)}
        left = tuple(text for text in texts if text not in {format_path(path) for path in lost})
        if left or not texts:
            made[name] = left
    if changed:
        made[editor] = tuple(sorted({*made.get(editor, ()), *(format_path(path) for path in changed)}))
    return dict(sorted(made.items()))


def read_paths(texts: Iterable[str]) -> list[Path]:
    """The paths; what another version of Volant wrote and is none is passed over."""
    found: list[Path] = []
    for text in texts:
        try:
            found.append(parse_path(text))
        except ValueError:
            continue
    return found


def _is_own(path: Path) -> bool:
    return path[0] == "labels" and len(path) > 1 and path[1].startswith(OWN_LABELS)


def _let_go(document: dict[str, Any], path: Path, held: PathSet, shape: Shape) -> None:
    """Leave ``path`` to its default; with it goes the outermost optional map that it lies in and that holds nothing ``held``."""
    for length in range(1, len(path)):
        above = path[:length]
        if above in shape.optional and not held.overlaps(above):
            take_away(document, above)
            return
    if path not in shape.required:
        take_away(document, path)


def _collide(mine: PathSet, theirs: Path, before: dict[str, Any], after: dict[str, Any]) -> bool:
    """True when what one applies changes what another decides at ``theirs``."""
    old, new = find_value(before, theirs), find_value(after, theirs)
    if mine.holds(theirs):
        return not same_value(old, new)
    # Who decides that there is a map decides nothing of what is in it.
    return mine.has_below(theirs) and not (isinstance(old, dict) and isinstance(new, dict)) and not same_value(old, new)


def _is_lost(owned: Path, edits: PathSet, after: dict[str, Any]) -> bool:
    return edits.holds(owned) or (edits.has_below(owned) and not isinstance(find_value(after, owned), dict))


def _conflict(conflicts: list[tuple[str, str]], before: dict[str, Any], after: dict[str, Any]) -> FieldConflict:
    shown = [f"{path} is decided by {name}{_tell(path, before, after)}" for path, name in conflicts[:5]]
    more = f" and {len(conflicts) - 5} more" if len(conflicts) > 5 else ""
    return FieldConflict(
        ", ".join(shown) + more,
        fields=tuple(conflicts),
        hint="leave it out, or have it as it is; or take it over: volar apply --force-conflicts",
    )


def _tell(text: str, before: dict[str, Any], after: dict[str, Any]) -> str:
    path = parse_path(text)
    old, new = find_value(before, path), find_value(after, path)
    if isinstance(old, dict | list) or isinstance(new, dict | list) or MISSING in (old, new):
        return ""
    return f" ({_write(old)}, not {_write(new)})"


def _write(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:80]
