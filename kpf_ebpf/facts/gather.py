"""Gathers the Facts: one look at everything in the world that a policy speaks of."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Hashable, Mapping
from dataclasses import replace
from types import MappingProxyType

from kpf_ebpf.facts.adapters import find_adapters
from kpf_ebpf.facts.files import Identify, find_programs
from kpf_ebpf.facts.model import Adapter, Facts, NameFact, Part, ProxyFact
from kpf_ebpf.facts.names import literals, look_up, names_of, parse_hosts
from kpf_ebpf.facts.proxy import ProxyAnswer, explain_proxy, find_proxy, proxy_prints
from kpf_ebpf.facts.proxy_address import ListFolder
from kpf_ebpf.facts.proxy_files import distrust, read_roots, stamp
from kpf_ebpf.facts.system import cgroup_mount, find_cgroups, find_users, list_folder, parse_resolvers, read_text
from kpf_ebpf.policy.model import Policy, Preferences

HOSTS, RESOLV_CONF = "/etc/hosts", "/etc/resolv.conf"
EVERYTHING = frozenset(Part)
Names = Callable[[tuple[str, ...]], Mapping[str, NameFact]]
"""Gives the facts of host names (and address literals), by name."""


def gather(
    policy: Policy,
    identify: Identify | None = None,
    *,
    password_set: bool = False,
    netns_cookie: int = 0,
    names: Names = literals,
    before: Facts | None = None,
    parts: Collection[Part] = EVERYTHING,
) -> Facts:
    """Look at the world once. What cannot be found is a warning, never an exception.

    ``identify`` maps an open descriptor to the kernel's view of the file; by default stat() is believed.
    ``password_set`` and ``netns_cookie`` are passed on. ``names`` is asked for every name; by default only address
    literals are known. With ``before`` only these ``parts`` are looked at, all else is as it was then.
    """
    facts, told = before or Facts(), dict(before.told) if before else {}
    if before is None:
        parts = EVERYTHING
    if Part.PROXY in parts:
        proxy = gather_proxy(policy)
        facts = replace(facts, proxy=proxy)
        told[Part.PROXY] = (f"proxy, from {proxy.source}: {proxy.problem}",) if proxy.problem else ()
    if Part.RESOLVERS in parts:
        facts = replace(facts, resolvers=parse_resolvers(read_text(RESOLV_CONF) or ""))
    if Part.APPLICATIONS in parts:
        applications, told[Part.APPLICATIONS] = find_programs(application_words(policy), identify)
        facts = replace(facts, applications=MappingProxyType(applications))
    if Part.USERS in parts:
        users, told[Part.USERS] = find_users(user for rule in policy.packet_filter for user in rule.users)
        facts = replace(facts, users=MappingProxyType(users))
    if Part.CGROUPS in parts:
        cgroups, told[Part.CGROUPS] = find_cgroups(
            (rule.cgroup for rule in policy.packet_filter if rule.cgroup is not None),
            cgroup_mount(read_text("/proc/self/mounts") or ""),
        )
        facts = replace(facts, cgroups=MappingProxyType(cgroups))
    if Part.ADAPTERS in parts:
        adapters, told[Part.ADAPTERS] = gather_adapters()
        facts = replace(facts, adapters=adapters)
    return replace(
        facts,
        names=MappingProxyType(dict(names(names_of(policy, facts.proxy)))),
        password_set=password_set,
        netns_cookie=netns_cookie,
        told=MappingProxyType(told),
    )


def application_words(policy: Policy) -> tuple[str, ...]:
    """List every path and wildcard of a policy that means program files, each once: components come first."""
    components = policy.components
    words = [word for word in (components.engine, components.gui, components.assist) if word is not None]
    words += (word for rule in policy.packet_filter for word in rule.applications)
    words += (rule.path for rule in policy.applications)
    return tuple(dict.fromkeys(words))


def ask_system(names: tuple[str, ...]) -> dict[str, NameFact]:
    """Resolve names by the system's resolver, within NAMES_DEADLINE seconds: name -> fact."""
    return look_up(names, hosts=parse_hosts(read_text(HOSTS) or "", names))


def gather_proxy(policy: Policy) -> ProxyFact:
    """Find the proxy a policy means, in it or in this process' environment and the machine's configuration."""
    preferences = policy.preferences
    return find_proxy(
        preferences.proxy,
        os.environ,
        read_roots,
        list_folder=list_folder,
        registration=(preferences.registration_server, preferences.registration_port),
    )


def explain_systems_proxy(
    preferences: Preferences, environ: Mapping[str, str], process: str
) -> tuple[ProxyAnswer, ...]:
    """Ask every place for the proxy, for people: what each said, and which one decides.

    ``environ`` stands for the Engine's environment, ``process`` says whose it is.
    """
    return explain_proxy(
        preferences.proxy,
        environ,
        read_roots,
        list_folder=list_folder,
        registration=(preferences.registration_server, preferences.registration_port),
        others=[(preferences.crash_server, 443)],
        distrust=distrust,
        process=process,
    )


def take_proxy_prints(listed: ListFolder = list_folder) -> tuple[tuple[str, Hashable], ...]:
    """Take the prints of this machine's files that name a proxy; once they differ, ``gather_proxy`` is to be asked."""
    return proxy_prints(stamp, listed)


def gather_adapters() -> tuple[tuple[Adapter, ...], tuple[str, ...]]:
    """Read the adapters of this network namespace; none and a warning if netlink does not answer."""
    try:
        return find_adapters(), ()
    except OSError as error:
        return (), (f"adapters: {error.strerror or error}",)
