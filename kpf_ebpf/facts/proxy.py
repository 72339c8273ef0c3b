"""The proxy that the operating system's configuration names, and why it is that one.

Places asked, in this order; the first that speaks decides, also by saying "direct" or what cannot be used:

1. the Engine's environment
2. /etc/environment
3. /etc/profile.d/*.sh
4. systemd's default environment
5. apt's configuration
6. GNOME's settings for the whole machine (dconf)
7. KDE's settings for the whole machine

All of them are the machine's. What a user sets in a home folder is not asked: the Engine is a system service, which
belongs to no user. Nor is libproxy, which would answer by what it finds in its process: the desktop it believes to be
in, that user's settings by their session bus, and modules that it loads. A root service loads none of these, and a
script that it would run (PAC) is somebody else's program.

The proxy serves the Engine's registration and update check, so a place's exceptions (no_proxy) count for the
registration server. Crash dumps never go by a proxy: whether the crash server is excepted is told, and decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass

from kpf_ebpf.facts.apt import apt_files, parse_apt, read_apt
from kpf_ebpf.facts.model import ProxyFact
from kpf_ebpf.facts.proxy_address import ListFolder, Server, Setting, World, parse_proxy, redacted
from kpf_ebpf.facts.proxy_environment import (
    environment_files,
    environment_setting,
    manager_files,
    manager_setting,
    process_setting,
    profile_files,
    profile_setting,
)
from kpf_ebpf.facts.proxy_gnome import gnome_files, gnome_setting
from kpf_ebpf.facts.proxy_kde import kde_files, kde_setting
from kpf_ebpf.policy.model import Proxy

POLICY = "preferences.proxy in the policy"
NOTHING = "nothing"
_DIRECT = frozenset({"direct", "false", "none"})


@dataclass(frozen=True, slots=True)
class Place:
    """A place that may name a proxy: how to ask it, and every file that has a say in its answer."""

    name: str
    ask: Callable[[World], Setting | None]
    files: Callable[[ListFolder], tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class ProxyAnswer:
    """What one place said: ``said`` is "host:port", "direct", "nothing" or a problem, and never a password.

    ``source`` is the setting that spoke, "" if none did. ``used``: this answer decides. ``problem``: it names a proxy
    that cannot be used, for a server that is not excepted.
    """

    place: str
    source: str
    said: str
    used: bool
    problem: bool = False


def find_proxy(
    policy_proxy: str | Proxy,
    environ: Mapping[str, str],
    read: Callable[[str], str | None],
    *,
    list_folder: ListFolder = lambda _: (),
    registration: Server = ("", 443),
) -> ProxyFact:
    """Find the proxy that ``preferences.proxy`` means: "none", "system", or one of its own.

    ``read`` gives a file's text or None, ``list_folder`` the names in a folder. ``registration`` is the registration
    server's host and port: a place whose exceptions (no_proxy) cover it has no proxy for it, as ``source`` then says.
    """
    if isinstance(policy_proxy, Proxy):
        return ProxyFact(policy_proxy.host, policy_proxy.port, source="policy")
    if policy_proxy == "none":
        return ProxyFact(source="policy")
    world = World(environ, read, list_folder, registration)
    for place in PLACES:
        setting = place.ask(world)
        if setting is not None:
            return _judged(setting, registration)
    return ProxyFact()


def explain_proxy(
    policy_proxy: str | Proxy,
    environ: Mapping[str, str],
    read: Callable[[str], str | None],
    *,
    list_folder: ListFolder = lambda _: (),
    registration: Server = ("", 443),
    others: Sequence[Server] = (),
    distrust: Callable[[str], str] = lambda _: "",
    process: str = "the environment",
) -> tuple[ProxyAnswer, ...]:
    """Ask every place, in order, the policy first: what it said, and whether ``find_proxy`` takes it.

    ``others`` are servers for which exceptions are told, too. ``distrust`` says why a file is there and not read.
    ``process`` names the one whose environment ``environ`` is.
    """
    world = World(environ, read, list_folder, registration)
    own = policy_proxy != "system"
    if isinstance(policy_proxy, Proxy):
        said = redacted(ProxyFact(policy_proxy.host, policy_proxy.port))
    else:
        said = "direct" if own else "the operating system's proxy"
    answers = [ProxyAnswer(POLICY, "", said, used=own)]
    decided = own
    for place in PLACES:
        setting = place.ask(world)
        notes = [_said(setting, (registration, *others))]
        refused = ((path, distrust(path)) for path in place.files(list_folder))
        notes += [f"{path} is not read: {problem}" for path, problem in refused if problem]
        name = process if place.ask is process_setting else place.name
        if setting is None:
            answers.append(ProxyAnswer(name, "", "; ".join(notes), used=False))
            continue
        problem = _judged(setting, registration).problem != ""
        answers.append(ProxyAnswer(name, setting.fact.source, "; ".join(notes), not decided, problem))
        decided = True
    return tuple(answers)


def proxy_prints(
    look: Callable[[str], Hashable | None], list_folder: ListFolder = lambda _: ()
) -> tuple[tuple[str, Hashable], ...]:
    """Take the prints of every file that has a say: they differ once any of them came, changed or went.

    ``look`` gives what moves with a file's every change, None for one that is not there. Left out is what cannot
    change while its process, or the kernel, runs: the environment and the kernel command line.
    """
    paths = dict.fromkeys(path for place in PLACES for path in place.files(list_folder))
    return tuple((path, found) for path in paths if (found := look(path)) is not None)


def _judged(setting: Setting, registration: Server) -> ProxyFact:
    """Take a place's answer for the registration server: no proxy if it is excepted."""
    exception = setting.excepting(registration)
    if not exception:
        return setting.fact
    verb = "leaves out" if setting.only_listed else "covers"
    return ProxyFact(source=f"{setting.fact.source}, but {exception} {verb} {registration[0]}")


def _said(setting: Setting | None, servers: Sequence[Server]) -> str:
    if setting is None:
        return NOTHING
    excepted = {server[0]: name for server in servers if (name := setting.excepting(server))}
    if not excepted:
        return redacted(setting.fact)
    by = " and ".join(dict.fromkeys(excepted.values()))
    return f"{redacted(setting.fact)}, but {' and '.join(excepted)} directly, by {by}"


def _apt_setting(world: World) -> Setting | None:
    """Find what apt's settings (keys in lower case) say: https before http, a host's own before the general one."""
    settings = parse_apt(read_apt(world.read, world.list_folder))
    host = world.registration[0].lower()
    for key in (f"https::proxy::{host}", f"http::proxy::{host}", "https::proxy", "http::proxy"):
        value = settings.get(f"acquire::{key}", "").strip(" \t")
        if value:
            kind, *own = key.split("::proxy")
            source = f"Acquire::{kind}::Proxy{own[0]} in apt's configuration"
            is_direct = value.lower() in _DIRECT
            return Setting(ProxyFact(source=f"{source}: direct") if is_direct else parse_proxy(value, source))
    return None


PLACES = (
    Place("the environment", process_setting, lambda _: ()),
    Place("/etc/environment", environment_setting, environment_files),
    Place("/etc/profile.d", profile_setting, profile_files),
    Place("systemd's default environment", manager_setting, manager_files),
    Place("apt's configuration", _apt_setting, apt_files),
    Place("GNOME's system settings", gnome_setting, gnome_files),
    Place("KDE's system settings", kde_setting, kde_files),
)
