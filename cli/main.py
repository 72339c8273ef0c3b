"""The command: kpf-ebpf COMMAND. Each command is a module of this package."""

from __future__ import annotations

import click

from kpf_ebpf.cli.accept import accept
from kpf_ebpf.cli.check import check
from kpf_ebpf.cli.doctor import doctor
from kpf_ebpf.cli.down import down
from kpf_ebpf.cli.explain import explain
from kpf_ebpf.cli.log import log
from kpf_ebpf.cli.password import password
from kpf_ebpf.cli.reload import reload
from kpf_ebpf.cli.rules import rules
from kpf_ebpf.cli.status import status
from kpf_ebpf.cli.stop_all import stop_all
from kpf_ebpf.cli.up import up


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kpf-ebpf")
def main() -> None:
    """A per-application personal firewall, enforced in the kernel."""


for command in (check, up, reload, status, rules, explain, log, accept, stop_all, password, doctor, down):
    main.add_command(command)
