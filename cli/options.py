"""What the commands share: the instance, refusing with one line, and JSON."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable
from typing import Any

import click

from kpf_ebpf.cli import complete
from kpf_ebpf.engine.errors import EngineError
from kpf_ebpf.engine.folders import DEFAULT, NAME, Instance
from kpf_ebpf.engine.trial import LONGEST
from kpf_ebpf.policy.errors import PolicyError


def _instance(context: click.Context, parameter: click.Parameter, name: str) -> Instance:
    if not NAME.fullmatch(name):
        raise click.BadParameter(f"{name!r}: expected 1 to 32 of a-z, 0-9 and -")
    return Instance(name)


instance_option = click.option(
    "--instance",
    default=DEFAULT,
    callback=_instance,
    expose_value=True,
    metavar="NAME",
    shell_complete=complete.instances,
    help=f"Which firewall, if several live side by side (default: {DEFAULT}).",
)
confirm_option = click.option(
    "--confirm",
    "seconds",
    type=click.IntRange(1, LONGEST),
    metavar="SECONDS",
    help="Go back by itself unless `kpf-ebpf confirm` comes within so many seconds.",
)
yes_option = click.option("--yes", is_flag=True, help="Even if the policy denies the session this is run from.")
json_option = click.option("--json", "as_json", is_flag=True, help="One JSON document on standard output.")


def told(command: Callable[..., None]) -> Callable[..., None]:
    """Turns what goes wrong into lines for a person: exit status 2 for a bad policy, 1 for everything else."""

    @functools.wraps(command)
    def run(*arguments: Any, **keywords: Any) -> None:
        try:
            command(*arguments, **keywords)
        except PolicyError as problem:
            for finding in problem.findings:
                click.echo(str(finding), err=True)
            count = len(problem.findings)
            click.echo(f"{count} mistake{'s' if count != 1 else ''} in the policy; nothing was changed", err=True)
            sys.exit(2)
        except EngineError as problem:
            click.echo(f"kpf-ebpf: {problem}", err=True)
            sys.exit(1)
        except BrokenPipeError:
            sys.stderr.close()  # whoever read our output has seen enough
            sys.exit(1)
        except OSError as problem:
            where = f"{problem.filename}: " if problem.filename else ""
            click.echo(f"kpf-ebpf: {where}{problem.strerror or problem}; run `sudo kpf-ebpf doctor`", err=True)
            sys.exit(1)

    return run


def show_json(value: Any) -> None:
    """Prints one JSON document."""
    click.echo(json.dumps(value, ensure_ascii=True, indent=2))
