"""The files that describe resources: found, read, checked as far as one can without volantd, and put in order."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from volant.cli.plugin_files import LocalFile, prepare_manifest, read_local_manifest
from volant.cli.yaml_file import Place, read_yaml
from volant.core.document_schema import KINDS
from volant.core.errors import InvalidInput, VolantError
from volant.core.ids import check_name
from volant.core.plugin_versions import split_reference

SUFFIXES = (".yaml", ".yml", ".json")
FILE_MAX_BYTES = 4 * 1024 * 1024
FILES_MAX = 1000
DOCUMENTS_MAX = 10_000
STDIN = "-"
MANIFEST = "manifest.json"

ORDER = {kind: place for place, kind in enumerate(KINDS)}
_ALWAYS = ("kind", "name")


@dataclass
class Document:
    """``number`` is its place in the file, from 1, ``item`` that in a ``List``. ``files`` are those beside a manifest."""

    source: str
    number: int
    content: Any
    line: int = 0
    lines: dict[Place, int] = field(default_factory=dict)
    files: list[LocalFile] = field(default_factory=list)

    @property
    def kind(self) -> str:
        return self._read_text("kind")

    @property
    def name(self) -> str:
        return self._read_text("name")

    @property
    def reference(self) -> str:
        return name_resource(self.content)

    def describe_place(self, path: str = "") -> str:
        """``web.yaml, line 12, document 3 (VM web)``."""
        line = self._find_line(path)
        at = f", line {line}" if line else ""
        who = " ".join(part for part in (self.kind, self.name) if part)
        return f"{self.source}{at}, document {self.number}" + (f" ({who})" if who else "")

    def _read_text(self, field: str) -> str:
        value = self.content.get(field) if isinstance(self.content, dict) else None
        return value if isinstance(value, str) else ""

    def _find_line(self, path: str) -> int:
        """Of the nearest place that holds ``path``, as an error names it (``vm.env.MODE``, ``disks[0].size_mb``)."""
        parts: list[str | int] = []
        for word in path.removeprefix("spec.").replace("]", "").replace("[", ".").split("."):
            parts.append(int(word) if word.isdecimal() else word)
        for length in range(len(parts), 0, -1):
            if (line := self.lines.get(tuple(parts[:length]))) is not None:
                return line
        return self.line


def name_resource(document: dict[str, Any]) -> str:
    """``deployment/web``."""
    return f"{str(document.get('kind', '')).lower()}/{document.get('name', '')}"


def blame(document: Document, error: VolantError) -> VolantError:
    """``error`` with the place of the document that it is about."""
    path = (error.field or "") if isinstance(error, InvalidInput) else ""
    place = document.describe_place(path)
    told = error.message if not path or path in error.message else f"{path}: {error.message}"
    error.message = f"{place}: {told}"
    error.args = (error.message,)
    if isinstance(error, InvalidInput):
        error.field = None
    return error


def read_documents(given: Iterable[str], *, recursive: bool = False) -> tuple[list[Document], list[VolantError]]:
    """Every document of the files, directories and stdin (``-``), in the order in which one needs another; and what is wrong
    with those that cannot be.

    Raises:
        InvalidInput: a file is not there, cannot be read, or is too large.
    """
    found: list[Document] = []
    errors: list[VolantError] = []
    for source, content, beside in _read_files(given, recursive):
        here = [each for document in _parse(source, content) for each in _open_list(document)]
        for document in here:
            try:
                _complete(document, beside)
                _check(document)
            except VolantError as error:
                errors.append(blame(document, error))
            else:
                found.append(document)
        if len(found) > DOCUMENTS_MAX:
            raise InvalidInput(f"there are more than {DOCUMENTS_MAX} documents", hint="apply them in parts")
    errors += _find_twice(found)
    if not found and not errors:
        raise InvalidInput("there is no document in " + ", ".join(given), hint="a file ends in " + ", ".join(SUFFIXES))
    return sorted(found, key=lambda document: ORDER.get(document.kind, len(ORDER))), errors


def _read_files(given: Iterable[str], recursive: bool) -> Iterator[tuple[str, str, Path]]:
    """Each file's name, content, and the directory that it lies in."""
    seen: set[str] = set()
    for word in given:
        if "://" in word:
            raise InvalidInput(f"{word[:80]} is no file", hint=f"curl -fsS {word[:80]} | volar apply -f -")
        for path in _list_files(word, recursive):
            name = str(path)
            if name in seen:
                continue
            seen.add(name)
            if len(seen) > FILES_MAX:
                raise InvalidInput(f"there are more than {FILES_MAX} files", hint="apply them in parts")
            yield ("stdin" if name == STDIN else name), _read_text(path), path.parent


def _list_files(word: str, recursive: bool) -> list[Path]:
    path = Path(word)
    if word == STDIN or not path.is_dir():
        return [path]
    try:
        inside = path.rglob("*") if recursive else path.iterdir()
        return sorted(each for each in inside if _is_wanted(each))
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error


def _is_wanted(path: Path) -> bool:
    if path.suffix not in SUFFIXES or path.name.startswith(".") or not path.is_file():
        return False
    # What fledge writes beside a manifest is JSON, too.
    return path.suffix != ".json" or path.name == MANIFEST or not path.with_name(MANIFEST).is_file()


def _read_text(path: Path) -> str:
    try:
        if str(path) == STDIN:
            content = sys.stdin.buffer.read(FILE_MAX_BYTES + 1)
        else:
            with path.open("rb") as opened:
                content = opened.read(FILE_MAX_BYTES + 1)
    except OSError as error:
        raise InvalidInput(f"{path}: {error.strerror}") from error
    if len(content) > FILE_MAX_BYTES:
        raise InvalidInput(f"{path} is larger than {FILE_MAX_BYTES} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{path} is no text in UTF-8: byte {error.start + 1}") from error


def _parse(source: str, text: str) -> list[Document]:
    """Raises InvalidInput."""
    if source.endswith(".json"):
        try:
            return [Document(source, 1, msgspec.json.decode(text), line=0)]
        except msgspec.DecodeError as error:
            raise InvalidInput(f"{source} is not JSON: {error}") from error
    # All JSON that people write is YAML.
    return [
        Document(source, number, found.content, found.lines.get((), found.line), found.lines)
        for number, found in enumerate(read_yaml(text, source), 1)
    ]


def _open_list(document: Document) -> list[Document]:
    content: Any = document.content
    if not isinstance(content, dict) or content.get("kind", "List" if "items" in content else "") != "List":
        return [document]
    items = content.get("items")
    if not isinstance(items, list):
        return [document]
    return [
        Document(
            document.source,
            document.number,
            item,
            document.lines.get(("items", place), document.line),
            {path[2:]: line for path, line in document.lines.items() if path[:2] == ("items", place)},
        )
        for place, item in enumerate(items)
    ]


def _complete(document: Document, beside: Path) -> None:
    """Make a plugin's manifest, which is a file of its own kind, a document like others, with the files beside it."""
    content: Any = document.content
    if not isinstance(content, dict):
        return
    if "kind" not in content and "schema_version" in content and "workload" in content:
        content = {"kind": "Plugin", "name": content.get("name"), "manifest": content}
    manifest = content.get("manifest")
    if content.get("kind") == "Plugin" and isinstance(manifest, str):
        local = read_local_manifest(beside / manifest)
        content = {**content, "manifest": local.document}
        if local.signed is not None:
            content["signed"] = msgspec.to_builtins(local.signed)
        document.files = local.files
    elif content.get("kind") == "Plugin" and isinstance(manifest, dict):
        made, document.files = prepare_manifest(manifest, beside)
        content = {**content, "manifest": made}
    if content.get("kind") == "Plugin" and isinstance(content.get("manifest"), dict):
        content.setdefault("name", content["manifest"].get("name"))
    document.content = content


def _check(document: Document) -> None:
    """What can be said without volantd. Raises InvalidInput."""
    content: Any = document.content
    if not isinstance(content, dict):
        raise InvalidInput("a document is one object")
    if "apiVersion" in content or "metadata" in content:
        raise InvalidInput(
            "this is an object of Kubernetes", hint="here name, labels and fields stand side by side: kind: VM, name: web"
        )
    kind, name = content.get("kind"), content.get("name")
    if kind not in KINDS:
        near = next((each for each in KINDS if isinstance(kind, str) and each.lower() == kind.lower()), None)
        what = "a document says of which kind it is" if kind is None else f"no file holds a {str(kind)[:40]!r}"
        raise InvalidInput(what, field="kind", hint=f"kind: {near}" if near else "one of " + ", ".join(KINDS))
    if not isinstance(name, str):
        raise InvalidInput(f"a {kind} needs a name", field="name", hint=f'text; a number is written "{name}"' if name else None)
    check_name(split_reference(name)[0] if kind == "Plugin" else name)
    known = {*KINDS[kind].spec_type.__struct_fields__, *KINDS[kind].__struct_fields__, "labels"}
    _check_fields(kind, content, known)


def _check_fields(kind: str, content: dict[str, Any], known: set[str]) -> None:
    from difflib import get_close_matches

    from volant.core.resource import META_FIELDS

    for name in content:
        if name in known or name in META_FIELDS:
            continue
        near = get_close_matches(name, known, 1)
        raise InvalidInput(f"a {kind} has no field {name[:80]!r}", field=name[:80], hint=f"{near[0]}?" if near else None)


def _find_twice(documents: list[Document]) -> list[VolantError]:
    seen: dict[str, Document] = {}
    errors: list[VolantError] = []
    for document in documents:
        first = seen.setdefault(document.reference, document)
        if first is not document:
            twice = InvalidInput(f"it is described twice, first in {first.describe_place()}")
            errors.append(blame(document, twice))
    return errors
