"""kpf-ebpf confirm: keep what is on trial."""

from __future__ import annotations

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine import control
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root


@click.command()
@instance_option
@told
def confirm(instance: Instance) -> None:
    """Keep what `up --confirm` or `reload --confirm` put in place. Nothing to confirm: exit status 1."""
    require_root()
    enforced = control.confirm(instance)
    show.line(f"confirmed: {enforced.snapshot.file}, generation {enforced.generation}")
