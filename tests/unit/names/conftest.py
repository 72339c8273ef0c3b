"""What tests of names share: a name server, and patience with a deadline."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.unit.names.inquiry import Inquiry
from tests.unit.names.server import Server


@pytest.fixture
def server() -> Iterator[Server]:
    """A name server that knows nothing yet."""
    with Server() as running:
        yield running


@pytest.fixture
def other() -> Iterator[Server]:
    """Another server, which knows a.example by another address."""
    with Server() as running:
        running.put("a.example", "A", 60, "192.0.2.2")
        yield running


@pytest.fixture
def inquiry(server: Server) -> Iterator[Inquiry]:
    """An asker of one server, which knows a.example."""
    server.put("a.example", "A", 60, "192.0.2.1")
    made = Inquiry(server.resolver)
    yield made
    made.asker.close()
