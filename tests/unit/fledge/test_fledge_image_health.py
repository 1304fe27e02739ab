from __future__ import annotations

import pytest

from volant.core.manifest import HealthCheck
from volant.core.probe import Probe
from volant.fledge.image_health import is_disabled, read_exec_probe, read_healthcheck
from volant.fledge.source.oci import Healthcheck


@pytest.mark.parametrize(
    ("test", "endpoint"),
    [
        (("CMD-SHELL", "curl -f http://localhost:8080/healthz || exit 1"), "/healthz"),
        (("CMD", "wget", "-q", "--spider", "http://127.0.0.1:8080/a?b=c"), "/a?b=c"),
        (("CMD-SHELL", "wget -qO- localhost:8080/ping"), "/ping"),
        (("CMD-SHELL", "curl -f http://localhost:8080"), "/"),
    ],
)
def test_asking_for_a_page_becomes_a_health_check(test: tuple[str, ...], endpoint: str) -> None:
    found = read_healthcheck(Healthcheck(test=test, interval=10**10, timeout=2 * 10**9, retries=5), 8080)
    assert found == HealthCheck(endpoint=endpoint, timeout_ms=2000, interval_ms=10000, unhealthy_threshold=5)


def test_what_is_not_said_is_as_docker_has_it() -> None:
    found = read_healthcheck(Healthcheck(test=("CMD", "curl", "http://localhost/")), 80)
    assert found == HealthCheck(endpoint="/", timeout_ms=30000, interval_ms=30000, unhealthy_threshold=3)


@pytest.mark.parametrize(
    "test",
    [
        ("CMD", "pg_isready"),
        ("CMD", "curl", "http://localhost:9000/"),
        ("CMD", "curl", "http://elsewhere.example:8080/"),
        ("CMD-SHELL", "curl http://localhost:8080/a && curl http://localhost:8080/b"),
        ("CMD", "curl", "http://localhost:port/"),
    ],
)
def test_anything_else_is_not_guessed_at(test: tuple[str, ...]) -> None:
    assert read_healthcheck(Healthcheck(test=test), 8080) is None
    assert not is_disabled(Healthcheck(test=test))


@pytest.mark.parametrize("check", [None, Healthcheck(), Healthcheck(test=()), Healthcheck(test=("NONE",))])
def test_none_is_none(check: Healthcheck | None) -> None:
    assert is_disabled(check)
    assert read_healthcheck(check, 80) is None


@pytest.mark.parametrize(
    ("test", "command"),
    [
        (("CMD", "pg_isready", "-q"), ("pg_isready", "-q")),
        (("CMD-SHELL", "curl -f localhost:9000 || exit 1"), ("/bin/sh", "-c", "curl -f localhost:9000 || exit 1")),
    ],
)
def test_a_program_becomes_a_probe(test: tuple[str, ...], command: tuple[str, ...]) -> None:
    found = read_exec_probe(Healthcheck(test=test, interval=10**10, timeout=2 * 10**9, retries=5))
    assert found == Probe(exec=command, interval_ms=10_000, timeout_ms=2000, failure_threshold=5)


@pytest.mark.parametrize(
    "test", [(), ("NONE",), ("CMD",), ("CMD", ""), ("CMD-SHELL", " "), ("CMD-SHELL", "a", "b"), ("RUN", "a")]
)
def test_what_is_no_program_is_no_probe(test: tuple[str, ...]) -> None:
    assert read_exec_probe(Healthcheck(test=test)) is None


def test_times_beyond_all_bounds_are_bounded() -> None:
    found = read_exec_probe(Healthcheck(test=("CMD", "a"), interval=10**18, timeout=1, retries=10**6))
    assert found == Probe(exec=("a",), interval_ms=3_600_000, timeout_ms=1, failure_threshold=1000)
