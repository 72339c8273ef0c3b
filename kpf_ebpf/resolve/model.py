"""The ResolvedPolicy: every rule in order of evaluation, with numbers where the policy has words."""

from __future__ import annotations

from dataclasses import dataclass, field

from kpf_ebpf.facts.model import Adapter, FileKey
from kpf_ebpf.policy.model import Action, Range, Zone

OTHER = -1
"""The application index of "any other application"."""
COMPONENT_INDEX = {"engine": -2, "gui": -3, "assist": -4, "canary": -5}
"""The application indexes of the components that are registered by process rather than by file."""


@dataclass(frozen=True, slots=True)
class Match:
    """What a rule accepts. None is "any". Ports and addresses are inclusive ranges; an empty tuple matches nothing.

    An address also fits if it is one that a host of ``local_hosts`` or ``remote_hosts`` has (ResolvedPolicy.hosts).

    ``applications`` are indexes into ``ResolvedPolicy.applications`` or of COMPONENT_INDEX, ``cgroups`` marks
    (ResolvedCgroup). ``icmp`` are indexes as in ``kpf_flow.icmp``: type, 256 + type (ICMPv6), 512 + type (ICMPv6 with a
    hop limit other than 255).
    """

    applications: frozenset[int] | None = None
    users: frozenset[int] | None = None
    cgroups: frozenset[int] | None = None
    directions: frozenset[str] = frozenset({"in", "out"})
    protocols: frozenset[int] | None = None
    icmp: frozenset[int] | None = None
    local: tuple[Range, ...] | None = None
    remote: tuple[Range, ...] | None = None
    local_ports: tuple[Range, ...] | None = None
    remote_ports: tuple[Range, ...] | None = None
    localhost: bool = False
    home: bool = False
    local_zone: Zone | None = None
    remote_zone: Zone | None = None
    local_hosts: tuple[str, ...] = ()
    remote_hosts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedRule:
    """One rule: its stable id and origin, what it does, and what it accepts (any of ``matches``)."""

    id: str
    origin: str
    description: str
    action: Action
    matches: tuple[Match, ...] = ()
    log: bool = False
    alert: bool = False
    mirror: str = ""
    """"engine" or "gui": a loopback flow it permits at its sender is permitted there, too."""


@dataclass(frozen=True, slots=True)
class ResolvedApplication:
    """A program the policy names: its file, the component it is, its cells (trusted/Internet x in/out, four rules).

    ``cells`` is None where the default's are meant. ``modified`` is the rule that denies it once its file changed.
    """

    path: str
    key: FileKey
    sha256: str
    modified: ResolvedRule
    component: str = ""
    cells: tuple[ResolvedRule, ResolvedRule, ResolvedRule, ResolvedRule] | None = None
    former: tuple[FileKey, ...] = ()
    """Contents accepted before, which processes may still execute; the youngest first."""
    executed: tuple[str, ...] = ()
    """Of a script: the paths by which it is known where the kernel does not tell its file."""


@dataclass(frozen=True, slots=True)
class TrustedRange:
    """Addresses of the Trusted area: on the adapter with this index, or (None) on every adapter."""

    adapter: int | None
    ranges: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class ResolvedCgroup:
    """A cgroup path that the policy names, the mark that stands for it, and the ids of what is there now.

    ``ids``: its own and those of its descendants, save what lies below a longer path of the policy.
    """

    path: str
    mark: int
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ResolvedPolicy:
    """Everything the kernel needs to know. ``cells``: internet-in, internet-out, trusted-in, trusted-out."""

    rules: tuple[ResolvedRule, ...]
    applications: tuple[ResolvedApplication, ...]
    cells: tuple[ResolvedRule, ResolvedRule, ResolvedRule, ResolvedRule]
    trusted: tuple[TrustedRange, ...] = ()
    adapters: tuple[Adapter, ...] = ()
    names_adapters: bool = False
    """Whether the policy speaks of adapters by their names, present or not."""
    cgroups: tuple[ResolvedCgroup, ...] = ()
    home: int = 0
    administration_port: int = 44334
    popup_port: int = 44501
    on_failure: str = "closed"
    syslog: tuple[int, int] | None = None
    """Where the network log also goes: (address, UDP port)."""
    hosts: dict[str, tuple[int, ...]] = field(default_factory=dict)
    """The addresses of every host that a rule names: of all that is resolved, what changes most."""
    warnings: tuple[str, ...] = field(default=())


STOP_ALL = ResolvedRule("stop-all", "stop-all", "stop-all", Action.DENY, log=True)
"""Step 1's verdict while the switch is on."""

ORIGINS = (
    "canary", "stop-all", "internal", "guard", "modified", "packet-filter", "predefined", "application", "default",
)  # fmt: skip
"""Where rules come from, in order of evaluation."""


def ordered_rules(resolved: ResolvedPolicy) -> tuple[ResolvedRule, ...]:
    """Every rule that can give a verdict, each once, in order of evaluation."""
    rules = [STOP_ALL, *resolved.rules, *resolved.cells]
    for application in resolved.applications:
        rules += (application.modified, *(application.cells or ()))
    unique = {rule.id: rule for rule in rules}
    return tuple(sorted(unique.values(), key=lambda rule: ORIGINS.index(rule.origin)))
