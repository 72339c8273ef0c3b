"""Guards these tests: they firewall a whole machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.boot.machine import KEPT, LATER, PACKAGE


@pytest.fixture(scope="session", autouse=True)
def machine() -> None:
    """Fail, not skip, on a machine that was not made for this."""
    if not (Path("/root/limit").exists() and KEPT.is_dir() and PACKAGE.exists() and LATER.exists()):
        pytest.exit("these tests firewall the whole machine they run on: make vm-test TESTS=tests/boot", 1)
