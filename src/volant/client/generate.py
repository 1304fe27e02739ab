"""Makes the asynchronous client of the synchronous one, so that both have the same methods and nothing is written twice.

``python -m volant.client.generate`` writes ``aio/*.py`` of what asks one route after another; the transport and what talks both
ways (``aio/connection``, ``aio/stream``, ``aio/websocket``, ``aio/content``) are written by hand.
"""

from __future__ import annotations

import ast
import sys
from pathlib import Path

HERE = Path(__file__).parent
BY_HAND = frozenset({"__init__", "address", "connection", "exec", "extract", "files", "forward", "generate", "pack", "port",
                     "problem", "stream", "waiting", "websocket"})  # fmt: skip
"""Everything else is a kind with a twin."""

_ASKS = frozenset({"request", "get_json", "upload", "send_archive", "pause", "read_some", "read_line"})
_OPENS = frozenset({"stream", "exchange"})
_FOLLOWS = frozenset({"follow_server_events", "read_server_events", "read_json_lines"})
_PLACES = {
    "volant.client.connection": "volant.client.aio.connection",
    "volant.client.stream": "volant.client.aio.stream",
    "volant.client.exec": "volant.client.aio.websocket",
    "volant.client.port": "volant.client.aio.websocket",
    "volant.client.files": "volant.client.aio.content",
}
_NAMES = {
    "Iterator": "AsyncIterator",
    "AbstractContextManager": "AbstractAsyncContextManager",
    "contextmanager": "asynccontextmanager",
    "Client": "AsyncClient",
}
_ELSEWHERE = {"CallAnswer": "volant.client.aio.content"}
"""Classes of a kind's module whose twin is written by hand."""


def kinds() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if path.stem not in BY_HAND)


def make_twin(name: str) -> str:
    """The source of ``aio/NAME.py``."""
    source = (HERE / f"{name}.py").read_text(encoding="utf-8")
    tree = ast.parse(source)
    elsewhere = [node.name for node in tree.body if isinstance(node, ast.ClassDef) and node.name in _ELSEWHERE]
    tree.body = [node for node in tree.body if getattr(node, "name", None) not in elsewhere]
    twin = ast.fix_missing_locations(_Module().visit(tree))
    _import(twin, elsewhere)
    _import_used(twin)
    head = f"# Made of volant/client/{name}.py by volant.client.generate: change that, and make this anew.\n"
    return head + ast.unparse(twin) + "\n"


def _import(tree: ast.Module, elsewhere: list[str]) -> None:
    imports = [place for place, node in enumerate(tree.body) if isinstance(node, ast.ImportFrom)]
    after = imports[-1] + 1
    for name in elsewhere:
        tree.body.insert(after, ast.ImportFrom(module=_ELSEWHERE[name], names=[ast.alias(name=name)], level=0))


def _import_used(tree: ast.Module) -> None:
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "collections.abc":
            known = {alias.name for alias in node.names} | {"AsyncIterator"}
            node.names = [ast.alias(name=name) for name in sorted(known & used)]
    tree.body = [node for node in tree.body if not isinstance(node, ast.ImportFrom | ast.Import) or _is_used(node, used)]


def _is_used(node: ast.ImportFrom | ast.Import, used: set[str]) -> bool:
    if isinstance(node, ast.ImportFrom) and node.module == "__future__":
        return True
    node.names = [alias for alias in node.names if (alias.asname or alias.name).partition(".")[0] in used]
    return bool(node.names)


class _Module(ast.NodeTransformer):
    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        module = node.module or ""
        if module in _PLACES:
            node.module = _PLACES[module]
        elif module.startswith("volant.client.") and module.rpartition(".")[2] in kinds():
            node.module = module.replace("volant.client.", "volant.client.aio.")
        return self.generic_visit(node)

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        methods = [each for each in node.body if isinstance(each, ast.FunctionDef)]
        awaited: set[str] = set()
        while True:  # what awaits something that awaits something
            found = {each.name for each in methods if not _is_generator(each) and _asks(each, awaited)}
            if found <= awaited:
                break
            awaited |= found
        followed = {each.name for each in methods if _is_generator(each) and not each.decorator_list}
        opened = {each.name for each in methods if _is_generator(each) and each.decorator_list}
        node.name = _NAMES.get(node.name, node.name)
        node.body = [_Method(awaited, followed, opened).visit(each) for each in node.body]
        return node


class _Method(ast.NodeTransformer):
    def __init__(self, awaited: set[str], followed: set[str], opened: set[str]) -> None:
        self._awaited = awaited
        self._followed = followed
        self._opened = opened

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        is_async = node.name in self._awaited | self._followed | self._opened
        self.generic_visit(node)
        if not is_async:
            return node
        return ast.AsyncFunctionDef(
            name=node.name, args=node.args, body=node.body, decorator_list=node.decorator_list, returns=node.returns,
            lineno=node.lineno,
        )  # fmt: skip

    def visit_ImportFrom(self, node: ast.ImportFrom) -> ast.AST:
        return _Module().visit(node)  # type: ignore[no-any-return]  # a node

    def visit_Name(self, node: ast.Name) -> ast.AST:
        node.id = _NAMES.get(node.id, node.id)
        return node

    def visit_Attribute(self, node: ast.Attribute) -> ast.AST:
        node.attr = _NAMES.get(node.attr, node.attr)
        return self.generic_visit(node)

    def visit_Call(self, node: ast.Call) -> ast.AST:
        is_asked = _is_asked(node, self._awaited)
        self.generic_visit(node)
        return ast.Await(value=node) if is_asked else node

    def visit_With(self, node: ast.With) -> ast.AST:
        is_opened = any(self._is_opened(item.context_expr) for item in node.items)
        self.generic_visit(node)
        return ast.AsyncWith(items=node.items, body=node.body) if is_opened else node

    def visit_For(self, node: ast.For) -> ast.AST:
        is_followed = isinstance(node.iter, ast.Call) and self._is_followed(node.iter)
        self.generic_visit(node)
        return ast.AsyncFor(target=node.target, iter=node.iter, body=node.body, orelse=node.orelse) if is_followed else node

    def visit_Expr(self, node: ast.Expr) -> ast.AST:
        if isinstance(node.value, ast.YieldFrom):
            each = ast.Name(id="each", ctx=ast.Load())
            body: list[ast.stmt] = [ast.Expr(value=ast.Yield(value=each))]
            target = ast.Name(id="each", ctx=ast.Store())
            return ast.AsyncFor(target=target, iter=self.visit(node.value.value), body=body, orelse=[])
        return self.generic_visit(node)

    def _is_opened(self, node: ast.expr) -> bool:
        if isinstance(node, ast.Name):
            return node.id == "stream"
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            return False
        return node.func.attr in _OPENS | self._opened

    def _is_followed(self, node: ast.Call) -> bool:
        if isinstance(node.func, ast.Name):
            return node.func.id in _FOLLOWS
        return isinstance(node.func, ast.Attribute) and _is_self(node.func.value) and node.func.attr in self._followed


def _asks(function: ast.FunctionDef, awaited: set[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _is_asked(node, awaited):
            return True
        if isinstance(node, ast.With) and any(
            isinstance(item.context_expr, ast.Name) and item.context_expr.id == "stream" for item in node.items
        ):
            return True
    return False


def _is_asked(node: ast.Call, awaited: set[str]) -> bool:
    if not isinstance(node.func, ast.Attribute):
        return False
    if _is_self(node.func.value):
        return node.func.attr in awaited
    if node.func.attr == "read":
        return isinstance(node.func.value, ast.Name) and node.func.value.id == "response"
    return node.func.attr in _ASKS


def _is_self(node: ast.expr) -> bool:
    return isinstance(node, ast.Name) and node.id == "self"


def _is_generator(function: ast.FunctionDef) -> bool:
    return any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(function))


def write_twins() -> None:
    for path in (HERE / "aio").glob("*.py"):
        if path.stem not in ("__init__", "connection", "stream", "websocket", "content"):
            path.unlink()
    for name in kinds():
        (HERE / "aio" / f"{name}.py").write_text(make_twin(name), encoding="utf-8")


if __name__ == "__main__":
    write_twins()
    sys.stdout.write("format them: ruff check --fix src/volant/client/aio; ruff format src/volant/client/aio\n")
