"""Policies to measure with: so many rules, over every field that a rule can name."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.kernel.conftest import DENY_ALL, Kernel

APPLICATIONS, USERS, CGROUPS, LOCALS = 16, 50, 8, 4
FIRST_USER = 5000


@dataclass(frozen=True, slots=True)
class Rule:
    """What one rule names, and so a flow that it is the only one to match."""

    application: int
    user: int
    cgroup: int
    local: str
    remote: str
    local_ports: tuple[int, int]
    port: int
    direction: str


def rule(number: int) -> Rule:
    """The rule with this number: another remote address each, the other fields over and over."""
    return Rule(
        application=number % APPLICATIONS,
        user=FIRST_USER + number % USERS,
        cgroup=number % CGROUPS,
        local=f"192.0.2.{number % LOCALS + 1}",
        remote=f"10.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}",
        local_ports=(20000 + number % 100 * 100, 20099 + number % 100 * 100),
        port=1000 + number % 500,
        direction="out" if number % 2 else "in",
    )


def every_field(count: int, programs: list[Path], cgroups: list[str]) -> str:
    """So many rules that name all there is: application, user, cgroup, both points, protocol, direction."""
    text = [DENY_ALL]
    for number in range(count):
        one = rule(number)
        text.append(
            f'[[packet-filter]]\ndescription = "rule {number}"\naction = "permit"\n'
            f'application = "{programs[one.application]}"\nuser = {one.user}\ncgroup = "{cgroups[one.cgroup]}"\n'
            f'direction = "{one.direction}"\nprotocol = "tcp"\n'
            f'local = {{ address = "{one.local}", port = "{one.local_ports[0]}-{one.local_ports[1]}" }}\n'
            f'remote = {{ address = "{one.remote}", port = {one.port} }}\n'
        )
    return "".join(text)


def surroundings(kernel: Kernel) -> tuple[list[Path], list[str]]:
    """The programs and the cgroups that the rules name: made, if they are not there."""
    programs = [kernel.program(f"program{number}") for number in range(APPLICATIONS)]
    folders = [kernel.cgroup / f"group{number}" for number in range(CGROUPS)]
    for folder in folders:
        folder.mkdir(exist_ok=True)
    mount = next(parent for parent in kernel.cgroup.parents if parent.is_mount())
    return programs, [f"/{folder.relative_to(mount)}" for folder in folders]
