"""How a VM process without any right gets at files that only root can find."""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from volant.artifact.store import ArtifactStore
from volant.core.ids import Digest
from volant.run import run

pytestmark = pytest.mark.vm

CONTENT = b"a kernel"
AS_NOBODY = ["setpriv", "--reuid", "700000", "--regid", "700000", "--clear-groups", "--"]


async def stream() -> AsyncIterator[bytes]:
    yield CONTENT


async def test_a_descriptor_can_be_reopened_for_reading_only_and_the_path_not_at_all(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root")
    digest = Digest(f"sha256:{hashlib.sha256(CONTENT).hexdigest()}")
    store = ArtifactStore(tmp_path / "artifacts")
    await store.prepare()
    await store.put(stream(), digest)
    descriptor = store.open(digest)
    try:
        reopened = f"/proc/self/fd/{descriptor}"
        done = await run([*AS_NOBODY, "cat", reopened], timeout_s=10, pass_fds=[descriptor])
        assert done.stdout == CONTENT
        writing = await run([*AS_NOBODY, "sh", "-c", f"echo x >>{reopened}"], timeout_s=10, pass_fds=[descriptor], check=False)
        assert writing.exit_status != 0
        by_path = await run([*AS_NOBODY, "cat", os.readlink(reopened)], timeout_s=10, check=False)
        assert b"Permission denied" in by_path.stderr
    finally:
        os.close(descriptor)
    assert os.stat(tmp_path / "artifacts").st_mode & 0o777 == 0o700
