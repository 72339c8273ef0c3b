"""Block lists of any bytes: what is accepted is exactly what its lines say, one by one."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from pathlib import Path
from random import Random

from kpf_ebpf.policy import limits
from kpf_ebpf.policy.addresses import group_lines
from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.policy.model import V4_BASE, Range
from kpf_ebpf.policy.parse import parse
from tests.fuzz.campaign import Campaign
from tests.fuzz.mutate import mutated

POLICY = b'[groups]\nlist = { file = "list.txt" }\n'
KNOWN: tuple[bytes, ...] = ()
"""Group files that once broke a rule of this module."""
V4_END = V4_BASE + 2**32
HARD = (
    b"0.0.0.0/0", b"::/0", b"::ffff:0:0/96", b"::ffff:0:0/95", b"::ffff:1.2.3.4", b"::ffff:1.2.3.4/128",
    b"255.255.255.255", b"1.2.3.4/32", b"1.2.3.4/33", b"1.2.3.4/031", b"1.2.3.4/ 31", b"1.2.3.4/255.255.255.0",
    b"01.2.3.4", b"1.2.3", b"1", b"1.2.3.4-1.2.3.9", b"1.2.3.9-1.2.3.4", b"1.2.3.4 - 1.2.3.9", b"1.2.3.4-::1",
    b"::-ffff::", b"fe80::1%lo", b"1.2.3.4%lo", b"example.org", b"@trusted", b"1.2.3.4 1.2.3.5", b"1.2.3.4,1.2.3.5",
    b"1.2.3.4\r", b"\xef\xbb\xbf1.2.3.4", b"\xff", b"\x00", b"1.2.3.4\x00", b"\xd9\xa1.2.3.4", b"1" * 300,
    b"# only a comment", b"1.2.3.4#x", b"2001:db8::/3\xb2", b"::1/129", b"-", b"/",
)  # fmt: skip
"""Lines that something may stumble over."""


def _line(chance: Random) -> bytes:
    way = chance.random()
    if way < 0.15:
        return chance.choice(HARD)
    if way < 0.7:
        width, word = 32, ipaddress.IPv4Address(chance.getrandbits(32))
    else:
        width, word = 128, ipaddress.IPv6Address(chance.getrandbits(128) >> chance.choice((0, 0, 40, 80, 127)))
    if chance.random() < 0.5:
        return str(word).encode()
    prefix = chance.randint(0, width)
    return str(ipaddress.ip_network((word, prefix), strict=False)).encode()


def a_list(chance: Random) -> bytes:
    """Make the bytes of a group file, more often nearly right than not."""
    lines = [_line(chance) for _ in range(chance.choice((1, 3, 10, 100)))]
    if chance.random() < 0.4:
        lines = [line for line in lines if line not in HARD]
    if chance.random() < 0.02:
        lines *= 20
    data = b"\n".join(lines)
    return mutated(data, chance) if chance.random() < 0.6 else data


def meant(word: str) -> list[Range]:
    """Give what an accepted line says, by another reader of addresses than the firewall's. Raises ValueError."""
    first, dash, last = word.partition("-")
    if dash:
        ends = ipaddress.ip_address(first.strip()), ipaddress.ip_address(last.strip())
    else:
        network = ipaddress.ip_network(word)
        ends = network[0], network[-1]
    low, high = (int(end) + (V4_BASE if end.version == 4 else 0) for end in ends)
    if ends[0].version == 4 or (low >= V4_BASE and high < V4_END):
        return [(low, high)]
    return [part for part in ((low, min(high, V4_BASE - 1)), (max(low, V4_END), high)) if part[0] <= part[1]]


def union(ranges: Iterable[Range]) -> list[Range]:
    """Give the same addresses as sorted ranges that do not touch, but at the two ends of IPv4."""
    done: list[Range] = []
    for low, high in sorted(ranges):
        if done and low <= done[-1][1] + (low not in (V4_BASE, V4_END)):
            done[-1] = (done[-1][0], max(high, done[-1][1]))
        else:
            done.append((low, high))
    return done


def checked(data: bytes) -> None:
    """Read a list whole and line by line, and compare."""
    ranges, bad, count = group_lines(data)
    assert len(bad) <= limits.MAX_GROUP_FINDINGS + 1 and count >= len(bad)
    assert all(len(one.error.word) <= limits.MAX_SHOWN for one in bad)
    alone: list[Range] = []
    said: list[Range] = []
    wrong = []
    for number, line in enumerate(data.split(b"\n"), 1):
        found, mistakes, _ = group_lines(line)
        assert not (found and mistakes)
        if mistakes:
            wrong.append(number)
        alone += found
        if found:
            said += meant(line.partition(b"#")[0].strip().decode())
    assert count == len(wrong) and [one.line for one in bad] == wrong[: len(bad)]
    assert list(ranges) == union(alone), "a list says something else than its lines"
    assert union(alone) == union(said), "a line says something else to another reader"
    _checked_as_group(data, ranges, count)


def _checked_as_group(data: bytes, ranges: tuple[Range, ...], bad: int) -> None:
    """A list with a mistake is no group; without one it is exactly its ranges."""
    try:
        policy, _ = parse(POLICY, "fuzz.toml", lambda path: data, Path("/"))
    except PolicyError as error:
        assert bad and len(error.findings) <= limits.MAX_GROUP_FINDINGS + 1
    else:
        assert not bad and policy.groups["list"].addresses.ranges == ranges


def test_a_list_says_what_its_lines_say(campaign: Campaign) -> None:
    """A mutated list is refused with a bounded number of findings, or means the union of its lines and nothing more."""
    campaign.run(a_list, checked)


def test_what_once_was_wrong_is_right() -> None:
    """Each list that a campaign once found is read as any other."""
    for data in KNOWN:
        checked(data)
