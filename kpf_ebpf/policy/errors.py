"""What a policy file can get wrong, as values; the CLI shows them."""

from __future__ import annotations

from dataclasses import dataclass

from kpf_ebpf.policy.model import Where


@dataclass(frozen=True, slots=True)
class Finding:
    """One mistake (or warning) in a policy or group file.

    ``rule`` names the entry as a person would ('packet-filter "No telemetry"'), ``key`` the key in it,
    ``word`` the offending text, ``expected`` what would have been right, ``suggestion`` a likely correction.
    """

    where: Where
    rule: str
    key: str
    word: str
    expected: str
    suggestion: str = ""

    def __str__(self) -> str:
        place = ", ".join(part for part in (self.rule, self.key) if part)
        text = f"{self.where}: {place}: " if place else f"{self.where}: "
        text += f"{self.word!r}: expected {self.expected}" if self.word else f"expected {self.expected}"
        return text + (f"; did you mean {self.suggestion!r}?" if self.suggestion else "")


class PolicyError(Exception):
    """A policy that cannot be used: every finding of the file at once."""

    def __init__(self, findings: tuple[Finding, ...]) -> None:
        super().__init__("\n".join(str(finding) for finding in findings))
        self.findings = findings
