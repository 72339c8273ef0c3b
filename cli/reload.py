"""kpf-ebpf reload: read the policy file again."""

from __future__ import annotations

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine.control import reload_policy
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root


@click.command()
@instance_option
@told
def reload(instance: Instance) -> None:
    """Read the policy file again and swap atomically; a bad file changes nothing."""
    require_root()
    enforced = reload_policy(instance)
    for warning in enforced.resolved.warnings:
        show.warn(warning)
    show.line(f"enforcing {enforced.snapshot.file}, generation {enforced.generation}")
