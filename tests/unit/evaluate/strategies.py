"""Hypothesis strategies for policies and facts; those for flows are in flows.py.

All values come from small pools that hold both sides of many borders, so that rules and flows really meet.
"""

from __future__ import annotations

from types import MappingProxyType
from typing import TypeVar

from hypothesis import strategies as st

from kpf_ebpf.facts.model import Adapter, Facts, FileFact, FileKey, NameFact, ProxyFact
from kpf_ebpf.policy.addresses import address, address_ranges
from kpf_ebpf.policy.model import (
    ANY_ADDRESS,
    PREDEFINED_DEFAULTS,
    Action,
    AddressSet,
    ApplicationRule,
    Cells,
    Components,
    Default,
    Direction,
    Endpoint,
    Group,
    PacketFilterRule,
    Policy,
    Predefined,
    Preferences,
    Proxy,
    Range,
    Syslog,
    TrustedItem,
    Where,
    ZoneCells,
)

HOME, ELSEWHERE = 7, 8
WHERE = Where("policy.toml", 1)


def number(word: str) -> int:
    """Return the place of an address in the 128-bit space."""
    found = address(word)
    assert found is not None
    return found


def numbers(words: str) -> tuple[int, ...]:
    """Return the places of several addresses."""
    return tuple(number(word) for word in words.split())


def ranges(word: str) -> tuple[Range, ...]:
    """Return the ranges of an address, network or range."""
    found = address_ranges(word)
    assert found is not None
    return found


# ---- the world ----
V4 = numbers(
    "0.0.0.0 9.255.255.255 10.0.0.0 10.255.255.255 11.0.0.0 127.0.0.1 127.0.0.53 192.0.2.10 192.168.0.255 "
    "192.168.1.0 192.168.1.10 192.168.1.77 192.168.1.255 192.168.2.0 198.51.100.7 203.0.113.4 203.0.113.5 "
    "203.0.113.7 203.0.113.9 203.0.113.10 223.255.255.255 224.0.0.1 239.255.255.255 240.0.0.0 255.255.255.255"
)
V6 = numbers(
    ":: ::1 ::2 fe80::10 fe80::99 2001:db7:ffff::ffff 2001:db8:: 2001:db8::10 2001:db8::53 "
    "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff 2001:db9:: ff02::1 ff02::2 ff02::fb"
)
NETWORKS = (
    "10.0.0.0/8", "192.168.1.0/24", "192.168.1.10", "192.168.1.255", "203.0.113.5-203.0.113.9", "198.51.100.7",
    "0.0.0.0/0", "0.0.0.0", "127.0.0.53", "127.0.0.0/8", "224.0.0.0/4", "255.255.255.255", "2001:db8::/32",
    "2001:db8::10", "fe80::/10", "::1", "::/0", "ff02::1", "ff00::/8",
)  # fmt: skip
LO = Adapter("lo", 1, (number("127.0.0.1"), number("::1")))
ETH0 = Adapter(
    "eth0",
    2,
    (number("192.168.1.10"), number("fe80::10"), number("2001:db8::10")),
    (number("192.168.1.255"), number("192.168.1.0")),
)
ETH1 = Adapter("eth1", 3, (number("203.0.113.7"),), (number("203.0.113.10"),))
HOST = {
    4: numbers("127.0.0.1 127.0.0.53 192.168.1.10 203.0.113.7"),
    6: numbers("::1 2001:db8::10 fe80::10"),
}
"""Addresses of this host, by family."""
PORTS = (1, 22, 53, 67, 68, 80, 81, 443, 500, 514, 546, 547, 1194, 1701, 1723, 3128, 4500, 5353, 8000, 8050, 8100, 8101,
         44333, 44334, 44335, 44336, 44501, 51820, 65535)  # fmt: skip
PORT_RANGES = ((1, 1), (22, 22), (53, 53), (80, 81), (1, 1023), (443, 443), (8000, 8100), (8050, 8101), (1024, 65535),
               (1, 65535), (44334, 44334), (44501, 44501), (65535, 65535))  # fmt: skip
PORTLESS = (0, 1, 2, 4, 47, 50, 51, 58, 255)
WITH_PORTS = (6, 6, 6, 17, 17, 17, 132, 136)
TYPES = (0, 3, 8, 13, 128, 129, 133, 255)
V6_TYPES = (0, 1, 4, 5, 8, 127, 128, 129, 130, 132, 133, 136, 137, 142, 143, 144, 255)


def _program(path: str, inode: int, problem: str = "", root_owned: bool = True) -> FileFact:
    return FileFact(path, FileKey(inode, 8 << 20 | 1, 5, 1000, 1), f"{inode:064x}", root_owned, problem)


CURL, SSH = _program("/usr/bin/curl", 11), _program("/usr/bin/ssh", 12)
PROGRAMS = MappingProxyType(
    {
        "/usr/bin/curl": CURL,
        "/bin/curl": CURL,
        "/usr/local/bin/my-curl": CURL,
        "/usr/bin/ssh": SSH,
        "/usr/bin/python3": _program("/usr/bin/python3", 13),
        "/opt/script": _program("/opt/script", 14, problem="is not a regular file"),
        "/opt/engine": _program("/opt/engine", 21),
        "/opt/gui": _program("/opt/gui", 22),
        "/opt/assist": _program("/opt/assist", 23),
        "/home/a/gui": _program("/home/a/gui", 24, root_owned=False),
    }
)
"""Paths and the programs found there; two of them are symlinks to a third."""
NAMES = {
    "example.org": ("198.51.100.7", "2001:db8::53"),
    "v4.example": ("203.0.113.5",),
    "nowhere.example": (),
    "crashes.kerio.com": ("198.51.100.7", "2001:db9::"),
    "secure.kerio.com": ("203.0.113.9", "2001:db8::53"),
    "proxy.example": ("10.0.0.0", "2001:db8::"),
    "192.0.2.10": ("192.0.2.10",),
    "2001:db8::53": ("2001:db8::53",),
}
RESOLVERS = ((number("127.0.0.53"), 53), (number("192.0.2.10"), 5353), (number("2001:db8::53"), 53))
CGROUPS = {"/": (1, 10, 11, 20), "/system.slice": (10, 11), "/system.slice/a.service": (11,), "/gone": ()}
USERS = {"root": 0, "alice": 1000}

actions = st.sampled_from(Action)
perhaps = st.booleans()
Value = TypeVar("Value")


def rarely(value: st.SearchStrategy[Value], usual: Value) -> st.SearchStrategy[Value]:
    """Return ``usual`` in two cases of three."""
    return st.one_of(st.just(usual), st.just(usual), value)


@st.composite
def facts(draw: st.DrawFn) -> Facts:
    """The world: now and then a program, a name, an adapter or a resolver is missing."""
    missing = draw(st.sets(st.sampled_from(sorted(PROGRAMS)), max_size=2))
    unknown = draw(st.sets(st.sampled_from(sorted(NAMES)), max_size=2))
    proxies = (ProxyFact(), ProxyFact("proxy.example", 3128), ProxyFact(problem="a PAC address is not evaluated"))
    return Facts(
        applications={path: () if path in missing else (fact,) for path, fact in PROGRAMS.items()},
        names={
            name: NameFact(name, error="no such name") if name in unknown else NameFact(name, tuple(map(number, found)))
            for name, found in NAMES.items()
        },
        adapters=draw(st.sampled_from([(LO, ETH0, ETH1), (LO, ETH0, ETH1), (LO, ETH0), (LO,), ()])),
        users=USERS,
        cgroups=CGROUPS,
        proxy=draw(st.sampled_from(proxies)),
        resolvers=draw(st.sampled_from([RESOLVERS, RESOLVERS[1:2], ()])),
        password_set=draw(perhaps),
        netns_cookie=HOME,
    )


# ---- the policy ----
def literals(most: int) -> st.SearchStrategy[tuple[Range, ...]]:
    """Ranges of addresses, at most those of ``most`` words, in any order, perhaps one within another."""
    words = st.lists(st.sampled_from(NETWORKS), max_size=most, unique=True)
    return words.map(lambda listed: tuple(one for word in listed for one in ranges(word)))


named = st.lists(st.sampled_from(["example.org", "v4.example", "nowhere.example"]), max_size=1).map(tuple)
groups = st.dictionaries(
    st.just("office"),
    st.builds(AddressSet, ranges=literals(3), names=named).map(lambda found: Group("office", found, WHERE)),
)


def points(with_ports: bool, group_names: tuple[str, ...]) -> st.SearchStrategy[Endpoint]:
    """Points of a packet filter rule."""
    some = st.builds(
        AddressSet,
        ranges=literals(2),
        names=named,
        groups=st.sampled_from([(), group_names]),
        trusted=perhaps,
    )
    port_ranges = st.lists(st.sampled_from(PORT_RANGES), max_size=2, unique=True).map(tuple)
    return st.builds(Endpoint, rarely(some, ANY_ADDRESS), rarely(port_ranges, ()) if with_ports else st.just(()))


@st.composite
def packet_filter_rules(draw: st.DrawFn, description: str, group_names: tuple[str, ...]) -> PacketFilterRule:
    """One rule of the packet filter, such as the policy file can express."""
    kind = draw(st.sampled_from(["any", "ports", "ports", "icmp", "other"]))
    pool: tuple[int, ...] = {"any": (), "ports": WITH_PORTS, "icmp": (1, 58), "other": (*PORTLESS, 6, 17)}[kind]
    listed = st.lists(st.sampled_from(pool or (0,)), min_size=1, max_size=3, unique=True)
    protocols = tuple(draw(listed)) if pool else ()
    icmp_types: tuple[tuple[int, int], ...] = ()
    if kind == "icmp":
        types = draw(st.lists(st.sampled_from(TYPES), max_size=2, unique=True))
        icmp_types = tuple((protocol, one) for one in types for protocol in protocols)
    words = st.lists(st.sampled_from(sorted(PROGRAMS)), min_size=1, max_size=2, unique=True).map(tuple)
    return PacketFilterRule(
        description,
        draw(actions),
        WHERE,
        applications=draw(rarely(words, ())),
        users=draw(rarely(st.sampled_from([("alice",), (0, "alice"), (1001,), ("nobody-here",)]), ())),
        cgroup=draw(rarely(st.sampled_from(sorted(CGROUPS)), None)),
        direction=draw(st.sampled_from(Direction)),
        protocols=protocols,
        icmp_types=icmp_types,
        local=draw(points(kind == "ports", group_names)),
        remote=draw(points(kind == "ports", group_names)),
        enabled=draw(st.sampled_from([True, True, True, False])),
    )


preferences = st.builds(
    Preferences,
    remote_administration=perhaps,
    send_crash_dumps=perhaps,
    proxy=st.sampled_from(["system", "none", Proxy("proxy.example", 3128), Proxy("2001:db8::53", 8000)]),
    registration_port=st.sampled_from([443, 8100]),
    administration_port=st.sampled_from([44334, 44334, 44333]),
    popup_port=st.sampled_from([44501, 44501, 8050]),
    resolvers=st.sampled_from(["system", RESOLVERS[:1], RESOLVERS[1:]]),
    syslog=st.builds(Syslog, perhaps, st.sampled_from(["192.0.2.10", "example.org"]), st.sampled_from([514, 8000])),
)
components = st.builds(
    Components,
    engine=st.sampled_from([None, "/opt/engine"]),
    gui=st.sampled_from([None, "/opt/gui", "/home/a/gui"]),
    assist=st.sampled_from([None, "/opt/assist"]),
)
some_trusted = st.builds(
    TrustedItem,
    st.just("some addresses"),
    st.sampled_from(NETWORKS).map(lambda word: AddressSet(ranges=ranges(word))),
    st.just(WHERE),
    st.sampled_from([None, "eth0", "eth1", "wlan0"]),
)
all_trusted = st.sampled_from(["eth0", "eth1", "lo"]).map(
    lambda adapter: TrustedItem("a whole adapter", AddressSet(any=True), WHERE, adapter)
)
trusted_items = st.lists(st.one_of(some_trusted, all_trusted), max_size=3).map(tuple)
cells = st.builds(Cells, *[st.sampled_from([None, *Action])] * 4)
application_rules = st.lists(
    st.builds(ApplicationRule, st.sampled_from(sorted(PROGRAMS)), st.just(WHERE), cells),
    max_size=6,
    unique_by=lambda rule: rule.path,
).map(tuple)
switches = st.tuples(*[st.builds(ZoneCells, actions, actions)] * len(PREDEFINED_DEFAULTS))
predefined = st.builds(
    Predefined,
    cells=switches.map(lambda drawn: dict(zip(PREDEFINED_DEFAULTS, drawn, strict=True))),
    enabled=st.sampled_from([True, True, True, False]),
)


@st.composite
def policies(draw: st.DrawFn) -> Policy:
    """A whole policy."""
    known = draw(groups)
    count = draw(st.integers(0, 5))
    return Policy(
        preferences=draw(preferences),
        components=draw(components),
        trusted=draw(trusted_items),
        groups=known,
        packet_filter=tuple(draw(packet_filter_rules(f"rule {index}", tuple(known))) for index in range(count)),
        predefined=draw(predefined),
        applications=draw(application_rules),
        default=draw(st.builds(Default, *[actions] * 4)),
    )
