"""``volar run`` against a served control plane: what it boots, what it says, and what it leaves."""

from __future__ import annotations

import hashlib
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import msgspec
import pytest

from volant.cli import fledge_build, run_follow
from volant.cli.lazy import Entry
from volant.cli.run_follow import read_exit_code
from volant.cli.volar import volar as root
from volant.core.ids import new_uid
from volant.core.manifest import convert_manifest
from volant.core.plugin import name_by_content
from volant.core.resource import Meta
from volant.core.trust import SignedManifest
from volant.core.vm import VM, EndRecord, VMSpec, VMStatus

from ..api.served import Served  # noqa: TID252  # importlib mode knows no top-level name for it

Volar = Callable[..., Any]


@pytest.fixture(autouse=True)
def _registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(root.entries, "run", Entry("volant.cli.run_vm:run", ""))  # type: ignore[attr-defined]


def make_manifest(directory: Path, **changes: Any) -> dict[str, Any]:
    directory.mkdir(exist_ok=True)
    (directory / "kernel").write_bytes(b"kernel")
    medium = {"url": "kernel", "checksum": "sha256:" + hashlib.sha256(b"kernel").hexdigest()}
    manifest = {
        "schema_version": "v1", "name": "web", "version": "1.0",
        "workload": {"type": "http", "base_url": "http://127.0.0.1:80", "entrypoint": ["/bin/web"]},
        "health_check": {"endpoint": "/"}, "boot": {"kernel": medium}, "initramfs": medium, "start": {"pool": 2}, **changes,
    }  # fmt: skip
    (directory / "manifest.json").write_text(json.dumps(manifest))
    return manifest


@pytest.fixture
def built(tmp_path: Path) -> Path:
    make_manifest(tmp_path / "out")
    return tmp_path / "out"


class Host:
    """Ends each VM as it is told, and remembers what was made and removed."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.end = EndRecord(run_id="r1", kind="powered_off", message="exited with code 0", at="", clean=True)
        self.phase = "Stopped"
        self.lines: list[tuple[str, str]] = []
        self.made: list[VM] = []
        self.plugins: list[Any] = []
        self.removed: list[str] = []
        self.on_create: Callable[[], None] = lambda: None
        self.ends_at_once = True
        plane = served.plane
        create, delete, install, remove = plane.vms.create, plane.vms.delete, plane.plugins.install, plane.plugins.remove
        self._stop = plane.vms.stop

        async def create_and_end(wanted: Any, **named: Any) -> Any:
            vm = await create(wanted, **named)
            self.made.append(vm)
            for text, source in self.lines:
                await plane.door.write_line(text, source)
            if self.ends_at_once:
                await self.settle(vm.name)
            self.on_create()
            return vm

        async def stop_and_end(name: str, **named: Any) -> Any:
            await self._stop(name, **named)
            return await self.settle(name)

        async def delete_at_once(name: str, **named: Any) -> Any:
            vm = await delete(name, **named)
            await plane.vms.table.drop(name)
            return vm

        async def install_and_tell(manifest: Any, signed: Any = None, **named: Any) -> Any:
            plugin, created = await install(manifest, signed, **named)
            self.plugins.append(plugin)
            return plugin, created

        async def remove_and_tell(name: str, **named: Any) -> Any:
            plugin = await remove(name, **named)
            self.removed.append(name)
            return plugin

        plane.vms.create = create_and_end  # type: ignore[method-assign]
        plane.vms.stop = stop_and_end  # type: ignore[method-assign]
        plane.vms.delete = delete_at_once  # type: ignore[method-assign]
        plane.plugins.install = install_and_tell  # type: ignore[method-assign]
        plane.plugins.remove = remove_and_tell  # type: ignore[method-assign]

    async def settle(self, name: str) -> Any:
        end = None if self.end is None else self.end
        return await self.served.plane.settle(name, self.phase, run_id="r1", last_end=end, reason="Ended", message="so it is")

    @property
    def left(self) -> tuple[list[str], list[str]]:
        plane = self.served.plane
        return list(plane.vms.table.rows), list(plane.plugins.table.rows)


@pytest.fixture
def host(served: Served) -> Host:
    return Host(served)


def test_an_artifact_runs_once_and_leaves_nothing(host: Host, volar: Volar, built: Path) -> None:
    host.lines = [("one", "stdout"), ("two", "stderr"), ("main: exited", "kestrel"), ("three", "stdout")]
    ran = volar("run", str(built), "--memory", "96", "--cpus", "2", "-e", "A=b", "-p", "8080:80")
    assert (ran.code, ran.out) == (0, "one\nthree\n")
    assert "two\n" in ran.err and "main: exited" not in ran.err
    (vm,) = host.made
    assert (vm.spec.root, vm.spec.restart_policy, vm.spec.start) == ("ephemeral", "never", "cold")
    assert (vm.spec.memory_mb, vm.spec.cpu_cores, vm.spec.env) == (96, 2, {"A": "b"})
    assert vm.spec.ports is not None and (vm.spec.ports[0].host_port, vm.spec.ports[0].port) == (8080, 80)
    assert vm.meta.labels["volant.run"] == "yes" and vm.meta.labels["volant.run-by"].endswith(f":{os.getpid()}")
    assert vm.name.startswith("run-web-")
    (plugin,) = host.plugins
    assert plugin.manifest.labels == {"volant.run": "yes"} and plugin.wanted_pool == 0
    assert host.left == ([], ["nginx"])


def test_the_manifest_itself_may_be_named(host: Host, volar: Volar, built: Path) -> None:
    assert volar("run", "-q", str(built / "manifest.json"), "--name", "mine").err == ""
    assert [vm.name for vm in host.made] == ["mine"]


@pytest.mark.parametrize(
    ("exit_", "clean", "code"),
    [
        ({"exit_code": 3}, False, 3),
        ({"exit_code": 0}, True, 0),
        ({"exit_signal": 9}, False, 137),
        ({}, True, 0),
    ],
)
def test_the_exit_code_is_the_workloads(
    host: Host, volar: Volar, built: Path, exit_: dict[str, int], clean: bool, code: int
) -> None:
    host.end = EndRecord(run_id="r1", kind="powered_off", message="whatever was said", at="", clean=clean, **exit_)
    host.phase = "Stopped" if clean else "Failed"
    assert volar("run", str(built)).code == code
    assert host.left == ([], ["nginx"])


def test_a_vm_that_crashes_is_told_about(host: Host, volar: Volar, built: Path) -> None:
    host.phase = "Failed"
    host.end = EndRecord(run_id="r1", kind="crashed", message="the VM process was ended by SIGKILL", at="")
    ran = volar("run", str(built))
    assert ran.code == 1 and "failed: Ended: so it is" in ran.err
    assert host.left == ([], ["nginx"])


def test_the_end_of_another_run_is_not_this_ones() -> None:
    end = EndRecord(run_id="before", kind="powered_off", message="it ended", at="", exit_code=3)
    meta = Meta(name="web", uid=new_uid())
    vm = VM(meta=meta, spec=VMSpec(plugin="web"), status=VMStatus(run_id="now", last_end=end))
    assert read_exit_code(vm) is None
    assert read_exit_code(msgspec.structs.replace(vm, status=VMStatus(run_id="before", last_end=end))) == 3


def test_keep_leaves_both(host: Host, volar: Volar, built: Path) -> None:
    assert volar("run", str(built), "--keep").code == 0
    vms, plugins = host.left
    assert vms == [host.made[0].name] and plugins == ["nginx", host.made[0].spec.plugin]


def test_what_is_installed_already_is_used_and_left(host: Host, volar: Volar, built: Path) -> None:
    volar("plugins", "install", str(built))
    plugin = host.served.plane.plugins.table.rows["web"]
    named = name_by_content(convert_manifest(plugin.spec.manifest))
    host.served.run(
        host.served.plane.plugins.table.put(
            msgspec.structs.replace(plugin, spec=msgspec.structs.replace(plugin.spec, manifest=named))
        )
    )
    for given in (str(built), "web"):
        assert volar("run", given).code == 0
        assert (host.made[-1].spec.plugin, host.made[-1].spec.start) == ("web", "auto")
    assert host.left == ([], ["nginx", "web"])


def test_another_plugin_of_that_name_is_left_alone(host: Host, volar: Volar, built: Path) -> None:
    volar("plugins", "install", str(built))
    make_manifest(built, version="2.0")
    assert volar("run", str(built)).code == 0
    assert host.made[-1].spec.plugin.startswith("run-web-")
    assert host.left == ([], ["nginx", "web"])


def test_what_is_signed_keeps_its_name(host: Host, volar: Volar, built: Path) -> None:
    (built / "manifest.json.minisig").write_text("untrusted comment: x\n")
    assert volar("run", str(built)).code == 0
    (plugin,) = host.plugins
    assert plugin.name == "web"
    assert plugin.spec.signed == SignedManifest(
        manifest=(built / "manifest.json").read_text(), signature="untrusted comment: x\n"
    )
    assert host.left == ([], ["nginx"])


def test_a_command_runs_in_the_place_of_the_workload(host: Host, volar: Volar, built: Path) -> None:
    assert volar("run", str(built), "--", "sh", "-c", "exit 0").code == 0
    manifest = host.plugins[-1].manifest
    assert (manifest.workload.type, manifest.workload.entrypoint) == ("exec", ("sh", "-c", "exit 0"))
    assert manifest.health_check is None and manifest.workload.base_url == ""
    assert host.left == ([], ["nginx"])


def test_ctrl_c_stops_it_and_cleans_up(host: Host, volar: Volar, built: Path) -> None:
    host.ends_at_once = False
    host.on_create = lambda: os.kill(os.getpid(), signal.SIGINT)
    host.end = EndRecord(run_id="r1", kind="powered_off", message="it was asked to stop", at="", asked=True, clean=True)
    handler = signal.getsignal(signal.SIGINT)
    ran = volar("run", str(built))
    assert ran.code == 130
    assert host.left == ([], ["nginx"])
    assert signal.getsignal(signal.SIGINT) is handler


def test_it_is_stopped_when_nobody_reads_it_any_more(
    host: Host, volar: Volar, built: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    host.ends_at_once = False
    host.lines = [("one", "stdout")]
    echo = click.echo

    def echo_to_nobody(message: str, err: bool = False, nl: bool = True) -> None:
        if not err:
            raise BrokenPipeError
        echo(message, err=err, nl=nl)

    monkeypatch.setattr(run_follow.click, "echo", echo_to_nobody)
    volar("run", str(built))
    assert host.left == ([], ["nginx"])


def test_it_is_stopped_when_it_runs_for_too_long(host: Host, volar: Volar, built: Path) -> None:
    host.ends_at_once = False
    ran = volar("run", str(built), "--timeout", "100ms")
    assert ran.code == 124 and "--timeout" in ran.err
    assert host.left == ([], ["nginx"])


def test_a_vm_that_cannot_be_made_leaves_no_plugin(host: Host, volar: Volar, built: Path) -> None:
    theirs = VM(meta=Meta(name="web", uid=new_uid()), spec=VMSpec(plugin="nginx"), status=VMStatus())
    host.served.run(host.served.plane.vms.table.put(theirs))
    ran = volar("run", str(built), "--name", "web")
    assert ran.code == 4
    assert host.left == (["web"], ["nginx"])


def test_a_registrys_plugin_is_fetched_by_volantd_and_goes_again(host: Host, volar: Volar) -> None:
    asked: list[tuple[str, str]] = []

    async def install_from(source: str, checksum: str = "", *, report: Any = None, how: Any, project: str = "default") -> Any:
        asked.append((source, checksum))
        return await host.served.plane.add_plugin("web"), True

    host.served.plane.plugins.install_from = install_from  # type: ignore[attr-defined]
    assert volar("run", "oci://registry.example.org/web:1.0").code == 0
    assert asked == [("oci://registry.example.org/web:1.0", "")]
    assert host.left == ([], ["nginx"])


def test_the_web_is_not_run_from(host: Host, volar: Volar) -> None:
    ran = volar("run", "https://www.example.org/manifest.json")
    assert ran.code == 2 and "volar plugins install" in ran.err


def test_without_volantd_nothing_is_built(volar: Volar, served: Served, tmp_path: Path) -> None:
    served.stop()
    ran = volar("run", str(tmp_path / "absent"))
    assert ran.code == 1 and "no volantd answers" in ran.err and "hint:" in ran.err


class TestImages:
    """A fledge of the test's own: a shell script."""

    pytestmark = pytest.mark.spawns

    @pytest.fixture
    def fledge(self, tmp_path: Path, built: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        script = tmp_path / "fledge"
        script.write_text(
            f'#!/bin/sh\npwd > {tmp_path}/told\nprintf "%s\\n" "$@" >> {tmp_path}/told\necho building >&2\n'
            f'while [ "$1" != --output ]; do shift; done\ncp {built}/* "$2"\n'
        )
        script.chmod(0o755)
        monkeypatch.setattr(fledge_build, "_find_fledge", lambda: str(script))
        return script

    def test_an_image_is_built_first(
        self, fledge: Path, host: Host, volar: Volar, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        ran = volar("run", "registry.example.org/web:1.0")
        assert ran.code == 0 and "building\n" in ran.err
        told = (tmp_path / "told").read_text().splitlines()
        assert told[:3] == [str(tmp_path), "build", "--output"] and told[4:] == ["--", "registry.example.org/web:1.0"]
        assert not Path(told[3]).exists()
        assert host.left == ([], ["nginx"])

    def test_an_installed_plugin_is_meant_before_an_image(self, fledge: Path, host: Host, volar: Volar, tmp_path: Path) -> None:
        assert volar("run", "nginx").code == 0
        assert not (tmp_path / "told").exists()
        assert volar("run", "-q", "nginx:1.27").code == 0
        assert "--quiet" in (tmp_path / "told").read_text()

    def test_a_build_that_fails_says_so_itself(self, fledge: Path, host: Host, volar: Volar) -> None:
        fledge.write_text("#!/bin/sh\necho 'fledge: no such image' >&2\nexit 2\n")
        ran = volar("run", "absent:1.0")
        assert (ran.code, ran.err) == (2, "fledge: no such image\n")
        assert host.made == []

    def test_without_fledge_it_is_said(self, host: Host, volar: Volar, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(fledge_build, "_find_fledge", lambda: "no-such-fledge")
        ran = volar("run", "absent:1.0")
        assert ran.code == 1 and "fledge is not installed here" in ran.err

    def test_ctrl_c_ends_the_build(self, fledge: Path, host: Host, volar: Volar, tmp_path: Path) -> None:
        fledge.write_text(
            f'#!/bin/sh\ntrap "touch {tmp_path}/ended; exit 130" INT\nkill -INT {os.getpid()}\nwhile :; do sleep 0.05; done\n'
        )
        ran = volar("run", "image:1.0")
        assert ran.code == 130
        assert (tmp_path / "ended").exists()
        assert host.made == []
