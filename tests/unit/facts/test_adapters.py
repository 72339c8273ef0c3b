"""Network adapters, from netlink's messages and from this machine's lo."""

from __future__ import annotations

from typing import Any

from kpf_ebpf.facts.adapters import adapters_of, find_adapters
from kpf_ebpf.facts.addresses import number
from kpf_ebpf.facts.model import Adapter
from kpf_ebpf.policy.model import V4_BASE


def a_link(index: int = 2, name: str = "eth0") -> dict[str, Any]:
    """Make a link message."""
    return {"index": index, "attrs": [("IFLA_IFNAME", name)]}


def an_address(prefixlen: int, index: int = 2, **attributes: str) -> dict[str, Any]:
    """Make an address message."""
    return {"index": index, "prefixlen": prefixlen, "attrs": list(attributes.items())}


def test_lo_is_found_in_this_namespace() -> None:
    """The loopback device is always there, with index 1."""
    lo = find_adapters()[0]
    assert (lo.name, lo.index) == ("lo", 1)
    assert all(address == 1 or address >> 32 == V4_BASE >> 32 for address in lo.addresses)


def test_an_adapter_has_addresses_of_both_families_and_a_directed_broadcast() -> None:
    """Addresses are sorted; IPv6 has no broadcasts."""
    messages = [
        an_address(64, IFA_ADDRESS="2001:db8::2"),
        an_address(24, IFA_ADDRESS="192.0.2.2", IFA_LOCAL="192.0.2.2", IFA_BROADCAST="192.0.2.255"),
    ]
    assert adapters_of([a_link()], messages) == (
        Adapter("eth0", 2, (number("192.0.2.2") or 0, number("2001:db8::2") or 0), (number("192.0.2.255") or 0,)),
    )


def test_a_set_broadcast_stands_beside_that_of_the_network() -> None:
    """The kernel takes both; the limited broadcast is not a directed one."""
    messages = [
        an_address(24, IFA_LOCAL="192.0.2.2", IFA_BROADCAST="192.0.2.127"),
        an_address(24, IFA_LOCAL="198.51.100.2", IFA_BROADCAST="255.255.255.255"),
    ]
    (adapter,) = adapters_of([a_link()], messages)
    assert adapter.broadcasts == (number("192.0.2.127"), number("192.0.2.255"), number("198.51.100.255"))


def test_a_point_to_point_adapter_has_its_own_address_not_the_peers() -> None:
    """IFA_ADDRESS is the other end there; a /31 and a /32 have no broadcast."""
    messages = [
        an_address(32, IFA_ADDRESS="192.0.2.9", IFA_LOCAL="192.0.2.2"),
        an_address(31, IFA_ADDRESS="198.51.100.2", IFA_LOCAL="198.51.100.2"),
    ]
    (adapter,) = adapters_of([a_link()], messages)
    assert adapter.addresses == (number("192.0.2.2"), number("198.51.100.2"))
    assert adapter.broadcasts == ()


def test_adapters_without_addresses_count_and_come_by_index() -> None:
    """An address of an unknown adapter or without a value is skipped."""
    messages = [an_address(24, index=9, IFA_LOCAL="192.0.2.2"), an_address(24)]
    found = adapters_of([a_link(3, "b"), a_link(2, "a")], messages)
    assert found == (Adapter("a", 2), Adapter("b", 3))
