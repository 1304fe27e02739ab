"""JSONPath templates as ``kubectl -o jsonpath`` takes them: text with ``{.items[*].name}`` in it.

What is understood: ``.name``, ``['name']``, ``[0]``, ``[-1]``, ``[1:3]``, ``[*]``, ``[0,2]``, ``..name``, ``[?(@.a=="b")]`` with
``== != < <= > >=`` or nothing, ``{range .items[*]}…{end}``, and ``{"text\\n"}``. A path that leads nowhere gives nothing.
"""

from __future__ import annotations

import json
import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from volant.core.errors import InvalidInput

TEMPLATE_MAX_CHARS = 4096
DEPTH_MAX = 32
HINT = "for example -o jsonpath='{.items[*].name}'"

Step = Callable[[Any], Iterator[Any]]

_TOKEN = re.compile(
    r"""(?P<deep>\.\.)(?P<deep_name>[\w$-]+|\*)
      | \.(?P<name>[\w$-]+|\*)
      | \[\s*'(?P<quoted>[^']*)'\s*\] | \[\s*"(?P<quoted2>[^"]*)"\s*\]
      | \[\s*(?P<all>\*)\s*\]
      | \[\s*\?\((?P<filter>.*?)\)\s*\]
      | \[\s*(?P<from>-?\d+)?\s*:\s*(?P<to>-?\d+)?\s*\]
      | \[\s*(?P<indexes>-?\d+(?:\s*,\s*-?\d+)*)\s*\]""",
    re.VERBOSE,
)
_FILTER = re.compile(r"\s*@(?P<path>[^=!<>\s]*)\s*(?:(?P<operator>==|!=|<=|>=|<|>)\s*(?P<value>.+?))?\s*\Z")
_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "==": operator.eq, "!=": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Text(NamedTuple):
    text: str


class Path(NamedTuple):
    steps: tuple[Step, ...]

    def find(self, document: Any) -> list[Any]:
        """Everything that the path leads to, in order."""
        found = [document]
        for step in self.steps:
            found = [value for each in found for value in step(each)]
        return found


class Loop(NamedTuple):
    path: Path
    body: tuple[Any, ...]


def render_jsonpath(template: str, document: Any) -> str:
    """``template`` filled in from ``document``. Raises InvalidInput for one that cannot be read."""
    return "".join(_render(read_template(template), document))


def read_path(text: str) -> Path:
    """The path ``.status.addresses[0].ip``, with or without its first dot. Raises InvalidInput."""
    return _read_path(text if text.startswith((".", "[")) else f".{text}")


def format_value(value: Any) -> str:
    """As a person reads it: text without quotes, truth as JSON has it, what has parts as JSON on one line."""
    if isinstance(value, str):
        return value
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False)


def read_template(template: str) -> tuple[Any, ...]:
    """The parts of a template. Raises InvalidInput."""
    if len(template) > TEMPLATE_MAX_CHARS:
        raise InvalidInput(f"the template is longer than {TEMPLATE_MAX_CHARS} characters", field="output")
    if "{" not in template:
        template = f"{{{template}}}"
    open_loops: list[tuple[Path, list[Any]]] = []
    parts: list[Any] = []
    for is_expression, text in _split(template):
        if not is_expression:
            parts.append(Text(text))
        elif text.startswith(("'", '"')):
            parts.append(Text(_read_string(text)))
        elif text.startswith("range "):
            open_loops.append((_read_path(text.removeprefix("range ").strip()), parts))
            parts = []
        elif text == "end":
            if not open_loops:
                raise InvalidInput("the template has {end} without {range}", field="output", hint=HINT)
            path, outer = open_loops.pop()
            outer.append(Loop(path, tuple(parts)))
            parts = outer
        else:
            parts.append(_read_path(text))
    if open_loops:
        raise InvalidInput("the template has {range} without {end}", field="output", hint=HINT)
    return tuple(parts)


def _render(parts: tuple[Any, ...], document: Any) -> Iterator[str]:
    for part in parts:
        if isinstance(part, Text):
            yield part.text
        elif isinstance(part, Loop):
            for each in part.path.find(document):
                yield from _render(part.body, each)
        else:
            yield " ".join(format_value(value) for value in part.find(document))


def _split(template: str) -> Iterator[tuple[bool, str]]:
    """``(is_expression, text)``; a brace within quotes ends nothing."""
    at = 0
    while at < len(template):
        begin = template.find("{", at)
        if begin < 0:
            yield False, template[at:]
            return
        if begin > at:
            yield False, template[at:begin]
        end = _find_end(template, begin + 1)
        yield True, template[begin + 1 : end].strip()
        at = end + 1


def _find_end(template: str, at: int) -> int:
    quote = ""
    while at < len(template):
        character = template[at]
        if quote:
            if character == "\\":
                at += 1
            elif character == quote:
                quote = ""
        elif character in "'\"":
            quote = character
        elif character == "}":
            return at
        at += 1
    raise InvalidInput("a { of the template is never closed", field="output", hint=HINT)


def _read_string(text: str) -> str:
    if len(text) < 2 or text[-1] != text[0]:
        raise InvalidInput(f"{text[:40]} is not closed", field="output", hint=HINT)
    try:
        read = json.loads(f'"{text[1:-1]}"')
    except ValueError:
        return text[1:-1]
    assert isinstance(read, str)
    return read


def _read_path(text: str) -> Path:
    text = text.removeprefix("$")
    if text in ("", ".", "@"):
        return Path(())
    steps: list[Step] = []
    at = 0
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            raise InvalidInput(f"the path {text[:80]!r} cannot be read at {text[at : at + 20]!r}", field="output", hint=HINT)
        steps.append(_read_step(match))
        at = match.end()
    return Path(tuple(steps))


def _read_step(match: re.Match[str]) -> Step:
    parts = match.groupdict()
    if parts["deep"]:
        return _descend(parts["deep_name"])
    if parts["all"] or parts["name"] == "*":
        return _children
    name = parts["name"] or parts["quoted"] or parts["quoted2"]
    if name is not None:
        return _member(name)
    if parts["filter"] is not None:
        return _filter(parts["filter"])
    if parts["indexes"]:
        return _elements([int(number) for number in parts["indexes"].split(",")])
    begin, end = parts["from"], parts["to"]
    return _slice(slice(None if begin is None else int(begin), None if end is None else int(end)))


def _member(name: str) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, dict) and name in value:
            yield value[name]

    return step


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, list):
        yield from value


def _elements(indexes: list[int]) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            for index in indexes:
                if -len(value) <= index < len(value):
                    yield value[index]

    return step


def _slice(part: slice) -> Step:
    def step(value: Any) -> Iterator[Any]:
        if isinstance(value, list):
            yield from value[part]

    return step


def _descend(name: str) -> Step:
    member = _children if name == "*" else _member(name)

    def step(value: Any, depth: int = 0) -> Iterator[Any]:
        yield from member(value)
        if depth < DEPTH_MAX:
            for child in _children(value):
                yield from step(child, depth + 1)

    return step


def _filter(text: str) -> Step:
    match = _FILTER.match(text)
    if match is None:
        raise InvalidInput(f"the filter {text[:80]!r} cannot be read", field="output", hint='write [?(@.name=="web")]')
    path = _read_path(match["path"])
    compare = _OPERATORS.get(match["operator"] or "")
    wanted = None if match["value"] is None else _read_literal(match["value"])

    def holds(value: Any) -> bool:
        found = path.find(value)
        if compare is None:
            return bool(found)
        try:
            return any(compare(each, wanted) for each in found)
        except TypeError:
            return False

    def step(value: Any) -> Iterator[Any]:
        yield from (each for each in _children(value) if holds(each))

    return step


def _read_literal(text: str) -> Any:
    if text[:1] in ("'", '"'):
        return _read_string(text)
    try:
        return json.loads(text)
    except ValueError:
        return text
