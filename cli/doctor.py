"""kpf-ebpf doctor: what this machine can do."""

from __future__ import annotations

import sys
from dataclasses import asdict

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, json_option, show_json, told
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import examine, examine_proxy


@click.command()
@json_option
@instance_option
@told
def doctor(as_json: bool, instance: Instance) -> None:
    """Show what this machine can do for the firewall, and the remedy for each no. Exit status 1: `up` would refuse."""
    proxy = examine_proxy(instance)
    checks = (*examine(), proxy)
    if as_json:
        show_json([asdict(check) for check in checks])
    else:
        show.table(
            ("check", "ok", "found", "remedy"),
            ((check.name, "yes" if check.ok else "no", check.found, check.remedy) for check in checks),
        )
        show.line("")
        show.table(
            ("proxy: place asked", "used", "said", "setting"),
            ((place.place, "yes" if place.used else "", place.said, place.source) for place in proxy.places),
        )
    sys.exit(0 if all(check.ok for check in checks if check.needed) else 1)
