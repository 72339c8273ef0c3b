"""kpf-ebpf up: enforce a policy."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import click

from kpf_ebpf.cli import complete, show
from kpf_ebpf.cli.options import confirm_option, instance_option, told, yes_option
from kpf_ebpf.engine import last_good, service
from kpf_ebpf.engine.cgroup import find_cgroup
from kpf_ebpf.engine.enforce import Prepared, View, known_names, prepare
from kpf_ebpf.engine.folders import Instance
from kpf_ebpf.engine.machine import require
from kpf_ebpf.engine.process import EngineStarted
from kpf_ebpf.engine.snapshot import OBSERVE, policy_path, read_files
from kpf_ebpf.engine.up import Wish, bring_up
from kpf_ebpf.resolve.model import ordered_rules


@click.command()
@click.option("--policy", type=click.Path(path_type=Path), help="The policy file.")
@click.option(
    "--cgroup",
    metavar="PATH",
    shell_complete=complete.cgroups,
    help="A cgroup below the cgroup v2 mount (default: every process).",
)
@click.option(
    "--adapter",
    "adapters",
    multiple=True,
    metavar="IF",
    shell_complete=complete.adapters,
    help="Judge there what no socket owns.",
)
@click.option("--foreground", is_flag=True, help="Stay until the Engine ends.")
@click.option(
    "--or-last-good", is_flag=True, help="If the policy file is bad or gone, what was last enforced of it (a boot)."
)
@confirm_option
@yes_option
@click.option("--dry-run", is_flag=True, help="Print what would be enforced, and stop.")
@instance_option
@told
def up(
    policy: Path | None,
    cgroup: str | None,
    adapters: tuple[str, ...],
    foreground: bool,
    or_last_good: bool,
    seconds: int | None,
    yes: bool,
    dry_run: bool,
    instance: Instance,
) -> None:
    """Enforce a policy; returns when enforcement is live and proven. Again: replaces it without a gap."""
    if dry_run:
        path = policy_path(policy)
        _print(path, prepare(read_files(path), None, View(known_names())))
        return
    require()
    place = find_cgroup(cgroup, adapters)
    read = last_good.read(instance, policy) if or_last_good else read_files(policy_path(policy))
    with show.progress("starting") as tell:
        wish = Wish(seconds, sure=yes, orphan=service.is_managed() and not foreground)
        made = bring_up(instance, read, place, tell, wish)
    for warning in made.enforced.resolved.warnings:
        show.warn(warning)
    path = Path(read.snapshot.file)
    which = "the shipped observe policy: everything is permitted and logged" if path == OBSERVE else str(path)
    show.line(f"enforcing {which}")
    show.line(f"  cgroup      {place.path}")
    show.line(f"  generation  {made.enforced.generation}")
    show.line(f"  Engine      {made.engine.pid}")
    show.line(f"  canary      {made.canary.detail}")
    if seconds is not None:
        show.warn(f"on trial: run `kpf-ebpf confirm` within {seconds} s, or what was before comes back")
    service.notify(READY=1, MAINPID=made.engine.pid, STATUS=f"enforcing {which}")
    if foreground:
        sys.exit(_stay(made.engine))


def _stay(engine: EngineStarted) -> int:
    """Waits for the Engine; passes on what should end it. Enforcement goes on without it."""
    assert engine.child is not None
    child = engine.child
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: child.terminate())
    status = child.wait()
    show.line("the Engine ended; the policy is still enforced (kpf-ebpf down ends that)")
    return 0 if status == 0 else 1


def _print(path: Path, ready: Prepared) -> None:
    """The image, as far as it means something to a person."""
    rules = ordered_rules(ready.image.policy)
    show.table(
        ("rule", "origin", "action", "description"),
        ((rule.id, rule.origin, rule.action.value, rule.description) for rule in rules if rule.origin != "canary"),
    )
    image = ready.image
    show.line(
        f"{path}: {len(rules)} rules, {image.positions} positions, {len(image.applications)} program files, "
        f"{len(image.prefixes)} address prefixes; nothing was changed"
    )
    for warning in ready.image.policy.warnings:
        show.warn(warning)
