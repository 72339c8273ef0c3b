"""kpf-ebpf check FILE: every mistake of a policy at once."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from kpf_ebpf.policy.errors import PolicyError
from kpf_ebpf.policy.load import load


@click.command()
@click.argument("file", type=click.Path(path_type=Path))
def check(file: Path) -> None:
    """Read and validate a policy FILE; resolves nothing, touches nothing. Exit status 2: it is not valid."""
    try:
        policy, warnings = load(file)
    except PolicyError as problem:
        for finding in problem.findings:
            click.echo(str(finding), err=True)
        click.echo(f"{file}: {len(problem.findings)} mistakes; nothing was changed", err=True)
        sys.exit(2)
    for warning in warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{file}: valid, {len(policy.packet_filter)} packet filter and {len(policy.applications)} application rules"
    )
