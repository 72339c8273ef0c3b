"""The Facts: everything the world says that a policy needs, gathered in one place, frozen.

Addresses are integers in the 128-bit space of ``kpf_ebpf.policy.model``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any


def _empty() -> Mapping[Any, Any]:
    return MappingProxyType({})


@dataclass(frozen=True, slots=True)
class FileKey:
    """Who a file is to the kernel: inode number, the superblock's device (kernel encoding: major << 20 | minor),
    inode generation, ctime seconds and nanoseconds. ``(inode, device, generation)`` names it, the ctime its content."""

    inode: int
    device: int
    generation: int
    ctime_seconds: int
    ctime_nanoseconds: int


@dataclass(frozen=True, slots=True)
class FileFact:
    """A program file found at a path (symlinks resolved): its key, digest, and why it may not be trusted.

    ``problem`` is "" for a usable file; else words such as "is not a regular file".
    ``former`` are contents at this path that were accepted before.
    ``root_owned`` says that the file belongs to root and nobody else may write it,
    ``roots_folders`` the same of every folder above it. ``script``: it starts with "#!";
    ``executed`` are then the paths at which only root decides what is executed: all its folders are root's.
    """

    path: str
    key: FileKey
    sha256: str
    root_owned: bool = True
    roots_folders: bool = True
    problem: str = ""
    former: tuple[FileKey, ...] = ()
    script: bool = False
    executed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Adapter:
    """A network adapter of the namespace ``up`` ran in: its own addresses, and its directed broadcasts."""

    name: str
    index: int
    addresses: tuple[int, ...] = ()
    broadcasts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class NameFact:
    """What a host name resolved to: addresses (A and AAAA, 128-bit space), or an error, with the time left."""

    name: str
    addresses: tuple[int, ...] = ()
    ttl: int | None = None
    error: str = ""


@dataclass(frozen=True, slots=True)
class ProxyFact:
    """The proxy found in the operating system's configuration.

    ``host`` None means none was found. ``source`` says which setting spoke; ``problem`` is set for a proxy that
    cannot be used (a PAC address), with the setting that overrides it.
    """

    host: str | None = None
    port: int = 0
    source: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """The TCP connection that ``up`` was run over: addresses of the 128-bit space, and ports."""

    local: int
    local_port: int
    remote: int
    remote_port: int


class Part(StrEnum):
    """What the Facts are gathered of, each by itself."""

    PROXY = "proxy"
    RESOLVERS = "resolvers"
    APPLICATIONS = "applications"
    USERS = "users"
    CGROUPS = "cgroups"
    ADAPTERS = "adapters"


@dataclass(frozen=True, slots=True)
class Facts:
    """One look at the world. Mappings are read-only.

    ``applications``: pattern or path as in the policy -> the files found there, best first (empty: none exists).
    ``users``: user name -> uid. ``cgroups``: cgroup path as in the policy -> ids of it and its descendants.
    ``resolvers``: (address, port) of the system's resolvers. ``netns_cookie``: of the namespace of ``up``.
    ``session``: a connection that is to live on whatever the policy says. ``told``: warnings, by what they are about.
    """

    applications: Mapping[str, tuple[FileFact, ...]] = field(default_factory=_empty)
    names: Mapping[str, NameFact] = field(default_factory=_empty)
    adapters: tuple[Adapter, ...] = ()
    users: Mapping[str, int] = field(default_factory=_empty)
    cgroups: Mapping[str, tuple[int, ...]] = field(default_factory=_empty)
    proxy: ProxyFact = ProxyFact()
    resolvers: tuple[tuple[int, int], ...] = ()
    password_set: bool = False
    netns_cookie: int = 0
    session: Session | None = None
    told: Mapping[Part, tuple[str, ...]] = field(default_factory=_empty)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Everything that could not be found or used."""
        return tuple(line for part in Part for line in self.told.get(part, ()))
