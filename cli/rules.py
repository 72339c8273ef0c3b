"""kpf-ebpf rules: the list as it is enforced."""

from __future__ import annotations

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, json_option, show_json, told
from kpf_ebpf.cli.status import rule_document
from kpf_ebpf.engine.control import enforced_now
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root
from kpf_ebpf.engine.status import rule_statuses

HIDDEN = frozenset({"internal", "guard", "modified", "stop-all"})
"""Origins that the user did not write; shown with --internal."""


@click.command()
@click.option("--hits", is_flag=True, help="Also what each rule judged.")
@click.option("--internal", is_flag=True, help="Also the rules that nobody wrote: internal, guard, modified, stop-all.")
@json_option
@instance_option
@told
def rules(hits: bool, internal: bool, as_json: bool, instance: Instance) -> None:
    """Show the rules in their order of evaluation: the first that matches decides."""
    require_root()
    shown = [
        one for one in rule_statuses(instance, enforced_now(instance)) if internal or one.rule.origin not in HIDDEN
    ]
    if as_json:
        show_json([rule_document(one) for one in shown])
        return
    headings = ("rule", "action", "description") + (("hits", "packets", "bytes") if hits else ())
    show.table(
        headings,
        (
            (one.rule.id, one.rule.action.value, one.rule.description)
            + ((one.hits, one.packets, one.bytes) if hits else ())
            for one in shown
        ),
        right=("hits", "packets", "bytes"),
    )
