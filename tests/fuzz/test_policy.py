"""Policy files of any bytes: a Policy or a PolicyError, in bounded time, with a bounded number of findings."""

from __future__ import annotations

import re
from pathlib import Path
from random import Random

from kpf_ebpf.policy import internal, limits
from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.model import Policy
from kpf_ebpf.policy.parse import parse
from tests.fuzz.campaign import Campaign
from tests.fuzz.mutate import mutated, spliced

UNIT = Path(__file__).parents[1] / "unit" / "policy"
SEEDS = ((UNIT / "example.toml").read_bytes(), (Path(internal.__file__).parent / "observe.toml").read_bytes())
TOKEN = re.compile(rb'"[^"\n]*"|[\w.:/-]+|\[\[|\]\]|[\[\]{}=,.#\n]')
SECTION = re.compile(rb"(?m)^(?=\[)")
KNOWN: tuple[bytes, ...] = ()
"""Policy files that once broke a rule of this module."""

HARD = (
    b"99999999999999999999999999", b"1" * 5000, b"-1", b"0x" + b"f" * 300, b"1e999", b"nan", b"-inf", b"1_0", b"0b2",
    b"1979-05-27T07:32:00Z", b"07:32:00", b"true", b'""', b'"any"', b'"@"', b'"@trusted"', b'"@bad"', b"[]", b"{}",
    b'"' + b"x" * 70000 + b'"', b'"\\ud800"', b'"\\U0010ffff"', b'"\\u0000"', b'"\\u001b[2J"', b'"a\\nb"', b"'''x'''",
    b'"""\n\n"""', b"\xff\xfe", b"\xc0\xaf", b"\xed\xa0\x80", b"\xef\xbb\xbf", b"\r", b"\x00", b"\x85", b"\xe2\x80\xa8",
    b'"0.0.0.0/0"', b'"::/0"', b'"::ffff:0:0/95"', b'"1.2.3.4/33"', b'"9-1"', b'"0-65536"', b'"fe80::1%eth0"',
    b'"255.255.255.255-0.0.0.0"', b'"/**/*/**"', b'"/../.."', b'"//"', b'"/' + b"a/" * 3000 + b'"', b'"xn--\xc3\xbc"',
    b'"' + b"a." * 200 + b'"', b"[[packet-filter]]", b"[groups]", b"[groups.a]", b"[default]", b'"all"', b'"ask"',
    b"a." * 60 + b"b", b'"1.2.3.4:99999"', b'"http://[::1"', b'"http://@:1"', b"4294967295", b"4294967296", b"65536",
)  # fmt: skip
"""Tokens that something may stumble over."""


def _tokens(data: bytes, chance: Random) -> bytes:
    """Put other tokens in the place of some: of the same file, or hard ones."""
    places = list(TOKEN.finditer(data))
    for _ in range(chance.randint(1, 4)):
        if not places:
            break
        place = places.pop(chance.randrange(len(places)))
        other = chance.choice(places)[0] if places and chance.random() < 0.4 else chance.choice(HARD)
        data = data[: place.start()] + other + data[place.end() :]
        places = list(TOKEN.finditer(data)) if len(data) < 20000 else []
    return data


def _sections(data: bytes, chance: Random) -> bytes:
    """Leave out, mix and repeat sections; seldom so often that a bound is met."""
    parts = SECTION.split(data)
    chance.shuffle(parts)
    parts = parts[: chance.randint(1, len(parts))]
    times = chance.choice((1, 2, 3, 1500)) if chance.random() < 0.1 else 1
    return b"\n".join(parts + [chance.choice(parts)] * times)


def _nested(data: bytes, chance: Random) -> bytes:
    """A value, somewhere, of lists or tables in one another."""
    depth = chance.choice((5, 50, 500, 5000))
    opening, closing = chance.choice(((b"[", b"]"), (b"{a=", b"}"), (b"[[", b"]]"), (b"[{a=", b"}]"), (b"[" * 9, b"")))
    place = chance.choice(list(TOKEN.finditer(data)) or [re.match(b"", data)])
    assert place is not None
    return data[: place.start()] + opening * depth + b"1" + closing * depth + data[place.end() :]


def a_policy(chance: Random) -> bytes:
    """Make the bytes of a policy file, more often nearly right than not."""
    data = chance.choice(SEEDS) if chance.random() < 0.8 else spliced(*SEEDS, chance)
    if chance.random() < 0.5:
        data = _sections(data, chance)
    way = chance.random()
    if way < 0.5:
        return _tokens(data, chance)
    if way < 0.85:
        return mutated(data, chance)
    if way < 0.95:
        return _nested(data, chance)
    return chance.randbytes(chance.randint(0, 300))


def is_showable(finding: Finding) -> bool:
    """Tell whether a finding is text of bounded length."""
    longest = limits.MAX_POLICY_BYTES // 64
    return len(str(finding)) <= longest and len(finding.word) <= limits.MAX_SHOWN and finding.where.line >= 0


def checked(data: bytes) -> None:
    """Parse, and see that the answer is one of the two that there are."""

    def read_group(path: Path) -> bytes:
        if len(data) % 3 == 0:
            raise OSError(2, "No such file or directory")
        return data[:5000]

    try:
        policy, findings = parse(data, "fuzz.toml", read_group, Path("/"))
        assert isinstance(policy, Policy)
        assert len(policy.packet_filter) <= limits.MAX_PACKET_FILTER
    except PolicyError as error:
        findings = error.findings
        assert findings
    assert len(findings) <= limits.MAX_FINDINGS + 1
    assert all(map(is_showable, findings)), [finding for finding in findings if not is_showable(finding)][:3]


def test_any_bytes_are_a_policy_or_mistakes(campaign: Campaign) -> None:
    """Whatever a policy file holds: a Policy or a PolicyError, soon, and a bounded number of findings."""
    campaign.run(a_policy, checked)


def test_what_once_was_wrong_is_right() -> None:
    """Each file that a campaign once found is read as any other."""
    for data in KNOWN:
        checked(data)
