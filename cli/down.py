"""kpf-ebpf down: stop enforcing."""

from __future__ import annotations

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine.down import bring_down
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root


@click.command()
@click.option("--force", is_flag=True, help="Go on although records are damaged.")
@instance_option
@told
def down(force: bool, instance: Instance) -> None:
    """Stop enforcing and remove everything but the log and the password, with or without a living Engine."""
    require_root()
    there = bring_down(instance, force=force)
    show.line(f"{instance.name}: nothing is enforced any more" if there else f"{instance.name}: nothing was there")
