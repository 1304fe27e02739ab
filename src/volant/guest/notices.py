"""What the notices of a guest make known, put together."""

from __future__ import annotations

from typing import Any

import msgspec

from volant.guest.breach import Breach, SessionOver
from volant.guest.message import convert_message
from volant.guest.protocol import (
    HealthNotice,
    Hello,
    NetworkNotice,
    StoppingNotice,
    WorkloadNotice,
    build_error,
    clean_text,
)
from volant.guest.state import MAIN, AgentState


def apply_notice(state: AgentState, content: dict[str, Any], *, greeted: bool) -> AgentState:
    """``state`` after the notice ``content``; ``greeted`` once this session has had its hello.

    Raises:
        Breach: it is not as specified, or comes before hello.
        SessionOver: it is the guest's refusal of the control stream.
    """
    if "error" in content:
        raise SessionOver(build_error(content["error"], "the guest's agent refused the control stream").message)
    type_ = content.get("type")
    if type_ == "hello":
        return _apply_hello(state, convert_message(content, Hello), greeted=greeted)
    if not greeted:
        raise Breach("the guest's agent did not begin with hello")
    if type_ == "workload":
        workload = convert_message(content, WorkloadNotice)
        workload = msgspec.structs.replace(workload, message=clean_text(workload.message), last_end=clean_text(workload.last_end))
        return msgspec.structs.replace(state, workload=workload) if workload.workload == MAIN else state
    if type_ == "health":
        health = convert_message(content, HealthNotice)
        health = msgspec.structs.replace(health, message=clean_text(health.message))
        return msgspec.structs.replace(state, health=health) if health.workload == MAIN else state
    if type_ == "network":
        return msgspec.structs.replace(state, network=_clean_network(convert_message(content, NetworkNotice)))
    if type_ == "stopping":
        return msgspec.structs.replace(state, stopping=convert_message(content, StoppingNotice))
    # A newer agent may say more than we know.
    return state


def _apply_hello(state: AgentState, hello: Hello, *, greeted: bool) -> AgentState:
    hello = msgspec.structs.replace(
        hello, agent=clean_text(hello.agent), capabilities=tuple(clean_text(word) for word in hello.capabilities)
    )
    known = state.hello
    if known is not None and (known.boot_id == hello.boot_id or _is_renewed(known, hello)):
        return msgspec.structs.replace(state, hello=hello)
    if greeted:
        raise Breach("the guest's agent changed its boot id within a session")
    return msgspec.structs.replace(state, hello=hello, workload=None, health=None, network=None, stopping=None)


def _clean_network(notice: NetworkNotice) -> NetworkNotice:
    interfaces = tuple(
        msgspec.structs.replace(
            each,
            name=clean_text(each.name),
            mac=clean_text(each.mac).lower(),
            address=clean_text(each.address),
            gateway=clean_text(each.gateway),
            nameservers=tuple(clean_text(server) for server in each.nameservers),
        )
        for each in notice.interfaces
    )
    return msgspec.structs.replace(notice, interfaces=interfaces)


def _is_renewed(known: Hello, hello: Hello) -> bool:
    """No two guests hold one document, and none holds one when it boots: this is the one that is known, under a new identity."""
    return hello.config_digest != "" and hello.config_digest == known.config_digest
