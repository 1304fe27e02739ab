"""The request and answer headers that routes share, as the OpenAPI document describes them."""

from __future__ import annotations

from typing import Any, NamedTuple


class Header(NamedTuple):
    name: str
    description: str
    schema: dict[str, Any]


_TEXT: dict[str, Any] = {"type": "string"}

IF_MATCH = Header(
    "If-Match",
    'Refuse with 412 unless the resource is at this generation: the number that its ETag begins with, as in "3".',
    {"type": "string", "pattern": r'^("?[0-9]{1,15}(\.[0-9]{1,18})?"?|\*)$', "examples": ["*"]},
)
IF_NONE_MATCH = Header("If-None-Match", "Answer 304 without content when it still has this ETag.", {"type": "string"})
IDEMPOTENCY_KEY = Header(
    "Idempotency-Key",
    "Whatever stands for this one request, as a UUID does. Sent again with the same key within 24 hours the request is not done "
    "again: the answer is the first one. Another request under the key is refused (422), one while the first is not answered too "
    "(409).",
    {"type": "string", "pattern": r'^("[A-Za-z0-9._:-]{1,255}"|[A-Za-z0-9._:-]{1,255})$'},
)
REASON = Header(
    "Volant-Reason",
    "Why: kept with the version of the configuration that the change makes.",
    {"type": "string", "maxLength": 500, "pattern": r"^[!-~]([ -~]*[!-~])?$"},
)
MANAGER = Header(
    "Volant-Manager",
    "Who decides from now on what this changes; api unless said. See apply_document.",
    {"type": "string", "pattern": "^[A-Za-z0-9_./@-]{1,63}$"},
)
LAST_EVENT_ID = Header(
    "Last-Event-ID",
    "Of a stream: go on after the event of this id, or after the moment that a list's Volant-Revision names.",
    {"type": "string", "pattern": r"^[0-9]{1,18}$"},
)
TIMEOUT = Header(
    "Volant-Timeout",
    "How long the workload may take to begin its answer, as 500ms, 30s or 5m; 60s unless said.",
    {"type": "string", "pattern": r"^[1-9][0-9]{0,2}(ms|s)$"},
)

ANSWER_HEADERS: dict[str, dict[str, Any]] = {
    "ETag": {
        "description": 'Generation and revision, as in "3.1042". If-Match looks at the generation alone.',
        "schema": _TEXT,
    },
    "Location": {"description": "Where what was made is found.", "schema": _TEXT},
    "Link": {"description": "The page after, as rel=next (RFC 8288); what replaces a deprecated route.", "schema": _TEXT},
    "Volant-Revision": {"description": "The moment of a list: a stream's Last-Event-ID.", "schema": _TEXT},
    "Volant-Total-Count": {"description": "How many there are on all pages.", "schema": _TEXT},
    "Volant-Request-Id": {
        "description": "In every answer: the request's id in volantd's log; the client's own if it sent one.",
        "schema": _TEXT,
    },
    "Volant-Replayed": {"description": "true: this was answered before, under the same Idempotency-Key.", "schema": _TEXT},
    "Volant-Size": {"description": "Bytes.", "schema": _TEXT},
    "Deprecation": {"description": "Since when it should not be used (RFC 9745).", "schema": _TEXT},
    "Sunset": {"description": "From when on it may be gone (RFC 8594).", "schema": _TEXT},
}
