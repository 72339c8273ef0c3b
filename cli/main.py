"""The command: kpf-ebpf COMMAND. Each command is a module of this package."""

from __future__ import annotations

import click
from kpf_ebpf.cli.check import check


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kpf-ebpf")
def main() -> None:
    """A per-application personal firewall, enforced in the kernel."""


main.add_command(check)
