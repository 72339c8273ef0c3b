"""kpf-ebpf accept: take a changed program's new file."""

from __future__ import annotations

import click

from kpf_ebpf.cli import complete, show
from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine.control import accept_program
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root


@click.command()
@click.argument("path", shell_complete=complete.files)
@instance_option
@told
def accept(path: str, instance: Instance) -> None:
    """Take the file that is at PATH now: the program counts as modified no more."""
    require_root()
    taken = accept_program(instance, path)
    show.line(f"accepted {taken.path}, SHA-256 {taken.sha256}")
