"""What of an image changes while the policy does not: the addresses of hosts, and this host's adapters. No I/O."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from kpf_ebpf.facts.model import Adapter
from kpf_ebpf.image.model import DIRECTED, OWN, AdapterPlace, Named
from kpf_ebpf.policy.addresses import is_v4
from kpf_ebpf.resolve.model import Match, TrustedRange


def hosts_of(matches: Iterable[Match]) -> dict[str, tuple[int, int]]:
    """Of every host the vectors of the rules that name it, as local and as remote."""
    found: dict[str, tuple[int, int]] = {}
    for position, match in enumerate(matches):
        for name in match.local_hosts:
            local, remote = found.get(name, (0, 0))
            found[name] = local | 1 << position, remote
        for name in match.remote_hosts:
            local, remote = found.get(name, (0, 0))
            found[name] = local, remote | 1 << position
    return found


def name_addresses(
    hosts: Mapping[str, tuple[int, int]],
    addresses: Mapping[str, tuple[int, ...]],
    adapters: Iterable[Adapter] = (),
) -> dict[int, Named]:
    """What addresses are by themselves: those that hosts have, and the adapters' own and broadcasts."""
    found: dict[int, Named] = {}
    for name, (local, remote) in hosts.items():
        for address in addresses.get(name, ()):
            before = found.get(address, Named())
            found[address] = Named(before.local | local, before.remote | remote)
    for address, flags in flags_of(adapters).items():
        found[address] = replace(found.get(address, Named()), flags=flags)
    return found


def flags_of(adapters: Iterable[Adapter]) -> dict[int, int]:
    """OWN and DIRECTED of the addresses that have them."""
    found: dict[int, int] = {}
    for adapter in adapters:
        for flag, addresses in ((OWN, adapter.addresses), (DIRECTED, adapter.broadcasts)):
            for address in addresses:
                found[address] = found.get(address, 0) | flag
    return found


def places_of(trusted: Iterable[TrustedRange]) -> dict[int, int]:
    """The bits of the adapters that items of the Trusted area are bound to, by index; any other has bit 0."""
    bound = sorted({item.adapter for item in trusted if item.adapter is not None})
    return {adapter: place for place, adapter in enumerate(bound, 1)}


def place_adapters(trusted: tuple[TrustedRange, ...], adapters: Iterable[Adapter]) -> dict[int, AdapterPlace]:
    """What the kernel is told of each adapter, by index."""
    places = places_of(trusted)
    return {
        adapter.index: AdapterPlace(places.get(adapter.index, 0), _own_zone(trusted, adapter)) for adapter in adapters
    }


def _own_zone(trusted: tuple[TrustedRange, ...], adapter: Adapter) -> int:
    def is_trusted(address: int) -> bool:
        return any(
            item.adapter in (None, adapter.index) and any(first <= address <= last for first, last in item.ranges)
            for item in trusted
        )

    zone = 0
    for family, version in enumerate((True, False)):
        own = [address for address in adapter.addresses if is_v4(address) is version]
        zone |= any(map(is_trusted, own)) << family | bool(own) << 2 + family
    return zone
