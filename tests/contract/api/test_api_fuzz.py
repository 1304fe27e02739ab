"""The API answers anything as its own OpenAPI document says: schemathesis asks the whole of volantd, on a simulated host."""

from __future__ import annotations

from typing import Any

import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis.specs.openapi.checks import positive_data_acceptance

from volant.api.app import HANDLERS
from volant.api.openapi import build_document
from volant.core.duration import parse_duration
from volant.core.errors import InvalidInput

from .plane import SimulatedVolantd

EXAMPLES = 8
"""Random ones a route, besides those that the document has and the edges of every schema."""
WAIT_S = 0.2
ANSWER_S = 30.0

DOCUMENT = build_document(HANDLERS, "0.0.test")

# What a schema cannot say is refused with 422: a name that nothing has, two values that do not go together; and with 412 and
# 410 a precondition or a moment that nobody can know. 502 to 504 are a guest that does not answer, or a wait that was too long.
CONFIG = {
    "checks": {
        "positive_data_acceptance": {
            "expected-statuses": ["2xx", "3xx", "401", "403", "404", "409", "410", "412", "422", "502", "503", "504"]
        },
        "negative_data_rejection": {
            "expected-statuses": ["400", "401", "404", "405", "406", "409", "410", "412", "413", "415", "422", "431", "503"]
        },
        "not_a_server_error": {"expected-statuses": ["2xx", "3xx", "4xx", "502", "503", "504"]},
    }
}

schema = schemathesis.openapi.from_dict(DOCUMENT, config=schemathesis.Config.from_dict(CONFIG))


@schema.parametrize()
@settings(
    max_examples=EXAMPLES,
    derandomize=True,
    database=None,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.explicit, Phase.generate],
)
def test_route_is_as_described(volantd: SimulatedVolantd, case: schemathesis.Case) -> None:
    _keep_finite(case)
    is_socket = "101" in DOCUMENT["paths"][case.operation.path].get("get", {}).get("responses", {})
    case.call_and_validate(
        base_url=volantd.url,
        headers={"Authorization": f"Bearer {volantd.token}"},
        # What is a WebSocket is refused to whom asks plainly.
        excluded_checks=[positive_data_acceptance] if is_socket else [],
        timeout=ANSWER_S,
    )


def _keep_finite(case: schemathesis.Case) -> None:
    """Nothing is followed, and nothing waited for for long."""
    query: dict[str, Any] = case.query if isinstance(case.query, dict) else {}
    for name in ("follow", "watch"):
        if query.get(name) in ("true", "1", ""):
            query[name] = "false"
    if "wait" in query or "timeout" in query:
        try:
            wait_s = parse_duration(str(query.get("timeout", "1h")), "timeout")
        except InvalidInput:
            return
        if wait_s > WAIT_S:
            query["timeout"] = f"{WAIT_S}s"
