"""Findings as text."""

from __future__ import annotations

from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.model import Where


def test_a_finding_says_place_rule_key_word_expectation_and_suggestion() -> None:
    """On one line."""
    finding = Finding(Where("p.toml", 3), 'packet-filter "One"', "action", "permitt", "permit or deny", "permit")
    for part in ("p.toml:3", 'packet-filter "One"', "action", "'permitt'", "permit or deny", "did you mean 'permit'?"):
        assert part in str(finding)
    assert "\n" not in str(finding)


def test_an_error_carries_all_findings() -> None:
    """One line each."""
    findings = tuple(Finding(Where("p.toml", line), "", "", "", "x") for line in (1, 2))
    error = PolicyError(findings)
    assert error.findings == findings
    assert str(error).count("\n") == 1
