"""kpf-ebpf password: the administration password."""

from __future__ import annotations

import sys

import click

from kpf_ebpf.cli import show
from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine import password as stored
from kpf_ebpf.engine import records
from kpf_ebpf.engine.control import resolve_again
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root


@click.command()
@click.option("--stdin", "from_stdin", is_flag=True, help="Read it from the first line of standard input.")
@click.option("--clear", is_flag=True, help="Remove it: remote administration is off then.")
@instance_option
@told
def password(from_stdin: bool, clear: bool, instance: Instance) -> None:
    """Set the administration password; without it remote administration is off, whatever the policy says."""
    require_root()
    if clear and from_stdin:
        raise click.UsageError("--stdin and --clear exclude each other")
    if clear:
        stored.clear(instance)
    elif from_stdin:
        stored.store(instance, sys.stdin.readline(stored.LONGEST + 2).rstrip("\n"))
    else:
        stored.store(instance, click.prompt("Password", hide_input=True, confirmation_prompt=True))
    show.line(f"the password is {'removed' if clear else 'set'}")
    if records.enforced(instance) is not None:
        try:
            resolve_again(instance)
        except EngineError as problem:
            raise EngineError(f"{problem}; it takes effect at the next `kpf-ebpf reload`") from problem
