"""What does not fit into an image is told before anything of it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from kpf_ebpf.facts.model import Facts
from kpf_ebpf.image import compile as compiler
from kpf_ebpf.image.rows import TooManyRules
from kpf_ebpf.kernel import abi
from kpf_ebpf.policy.parse import parse
from kpf_ebpf.resolve.resolve import resolve

TWO = "".join(
    f'[[packet-filter]]\ndescription = "{name}"\naction = "deny"\nremote = {{ address = "192.0.2.{name}" }}\n'
    for name in (1, 2)
)


def test_addresses_that_are_told_apart_in_too_many_ways_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel has room for so many kinds of addresses; an image with one more is none."""
    policy, _ = parse(TWO.encode(), "two.toml", lambda path: b"", Path("/"))
    resolved = resolve(policy, Facts())
    kinds = len(set(compiler.compile_image(resolved).prefixes.values()))
    assert compiler.MAX_ADDRESSES == abi.ADDRESSES
    monkeypatch.setattr(compiler, "MAX_ADDRESSES", kinds)
    assert compiler.compile_image(resolved).prefixes
    monkeypatch.setattr(compiler, "MAX_ADDRESSES", kinds - 1)
    with pytest.raises(TooManyRules, match=f"^{kinds} different sets of rules .* expected at most {kinds - 1}"):
        compiler.compile_image(resolved)
