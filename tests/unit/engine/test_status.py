"""What status warns of."""

from __future__ import annotations

from kpf_ebpf.engine.records import Losses
from kpf_ebpf.engine.status import lost_lines


def test_what_the_engine_lost_is_told() -> None:
    """Each kind with its count; nothing lost, nothing said."""
    assert lost_lines(Losses()) == []
    told = lost_lines(Losses(malformed=1, log=2, syslog=3))
    assert [line.split()[0] for line in told] == ["1", "2", "3"]
    assert "log" in told[1] and "syslog" in told[2]
