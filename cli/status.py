"""kpf-ebpf status: what is really enforced."""

from __future__ import annotations

import sys
from typing import Any

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, json_option, show_json, told
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root
from kpf_ebpf.engine.status import RuleStatus, Status, look
from kpf_ebpf.policy.addresses import address_text

SHOWN = 12
"""Rules shown to a person: those with the most hits. ``rules`` shows all."""

ADDRESSES_SHOWN = 4
"""Of a name's addresses."""


@click.command()
@json_option
@instance_option
@told
def status(as_json: bool, instance: Instance) -> None:
    """Show what is enforced, proven by the canary. Exit status 0 only when really enforcing."""
    require_root()
    found = look(instance)
    if as_json:
        show_json(as_document(found))
    else:
        _show(found)
    sys.exit(0 if found.enforcing else 1)


def rule_document(one: RuleStatus) -> dict[str, Any]:
    """A rule as JSON has it."""
    return {
        "id": one.rule.id,
        "origin": one.rule.origin,
        "description": one.rule.description,
        "action": one.rule.action.value,
        "hits": one.hits,
        "packets": one.packets,
        "bytes": one.bytes,
    }


def as_document(found: Status) -> dict[str, Any]:
    """The status as JSON has it."""
    enforced = found.enforced
    return {
        "enforcing": found.enforcing,
        "engine": found.engine,
        "instance": found.instance,
        "cgroup": found.attachment.path if found.attachment else None,
        "generation": found.active.generation,
        "policy": {"file": enforced.snapshot.file, "sha256": enforced.policy_sha256} if enforced else None,
        "hooks": [{"name": name, "attached": there} for name, there in found.hooks.items()],
        "rules": [rule_document(one) for one in found.rules],
        "applications": [
            {"path": one.path, "state": one.state, "sha256": one.sha256, "sha256-now": one.now or None}
            for one in found.applications
        ],
        "names": [
            {
                "name": one.name,
                "addresses": [address_text(address) for address in one.addresses],
                "ttl": one.ttl,
                "error": one.error or None,
                "grace": one.grace,
            }
            for one in found.names
        ],
        "maps": [{"name": one.name, "entries": one.entries, "max": one.max} for one in found.maps],
        "events": {"seen": found.seen, "lost": found.lost},
        "canary": {"ok": found.canary.ok, "detail": found.canary.detail},
        "stop-all": found.active.stop_all,
        "pending-confirm": None if found.left is None else round(found.left, 1),
        "warnings": list(found.warnings),
    }


def _addresses(addresses: tuple[int, ...]) -> str:
    shown = ", ".join(address_text(address) for address in addresses[:ADDRESSES_SHOWN])
    return shown + (f" and {len(addresses) - ADDRESSES_SHOWN} more" if len(addresses) > ADDRESSES_SHOWN else "") or "-"


def _show(found: Status) -> None:
    show.line(
        f"{found.instance}: {'enforcing' if found.enforcing else 'NOT ENFORCING'}",
        "bold green" if found.enforcing else "bold red",
    )
    if found.enforced is None:
        show.line(f"  {found.canary.detail}; `kpf-ebpf up` begins")
        return
    missing = [name for name, there in found.hooks.items() if not there]
    rows: tuple[tuple[str, str], ...] = (
        ("policy", found.enforced.snapshot.file),
        ("cgroup", found.attachment.path if found.attachment else "-"),
        ("generation", str(found.active.generation)),
        ("Engine", str(found.engine) if found.engine else "not running: enforced, but nothing is logged"),
        ("canary", ("ok: " if found.canary.ok else "FAILED: ") + found.canary.detail),
        ("hooks", f"missing: {', '.join(missing)}" if missing else f"all {len(found.hooks)} attached"),
        ("stop-all", "ON: everything but the local administration is denied" if found.active.stop_all else "off"),
        ("events", f"{found.seen} seen, {found.lost} lost"),
    )
    if found.left is not None:
        rows += (("on trial", f"{found.left:.0f} s left to `kpf-ebpf confirm` it"),)
    for name, text in rows:
        show.line(f"  {name.ljust(11)}{text}")
    hit = sorted((one for one in found.rules if one.hits), key=lambda one: -one.hits)[:SHOWN]
    if hit:
        show.line("")
        show.table(
            ("rule", "action", "hits", "packets", "bytes"),
            ((one.rule.id, one.rule.action.value, one.hits, one.packets, one.bytes) for one in hit),
            right=("hits", "packets", "bytes"),
        )
    if found.names:
        show.line("")
        show.table(
            ("name", "addresses", "TTL", "grace", "last error"),
            (
                (one.name, _addresses(one.addresses), "-" if one.ttl is None else f"{one.ttl} s", f"{one.grace} s",
                 one.error or "-")
                for one in found.names
            ),
            right=("TTL", "grace"),
        )  # fmt: skip
    changed = [one for one in found.applications if one.state != "accepted"]
    if changed:
        show.line("")
        headings = ("application", "state", "accepted SHA-256", "SHA-256 now")
        show.table(headings, ((one.path, one.state, one.sha256, one.now or "-") for one in changed))
    for warning in found.warnings:
        show.warn(warning)
