"""What every fuzzer is handed: its campaign; and what all of them tell at the end: how many inputs were tried."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.fuzz.bed import Bed
from tests.fuzz.campaign import Campaign, from_environment
from tests.fuzz.network import own_network
from tests.kernel.conftest import Kernel, kernel

__all__ = ["kernel"]

PROPERTY = "fuzz"


@pytest.fixture
def campaign(request: pytest.FixtureRequest, record_property: Callable[[str, object], None]) -> Campaign:
    """A campaign named after its test; what it tells is shown at the end, from other processes (xdist), too."""
    return from_environment(request.node.name, lambda words: record_property(PROPERTY, words))


@pytest.fixture(scope="session")
def _session_bed(kernel: Kernel) -> Iterator[Bed]:
    made = Bed(kernel)
    yield made
    made.close()


@pytest.fixture
def bed(_session_bed: Bed) -> Iterator[Bed]:
    """The loaded programs to run packets through, in a network namespace of the test's own."""
    with own_network():
        yield _session_bed
        _session_bed.settle()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many inputs each campaign tried; of one that failed the failure tells its seed."""
    lines = [
        value
        for reports in terminalreporter.stats.values()
        for report in reports
        if getattr(report, "when", "") == "call"
        for name, value in report.user_properties
        if name == PROPERTY
    ]
    if lines:
        terminalreporter.section("fuzz")
        for line in lines:
            terminalreporter.write_line(str(line))
