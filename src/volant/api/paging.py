"""Lists that come in pages: what may be asked of one, and how it is answered."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlencode

from litestar import Request, Response

from volant.api.answer import answer_json, list_headers
from volant.api.operation import Body, Query
from volant.api.parameters import read_count
from volant.api.schema import REVISION, reference
from volant.core.errors import InvalidInput
from volant.core.resource import Resource, to_wire
from volant.core.selector import Selector, parse_selector
from volant.intent.listing import CURSOR_MAX_CHARS, Ask, Filters, Page

PAGE_MAX = 1000
TEXT_MAX_CHARS = 253


def _read_text(text: str, name: str) -> str:
    if len(text) > TEXT_MAX_CHARS:
        raise InvalidInput("that is too long", field=name)
    return text


def _read_values(text: str, name: str) -> tuple[str, ...]:
    return tuple(word.strip().casefold() for word in _read_text(text, name).split(","))


def _read_limit(text: str, name: str) -> int:
    limit = read_count(text, name)
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidInput(f"a page has 1 to {PAGE_MAX}", field=name)
    return limit


def _read_cursor(text: str, name: str) -> str:
    if len(text) > CURSOR_MAX_CHARS:
        raise InvalidInput("the cursor is none that was given here", field=name)
    return text


def _read_order(text: str, name: str) -> str:
    if text not in ("asc", "desc"):
        raise InvalidInput(f"{text[:40]!r} is no order", field=name, hint="asc or desc")
    return text


SELECTOR = Query(
    "labels", "Only those that it selects: `a=b,c!=d,e in (x,y),f,!g`.", parse_selector, {"type": "string", "maxLength": 4096}
)
SEARCH = Query("q", "Only those with this in a name or a label.", _read_text, {"type": "string", "maxLength": TEXT_MAX_CHARS})
ORDER = Query("order", "asc, or desc.", _read_order, {"type": "string", "enum": ["asc", "desc"]})
PAGE_LIMIT = Query(
    "limit",
    "At most so many; the rest is on later pages.",
    _read_limit,
    {"type": "integer", "minimum": 1, "maximum": PAGE_MAX},
)
CURSOR = Query(
    "cursor",
    "Go on after the page whose `next` this is. The other parameters stay as they were.",
    _read_cursor,
    {"type": "string", "maxLength": CURSOR_MAX_CHARS},
)


def sort_by(*fields: str) -> Query:
    def read(text: str, name: str) -> str:
        if text not in fields:
            raise InvalidInput(f"{text[:40]!r} is nothing to sort by", field=name, hint="one of: " + ", ".join(fields))
        return text

    return Query("sort", "By what they are sorted; by name unless said.", read, {"type": "string", "enum": list(fields)})


def only_with(field: str, words: str) -> Query:
    """A filter on one field; several values are separated by commas."""
    schema = {"type": "string", "maxLength": TEXT_MAX_CHARS}
    return Query(field, f"Only those with this {words}; several with commas.", _read_values, schema)


def read_ask(asked: dict[str, Any], **fields: str) -> Ask:
    """What a query asks for; ``fields`` are the filters by parameter, and the field that each is about."""
    given = {field: asked[parameter] for parameter, field in fields.items() if asked[parameter] is not None}
    filters = Filters(selector=asked["labels"] or Selector(), equals=given, text=asked["q"] or "")
    return Ask(
        filters=filters,
        sort=asked["sort"] or "name",
        descending=asked["order"] == "desc",
        limit=asked["limit"],
        cursor=asked["cursor"],
    )


def page_of(cls: type[Resource[Any, Any]]) -> Body:
    schema = {
        "type": "object",
        "properties": {
            "items": {"type": "array", "items": reference(cls)},
            "next": {"type": "string", "description": "The cursor of the page after; absent on the last."},
            "revision": REVISION,
        },
        "required": ["items", "revision"],
        "additionalProperties": False,
    }
    return Body(schema, headers=("Volant-Revision", "Volant-Total-Count", "Link", "ETag"))


def answer_page(request: Request[Any, Any, Any], page: Page[Any]) -> Response[bytes]:
    """``{"items": [...], "next": …}``, and in headers how many there are in all and the next page (RFC 8288)."""
    headers = {**list_headers(page.revision), "volant-total-count": str(page.total)}
    if page.next is not None:
        query = sorted((name, value) for name, value in request.query_params.multi_items() if name != "cursor")
        headers["link"] = f'<{request.url.path}?{urlencode([*query, ("cursor", page.next)])}>; rel="next"'
    document: dict[str, Any] = {"items": [to_wire(one) for one in page.items], "revision": str(page.revision)}
    return answer_json(document if page.next is None else {**document, "next": page.next}, headers=headers)
