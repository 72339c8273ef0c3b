"""From the bytes of a policy file to a Policy, or to every mistake in it at once. Nothing here touches the world."""

from __future__ import annotations

import hashlib
from pathlib import Path

from kpf_ebpf.policy import sections
from kpf_ebpf.policy.errors import Finding, PolicyError
from kpf_ebpf.policy.groups import ReadGroup, groups
from kpf_ebpf.policy.model import Policy
from kpf_ebpf.policy.packet_filter import KnownGroups, packet_filter
from kpf_ebpf.policy.table import Report, Table
from kpf_ebpf.policy.toml_lines import read_toml
from kpf_ebpf.policy.words import WordError


def parse(data: bytes, file: str, read_group: ReadGroup, base: Path) -> tuple[Policy, tuple[Finding, ...]]:
    """Return the Policy that ``data`` says, and warnings.

    ``file`` is the policy file as messages name it, ``base`` the folder that group files are relative to,
    ``read_group`` returns the bytes of one of those or raises OSError. Raises PolicyError with all mistakes of the
    policy and its group files, by file and line; for bytes that are no TOML document that is one.
    """
    document, lines = read_toml(data, file)
    report = Report(file, lines)
    root = Table(report, (), "", document)
    named_groups = groups(root, read_group, base)
    written = document.get("groups")
    known = KnownGroups.of(tuple(written) if isinstance(written, dict) else (), named_groups)
    policy = Policy(
        file=file,
        sha256=hashlib.sha256(data).hexdigest(),
        preferences=sections.preferences(root),
        components=sections.components(root),
        trusted=sections.trusted(root),
        groups=named_groups,
        packet_filter=packet_filter(root, known),
        predefined=sections.predefined(root),
        applications=sections.applications(root),
        default=sections.default(root),
    )
    root.finish()
    _warn_of_bare_group_names(policy, report)
    errors = report.errors()
    if errors:
        raise PolicyError(errors)
    return policy, report.warnings()


def _warn_of_bare_group_names(policy: Policy, report: Report) -> None:
    """Warn where a rule's host name is written like a group: its "@" was probably forgotten."""
    by_name = {name.lower(): name for name in policy.groups}
    for rule in policy.packet_filter:
        for key, point in (("local.address", rule.local), ("remote.address", rule.remote)):
            for name in point.address.names:
                if name in by_name:
                    warning = WordError(name, "a host name, but a group has the same", f"@{by_name[name]}")
                    report.warn(rule.where, f'packet-filter "{rule.description}"', key, warning)
