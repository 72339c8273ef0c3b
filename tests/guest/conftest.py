"""Tests that need what a stock Debian kernel has and the kernels of some hosts have not: they run in `make vm-test`.

The bench is that of tests/e2e. What should be there and is not fails; nothing is skipped.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.conftest import able, bench
from tests.e2e.tools import system

__all__ = ["able", "bench"]

MODULES = ("sctp", "wireguard", "fuse", "loop")


@pytest.fixture(scope="session", autouse=True)
def modules() -> None:
    """Load the kernel's modules; fail on a machine that is not meant for these tests."""
    if not Path("/root/limit").exists():
        pytest.fail("these tests run in a virtual machine: make vm-test", pytrace=False)
    system("modprobe", "--all", *MODULES)
