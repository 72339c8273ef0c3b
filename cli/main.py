"""The command: kpf-ebpf COMMAND. Each command is a module of this package, imported when it is asked for."""

from __future__ import annotations

import gc
import importlib

import click

COMMANDS = (
    "check", "up", "confirm", "reload", "status", "rules", "explain", "log", "accept", "stop-all", "password", "doctor",
    "down",
)  # fmt: skip
"""In the order of a firewall's life."""
LASTING = ("log",)
"""Commands that may go on for days."""


class Commands(click.Group):
    """A group that knows its commands by name: importing all would take longer than most of them need."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every command's name."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """A command by its name; None: there is none."""
        if cmd_name not in COMMANDS:
            return None
        if cmd_name not in LASTING:
            gc.disable()  # it ends before it would pay to look for what is not used any more
        module = cmd_name.replace("-", "_")
        command = getattr(importlib.import_module(f"kpf_ebpf.cli.{module}"), module)
        assert isinstance(command, click.Command)
        return command


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="kpf-ebpf")
def main() -> None:
    """A per-application personal firewall, enforced in the kernel."""
