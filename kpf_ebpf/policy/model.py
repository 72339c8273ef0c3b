"""The Policy: what a policy file says, as frozen values that keep the user's own words.

Addresses are inclusive ranges of 128-bit integers in one space for both families: an IPv4 address a.b.c.d
is its v4-mapped form ::ffff:a.b.c.d (``V4_BASE + value``), as the kernel programs see it too.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

V4_BASE = 0xFFFF << 32
"""Added to a 32-bit IPv4 address, this gives its place in the 128-bit address space."""

Range = tuple[int, int]
"""An inclusive range (first, last): of addresses in the 128-bit space, or of ports or types."""


class Action(enum.Enum):
    """What a rule does with a flow."""

    PERMIT = "permit"
    DENY = "deny"


class Direction(enum.Enum):
    """Who initiates: this end (out), the other end (in), or either."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


class Zone(enum.Enum):
    """Where the remote point of a flow lies: in the Trusted area or in the Internet."""

    TRUSTED = "trusted"
    INTERNET = "internet"


@dataclass(frozen=True, slots=True)
class Where:
    """A place in a policy or group file: the file as the user named it, a line from 1 (0: none)."""

    file: str
    line: int = 0

    def __str__(self) -> str:
        return f"{self.file}:{self.line}" if self.line else self.file


@dataclass(frozen=True, slots=True)
class AddressSet:
    """A union of addresses. ``any`` means every address (the other fields are then empty).

    ``names`` are host names still to be resolved, ``groups`` names of IP groups (without "@"),
    ``trusted`` stands for "@trusted". ``words`` are the user's own words.
    """

    any: bool = False
    ranges: tuple[Range, ...] = ()
    names: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    trusted: bool = False
    words: tuple[str, ...] = ()


ANY_ADDRESS = AddressSet(any=True, words=("any",))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A local or remote point: an address set, and inclusive port ranges (empty: any port)."""

    address: AddressSet = ANY_ADDRESS
    ports: tuple[Range, ...] = ()


@dataclass(frozen=True, slots=True)
class PacketFilterRule:
    """One [[packet-filter]] entry. Empty tuples and None mean "any"; see docs/policy.md for each key."""

    description: str
    action: Action
    where: Where
    group: str = ""
    applications: tuple[str, ...] = ()
    users: tuple[str | int, ...] = ()
    cgroup: str | None = None
    direction: Direction = Direction.BOTH
    protocols: tuple[int, ...] = ()
    icmp_types: tuple[tuple[int, int], ...] = ()
    """Pairs (protocol number 1 or 58, type): a name such as echo-request is one pair per listed protocol."""
    local: Endpoint = Endpoint()
    remote: Endpoint = Endpoint()
    log: bool = False
    alert: bool = False
    enabled: bool = True


@dataclass(frozen=True, slots=True)
class Cells:
    """The four cells of an application rule; None is "as the default has it"."""

    trusted_in: Action | None = None
    trusted_out: Action | None = None
    internet_in: Action | None = None
    internet_out: Action | None = None


@dataclass(frozen=True, slots=True)
class ApplicationRule:
    """One [[application]] entry: ``path`` as written (absolute, perhaps with wildcards)."""

    path: str
    where: Where
    cells: Cells = Cells()
    log: bool = False
    alert: bool = False


@dataclass(frozen=True, slots=True)
class TrustedItem:
    """One [[trusted]] entry. ``addresses.any`` is "all", which needs an adapter."""

    description: str
    addresses: AddressSet
    where: Where
    adapter: str | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """One entry of [groups]; ``addresses`` never contains groups or "@trusted"."""

    name: str
    addresses: AddressSet
    where: Where
    file: str | None = None
    """The path of the file the group was read from, as it was opened; None for a list in the policy."""


@dataclass(frozen=True, slots=True)
class Syslog:
    """[preferences.syslog]: where the network log also goes."""

    enabled: bool = False
    server: str = "192.0.2.10"
    port: int = 514


@dataclass(frozen=True, slots=True)
class Proxy:
    """An HTTP proxy named in the policy: host (name or address literal without brackets) and port."""

    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Preferences:
    """[preferences]. ``proxy`` is "system", "none" or a Proxy; ``resolvers`` "system" or (address, port) pairs."""

    remote_administration: bool = False
    send_crash_dumps: bool = True
    popup_blocking: bool = False
    proxy: str | Proxy = "system"
    crash_server: str = "crashes.kerio.com"
    registration_server: str = "secure.kerio.com"
    registration_port: int = 443
    administration_port: int = 44334
    popup_port: int = 44501
    resolvers: str | tuple[tuple[int, int], ...] = "system"
    """"system", or pairs (address in the 128-bit space, port)."""
    name_grace: int = 3600
    on_failure: str = "closed"
    on_modified: str = "deny"
    log_internal: bool = False
    syslog: Syslog = Syslog()


@dataclass(frozen=True, slots=True)
class Components:
    """[components]: absolute paths of the Engine, the GUI and Assist; None is "as installed"."""

    engine: str | None = None
    gui: str | None = None
    assist: str | None = None


@dataclass(frozen=True, slots=True)
class ZoneCells:
    """One predefined rule's switch per zone."""

    trusted: Action
    internet: Action


_P, _D = Action.PERMIT, Action.DENY

PREDEFINED_DEFAULTS: Mapping[str, ZoneCells] = MappingProxyType(
    {
        "igmp": ZoneCells(_D, _D),
        "ping-in": ZoneCells(_P, _D),
        "ping-out": ZoneCells(_P, _P),
        "other-icmp": ZoneCells(_P, _D),
        "dhcp": ZoneCells(_P, _P),
        "dns": ZoneCells(_P, _P),
        "vpn": ZoneCells(_P, _P),
        "ipsec": ZoneCells(_P, _P),
        "broadcasts": ZoneCells(_P, _P),
    }
)
"""The shipped predefined rules, in their order of evaluation."""


@dataclass(frozen=True, slots=True)
class Predefined:
    """[predefined]: the cells of each predefined rule in evaluation order, the master switch, log."""

    cells: Mapping[str, ZoneCells] = field(default_factory=lambda: PREDEFINED_DEFAULTS)
    enabled: bool = True
    log: bool = False


@dataclass(frozen=True, slots=True)
class Default:
    """[default]: the four cells of "any other application"."""

    trusted_in: Action = Action.PERMIT
    trusted_out: Action = Action.PERMIT
    internet_in: Action = Action.DENY
    internet_out: Action = Action.PERMIT
    log: bool = False


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy file, valid, in the user's words. ``sha256`` is of the file's bytes; "" for none."""

    file: str = "(built in)"
    sha256: str = ""
    preferences: Preferences = Preferences()
    components: Components = Components()
    trusted: tuple[TrustedItem, ...] = ()
    groups: Mapping[str, Group] = field(default_factory=lambda: MappingProxyType({}))
    packet_filter: tuple[PacketFilterRule, ...] = ()
    predefined: Predefined = field(default_factory=Predefined)
    applications: tuple[ApplicationRule, ...] = ()
    default: Default = Default()
