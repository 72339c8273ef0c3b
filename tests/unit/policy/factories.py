"""Policies and their parts for tests: each factory gives something valid, of which a test changes what it is about."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.model import PacketFilterRule, Policy
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.policy.words import WordError

BASE = Path("/etc/kpf-ebpf")


def no_files(path: Path) -> bytes:
    """A reader for policies that have no group files."""
    raise FileNotFoundError(2, "No such file or directory", str(path))


def parsed(text: str | bytes, files: Mapping[str, bytes] | None = None) -> tuple[Policy, tuple[Finding, ...]]:
    """Parse ``text`` as policy.toml, with group ``files`` by name beside it."""

    def read(path: Path) -> bytes:
        return files[path.name] if files and path.name in files else no_files(path)

    return parse(text.encode() if isinstance(text, str) else text, "policy.toml", read, BASE)


def mistakes(text: str | bytes, files: Mapping[str, bytes] | None = None) -> tuple[Finding, ...]:
    """Return the findings that ``text`` is refused with."""
    with pytest.raises(PolicyError) as caught:
        parsed(text, files)
    return caught.value.findings


def the_mistake(text: str | bytes, files: Mapping[str, bytes] | None = None) -> Finding:
    """Return the only finding that ``text`` is refused with."""
    found = mistakes(text, files)
    assert len(found) == 1, [str(finding) for finding in found]
    return found[0]


def a_rule_text(description: str = "A rule", action: str = "deny", **keys: str) -> str:
    """Return a [[packet-filter]] entry; further ``keys`` are TOML values, "_" stands for "-" or, doubled, for "."."""
    lines = [f'description = "{description}"', f'action = "{action}"']
    lines += [f"{key.replace('__', '.').replace('_', '-')} = {value}" for key, value in keys.items()]
    return "[[packet-filter]]\n" + "\n".join(lines) + "\n"


def a_rule(**keys: str) -> PacketFilterRule:
    """Return the rule that ``a_rule_text`` with ``keys`` is parsed to."""
    policy, _ = parsed(a_rule_text(**keys))
    return policy.packet_filter[0]


def refusal(call: object, *arguments: object) -> WordError:
    """Return the WordError that ``call`` raises."""
    assert callable(call)
    with pytest.raises(WordError) as caught:
        call(*arguments)
    return caught.value
