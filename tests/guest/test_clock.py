"""The clock of the machine is set: nothing that the firewall does depends on what time it is said to be."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from tests.e2e.bench import DENY_ALL, SERVER, Bench
from tests.e2e.test_confirm import PERMIT, expire, left, on_trial, reaches
from tests.e2e.tools import eventually

DAY = 86_400.0


@contextmanager
def clock_set(by: float) -> Iterator[None]:
    """Set the clock by so many seconds; afterwards it is right again."""
    right = time.time() - time.monotonic()
    time.clock_settime(time.CLOCK_REALTIME, time.time() + by)
    try:
        yield
    finally:
        time.clock_settime(time.CLOCK_REALTIME, right + time.monotonic())


def lines(bench: Bench) -> list[int]:
    """Return the numbers of the log's lines, in their order."""
    return [int(record["line"]) for record in bench.log()]


def test_nothing_heeds_the_clock(bench: Bench) -> None:
    """Set back by a day, then a day ahead: verdicts, trials and their ends, status and log lines are as ever."""
    bench.peer("tcp-echo", SERVER, 7000)
    bench.up(policy=PERMIT)
    assert reaches(bench)
    engine = bench.status()["engine"]
    for by in (-DAY, DAY):
        with clock_set(by):
            assert reaches(bench)
            assert bench.kpf("status").returncode == 0
            assert on_trial(bench, DENY_ALL, 600).returncode == 0
            assert 0 < (left(bench) or 0) <= 600
            assert not reaches(bench)
            expire(bench)
            assert reaches(bench)
            assert eventually(lambda: left(bench) is None)
    assert bench.status()["engine"] == engine
    numbers = lines(bench)
    assert numbers and numbers == list(range(numbers[0], numbers[0] + len(numbers)))
