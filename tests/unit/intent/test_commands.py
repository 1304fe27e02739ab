"""Commands instead of a plugin's entrypoint: what may be asked, and what is not asked of the plugin's workload then."""

from __future__ import annotations

import pytest

from volant.core.defaults import fit_command
from volant.core.errors import InvalidInput
from volant.core.ids import new_uid
from volant.core.manifest import convert_manifest
from volant.core.resource import Meta, Wanted
from volant.core.snapshot import Snapshot, SnapshotSpec, SnapshotStatus
from volant.core.vm import VMSpec
from volant.intent import Intents
from volant.intent.vm_checks import COMMAND_MAX_BYTES
from volant.store.contract import Store
from volant.store.records import create_of

from .conftest import DIGEST, make_manifest

CARED_FOR = make_manifest(
    probes={"liveness": {"tcp": {"port": 80}}, "readiness": {"http": {}}},
    lifecycle={"post_start": {"exec": ["true"]}, "pre_stop": {"exec": ["true"]}, "auto_suspend": "5m"},
)


def want(*command: str, **spec: str) -> Wanted[VMSpec]:
    return Wanted(name="web", labels={}, spec=VMSpec(plugin="nginx", command=command, **spec))  # type: ignore[arg-type]  # by field


@pytest.mark.parametrize("command", [("",), ("", "-c"), ("sh", "\0"), ("x" * COMMAND_MAX_BYTES,)])
async def test_what_is_no_command(intents: Intents, command: tuple[str, ...]) -> None:
    await intents.plugins.install(make_manifest())
    with pytest.raises(InvalidInput) as caught:
        await intents.vms.create(want(*command))
    assert caught.value.field == "command"
    assert (await intents.vms.list())[0] == []


async def test_empty_words_may_follow_the_program(intents: Intents) -> None:
    await intents.plugins.install(make_manifest())
    assert (await intents.vms.create(want("printf", "", "ü"))).spec.command == ("printf", "", "ü")


async def test_without_an_agent_nobody_could_run_it(intents: Intents) -> None:
    manifest = make_manifest(agent="none")
    del manifest["rootfs"], manifest["boot"]
    await intents.plugins.install(
        {**manifest, "initramfs": {"url": "artifact:" + DIGEST, "checksum": DIGEST}, "boot": make_manifest()["boot"]}
    )
    with pytest.raises(InvalidInput, match="command needs an agent"):
        await intents.vms.create(want("true"))


@pytest.mark.parametrize("memory", [True, False])
async def test_what_runs_in_a_snapshot_is_not_begun_anew(intents: Intents, store: Store, *, memory: bool) -> None:
    await intents.plugins.install(make_manifest())
    status = SnapshotStatus(phase="Ready", plugin="nginx", plugin_version="1.0", cpu_cores=1, memory_mb=128, disk_mb=512)
    meta = Meta(name="before", uid=new_uid())
    await store.transact([create_of(Snapshot(meta=meta, spec=SnapshotSpec(vm="old", memory=memory), status=status))])
    if memory:
        with pytest.raises(InvalidInput, match="its workload runs already in the snapshot"):
            await intents.vms.create(want("true", snapshot="before"))
    else:
        assert (await intents.vms.create(want("true", snapshot="before"))).spec.command == ("true",)


def test_nobody_probes_what_does_not_run() -> None:
    manifest = convert_manifest(CARED_FOR)
    assert fit_command(manifest, VMSpec(plugin="nginx")) is manifest
    fitted = fit_command(manifest, VMSpec(plugin="nginx", command=("true",)))
    assert (fitted.health_check, fitted.probes.liveness, fitted.probes.readiness) == (None, None, None)
    assert (fitted.lifecycle.post_start, fitted.lifecycle.pre_stop, fitted.lifecycle.auto_suspend) == (None, None, "5m")
