"""kpf-ebpf log: the network log."""

from __future__ import annotations

import click

from kpf_ebpf.cli.options import instance_option, told
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require_root
from kpf_ebpf.events.files import LogFile
from kpf_ebpf.events.model import LogRecord
from kpf_ebpf.events.render import heading, json_line, text_line


@click.command()
@click.option("-f", "follow", is_flag=True, help="Go on with what comes.")
@click.option("-n", "count", type=click.IntRange(0), default=50, show_default=True, help="Records to begin with.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@instance_option
@told
def log(follow: bool, count: int, as_json: bool, instance: Instance) -> None:
    """Show the network log: one line for every judged flow whose rule asks for it."""
    require_root()
    file = LogFile(instance.log)
    if not as_json:
        click.echo(heading())
    for record in file.follow(count) if follow else file.read_last(count):
        _print(record, as_json)


def _print(record: LogRecord, as_json: bool) -> None:
    if as_json:
        click.echo(json_line(record))
    else:
        click.secho(text_line(record), fg="red" if record.action == "deny" else None)
