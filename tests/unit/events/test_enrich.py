"""Events get the names of rules, programs, users and protocols."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from kpf_ebpf.events.decode import decode
from kpf_ebpf.events.enrich import RuleName, enrich
from kpf_ebpf.events.model import LogRecord
from kpf_ebpf.facts.model import FileKey
from kpf_ebpf.kernel import abi
from tests.unit.events.factories import an_event

RULES = {9: RuleName("packet-filter/3", "Web browsing", "packet-filter")}
PATHS = {(77, 4711): "/usr/bin/curl"}


def path_of(key: FileKey, pid: int) -> str | None:
    """Know one program."""
    return PATHS.get((key.inode, pid))


def enriched(**changes: Any) -> LogRecord:
    """Make an event and enrich it in a small world."""
    return enrich(
        decode(bytes(an_event(**changes))),
        RULES,
        path_of,
        {1000: "alice"}.get,
        lambda ktime: datetime.fromtimestamp(ktime / 1e9, UTC),
    )


def test_an_event_becomes_a_record_in_words() -> None:
    """Every column is filled in."""
    assert enriched() == LogRecord(
        line=0,
        count=1,
        date=datetime(1970, 1, 1, 0, 0, 5, tzinfo=UTC),
        rule="Web browsing",
        id="packet-filter/3",
        origin="packet-filter",
        application="/usr/bin/curl",
        pid=4711,
        user="alice",
        direction="out",
        local="192.0.2.1:40000",
        remote="198.51.100.7:443",
        protocol="tcp",
        action="permit",
        hook="egress",
        alert=False,
    )


def test_denied_coming_in_with_alert_is_said_so() -> None:
    """Direction, action, hook and alert follow the event."""
    record = enriched(direction=0, action=0, hook=4, flags=abi.RULE_ALERT)
    assert (record.direction, record.action, record.hook, record.alert) == ("in", "deny", "ingress", True)


def test_a_file_of_zeros_is_unknown() -> None:
    """Without a pid, the uid of zero means nobody."""
    record = enriched(application=(0, 0, 0, 0, 0), pid=0, uid=0)
    assert (record.application, record.pid, record.user) == ("unknown", None, None)


def test_an_unknown_program_of_a_known_process_has_its_user() -> None:
    """The uid is filled in where the pid is."""
    assert enriched(application=(0, 0, 0, 0, 0)).user == "alice"


def test_the_kernel_is_named() -> None:
    """Inode 0 of generation 1 is the kernel itself."""
    record = enriched(application=(0, 0, 1, 0, 0), pid=0, uid=0)
    assert (record.application, record.user) == ("kernel", None)


def test_a_component_is_still_its_path() -> None:
    """The Engine and the canary are programs like others."""
    assert enriched(component=abi.Component.CANARY).application == "/usr/bin/curl"


def test_a_program_without_a_path_is_named_by_its_inode() -> None:
    """It is not "unknown": the kernel knew which file it was."""
    assert enriched(application=(5, 8 << 20 | 1, 3, 1, 1)).application == "inode 5 on 8:1"


def test_a_user_without_a_name_is_a_number() -> None:
    """So is a user of a container."""
    assert enriched(uid=123456).user == "123456"


def test_a_rule_that_is_gone_is_named_by_its_counter() -> None:
    """An event may arrive after its policy was replaced."""
    record = enriched(counter=500)
    assert (record.id, record.rule, record.origin) == ("counter/500", "unknown rule", "unknown")


@pytest.mark.parametrize(
    ("protocol", "icmp", "hook", "text"),
    [
        (17, 0, 3, "udp"),
        (253, 0, 3, "253"),
        (1, 8, 3, "icmp 8"),
        (1, 0, 4, "icmp 0"),
        (1, 0, 1, "icmp"),
        (58, 256 + 128, 3, "icmpv6 128"),
        (58, 512 + 128, 4, "icmpv6 128"),
        (58, 0, 2, "icmpv6"),
    ],
)
def test_a_protocol_is_named_with_its_icmp_type(protocol: int, icmp: int, hook: int, text: str) -> None:
    """Unnamed protocols are numbers; the early hooks do not know the type."""
    assert enriched(protocol=protocol, icmp=icmp, hook=hook).protocol == text
