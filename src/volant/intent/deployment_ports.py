"""The ports of the host that lead to a deployment: claims that are its own."""

from __future__ import annotations

from volant.core.claim import Claim, ClaimSpec, build_claim, port_claim_name
from volant.core.deployment import Deployment
from volant.core.errors import AlreadyExists, InvalidInput
from volant.intent.ports import refuse_port
from volant.store.contract import MAX_OPERATIONS, Delete, Operation, Store
from volant.store.records import create_of, find_resource, key_of


def change_claims(before: Deployment | None, after: Deployment, now: str) -> list[Operation]:
    """What is claimed anew and given back, by name, in the transaction that makes ``after`` of ``before``."""
    old = {} if before is None else _list_claims(before, now)
    new = _list_claims(after, now)
    operations: list[Operation] = [create_of(claim) for name, claim in new.items() if name not in old]
    operations += [Delete(key_of(claim)) for name, claim in old.items() if name not in new]
    # Beside them are the deployment, a revision, and what that needs.
    if len(operations) > MAX_OPERATIONS - 24:
        raise InvalidInput("so many ports cannot be changed at once", field="ports", hint="change half of them")
    return operations


async def find_port_conflict(store: Store, deployment: Deployment) -> AlreadyExists | None:
    """What to raise when somebody else has a port that ``deployment`` is to publish."""
    for port in deployment.spec.ports:
        name = port_claim_name(deployment.spec.vm.network, port.protocol, port.host_port)
        claim = await find_resource(store, Claim, "", name)
        if claim is not None and claim.spec.owner_uid != deployment.uid:
            return refuse_port(port, claim)
    return None


def _list_claims(deployment: Deployment, now: str) -> dict[str, Claim]:
    spec = ClaimSpec(thing="port", owner_kind=Deployment.kind, owner_name=deployment.name, owner_uid=deployment.uid)
    names = [port_claim_name(deployment.spec.vm.network, port.protocol, port.host_port) for port in deployment.spec.ports]
    return {name: build_claim(name, spec, now) for name in names}
