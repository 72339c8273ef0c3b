"""kpf-ebpf check FILE: every mistake of a policy at once."""

from __future__ import annotations

from pathlib import Path

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.policy.load import load


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
@instance_option
@told
def check(file: Path, instance: Instance) -> None:
    """Read and validate a policy FILE; resolves nothing, touches nothing. Exit status 2: it is not valid."""
    policy, warnings = load(file)
    for warning in warnings:
        show.warn(str(warning))
    click.echo(
        f"{file}: valid, {len(policy.packet_filter)} packet filter and {len(policy.applications)} application rules"
    )
