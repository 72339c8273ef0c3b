"""The words for points of the network: address sets of rules, servers, the proxy, resolvers."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from kpf_ebpf.policy.addresses import ADDRESS_EXPECTED, address, address_ranges, address_text, merged
from kpf_ebpf.policy.model import ANY_ADDRESS, AddressSet, Proxy
from kpf_ebpf.policy.transport import port
from kpf_ebpf.policy.words import WordError, host_name, near, text

POINT_EXPECTED = f'{ADDRESS_EXPECTED}, a host name, "@group", "@trusted", or "any"'


def literal_set(value: Any, names: bool) -> AddressSet:
    """Return the set of one word: an address, network or range, with ``names`` also a host name. Raises WordError."""
    expected = f"{ADDRESS_EXPECTED}, or a host name" if names else ADDRESS_EXPECTED
    word = text(value, expected)
    ranges = address_ranges(word)
    if ranges is not None:
        return AddressSet(ranges=ranges, words=(word,))
    if word.startswith("@"):
        raise WordError(word, f"{expected}; a group is named in packet-filter rules only")
    if word in ("any", "all", "trusted"):
        raise WordError(word, expected)
    if not names:
        raise WordError(word, expected)
    return AddressSet(names=(host_name(word, expected),), words=(word,))


def point_set(value: Any, groups: Collection[str]) -> AddressSet:
    """Return the set of one word of a packet filter's point; ``groups`` are the names that "@" may have.

    Raises WordError. "any" is not for here: it stands alone.
    """
    word = text(value, POINT_EXPECTED)
    if word == "@trusted":
        return AddressSet(trusted=True, words=(word,))
    if word.startswith("@"):
        if word[1:] not in groups:
            guess = near(word[1:], [*groups, "trusted"])
            raise WordError(word, 'the name of a group in [groups], or "@trusted"', f"@{guess}" if guess else "")
        return AddressSet(groups=(word[1:],), words=(word,))
    if word in ("all", "trusted"):
        raise WordError(word, POINT_EXPECTED, "any" if word == "all" else "@trusted")
    try:
        return literal_set(word, names=True)
    except WordError as error:
        expected = POINT_EXPECTED if error.expected.startswith(ADDRESS_EXPECTED) else error.expected
        raise WordError(word, expected, error.suggestion) from None


def union(parts: Iterable[AddressSet]) -> AddressSet:
    """Return the union of ``parts``, ANY_ADDRESS if there is none: ranges sorted and merged, words in order."""
    every = tuple(parts)
    if not every:
        return ANY_ADDRESS
    if len(every) == 1 and len(every[0].ranges) <= 1:
        return every[0]
    return AddressSet(
        any=any(part.any for part in every),
        ranges=merged(item for part in every for item in part.ranges),
        names=tuple(dict.fromkeys(name for part in every for name in part.names)),
        groups=tuple(dict.fromkeys(name for part in every for name in part.groups)),
        trusted=any(part.trusted for part in every),
        words=tuple(word for part in every for word in part.words),
    )


def server(value: Any) -> str:
    """Return a host name in small letters, or an address in its usual writing. Raises WordError."""
    expected = "a host name or an address"
    word = text(value, expected)
    place = address(word)
    return address_text(place) if place is not None else host_name(word, expected)


def _host_and_port(word: str) -> tuple[str, str]:
    """Split "host:port" or "[v6]:port"; the host keeps its brackets, a missing port is ""."""
    if word.startswith("["):
        inside, _, rest = word.partition("]")
        return inside + "]", rest[1:] if rest.startswith(":") else rest and "?"
    host, _, tail = word.partition(":")
    return host, tail


def proxy(value: Any) -> str | Proxy:
    """Return "system", "none", or the Proxy of an "http://host:port" URL. Raises WordError."""
    expected = '"system", "none", or "http://host:port"'
    word = text(value, expected)
    if word in ("system", "none"):
        return word
    scheme, slashes, rest = word.partition("://")
    if not slashes:
        place = address(word.partition(":")[0]) if word.count(":") == 1 else None
        raise WordError(word, expected, f"http://{word}" if place is not None else near(word, ("system", "none")))
    if "@" in rest:
        raise WordError("...@...", f"{expected}, without a user and password")
    if scheme != "http":
        raise WordError(word, f"{expected}; no other kind of proxy")
    host, tail = _host_and_port(rest.removesuffix("/"))
    try:
        if host.startswith("["):
            place = address(host[1:-1]) if ":" in host else None
            if place is None:
                raise WordError(word, expected)
            return Proxy(address_text(place), port(tail))
        return Proxy(server(host), port(tail))
    except WordError:
        raise WordError(word, f"{expected} (IPv6 addresses in brackets, port 1..65535)") from None


def resolver(value: Any) -> tuple[int, int]:
    """Return (address, port) of a name server: an address, perhaps with a port, 53 if left out. Raises WordError."""
    expected = 'an address, perhaps with a port: "192.0.2.53", "127.0.0.1:5353", "[2001:db8::53]:53"'
    word = text(value, expected)
    place = address(word)
    if place is not None:
        return place, 53
    host, tail = _host_and_port(word)
    is_v6 = host.startswith("[")
    place = address(host[1:-1] if is_v6 else host)
    if place is None or (is_v6 and ":" not in host):
        raise WordError(word, expected)
    try:
        return place, 53 if is_v6 and not tail and word.endswith("]") else port(tail)
    except WordError:
        raise WordError(word, expected) from None
