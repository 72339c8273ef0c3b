"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from .bench import COMMAND, Bench


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Fail, not skip, where the end-to-end tests cannot run."""
    if os.geteuid() != 0:
        pytest.fail("the end-to-end tests need root: network namespaces, cgroups, BPF", pytrace=False)
    if not COMMAND.exists():
        pytest.fail(f"{COMMAND} is not installed", pytrace=False)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a bench of the test's own and remove it afterwards."""
    made = Bench(tmp_path)
    try:
        made.build()
        yield made
    finally:
        made.remove()
