"""Gathers the Facts: one look at everything in the world that a policy speaks of."""

from __future__ import annotations

import os
from collections.abc import Hashable, Mapping
from types import MappingProxyType

from kpf_ebpf.facts.adapters import find_adapters
from kpf_ebpf.facts.files import Identify, find_programs
from kpf_ebpf.facts.model import Adapter, Facts, NameFact, ProxyFact
from kpf_ebpf.facts.names import Lookup, literals, look_up, names_of, parse_hosts, system_lookup
from kpf_ebpf.facts.proxy import ProxyAnswer, explain_proxy, find_proxy, proxy_prints
from kpf_ebpf.facts.proxy_files import distrust, read_roots, stamp
from kpf_ebpf.facts.system import cgroup_mount, find_cgroups, find_users, list_folder, parse_resolvers, read_text
from kpf_ebpf.policy.model import Policy, Preferences


def gather(
    policy: Policy,
    identify: Identify | None = None,
    *,
    password_set: bool = False,
    netns_cookie: int = 0,
    resolve_names: bool = True,
    lookup: Lookup = system_lookup,
    names: Mapping[str, NameFact] | None = None,
) -> Facts:
    """Look at the world once. What cannot be found is a warning, never an exception.

    ``identify`` maps an open descriptor to the kernel's view of the file; by default stat() is believed.
    ``password_set`` and ``netns_cookie`` are passed on. Without ``resolve_names`` only address literals are known;
    ``lookup`` asks for the others, which takes NAMES_DEADLINE seconds at most. ``names`` are taken as they are.
    """
    proxy = gather_proxy(policy)
    if names is None:
        names = gather_names(policy, proxy, lookup) if resolve_names else literals(names_of(policy, proxy))
    applications, application_warnings = find_programs(application_words(policy), identify)
    users, user_warnings = find_users(user for rule in policy.packet_filter for user in rule.users)
    cgroups, cgroup_warnings = find_cgroups(
        (rule.cgroup for rule in policy.packet_filter if rule.cgroup is not None),
        cgroup_mount(read_text("/proc/self/mounts") or ""),
    )
    adapters, adapter_warnings = gather_adapters()
    proxy_warnings = (f"proxy, from {proxy.source}: {proxy.problem}",) if proxy.problem else ()
    return Facts(
        applications=MappingProxyType(applications),
        names=MappingProxyType(dict(names)),
        adapters=adapters,
        users=MappingProxyType(users),
        cgroups=MappingProxyType(cgroups),
        proxy=proxy,
        resolvers=parse_resolvers(read_text("/etc/resolv.conf") or ""),
        password_set=password_set,
        netns_cookie=netns_cookie,
        warnings=(application_warnings + proxy_warnings + user_warnings + cgroup_warnings + adapter_warnings),
    )


def application_words(policy: Policy) -> tuple[str, ...]:
    """List every path and wildcard of a policy that means program files, each once: components come first."""
    components = policy.components
    words = [word for word in (components.engine, components.gui, components.assist) if word is not None]
    words += (word for rule in policy.packet_filter for word in rule.applications)
    words += (rule.path for rule in policy.applications)
    return tuple(dict.fromkeys(words))


def gather_names(policy: Policy, proxy: ProxyFact, lookup: Lookup = system_lookup) -> dict[str, NameFact]:
    """Resolve all names of a policy and the proxy's, within NAMES_DEADLINE seconds: name -> fact."""
    names = names_of(policy, proxy)
    return look_up(names, lookup=lookup, hosts=parse_hosts(read_text("/etc/hosts") or "", names))


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


def take_proxy_prints() -> tuple[tuple[str, Hashable], ...]:
    """Take the prints of this machine's files that name a proxy; once they differ, ``gather_proxy`` is to be asked."""
    return proxy_prints(stamp, list_folder)


def gather_adapters() -> tuple[tuple[Adapter, ...], tuple[str, ...]]:
    """Read the adapters of this network namespace; none and a warning if netlink does not answer."""
    try:
        return find_adapters(), ()
    except OSError as error:
        return (), (f"adapters: {error.strerror or error}",)
