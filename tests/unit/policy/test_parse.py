"""Whole policies: the example, defaults, all mistakes at once, hostile bytes."""

from __future__ import annotations

import hashlib
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from kpf_ebpf.policy.addresses import address
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.policy.model import (
    Action,
    Cells,
    Components,
    Default,
    Policy,
    Predefined,
    Preferences,
    Proxy,
    Syslog,
    ZoneCells,
)

from .factories import a_rule_text, mistakes, parsed

EXAMPLE = (Path(__file__).parent / "example.toml").read_bytes()
TEN_MISTAKES = """\
[preferences]
on-failure = "ajar"
[[trusted]]
description = "Home"
address = "192.168.1.7/24"
[groups]
office = ["198.51.100.0/24",
          "198.51.100.9-198.51.100.1"]
[[packet-filter]]
description = "One"
action = "ask"
protocol = "tcp"
remote = { port = 70000 }
[[packet-filter]]
description = "One"
action = "deny"
remote = { address = "@offices" }
[[packet-filter]]
description = "Two"
acton = "deny"
action = "deny"
[[application]]
path = "curl"
[predefined]
dns = { internet = "maybe" }
"""


def test_an_empty_file_is_a_policy_of_defaults() -> None:
    """The same values that the model has."""
    policy, warnings = parsed("")
    assert policy == Policy(file="policy.toml", sha256=hashlib.sha256(b"").hexdigest())
    assert policy.preferences == Preferences()
    assert policy.predefined == Predefined()
    assert policy.default == Default()
    assert warnings == ()


def test_the_shipped_values_written_out_are_the_defaults() -> None:
    """As the policy's reference shows them."""
    text = """
        [preferences]
        remote-administration = false
        send-crash-dumps = true
        popup-blocking = false
        proxy = "system"
        crash-server = "crashes.kerio.com"
        registration-server = "secure.kerio.com"
        registration-port = 443
        administration-port = 44334
        popup-port = 44501
        resolvers = "system"
        name-grace = 3600
        on-failure = "closed"
        on-modified = "deny"
        log-internal = false
        [preferences.syslog]
        enabled = false
        server = "192.0.2.10"
        port = 514
        [predefined]
        igmp = { trusted = "deny", internet = "deny" }
        ping-in = { trusted = "permit", internet = "deny" }
        ping-out = { trusted = "permit", internet = "permit" }
        other-icmp = { trusted = "permit", internet = "deny" }
        dhcp = { trusted = "permit", internet = "permit" }
        dns = { trusted = "permit", internet = "permit" }
        vpn = { trusted = "permit", internet = "permit" }
        ipsec = { trusted = "permit", internet = "permit" }
        broadcasts = { trusted = "permit", internet = "permit" }
        enabled = true
        log = false
        [default]
        trusted-in = "permit"
        trusted-out = "permit"
        internet-in = "deny"
        internet-out = "permit"
        log = false
    """
    written, _ = parsed(text)
    assert written == Policy(file="policy.toml", sha256=written.sha256)


def test_every_key_of_the_example_arrives() -> None:
    """One policy with all of them."""
    policy, warnings = parsed(EXAMPLE, {"bad.txt": b"203.0.113.0/24\n"})
    resolvers = (address("192.0.2.53"), 53), (address("127.0.0.1"), 5353), (address("2001:db8::53"), 54)
    assert policy.preferences == Preferences(
        remote_administration=True,
        send_crash_dumps=False,
        popup_blocking=True,
        proxy=Proxy("2001:db8::8", 3128),
        crash_server="dumps.example",
        registration_server="licences.example",
        registration_port=8443,
        administration_port=44335,
        popup_port=44502,
        resolvers=resolvers,  # type: ignore[arg-type]  # None would not compare equal
        name_grace=60,
        on_failure="open",
        on_modified="accept-system",
        log_internal=True,
        syslog=Syslog(True, "logs.example", 1514),
    )
    assert policy.components == Components("/opt/fw/engine", "/opt/fw/gui", "/opt/fw/assist")
    assert [(item.adapter, item.addresses.any) for item in policy.trusted] == [("eth0", False), ("wg0", True)]
    assert set(policy.groups) == {"branch", "bad"}
    assert len(policy.groups["branch"].addresses.ranges) == 3
    first, second = policy.packet_filter
    assert (first.group, first.applications, first.users) == ("privacy", ("/usr/bin/curl", "/opt/**"), ("alice", 1001))
    assert (first.cgroup, first.protocols, first.enabled, first.alert) == (
        "/system.slice/app.service",
        (6, 17),
        False,
        True,
    )
    assert first.remote.address.groups == ("bad",)
    assert first.remote.address.names == ("home.example",)
    assert first.remote.ports == ((80, 80), (443, 443), (8000, 8100))
    assert second.icmp_types == ((1, 8), (58, 128), (1, 13), (58, 13))
    assert policy.predefined.cells["broadcasts"] == ZoneCells(Action.PERMIT, Action.PERMIT)
    assert policy.predefined.cells["other-icmp"] == ZoneCells(Action.DENY, Action.DENY)
    assert not policy.predefined.enabled
    (application,) = policy.applications
    assert application.cells == Cells(Action.DENY, Action.PERMIT, Action.DENY, Action.PERMIT)
    assert policy.default == Default(internet_out=Action.DENY, log=True)
    assert (policy.sha256, warnings) == (hashlib.sha256(EXAMPLE).hexdigest(), ())


def test_ten_different_mistakes_are_ten_findings_with_their_lines() -> None:
    """All at once, sorted."""
    found = mistakes(TEN_MISTAKES)
    assert [(finding.where.line, finding.key, finding.word) for finding in found] == [
        (2, "on-failure", "ajar"),
        (5, "address", "192.168.1.7/24"),
        (8, "office", "198.51.100.9-198.51.100.1"),
        (11, "action", "ask"),
        (13, "remote.port", "70000"),
        (15, "description", "One"),
        (17, "remote.address", "@offices"),
        (20, "acton", "acton"),
        (23, "path", "curl"),
        (25, "dns.internet", "maybe"),
    ]


def test_an_unknown_section_gets_the_near_one_suggested() -> None:
    """Unknown keys anywhere are errors."""
    (finding,) = mistakes("[preferances]\n")
    assert (finding.where.line, finding.word, finding.suggestion) == (1, "preferances", "preferences")


def test_a_group_without_its_sign_is_warned_of() -> None:
    """ "office" is a host name, "@office" was probably meant."""
    text = a_rule_text(remote='{ address = "office" }') + '[groups]\noffice = ["192.0.2.1"]\n'
    _, (warning,) = parsed(text)
    assert (warning.key, warning.suggestion) == ("remote.address", "@office")


def survives(data: bytes) -> None:
    """Parse ``data``: a policy, or PolicyError whose findings can be shown on a terminal; nothing else."""
    try:
        parsed(data, {"bad.txt": data})
    except PolicyError as error:
        assert error.findings
        assert all(str(finding).isprintable() for finding in error.findings)


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=200))
def test_random_bytes_are_refused_and_nothing_worse(data: bytes) -> None:
    """Every byte of these files is hostile."""
    survives(data)


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(EXAMPLE)), st.integers(0, 12), st.binary(max_size=12) | st.text(max_size=6).map(str.encode))
def test_a_mutated_policy_is_read_or_refused_and_nothing_worse(at: int, cut: int, insert: bytes) -> None:
    """A piece of the example is replaced by other bytes."""
    survives(EXAMPLE[:at] + insert + EXAMPLE[at + cut :])


VALUES = ["true", "-1", "1.5", "0x" + "f" * 400, "[]", "[[[]]]", "{}", '"\\u001b[0m\\u202e"', "1979-05-27", "nan", '""']


@settings(max_examples=200, deadline=None)
@given(st.integers(0, EXAMPLE.count(b"\n")), st.sampled_from(VALUES))
def test_any_type_of_value_may_stand_at_any_key(line: int, value: str) -> None:
    """A key's value is replaced by one of another type."""
    lines = EXAMPLE.decode().split("\n")
    key, equals, _ = lines[line].partition(" = ")
    if equals:
        lines[line] = f"{key} = {value}"
    survives("\n".join(lines).encode())
