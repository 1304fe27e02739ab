"""What a file says of a resource, applied: made where it is not there, changed where it differs, each field by who decides it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, Protocol

import msgspec

from volant.core.changes import Difference
from volant.core.document_schema import KINDS
from volant.core.errors import AlreadyExists, FieldConflict, InvalidInput, NotFound, StaleRevision, WrongState
from volant.core.field_paths import MISSING, find_shape, find_value, format_path, list_leaves, same_value, spell_out
from volant.core.ids import check_name
from volant.core.ownership import (
    EDITOR,
    NOT_CONFIGURED,
    WHOLE,
    check_manager,
    decide_managers,
    describe_fields,
    plan_apply,
)
from volant.core.resource import API, META_FIELDS, Resource, Wanted, from_wire
from volant.core.standing import Standing, tell_standing
from volant.core.vm_revision import NOBODY, Author
from volant.intent.follow import follow_resource
from volant.intent.ownership import deciding
from volant.store.contract import Key, Store
from volant.store.records import key_of, list_resources, update_of

ATTEMPTS = 16
_PASSED_OVER = META_FIELDS - {"labels"}

Action = Literal["created", "changed", "unchanged"]
AnyResource = Resource[Any, Any]


class How(msgspec.Struct, frozen=True, kw_only=True):
    """``manager`` decides what is applied. ``force`` takes over what others decide. With ``dry_run`` nothing is written."""

    manager: str
    force: bool = False
    dry_run: bool = False
    author: Author = NOBODY


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """``before`` is what there was; ``changes`` has each value that differs from it, and is empty where it was made."""

    action: Action
    before: AnyResource | None
    resource: AnyResource
    changes: tuple[Difference, ...] = ()


class Applier(Protocol):
    """What applying needs of a kind: its own intents, so that all that they check holds."""

    project: str

    @property
    def cls(self) -> type[AnyResource]: ...

    def complete(self, fields: dict[str, Any]) -> dict[str, Any]:
        """The fields as they were written, in the form in which they are kept. Raises InvalidInput."""
        ...

    def read(self, name: str, document: dict[str, Any]) -> Wanted[Any]:
        """Raises InvalidInput."""
        ...

    async def find(self, name: str) -> AnyResource | None: ...

    async def create(self, wanted: Wanted[Any], how: How) -> AnyResource: ...

    async def replace(self, current: AnyResource, wanted: Wanted[Any], how: How) -> AnyResource:
        """``current`` as ``wanted``. Raises StaleRevision when it is not at that generation any more."""
        ...

    def effect(self, field: str) -> str:
        """What a change of this field needs: ``live``, ``restart``, ``rollout``…"""
        ...


class ApplyIntent:
    """``store`` keeps account of who decides what (OwningStore); ``appliers`` by kind."""

    def __init__(self, store: Store, appliers: Mapping[str, Applier]) -> None:
        self._store = store
        self._appliers = appliers

    async def apply(self, document: object, how: How) -> Applied:
        """Have the resource that ``document`` describes be as it says, in the fields that it names.

        Raises:
            InvalidInput: it describes none, or a value that cannot be. FieldConflict: others decide a field otherwise.
            WrongState: it is being deleted. Else what the kind's own create and replace raise.
        """
        check_manager(how.manager)
        if how.manager == EDITOR:
            raise InvalidInput(
                f"{EDITOR!r} decides what is edited by hand", field="manager", hint="apply under another name: --manager NAME"
            )
        kind, name, fields = read_document(document)
        applier = self._find_applier(kind)
        fields = applier.complete(fields)
        for _ in range(ATTEMPTS):
            before = await applier.find(name)
            if before is not None and before.deleting:
                raise WrongState(f"the {kind} {name!r} is being deleted", hint="wait until it is gone, then again")
            try:
                return await self._apply(applier, name, before, fields, how)
            except StaleRevision:
                continue
            except AlreadyExists:
                if before is not None or await applier.find(name) is None:
                    raise
            except NotFound:
                # It, or what it claims, went meanwhile: the next look tells which.
                if before is None or await applier.find(name) == before:
                    raise
        raise StaleRevision(f"others keep changing the {kind} {name!r}", hint="try again")

    async def list_applied(self, manager: str, labels: dict[str, str] | None = None) -> list[AnyResource]:
        """What ``manager`` applied, with all of ``labels``, in the order in which one needs another; nothing that is being
        deleted."""
        check_manager(manager)
        found: list[AnyResource] = []
        for kind, applier in self._appliers.items():
            listed, _ = await list_resources(self._store, KINDS[kind], applier.project, labels)
            found += [one for one in listed if manager in one.meta.managers and not one.deleting]
        return found

    async def look_at(self, kind: str, name: str, *, timeout_s: float) -> tuple[AnyResource, Standing]:
        """The resource once it is settled, or after ``timeout_s``. Raises NotFound, also when it is deleted meanwhile."""
        applier = self._find_applier(kind)
        current = await applier.find(name)
        if current is None:
            raise NotFound(f"there is no {kind} named {name[:80]!r}")
        if timeout_s <= 0 or tell_standing(current).settled:
            return current, tell_standing(current)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                following: AsyncIterator[AnyResource | None] = follow_resource(
                    self._store, applier.cls, key_of(current), current.uid
                )
                async for seen in following:
                    if seen is None:
                        raise NotFound(f"the {kind} {name!r} was deleted meanwhile")
                    current = seen
                    if tell_standing(current).settled:
                        break
        return current, tell_standing(current)

    def _find_applier(self, kind: str) -> Applier:
        applier = self._appliers.get(kind)
        if applier is None:
            raise InvalidInput(f"no file holds a {kind[:40]!r}", field="kind", hint="one of " + ", ".join(self._appliers))
        return applier

    async def _apply(self, applier: Applier, name: str, before: AnyResource | None, fields: dict[str, Any], how: How) -> Applied:
        kind = applier.cls.kind
        old = None if before is None else describe_fields(before)
        held = {} if before is None else before.meta.managers
        plan = plan_apply(kind, old, held, how.manager, fields, find_shape(applier.cls.spec_type))
        wanted = applier.read(name, plan.document)
        after = _describe_wanted(kind, wanted)
        try:
            managers = decide_managers(plan, old, after, held, how.manager, force=how.force)
        except FieldConflict:
            if before is None:
                raise
            # It may be the same in other words (a plugin's name, and its version): what it would become is what counts.
            would = await applier.replace(before, wanted, msgspec.structs.replace(how, dry_run=True))
            managers = decide_managers(plan, old, describe_fields(would), held, how.manager, force=how.force)
        if before is None:
            made = await self._write(applier, None, wanted, managers, how)
            return Applied(action="created", before=None, resource=made)
        assert old is not None
        if same_value(old, after):
            # Asked of the kind only when there is something to ask: what is as wanted is not judged again.
            return Applied(action="unchanged", before=before, resource=await self._hand_over(before, managers, how))
        changed = await self._write(applier, before, wanted, managers, how)
        changes = compare_fields(applier, old, describe_fields(changed))
        if not changes:
            return Applied(action="unchanged", before=before, resource=await self._hand_over(changed, managers, how))
        return Applied(action="changed", before=before, resource=changed, changes=changes)

    async def _write(
        self,
        applier: Applier,
        before: AnyResource | None,
        wanted: Wanted[Any],
        managers: dict[str, tuple[str, ...]],
        how: How,
    ) -> AnyResource:
        with deciding(Key(applier.cls.kind, applier.project, wanted.name), managers):
            if before is None:
                made = await applier.create(wanted, how)
            else:
                made = await applier.replace(before, wanted, how)
        return _managed(made, managers)

    async def _hand_over(self, resource: AnyResource, managers: dict[str, tuple[str, ...]], how: How) -> AnyResource:
        """``resource``, which stays as it is, and is decided by ``managers``. Raises StaleRevision."""
        stored = await self._store.get(key_of(resource))
        if how.dry_run or stored is None or _read_managers(stored.data) == managers:
            return _managed(resource, managers)
        if stored.revision != resource.revision:
            raise StaleRevision(f"the {resource.kind} {resource.name!r} was written meanwhile")
        handed = _managed(resource, managers)
        with deciding(key_of(resource), managers):
            revision = await self._store.transact([update_of(handed)])
        return msgspec.structs.replace(handed, revision=revision)


def read_document(document: object) -> tuple[str, str, dict[str, Any]]:
    """Kind, name and fields of a flat object; status and other meta are passed over. Raises InvalidInput."""
    if not isinstance(document, dict):
        raise InvalidInput("a document is one object")
    kind = document.get("kind")
    if not isinstance(kind, str):
        raise InvalidInput("a document says of which kind it is", field="kind", hint="kind: VM")
    if document.get("api", API) != API:
        raise InvalidInput(f"this volantd reads documents of api {API}", field="api")
    name = document.get("name")
    if not isinstance(name, str):
        raise InvalidInput(f"a {kind[:40]} needs a name", field="name")
    check_name(name.partition("@")[0])
    return kind, name, {key: value for key, value in document.items() if key not in _PASSED_OVER}


def read_wanted(cls: type[AnyResource], name: str, document: dict[str, Any]) -> Wanted[Any]:
    """What the fields ask for. Raises InvalidInput."""
    return from_wire(cls, {**document, "name": name})


def compare_fields(applier: Applier, before: dict[str, Any], after: dict[str, Any]) -> tuple[Difference, ...]:
    """Where the two differ, in the order of their fields."""
    whole = WHOLE.get(applier.cls.kind, ())
    paths = dict.fromkeys(
        [
            *(path for path, _ in list_leaves(after, whole, keep_null=True)),
            *(path for path, _ in list_leaves(before, whole, keep_null=True)),
        ]
    )
    found: list[Difference] = []
    for path in paths:
        old, new = find_value(before, path), find_value(after, path)
        if same_value(old, new) or (isinstance(old, dict) and isinstance(new, dict) and path not in whole):
            continue
        field = format_path(path)
        found.append(Difference(path=field, before=_or_null(old), after=_or_null(new), effect=applier.effect(path[0])))
    return tuple(found)


def _describe_wanted(kind: str, wanted: Wanted[Any]) -> dict[str, Any]:
    """What is asked for, in the form that ``describe_fields`` gives; null is what was left open."""
    left_out = NOT_CONFIGURED.get(kind, frozenset())
    asked = {"labels": dict(wanted.labels), **spell_out(wanted.spec)}
    return {field: value for field, value in asked.items() if field not in left_out}


def _managed(resource: AnyResource, managers: Mapping[str, tuple[str, ...]]) -> AnyResource:
    return msgspec.structs.replace(resource, meta=msgspec.structs.replace(resource.meta, managers=dict(managers)))


def _read_managers(data: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    return {name: tuple(paths) for name, paths in data["meta"].get("managers", {}).items()}


def _or_null(value: Any) -> Any:
    return None if value is MISSING else value
