"""Fixtures of the end-to-end tests."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

from .bench import COMMAND, Bench


@pytest.fixture(scope="session", autouse=True)
def able() -> None:
    """Fail, not skip, where the end-to-end tests cannot run."""
    if os.geteuid() != 0:
        pytest.fail("the end-to-end tests need root: network namespaces, cgroups, BPF", pytrace=False)
    if not COMMAND.exists():
        pytest.fail(f"{COMMAND} is not installed", pytrace=False)


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Of a test that failed, show what the Engine had to say: the bench is gone afterwards, and its log with it."""
    report = (yield).get_result()
    bench = getattr(item, "funcargs", {}).get("bench")
    if report.failed and isinstance(bench, Bench):
        log = Path("/var/log/kpf-ebpf", bench.instance, "engine.log")
        if log.exists():
            report.sections.append(("the Engine's log", log.read_text(errors="replace")[-4000:]))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Give a bench of the test's own and remove it afterwards."""
    made = Bench(tmp_path)
    try:
        made.build()
        yield made
    finally:
        made.remove()
