"""kpf-ebpf stop-all: the switch that outranks every rule."""

from __future__ import annotations

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine.control import switch_stop_all
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root


@click.command("stop-all")
@click.argument("switch", type=click.Choice(["on", "off"]))
@instance_option
@told
def stop_all(switch: str, instance: Instance) -> None:
    """Deny everything but the local administration (on), or go back to the policy (off)."""
    require_root()
    switch_stop_all(instance, switch == "on")
    show.line(f"stop-all is {switch}")
