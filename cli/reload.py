"""kpf-ebpf reload: read the policy file again."""

from __future__ import annotations

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import confirm_option, instance_option, told, yes_option
from kpf_ebpf.engine.control import reload_policy
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root


@click.command()
@confirm_option
@yes_option
@instance_option
@told
def reload(seconds: int | None, yes: bool, instance: Instance) -> None:
    """Read the policy file again and swap atomically; a bad file changes nothing."""
    require_root()
    enforced = reload_policy(instance, seconds=seconds, sure=yes)
    for warning in enforced.resolved.warnings:
        show.warn(warning)
    if seconds is not None:
        show.warn(f"on trial: run `kpf-ebpf confirm` within {seconds} s, or what was before comes back")
    show.line(f"enforcing {enforced.snapshot.file}, generation {enforced.generation}")
